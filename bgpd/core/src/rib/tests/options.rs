//! What peers are promised one by one: a former AS, a graceful shutdown, a default route; MEDs; and what aggregates
//! say.

use super::*;

fn peer(session: u64, remote_as: u32, relation: Relation) -> PeerUp {
    PeerUp {
        relation,
        ..up(session, remote_as)
    }
}

/// Another relation of a session that is up.
fn relate(bench: &mut Bench, session: u64, relation: Relation) {
    let all = Chain::new(&[Builtin::AcceptAll]);
    bench.event(Event::Policies(
        SessionId(session),
        all.clone(),
        all,
        relation,
    ));
}

fn path(bench: &Bench, session: u64, prefix: &IpNet) -> String {
    bench.sent[&session][prefix].0.as_path().to_string()
}

/// RFC 7705 §3: we are AS 65000, the session with peer 1 has 64999.
#[test]
fn the_former_as_on_the_way_in_and_out() {
    let check = |no_prepend, replace_as, others_see: &str, peer_sees: &str| {
        let mut bench = Bench::with(true);
        let migration = Migration {
            real_as: 65000,
            no_prepend,
            replace_as,
        };
        bench.up(PeerUp {
            local_as: 64999,
            ..peer(1, 65001, Relation::default())
        });
        bench.up(up(2, 65002));
        bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
        bench.announce(2, &[prefix(2)], &attributes(&[65002], None), next_hop(2));
        let relation = Relation {
            migration: Some(migration),
            ..Relation::default()
        };
        relate(&mut bench, 1, relation);
        assert_eq!(path(&bench, 2, &prefix(1)), others_see);
        assert_eq!(path(&bench, 1, &prefix(2)), peer_sees);
    };
    check(false, false, "65000 64999 65001", "64999 65000 65002");
    check(true, false, "65000 65001", "64999 65000 65002");
    check(false, true, "65000 64999 65001", "64999 65002");
    check(true, true, "65000 65001", "64999 65002");
}

/// Both numbers are ours, whichever session a route comes over.
#[test]
fn a_loop_is_one_by_either_as() {
    let mut bench = Bench::with(true);
    bench.up(PeerUp {
        local_as: 64999,
        ..up(1, 65001)
    });
    for (n, path, expected) in [
        (
            1,
            &[65001, 64999][..],
            Verdict::Ineligible(Ineligible::Loop),
        ),
        (2, &[65001, 65000], Verdict::Ineligible(Ineligible::Loop)),
        (3, &[65001, 64998], Verdict::Best(None)),
    ] {
        bench.announce(1, &[prefix(n)], &attributes(path, None), next_hop(1));
        assert_eq!(bench.rib.paths(T, Some(&prefix(n)))[0].verdict, expected);
    }
}

/// RFC 8326: the community to all, LOCAL_PREF 0 to internal peers; what comes from the peer is the last resort.
#[test]
fn a_graceful_shutdown_is_announced_and_taken_back_live() {
    let draining = |graceful_shutdown| Relation {
        graceful_shutdown,
        ..Relation::default()
    };
    let mut bench = Bench::with(true);
    for (session, remote_as) in [(1, 65001), (2, 65002), (3, 65000)] {
        bench.up(up(session, remote_as));
    }
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    bench.announce(2, &[prefix(1)], &attributes(&[65002, 9], None), next_hop(2));
    let check = |bench: &Bench, session: u64, via: u8, marked: bool, local_pref: Option<u32>| {
        let (attributes, next_hop) = &bench.sent[&session][&prefix(1)];
        let hot = attributes.hot();
        assert_eq!(
            (hot.graceful_shutdown, hot.local_pref),
            (marked, local_pref),
            "session {session}"
        );
        if session == 3 {
            assert_eq!(*next_hop, super::next_hop(via));
        }
    };
    check(&bench, 3, 1, false, Some(100));
    for session in 1..=3 {
        relate(&mut bench, session, draining(true));
    }
    // Both are the last resort now; the shorter path wins again.
    check(&bench, 3, 1, true, Some(0));
    check(&bench, 2, 1, true, None);
    relate(&mut bench, 2, draining(false));
    // The way through the peer that stays.
    check(&bench, 3, 2, true, Some(0));
    check(&bench, 1, 2, true, None);
    for session in 1..=3 {
        relate(&mut bench, session, draining(false));
    }
    check(&bench, 3, 1, false, Some(100));
    check(&bench, 2, 1, false, None);
    assert_eq!(bench.end_of_rib[&3], 2, "no session was told anew");
}

