//! Claims, confirms and gives back blocks: carries out what `ipam::plan` says against the store, one compare-and-swap
//! at a time, and publishes the blocks that addresses may come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::kinds::{BlockState, IpBlockSpec, IpBlockStatus, IpPoolStatus};
use roadbed_api::names::NODE_LABEL;
use roadbed_api::{Kind, Resource, Timestamp};
use roadbed_ipam::{
    Action, COUNTS_EVERY, ConfirmedBlock, Family, PlanProblem, PoolView, Tuning, View, conditions,
    confirmed_blocks, families, pending_block, plan, resolve, worth_telling,
};
use roadbed_store::{Labels, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::identity::Identity;
use crate::ledger::LedgerHandle;
use crate::resources::Resources;
use crate::sync::Known;

/// Plans are made again this often without any other cause: a block may be empty.
const INTERVAL: Duration = Duration::from_secs(5);

/// The cost of asking a store, and whether every node writes about objects that all share.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// The store is read this often without any other cause; changes of own blocks come by themselves.
    pub look: Duration,
    /// As `look`, while something is missing: a full pool may have room again. No list of all blocks comes sooner after
    /// one that found no room.
    pub look_for_room: Duration,
    /// Pause after a failed read or write.
    pub retry: Duration,
    /// Every change of anything is a reason to read own blocks, not only a change of them.
    pub reads_on_any_change: bool,
    /// Every node writes conditions of pools. All come to the same answer, but a cluster has many nodes.
    pub writes_conditions: bool,
}

impl Manners {
    /// Of a file on this machine.
    pub const FILE: Manners = Manners {
        look: INTERVAL,
        look_for_room: Duration::ZERO,
        retry: INTERVAL,
        reads_on_any_change: true,
        writes_conditions: true,
    };
    /// Of a server that all nodes of a cluster ask.
    pub const SERVER: Manners = Manners {
        look: Duration::from_secs(600),
        look_for_room: Duration::from_secs(30),
        retry: Duration::from_secs(15),
        reads_on_any_change: false,
        writes_conditions: false,
    };
}
/// Rounds of plan and act per cause; each round has a bounded number of actions.
const MAX_ROUNDS: usize = 32;

/// Blocks and pools as ADD sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockView {
    /// Families that a pod gets an address of.
    pub families: Vec<Family>,
    /// Where addresses come from; announced, too.
    pub blocks: Vec<ConfirmedBlock>,
    /// All own blocks, whatever their state.
    pub own: Vec<Resource<IpBlockSpec>>,
    /// All pools and whether this node may use them.
    pub pools: Vec<PoolView>,
    /// What cannot be helped by a plan.
    pub problems: Vec<PlanProblem>,
    /// Whether blocks are known at all: from the store, or from a snapshot of this boot.
    pub known: bool,
}

impl BlockView {
    /// Whether another block of this family may still be had.
    pub fn may_grow(&self, family: Family) -> bool {
        let exhausted = |pool: &PoolView| {
            let full = |p: &PlanProblem| matches!(p, PlanProblem::Exhausted { pool: name, .. } if *name == pool.name);
            self.problems.iter().any(full)
        };
        let mut pools = self
            .pools
            .iter()
            .filter(|p| p.usable.is_ok() && Family::of(&p.cidr) == family);
        pools.any(|pool| !exhausted(pool))
    }

    /// What is missing before pods can be started; empty when nothing is.
    pub fn waiting_for(&self) -> Vec<String> {
        if self.families.is_empty() {
            return vec!["an IPPool that this node may use".into()];
        }
        let missing =
            |family: &&Family| !self.blocks.iter().any(|b| Family::of(&b.cidr) == **family);
        self.families
            .iter()
            .filter(missing)
            .map(|family| format!("a confirmed {family} block"))
            .collect()
    }
}

/// Speaks to the task.
#[derive(Clone)]
pub struct Blocks {
    view: watch::Receiver<Arc<BlockView>>,
    wanted: Arc<Notify>,
}

