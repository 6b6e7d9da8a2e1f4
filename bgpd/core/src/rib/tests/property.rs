//! Group output equals per-peer output, whatever happens in whatever order.

use proptest::prelude::*;

use super::*;

/// Peers 1 to 3 are external, 4 and 5 internal.
const PEERS: std::ops::Range<u64> = 1..6;
const NETS: std::ops::Range<u32> = 0..13;

#[derive(Clone, Debug)]
enum Op {
    Announce(u64, u32, u8, u32),
    Withdraw(u64, u32),
    Local(u32, bool),
    Down(u64, bool),
    Permit(u64, u32),
    NextHop(u8, Option<u32>),
    Refresh(u64, bool),
    /// The peer repeats these prefixes between BoRR and EoRR, or forgets the EoRR.
    Repeat(u64, Vec<u32>, bool),
    /// Export policy of a peer: everything, or own routes.
    Export(u64, bool),
    /// Whether a peer asks for a default route of ours.
    Default(u64, Option<DefaultOriginate>),
    /// Whether the import policy of everybody lets IPv4 prefixes in, which is all that `default` measures here.
    Pools(bool),
    /// Which of [`AGGREGATES`], and whether they hold back what is inside.
    Aggregates(Vec<(usize, bool)>),
    Work,
}

const AGGREGATES: [&str; 5] = [
    "10.0.0.0/23",
    "10.0.0.0/22",
    "10.0.0.0/8",
    "10.0.3.0/24",
    "2001:db8::/40",
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (PEERS, NETS, 1u8..4, 0u32..3).prop_map(|(p, n, h, v)| Op::Announce(p, n, h, v)),
        4 => (PEERS, NETS).prop_map(|(p, n)| Op::Withdraw(p, n)),
        1 => (NETS, any::<bool>()).prop_map(|(n, on)| Op::Local(n, on)),
        1 => (PEERS, any::<bool>()).prop_map(|(p, retain)| Op::Down(p, retain)),
        3 => (PEERS, 0u32..4).prop_map(|(p, n)| Op::Permit(p, n)),
        2 => (1u8..4, prop::option::of(0u32..3)).prop_map(|(h, c)| Op::NextHop(h, c)),
        1 => (PEERS, any::<bool>()).prop_map(|(p, v4)| Op::Refresh(p, v4)),
        1 => (PEERS, prop::collection::vec(NETS, 0..4), any::<bool>())
            .prop_map(|(p, n, end)| Op::Repeat(p, n, end)),
        1 => (PEERS, any::<bool>()).prop_map(|(p, all)| Op::Export(p, all)),
        1 => (PEERS, prop::option::of(prop_oneof![
            Just(DefaultOriginate::Always),
            Just(DefaultOriginate::IfPresent),
        ])).prop_map(|(p, when)| Op::Default(p, when)),
        1 => any::<bool>().prop_map(Op::Pools),
        1 => prop::collection::btree_map(0..AGGREGATES.len(), any::<bool>(), 0..4)
            .prop_map(|chosen| Op::Aggregates(chosen.into_iter().collect())),
        3 => Just(Op::Work),
    ]
}

/// Four are IPv6, the last is the default route.
fn net(n: u32) -> IpNet {
    match n {
        0..8 => prefix(n),
        12 => default_route(),
        _ => format!("2001:db8:{n:x}::/48").parse().unwrap(),
    }
}

fn default_route() -> IpNet {
    "0.0.0.0/0".parse().unwrap()
}

fn hop(prefix: &IpNet, h: u8) -> NextHop {
    match prefix {
        IpNet::V4(_) => next_hop(h),
        IpNet::V6(_) => NextHop::V6 {
            global: format!("2001:db8::{h:x}").parse().unwrap(),
            link_local: None,
        },
    }
}

fn is_ibgp(peer: u64) -> bool {
    peer > 3
}

fn config(peer: u64) -> PeerUp {
    PeerUp {
        import: Chain::new(&[if peer == 2 {
            Builtin::Default
        } else {
            Builtin::AcceptAll
        }]),
        ..up(
            peer,
            if is_ibgp(peer) {
                65000
            } else {
                65000 + peer as u32
            },
        )
    }
}

