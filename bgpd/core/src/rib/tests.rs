//! Scenarios over a whole RIB, and the property that group output equals per-peer output.

use std::collections::BTreeMap;

use bgp_wire::{
    AttributeEditor, DecodeContext, EncodeContext, Family, MAX_MESSAGE_LEN, NextHop, Nlri, Origin,
    PathAttributes, decode_update, frame,
};
use ipnet::IpNet;
use proptest::prelude::*;

use super::best::{Ineligible, Step, Verdict};
use super::*;
use crate::policy::{Builtin, RouteSource};

const T: TableId = TableId(0);

fn encode() -> EncodeContext {
    EncodeContext {
        four_octet_as: true,
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: false,
    }
}

fn up(session: u64, remote_as: u32) -> PeerUp {
    PeerUp {
        session: SessionId(session),
        name: format!("p{session}").into(),
        table: T,
        remote_as,
        local_as: 65000,
        bgp_id: Ipv4Addr::from(session as u32),
        address: Ipv4Addr::from(0xc000_0200 + session as u32).into(),
        families: [true; 2],
        next_hop_self: [
            Some(NextHop::V4(Ipv4Addr::from(0x0a00_0000 + session as u32))),
            Some(NextHop::V6 {
                global: "2001:db8::1".parse().unwrap(),
                link_local: None,
            }),
        ],
        encode: encode(),
        import: Chain::new(&[Builtin::AcceptAll]),
        export: Chain::new(&[Builtin::AcceptAll]),
    }
}

fn attributes(path: &[u32], med: Option<u32>) -> PathAttributes {
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor.set_as_path_sequence(path).set_med(med);
    editor.build()
}

fn next_hop(n: u8) -> NextHop {
    NextHop::V4(Ipv4Addr::new(192, 0, 2, n))
}

fn prefix(n: u32) -> IpNet {
    format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap()
}

/// A RIB with decoded views of what each session was sent.
struct Bench {
    rib: Rib,
    sent: BTreeMap<u64, BTreeMap<IpNet, (PathAttributes, NextHop)>>,
    end_of_rib: BTreeMap<u64, usize>,
    messages: BTreeMap<u64, usize>,
    fib: BTreeMap<IpNet, NextHop>,
    tracked: BTreeMap<NextHop, ()>,
    now: u32,
}

impl Bench {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(assume_next_hops: bool) -> Self {
        Self {
            rib: Rib::new(RibConfig {
                local_as: 65000,
                router_id: Ipv4Addr::new(10, 255, 0, 1),
                seed: 1,
                assume_next_hops,
            }),
            sent: BTreeMap::new(),
            end_of_rib: BTreeMap::new(),
            messages: BTreeMap::new(),
            fib: BTreeMap::new(),
            tracked: BTreeMap::new(),
            now: 1,
        }
    }

