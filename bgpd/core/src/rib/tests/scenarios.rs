//! One situation each.

use super::*;

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
            (block, Some(RouteSource::OwnBlock.into())),
            (block6, Some(RouteSource::OwnBlock.into())),
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
        vec![(prefix(9), Some(RouteSource::Static.into()))],
    ));
    assert!(bench.has(2, &prefix(1)) && bench.has(2, &prefix(9)));
    let accept = Chain::new(&[Builtin::AcceptAll]);
    bench.event(Event::Policies(
        SessionId(2),
        accept.clone(),
        Chain::new(&[Builtin::Default]),
        Relation::default(),
    ));
    assert!(!bench.has(2, &prefix(1)) && bench.has(2, &prefix(9)));
    bench.event(Event::Policies(
        SessionId(2),
        accept.clone(),
        accept,
        Relation::default(),
    ));
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
    let distinct: BTreeSet<*const u8> = sent.iter().map(|m| m.bytes.as_ptr()).collect();
    assert_eq!(
        sent.len(),
        19 * distinct.len(),
        "each message to each peer but the source, and it is the same bytes"
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
    // Distinct attributes per prefix: one message each, far more than the ring holds.
    for round in 0..50u32 {
        let updates = (0..40u32)
            .map(|n| FamilyUpdate {
                family: Family::Ipv4Unicast,
                withdrawn: vec![],
                announced: vec![Nlri::new(prefix(n))],
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
    assert_eq!(last(3).len(), 39);
    assert_eq!(last(3), last(2));
    assert!(
        bench.messages[&3] < 100,
        "walked instead of replaying {}",
        bench.messages[&3]
    );
}

/// The answer of the tracker comes while a cursor is between two tables, or before a table is there at all.
#[test]
fn a_next_hop_that_changes_in_the_middle_of_a_cursor_is_seen_in_every_table() {
    let v6 = NextHop::V6 {
        global: "2001:db8::9".parse().unwrap(),
        link_local: None,
    };
    let prefix6: IpNet = "2001:db8:1::/48".parse().unwrap();
    let state = |up: bool| {
        Event::NextHops(vec![(
            v6,
            match up {
                true => NextHopState::Resolved { igp_cost: 0 },
                false => NextHopState::Unresolved,
            },
        )])
    };
    for works in 0..6 {
        let mut bench = Bench::new();
        bench.up(up(1, 65001));
        bench.announce(1, &[prefix6], &attributes(&[65001], None), v6);
        bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
        let mut out = Vec::new();
        bench.rib.handle(1, state(true), &mut out);
        for _ in 0..works {
            bench.rib.work(&mut out);
        }
        bench.rib.handle(1, state(false), &mut out);
        while bench.rib.work(&mut out) {}
        out.into_iter().for_each(|o| bench.take(o));
        assert!(bench.fib.is_empty(), "after {works} slices");
        bench.rib.check();
    }
}

#[test]
fn a_next_hop_that_goes_and_comes_back_at_once_stays_tracked() {
    let mut bench = Bench::new();
    bench.up(up(1, 65001));
    bench.up(up(2, 65000));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    bench.resolve(next_hop(1), 0);
    // The iBGP peer was announced the next hop as it is: the group's reference is the last one.
    let mut out = Vec::new();
    let withdraw = |announced: Vec<Nlri>, withdrawn: Vec<Nlri>| FamilyUpdate {
        family: Family::Ipv4Unicast,
        attributes: (!announced.is_empty()).then(|| (attributes(&[65001], Some(7)), next_hop(1))),
        withdrawn,
        announced,
    };
    let gone = vec![withdraw(vec![], vec![Nlri::new(prefix(1))])];
    bench
        .rib
        .handle(1, Event::Update(SessionId(1), gone), &mut out);
    bench.rib.work(&mut out);
    let back = vec![withdraw(vec![Nlri::new(prefix(1))], vec![])];
    bench
        .rib
        .handle(1, Event::Update(SessionId(1), back), &mut out);
    while bench.rib.work(&mut out) {}
    out.into_iter().for_each(|o| bench.take(o));
    assert_eq!(bench.tracked.len(), 1);
}

/// BoRR and EoRR cost a peer less than us if every EoRR meant a sweep of its own.
#[test]
fn refreshes_without_end_are_bounded() {
    let mut bench = Bench::with(true);
    let family = Family::Ipv4Unicast;
    bench.up(up(1, 65001));
    bench.announce(
        1,
        &(0..40).map(prefix).collect::<Vec<_>>(),
        &attributes(&[65001], None),
        next_hop(1),
    );
    let mut out = Vec::new();
    for _ in 0..1000 {
        bench
            .rib
            .handle(1, Event::RefreshBegin(SessionId(1), family), &mut out);
        bench
            .rib
            .handle(1, Event::RefreshEnd(SessionId(1), family), &mut out);
    }
    bench.announce(1, &[prefix(3)], &attributes(&[65001], None), next_hop(1));
    out.into_iter().for_each(|o| bench.take(o));
    assert_eq!(
        bench.fib.len(),
        1,
        "what the last refresh did not repeat is gone, what came after it stays"
    );
    for _ in 0..1000 {
        bench.event(Event::RefreshBegin(SessionId(1), family));
    }
    assert_eq!(
        bench.fib.len(),
        1,
        "a refresh that never ends takes nothing"
    );
    bench.announce(1, &[prefix(4)], &attributes(&[65001], None), next_hop(1));
    bench.event(Event::RefreshEnd(SessionId(1), family));
    assert_eq!(bench.fib.keys().collect::<Vec<_>>(), [&prefix(4)]);
}

#[test]
fn the_kernel_is_told_all_when_installing_comes_on() {
    let mut bench = Bench::with(true);
    bench.event(Event::Install(false));
    bench.up(up(1, 65001));
    bench.announce(
        1,
        &(0..10).map(prefix).collect::<Vec<_>>(),
        &attributes(&[65001], None),
        next_hop(1),
    );
    assert!(bench.fib.is_empty());
    bench.event(Event::Install(true));
    assert_eq!(bench.fib.len(), 10);
}

/// Prefixes that come and go while a peer does not read are remembered once each.
#[test]
fn flaps_beside_a_peer_that_does_not_read_cost_no_memory() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.event(Event::PeerUp(Box::new(up(2, 65002))));
    for _ in 0..100 {
        bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
        bench.withdraw(1, &[prefix(1)]);
    }
    assert_eq!(bench.rib.tables[0].empty.len(), 1);
}

#[test]
fn a_link_local_next_hop_is_not_passed_on() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65000));
    let global: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
    let received = |global| NextHop::V6 {
        global,
        link_local: Some("fe80::9".parse().unwrap()),
    };
    let prefix6: IpNet = "2001:db8:1::/48".parse().unwrap();
    bench.announce(1, &[prefix6], &attributes(&[65001], None), received(global));
    let sent = |bench: &Bench| bench.sent[&2][&prefix6].1;
    assert_eq!(
        sent(&bench),
        NextHop::V6 {
            global,
            link_local: None
        }
    );
    bench.announce(
        1,
        &[prefix6],
        &attributes(&[65001], None),
        received(std::net::Ipv6Addr::UNSPECIFIED),
    );
    let own = NextHop::V6 {
        global: [0x07; 16].into(),
        link_local: None,
    };
    assert_eq!(sent(&bench), own, "nothing to pass on: next hop self");
}
