//! The ledger with next-hop groups against a model of the kernel: links that lose their carrier, heard of or not, and
//! whoever deletes what is ours.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use smallvec::SmallVec;

use crate::groups::{Content, Member, NextHopBody, NextHopObject, NextHopOp, content_of};
use crate::plan::{Believed, Conditions, Ledger, Op, Way, Written};
use crate::route::{NextHop, RouteChange, RouteKey, RouteKind, RouteSpec, Source};
use crate::{NEXT_HOP_IDS, PROTOCOL};

/// The kernel as far as next-hop objects go (measured on 6.18).
#[derive(Default, Debug)]
struct Kernel {
    members: BTreeMap<u32, Member>,
    groups: BTreeMap<u32, Vec<(u32, u16)>>,
    routes: BTreeMap<RouteKey, Written>,
    dead: BTreeSet<u32>,
    /// Requests about routes, and about next-hop objects.
    written: (usize, usize),
}

impl Kernel {
    fn next_hop(&mut self, op: &NextHopOp) -> Result<(), &'static str> {
        self.written.1 += 1;
        let known = |id: &u32| self.members.contains_key(id) || self.groups.contains_key(id);
        assert!(NEXT_HOP_IDS.contains(&op.id()));
        match op {
            NextHopOp::AddMember { id, .. } | NextHopOp::AddGroup { id, .. } if known(id) => {
                Err("exists")
            }
            NextHopOp::AddMember { member, .. } if self.dead.contains(&member.ifindex) => {
                Err("carrier is down")
            }
            NextHopOp::AddMember { id, member } => {
                self.members.insert(*id, *member);
                Ok(())
            }
            NextHopOp::ReplaceGroup { id, .. } if !self.groups.contains_key(id) => Err("no group"),
            NextHopOp::AddGroup { id, members } | NextHopOp::ReplaceGroup { id, members } => {
                if !members.iter().all(|(id, _)| self.members.contains_key(id)) {
                    return Err("no such member");
                }
                self.groups.insert(*id, members.clone());
                Ok(())
            }
            NextHopOp::Delete { id } => {
                let through = |route: &Written| route.way == Way::Group(*id);
                assert!(!self.routes.values().any(through), "deleted in use: {op:?}");
                self.delete(*id);
                Ok(())
            }
        }
    }

    fn route(&mut self, op: &Op) -> Result<(), &'static str> {
        self.written.0 += 1;
        match op {
            Op::Add(route) if self.routes.contains_key(&route.key) => Err("exists"),
            Op::Add(route) | Op::Replace(route) => {
                if let Way::Group(id) = route.way
                    && !self.groups.contains_key(&id)
                {
                    return Err("no such next hop");
                }
                let mut route = route.clone();
                if let Way::Plain(RouteKind::Via(hops)) = &mut route.way {
                    hops.iter_mut().for_each(|hop| hop.weight = hop.share());
                }
                self.routes.insert(route.key, route);
                Ok(())
            }
            Op::Delete(key) => self.routes.remove(key).map(drop).ok_or("no route"),
        }
    }

    /// Deletes an object, or a group with its routes.
    fn delete(&mut self, id: u32) {
        self.members.remove(&id);
        self.groups.remove(&id);
        for members in self.groups.values_mut() {
            members.retain(|(member, _)| *member != id);
        }
        self.groups.retain(|_, members| !members.is_empty());
        let groups = &self.groups;
        self.routes.retain(|_, route| match route.way {
            Way::Group(id) => groups.contains_key(&id),
            Way::Plain(_) => true,
        });
    }

    fn carrier(&mut self, link: u32, up: bool) {
        if up {
            self.dead.remove(&link);
            return;
        }
        self.dead.insert(link);
        let over = self.members.iter().filter(|(_, m)| m.ifindex == link);
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.delete(id);
        }
    }

    fn objects(&self) -> Vec<NextHopObject> {
        let object = |id: &u32, body| NextHopObject {
            id: *id,
            protocol: PROTOCOL,
            body,
        };
        let members = self.members.iter();
        let members = members.map(|(id, member)| object(id, NextHopBody::Member(*member)));
        let groups = self.groups.iter();
        let groups = groups
            .map(|(id, members)| object(id, NextHopBody::Group(SmallVec::from_slice(members))));
        members.chain(groups).collect()
    }

    /// Where packets to a prefix go.
    fn forwards(&self, key: &RouteKey) -> Option<RouteKind> {
        match &self.routes.get(key)?.way {
            Way::Plain(kind) => Some(kind.clone()),
            Way::Group(id) => {
                let hop = |(id, weight): &(u32, u16)| NextHop {
                    gateway: self.members[id].gateway,
                    ifindex: Some(self.members[id].ifindex),
                    weight: *weight,
                };
                Some(RouteKind::Via(self.groups[id].iter().map(hop).collect()))
            }
        }
    }
}