    fn event(&mut self, event: Event) {
        let mut out = Vec::new();
        self.rib.settle(self.now, event, &mut out);
        for output in out {
            self.take(output);
        }
        self.rib.check();
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send(session, message) => self.receive(session.0, &message),
            Output::Fib(change) => {
                match change.next_hop {
                    Some(next_hop) => self.fib.insert(change.prefix, next_hop),
                    None => self.fib.remove(&change.prefix),
                };
            }
            Output::Track(next_hop) => {
                assert_eq!(self.tracked.insert(next_hop, ()), None, "tracked twice")
            }
            Output::Untrack(next_hop) => {
                assert!(self.tracked.remove(&next_hop).is_some(), "untracked twice")
            }
        }
    }

    fn receive(&mut self, session: u64, message: &OutMessage) {
        let context = DecodeContext {
            four_octet_as: true,
            ebgp: false,
            add_path: [false; 2],
            families: [true; 2],
            extended_next_hop: false,
        };
        *self.messages.entry(session).or_default() += 1;
        let mut bytes = message.bytes.to_vec();
        if let Some((at, len)) = message.next_hop_at {
            bytes[at..at + len].fill(7);
        }
        let found = frame(&bytes, MAX_MESSAGE_LEN).unwrap().unwrap();
        assert_eq!(found.len, bytes.len());
        let update = decode_update(found.body, &context);
        assert_eq!(update.faults.len(), 0, "{:?}", update.faults);
        if update.end_of_rib().is_some() {
            *self.end_of_rib.entry(session).or_default() += 1;
            return;
        }
        let view = self.sent.entry(session).or_default();
        let withdrawn = update
            .withdrawn
            .iter()
            .chain(update.mp_unreach.iter().flat_map(|n| n.iter()));
        for nlri in withdrawn {
            view.remove(&nlri.prefix);
        }
        if let Some(attributes) = update.attributes {
            let mp = update.mp_reach.map(|mp| (mp.next_hop, mp.nlri));
            if let Some((next_hop, nlri)) = mp {
                view.extend(
                    nlri.iter()
                        .map(|n| (n.prefix, (attributes.clone(), next_hop))),
                );
            }
            if let Some(next_hop) = update.next_hop {
                let next_hop = NextHop::V4(next_hop);
                view.extend(
                    update
                        .announced
                        .iter()
                        .map(|n| (n.prefix, (attributes.clone(), next_hop))),
                );
            }
        }
    }

    fn up(&mut self, up: PeerUp) {
        let session = up.session;
        self.event(Event::PeerUp(Box::new(up)));
        self.event(Event::Permit(session, u32::MAX));
    }

    fn announce(
        &mut self,
        session: u64,
        prefixes: &[IpNet],
        attributes: &PathAttributes,
        next_hop: NextHop,
    ) {
        self.event(Event::Update(
            SessionId(session),
            vec![FamilyUpdate {
                family: Family::of(&prefixes[0]),
                withdrawn: vec![],
                announced: prefixes
                    .iter()
                    .map(|p| Nlri {
                        path_id: 0,
                        prefix: *p,
                    })
                    .collect(),
                attributes: Some((attributes.clone(), next_hop)),
            }],
        ));
    }

    fn withdraw(&mut self, session: u64, prefixes: &[IpNet]) {
        self.event(Event::Update(
            SessionId(session),
            vec![FamilyUpdate {
                family: Family::of(&prefixes[0]),
                withdrawn: prefixes
                    .iter()
                    .map(|p| Nlri {
                        path_id: 0,
                        prefix: *p,
                    })
                    .collect(),
                announced: vec![],
                attributes: None,
            }],
        ));
    }

    fn resolve(&mut self, next_hop: NextHop, igp_cost: u32) {
        self.event(Event::NextHops(vec![(
            next_hop,
            NextHopState::Resolved { igp_cost },
        )]));
    }

    fn has(&self, session: u64, prefix: &IpNet) -> bool {
        self.sent
            .get(&session)
            .is_some_and(|v| v.contains_key(prefix))
    }

    /// What a session must have been sent, by the rules applied to each prefix by itself.
    fn expected(&self, session: u64) -> BTreeMap<IpNet, Option<String>> {
        let name = format!("p{session}");
        let best = self
            .rib
            .paths(T, None)
            .into_iter()
            .filter(|p| matches!(p.verdict, Verdict::Best(_)));
        best.filter(|p| p.peer.as_deref() != Some(name.as_str()))
            .map(|p| (p.prefix, p.peer.map(|peer| peer.to_string())))
            .collect()
    }
}

#[test]
fn a_route_travels_to_the_other_peer_and_to_the_kernel() {
    let mut bench = Bench::new();
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    assert_eq!(
        bench.end_of_rib,
        BTreeMap::from([(1, 2), (2, 2)]),
        "one End-of-RIB per family"
    );
    bench.announce(1, &[prefix(1)], &attributes(&[65001], Some(5)), next_hop(1));
    assert_eq!(bench.tracked.len(), 1);
    assert!(bench.fib.is_empty(), "its next hop is not resolved yet");
    let verdict = bench.rib.paths(T, None)[0].verdict;
    assert_eq!(verdict, Verdict::Ineligible(Ineligible::NextHopUnreachable));

    bench.resolve(next_hop(1), 0);
    assert_eq!(bench.fib, BTreeMap::from([(prefix(1), next_hop(1))]));
    let (attributes, via) = &bench.sent[&2][&prefix(1)];
    assert_eq!(attributes.as_path().to_string(), "65000 65001");
    assert_eq!(
        attributes.hot().med,
        None,
        "a MED is for the neighbouring AS alone"
    );
    assert_eq!(
        *via,
        NextHop::V4(Ipv4Addr::new(7, 7, 7, 7)),
        "each session puts its own next hop in"
    );
    assert!(!bench.has(1, &prefix(1)), "not back to its source");

    bench.event(Event::NextHops(vec![(
        next_hop(1),
        NextHopState::Unresolved,
    )]));
    assert!(bench.fib.is_empty() && !bench.has(2, &prefix(1)));
    bench.resolve(next_hop(1), 0);
    bench.withdraw(1, &[prefix(1)]);
    assert!(bench.fib.is_empty() && !bench.has(2, &prefix(1)) && bench.tracked.is_empty());
    assert_eq!(bench.rib.summary().attribute_sets, 0);
}

