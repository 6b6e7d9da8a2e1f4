//! What all watches share: from a home's numbered changes to a bounded stream of events.
//!
//! A watch pulls: one task per watch asks its home for the next batch after its cursor and waits while the reader
//! has not emptied the channel. So a slow reader costs [`CHANNEL`] events and one batch, whatever happens meanwhile.

use std::future::Future;

use roadbed_api::{Kind, Object};
use tokio::sync::{mpsc, watch};

use crate::error::StoreError;
use crate::store::{Labels, ResumePoint, WatchEvent, WatchStream, carries};

/// Events that a stream holds for its reader.
pub(crate) const CHANNEL: usize = 64;
/// Changes that one pull takes at most.
pub(crate) const BATCH: usize = 64;

/// One entry of a home's history.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Its number; the home's next change has the next number.
    pub(crate) seq: i64,
    /// State after the change, or the last one when the object was deleted.
    pub(crate) object: Object,
    /// Whether the object was deleted.
    pub(crate) deleted: bool,
    /// Labels before the change; `None` for a new object.
    pub(crate) labels_before: Option<Labels>,
}

impl Change {
    /// What a watcher with this filter is told, if anything.
    fn event(self, filter: &Labels) -> Option<WatchEvent> {
        let before = self.labels_before.is_some_and(|l| carries(&l, filter));
        let after = !self.deleted && carries(&self.object.metadata.labels, filter);
        match (before, after) {
            (_, true) => Some(WatchEvent::Put(self.object)),
            (true, false) => Some(WatchEvent::Delete(self.object)),
            (false, false) => None,
        }
    }
}

/// The next changes of one kind.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// In their order.
    pub(crate) changes: Vec<Change>,
    /// Everything up to this number was looked at.
    pub(crate) upto: i64,
}

/// Starts a watch. `pull(cursor)` gives the next changes, `news` is touched whenever there may be more.
pub(crate) async fn start<P, F, T>(
    kind: Kind,
    labels: &Labels,
    from: ResumePoint,
    mut news: watch::Receiver<T>,
    mut pull: P,
) -> Result<WatchStream, StoreError>
where
    P: FnMut(ResumePoint) -> F + Send + 'static,
    F: Future<Output = Result<Pulled, StoreError>> + Send,
    T: Send + Sync + 'static,
{
    // The first pull happens in the call: a resume point that is too old is the caller's error, not the stream's.
    news.mark_unchanged();
    let mut pulled = pull(from.clone()).await?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let filter = labels.clone();
    let mut cursor = from;
    tokio::spawn(async move {
        tracing::debug!(kind = kind.as_str(), "watch started");
        loop {
            let idle = pulled.upto == cursor.seq;
            cursor.seq = pulled.upto;
            for event in pulled.changes.drain(..).filter_map(|c| c.event(&filter)) {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if idle {
                tokio::select! {
                    () = sender.closed() => return,
                    // The sender of news lives as long as the home.
                    changed = news.changed() => if changed.is_err() { return },
                }
            }
            pulled = match pull(cursor.clone()).await {
                Ok(pulled) => pulled,
                Err(error) => {
                    let _reader_gone = sender.send(Err(error)).await;
                    return;
                }
            };
        }
    });
    Ok(WatchStream(receiver))
}