/// Ledger and kernel, and what of the links the ledger's side has heard.
struct Both {
    ledger: Ledger,
    kernel: Kernel,
    heard_dead: BTreeSet<u32>,
}

impl Both {
    fn new() -> Self {
        Both {
            ledger: Ledger::new([]),
            kernel: Kernel::default(),
            heard_dead: BTreeSet::new(),
        }
    }

    fn reconcile(&mut self, keys: &BTreeSet<RouteKey>, at_leisure: bool) {
        let heard = self.heard_dead.clone();
        let conditions = Conditions {
            dead: &|link| heard.contains(&link),
            at_leisure,
        };
        let plan = self.ledger.plan(keys, conditions);
        let mut refused = BTreeSet::new();
        for op in plan.next_hops {
            if let Err(reason) = self.kernel.next_hop(&op) {
                self.ledger
                    .next_hop_refused(&op, reason == "exists", reason);
                refused.insert(op.id());
            }
        }
        for op in plan.routes {
            let answer = match op.group() {
                Some(id) if refused.contains(&id) => Err("refused"),
                _ => self.kernel.route(&op),
            };
            let gone = matches!(op, Op::Delete(_)) && answer == Err("no route");
            let answer = if gone { Ok(()) } else { answer };
            self.ledger.done(op, answer.map_err(str::to_owned));
        }
        for op in self.ledger.collect_next_hops(|_| false) {
            self.kernel.next_hop(&op).unwrap();
        }
    }

    fn apply(&mut self, changes: Vec<RouteChange>) {
        let keys = self.ledger.apply(changes);
        self.reconcile(&keys, false);
    }

    fn hear(&mut self, link: u32) {
        if self.kernel.dead.contains(&link) {
            self.heard_dead.insert(link);
            self.ledger.link_lost(link);
        } else {
            self.heard_dead.remove(&link);
        }
        let keys = self.ledger.shared_over(link);
        self.reconcile(&keys, false);
    }

    fn audit(&mut self, at_leisure: bool) {
        let objects = self.kernel.objects();
        let mut keys = self.ledger.observe_next_hops(&objects, PROTOCOL);
        let routes = self.kernel.routes.iter();
        let routes = routes.map(|(key, route)| (*key, Believed::Exact(route.clone())));
        keys.append(&mut self.ledger.observe(routes.collect::<Vec<_>>()));
        if at_leisure {
            keys.append(&mut self.ledger.through_one());
        }
        self.reconcile(&keys, at_leisure);
    }

    /// Requests since the last time: about routes, and about next-hop objects.
    fn written(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.kernel.written)
    }
}

fn hop(link: u32, weight: u16) -> NextHop {
    NextHop {
        gateway: std::net::Ipv4Addr::from(0x0a00_0000 + link).into(),
        ifindex: Some(link),
        weight,
    }
}

fn spec(prefix: u8, hops: &[NextHop]) -> RouteSpec {
    RouteSpec {
        prefix: format!("10.1.{prefix}.0/24").parse().unwrap(),
        kind: RouteKind::Via(SmallVec::from_slice(hops)),
        prefsrc: None,
        metric: 20,
    }
}

/// Wants of all prefixes from 0.
fn all(hops: &[NextHop]) -> Vec<RouteChange> {
    let want = |prefix| RouteChange::want(Source::Bgp, spec(prefix, hops));
    (0..100).map(want).collect()
}

#[test]
fn one_request_moves_all_routes_of_a_set() {
    let mut both = Both::new();
    both.apply(all(&[hop(1, 1), hop(2, 1)]));
    assert_eq!(both.written(), (100, 3));
    both.apply(all(&[hop(1, 1), hop(3, 1)]));
    assert_eq!(
        both.written(),
        (0, 3),
        "a member, the group, the old member"
    );
    both.apply(all(&[hop(1, 1), hop(3, 7)]));
    assert_eq!(both.written(), (0, 1), "weights");
    both.apply(all(&[hop(3, 1)]));
    assert_eq!(both.written(), (0, 2), "a group of one, for now");
    both.audit(true);
    assert_eq!(both.written(), (100, 2), "plain routes at leisure");
}