#[test]
fn the_new_source_is_withdrawn_what_it_had() {
    let mut bench = Bench::with(true);
    for session in 1..=3 {
        bench.up(up(session, 65000 + session as u32));
    }
    bench.announce(
        1,
        &[prefix(1)],
        &attributes(&[65001, 65009], None),
        next_hop(1),
    );
    assert!(!bench.has(1, &prefix(1)) && bench.has(2, &prefix(1)) && bench.has(3, &prefix(1)));
    bench.announce(2, &[prefix(1)], &attributes(&[65002], None), next_hop(2));
    assert!(bench.has(1, &prefix(1)) && !bench.has(2, &prefix(1)) && bench.has(3, &prefix(1)));
    let verdicts: Vec<Verdict> = bench.rib.paths(T, None).iter().map(|p| p.verdict).collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Best(Some(Step::AsPathLength)),
            Verdict::Lost(Step::AsPathLength)
        ]
    );
    bench.event(Event::PeerDown(SessionId(2), PeerDown::Purge));
    assert!(!bench.has(1, &prefix(1)) && bench.has(3, &prefix(1)));
}

#[test]
fn local_routes_are_announced_with_next_hop_self_and_stay_out_of_the_kernel() {
    let mut bench = Bench::new();
    bench.up(PeerUp {
        export: Chain::new(&[Builtin::Default]),
        ..up(1, 65001)
    });
    let block: IpNet = "10.244.0.0/26".parse().unwrap();
    let block6: IpNet = "fd00:244::/122".parse().unwrap();
    bench.event(Event::Local(
        T,
        vec![
            (block, Some(RouteSource::OwnBlock)),
            (block6, Some(RouteSource::OwnBlock)),
        ],
    ));
    assert_eq!(bench.sent[&1][&block].0.as_path().to_string(), "65000");
    assert!(bench.has(1, &block6));
    assert!(bench.fib.is_empty());
    bench.up(PeerUp {
        export: Chain::new(&[Builtin::Default]),
        ..up(2, 65002)
    });
    assert!(
        bench.has(2, &block),
        "a peer that comes later is sent what is there"
    );
    bench.event(Event::Local(T, vec![(block, None)]));
    assert!(!bench.has(1, &block) && !bench.has(2, &block) && bench.has(2, &block6));
}

#[test]
fn loops_filters_and_default_export() {
    let mut bench = Bench::with(true);
    bench.event(Event::ImportContext(ImportContext {
        pools: vec!["10.1.0.0/16".parse().unwrap()],
        ..Default::default()
    }));
    let strict = Chain::new(&[Builtin::Default]);
    bench.up(PeerUp {
        import: strict.clone(),
        export: strict.clone(),
        ..up(1, 65001)
    });
    bench.up(PeerUp {
        import: strict.clone(),
        export: strict,
        ..up(2, 65002)
    });
    let inside: IpNet = "10.1.1.0/24".parse().unwrap();
    let outside: IpNet = "10.2.1.0/24".parse().unwrap();
    bench.announce(
        1,
        &[inside, outside],
        &attributes(&[65001], None),
        next_hop(1),
    );
    bench.announce(
        2,
        &[inside],
        &attributes(&[65002, 65000], None),
        next_hop(2),
    );
    let views = bench.rib.paths(T, None);
    let verdicts: Vec<(IpNet, Verdict)> = views.iter().map(|p| (p.prefix, p.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            (inside, Verdict::Best(None)),
            (inside, Verdict::Ineligible(Ineligible::Loop)),
            (outside, Verdict::Ineligible(Ineligible::Filtered)),
        ]
    );
    assert_eq!(bench.fib, BTreeMap::from([(inside, next_hop(1))]));
    assert!(
        !bench.has(2, &inside),
        "default export sends own routes only"
    );
    let counters = bench.rib.counters(SessionId(1))[0].unwrap();
    assert_eq!(
        (counters.received, counters.accepted, counters.advertised),
        (2, 1, 0)
    );

    bench.event(Event::ImportContext(ImportContext {
        pools: vec!["10.2.0.0/16".parse().unwrap()],
        ..Default::default()
    }));
    assert_eq!(
        bench.fib,
        BTreeMap::from([(outside, next_hop(1))]),
        "changed without a reset"
    );
}

