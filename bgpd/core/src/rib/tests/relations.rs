//! What a peer is to us beyond its AS, and declared route policies, over a whole RIB.

use super::*;
use crate::negotiation::Role;
use crate::policy::compile;
use roadbed_api::kinds::BgpRoutePolicySpec;
use roadbed_api::{Metadata, Resource};

fn peer(session: u64, remote_as: u32, relation: Relation) -> PeerUp {
    PeerUp {
        relation,
        ..up(session, remote_as)
    }
}

fn path(bench: &Bench, session: u64, prefix: &IpNet) -> String {
    bench.sent[&session][prefix].0.as_path().to_string()
}

pub(super) fn policy(json: serde_json::Value) -> Chain {
    let spec: BgpRoutePolicySpec = serde_json::from_value(json).unwrap();
    let set = compile(&[Resource::new(Metadata::named("p"), spec)]).unwrap();
    set.chain(&["p"]).unwrap()
}

/// RFC 4456 §6 and §8.
#[test]
fn a_reflector_tells_clients_all_and_others_what_clients_said() {
    let client = Relation {
        reflector_client: true,
        ..Relation::default()
    };
    let mut bench = Bench::with(true);
    bench.up(peer(1, 65000, client.clone()));
    bench.up(peer(2, 65000, client));
    bench.up(peer(3, 65000, Relation::default()));
    bench.up(peer(4, 65000, Relation::default()));
    bench.announce(1, &[prefix(1)], &attributes(&[65009], None), next_hop(1));
    bench.announce(3, &[prefix(3)], &attributes(&[65009], None), next_hop(3));
    assert!(bench.has(2, &prefix(1)) && bench.has(3, &prefix(1)) && bench.has(4, &prefix(1)));
    assert!(bench.has(1, &prefix(3)) && bench.has(2, &prefix(3)));
    assert!(!bench.has(4, &prefix(3)), "neither end is a client");
    let (attributes, via) = &bench.sent[&2][&prefix(1)];
    assert_eq!(attributes.hot().originator_id, Some(Ipv4Addr::from(1)));
    let clusters: Vec<Ipv4Addr> = attributes.cluster_list().collect();
    assert_eq!(clusters, [Ipv4Addr::new(10, 255, 0, 1)]);
    assert_eq!(*via, next_hop(1), "the next hop stays");
    // What has passed us does not come in again.
    let passed = attributes.clone();
    bench.announce(4, &[prefix(4)], &passed, next_hop(4));
    let verdict = bench.rib.paths(T, Some(&prefix(4)))[0].verdict;
    assert_eq!(verdict, Verdict::Ineligible(Ineligible::Loop));
}

/// Without a reset, and without a better or worse path.
#[test]
fn who_becomes_a_client_is_heard_by_all_at_once() {
    let mut bench = Bench::with(true);
    for session in [1, 2] {
        bench.up(peer(session, 65000, Relation::default()));
    }
    bench.announce(1, &[prefix(1)], &attributes(&[65009], None), next_hop(1));
    let all = Chain::new(&[Builtin::AcceptAll]);
    for reflector_client in [true, false] {
        let relation = Relation {
            reflector_client,
            ..Relation::default()
        };
        bench.event(Event::Policies(
            SessionId(1),
            all.clone(),
            all.clone(),
            relation,
        ));
        assert_eq!(bench.has(2, &prefix(1)), reflector_client);
    }
}

#[test]
fn as_path_rewrites_towards_external_peers() {
    let check = |relation: Relation, sent: &[u32], expected: &str| {
        let mut bench = Bench::with(true);
        bench.up(up(1, 65001));
        bench.up(peer(2, 65002, relation));
        bench.announce(1, &[prefix(1)], &attributes(sent, None), next_hop(1));
        assert_eq!(path(&bench, 2, &prefix(1)), expected);
    };
    let plain = Relation::default();
    check(plain.clone(), &[65001, 65002], "65000 65001 65002");
    let over = Relation {
        as_override: true,
        ..plain.clone()
    };
    check(over, &[65001, 65002, 3], "65000 65001 65000 3");
    let private = Relation {
        remove_private_as: true,
        ..plain
    };
    check(private, &[65001, 3, 4_200_000_000, 4], "65000 3 4");
}

