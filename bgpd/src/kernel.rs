//! Between RIB and kernel: learned best paths become routes, next hops are tracked, their changes told to the RIB.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use bgp_core::rib::{Event, FibChange, Forward, NextHopState as RibState};
use bgp_wire::NextHop;
use ipnet::IpNet;
use roadbed_fib::{
    FibEvent, FibEvents, FibHandle, NextHopKey, NextHopState, RouteChange, RouteKind, RouteSpec,
    SmallList, Source, WORST_METRIC,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::rib_thread::{KernelBatch, RibHandle, RibMessage};

/// Metrics of learned routes, IPv4 and IPv6: worse than a connected route, which has 0 or 256, and better than what a
/// person adds as a fallback.
const METRICS: [u32; 2] = [20, 512];

/// What the kernel task needs to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelConfig {
    /// `RTA_PREFSRC` of learned routes: the node's own addresses, IPv4 and IPv6.
    pub(crate) prefsrc: [Option<IpAddr>; 2],
    /// Whether learned routes go to the kernel at all.
    pub(crate) install: bool,
    /// Peers have said what they have: what an earlier speaker left beside it can go.
    pub(crate) adopted: bool,
    /// The speaker has been configured.
    pub(crate) known: bool,
}

pub(crate) struct KernelTask {
    pub(crate) fib: FibHandle,
    pub(crate) events: FibEvents,
    pub(crate) rib: RibHandle,
    pub(crate) queue: mpsc::Receiver<KernelBatch>,
    pub(crate) config: watch::Receiver<KernelConfig>,
    /// Tracked next hops and where they lie.
    states: HashMap<NextHop, NextHopState>,
    /// Of these, the length of the foreign prefix by which they are reached.
    covering: HashMap<NextHop, u8>,
    /// What the RIB wants, to be written again when a next hop or the configuration changes.
    wanted: HashMap<IpNet, SmallList<Forward>>,
    /// Our aggregates: what nothing inside leads to is refused here, or a default route would send it in circles.
    discarded: HashSet<IpNet>,
    /// Addresses of peers whose sessions ended: not used where another next hop is left, until the RIB has withdrawn what
    /// they said. Their routes move by one write then, where the RIB goes from prefix to prefix.
    lost: HashSet<IpAddr>,
    /// It was said that next hops cannot be tracked.
    complained: bool,
    /// Routes of an earlier speaker of this process that the RIB has not spoken of.
    left: HashSet<IpNet>,
    /// What routes were last written by.
    applied: KernelConfig,
}

impl KernelTask {
    pub(crate) fn new(
        (fib, events): (FibHandle, FibEvents),
        rib: RibHandle,
        queue: mpsc::Receiver<KernelBatch>,
        config: watch::Receiver<KernelConfig>,
        left: HashSet<IpNet>,
    ) -> Self {
        Self {
            fib,
            events,
            rib,
            queue,
            config,
            states: HashMap::new(),
            covering: HashMap::new(),
            wanted: HashMap::new(),
            discarded: HashSet::new(),
            lost: HashSet::new(),
            complained: false,
            left,
            applied: KernelConfig::default(),
        }
    }

    /// Lets go of the kernel: the way to it, and the routes that are there.
    pub(crate) async fn end(self) -> (FibHandle, FibEvents, HashSet<IpNet>) {
        for next_hop in self.states.keys() {
            // The writer only stops with the whole process.
            self.fib.untrack(key(next_hop)).await.ok();
        }
        let routes = self.wanted.into_keys().chain(self.discarded);
        let routes = routes.chain(self.left).collect();
        (self.fib, self.events, routes)
    }

