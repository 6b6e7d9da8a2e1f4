//! Group output equals per-peer output, with and without ADD-PATH, whatever happens in whatever order.

use proptest::prelude::*;

use super::*;

/// Peers 1 to 3 are external, 4 and 5 internal; 2 to 5 take several paths, 3 of IPv4 alone. All send several.
const PEERS: std::ops::Range<u64> = 1..6;
const NETS: std::ops::Range<u32> = 0..13;

#[derive(Clone, Debug)]
enum Op {
    Announce(u64, Net, u8, u32),
    Withdraw(u64, Net),
    Local(u32, bool),
    Down(u64, bool),
    Permit(u64, u32),
    NextHop(u8, Option<u32>),
    Refresh(u64, bool),
    /// The peer repeats these prefixes between BoRR and EoRR, or forgets the EoRR.
    Repeat(u64, Vec<Net>, bool),
    /// Export policy of a peer: everything, or own routes; and which paths.
    Export(u64, bool, PathSelection),
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
/// A prefix by number, and a path identifier.
type Net = (u32, u32);

fn op() -> impl Strategy<Value = Op> {
    let net = || (NETS, 0u32..3);
    let selection = prop_oneof![
        (1u8..4).prop_map(PathSelection::Best),
        Just(PathSelection::All),
    ];
    prop_oneof![
        8 => (PEERS, net(), 1u8..4, 0u32..3).prop_map(|(p, n, h, v)| Op::Announce(p, n, h, v)),
        4 => (PEERS, net()).prop_map(|(p, n)| Op::Withdraw(p, n)),
        1 => (NETS, any::<bool>()).prop_map(|(n, on)| Op::Local(n, on)),
        1 => (PEERS, any::<bool>()).prop_map(|(p, retain)| Op::Down(p, retain)),
        3 => (PEERS, 0u32..4).prop_map(|(p, n)| Op::Permit(p, n)),
        2 => (1u8..4, prop::option::of(0u32..3)).prop_map(|(h, c)| Op::NextHop(h, c)),
        1 => (PEERS, any::<bool>()).prop_map(|(p, v4)| Op::Refresh(p, v4)),
        1 => (PEERS, prop::collection::vec(net(), 0..4), any::<bool>())
            .prop_map(|(p, n, end)| Op::Repeat(p, n, end)),
        1 => (PEERS, any::<bool>(), selection).prop_map(|(p, all, paths)| Op::Export(p, all, paths)),
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
    let selection = PathSelection::Best(1 + (peer % 3) as u8);
    PeerUp {
        encode: EncodeContext {
            add_path: [peer > 1, peer > 1 && peer != 3],
            ..encode()
        },
        relation: Relation {
            add_path: [selection; 2],
            ..Relation::default()
        },
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

fn update((n, path_id): Net, attributes: Option<(PathAttributes, NextHop)>) -> Vec<FamilyUpdate> {
    let prefix = net(n);
    let nlri = vec![Nlri { path_id, prefix }];
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

/// A peer, and its path identifier.
type Source = (u64, u32);

/// A community that names the source of a path.
fn mark((peer, path_id): Source) -> u32 {
    (peer as u32) << 16 | path_id
}

/// Best path, the best of the others, and so on.
fn best_first(mut paths: Vec<best::Candidate>) -> Vec<usize> {
    let mut order = Vec::new();
    loop {
        let verdicts = best::explain(&paths);
        let best = verdicts.iter().position(|v| matches!(v, Verdict::Best(_)));
        let Some(best) = best else { return order };
        paths[best].ineligible = Some(Ineligible::Filtered);
        order.push(best);
    }
}

/// Who each session belongs to, and what it was told to export.
struct Model {
    sessions: BTreeMap<u64, u64>,
    exports_all: BTreeMap<u64, bool>,
    defaults: BTreeMap<u64, DefaultOriginate>,
    /// Aggregates that are sent in place of what is inside.
    summaries: Vec<IpNet>,
    selections: BTreeMap<u64, PathSelection>,
    generation: u64,
}

impl Model {
    fn events(&mut self, op: Op) -> Vec<Event> {
        let session = |p: u64| SessionId(self.sessions[&p]);
        let announce = |p: u64, n: Net, h: u8, v: u32| {
            let path = [65000 + p as u32, 65100 + v];
            let attributes = attributes(&path[..1 + (v as usize % 2)], Some(v));
            let marked = attributes.edit().set_communities(&[mark((p, n.1))]).build();
            Event::Update(session(p), update(n, Some((marked, hop(&net(n.0), h)))))
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
                self.selections.insert(p, config(p).relation.add_path[0]);
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
            Op::Export(p, all, selection) => {
                self.exports_all.insert(p, all);
                self.selections.insert(p, selection);
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
            add_path: [self.selections[&p]; 2],
            ..Relation::default()
        };
        let session = SessionId(self.sessions[&p]);
        let chains = (config(p).import, Chain::new(&[export]));
        Event::Policies(session, chains.0, chains.1, relation)
    }

    /// Whether an aggregate is sent in its place.
    fn is_suppressed(&self, prefix: &IpNet) -> bool {
        let mut summaries = self.summaries.iter();
        summaries.any(|summary| summary.contains(prefix) && summary != prefix)
    }

    /// What a peer must have been sent, by the rules applied to each prefix by itself: whose paths.
    fn expected(&self, bench: &Bench, peer: u64) -> Vec<(IpNet, Option<Source>)> {
        let mut expected = Vec::new();
        for state in &bench.rib.tables {
            let several = config(peer).encode.add_path[state.key.1.index()];
            let selection = match several {
                true => self.selections[&peer],
                false => PathSelection::Best(1),
            };
            let entries = state.table.ids();
            for (_, entry) in entries.filter(|(_, e)| !self.is_suppressed(&e.prefix)) {
                let ranked = best_first(bench.rib.candidates(entry).to_vec());
                let taken = match selection {
                    PathSelection::Best(n) => usize::from(n),
                    PathSelection::All => ranked.len(),
                };
                for i in ranked.into_iter().take(taken) {
                    let path = &entry.paths[i];
                    let source = bench.rib.peers.get(path.peer).map(|p| &p.up.name);
                    let source = source.map(|name| name[1..].parse::<u64>().unwrap());
                    let goes = source.is_none_or(|source| {
                        source != peer
                            && self.exports_all[&peer]
                            && !(is_ibgp(source) && is_ibgp(peer))
                    });
                    let route = (entry.prefix, source.map(|source| (source, path.path_id)));
                    expected.extend(goes.then_some(route));
                }
            }
        }
        if let Some(when) = self.defaults.get(&peer) {
            let paths = bench.rib.paths(T, Some(&default_route()));
            let mut best = paths
                .iter()
                .filter(|p| matches!(p.verdict, Verdict::Best(_)));
            let from_others = best.any(|p| p.peer != Some(format!("p{peer}").into()));
            expected.retain(|(prefix, _)| *prefix != default_route());
            if from_others || *when == DefaultOriginate::Always {
                expected.push((default_route(), None));
            }
        }
        expected.sort();
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
            selections: PEERS.map(|peer| (peer, config(peer).relation.add_path[0])).collect(),
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
                bench.note(&event);
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
            let sent = bench.paths.get(session).into_iter().flatten();
            let mut sent: Vec<_> = sent.map(|((prefix, _), (attributes, _))| {
                let mark = attributes.communities().next();
                (*prefix, mark.map(|mark| (u64::from(mark >> 16), mark & 0xffff)))
            }).collect();
            sent.sort();
            prop_assert_eq!(&sent, &expected, "peer {}", peer);
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