#[test]
fn our_own_as_is_let_in_as_often_as_allowed() {
    let mut bench = Bench::with(true);
    let relation = |allow_own_as| Relation {
        allow_own_as,
        ..Relation::default()
    };
    bench.up(peer(1, 65001, relation(1)));
    bench.announce(
        1,
        &[prefix(1)],
        &attributes(&[65001, 65000], None),
        next_hop(1),
    );
    bench.announce(
        1,
        &[prefix(2)],
        &attributes(&[65001, 65000, 65000], None),
        next_hop(1),
    );
    assert_eq!(bench.fib.keys().collect::<Vec<_>>(), [&prefix(1)]);
    let all = Chain::new(&[Builtin::AcceptAll]);
    bench.event(Event::Policies(SessionId(1), all.clone(), all, relation(2)));
    assert_eq!(bench.fib.len(), 2, "changed without a reset");
}

#[test]
fn next_hops_follow_the_mode() {
    let check = |remote_as, mode, expected: Option<NextHop>| {
        let relation = Relation {
            next_hop: mode,
            ..Relation::default()
        };
        let mut bench = Bench::with(true);
        bench.up(up(1, 65001));
        bench.up(peer(2, remote_as, relation));
        bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
        let own = NextHop::V4(Ipv4Addr::new(7, 7, 7, 7));
        assert_eq!(
            bench.sent[&2][&prefix(1)].1,
            expected.unwrap_or(own),
            "{remote_as} {mode:?}"
        );
    };
    check(65002, NextHopMode::Auto, None);
    check(65002, NextHopMode::Own, None);
    check(65002, NextHopMode::Keep, Some(next_hop(1)));
    check(65000, NextHopMode::Auto, Some(next_hop(1)));
    check(65000, NextHopMode::Own, None);
    check(65000, NextHopMode::Keep, Some(next_hop(1)));
}

/// RFC 9234 §5, RFC 8326 §4, RFC 9774 §3.
#[test]
fn roles_graceful_shutdown_and_as_sets() {
    let with_role = |role| Relation {
        role: Some(role),
        ..Relation::default()
    };
    let mut bench = Bench::with(true);
    bench.up(peer(1, 65001, with_role(Role::Provider)));
    bench.up(peer(2, 65002, with_role(Role::Customer)));
    bench.up(peer(3, 65003, with_role(Role::Peer)));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    assert_eq!(bench.sent[&2][&prefix(1)].0.only_to_customer(), Some(65001));
    assert!(
        !bench.has(3, &prefix(1)),
        "what a provider said is for customers only"
    );
    let mut editor = attributes(&[65002], None).edit();
    editor.set_only_to_customer(Some(65009));
    bench.announce(2, &[prefix(2)], &editor.build(), next_hop(2));
    let verdict = bench.rib.paths(T, Some(&prefix(2)))[0].verdict;
    assert_eq!(verdict, Verdict::Ineligible(Ineligible::Leak));

    // An AS_SET: {65001}.
    let body = b"\0\0\0\x14\x40\x01\x01\0\x40\x02\x06\x01\x01\0\0\xfd\xe9\x40\x03\x04\xc0\0\x02\x01\x18\x0a\0\x09";
    let context = DecodeContext {
        four_octet_as: true,
        ebgp: true,
        add_path: [false; 2],
        families: [true; 2],
        extended_next_hop: false,
    };
    let set = decode_update(body, &context).attributes.unwrap();
    assert!(set.hot().has_as_set);
    bench.up(peer(4, 65000, Relation::default()));
    for from in [1, 4] {
        bench.announce(from, &[prefix(9)], &attributes(&[65001], None), next_hop(1));
        bench.announce(from, &[prefix(9)], &set, next_hop(1));
        assert!(
            bench.rib.paths(T, Some(&prefix(9))).is_empty(),
            "treated as withdraw"
        );
    }

    let mut leaving = attributes(&[65001], None).edit();
    leaving.add_community(0xffff_0000);
    bench.announce(1, &[prefix(5)], &leaving.build(), next_hop(1));
    bench.announce(
        3,
        &[prefix(5)],
        &attributes(&[65003, 9, 9, 9], None),
        next_hop(3),
    );
    assert_eq!(
        bench.fib[&prefix(5)],
        next_hop(3),
        "a longer path beats one that is about to go"
    );
}

