//! The pure half: wants of all sources, a shadow of the kernel, and the operations that make one into the other.
//!
//! Owns the shadow. Never speaks to the kernel: the writer carries out [`Op`]s and reports back through
//! [`Ledger::done`], and hands dumps to [`Ledger::observe`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::groups::{self, Content, Groups, NextHopObject, NextHopOp};
use crate::route::{
    InstalledRoute, NextHop, RouteChange, RouteKey, RouteKind, RouteSpec, RouteState, Source,
};

/// So few routes are as quickly written one by one: their group does not shrink to one next hop for their sake.
const FEW: usize = 16;

/// How a route in the kernel forwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// By itself.
    Plain(RouteKind),
    /// Through this next-hop group of ours.
    Group(u32),
}

/// A route as the kernel holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) key: RouteKey,
    pub(crate) prefsrc: Option<IpAddr>,
    pub(crate) way: Way,
}

impl Written {
    /// Whether `kernel`, read back from the kernel, is this route.
    pub(crate) fn satisfied_by(&self, kernel: &Written) -> bool {
        let same_way = match (&self.way, &kernel.way) {
            (Way::Plain(want), Way::Plain(have)) => want.satisfied_by(have),
            (want, have) => want == have,
        };
        self.key == kernel.key && self.prefsrc == kernel.prefsrc && same_way
    }

    /// The group that it goes through.
    pub(crate) fn group(&self) -> Option<u32> {
        match self.way {
            Way::Group(id) => Some(id),
            Way::Plain(_) => None,
        }
    }
}

impl From<RouteSpec> for Written {
    fn from(spec: RouteSpec) -> Self {
        Written {
            key: spec.key(),
            prefsrc: spec.prefsrc,
            way: Way::Plain(spec.kind),
        }
    }
}

/// What the kernel holds under a key of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Believed {
    /// No route of ours.
    Absent,
    /// This route of ours.
    Exact(Written),
    /// A route of ours with attributes that we never write, or several under one key.
    Odd,
}

/// One kernel request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Create exclusively: a route that exists already is somebody else's.
    Add(Written),
    /// Replace our own route.
    Replace(Written),
    /// Delete our own route.
    Delete(RouteKey),
}

impl Op {
    pub(crate) fn key(&self) -> RouteKey {
        match self {
            Op::Add(route) | Op::Replace(route) => route.key,
            Op::Delete(key) => *key,
        }
    }

    /// The group that the route is to go through.
    pub(crate) fn group(&self) -> Option<u32> {
        match self {
            Op::Add(route) | Op::Replace(route) => route.group(),
            Op::Delete(_) => None,
        }
    }
}

/// What is to be written: next-hop objects first, then routes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) next_hops: Vec<NextHopOp>,
    pub(crate) routes: Vec<Op>,
}

/// What a plan depends on beside wants and shadow.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'a> {
    /// Whether a link is known to be without carrier: next-hop objects cannot lie over it.
    pub(crate) dead: &'a dyn Fn(u32) -> bool,
    /// Routes that a group with one next hop is left to are rewritten as plain ones. Else they may stay, so that the loss
    /// of a next hop costs no write per route.
    pub(crate) at_leisure: bool,
}

impl Believed {
    fn group(&self) -> Option<u32> {
        match self {
            Believed::Exact(route) => route.group(),
            Believed::Absent | Believed::Odd => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Shadow {
    believed: Believed,
    /// Adopted and claimed by nobody yet.
    stale: bool,
    failure: Option<String>,
}

/// Desired state, shadow and adoption state.
#[derive(Debug)]
pub(crate) struct Ledger {
    wants: BTreeMap<(IpNet, Source), RouteSpec>,
    shadow: BTreeMap<RouteKey, Shadow>,
    failed: BTreeSet<RouteKey>,
    groups: Groups,
    /// How many routes of the shadow go through each group.
    users: HashMap<u32, usize>,
    unfinished: BTreeSet<Source>,
}

impl Ledger {
    /// A ledger that sweeps once each of `sources` has finished its adoption.
    pub(crate) fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Ledger {
            wants: BTreeMap::new(),
            shadow: BTreeMap::new(),
            failed: BTreeSet::new(),
            groups: Groups::default(),
            users: HashMap::new(),
            unfinished: sources.into_iter().collect(),
        }
    }

    /// Records what sources say; returns the keys to plan for.
    pub(crate) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = RouteChange>,
    ) -> BTreeSet<RouteKey> {
        let mut touched = BTreeSet::new();
        for change in changes {
            let prefix = change.prefix.trunc();
            let before = match change.route {
                Some(mut route) => {
                    route.prefix = prefix;
                    touched.insert(route.key());
                    self.wants.insert((prefix, change.source), route)
                }
                None => self.wants.remove(&(prefix, change.source)),
            };
            touched.extend(before.map(|route| route.key()));
        }
        touched
    }

    /// The route that should be in the kernel under a key.
    pub(crate) fn desired(&self, key: &RouteKey) -> Option<(Source, &RouteSpec)> {
        Source::ALL.iter().find_map(|source| {
            let spec = self.wants.get(&(key.prefix, *source))?;
            (spec.key() == *key).then_some((*source, spec))
        })
    }

    /// What brings these keys to the desired state. Claims what it finds right: it is no longer stale.
    pub(crate) fn plan<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a RouteKey> + Clone,
        conditions: Conditions<'_>,
    ) -> Plan {
        let mut plan = Plan::default();
        self.move_groups(keys.clone(), conditions, &mut plan.next_hops);
        for key in keys {
            let op = self.plan_key(key, conditions, &mut plan.next_hops);
            plan.routes.extend(op);
        }
        plan
    }