fn update(n: u32, attributes: Option<(PathAttributes, NextHop)>) -> Vec<FamilyUpdate> {
    let nlri = vec![Nlri::new(net(n))];
    let (announced, withdrawn) = match attributes {
        Some(_) => (nlri, vec![]),
        None => (vec![], nlri),
    };
    vec![FamilyUpdate {
        family: Family::of(&net(n)),
        withdrawn,
        announced,
        attributes,
    }]
}

/// Who each session belongs to, and what it was told to export.
struct Model {
    sessions: BTreeMap<u64, u64>,
    exports_all: BTreeMap<u64, bool>,
    defaults: BTreeMap<u64, DefaultOriginate>,
    /// Aggregates that are sent in place of what is inside.
    summaries: Vec<IpNet>,
    generation: u64,
}

impl Model {
    fn events(&mut self, op: Op) -> Vec<Event> {
        let session = |p: u64| SessionId(self.sessions[&p]);
        let announce = |p: u64, n: u32, h: u8, v: u32| {
            let path = [65000 + p as u32, 65100 + v];
            let attributes = attributes(&path[..1 + (v as usize % 2)], Some(v));
            Event::Update(session(p), update(n, Some((attributes, hop(&net(n), h)))))
        };
        let family = |n: u32| Family::of(&net(n));
        match op {
            Op::Announce(p, n, h, v) => vec![announce(p, n, h, v)],
            Op::Withdraw(p, n) => vec![Event::Update(session(p), update(n, None))],
            Op::Local(n, on) => vec![Event::Local(
                T,
                vec![(net(n), on.then(|| RouteSource::Static.into()))],
            )],
            Op::Down(p, retain) => {
                let how = if retain {
                    PeerDown::Retain { until: 50 }
                } else {
                    PeerDown::Purge
                };
                let down = Event::PeerDown(session(p), how);
                self.generation += 1;
                // Session ids are used once.
                let next = self.generation * 10 + p;
                self.sessions.insert(p, next);
                self.exports_all.insert(p, true);
                self.defaults.remove(&p);
                let up = PeerUp {
                    session: SessionId(next),
                    ..config(p)
                };
                vec![down, Event::PeerUp(Box::new(up))]
            }
            Op::Permit(p, n) => vec![Event::Permit(session(p), n)],
            Op::NextHop(h, cost) => {
                let state = cost.map_or(NextHopState::Unresolved, |igp_cost| {
                    NextHopState::Resolved { igp_cost }
                });
                let both = [0, 11].map(|n| (hop(&net(n), h), state));
                vec![Event::NextHops(both.to_vec())]
            }
            Op::Refresh(p, v4) => vec![Event::RefreshRequest(
                session(p),
                family(if v4 { 0 } else { 11 }),
            )],
            Op::Repeat(p, nets, end) => {
                let mut events = vec![Event::RefreshBegin(session(p), Family::Ipv4Unicast)];
                events.extend(nets.into_iter().map(|n| announce(p, n, 1, 0)));
                events.extend(end.then(|| Event::RefreshEnd(session(p), Family::Ipv4Unicast)));
                events
            }
            Op::Export(p, all) => {
                self.exports_all.insert(p, all);
                vec![self.policies(p)]
            }
            Op::Default(p, when) => {
                self.defaults.remove(&p);
                self.defaults.extend(when.map(|when| (p, when)));
                vec![self.policies(p)]
            }
            Op::Pools(on) => vec![Event::ImportContext(ImportContext {
                pools: on
                    .then(|| "10.0.0.0/8".parse().unwrap())
                    .into_iter()
                    .collect(),
                ..Default::default()
            })],
            Op::Aggregates(chosen) => {
                let aggregate = |(i, summary_only): (usize, bool)| Aggregate {
                    prefix: AGGREGATES[i].parse().unwrap(),
                    summary_only,
                };
                let chosen: Vec<Aggregate> = chosen.into_iter().map(aggregate).collect();
                let summaries = chosen.iter().filter(|a| a.summary_only);
                self.summaries = summaries.map(|a| a.prefix).collect();
                vec![Event::Aggregates(T, chosen)]
            }
            Op::Work => vec![],
        }
    }

    fn policies(&self, p: u64) -> Event {
        let export = match self.exports_all[&p] {
            true => Builtin::AcceptAll,
            false => Builtin::Default,
        };
        let relation = Relation {
            default_originate: [self.defaults.get(&p).copied(), None],
            ..Relation::default()
        };
        let session = SessionId(self.sessions[&p]);
        let chains = (config(p).import, Chain::new(&[export]));
        Event::Policies(session, chains.0, chains.1, relation)
    }