    /// Runs until it is stopped, or the RIB thread or the route writer ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Self {
        let mut configured = self.config.clone();
        // Not what could be done next: that would keep it for as long as there is something.
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                batch = self.queue.recv() => match batch {
                    Some(batch) => {
                        self.take(batch).await;
                        // Tells the RIB thread that it may hand over what it held back.
                        if self.rib.sender().send(RibMessage::KernelReady).await.is_err() {
                            return self;
                        }
                    }
                    None => return self,
                },
                events = self.events.next() => match events {
                    Some(events) => self.next_hops_changed(events).await,
                    None => return self,
                },
                changed = configured.changed() => {
                    if changed.is_err() {
                        return self;
                    }
                    self.reconfigure().await;
                }
            }
        }
        self
    }

    async fn take(&mut self, batch: KernelBatch) {
        if !batch.lost.is_empty() {
            self.lost.extend(batch.lost);
            self.write(self.shared_by_lost()).await;
        }
        let mut answers = Vec::new();
        for (next_hop, track) in batch.next_hops {
            if track {
                answers.extend(self.track(next_hop).await);
            } else if self.states.remove(&next_hop).is_some() {
                self.covering.remove(&next_hop);
                // The writer only stops with the whole speaker.
                self.fib.untrack(key(&next_hop)).await.ok();
            }
        }
        if !answers.is_empty() {
            self.rib.event(Event::NextHops(answers)).await.ok();
        }
        let (install, adopted) = {
            let config = self.config.borrow();
            (config.install, config.adopted)
        };
        let mut prefixes = Vec::with_capacity(batch.routes.len());
        for FibChange {
            prefix,
            next_hops,
            discard,
            ..
        } in batch.routes
        {
            if !self.left.is_empty() {
                // That it is not wanted yet says nothing while peers are still to be heard.
                if next_hops.is_empty() && !discard && !adopted && self.left.contains(&prefix) {
                    continue;
                }
                self.left.remove(&prefix);
            }
            prefixes.push(prefix);
            match install && discard {
                true => self.discarded.insert(prefix),
                false => self.discarded.remove(&prefix),
            };
            match install && !next_hops.is_empty() {
                true => self.wanted.insert(prefix, next_hops),
                false => self.wanted.remove(&prefix),
            };
        }
        self.write(prefixes).await;
        if batch.lost_are_gone {
            // Whom others still name as a next hop is one again.
            let concerned = self.shared_by_lost();
            self.lost.clear();
            self.write(concerned).await;
        }
        for barrier in batch.barriers {
            // Who asked may have gone.
            barrier.send(()).ok();
        }
    }

    /// Where a next hop lies, from now on. The RIB may ask again for one that it let go and took back before this task
    /// heard of either: one reference is enough.
    async fn track(&mut self, next_hop: NextHop) -> Option<(NextHop, RibState)> {
        let state = match self.states.get(&next_hop) {
            Some(state) => *state,
            None => match self.fib.track(key(&next_hop)).await {
                Ok(state) => state,
                Err(error) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::error!(%error, %next_hop, "next hops cannot be tracked: their routes stay unused");
                    }
                    return None;
                }
            },
        };
        let answer = rib_state(state);
        if self.states.insert(next_hop, state).is_none() {
            self.cover(next_hop, &answer).await;
        }
        Some((next_hop, answer))
    }

    /// Learns by what a next hop is reached. One that has been lost is not kept waiting for: its routes are to move at once.
    async fn cover(&mut self, next_hop: NextHop, state: &RibState) {
        if *state == RibState::Unresolved {
            return;
        }
        match self.fib.covering(key(&next_hop).addr).await {
            Ok(Some(len)) => self.covering.insert(next_hop, len),
            Ok(None) | Err(_) => self.covering.remove(&next_hop),
        };
    }

    async fn next_hops_changed(&mut self, events: Vec<FibEvent>) {
        let changed: HashMap<NextHopKey, NextHopState> = events
            .into_iter()
            .filter_map(|event| match event {
                FibEvent::NextHopChanged { key, state } => Some((key, state)),
                FibEvent::LinkChanged { .. } => None,
            })
            .collect();
        let mut answers = Vec::new();
        for (next_hop, state) in &mut self.states {
            if let Some(new) = changed.get(&key(next_hop)) {
                *state = *new;
                answers.push((*next_hop, rib_state(*new)));
            }
        }
        if answers.is_empty() {
            return;
        }
        for (next_hop, state) in &answers {
            self.cover(*next_hop, state).await;
        }
        self.rib.event(Event::NextHops(answers)).await.ok();
        // Before the RIB has thought about it, and all at once: the routes that share a set of next hops then move by one
        // write. Those without any next hop left stay until the RIB withdraws them.
        let concerned = |next_hops: &[Forward]| {
            let mut all = next_hops.iter();
            all.any(|to| changed.contains_key(&key(&to.next_hop)))
        };
        let rewrite = self.wanted.iter().filter(|(_, to)| concerned(to));
        let rewrite = rewrite.map(|(prefix, _)| *prefix).collect();
        self.write(rewrite).await;
    }

    /// The configuration changed. Without installation nothing is wanted; the RIB tells all again when it comes on.
    async fn reconfigure(&mut self) {
        let config = self.config.borrow().clone();
        let mut prefixes: Vec<IpNet> = Vec::new();
        if config.known && (config.adopted || !config.install) {
            prefixes.extend(self.left.drain());
        }
        let what = |config: &KernelConfig| (config.install, config.prefsrc);
        if what(&config) != what(&self.applied) {
            prefixes.extend(self.wanted.keys().chain(&self.discarded));
            if !config.install {
                self.wanted = HashMap::new();
                self.discarded = HashSet::new();
            }
        }
        self.applied = config;
        self.write(prefixes).await;
    }

    /// Brings these prefixes to what is wanted of them.
    async fn write(&mut self, prefixes: Vec<IpNet>) {
        if prefixes.is_empty() {
            return;
        }
        let config = self.config.borrow_and_update().clone();
        let changes = prefixes
            .into_iter()
            .filter_map(
                |prefix| match self.installed(&prefix).filter(|_| config.install) {
                    None if self.discarded.contains(&prefix) => Some(RouteChange::want(
                        Source::Bgp,
                        RouteSpec {
                            prefix,
                            kind: RouteKind::Unreachable,
                            prefsrc: None,
                            metric: WORST_METRIC,
                        },
                    )),
                    None => Some(RouteChange::withdraw(Source::Bgp, prefix)),
                    Some(next_hops) => Some(RouteChange::want(
                        Source::Bgp,
                        RouteSpec {
                            prefix,
                            kind: RouteKind::Via(self.resolved(next_hops)?),
                            prefsrc: config.prefsrc[usize::from(prefix.addr().is_ipv6())],
                            metric: METRICS[usize::from(prefix.addr().is_ipv6())],
                        },
                    )),
                },
            )
            .collect();
        if self.fib.apply_and_forget(changes).await.is_err() {
            tracing::error!("the route writer has stopped");
        }
    }

    /// What of the wanted goes to the kernel. A route to its own next hop, or to a part of the link that this is on, does not:
    /// the kernel would look there for the next hop from then on, and refuse whatever else goes by way of it.
    fn installed(&self, prefix: &IpNet) -> Option<&SmallList<Forward>> {
        let next_hops = self.wanted.get(prefix)?;
        let leads_to_itself = |to: &Forward| {
            if !prefix.contains(&key(&to.next_hop).addr) {
                return false;
            }
            let state = self.states.get(&to.next_hop);
            let on_link = matches!(state, Some(NextHopState::Resolved { gateway: None, .. }));
            let covering = self.covering.get(&to.next_hop);
            on_link && covering.is_some_and(|len| prefix.prefix_len() >= *len)
        };
        (!next_hops.iter().any(leads_to_itself)).then_some(next_hops)
    }

    /// The ways to those next hops that resolve; `None` without any: the RIB is about to withdraw the route, and what the
    /// kernel has stays until then.
    fn resolved(&self, next_hops: &[Forward]) -> Option<SmallList<roadbed_fib::NextHop>> {
        let way = |to: &Forward| {
            let state = self.states.get(&to.next_hop)?;
            state.forwarding(key(&to.next_hop).addr, to.weight)
        };
        let lost = |to: &&Forward| self.lost.iter().any(|peer| is_at(&to.next_hop, *peer));
        let mut ways: SmallList<_> = next_hops
            .iter()
            .filter(|to| !lost(to))
            .filter_map(way)
            .collect();
        if ways.is_empty() {
            ways = next_hops.iter().filter_map(way).collect();
        }
        (!ways.is_empty()).then_some(ways)
    }

    /// Prefixes with several next hops, a lost one among them.
    fn shared_by_lost(&self) -> Vec<IpNet> {
        let lost = |to: &Forward| self.lost.iter().any(|peer| is_at(&to.next_hop, *peer));
        let wanted = self.wanted.iter();
        wanted
            .filter(|(_, next_hops)| next_hops.len() > 1 && next_hops.iter().any(lost))
            .map(|(prefix, _)| *prefix)
            .collect()
    }
}

/// Whether the next hop is this peer itself.
fn is_at(next_hop: &NextHop, peer: IpAddr) -> bool {
    match (*next_hop, peer) {
        (NextHop::V4(address), IpAddr::V4(peer)) => address == peer,
        (NextHop::V6 { global, link_local }, IpAddr::V6(peer)) => {
            global == peer || link_local == Some(peer)
        }
        _ => false,
    }
}

fn key(next_hop: &NextHop) -> NextHopKey {
    NextHopKey {
        addr: match *next_hop {
            NextHop::V4(address) => address.into(),
            NextHop::V6 { global, .. } => global.into(),
        },
        ifindex: None,
    }
}

fn rib_state(state: NextHopState) -> RibState {
    match state {
        NextHopState::Resolved { igp_cost, .. } => RibState::Resolved { igp_cost },
        NextHopState::Unresolved => RibState::Unresolved,
    }
}
