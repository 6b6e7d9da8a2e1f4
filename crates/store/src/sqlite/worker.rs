//! The thread that alone touches the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use super::db::{BUSY, Db, Fault};
use super::file::{Identity, identity, network_filesystem};
use crate::error::StoreError;

/// Jobs that may wait for the thread; more callers wait before they hand theirs in.
const QUEUE: usize = 64;
/// How often the thread looks for what other processes wrote, while anybody watches.
const LOOK: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce(&mut Home) + Send>;

/// Hands jobs to the thread. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    name: Arc<str>,
    jobs: Sender<Job>,
    slots: Arc<Semaphore>,
    news: Arc<watch::Sender<()>>,
}

impl Worker {
    pub(crate) fn start(path: PathBuf, history: i64) -> Result<Self, StoreError> {
        let name: Arc<str> = format!("sqlite {}", path.display()).into();
        let (jobs, queue) = channel();
        let news = Arc::new(watch::channel(()).0);
        let home = Home {
            name: Arc::clone(&name),
            path,
            history,
            open: None,
        };
        let teller = Arc::clone(&news);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(home, &queue, &teller))
            .map_err(|e| away(&name, e))?;
        Ok(Self {
            name,
            jobs,
            slots: Arc::new(Semaphore::new(QUEUE)),
            news,
        })
    }

    pub(crate) fn home(&self) -> &str {
        &self.name
    }

    /// Touched when there may be news for watchers.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Opens the file now, creating it when asked to.
    pub(crate) async fn connect(&self, create: bool) -> Result<(), StoreError> {
        self.submit(move |home| home.db(create).map(drop)).await
    }

    /// Runs a job on the open file.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Db) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(move |home| {
            let done = home.db(false).map(job)?;
            done.map_err(|fault| home.answer(fault))
        })
        .await
    }

    async fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Home) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended = || away(&self.name, "its thread has ended");
        // The permit travels with the job, so that the queue stays bounded when callers give up.
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |home| {
            let _caller_gone = answer.send(job(home));
            drop(slot);
        });
        self.jobs.send(job).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// The thread's own state.
struct Home {
    name: Arc<str>,
    path: PathBuf,
    history: i64,
    open: Option<(Identity, Db)>,
}

fn run(mut home: Home, jobs: &Receiver<Job>, news: &watch::Sender<()>) {
    // What the last look found; nothing when nobody watched since, so that the first look is always news.
    let mut seen: Option<Option<(Identity, i64)>> = None;
    loop {
        let job = if news.receiver_count() == 0 {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(LOOK)
        };
        let own = match job {
            Ok(job) => {
                job(&mut home);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if news.receiver_count() == 0 {
            seen = None;
            continue;
        }
        let found = Some(home.look());
        // `data_version` tells of other connections only: a job of ours may have written as well.
        if own && home.wrote() || found != seen {
            news.send_replace(());
        }
        seen = found;
    }
}

impl Home {
    /// The open file, opened anew when another one is at the path by now.
    fn db(&mut self, create: bool) -> Result<&mut Db, StoreError> {
        let found = match identity(&self.path) {
            Ok(found) => Some(found),
            Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.open = None;
                return Err(self.missing(error));
            }
        };
        if found.is_none() || self.open.as_ref().map(|(id, _)| *id) != found {
            self.open = None;
            self.open = Some(self.reopen(create)?);
        }
        let (_, db) = self.open.as_mut().expect("opened above");
        Ok(db)
    }

    fn reopen(&mut self, create: bool) -> Result<(Identity, Db), StoreError> {
        let place = if self.path.exists() {
            self.path.as_path()
        } else {
            match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => std::path::Path::new("."),
            }
        };
        match network_filesystem(place) {
            Ok(None) => {}
            Ok(Some(filesystem)) => {
                return Err(self.answer(Fault::Refused(format!(
                    "{} is on {filesystem}, and SQLite cannot be shared there: use a local filesystem",
                    place.display()
                ))));
            }
            Err(error) => return Err(self.missing(error)),
        }
        let before = identity(&self.path).ok();
        let db = Db::open(&self.path, create, self.history).map_err(|fault| self.answer(fault))?;
        let after = identity(&self.path).map_err(|error| self.missing(error))?;
        if before.is_some_and(|before| before != after) {
            return Err(away(
                &self.name,
                "the file was replaced while it was opened",
            ));
        }
        tracing::info!(store = &*self.name, "store opened");
        Ok((after, db))
    }

    /// What other connections may have changed; `None` while the file is away.
    fn look(&mut self) -> Option<(Identity, i64)> {
        let version = self.db(false).ok()?.data_version();
        match version {
            Ok(version) => self.open.as_ref().map(|(id, _)| (*id, version)),
            Err(fault) => {
                let error = self.answer(fault);
                tracing::warn!(store = &*self.name, %error, "store cannot be watched");
                None
            }
        }
    }

    /// Whether a job has written since the last call.
    fn wrote(&mut self) -> bool {
        let flag = self.open.as_mut().map(|(_, db)| &mut db.wrote);
        flag.is_some_and(std::mem::take)
    }

    fn missing(&self, error: std::io::Error) -> StoreError {
        if error.kind() == std::io::ErrorKind::NotFound {
            return away(
                &self.name,
                "there is no such file: `roadbedctl apply` creates it when its directory exists",
            );
        }
        away(&self.name, error)
    }

    /// What the caller gets for a fault. A file that SQLite has trouble with is closed, so that the next job starts
    /// from what is there then.
    fn answer(&mut self, fault: Fault) -> StoreError {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, NotADatabase};
        let refused = |reason| StoreError::Refused {
            home: self.name.to_string(),
            reason,
        };
        let error = match fault {
            Fault::Answer(error) => return error,
            Fault::Sql(error) => error,
            Fault::Refused(reason) => return refused(reason),
            Fault::Away(reason) => return away(&self.name, reason),
        };
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => away(
                &self.name,
                format!(
                    "another process has held its lock for {} s: {error}",
                    BUSY.as_secs()
                ),
            ),
            Some(DatabaseCorrupt | NotADatabase) => {
                self.open = None;
                refused(format!(
                    "the file is damaged or not a database ({error}): move it away and apply the resources again"
                ))
            }
            _ => {
                self.open = None;
                away(&self.name, error)
            }
        }
    }
}

fn away(home: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable {
        home: home.to_owned(),
        source: source.into(),
    }
}
