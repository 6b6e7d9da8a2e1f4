//! Lists and watches of any resource of an API server.
//!
//! A list comes as a stream where the server can (WatchList, `sendInitialEvents`), and the watch goes on in the same
//! request; else in pages. A watch outlives its connections: it goes on from the last version that it saw, and ends
//! only when the server has forgotten that version, or has been away for some seconds.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::request::Request;
use kube::core::{Status, WatchEvent};
use tokio::sync::mpsc;

use crate::failure::{Failure, answer, is_expired, said};
use crate::wire::{Page, Wire};

/// Changes that a stream holds for its reader.
const CHANNEL: usize = 64;
/// Objects of one page.
const PAGE: u32 = 500;
/// A watch without a word for this long is opened again. Servers send a bookmark every minute.
const QUIET: Duration = Duration::from_secs(100);
/// Longest pause within a list that comes as a stream.
const PAUSE: Duration = Duration::from_secs(15);
/// Bounds of the length of one watch request, seconds; the server ends it then, and the next may reach another server.
const LENGTH: std::ops::Range<u32> = 240..480;
/// Attempts in a row that may fail, and the pause after the first; each further one is twice as long.
const ATTEMPTS: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A connection that the server ends before this time, and without a word, counts as broken.
const SHORT: Duration = Duration::from_secs(5);
/// The mark on the bookmark after which a stream has told all that there is (KEP-3157).
const INITIAL_END: &str = "k8s.io/initial-events-end";

type Events<T> = Pin<Box<dyn Stream<Item = Result<WatchEvent<T>, kube::Error>> + Send>>;

/// Objects of a collection: its path, and what selects from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Path of the collection: `/api/v1/nodes`.
    pub(crate) path: String,
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<String>,
}

/// Labels as a selector that the server reads.
pub(crate) fn label_selector(labels: &BTreeMap<String, String>) -> Option<String> {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// One change of an object.
#[derive(Clone, Debug)]
pub(crate) enum Change<T> {
    Put(T),
    Gone(T),
}

/// All objects as of one version.
pub(crate) struct Listed<T> {
    pub(crate) objects: Vec<T>,
    pub(crate) version: String,
}

/// Asks one API server for lists and watches.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    /// The server said that it does not stream lists.
    pages_only: Arc<AtomicBool>,
}

/// The reason for the end of a stream of changes.
#[derive(Debug)]
pub(crate) enum Ended {
    /// List again.
    Expired,
    /// The server is away, or refuses.
    Failed(Failure),
}

impl Source {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            pages_only: Arc::default(),
        }
    }

    /// All objects, page by page.
    pub(crate) async fn list<T: Wire>(&self, what: &Selection) -> Result<Listed<T>, Failure> {
        match self.pages(what, Some(PAGE)).await {
            // The server forgot the version of the first page before the last was read.
            Err(failure) if failure.is_expired() => self.pages(what, None).await,
            other => other,
        }
    }

    async fn pages<T: Wire>(
        &self,
        what: &Selection,
        limit: Option<u32>,
    ) -> Result<Listed<T>, Failure> {
        let mut objects = Vec::new();
        let mut more = None;
        loop {
            let params = ListParams {
                label_selector: what.labels.clone(),
                field_selector: what.fields.clone(),
                limit,
                continue_token: more,
                ..ListParams::default()
            };
            let request = Request::new(&what.path).list(&params).map_err(built)?;
            let page: Page<T> = answer(self.client.request(request)).await?;
            objects.extend(page.items);
            more = page.metadata.more.filter(|token| !token.is_empty());
            if more.is_none() {
                return Ok(Listed {
                    objects,
                    version: page.metadata.resource_version,
                });
            }
        }
    }

    /// All objects, and the changes from there on.
    pub(crate) async fn list_and_watch<T: Wire>(
        &self,
        what: &Selection,
    ) -> Result<(Listed<T>, mpsc::Receiver<Result<Change<T>, Ended>>), Failure> {
        if !self.pages_only.load(Ordering::Relaxed) {
            match self.streamed(what).await {
                Ok((listed, events)) => {
                    let changes = self.follow(what, listed.version.clone(), Some(events));
                    return Ok((listed, changes));
                }
                Err(failure) if failure.is_refusal() || failure.is_unmarked() => {
                    tracing::debug!(%failure, "the API server does not stream lists; lists come in pages");
                    self.pages_only.store(true, Ordering::Relaxed);
                }
                Err(failure) => return Err(failure),
            }
        }
        let listed = self.list(what).await?;
        let changes = self.follow(what, listed.version.clone(), None);
        Ok((listed, changes))
    }

    /// The list as the beginning of a watch.
    async fn streamed<T: Wire>(&self, what: &Selection) -> Result<(Listed<T>, Events<T>), Failure> {
        let mut events = self.open::<T>(what, "", true).await?;
        let mut objects: BTreeMap<String, T> = BTreeMap::new();
        loop {
            let Ok(event) = tokio::time::timeout(PAUSE, events.next()).await else {
                return Err(Failure::Unmarked);
            };
            match event {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    objects.insert(object.meta().name.clone(), object);
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    objects.remove(&object.meta().name);
                }
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    if mark.metadata.annotations.contains_key(INITIAL_END) {
                        let listed = Listed {
                            objects: objects.into_values().collect(),
                            version: mark.metadata.resource_version,
                        };
                        return Ok((listed, events));
                    }
                }
                Some(Ok(WatchEvent::Error(status))) => return Err(Failure::Status(status)),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::Unmarked),
            }
        }
    }

    /// Opens one watch request.
    async fn open<T: Wire>(
        &self,
        what: &Selection,
        version: &str,
        initial: bool,
    ) -> Result<Events<T>, Failure> {
        let params = WatchParams {
            label_selector: what.labels.clone(),
            field_selector: what.fields.clone(),
            timeout: Some(length()),
            bookmarks: true,
            send_initial_events: initial,
        };
        let request = Request::new(&what.path)
            .watch(&params, version)
            .map_err(built)?;
        let events = answer(self.client.request_events::<T>(request)).await?;
        Ok(Box::pin(events))
    }

    /// The changes since a version; `events` is a request under way that goes on from there.
    pub(crate) fn follow<T: Wire>(
        &self,
        what: &Selection,
        version: String,
        events: Option<Events<T>>,
    ) -> mpsc::Receiver<Result<Change<T>, Ended>> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let watch = Watch {
            source: self.clone(),
            what: what.clone(),
            version,
            sender,
        };
        tokio::spawn(watch.run(events));
        receiver
    }
}