#[test]
fn a_changed_export_policy_is_applied_without_a_reset() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    bench.event(Event::Local(
        T,
        vec![(prefix(9), Some(RouteSource::Static))],
    ));
    assert!(bench.has(2, &prefix(1)) && bench.has(2, &prefix(9)));
    let accept = Chain::new(&[Builtin::AcceptAll]);
    bench.event(Event::Policies(
        SessionId(2),
        accept.clone(),
        Chain::new(&[Builtin::Default]),
    ));
    assert!(!bench.has(2, &prefix(1)) && bench.has(2, &prefix(9)));
    bench.event(Event::Policies(SessionId(2), accept.clone(), accept));
    assert!(bench.has(2, &prefix(1)) && bench.has(2, &prefix(9)));
}

#[test]
fn ibgp_is_not_told_what_ibgp_said() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65000));
    bench.up(up(2, 65000));
    bench.up(up(3, 65003));
    bench.announce(1, &[prefix(1)], &attributes(&[65009], None), next_hop(1));
    assert!(!bench.has(2, &prefix(1)) && bench.has(3, &prefix(1)));
    bench.announce(3, &[prefix(2)], &attributes(&[65003], None), next_hop(3));
    let (attributes, via) = &bench.sent[&1][&prefix(2)];
    assert_eq!(attributes.as_path().to_string(), "65003");
    assert_eq!(attributes.hot().local_pref, Some(100));
    assert_eq!(*via, next_hop(3), "the next hop of a learned route stays");
}

#[test]
fn refresh_sweeps_what_was_not_repeated() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.announce(
        1,
        &[prefix(1), prefix(2)],
        &attributes(&[65001], None),
        next_hop(1),
    );
    bench.event(Event::RefreshBegin(SessionId(1), Family::Ipv4Unicast));
    assert!(bench.rib.paths(T, None).iter().all(|p| p.stale));
    bench.announce(1, &[prefix(2)], &attributes(&[65001], None), next_hop(1));
    bench.event(Event::RefreshEnd(SessionId(1), Family::Ipv4Unicast));
    assert_eq!(bench.fib.keys().collect::<Vec<_>>(), [&prefix(2)]);
}

#[test]
fn retained_paths_go_when_their_time_is_up_or_the_peer_is_through() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.announce(
        1,
        &[prefix(1), prefix(2)],
        &attributes(&[65001], None),
        next_hop(1),
    );
    bench.event(Event::PeerDown(
        SessionId(1),
        PeerDown::Retain { until: 100 },
    ));
    assert_eq!(bench.fib.len(), 2);
    assert_eq!(bench.rib.next_deadline(), Some(100));
    bench.now = 99;
    bench.event(Event::Tick);
    assert_eq!(bench.fib.len(), 2);
    let again = PeerUp {
        name: "p1".into(),
        ..up(7, 65001)
    };
    bench.up(again);
    bench.announce(7, &[prefix(2)], &attributes(&[65001], None), next_hop(1));
    for family in Family::ALL {
        bench.event(Event::EndOfRib(SessionId(7), family));
    }
    assert_eq!(bench.fib.keys().collect::<Vec<_>>(), [&prefix(2)]);
    bench.event(Event::PeerDown(
        SessionId(7),
        PeerDown::Retain { until: 200 },
    ));
    bench.now = 200;
    bench.event(Event::Tick);
    assert!(bench.fib.is_empty());
    assert_eq!(bench.rib.summary(), RibSummary::default());
}

#[test]
fn route_refresh_sends_all_again() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    bench.sent.clear();
    bench.event(Event::RefreshRequest(SessionId(2), Family::Ipv4Unicast));
    assert!(bench.has(2, &prefix(1)));
}

