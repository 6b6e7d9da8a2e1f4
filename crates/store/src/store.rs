//! The trait that every home implements, and what its calls carry.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::Stream;
use roadbed_api::{Kind, Object};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::error::StoreError;

/// Labels that an object must carry with exactly these values; empty selects every object.
pub type Labels = BTreeMap<String, String>;

/// A store of resources: per-object compare-and-swap, lists, watches. No transaction spans objects.
///
/// Revisions are opaque and compared for equality only. Every write that changes something gives the object a
/// new `resourceVersion`; a write that changes nothing gives the object back as it is and no watcher hears of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Which home, and where: `memory`, `sqlite /var/lib/roadbed-store/store.db`.
    fn home(&self) -> String;

    /// The object of that name, `None` when there is none.
    ///
    /// # Errors
    /// The store is away or refused.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Object>, StoreError>;

    /// Every object of the kind that carries the labels, in the order of their names, as of one moment.
    ///
    /// # Errors
    /// The store is away or refused.
    async fn list(&self, kind: Kind, labels: &Labels) -> Result<Listing, StoreError>;

    /// Stores a new object. `uid`, `resourceVersion` and `creationTimestamp` are set here, what the caller put
    /// there is ignored; so is the status, which is a write of its own.
    ///
    /// Of several creates of one name exactly one wins.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Invalid`], or the store is away or refused.
    async fn create(&self, object: Object) -> Result<Object, StoreError>;

    /// Replaces labels, annotations and spec. `metadata.uid` and `metadata.resourceVersion` must be those that
    /// were read. The stored status stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], [`StoreError::Invalid`], [`StoreError::Incomplete`],
    /// or the store is away or refused.
    async fn update(&self, object: Object) -> Result<Object, StoreError>;

    /// Replaces the status of the object with that uid, whatever its revision: the last writer wins, so an
    /// object's status should have one writer.
    ///
    /// As in Kubernetes the write gives the whole object a new `resourceVersion`: who holds the object for an
    /// [`update`](Self::update) or [`delete`](Self::delete) then gets [`StoreError::Conflict`], reads again, sees
    /// the same spec and decides the same. Whoever writes both uses the object that this returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] when the uid differs, [`StoreError::Invalid`] when the
    /// status does not have the kind's shape, or the store is away or refused.
    async fn update_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: Value,
    ) -> Result<Object, StoreError>;

    /// Deletes the object with that uid and that revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], or the store is away or refused.
    async fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Result<(), StoreError>;

    /// Every change of the kind since `from`, in order, filtered by labels. An object that loses a label of the
    /// filter arrives as [`WatchEvent::Delete`].
    ///
    /// The stream holds a bounded number of events. Whoever reads so slowly that the changes it still needs are
    /// dropped gets [`StoreError::Compacted`]. After an error the stream ends: list and watch again.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `from` is too old or of another store, or the store is away or refused.
    async fn watch(
        &self,
        kind: Kind,
        labels: &Labels,
        from: ResumePoint,
    ) -> Result<WatchStream, StoreError>;

    /// As [`update_status`](Self::update_status), if the object is still the one that was read: for a status that is
    /// decided from what the object says.
    ///
    /// # Errors
    /// As [`update_status`](Self::update_status), and [`StoreError::Conflict`] when the object has changed.
    async fn update_status_of(&self, read: &Object, status: Value) -> Result<Object, StoreError> {
        let name = read.metadata.name.as_str();
        let stored = self.get(read.kind, name).await?;
        let version = |object: &Object| object.metadata.resource_version.clone();
        if stored.as_ref().and_then(version) != version(read) {
            return Err(StoreError::Conflict {
                kind: read.kind,
                name: name.to_owned(),
                cause: crate::ConflictCause::Changed,
            });
        }
        let uid = read.metadata.uid.as_deref().unwrap_or_default();
        self.update_status(read.kind, name, uid, status).await
    }

    /// A list, and the watch that goes on from it: what a cache starts from.
    ///
    /// # Errors
    /// As [`list`](Self::list) and [`watch`](Self::watch).
    async fn list_and_watch(
        &self,
        kind: Kind,
        labels: &Labels,
    ) -> Result<(Listing, WatchStream), StoreError> {
        let listing = self.list(kind, labels).await?;
        let watch = self.watch(kind, labels, listing.resume.clone()).await?;
        Ok((listing, watch))
    }
}

/// Objects as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// In the order of their names.
    pub objects: Vec<Object>,
    /// Where a watch goes on from here.
    pub resume: ResumePoint,
}

/// A moment in a store's history; opaque to everybody but the store that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Which history: a file that was replaced has another.
    pub(crate) store_id: String,
    /// Number of the last change that is included.
    pub(crate) seq: i64,
}

impl ResumePoint {
    /// The moment after change number `seq` of the history `store_id`; for stores outside of this crate.
    pub fn new(store_id: impl Into<String>, seq: i64) -> Self {
        Self {
            store_id: store_id.into(),
            seq,
        }
    }

    /// The history.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Number of the last change that is included.
    pub fn seq(&self) -> i64 {
        self.seq
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The object is new or has changed; this is its state after the change.
    Put(Object),
    /// The object is gone, or no longer carries the labels. Kind, name and uid are its own; the rest is the last state
    /// that the store tells, from before or after the change.
    Delete(Object),
}

impl WatchEvent {
    /// The object that the change is about.
    pub fn object(&self) -> &Object {
        match self {
            Self::Put(object) | Self::Delete(object) => object,
        }
    }
}

/// The events of one watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchStream(pub(crate) mpsc::Receiver<Result<WatchEvent, StoreError>>);

impl WatchStream {
    /// A stream of what comes through the channel; for stores outside of this crate.
    pub fn new(events: mpsc::Receiver<Result<WatchEvent, StoreError>>) -> Self {
        Self(events)
    }

    /// The next event; `None` after an error was delivered. Safe to cancel: no event is lost.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, StoreError>> {
        self.0.recv().await
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvent, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Whether an object with these labels is wanted.
pub(crate) fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}