fn default_route() -> IpNet {
    "0.0.0.0/0".parse().unwrap()
}

fn originating(mode: DefaultOriginate) -> Relation {
    Relation {
        default_originate: [Some(mode), None],
        ..Relation::default()
    }
}

#[test]
fn who_asks_for_a_default_route_gets_one_and_nobody_else() {
    let mut bench = Bench::with(true);
    let nothing = Chain::new(&[Builtin::RejectAll]);
    bench.up(PeerUp {
        export: nothing,
        ..peer(1, 65001, originating(DefaultOriginate::Always))
    });
    bench.up(up(2, 65002));
    assert_eq!(path(&bench, 1, &default_route()), "65000");
    assert!(!bench.has(2, &default_route()));
    assert_eq!(bench.fib, BTreeMap::new());
    // A default route of somebody else changes nothing for who has ours.
    let messages = bench.messages[&1];
    bench.announce(
        2,
        &[default_route()],
        &attributes(&[65002], None),
        next_hop(2),
    );
    assert_eq!(path(&bench, 1, &default_route()), "65000");
    assert_eq!(bench.messages[&1], messages);
    assert_eq!(bench.fib[&default_route()], next_hop(2));
    relate(&mut bench, 1, Relation::default());
    assert_eq!(path(&bench, 1, &default_route()), "65000 65002");
    bench.withdraw(2, &[default_route()]);
    assert!(!bench.has(1, &default_route()));
    assert_eq!(bench.rib.summary().paths, 0, "ours went with who asked");
    relate(&mut bench, 2, originating(DefaultOriginate::Always));
    assert_eq!(path(&bench, 2, &default_route()), "65000");
}

#[test]
fn a_default_route_that_depends_on_one() {
    let mut bench = Bench::with(true);
    let asks = originating(DefaultOriginate::IfPresent);
    bench.up(peer(1, 65001, asks.clone()));
    bench.up(peer(2, 65002, asks));
    for _ in 0..2 {
        assert!(!bench.has(1, &default_route()));
        bench.announce(
            2,
            &[default_route()],
            &attributes(&[65002], None),
            next_hop(2),
        );
        assert_eq!(path(&bench, 1, &default_route()), "65000");
        assert!(!bench.has(2, &default_route()), "it is the source");
        bench.withdraw(2, &[default_route()]);
    }
    bench.event(Event::PeerDown(SessionId(1), PeerDown::Purge));
    bench.event(Event::PeerDown(SessionId(2), PeerDown::Purge));
    assert_eq!(bench.rib.summary().paths, 0);
}

#[test]
fn looking_in_tells_whose_default_route_is_sent() {
    let mut bench = Bench::with(true);
    bench.up(peer(1, 65001, originating(DefaultOriginate::Always)));
    bench.up(up(2, 65002));
    bench.announce(
        2,
        &[default_route()],
        &attributes(&[65002], None),
        next_hop(2),
    );
    let look = |near| {
        let query = RouteQuery {
            table: T,
            near,
            side: Side::Advertised("p1".into()),
        };
        let page = bench.rib.look(1, &query, Cursor::default()).unwrap();
        let routes = page.routes.into_iter();
        routes
            .map(|route| (route.peer.map(|name| name.to_string()), route.sent))
            .collect::<BTreeMap<_, _>>()
    };
    let ours = look(None);
    assert!(matches!(ours[&None], Some(Ok(_))));
    let all = look(Some(default_route()));
    assert!(matches!(all[&None], Some(Ok(_))));
    assert_eq!(all[&Some("p2".into())], Some(Err(NotSent::OwnDefault)));
}