/// One watch, over all its connections.
struct Watch<T> {
    source: Source,
    what: Selection,
    /// The last version that was seen.
    version: String,
    sender: mpsc::Sender<Result<Change<T>, Ended>>,
}

/// The end of one connection of a watch.
enum End {
    /// Nobody reads any more.
    Unread,
    /// The server ended it, or it fell silent: open the next.
    Closed,
    /// The connection broke.
    Broken(Failure),
    /// The version is too old.
    Expired,
}

impl<T: Wire> Watch<T> {
    async fn run(mut self, mut events: Option<Events<T>>) {
        let mut failures = 0;
        loop {
            let before = self.version.clone();
            let opened = tokio::time::Instant::now();
            let end = match events.take() {
                Some(events) => self.read(events).await,
                None => match self.source.open(&self.what, &self.version, false).await {
                    Ok(events) => self.read(events).await,
                    Err(failure) if failure.is_expired() => End::Expired,
                    Err(failure) => End::Broken(failure),
                },
            };
            if self.version != before {
                failures = 0;
            }
            let end = match end {
                End::Closed if self.version == before && opened.elapsed() < SHORT => {
                    End::Broken(away("the server ends each watch at once"))
                }
                end => end,
            };
            let ended = match end {
                End::Unread => return,
                End::Closed => {
                    tracing::trace!(path = self.what.path, "watch opened again");
                    tokio::time::sleep(FIRST_PAUSE).await;
                    continue;
                }
                End::Expired => Ended::Expired,
                End::Broken(failure) if failures + 1 < ATTEMPTS => {
                    tracing::debug!(%failure, path = self.what.path, "watch broke");
                    tokio::select! {
                        () = tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(failures)) => {}
                        () = self.sender.closed() => return,
                    }
                    failures += 1;
                    continue;
                }
                End::Broken(failure) => Ended::Failed(failure),
            };
            // Whoever is gone needs no end.
            self.sender.send(Err(ended)).await.ok();
            return;
        }
    }

    async fn read(&mut self, mut events: Events<T>) -> End {
        loop {
            let event = tokio::select! {
                event = tokio::time::timeout(QUIET, events.next()) => event,
                () = self.sender.closed() => return End::Unread,
            };
            let change = match event {
                Err(_) | Ok(None) => return End::Closed,
                Ok(Some(Err(error))) => return broken(error),
                Ok(Some(Ok(event))) => match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => Change::Put(object),
                    WatchEvent::Deleted(object) => Change::Gone(object),
                    WatchEvent::Bookmark(mark) => {
                        self.version = mark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(status) => return ended(status),
                },
            };
            let (Change::Put(object) | Change::Gone(object)) = &change;
            self.version.clone_from(&object.meta().resource_version);
            // A reader that is slow makes the server wait; it cuts us off in the end, and we go on from here.
            if self.sender.send(Ok(change)).await.is_err() {
                return End::Unread;
            }
        }
    }
}

fn broken(error: kube::Error) -> End {
    match error {
        kube::Error::Api(status) => ended(status),
        other => End::Broken(other.into()),
    }
}

fn ended(status: Box<Status>) -> End {
    match is_expired(&status) {
        true => End::Expired,
        false => {
            tracing::debug!(reason = said(&status), "the API server ended a watch");
            End::Broken(Failure::Status(status))
        }
    }
}

/// A request that cannot be built is our fault; it is told like a server that is away.
fn built(error: kube::core::request::Error) -> Failure {
    Failure::Away(error.into())
}

fn away(reason: &'static str) -> Failure {
    Failure::Away(reason.into())
}

/// Watches that began together do not end together.
fn length() -> u32 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    LENGTH.start + nanos % (LENGTH.end - LENGTH.start)
}
