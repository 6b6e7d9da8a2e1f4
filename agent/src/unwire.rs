//! Deletes host ends. The kernel takes a link away at once and then keeps whoever asked for some 15 ms, until nobody reads it
//! any more. Nobody has to wait for that: a DEL is answered when the kernel says that the link is gone.
//!
//! ```text
//!  attach.rs: release ──(≤ 256)──► task ──► threads that may block, each in one deletion ──► kernel.rs
//!        ▲                                     │ which links
//!        │                                     ▼
//!        └── answers ───── thread `unwired`: the kernel's news of links that went; else the thread's own end
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roadbed_api::agent::AttachmentKey;
use roadbed_api::names::ifalias;
use roadbed_hostnet::{LinkMonitor, LinkNews, Netlink, NetlinkError};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::kernel;

/// Deletions that may wait, and that go together.
const QUEUE: usize = 256;
/// Deletions under way, each with a thread that waits for the kernel. What comes beyond them goes together, in one operation
/// of the kernel.
const AT_A_TIME: usize = 64;
/// After a failure of the kernel's socket.
const RETRY: Duration = Duration::from_secs(1);

/// Whether there was a link, or what the kernel said: one refusal may be for many.
type Answer = Result<bool, String>;
type Reply = oneshot::Sender<Answer>;
type Job = (AttachmentKey, Reply);

/// Speaks to the task.
#[derive(Clone)]
pub struct Unwirer {
    jobs: mpsc::Sender<Job>,
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

/// Starts the task and the thread that hears of links; they end with the process.
///
/// # Errors
/// When the system gives no thread.
pub fn start() -> std::io::Result<Unwirer> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let going = Going::default();
    let heard = going.clone();
    let listen = move || {
        loop {
            let Err(error) = listen(&heard);
            tracing::warn!(%error, "links cannot be followed, trying again");
            std::thread::sleep(RETRY);
        }
    };
    std::thread::Builder::new()
        .name("unwired".into())
        .spawn(listen)?;
    tokio::spawn(run(queue, going));
    Ok(Unwirer { jobs })
}

impl Unwirer {
    /// Deletes the host end of an attachment, and with it the pod's; whether there was one.
    ///
    /// # Errors
    /// A link of that name is not ours, or the kernel refuses.
    pub async fn unwire(&self, key: AttachmentKey) -> Result<bool, UnwireError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send((key, reply)).await;
        sent.map_err(|_| UnwireError::Gone)?;
        let answer = answer.await.map_err(|_| UnwireError::Gone)?;
        answer.map_err(UnwireError::Kernel)
    }
}

/// Links that the kernel was asked to delete, and who waits for each.
#[derive(Clone, Default)]
struct Going(Arc<Mutex<HashMap<u32, Reply>>>);

impl Going {
    fn insert(&self, ifindex: u32, reply: Reply) {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        going.insert(ifindex, reply);
    }

    /// What became of a link; only the first word on it counts.
    fn answer(&self, ifindex: u32, answer: Answer) {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = going.remove(&ifindex) {
            // Who asked may have gone.
            drop(reply.send(answer));
        }
    }
}

/// An overrun needs no care: who waits hears from the thread that deletes.
fn listen(going: &Going) -> Result<std::convert::Infallible, NetlinkError> {
    let mut monitor = LinkMonitor::open_for_gone()?;
    loop {
        for news in monitor.wait()? {
            if let LinkNews::Gone(ifindex) = news {
                going.answer(ifindex, Ok(true));
            }
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Job>, going: Going) {
    let threads = Arc::new(Semaphore::new(AT_A_TIME));
    while let Some(job) = queue.recv().await {
        let mut batch = vec![job];
        let thread = match threads.clone().try_acquire_owned() {
            Ok(thread) => thread,
            Err(_) => {
                // Closed never.
                let Ok(thread) = threads.clone().acquire_owned().await else {
                    return;
                };
                while batch.len() < QUEUE
                    && let Ok(job) = queue.try_recv()
                {
                    batch.push(job);
                }
                thread
            }
        };
        let going = going.clone();
        tokio::task::spawn_blocking(move || {
            unwire(batch, &going);
            drop(thread);
        });
    }
}

fn unwire(batch: Vec<Job>, going: &Going) {
    let keys: Vec<AttachmentKey> = batch.iter().map(|(key, _)| key.clone()).collect();
    let found = Netlink::open().and_then(|mut netlink| {
        let found = kernel::host_ends(&mut netlink, &keys)?;
        Ok((netlink, found))
    });
    let (mut netlink, found) = match found {
        Ok(found) => found,
        Err(error) => {
            for (_, reply) in batch {
                drop(reply.send(Err(error.to_string())));
            }
            return;
        }
    };
    let mut links = Vec::new();
    for ((key, reply), ifindex) in batch.into_iter().zip(found) {
        match ifindex {
            Some(ifindex) => {
                going.insert(ifindex, reply);
                links.push((ifindex, ifalias(&key)));
            }
            None => drop(reply.send(Ok(false))),
        }
    }
    let links: Vec<(u32, &str)> = links.iter().map(|(i, mark)| (*i, mark.as_str())).collect();
    let deleted = netlink.links_delete_marked(&links);
    for ((ifindex, _), deleted) in links.iter().zip(deleted) {
        going.answer(*ifindex, deleted.map_err(|error| error.to_string()));
    }
}