/// RFC 7313 §4.
#[test]
fn a_refresh_is_framed_for_those_who_understand_it() {
    let mut bench = Bench::with(true);
    let relation = Relation {
        enhanced_refresh: true,
        ..Relation::default()
    };
    bench.up(peer(1, 65001, relation));
    bench.event(Event::Local(
        T,
        vec![(prefix(1), Some(RouteSource::Static.into()))],
    ));
    let mut out = Vec::new();
    let family = Family::Ipv4Unicast;
    bench
        .rib
        .settle(1, Event::RefreshRequest(SessionId(1), family), &mut out);
    let kinds: Vec<(u8, u8)> = out
        .iter()
        .filter_map(|o| match o {
            Output::Send(_, message) => Some((message.bytes[18], message.bytes[21])),
            _ => None,
        })
        .collect();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert_eq!(
        (kinds[0], kinds[1].0, kinds[2]),
        ((5, 1), 2, (5, 2)),
        "BoRR, UPDATE, EoRR"
    );
}

/// A peer that another group takes over is still told the end of what the former one had begun: without its EoRR it would keep
/// what a lost UPDATE withdrew, without its End-of-RIB it would wait.
#[test]
fn another_policy_does_not_swallow_the_end_of_what_is_under_way() {
    let check = |enhanced_refresh: bool| {
        let relation = Relation {
            enhanced_refresh,
            ..Relation::default()
        };
        let mut bench = Bench::with(true);
        let routes = (1..=20).map(|n| (prefix(n), Some(RouteSource::Static.into())));
        bench.event(Event::Local(T, routes.collect()));
        let mut others = (0..).map(|n| {
            let deny = format!("10.9.{n}.0/24");
            policy(serde_json::json!({"rules": [
                {"match": {"prefixes": [{"prefix": deny}]}, "action": "reject"},
            ], "defaultAction": "accept"}))
        });
        let mut interrupted = |bench: &mut Bench, first: Vec<Event>| {
            let mut out = Vec::new();
            for event in first {
                bench.rib.handle(1, event, &mut out);
            }
            // Until the walk is on its way.
            while out.len() < 2 {
                assert!(bench.rib.work(&mut out));
            }
            let policies = Event::Policies(
                SessionId(1),
                Chain::new(&[Builtin::AcceptAll]),
                others.next().unwrap(),
                relation.clone(),
            );
            bench.rib.settle(1, policies, &mut out);
            let (mut kinds, mut ends) = (Vec::new(), 0);
            for output in out {
                let Output::Send(_, message) = output else {
                    continue;
                };
                // The type, and a refresh's subtype.
                if message.bytes[18] == 5 {
                    kinds.push(message.bytes[21]);
                }
                ends += usize::from(message.bytes.len() == 23 && message.bytes[18] == 2);
            }
            (kinds, ends)
        };
        let begin = vec![
            Event::PeerUp(Box::new(peer(1, 65001, relation.clone()))),
            Event::Permit(SessionId(1), u32::MAX),
        ];
        assert_eq!(interrupted(&mut bench, begin), (vec![], 1));
        let again = vec![Event::RefreshRequest(SessionId(1), Family::Ipv4Unicast)];
        match (enhanced_refresh, interrupted(&mut bench, again)) {
            (false, (kinds, ends)) => assert_eq!((kinds, ends), (vec![], 1)),
            (true, (kinds, ends)) => {
                assert_eq!((kinds, ends), (vec![1, 1, 2], 0), "BoRR, again, EoRR")
            }
        }
    };
    check(false);
    check(true);
}