#[test]
fn equal_peers_share_one_encoding() {
    let mut bench = Bench::with(true);
    for session in 1..=20 {
        bench.up(up(session, 65000 + session as u32));
    }
    assert_eq!(bench.rib.summary().groups, 2, "one per family");
    let many: Vec<IpNet> = (0..600).map(prefix).collect();
    let mut out = Vec::new();
    bench.rib.settle(
        1,
        Event::Update(
            SessionId(1),
            vec![FamilyUpdate {
                family: Family::Ipv4Unicast,
                withdrawn: vec![],
                announced: many
                    .iter()
                    .map(|p| Nlri {
                        path_id: 0,
                        prefix: *p,
                    })
                    .collect(),
                attributes: Some((attributes(&[65001], None), next_hop(1))),
            }],
        ),
        &mut out,
    );
    let sent: Vec<&OutMessage> = out
        .iter()
        .filter_map(|o| match o {
            Output::Send(_, message) => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 19, "one message for each peer but the source");
    assert!(
        sent.iter()
            .all(|m| m.bytes.as_ptr() == sent[0].bytes.as_ptr()),
        "and it is the same bytes"
    );
}

/// A peer that does not read costs the ring no more than its bound, and has the whole truth once it reads again.
#[test]
fn a_peer_that_fell_behind_walks() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.event(Event::PeerUp(Box::new(up(3, 65003))));
    bench.event(Event::Permit(SessionId(3), 4));
    // Distinct attributes per prefix: one message each, until the ring of 8 MiB has moved on.
    let rounds = 150u32;
    for round in 0..rounds {
        let updates = (0..1000u32)
            .map(|n| FamilyUpdate {
                family: Family::Ipv4Unicast,
                withdrawn: vec![],
                announced: vec![Nlri {
                    path_id: 0,
                    prefix: prefix(n),
                }],
                attributes: Some((
                    attributes(&[65001, 1000 + round, 1000 + n], None),
                    next_hop(1),
                )),
            })
            .collect();
        bench.event(Event::Update(SessionId(1), updates));
    }
    bench.withdraw(1, &[prefix(5)]);
    assert_eq!(bench.messages.get(&3).copied().unwrap_or(0), 4);
    bench.event(Event::Permit(SessionId(3), u32::MAX));
    let last = |session: u64| {
        bench.sent[&session]
            .iter()
            .map(|(p, (a, _))| (*p, a.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(last(3).len(), 999);
    assert_eq!(last(3), last(2));
    assert!(
        bench.messages[&3] < 5_000,
        "walked instead of replaying {}",
        bench.messages[&3]
    );
}

#[derive(Clone, Debug)]
enum Op {
    Announce(u64, u32, u8, u32),
    Withdraw(u64, u32),
    Local(u32, bool),
    Down(u64, bool),
    Permit(u64, u32),
    NextHop(u8, Option<u32>),
    Refresh(u64),
    Work,
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 1u64..5;
    let net = 0u32..12;
    prop_oneof![
        8 => (peer.clone(), net.clone(), 1u8..4, 0u32..3).prop_map(|(p, n, h, v)| Op::Announce(p, n, h, v)),
        4 => (peer.clone(), net.clone()).prop_map(|(p, n)| Op::Withdraw(p, n)),
        1 => (net, any::<bool>()).prop_map(|(n, on)| Op::Local(n, on)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(p, retain)| Op::Down(p, retain)),
        3 => (peer.clone(), 0u32..4).prop_map(|(p, n)| Op::Permit(p, n)),
        2 => (1u8..4, prop::option::of(0u32..3)).prop_map(|(h, c)| Op::NextHop(h, c)),
        1 => peer.prop_map(Op::Refresh),
        3 => Just(Op::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    /// Whatever the order of events and however slow the peers: when all is quiet, every peer has exactly what the
    /// rules give it prefix by prefix, the kernel has the learned best paths, and nothing is left when all are gone.
    #[test]
    fn group_output_equals_per_peer_output(ops in prop::collection::vec(op(), 1..80)) {
        let mut bench = Bench::new();
        // Session ids are used once: (generation × 10 + peer).
        let mut sessions = BTreeMap::new();
        let mut generation = 0u64;
        let name = |peer: u64| up(peer, 65000 + peer as u32);
        for peer in 1..5u64 {
            sessions.insert(peer, peer);
            bench.event(Event::PeerUp(Box::new(name(peer))));
        }
        for op in ops {
            let mut out = Vec::new();
            match op {
                Op::Announce(p, n, h, v) => {
                    let path = [65000 + p as u32, 65100 + v];
                    let update = FamilyUpdate {
                        family: Family::Ipv4Unicast,
                        withdrawn: vec![],
                        announced: vec![Nlri { path_id: 0, prefix: prefix(n) }],
                        attributes: Some((attributes(&path[..1 + (v as usize % 2)], None), next_hop(h))),
                    };
                    bench.rib.handle(1, Event::Update(SessionId(sessions[&p]), vec![update]), &mut out);
                }
                Op::Withdraw(p, n) => {
                    let update = FamilyUpdate {
                        family: Family::Ipv4Unicast,
                        withdrawn: vec![Nlri { path_id: 0, prefix: prefix(n) }],
                        announced: vec![],
                        attributes: None,
                    };
                    bench.rib.handle(1, Event::Update(SessionId(sessions[&p]), vec![update]), &mut out);
                }
                Op::Local(n, on) => {
                    let route = (prefix(n), on.then_some(RouteSource::Static));
                    bench.rib.handle(1, Event::Local(T, vec![route]), &mut out);
                }
                Op::Down(p, retain) => {
                    let how = if retain { PeerDown::Retain { until: 50 } } else { PeerDown::Purge };
                    let old = sessions[&p];
                    bench.rib.handle(1, Event::PeerDown(SessionId(old), how), &mut out);
                    generation += 1;
                    let session = generation * 10 + p;
                    sessions.insert(p, session);
                    let next = PeerUp { session: SessionId(session), ..name(p) };
                    bench.rib.handle(1, Event::PeerUp(Box::new(next)), &mut out);
                }
                Op::Permit(p, n) => bench.rib.handle(1, Event::Permit(SessionId(sessions[&p]), n), &mut out),
                Op::NextHop(h, cost) => {
                    let state = cost.map_or(NextHopState::Unresolved, |igp_cost| NextHopState::Resolved { igp_cost });
                    bench.rib.handle(1, Event::NextHops(vec![(next_hop(h), state)]), &mut out);
                }
                Op::Refresh(p) => {
                    let event = Event::RefreshRequest(SessionId(sessions[&p]), Family::Ipv4Unicast);
                    bench.rib.handle(1, event, &mut out);
                }
                Op::Work => { bench.rib.work(&mut out); }
            }
            for output in out {
                bench.take(output);
            }
            bench.rib.check();
        }
        bench.now = 60;
        bench.event(Event::Tick);
        for session in sessions.values() {
            bench.event(Event::Permit(SessionId(*session), 1_000_000));
        }
        for (peer, session) in &sessions {
            let expected = bench.expected(*peer);
            let sent = bench.sent.get(session).cloned().unwrap_or_default();
            prop_assert_eq!(
                sent.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "peer {}", peer
            );
            for (prefix, source) in &expected {
                let first = sent[prefix].0.as_path().asns().nth(1);
                let origin = source.as_ref().map(|s| 65000 + s[1..].parse::<u32>().unwrap());
                prop_assert_eq!(first, origin, "peer {} prefix {}", peer, prefix);
            }
            let counted = bench.rib.counters(SessionId(*session))[0].unwrap().advertised;
            prop_assert_eq!(counted, expected.len() as u64);
        }
        let learned: BTreeMap<IpNet, NextHop> = bench.rib.paths(T, None).into_iter()
            .filter(|p| matches!(p.verdict, Verdict::Best(_)))
            .filter_map(|p| p.next_hop.map(|n| (p.prefix, n)))
            .collect();
        prop_assert_eq!(&bench.fib, &learned);

        for session in sessions.values() {
            bench.event(Event::PeerDown(SessionId(*session), PeerDown::Purge));
        }
        let gone = (0..12).map(|n| (prefix(n), None)).collect();
        bench.event(Event::Local(T, gone));
        prop_assert_eq!(bench.rib.summary(), RibSummary::default());
        prop_assert!(bench.tracked.is_empty() && bench.fib.is_empty());
    }
}