    /// Where all routes through a group want one other set of next hops, the group changes and none of the routes.
    fn move_groups<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a RouteKey>,
        conditions: Conditions<'_>,
        ops: &mut Vec<NextHopOp>,
    ) {
        // Per group: what its routes want instead, `None` where they differ, and how many do.
        let mut wishes: BTreeMap<u32, (Option<Content>, usize)> = BTreeMap::new();
        for key in keys {
            let Some(id) = self.shadow.get(key).and_then(|s| s.believed.group()) else {
                continue;
            };
            let Some(have) = self.groups.content(id) else {
                continue;
            };
            let wanted = self
                .desired(key)
                .and_then(|(_, spec)| groups::content_of(&spec.kind, conditions.dead));
            let Some(wanted) = wanted.filter(|wanted| wanted != have) else {
                continue;
            };
            let (wish, count) = wishes.entry(id).or_insert((Some(wanted.clone()), 0));
            if wish.as_ref().is_some_and(|wish| *wish != wanted) {
                *wish = None;
            }
            *count += 1;
        }
        for (id, (wish, count)) in wishes {
            let Some(wish) = wish.filter(|_| self.users.get(&id) == Some(&count)) else {
                continue;
            };
            let few = count <= FEW && (wish.len() == 1 || self.groups.find(&wish).is_some());
            if !few && (wish.len() > 1 || !conditions.at_leisure) {
                self.groups.replace(id, &wish, ops);
            }
        }
    }

    fn plan_key(
        &mut self,
        key: &RouteKey,
        conditions: Conditions<'_>,
        next_hops: &mut Vec<NextHopOp>,
    ) -> Option<Op> {
        let swept = self.adoption_finished();
        let desired = self.desired(key).map(|(_, spec)| spec.clone());
        let current = self.shadow.get(key).and_then(|s| s.believed.group());
        let desired = desired.map(|spec| self.lower(spec, current, conditions, next_hops));
        let Some(shadow) = self.shadow.get_mut(key) else {
            return desired.map(Op::Add);
        };
        match (desired, &shadow.believed) {
            (Some(route), Believed::Absent) => Some(Op::Add(route)),
            (Some(route), Believed::Exact(have)) if route.satisfied_by(have) => {
                shadow.stale = false;
                shadow.failure = None;
                self.failed.remove(key);
                None
            }
            (Some(route), _) => Some(Op::Replace(route)),
            (None, Believed::Absent) => {
                self.forget(key);
                None
            }
            (None, _) if shadow.stale && !swept => None,
            (None, _) => Some(Op::Delete(*key)),
        }
    }

    /// How a wanted route is to be written. `current`: the group that it goes through now.
    fn lower(
        &mut self,
        spec: RouteSpec,
        current: Option<u32>,
        conditions: Conditions<'_>,
        next_hops: &mut Vec<NextHopOp>,
    ) -> Written {
        let mut route = Written::from(spec);
        let Way::Plain(kind) = &route.way else {
            return route;
        };
        let Some(content) = groups::content_of(kind, conditions.dead) else {
            return route;
        };
        let stays = |id: &u32| self.groups.content(*id) == Some(&content);
        let way = match (current.filter(stays), content.as_slice()) {
            (None, [(hop, _)]) => Some(Way::Plain(RouteKind::via(hop.gateway, Some(hop.ifindex)))),
            (Some(_), [(hop, _)]) if conditions.at_leisure => {
                Some(Way::Plain(RouteKind::via(hop.gateway, Some(hop.ifindex))))
            }
            (Some(id), _) => Some(Way::Group(id)),
            (None, _) => self.groups.find_or_add(&content, next_hops).map(Way::Group),
        };
        if let Some(way) = way {
            route.way = way;
        }
        route
    }

    /// Keys of routes that are shared out over several next hops, one of them over this link.
    pub(crate) fn shared_over(&self, ifindex: u32) -> BTreeSet<RouteKey> {
        let over = |kind: &RouteKind| match kind {
            RouteKind::Via(hops) => {
                hops.len() > 1 && hops.iter().any(|hop| hop.ifindex == Some(ifindex))
            }
            RouteKind::Device { .. } | RouteKind::Unreachable => false,
        };
        let wants = self.wants.values().filter(|spec| over(&spec.kind));
        wants.map(RouteSpec::key).collect()
    }

    /// Keys of routes through groups that a single next hop is left of.
    pub(crate) fn through_one(&self) -> BTreeSet<RouteKey> {
        let lone = |id: u32| self.groups.content(id).is_some_and(|c| c.len() == 1);
        let shadow = self.shadow.iter();
        shadow
            .filter(|(_, shadow)| shadow.believed.group().is_some_and(lone))
            .map(|(key, _)| *key)
            .collect()
    }

    /// A link lost its carrier, and with it the kernel what lay over it.
    pub(crate) fn link_lost(&mut self, ifindex: u32) {
        self.groups.link_lost(ifindex);
    }

    /// The kernel refused a request about next-hop objects.
    pub(crate) fn next_hop_refused(&mut self, op: &NextHopOp, id_is_taken: bool, reason: &str) {
        self.groups.refused(op, id_is_taken);
        if let NextHopOp::ReplaceGroup { id, .. } = op {
            for (key, shadow) in &mut self.shadow {
                if shadow.believed.group() == Some(*id) {
                    shadow.failure = Some(reason.to_owned());
                    self.failed.insert(*key);
                }
            }
        }
    }

    /// Next-hop objects that nothing uses any more. Until adoption is finished those that were there at the start are kept.
    /// `foreign` tells whether somebody else's route goes through a group of ours.
    pub(crate) fn collect_next_hops(&mut self, foreign: impl Fn(u32) -> bool) -> Vec<NextHopOp> {
        if self.adoption_finished() {
            self.groups.adoption_finished();
        }
        let users = &self.users;
        self.groups
            .collect(|id| users.contains_key(&id) || foreign(id))
    }

    /// As [`Ledger::observe_next_hops`], at the start: what is found is adopted.
    pub(crate) fn adopt_next_hops(&mut self, dump: &[NextHopObject], protocol: u8) {
        self.groups.observe(dump, protocol);
        self.groups.adopt();
    }

    /// Takes a complete dump of next-hop objects as the new truth; returns the keys to plan for. `protocol` is our mark.
    pub(crate) fn observe_next_hops(
        &mut self,
        dump: &[NextHopObject],
        protocol: u8,
    ) -> BTreeSet<RouteKey> {
        let changed = self.groups.observe(dump, protocol);
        let hit = |shadow: &Shadow| {
            let group = shadow.believed.group();
            group.is_some_and(|id| changed.contains(&id))
        };
        let shadow = self.shadow.iter().filter(|(_, shadow)| hit(shadow));
        shadow.map(|(key, _)| *key).collect()
    }

    /// Sets what is believed of a key, and keeps count of who uses which group.
    fn set(&mut self, key: RouteKey, shadow: Option<Shadow>) {
        let new = shadow.as_ref().and_then(|shadow| shadow.believed.group());
        let old = match shadow {
            Some(shadow) => self.shadow.insert(key, shadow),
            None => self.shadow.remove(&key),
        };
        let old = old.and_then(|shadow| shadow.believed.group());
        if old == new {
            return;
        }
        if let Some(id) = new {
            *self.users.entry(id).or_default() += 1;
        }
        if let Some(id) = old
            && let Some(count) = self.users.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&id);
                self.groups.loosen();
            }
        }
    }

    /// Records the kernel's answer to an operation.
    pub(crate) fn done(&mut self, op: Op, answer: Result<(), String>) {
        let key = op.key();
        match answer {
            Ok(()) => {
                self.failed.remove(&key);
                match op {
                    Op::Add(route) | Op::Replace(route) => {
                        let shadow = Shadow {
                            believed: Believed::Exact(route),
                            stale: false,
                            failure: None,
                        };
                        self.set(key, Some(shadow));
                    }
                    Op::Delete(_) => self.forget(&key),
                }
            }
            Err(reason) => {
                self.failed.insert(key);
                let shadow = self.shadow.entry(key).or_insert(Shadow {
                    believed: Believed::Absent,
                    stale: false,
                    failure: None,
                });
                shadow.failure = Some(reason);
            }
        }
    }

    /// Overrides the belief about one key, when an answer of the kernel contradicts it.
    pub(crate) fn believe(&mut self, key: RouteKey, believed: Believed) {
        let failure = self
            .shadow
            .get(&key)
            .and_then(|shadow| shadow.failure.clone());
        let shadow = Shadow {
            believed,
            stale: false,
            failure,
        };
        self.set(key, Some(shadow));
    }

    /// Takes a complete dump of our protocol as the new truth; returns the keys to plan for: those that differ from
    /// what was believed, those that failed, and routes of ours that nobody wants.
    pub(crate) fn observe(
        &mut self,
        dump: impl IntoIterator<Item = (RouteKey, Believed)>,
    ) -> BTreeSet<RouteKey> {
        let adopting = !self.adoption_finished();
        let mut seen: BTreeMap<RouteKey, Believed> = BTreeMap::new();
        for (key, believed) in dump {
            seen.entry(key)
                .and_modify(|entry| *entry = Believed::Odd)
                .or_insert(believed);
        }
        let mut touched = self.failed.clone();
        let mut news = Vec::new();
        for (key, shadow) in &self.shadow {
            let now = seen.remove(key).unwrap_or(Believed::Absent);
            // What we wrote may leave the interface open; what comes back names it. Equal enough is left as it was.
            let same = match (&shadow.believed, &now) {
                (Believed::Exact(ours), Believed::Exact(kernel)) => ours.satisfied_by(kernel),
                (before, now) => before == now,
            };
            if !same {
                touched.insert(*key);
            }
            if shadow.believed != now {
                let shadow = Shadow {
                    believed: now,
                    ..shadow.clone()
                };
                news.push((*key, shadow));
            }
        }
        for (key, believed) in seen {
            touched.insert(key);
            let shadow = Shadow {
                believed,
                stale: adopting,
                failure: None,
            };
            news.push((key, shadow));
        }
        for (key, shadow) in news {
            self.set(key, Some(shadow));
        }
        touched
    }

    /// A source has said all it wants. Returns the keys to plan for: everything stale, once the last source is done.
    pub(crate) fn finish(&mut self, source: Source) -> BTreeSet<RouteKey> {
        if !self.unfinished.remove(&source) || !self.adoption_finished() {
            return BTreeSet::new();
        }
        self.shadow
            .iter()
            .filter(|(_, shadow)| shadow.stale)
            .map(|(key, _)| *key)
            .collect()
    }

    /// Whether every source has finished, so that what nobody wants may be deleted.
    pub(crate) fn adoption_finished(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Keys whose last operation failed.
    pub(crate) fn failed(&self) -> &BTreeSet<RouteKey> {
        &self.failed
    }

    /// Why a key is not as wanted.
    pub(crate) fn failure(&self, key: &RouteKey) -> Option<&str> {
        self.shadow.get(key)?.failure.as_deref()
    }

    /// Whether the kernel holds a route of ours under this key.
    pub(crate) fn holds(&self, key: &RouteKey) -> bool {
        self.shadow
            .get(key)
            .is_some_and(|shadow| shadow.believed != Believed::Absent)
    }

    /// Every key of ours with its state.
    pub(crate) fn dump(&self) -> Vec<InstalledRoute> {
        let entry = |(key, shadow): (&RouteKey, &Shadow)| {
            let desired = self.desired(key);
            let route = match (&desired, &shadow.believed) {
                (Some((_, spec)), _) => Some((*spec).clone()),
                (None, Believed::Exact(route)) => self.raise(route),
                _ => None,
            };
            let state = match &shadow.failure {
                Some(reason) => RouteState::Failed(reason.clone()),
                None if shadow.stale => RouteState::Stale,
                None => RouteState::Installed,
            };
            InstalledRoute {
                key: *key,
                source: desired.map(|(source, _)| source),
                route,
                state,
            }
        };
        self.shadow.iter().map(entry).collect()
    }

    /// What a route in the kernel says, its group spelled out.
    fn raise(&self, route: &Written) -> Option<RouteSpec> {
        let kind = match &route.way {
            Way::Plain(kind) => kind.clone(),
            Way::Group(id) => {
                let hops = self.groups.content(*id)?.iter();
                let hops = hops.map(|(hop, weight)| NextHop {
                    gateway: hop.gateway,
                    ifindex: Some(hop.ifindex),
                    weight: *weight,
                });
                RouteKind::Via(hops.collect())
            }
        };
        Some(RouteSpec {
            prefix: route.key.prefix,
            kind,
            prefsrc: route.prefsrc,
            metric: route.key.metric,
        })
    }

    fn forget(&mut self, key: &RouteKey) {
        self.set(*key, None);
        self.failed.remove(key);
    }
}