#[test]
fn declared_policies_change_what_comes_in_and_what_goes_out() {
    let import = policy(serde_json::json!({"rules": [
        {"match": {"prefixes": [{"prefix": "10.0.1.0/24"}]}, "set": {"localPref": 50, "communities": {"add": ["65000:7"]}}, "action": "accept"},
        {"match": {"prefixes": [{"prefix": "10.0.2.0/24"}]}, "action": "reject"},
    ], "defaultAction": "accept"}));
    let export = policy(serde_json::json!({"rules": [
        {"match": {"communities": ["65000:7"]}, "set": {"med": 33, "prependAs": {"count": 2}}, "action": "accept"},
        {"match": {"prefixes": [{"prefix": "10.0.3.0/24"}]}, "set": {"nextHop": "192.0.2.99"}, "action": "accept"},
    ]}));
    let mut bench = Bench::with(true);
    let all = Chain::new(&[Builtin::AcceptAll]);
    bench.up(PeerUp {
        import: import.clone(),
        ..up(1, 65001)
    });
    bench.up(PeerUp {
        export: export.clone(),
        ..up(2, 65002)
    });
    bench.up(up(3, 65000));
    let nets = [prefix(1), prefix(2), prefix(3), prefix(4)];
    bench.announce(1, &nets, &attributes(&[65001], None), next_hop(1));
    assert!(!bench.fib.contains_key(&prefix(2)) && bench.fib.len() == 3);
    let changed = &bench.sent[&3][&prefix(1)].0;
    assert_eq!(changed.hot().local_pref, Some(50));
    assert_eq!(changed.communities().collect::<Vec<_>>(), [65000 << 16 | 7]);
    assert_eq!(path(&bench, 2, &prefix(1)), "65000 65000 65000 65001");
    assert_eq!(bench.sent[&2][&prefix(1)].0.hot().med, Some(33));
    assert_eq!(bench.sent[&2][&prefix(3)].1, next_hop(99));
    assert!(!bench.has(2, &prefix(4)), "no rule, no default: not sent");

    // Both changed without a reset; nothing that the policies made stays behind.
    bench.event(Event::Policies(
        SessionId(1),
        all.clone(),
        all.clone(),
        Relation::default(),
    ));
    bench.event(Event::Policies(
        SessionId(2),
        all.clone(),
        all,
        Relation::default(),
    ));
    assert_eq!(bench.fib.len(), 4);
    assert_eq!(path(&bench, 2, &prefix(1)), "65000 65001");
    assert!(bench.has(2, &prefix(4)));
    bench.withdraw(1, &nets);
    assert_eq!(bench.rib.summary().attribute_sets, 0);
}

/// RFC 4456 §7, §8: with another cluster what is reflected says so, and what was a loop is none, or the other way round.
#[test]
fn another_cluster_takes_effect_at_once() {
    let mut bench = Bench::with(true);
    let client = |session| PeerUp {
        relation: Relation {
            reflector_client: true,
            ..Relation::default()
        },
        ..up(session, 65000)
    };
    bench.up(client(1));
    bench.up(client(2));
    bench.up(up(3, 65003));
    let ours = Ipv4Addr::new(10, 255, 0, 1);
    let other = Ipv4Addr::new(10, 255, 0, 2);
    let mut passed = AttributeEditor::new(Origin::Igp);
    passed.set_originator_id(Some([10, 9, 9, 9].into()));
    passed.prepend_cluster_id(other);
    bench.announce(1, &[prefix(1)], &attributes(&[], None), next_hop(1));
    bench.announce(1, &[prefix(2)], &passed.build(), next_hop(1));
    let clusters = |bench: &Bench, n: u32| {
        let sent = bench.sent[&2].get(&prefix(n));
        sent.map(|(attributes, _)| attributes.cluster_list().collect::<Vec<_>>())
    };
    let external = bench.messages[&3];
    for (cluster, second) in [(other, None), (ours, Some(vec![ours, other]))] {
        bench.event(Event::ClusterId(cluster));
        assert_eq!(clusters(&bench, 1), Some(vec![cluster]));
        assert_eq!(clusters(&bench, 2), second);
    }
    assert!(bench.has(3, &prefix(1)) && bench.has(3, &prefix(2)));
    let told = bench.messages[&3] - external;
    assert_eq!(told, 2, "the second route went and came back, no more");
    let all = bench.messages[&2];
    bench.event(Event::ClusterId(ours));
    assert_eq!(bench.messages[&2], all, "the same changes nothing");
}