impl Blocks {
    /// The blocks as of now.
    pub fn view(&self) -> Arc<BlockView> {
        self.view.borrow().clone()
    }

    /// Wakes whenever the view changes.
    pub fn watch(&self) -> watch::Receiver<Arc<BlockView>> {
        self.view.clone()
    }

    /// Plans soon: usage changed.
    pub fn plan_soon(&self) {
        self.wanted.notify_one();
    }
}

struct Task {
    node: String,
    identity: Arc<Identity>,
    manners: Manners,
    store: Arc<dyn Store>,
    ledger: LedgerHandle,
    known: watch::Receiver<Known>,
    view: watch::Sender<Arc<BlockView>>,
    wanted: Arc<Notify>,
    /// Own blocks as last read or written.
    own: Vec<Resource<IpBlockSpec>>,
    /// Time of the last list of all blocks that found no room.
    no_room: Option<Instant>,
    /// When the counts of a block were last written, by its name.
    counted: BTreeMap<String, Instant>,
}

/// Starts the task; it runs until the process ends.
pub fn start(
    node: &str,
    manners: Manners,
    store: Arc<dyn Store>,
    ledger: LedgerHandle,
    known: watch::Receiver<Known>,
) -> Blocks {
    let (view, receiver) = watch::channel(Arc::new(BlockView::default()));
    let wanted = Arc::new(Notify::new());
    let identity = known.borrow().identity.clone();
    let task = Task {
        node: node.to_owned(),
        identity,
        manners,
        store,
        ledger,
        known,
        view,
        wanted: wanted.clone(),
        own: Vec::new(),
        no_room: None,
        counted: BTreeMap::new(),
    };
    tokio::spawn(task.run());
    Blocks {
        view: receiver,
        wanted,
    }
}