#[test]
fn a_lost_link_costs_nothing_and_its_return_one_group() {
    let mut both = Both::new();
    both.apply(all(&[hop(1, 1), hop(2, 1)]));
    both.written();
    both.kernel.carrier(1, false);
    both.hear(1);
    assert_eq!(both.written(), (0, 0));
    both.kernel.carrier(1, true);
    both.hear(1);
    assert_eq!(both.written(), (0, 2), "the member and the group");
}

/// Only some routes of a group want another set: the group stays what it is for the others.
#[test]
fn a_group_does_not_move_for_some_of_its_routes() {
    let mut both = Both::new();
    both.apply(all(&[hop(1, 1), hop(2, 1)]));
    both.written();
    let some = all(&[hop(1, 1), hop(3, 1)]).split_off(50);
    both.apply(some);
    assert_eq!(both.written(), (50, 2));
    let kept = spec(0, &[hop(1, 1), hop(2, 1)]);
    assert_eq!(both.kernel.forwards(&kept.key()), Some(kept.kind));
}

#[derive(Clone, Debug)]
enum Step {
    Want(u8, Vec<NextHop>),
    Withdraw(u8),
    /// A link loses or finds its carrier; the second says whether that is heard of.
    Carrier(u32, bool, bool),
    /// Somebody deletes the object in this place of the list.
    Vandal(usize),
    Audit(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let hops = prop::collection::vec((1u32..5, 0u16..4), 1..4)
        .prop_map(|hops| hops.into_iter().map(|(l, w)| hop(l, w)).collect());
    prop_oneof![
        6 => (0u8..30, hops).prop_map(|(prefix, hops)| Step::Want(prefix, hops)),
        2 => (0u8..30).prop_map(Step::Withdraw),
        2 => (1u32..5, any::<bool>(), any::<bool>()).prop_map(|(l, up, heard)| Step::Carrier(l, up, heard)),
        1 => (0usize..9).prop_map(Step::Vandal),
        1 => any::<bool>().prop_map(Step::Audit),
    ]
}

proptest! {
    /// After all was heard of and audited, packets go to the live next hops of each wanted route and nothing is left over.
    #[test]
    fn converges_to_what_is_wanted(steps in prop::collection::vec(step(), 0..60)) {
        let mut both = Both::new();
        let mut wants: BTreeMap<RouteKey, RouteSpec> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Want(prefix, hops) => {
                    let spec = spec(prefix, &hops);
                    wants.insert(spec.key(), spec.clone());
                    both.apply(vec![RouteChange::want(Source::Bgp, spec)]);
                }
                Step::Withdraw(prefix) => {
                    let spec = spec(prefix, &[]);
                    wants.remove(&spec.key());
                    both.apply(vec![RouteChange::withdraw(Source::Bgp, spec.prefix)]);
                }
                Step::Carrier(link, up, heard) => {
                    both.kernel.carrier(link, up);
                    if heard {
                        both.hear(link);
                    }
                }
                Step::Vandal(at) => {
                    let id = both.kernel.objects().get(at).map(|object| object.id);
                    if let Some(id) = id {
                        both.kernel.delete(id);
                    }
                    // The writer hears of it and audits before it plans on.
                    both.audit(false);
                }
                Step::Audit(at_leisure) => both.audit(at_leisure),
            }
        }
        for link in 1..5 {
            both.hear(link);
        }
        both.audit(true);
        both.audit(true);
        let dead = both.kernel.dead.clone();
        let is_dead = |link: u32| dead.contains(&link);
        prop_assert_eq!(both.kernel.routes.len(), wants.len());
        let mut sets: BTreeSet<Content> = BTreeSet::new();
        for (key, spec) in &wants {
            let found = both.kernel.forwards(key);
            let wanted = content_of(&spec.kind, &is_dead);
            let alive = |kind: &RouteKind| content_of(kind, &is_dead);
            prop_assert_eq!(found.as_ref().and_then(alive), wanted.clone(), "{:?} for {:?}", found, spec);
            let through_group = matches!(both.kernel.routes[key].way, Way::Group(_));
            let several = wanted.as_ref().is_some_and(|content| content.len() > 1);
            prop_assert_eq!(through_group, several);
            sets.extend(wanted.filter(|content| content.len() > 1));
        }
        let members: BTreeSet<Member> = sets.iter().flatten().map(|(member, _)| *member).collect();
        prop_assert_eq!(both.kernel.members.len(), members.len());
        both.written();
        both.audit(true);
        prop_assert_eq!(both.written(), (0, 0));
    }
}
