//! The home that is gone with its process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp as Moment;
use roadbed_api::{Kind, Object};
use serde_json::Value;
use tokio::sync::watch as news;

use crate::error::StoreError;
use crate::rules::{Request, Write};
use crate::store::{Labels, Listing, ResumePoint, Store, WatchStream, carries};
use crate::watch::{self, BATCH, Change, Pulled};

/// Changes that are kept for watchers unless told otherwise.
const HISTORY: usize = 4096;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    history: usize,
    /// Held for the time of one map operation, never over an await.
    state: Mutex<State>,
    news: news::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<(Kind, String), Object>,
    changes: VecDeque<Change>,
    /// Number of the last change.
    head: i64,
    /// The last creation time given.
    clock: Option<Moment>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_history(HISTORY)
    }

    /// An empty store that keeps this many changes for watchers, at least one.
    pub fn with_history(changes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                id: uuid::Uuid::new_v4().to_string(),
                history: changes.max(1),
                state: Mutex::default(),
                news: news::channel(()).0,
            }),
        }
    }

    fn write(&self, request: Request) -> Result<Object, StoreError> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (kind, name) = request.target();
        let key = (kind, name.to_owned());
        let existing = state.objects.get(&key);
        let labels_before = existing.map(|o| o.metadata.labels.clone());
        let seq = state.head + 1;
        let write = request.decide(existing, seq, &mut state.clock, Moment::now())?;
        let (object, deleted) = match write {
            Write::Nothing(object) => return Ok(object),
            Write::Put(object) => {
                state.objects.insert(key, object.clone());
                (object, false)
            }
            Write::Delete(object) => {
                state.objects.remove(&key);
                (object, true)
            }
        };
        state.head = seq;
        state.changes.push_back(Change {
            seq,
            object: object.clone(),
            deleted,
            labels_before,
        });
        while state.changes.len() > self.shared.history {
            state.changes.pop_front();
        }
        drop(guard);
        self.shared.news.send_replace(());
        Ok(object)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two writes to the state, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pull(&self, kind: Kind, from: &ResumePoint) -> Result<Pulled, StoreError> {
        let state = self.lock();
        let kept_after = state.head - state.changes.len() as i64;
        if from.store_id != self.id || from.seq > state.head || from.seq < kept_after {
            return Err(StoreError::Compacted { kind });
        }
        let skip = usize::try_from(from.seq - kept_after).unwrap_or(usize::MAX);
        let mut pulled = Pulled {
            changes: Vec::new(),
            upto: from.seq,
        };
        for change in state.changes.iter().skip(skip) {
            if pulled.changes.len() == BATCH {
                break;
            }
            pulled.upto = change.seq;
            if change.object.kind == kind {
                pulled.changes.push(change.clone());
            }
        }
        Ok(pulled)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn home(&self) -> String {
        "memory".to_owned()
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Object>, StoreError> {
        let key = (kind, name.to_owned());
        Ok(self.shared.lock().objects.get(&key).cloned())
    }

    async fn list(&self, kind: Kind, labels: &Labels) -> Result<Listing, StoreError> {
        let state = self.shared.lock();
        Ok(Listing {
            objects: state
                .objects
                .range((kind, String::new())..)
                .take_while(|((k, _), _)| *k == kind)
                .map(|(_, object)| object)
                .filter(|o| carries(&o.metadata.labels, labels))
                .cloned()
                .collect(),
            resume: ResumePoint {
                store_id: self.shared.id.clone(),
                seq: state.head,
            },
        })
    }

    async fn create(&self, object: Object) -> Result<Object, StoreError> {
        self.write(Request::Create(object))
    }

    async fn update(&self, object: Object) -> Result<Object, StoreError> {
        self.write(Request::Update(object))
    }

    async fn update_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: Value,
    ) -> Result<Object, StoreError> {
        self.write(Request::UpdateStatus {
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
            status,
        })
    }

    async fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Result<(), StoreError> {
        self.write(Request::Delete {
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: resource_version.to_owned(),
        })
        .map(drop)
    }

    async fn watch(
        &self,
        kind: Kind,
        labels: &Labels,
        from: ResumePoint,
    ) -> Result<WatchStream, StoreError> {
        let shared = Arc::clone(&self.shared);
        let news = self.shared.news.subscribe();
        watch::start(kind, labels, from, news, move |cursor| {
            let shared = Arc::clone(&shared);
            async move { shared.pull(kind, &cursor) }
        })
        .await
    }
}