impl Task {
    async fn run(mut self) {
        let mut known = self.known.clone();
        // Whatever the cause of a look, what the store may know better is asked for until it was told.
        let mut store_due = true;
        let mut next_look = Instant::now();
        let mut last_read = Instant::now();
        let mut last_seen = Vec::new();
        loop {
            let now = {
                let now = known.borrow_and_update();
                store_due |= now.has_changed() && self.manners.reads_on_any_change;
                now.clone()
            };
            if let Some(resources) = &now.resources {
                let specs = |b: &Resource<IpBlockSpec>| (b.name().to_owned(), b.spec.clone());
                let seen: Vec<_> = resources.blocks.iter().map(specs).collect();
                store_due |= seen != last_seen;
                last_seen = seen;
            }
            self.identity = now.identity;
            let look = match self.view.borrow().problems.is_empty() {
                true => self.manners.look,
                false => self.manners.look_for_room.max(INTERVAL),
            };
            store_due |= last_read.elapsed() >= look;
            if store_due {
                last_read = Instant::now();
            }
            if Instant::now() >= next_look || store_due {
                next_look = Instant::now() + INTERVAL;
            }
            if let Some(resources) = now.resources {
                if !now.store.reachable {
                    store_due = true;
                    // Nobody else can claim our blocks while they are in the store: what we last knew still holds.
                    self.merge_unreachable(&resources);
                    self.publish(&resources, Vec::new());
                } else {
                    let done = self.converge(&resources, store_due).await;
                    store_due = done.is_err();
                    if let Err(error) = done {
                        tracing::warn!(%error, "blocks not brought up to date, trying again");
                        // What was confirmed stays ours, whatever else cannot be done.
                        self.merge_unreachable(&resources);
                        let problems = self.view.borrow().problems.clone();
                        self.publish(&resources, problems);
                        next_look = Instant::now() + self.manners.retry;
                    }
                }
            }
            tokio::select! {
                changed = known.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    store_due |= self.manners.reads_on_any_change;
                    // A pool may be new.
                    self.no_room = None;
                }
                () = self.wanted.notified() => {}
                () = tokio::time::sleep_until(next_look) => {}
            }
        }
    }

    fn merge_unreachable(&mut self, resources: &Resources) {
        if self.own.is_empty() {
            self.own.clone_from(&resources.blocks);
        }
    }

    /// Plans and acts until nothing is left to do. Not `store_due`: own blocks are those last read or written.
    async fn converge(&mut self, resources: &Resources, store_due: bool) -> Result<(), StoreError> {
        let pools = resolve(&resources.pools, &self.identity.labels);
        if store_due {
            if self.manners.writes_conditions {
                self.write_conditions(resources, &pools).await;
            }
            self.own = self.list(true).await?;
        }
        let mut problems = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let mut plan = self.plan(&pools, None).await;
            if plan.actions.contains(&Action::NeedListing) {
                let waits = |at: Instant| at.elapsed() < self.manners.look_for_room;
                if self.no_room.is_some_and(waits) {
                    plan.problems = self.view.borrow().problems.clone();
                } else {
                    let all = self.list(false).await?;
                    plan = self.plan(&pools, Some(&all)).await;
                    self.no_room = (!plan.problems.is_empty()).then(Instant::now);
                }
            }
            problems.clone_from(&plan.problems);
            plan.actions.retain(|action| *action != Action::NeedListing);
            if plan.actions.is_empty() {
                break;
            }
            for action in plan.actions {
                match self.act(&action, resources).await {
                    // Another node was faster, or something changed meanwhile: read again, plan again.
                    Err(
                        StoreError::AlreadyExists { .. }
                        | StoreError::Conflict { .. }
                        | StoreError::NotFound { .. },
                    ) => {
                        self.own = self.list(true).await?;
                        break;
                    }
                    other => other?,
                }
            }
        }
        self.publish(resources, problems);
        self.write_counts().await;
        Ok(())
    }

    async fn plan(
        &self,
        pools: &[PoolView],
        all: Option<&[Resource<IpBlockSpec>]>,
    ) -> roadbed_ipam::Plan {
        let cidrs: Vec<IpNet> = self.own.iter().map(|b| b.spec.cidr).collect();
        let usage = self.ledger.usage(cidrs).await;
        plan(
            &View {
                node: &self.node,
                pools,
                own_blocks: &self.own,
                usage: &usage,
                all_blocks: all,
            },
            &Tuning::default(),
        )
    }

    async fn act(&mut self, action: &Action, resources: &Resources) -> Result<(), StoreError> {
        match action {
            Action::NeedListing => {}
            Action::Claim { cidr, pool } => {
                let block = pending_block(&self.node, *cidr, pool);
                let created = self.store.create(block.to_object()).await?;
                tracing::info!(block = %cidr, %pool, "block claimed");
                self.remember(created);
            }
            Action::Confirm { name } => {
                self.set_state(name, BlockState::Confirmed).await?;
            }
            Action::Release { name } => {
                // No address may be handed out of it from before the write on.
                if let Some(block) = self.own.iter_mut().find(|b| b.name() == name) {
                    block.spec.state = BlockState::Releasing;
                }
                self.publish(resources, Vec::new());
                if let Some(block) = self.own.iter_mut().find(|b| b.name() == name) {
                    block.spec.state = BlockState::Confirmed;
                }
                self.set_state(name, BlockState::Releasing).await?;
            }
            Action::Delete { name } => {
                let Some(block) = self.own.iter().find(|b| b.name() == name) else {
                    return Ok(());
                };
                let (uid, revision) = (
                    block.metadata.uid.clone().unwrap_or_default(),
                    block.metadata.resource_version.clone().unwrap_or_default(),
                );
                self.store
                    .delete(Kind::IPBlock, name, &uid, &revision)
                    .await?;
                tracing::info!(block = %block.spec.cidr, "block given back");
                self.own.retain(|b| b.name() != name);
            }
        }
        Ok(())
    }

    async fn set_state(&mut self, name: &str, state: BlockState) -> Result<(), StoreError> {
        let Some(block) = self.own.iter().find(|b| b.name() == name) else {
            return Ok(());
        };
        let mut block = block.clone();
        block.spec.state = state;
        let updated = self.store.update(block.to_object()).await?;
        tracing::info!(block = %block.spec.cidr, ?state, "block state changed");
        self.remember(updated);
        Ok(())
    }

    fn remember(&mut self, object: roadbed_api::Object) {
        if let Ok(block) = object.typed::<IpBlockSpec>() {
            self.own.retain(|b| b.name() != block.name());
            self.own.push(block);
        }
    }

    async fn list(&self, own: bool) -> Result<Vec<Resource<IpBlockSpec>>, StoreError> {
        let labels = if own {
            Labels::from([(NODE_LABEL.to_owned(), self.node.clone())])
        } else {
            Labels::new()
        };
        let listing = self.store.list(Kind::IPBlock, &labels).await?;
        Ok(listing
            .objects
            .iter()
            .filter_map(|o| o.typed().ok())
            .collect())
    }

    /// Tells the store how full own blocks are: rarely, and a failure is no more than a count that is told later.
    async fn write_counts(&mut self) {
        let now = Instant::now();
        self.counted.retain(|_, at| now < *at + COUNTS_EVERY);
        let cidrs = self.own.iter().map(|b| b.spec.cidr).collect();
        let usage = self.ledger.usage(cidrs).await;
        let mut counted = Vec::new();
        for block in &self.own {
            let (Some(usage), Some(uid)) = (usage.get(&block.spec.cidr), &block.metadata.uid)
            else {
                continue;
            };
            if self.counted.contains_key(block.name()) || !worth_telling(&block.status, usage) {
                continue;
            }
            let status = IpBlockStatus {
                capacity: usage.capacity,
                in_use: usage.in_use,
                observed: Some(Timestamp(jiff_now())),
            };
            let Ok(status) = serde_json::to_value(status) else {
                continue;
            };
            let name = block.name();
            let written = self.store.update_status(Kind::IPBlock, name, uid, status);
            match written.await {
                Ok(updated) => counted.push(updated),
                Err(error) => {
                    tracing::debug!(%error, block = name, "counts of a block not written");
                }
            }
            self.counted.insert(name.to_owned(), now);
        }
        // The write gave each a new revision.
        for updated in counted {
            self.remember(updated);
        }
    }

    /// Every node comes to the same answer, so it does not matter who writes it.
    async fn write_conditions(&self, resources: &Resources, pools: &[PoolView]) {
        let now = Timestamp(jiff_now());
        for pool in &resources.pools {
            let Some(view) = pools.iter().find(|v| v.name == pool.name()) else {
                continue;
            };
            let (Some(conditions), Some(uid)) = (conditions(pool, view, &now), &pool.metadata.uid)
            else {
                continue;
            };
            let Ok(status) = serde_json::to_value(IpPoolStatus { conditions }) else {
                continue;
            };
            if let Err(error) = self
                .store
                .update_status(Kind::IPPool, pool.name(), uid, status)
                .await
            {
                tracing::debug!(%error, pool = pool.name(), "pool condition not written");
            }
        }
    }

    fn publish(&self, resources: &Resources, problems: Vec<PlanProblem>) {
        let pools = resolve(&resources.pools, &self.identity.labels);
        let view = BlockView {
            families: families(&pools),
            blocks: confirmed_blocks(&self.node, &pools, &self.own),
            own: self.own.clone(),
            pools,
            problems,
            known: true,
        };
        self.view.send_if_modified(|old| {
            if **old == view {
                return false;
            }
            for problem in view.problems.iter().filter(|p| !old.problems.contains(p)) {
                tracing::warn!(%problem, "addresses");
            }
            *old = Arc::new(view);
            true
        });
    }
}

fn jiff_now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}