/// Three neighbouring ASes, the lowest identifier first, with MEDs: which one is best.
#[test]
fn the_scope_of_med_changes_live() {
    let check = |meds: [Option<u32>; 2], ases: [u32; 2], rules: MedRules, best: u8| {
        let mut bench = Bench::with(true);
        for (n, (med, asn)) in (1..).zip(meds.into_iter().zip(ases)) {
            bench.up(up(n, asn));
            let attributes = attributes(&[asn], med);
            bench.announce(n, &[prefix(1)], &attributes, next_hop(n as u8));
        }
        bench.event(Event::MedRules(rules));
        assert_eq!(bench.fib[&prefix(1)], next_hop(best), "{meds:?} {ases:?}");
        bench.event(Event::MedRules(MedRules::default()));
        let within = if ases[0] == ases[1] && meds[0] > meds[1] {
            2
        } else {
            1
        };
        assert_eq!(bench.fib[&prefix(1)], next_hop(within), "and back");
    };
    let always = MedRules {
        always_compare: true,
        ..MedRules::default()
    };
    let worst = MedRules {
        missing_is_worst: true,
        ..MedRules::default()
    };
    let both = MedRules {
        always_compare: true,
        missing_is_worst: true,
    };
    let (one, two) = ([65001, 65001], [65001, 65002]);
    check([Some(5), Some(3)], two, MedRules::default(), 1);
    check([Some(5), Some(3)], two, always, 2);
    check([Some(5), Some(3)], one, MedRules::default(), 2);
    check([None, Some(3)], one, MedRules::default(), 1);
    check([None, Some(3)], one, worst, 2);
    check([None, Some(3)], two, worst, 1);
    check([None, Some(3)], two, both, 2);
    check([None, Some(u32::MAX)], two, both, 1);
}

/// RFC 4271 §5.1.4.
#[test]
fn whose_med_an_external_peer_is_sent() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65000));
    bench.up(up(3, 65003));
    let sets = super::relations::policy(serde_json::json!({
        "rules": [{"set": {"med": 7}, "action": "accept"}],
    }));
    bench.up(PeerUp {
        export: sets,
        ..up(4, 65004)
    });
    bench.announce(1, &[prefix(1)], &attributes(&[65001], Some(7)), next_hop(1));
    bench.announce(2, &[prefix(2)], &attributes(&[], Some(8)), next_hop(2));
    bench.announce(2, &[prefix(3)], &attributes(&[65009], Some(9)), next_hop(2));
    let med = |session: u64, n| bench.sent[&session][&prefix(n)].0.hot().med;
    assert_eq!(med(2, 1), Some(7), "within our AS it stays");
    assert_eq!(med(3, 1), None, "another AS's");
    assert_eq!(med(3, 2), Some(8), "our own AS's");
    assert_eq!(med(3, 3), None, "another AS's, told by a peer in ours");
    assert_eq!([1, 2, 3].map(|n| med(4, n)), [Some(7); 3], "a policy's");
}

fn aggregate(prefix: &str, summary_only: bool) -> Aggregate {
    Aggregate {
        prefix: prefix.parse().unwrap(),
        summary_only,
    }
}

