//! What a path becomes on its way out, and what cannot go.

use super::*;
use crate::rib::relation::NextHopMode;

/// RFC 8950: IPv4 routes by way of IPv6, to those who take that.
#[test]
fn ipv6_next_hops_of_ipv4_routes() {
    let via: NextHop = NextHop::V6 {
        global: "2001:db8::9".parse().unwrap(),
        link_local: None,
    };
    let own = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    let takes = |session, remote_as| {
        let plain = up(session, remote_as);
        PeerUp {
            encode: EncodeContext {
                extended_next_hop: true,
                ..encode()
            },
            next_hop_self: [Some(own); 2],
            ..plain
        }
    };
    let mut bench = Bench::with(true);
    let named = relations::policy(serde_json::json!({
        "rules": [
            {"match": {"communities": ["65000:4"]}, "set": {"nextHop": "192.0.2.77"}, "action": "accept"},
            {"match": {"families": ["ipv4-unicast"]}, "action": "accept"},
        ],
    }));
    bench.up(PeerUp {
        import: named,
        ..takes(1, 65001)
    });
    bench.up(takes(2, 65002));
    bench.up(takes(3, 65000));
    bench.up(up(4, 65000));
    bench.up(up(5, 65005));
    bench.up(PeerUp {
        relation: Relation {
            next_hop: NextHopMode::Keep,
            ..Relation::default()
        },
        ..up(6, 65006)
    });
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), via);
    assert_eq!(bench.fib[&prefix(1)], via, "an IPv4 route all the same");
    let placeholder = NextHop::V6 {
        global: "707:707:707:707:707:707:707:707".parse().unwrap(),
        link_local: None,
    };
    assert_eq!(bench.sent[&2][&prefix(1)].1, placeholder, "ours");
    assert_eq!(bench.sent[&3][&prefix(1)].1, via, "stays inside the AS");
    let placeholder = NextHop::V4(Ipv4Addr::new(7, 7, 7, 7));
    let ours = "takes no IPv6 next hop, so it is ours";
    assert_eq!(bench.sent[&4][&prefix(1)].1, placeholder, "{ours}");
    assert_eq!(bench.sent[&5][&prefix(1)].1, placeholder);
    assert!(!bench.has(6, &prefix(1)), "told to keep what it cannot say");
    let [ipv4, _] = bench.rib.counters(SessionId(6));
    assert_eq!(ipv4.unwrap().advertised, 0);
    assert_eq!(
        why_not(&bench, "p6", prefix(1)),
        [NotSent::NextHop(via)],
        "and says so"
    );
    let client = Relation {
        reflector_client: true,
        ..Relation::default()
    };
    bench.up(PeerUp {
        relation: client,
        ..takes(7, 65000)
    });
    bench.announce(7, &[prefix(2)], &attributes(&[65009], None), via);
    assert_eq!(bench.sent[&3][&prefix(2)].1, via, "reflected as it is");
    assert!(
        !bench.has(4, &prefix(2)),
        "a reflector stays out of the way"
    );
    assert_eq!(why_not(&bench, "p4", prefix(2)), [NotSent::NextHop(via)]);
    let mut marked = AttributeEditor::new(Origin::Igp);
    marked.set_as_path_sequence(&[65001]);
    marked.add_community(65000 << 16 | 4);
    bench.announce(1, &[prefix(1)], &marked.build(), via);
    assert_eq!(bench.fib[&prefix(1)], next_hop(77), "a policy's");
    assert_eq!(bench.sent[&4][&prefix(1)].1, next_hop(77));
}

/// Why a peer is not sent the paths of a prefix.
fn why_not(bench: &Bench, peer: &str, prefix: IpNet) -> Vec<NotSent> {
    let query = RouteQuery {
        table: T,
        near: Some(prefix),
        side: Side::Advertised(peer.into()),
    };
    let page = bench.rib.look(1, &query, Cursor::default()).unwrap();
    let sent = page.routes.into_iter().filter_map(|route| route.sent);
    sent.filter_map(Result::err).collect()
}

/// RFC 4271 §9.2: what cannot be said is not announced, nor counted as if it were, and what was said before is taken
/// back. RFC 8654: a peer of long messages is told.
#[test]
fn attributes_longer_than_a_message() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.up(PeerUp {
        encode: EncodeContext {
            max_len: MAX_EXTENDED_MESSAGE_LEN,
            ..encode()
        },
        ..up(3, 65003)
    });
    let via = NextHop::V6 {
        global: "2001:db8::9".parse().unwrap(),
        link_local: None,
    };
    let ipv6: IpNet = "2001:db8:1::/48".parse().unwrap();
    let advertised = |bench: &Bench| {
        let counters = bench.rib.counters(SessionId(2));
        counters.map(|family| family.unwrap().advertised)
    };
    let attributes = |communities: u32| {
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(&[65001]);
        let communities: Vec<u32> = (0..communities).collect();
        editor.set_communities(&communities);
        editor.build()
    };
    for (communities, fits) in [(900, true), (1100, false), (900, true), (1300, false)] {
        bench.announce(1, &[prefix(1)], &attributes(communities), next_hop(1));
        bench.announce(1, &[ipv6], &attributes(communities), via);
        assert_eq!(
            (bench.has(2, &prefix(1)), bench.has(2, &ipv6)),
            (fits, fits)
        );
        assert_eq!(advertised(&bench), [u64::from(fits); 2], "{communities}");
        assert!(bench.has(3, &prefix(1)) && bench.has(3, &ipv6));
        let expected = if fits {
            vec![]
        } else {
            vec![NotSent::TooLong(MAX_MESSAGE_LEN)]
        };
        for prefix in [prefix(1), ipv6] {
            assert_eq!(why_not(&bench, "p2", prefix), expected, "{communities}");
        }
    }
}
