//! Deletes host ends: those whose turn comes together, together. The kernel waits some 20 ms for each deletion, of one link or
//! of forty, so DELs that run at once share one.
//!
//! ```text
//!  attach.rs: release ──(≤ 256)──► task: what is queued ──► one thread that may block ──► kernel.rs
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadbed_api::agent::AttachmentKey;
use roadbed_hostnet::NetlinkError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::kernel;

/// Deletions that may wait, and that go together.
const QUEUE: usize = 256;
/// How long a batch waits for DELs that are in the agent, but not yet here: they come as soon as their routes are gone.
const COMING_WAIT: Duration = Duration::from_millis(5);
/// Where several went together a moment ago, more are on their way: their runtimes start the next plugin now.
const CROWD: Duration = Duration::from_millis(50);
/// A crowd has gathered when nobody came for so long.
const CROWD_GAP: Duration = Duration::from_millis(3);
/// The longest that a crowd is waited for.
const CROWD_WAIT: Duration = Duration::from_millis(12);

/// Whether there was a link, or what the kernel said: one refusal may be for many.
type Answer = Result<bool, String>;
type Job = (AttachmentKey, oneshot::Sender<Answer>);

/// Speaks to the task.
#[derive(Clone)]
pub struct Unwirer {
    jobs: mpsc::Sender<Job>,
    coming: Arc<AtomicUsize>,
}

/// A DEL that will soon delete a link, or find that there is none.
pub struct Coming {
    unwirer: Unwirer,
    counted: bool,
}

/// The task has ended; it does so only with the process.
#[derive(Debug, thiserror::Error)]
pub enum UnwireError {
    /// See above.
    #[error("links cannot be deleted any more: the task has ended")]
    Gone,
    /// A link of the attachment's name is not ours, or the kernel refuses.
    #[error("{0}")]
    Kernel(String),
}

/// Starts the task.
pub fn start() -> Unwirer {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let coming = Arc::new(AtomicUsize::new(0));
    tokio::spawn(run(queue, coming.clone()));
    Unwirer { jobs, coming }
}

impl Unwirer {
    /// Says that a deletion is on its way, so that others wait for it.
    pub fn coming(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming {
            unwirer: self.clone(),
            counted: true,
        }
    }
}

impl Coming {
    /// Deletes the host end of an attachment, and with it the pod's; whether there was one.
    ///
    /// # Errors
    /// A link of that name is not ours, or the kernel refuses.
    pub async fn unwire(mut self, key: AttachmentKey) -> Result<bool, UnwireError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.unwirer.jobs.send((key, reply)).await;
        self.arrived();
        sent.map_err(|_| UnwireError::Gone)?;
        let answer = answer.await.map_err(|_| UnwireError::Gone)?;
        answer.map_err(UnwireError::Kernel)
    }

    fn arrived(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.unwirer.coming.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.arrived();
    }
}

async fn run(mut queue: mpsc::Receiver<Job>, coming: Arc<AtomicUsize>) {
    let mut crowd: Option<Instant> = None;
    while let Some(job) = queue.recv().await {
        let mut batch = vec![job];
        let now = Instant::now();
        let crowded = crowd.is_some_and(|last| now < last + CROWD);
        let latest = now + if crowded { CROWD_WAIT } else { COMING_WAIT };
        while batch.len() < QUEUE {
            let until = if let Ok(job) = queue.try_recv() {
                batch.push(job);
                continue;
            } else if coming.load(Ordering::Relaxed) > 0 {
                latest
            } else if crowded {
                latest.min(Instant::now() + CROWD_GAP)
            } else {
                break;
            };
            match timeout_at(until, queue.recv()).await {
                Ok(Some(job)) => batch.push(job),
                Ok(None) | Err(_) => break,
            }
        }
        let several = batch.len() > 1;
        let (keys, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        // A thread that panics answers nobody: each of them hears that the task is gone.
        let Ok(answers) = tokio::task::spawn_blocking(move || kernel::unwire(&keys)).await else {
            continue;
        };
        crowd = several.then(Instant::now);
        let told = |answer: Result<bool, NetlinkError>| answer.map_err(|error| error.to_string());
        let answers: Vec<Answer> = match answers {
            Ok(answers) => answers.into_iter().map(told).collect(),
            Err(error) => vec![Err(error.to_string()); replies.len()],
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Who asked may have gone.
            drop(reply.send(answer));
        }
    }
}