/// RFC 4271 §9.2.2.2, without AS_SET.
#[test]
fn an_aggregate_comes_with_the_first_and_goes_with_the_last() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    let whole: IpNet = "10.0.0.0/8".parse().unwrap();
    bench.event(Event::Aggregates(T, vec![aggregate("10.0.0.0/8", true)]));
    assert!(!bench.has(2, &whole));
    bench.event(Event::Local(
        T,
        vec![(prefix(1), Some(RouteSource::OwnBlock.into()))],
    ));
    let said = |bench: &Bench| {
        let attributes = &bench.sent[&2][&whole].0;
        let path = attributes.as_path().to_string();
        assert_eq!(path, "65000", "it starts here");
        assert_eq!(
            attributes.aggregator(),
            Some((65000, Ipv4Addr::new(10, 255, 0, 1)))
        );
        (attributes.hot().origin, attributes.atomic_aggregate())
    };
    assert_eq!(said(&bench), (Origin::Igp, false), "nothing is lost");
    let mut attributes = AttributeEditor::new(Origin::Incomplete);
    attributes.set_as_path_sequence(&[65001]);
    bench.announce(1, &[prefix(2), prefix(3)], &attributes.build(), next_hop(1));
    assert_eq!(said(&bench), (Origin::Incomplete, true));
    assert_eq!(bench.sent[&2].keys().collect::<Vec<_>>(), [&whole]);
    assert_eq!(bench.fib.len(), 2, "what is held back is used here");
    assert_eq!(bench.discarded, [whole].into());
    let messages = bench.messages[&2];
    bench.withdraw(1, &[prefix(2)]);
    assert_eq!(bench.messages[&2], messages, "one of two is no news");
    bench.withdraw(1, &[prefix(3)]);
    assert_eq!(said(&bench), (Origin::Igp, false));
    bench.event(Event::Local(T, vec![(prefix(1), None)]));
    assert!(bench.sent[&2].is_empty() && bench.discarded.is_empty());
    assert_eq!(bench.rib.summary().paths, 0);
}

#[test]
fn what_an_aggregate_holds_back_is_seen_with_the_reason() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    let look = |bench: &Bench| {
        let query = RouteQuery {
            table: T,
            near: Some(prefix(1)),
            side: Side::Advertised("p2".into()),
        };
        let page = bench.rib.look(1, &query, Cursor::default()).unwrap();
        let routes = page.routes.into_iter().filter(|r| r.prefix == prefix(1));
        routes
            .map(|r| r.sent.unwrap().map(drop))
            .collect::<Vec<_>>()
    };
    assert_eq!(look(&bench), [Ok(())]);
    bench.event(Event::Aggregates(T, vec![aggregate("10.0.0.0/16", false)]));
    assert_eq!(look(&bench), [Ok(())]);
    bench.event(Event::Aggregates(T, vec![aggregate("10.0.0.0/16", true)]));
    let by = "10.0.0.0/16".parse().unwrap();
    assert_eq!(look(&bench), [Err(NotSent::Suppressed(by))]);
    assert!(!bench.has(2, &prefix(1)) && bench.has(2, &by));
    bench.event(Event::Aggregates(T, vec![]));
    assert_eq!(look(&bench), [Ok(())]);
    assert!(bench.has(2, &prefix(1)) && !bench.has(2, &by));
}

#[test]
fn a_declared_route_says_what_was_declared() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65000));
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor.set_med(Some(5)).set_local_pref(Some(200));
    editor.set_communities(&[0xfde8_0007]);
    let route = Originated {
        source: RouteSource::Static,
        attributes: Some(editor.build()),
    };
    bench.event(Event::Local(T, vec![(prefix(1), Some(route))]));
    let said = |bench: &Bench, session: u64| {
        let attributes = &bench.sent[&session][&prefix(1)].0;
        let hot = attributes.hot();
        (
            hot.med,
            hot.local_pref,
            attributes.communities().collect::<Vec<_>>(),
        )
    };
    assert_eq!(said(&bench, 1), (Some(5), None, vec![0xfde8_0007]));
    assert_eq!(said(&bench, 2), (Some(5), Some(200), vec![0xfde8_0007]));
    let plain = Some(RouteSource::Static.into());
    bench.event(Event::Local(T, vec![(prefix(1), plain)]));
    assert_eq!(said(&bench, 2), (None, Some(100), vec![]));
}
