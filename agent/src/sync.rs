//! Keeps the resources of this node in step with the store: list, watch, relist on any fault. Saves each state as a
//! snapshot and starts from the last one while the store is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use roadbed_api::agent::StoreReport;
use roadbed_api::names::NODE_LABEL;
use roadbed_api::{Kind, Object};
use roadbed_store::{Labels, Store, WatchEvent, WatchStream};
use tokio::sync::watch;

use crate::resources::{Objects, Resources};
use crate::snapshot::Snapshots;

/// Pause between attempts while the store is away.
const RETRY: Duration = Duration::from_millis(500);
/// How long the first list may take before the snapshot counts.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// Changes that come within this time are one change to everybody else.
const SETTLE: Duration = Duration::from_millis(20);

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The resources; `None` until the store or a snapshot gave any.
    pub resources: Option<Arc<Resources>>,
    /// The store as last seen.
    pub store: StoreReport,
}

struct Sync {
    store: Arc<dyn Store>,
    snapshots: Snapshots,
    node: String,
    known: watch::Sender<Known>,
}

/// Starts the task; it runs until the process ends.
pub fn start(store: Arc<dyn Store>, snapshots: Snapshots, node: &str) -> watch::Receiver<Known> {
    let (known, receiver) = watch::channel(Known {
        resources: None,
        store: StoreReport {
            home: store.home(),
            ..StoreReport::default()
        },
    });
    let sync = Sync {
        store,
        snapshots,
        node: node.to_owned(),
        known,
    };
    tokio::spawn(sync.run());
    receiver
}

impl Sync {
    async fn run(self) {
        let mut first = true;
        loop {
            let connected = if first {
                match tokio::time::timeout(FIRST_LIST, self.list()).await {
                    Ok(result) => result,
                    Err(_) => Err("no answer from the store yet".to_owned()),
                }
            } else {
                self.list().await.map_err(|e| e.to_string())
            };
            let ended = match connected {
                Ok(state) => self.follow(state).await,
                Err(error) => error,
            };
            self.away(ended);
            if std::mem::take(&mut first) {
                self.use_snapshot();
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Everything as of now, and the watches that go on from there.
    async fn list(&self) -> Result<State, String> {
        let own = Labels::from([(NODE_LABEL.to_owned(), self.node.clone())]);
        let mut kinds = Vec::new();
        for (kind, labels) in [
            (Kind::IPPool, Labels::new()),
            (Kind::BGPPeer, Labels::new()),
            (Kind::BGPRoutePolicy, Labels::new()),
            (Kind::BGPConfig, Labels::new()),
            (Kind::IPBlock, own),
        ] {
            let listing = self
                .store
                .list(kind, &labels)
                .await
                .map_err(|e| e.to_string())?;
            let watch = self
                .store
                .watch(kind, &labels, listing.resume)
                .await
                .map_err(|e| e.to_string())?;
            let objects = listing
                .objects
                .into_iter()
                .map(|o| (o.metadata.name.clone(), o))
                .collect();
            kinds.push((objects, watch));
        }
        Ok(State { kinds })
    }

    /// Publishes until a watch ends; why it ended.
    async fn follow(&self, mut state: State) -> String {
        loop {
            self.publish(state.objects());
            let [a, b, c, d, e] = state.kinds.as_mut_slice() else {
                unreachable!("list() makes five kinds")
            };
            let (which, event) = tokio::select! {
                event = a.1.next() => (0, event),
                event = b.1.next() => (1, event),
                event = c.1.next() => (2, event),
                event = d.1.next() => (3, event),
                event = e.1.next() => (4, event),
            };
            match event {
                Some(Ok(event)) => state.apply(which, event),
                Some(Err(error)) => return error.to_string(),
                None => return "a watch ended".into(),
            }
            tokio::time::sleep(SETTLE).await;
            for (objects, watch) in &mut state.kinds {
                while let Some(Some(Ok(event))) = watch.next().now_or_never() {
                    apply(objects, event);
                }
            }
        }
    }

    fn publish(&self, objects: Objects) {
        let resources = Arc::new(Resources::from_objects(&objects));
        for problem in &resources.problems {
            tracing::warn!(%problem, "resource left out");
        }
        if let Err(error) = self.snapshots.save(&objects) {
            tracing::warn!(%error, "snapshot not written: after a crash with the store away, this state is lost");
        }
        self.known.send_modify(|known| {
            if !known.store.reachable {
                tracing::info!(store = %known.store.home, "store reachable");
            }
            known.store.reachable = true;
            known.store.last_error = None;
            known.store.from_snapshot = false;
            known.resources = Some(resources);
        });
    }

    fn away(&self, error: String) {
        self.known.send_if_modified(|known| {
            let changed = known.store.reachable || known.store.last_error.as_ref() != Some(&error);
            if changed {
                tracing::warn!(store = %known.store.home, %error, "store away: working with what is known");
            }
            known.store.reachable = false;
            known.store.last_error = Some(error);
            changed
        });
    }

    fn use_snapshot(&self) {
        if self.known.borrow().resources.is_some() {
            return;
        }
        match self.snapshots.load() {
            Ok(Some(objects)) => {
                tracing::info!(
                    pools = objects.pools.len(),
                    peers = objects.peers.len(),
                    blocks = objects.blocks.len(),
                    "starting from the last snapshot"
                );
                let resources = Arc::new(Resources::from_objects(&objects));
                self.known.send_modify(|known| {
                    known.resources = Some(resources);
                    known.store.from_snapshot = true;
                });
            }
            Ok(None) => tracing::warn!("no snapshot: waiting for the store"),
            Err(error) => tracing::error!(%error, "snapshot unreadable: waiting for the store"),
        }
    }
}

type ByName = BTreeMap<String, Object>;

struct State {
    kinds: Vec<(ByName, WatchStream)>,
}

impl State {
    fn apply(&mut self, which: usize, event: WatchEvent) {
        if let Some((objects, _)) = self.kinds.get_mut(which) {
            apply(objects, event);
        }
    }

    fn objects(&self) -> Objects {
        let all = |i: usize| {
            self.kinds
                .get(i)
                .map(|(o, _)| o.values().cloned().collect())
                .unwrap_or_default()
        };
        Objects {
            pools: all(0),
            peers: all(1),
            policies: all(2),
            bgp: all(3),
            blocks: all(4),
        }
    }
}

fn apply(objects: &mut ByName, event: WatchEvent) {
    match event {
        WatchEvent::Put(object) => {
            objects.insert(object.metadata.name.clone(), object);
        }
        WatchEvent::Delete(object) => {
            objects.remove(&object.metadata.name);
        }
    }
}
