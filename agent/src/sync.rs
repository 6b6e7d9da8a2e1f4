//! Keeps the resources of this node in step with the store: list, watch, relist on any fault. Saves each state as a
//! snapshot and starts from the last one while the store is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use roadbed_api::agent::StoreReport;
use roadbed_api::kinds::MeshDecision;
use roadbed_api::names::NODE_LABEL;
use roadbed_api::{Kind, Object};
use roadbed_kube::{Events, Nodes, Scope};
use roadbed_store::{Labels, Store, WatchEvent, WatchStream};
use tokio::sync::watch;

use crate::cluster::{self, Followed};
use crate::config::AgentConfig;
use crate::identity::Identity;
use crate::resources::{Objects, Refused, Resources};
use crate::snapshot::Snapshots;

/// Pauses between attempts while the store is away: the first, and the longest. A file is back as soon as it is there;
/// all agents of a cluster come back to one API server.
#[derive(Clone, Copy, Debug)]
struct Patience {
    first: Duration,
    most: Duration,
}

const FILE: Patience = Patience {
    first: Duration::from_millis(500),
    most: Duration::from_millis(500),
};
const SERVER: Patience = Patience {
    first: Duration::from_millis(500),
    most: Duration::from_secs(4),
};

/// Watches that lived this long show that the store is well.
const STEADY: Duration = Duration::from_secs(30);

/// How long the first list may take before the snapshot counts.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// Changes that come within this time are one change to everybody else.
const SETTLE: Duration = Duration::from_millis(20);

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The resources; `None` until the store or a snapshot gave any.
    pub resources: Option<Arc<Resources>>,
    /// The identity of this node.
    pub identity: Arc<Identity>,
    /// The store as last seen.
    pub store: StoreReport,
}

struct Sync {
    config: AgentConfig,
    store: Arc<dyn Store>,
    /// Only in a Kubernetes cluster.
    cluster: Option<Cluster>,
    snapshots: Snapshots,
    known: watch::Sender<Known>,
    /// Findings that were told, so that each is told once.
    told: BTreeSet<String>,
    /// The last settings that could be used: they stay in force while those of the store cannot be.
    settings: Option<Object>,
    /// The decision about the node mesh that was last seen.
    mesh: Option<MeshDecision>,
    /// The state that is known is in the snapshot.
    saved: bool,
}

/// The parts of a Kubernetes cluster beside its store.
#[derive(Clone)]
pub struct Cluster {
    /// Its Nodes.
    pub nodes: Nodes,
    /// Events about objects that cannot be used.
    pub events: Events,
}

/// Starts the task; it runs until the process ends.
pub fn start(
    config: &AgentConfig,
    store: Arc<dyn Store>,
    cluster: Option<Cluster>,
    snapshots: Snapshots,
) -> watch::Receiver<Known> {
    let (known, receiver) = watch::channel(Known {
        resources: None,
        identity: Arc::new(Identity::new(config, None, &[], &Identity::default())),
        store: StoreReport {
            home: store.home(),
            ..StoreReport::default()
        },
    });
    let sync = Sync {
        config: config.clone(),
        store,
        cluster,
        snapshots,
        known,
        told: BTreeSet::new(),
        settings: None,
        mesh: None,
        saved: false,
    };
    tokio::spawn(sync.run());
    receiver
}

impl Sync {
    async fn run(mut self) {
        let patience = match self.cluster {
            Some(_) => SERVER,
            None => FILE,
        };
        let mut pause = patience.first;
        let mut first = true;
        loop {
            let connected = if first {
                match tokio::time::timeout(FIRST_LIST, self.list()).await {
                    Ok(result) => result,
                    Err(_) => Err("no answer from the store yet".to_owned()),
                }
            } else {
                self.list().await
            };
            let ended = match connected {
                Ok(state) => {
                    let begin = tokio::time::Instant::now();
                    let ended = self.follow(state).await;
                    if begin.elapsed() > STEADY {
                        pause = patience.first;
                    }
                    ended
                }
                Err(error) => error,
            };
            self.away(ended);
            if std::mem::take(&mut first) {
                self.use_snapshot();
            }
            // Agents that lost one server do not come back to it together.
            let spread = match self.cluster {
                Some(_) => pause.mul_f64(cluster::spread(&self.config.node).as_secs_f64()),
                None => Duration::ZERO,
            };
            tokio::time::sleep(pause + spread).await;
            pause = patience.most.min(pause * 2);
        }
    }

    /// Everything as of now, and the watches that go on from there.
    async fn list(&self) -> Result<State, String> {
        let own = Labels::from([(NODE_LABEL.to_owned(), self.config.node.clone())]);
        let mut kinds = Vec::new();
        for (kind, labels) in [
            (Kind::IPPool, Labels::new()),
            (Kind::BGPPeer, Labels::new()),
            (Kind::BGPRoutePolicy, Labels::new()),
            (Kind::BGPConfig, Labels::new()),
            (Kind::IPBlock, own),
        ] {
            let (listing, watch) = self
                .store
                .list_and_watch(kind, &labels)
                .await
                .map_err(|e| e.to_string())?;
            let objects = listing
                .objects
                .into_iter()
                .map(|o| (o.metadata.name.clone(), o))
                .collect();
            kinds.push((objects, watch));
        }
        let mut state = State { kinds, nodes: None };
        if let Some(cluster) = &self.cluster {
            // All of them, until it is known whether there is a mesh.
            let scope = self.scope(&mut state.objects());
            state.nodes = Some(Followed::new(cluster.nodes.clone(), scope).await?);
        }
        Ok(state)
    }

    /// The Nodes that this agent must know.
    fn scope(&self, objects: &mut Objects) -> Scope {
        objects.mesh = self.mesh;
        match Resources::from_objects(objects).cluster().needs_all_nodes() {
            true => Scope::All,
            false => Scope::One(self.config.node.clone()),
        }
    }

