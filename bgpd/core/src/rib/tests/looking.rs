//! Looking in: pages add up to the tables, what a peer is said to be sent is what it was sent, and each refusal has
//! its reason.

use super::*;

impl Bench {
    pub(super) fn look(&self, side: Side, near: Option<&str>) -> Vec<RouteDetail> {
        let query = RouteQuery {
            near: near.map(|p| p.parse().unwrap()),
            side,
            ..RouteQuery::default()
        };
        let (mut routes, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = cursor {
            let page = self.rib.look(self.now + 7, &query, at).unwrap();
            assert!(page.routes.len() < 6 + 3, "{}", page.routes.len());
            assert_ne!(page.next, cursor);
            routes.extend(page.routes);
            cursor = page.next;
        }
        routes.sort_by_key(|r| (r.prefix, r.peer_id));
        routes
    }
}

fn with_communities(communities: &[u32]) -> PathAttributes {
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor.set_as_path_sequence(&[65001]);
    editor.set_communities(communities).build()
}

/// Two external peers with some prefixes in common, an internal one, one that is let in nothing and sent nothing.
fn bench() -> Bench {
    let mut bench = Bench::with(true);
    for (session, remote_as) in [(1, 65001), (2, 65002), (3, 65000)] {
        bench.up(up(session, remote_as));
    }
    bench.up(PeerUp {
        import: Chain::new(&[Builtin::Default]),
        export: Chain::new(&[Builtin::RejectAll]),
        ..up(4, 65004)
    });
    let many: Vec<IpNet> = (0..20).map(prefix).collect();
    bench.announce(1, &many, &attributes(&[65001], None), next_hop(1));
    bench.announce(
        2,
        &many[5..15],
        &attributes(&[65002, 65009], None),
        next_hop(2),
    );
    bench.announce(3, &[prefix(30)], &attributes(&[], None), next_hop(3));
    bench.announce(4, &[prefix(31)], &attributes(&[65004], None), next_hop(4));
    bench.announce(
        1,
        &[prefix(40)],
        &with_communities(&[0xffff_ff01]),
        next_hop(1),
    );
    bench.announce(
        1,
        &[prefix(41)],
        &with_communities(&[0xffff_ff02]),
        next_hop(1),
    );
    bench.event(Event::Local(
        T,
        vec![
            (
                "10.9.0.0/26".parse().unwrap(),
                Some(RouteSource::OwnBlock.into()),
            ),
            (
                "fd00:9::/122".parse().unwrap(),
                Some(RouteSource::OwnBlock.into()),
            ),
        ],
    ));
    bench
}

#[test]
fn pages_add_up_to_the_table() {
    let bench = bench();
    let key = |prefix: IpNet, peer: Option<Arc<str>>| (prefix, peer);
    let all: BTreeSet<_> = bench
        .look(Side::All, None)
        .into_iter()
        .map(|r| key(r.prefix, r.peer))
        .collect();
    let paths: BTreeSet<_> = bench
        .rib
        .paths(T, None)
        .into_iter()
        .map(|p| key(p.prefix, p.peer))
        .collect();
    assert_eq!(all.len(), 36);
    assert_eq!(all, paths);
    for route in bench.look(Side::All, None) {
        let known = bench.rib.paths(T, Some(&route.prefix));
        let known = known.iter().find(|p| p.peer == route.peer).unwrap();
        assert_eq!(
            (known.verdict, known.rejected),
            (route.verdict, route.rejected.map(|(r, _)| r))
        );
        assert_eq!((route.age, route.stale, route.sent), (7, false, None));
    }
}

#[test]
fn what_a_peer_sent_includes_what_is_rejected() {
    let bench = bench();
    let count = |name: &str| bench.look(Side::Received(name.into()), None).len();
    assert_eq!(["p1", "p2", "p3", "p4", "p5"].map(count), [22, 10, 1, 1, 0]);
    let rejected = bench.look(Side::Received("p4".into()), None).remove(0);
    let (reason, by) = rejected.rejected.unwrap();
    assert_eq!(reason, crate::policy::RejectReason::OutsidePools);
    assert_eq!(
        Rejection(reason, &by).to_string(),
        "outside every pool and node prefix"
    );
    assert_eq!(rejected.verdict, Verdict::Ineligible(Ineligible::Filtered));
}

#[test]
fn what_a_peer_is_said_to_be_sent_is_what_it_was_sent() {
    let bench = bench();
    for session in 1..=4 {
        let side = Side::Advertised(format!("p{session}").into());
        let said: BTreeMap<IpNet, PathAttributes> = bench
            .look(side, None)
            .into_iter()
            .map(|r| (r.prefix, r.sent.unwrap().unwrap().attributes))
            .collect();
        let sent = bench.sent.get(&session).cloned().unwrap_or_default();
        let sent: BTreeMap<_, _> = sent
            .into_iter()
            .map(|(prefix, (attributes, _))| (prefix, attributes))
            .collect();
        assert_eq!(said, sent, "p{session}");
        assert_eq!(session == 4, sent.is_empty());
    }
}

#[test]
fn each_refusal_has_its_reason() {
    let mut bench = bench();
    bench.up(up(5, 65000));
    bench.up(PeerUp {
        relation: Relation {
            reflector_client: true,
            ..Relation::default()
        },
        ..up(6, 65000)
    });
    bench.up(PeerUp {
        relation: Relation {
            role: Some(crate::negotiation::Role::Peer),
            ..Relation::default()
        },
        ..up(7, 65007)
    });
    let mut otc = AttributeEditor::new(Origin::Igp);
    otc.set_as_path_sequence(&[65001]);
    let otc = otc.set_only_to_customer(Some(65001)).build();
    bench.announce(1, &[prefix(42)], &otc, next_hop(1));
    let check = |peer: &str, prefix: &str, expected: &[&str]| {
        let routes = bench.look(Side::Advertised(peer.into()), Some(prefix));
        let said: Vec<String> = routes
            .iter()
            .map(|r| match r.sent.as_ref().unwrap() {
                Ok(_) => "sent".into(),
                Err(why) => why.to_string(),
            })
            .collect();
        assert_eq!(said, expected, "{prefix} to {peer}");
    };
    check(
        "p1",
        "10.0.0.0/24",
        &["split horizon: the peer is its source"],
    );
    check("p2", "10.0.0.0/24", &["sent"]);
    check("p2", "10.0.5.0/24", &["sent", "not the best path"]);
    check("p2", "10.0.40.0/24", &["well-known community NO_EXPORT"]);
    check("p3", "10.0.40.0/24", &["sent"]);
    check("p3", "10.0.41.0/24", &["well-known community NO_ADVERTISE"]);
    check(
        "p5",
        "10.0.30.0/24",
        &["learned over iBGP, and so is not told over iBGP"],
    );
    check("p6", "10.0.30.0/24", &["sent"]);
    check("p2", "10.0.42.0/24", &["sent"]);
    check(
        "p7",
        "10.0.42.0/24",
        &["ONLY_TO_CUSTOMER and the peer's role (RFC 9234)"],
    );
    check(
        "p4",
        "10.0.0.0/24",
        &["rejected by export policy: reject-all: built in"],
    );
    check("p2", "10.0.31.0/24", &["not the best path"]);
    check("p2", "10.9.0.7/32", &["sent"]);
    let missing = bench.rib.look(
        0,
        &RouteQuery {
            side: Side::Advertised("p9".into()),
            ..RouteQuery::default()
        },
        Cursor::default(),
    );
    assert_eq!(missing.unwrap_err(), NoSession("p9".into()));
}

#[test]
fn declared_policies_are_named_and_what_they_change_is_shown() {
    let import = super::relations::policy(serde_json::json!({"rules": [
        {"match": {"prefixes": [{"prefix": "10.0.1.0/24"}]}, "set": {"localPref": 50, "nextHop": "192.0.2.7"}, "action": "accept"},
        {"name": "not-these", "match": {"prefixes": [{"prefix": "10.0.2.0/24"}]}, "action": "reject"},
    ], "defaultAction": "accept"}));
    let export = super::relations::policy(serde_json::json!({"rules": [
        {"match": {"prefixes": [{"prefix": "10.0.1.0/24"}]}, "set": {"nextHop": "192.0.2.99"}, "action": "accept"},
    ]}));
    let mut bench = Bench::with(true);
    bench.up(PeerUp {
        import,
        ..up(1, 65001)
    });
    bench.up(PeerUp {
        export,
        ..up(2, 65002)
    });
    let nets = [prefix(1), prefix(2), prefix(3)];
    bench.announce(1, &nets, &attributes(&[65001], None), next_hop(1));
    let received = bench.look(Side::Received("p1".into()), None);
    let [changed, rejected, plain] = &received[..] else {
        panic!("{received:?}");
    };
    let before = changed.received.as_ref().unwrap();
    assert_eq!(before.attributes.hot().local_pref, None);
    assert_eq!(before.next_hop, Some(next_hop(1)));
    assert_eq!(changed.attributes.hot().local_pref, Some(50));
    assert_eq!(changed.next_hop, Some(next_hop(7)));
    let (reason, by) = rejected.rejected.as_ref().unwrap();
    assert_eq!(
        Rejection(*reason, by).to_string(),
        "p: rules[1] \"not-these\""
    );
    assert_eq!((&plain.received, &plain.rejected), (&None, &None));
    let sent = |net: &str| {
        let mut routes = bench.look(Side::Advertised("p2".into()), Some(net));
        assert_eq!(routes.len(), 1, "{net}");
        routes.remove(0).sent.unwrap()
    };
    assert_eq!(sent("10.0.1.0/24").unwrap().next_hop, Some(next_hop(99)));
    assert_eq!(
        sent("10.0.3.0/24").unwrap_err().to_string(),
        "rejected by export policy: p: defaultAction"
    );
}