    fn is_suppressed(&self, prefix: &IpNet) -> bool {
        let mut summaries = self.summaries.iter();
        summaries.any(|summary| summary.contains(prefix) && summary != prefix)
    }

    /// What a peer must have been sent, by the rules applied to each prefix by itself: the first AS behind ours.
    fn expected(&self, bench: &Bench, peer: u64) -> BTreeMap<IpNet, Option<u32>> {
        let best = bench.rib.paths(T, None).into_iter();
        let mut expected: BTreeMap<_, _> = best
            .filter(|path| matches!(path.verdict, Verdict::Best(_)))
            .filter(|path| !self.is_suppressed(&path.prefix))
            .map(|path| {
                (
                    path.prefix,
                    path.peer.map(|name| name[1..].parse::<u64>().unwrap()),
                )
            })
            .filter(|(_, source)| match source {
                None => true,
                Some(source) => {
                    *source != peer
                        && self.exports_all[&peer]
                        && !(is_ibgp(*source) && is_ibgp(peer))
                }
            })
            .map(|(prefix, source)| (prefix, source.map(|source| 65000 + source as u32)))
            .collect();
        if let Some(when) = self.defaults.get(&peer) {
            let paths = bench.rib.paths(T, Some(&default_route()));
            let mut best = paths
                .iter()
                .filter(|p| matches!(p.verdict, Verdict::Best(_)));
            let from_others = best.any(|p| p.peer != Some(format!("p{peer}").into()));
            match from_others || *when == DefaultOriginate::Always {
                true => expected.insert(default_route(), None),
                false => expected.remove(&default_route()),
            };
        }
        expected
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    /// Whatever the order of events and however slow the peers: when all is quiet, every peer has exactly what the
    /// rules give it prefix by prefix, the kernel has the learned best paths, and nothing is left when all are gone.
    #[test]
    fn group_output_equals_per_peer_output(ops in prop::collection::vec(op(), 1..120)) {
        let mut bench = Bench::new();
        let mut model = Model {
            sessions: PEERS.map(|peer| (peer, peer)).collect(),
            exports_all: PEERS.map(|peer| (peer, true)).collect(),
            defaults: BTreeMap::new(),
            summaries: vec![],
            generation: 0,
        };
        for peer in PEERS {
            bench.event(Event::PeerUp(Box::new(config(peer))));
        }
        for op in ops {
            let mut out = Vec::new();
            if matches!(op, Op::Work) {
                bench.rib.work(&mut out);
            }
            for event in model.events(op) {
                bench.rib.handle(1, event, &mut out);
            }
            out.into_iter().for_each(|output| bench.take(output));
            bench.rib.check();
        }
        bench.now = 60;
        bench.event(Event::Tick);
        for session in model.sessions.values() {
            bench.event(Event::Permit(SessionId(*session), 1_000_000));
        }
        for (peer, session) in &model.sessions {
            let expected = model.expected(&bench, *peer);
            let sent = bench.sent.get(session).into_iter().flatten().map(|(prefix, (attributes, _))| {
                let behind_us = usize::from(!is_ibgp(*peer));
                (*prefix, attributes.as_path().asns().nth(behind_us))
            });
            prop_assert_eq!(sent.collect::<BTreeMap<_, _>>(), expected.clone(), "peer {}", peer);
            let counters = bench.rib.counters(SessionId(*session)).map(|c| c.unwrap().advertised);
            prop_assert_eq!(counters[0] + counters[1], expected.len() as u64);
        }
        let learned: BTreeMap<IpNet, NextHop> = bench.rib.paths(T, None).into_iter()
            .filter(|p| matches!(p.verdict, Verdict::Best(_)))
            .filter_map(|p| p.next_hop.map(|n| (p.prefix, n)))
            .collect();
        prop_assert_eq!(&bench.fib, &learned);

        for session in model.sessions.values() {
            bench.event(Event::PeerDown(SessionId(*session), PeerDown::Purge));
        }
        let gone = NETS.map(|n| (net(n), None)).collect();
        bench.event(Event::Local(T, gone));
        prop_assert_eq!(bench.rib.summary(), RibSummary::default());
        prop_assert!(bench.tracked.is_empty() && bench.fib.is_empty());
    }
}