    /// Publishes until a watch ends; why it ended.
    async fn follow(&mut self, mut state: State) -> String {
        loop {
            if state.nodes.is_some() {
                let scope = self.scope(&mut state.objects());
                if let Some(nodes) = &mut state.nodes
                    && let Err(error) = nodes.rescope(scope).await
                {
                    return error;
                }
            }
            self.publish(state.objects());
            let [a, b, c, d, e] = state.kinds.as_mut_slice() else {
                unreachable!("list() makes five kinds")
            };
            let nodes = async {
                match &mut state.nodes {
                    Some(nodes) => nodes.next().await,
                    None => std::future::pending().await,
                }
            };
            let (which, event) = tokio::select! {
                event = a.1.next() => (0, event),
                event = b.1.next() => (1, event),
                event = c.1.next() => (2, event),
                event = d.1.next() => (3, event),
                event = e.1.next() => (4, event),
                changed = nodes => match changed {
                    Ok(()) => {
                        self.settle(&mut state).await;
                        continue;
                    }
                    Err(error) => return error,
                }
            };
            match event {
                Some(Ok(event)) => state.apply(which, event),
                Some(Err(error)) => return error.to_string(),
                None => return "a watch ended".into(),
            }
            self.settle(&mut state).await;
        }
    }

    /// Takes in what comes within a moment. An end of a stream is met again by whoever waits for it.
    async fn settle(&self, state: &mut State) {
        tokio::time::sleep(SETTLE).await;
        for (objects, watch) in &mut state.kinds {
            while let Some(Some(Ok(event))) = watch.next().now_or_never() {
                apply(objects, event);
            }
        }
        if let Some(nodes) = &mut state.nodes {
            while let Some(Ok(())) = nodes.next().now_or_never() {}
        }
    }

    fn publish(&mut self, mut objects: Objects) {
        let resources = Arc::new(self.typed(&mut objects));
        let identity = self.identity(&resources);
        if self.saved && self.same_as_known(&resources, &identity) {
            return;
        }
        self.tell(&resources);
        let saved = self.snapshots.save(&objects);
        if let Err(error) = &saved {
            tracing::warn!(%error, "snapshot not written: after a crash with the store away, this state is lost");
        }
        self.saved = saved.is_ok();
        self.known.send_modify(|known| {
            if !known.store.reachable {
                tracing::info!(store = %known.store.home, "store reachable");
            }
            known.store.reachable = true;
            known.store.last_error = None;
            known.store.from_snapshot = false;
            known.resources = Some(resources);
            known.identity = identity;
        });
    }

    /// The resources, with the settings that count: the last usable ones while those of the store are refused.
    fn typed(&mut self, objects: &mut Objects) -> Resources {
        objects.mesh = self.mesh;
        let mut resources = Resources::from_objects(objects);
        if resources.bgp.is_some() {
            self.settings = objects.bgp.last().cloned();
        } else if let (false, Some(last)) = (objects.bgp.is_empty(), &self.settings) {
            let refused = std::mem::take(&mut resources.refused);
            objects.bgp = vec![last.clone()];
            resources = Resources::from_objects(objects);
            resources.refused = refused;
        }
        if let Some(decided) = resources.cluster().decided() {
            self.mesh = Some(decided);
            objects.mesh = self.mesh;
            resources.mesh = self.mesh;
        }
        resources
    }

    /// Nodes change without a change for us: images, conditions, heartbeats.
    fn same_as_known(&self, resources: &Arc<Resources>, identity: &Arc<Identity>) -> bool {
        let known = self.known.borrow();
        self.cluster.is_some()
            && known.store.reachable
            && known.identity == *identity
            && known.resources.as_ref() == Some(resources)
    }

    /// The identity of this node. While its Node is gone from the API, the former one.
    fn identity(&self, resources: &Resources) -> Arc<Identity> {
        let node = resources.nodes.iter().find(|n| n.name == self.config.node);
        if node.is_none() && self.cluster.is_some() {
            let known = self.known.borrow();
            if known.resources.is_some() {
                return known.identity.clone();
            }
        }
        let prefixes = resources.node_prefixes();
        let before = self.known.borrow().identity.clone();
        Arc::new(Identity::new(&self.config, node, &prefixes, &before))
    }

    /// Tells of what was left out, each finding once.
    fn tell(&mut self, resources: &Resources) {
        let now: BTreeSet<String> = resources.refused.iter().map(|r| r.note.clone()).collect();
        for problem in now.difference(&self.told) {
            tracing::warn!(%problem, "resource cannot be used");
        }
        if let Some(cluster) = &self.cluster {
            let new = |r: &&Refused| !self.told.contains(&r.note);
            for refused in resources.refused.iter().filter(new) {
                if let Some(object) = &refused.object {
                    cluster.events.refused(object, &refused.note);
                }
            }
        }
        self.told = now;
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

    fn use_snapshot(&mut self) {
        if self.known.borrow().resources.is_some() {
            return;
        }
        match self.snapshots.load() {
            Ok(Some(mut objects)) => {
                tracing::info!(
                    pools = objects.pools.len(),
                    peers = objects.peers.len(),
                    blocks = objects.blocks.len(),
                    "starting from the last snapshot"
                );
                self.mesh = objects.mesh;
                let resources = Arc::new(self.typed(&mut objects));
                let identity = self.identity(&resources);
                self.known.send_modify(|known| {
                    known.resources = Some(resources);
                    known.identity = identity;
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
    nodes: Option<Followed>,
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
            nodes: self.nodes.as_ref().map(Followed::all).unwrap_or_default(),
            mesh: None,
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
