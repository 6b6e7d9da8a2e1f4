//! ExaBGP as the peer: it says whatever its file says, sense or not, and tells what it was told.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::exabgp::{API, Exabgp};
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::three::{Three, bird, bird_has, bird_lacks, ours};

const VIA: &str = "via 10.99.0.2 dev eth0";
const V6: (&str, &str) = ("fd00:1::/64", "via fd00:99::2 dev eth0");

/// A neighbour that we dial. `more` are statements of its own, `routes` what it announces: a prefix and its attributes.
pub(crate) fn neighbour(
    (local, remote): (&str, &str),
    (local_as, peer_as): (u32, u32),
    more: &str,
    routes: &[(&str, &str)],
) -> String {
    let routes: String = routes
        .iter()
        .map(|(prefix, attributes)| {
            let next_hop = if prefix.contains(':') {
                "fd00:99::2"
            } else {
                "10.99.0.2"
            };
            format!("route {prefix} next-hop {next_hop} {attributes};\n")
        })
        .collect();
    format!(
        "neighbor {remote} {{
            router-id 10.99.0.2; local-address {local}; local-as {local_as}; peer-as {peer_as};
            hold-time 9; passive true; {more}
            family {{ ipv4 unicast; ipv6 unicast; }}
            {API}
            static {{ {routes} }}
        }}"
    )
}

pub(crate) const OVER_V4: (&str, &str) = ("10.99.0.2", "10.99.0.1");
const OVER_V6: (&str, &str) = ("fd00:99::2", "fd00:99::1");

pub(crate) fn start(pair: &Pair, listen: &str, neighbours: &str) -> Exabgp {
    Exabgp::start(&pair.peer, pair.dir(), listen, neighbours).unwrap()
}

#[track_caller]
fn receives(exabgp: &mut Exabgp, words: &[&str]) {
    eventually(SOON, &format!("ExaBGP receives {words:?}"), || {
        exabgp.has_received(words)
    });
}

/// Routes both ways and their withdrawal, and a session that ends and comes back; over either transport.
fn check_exchange((local, remote): (&str, &str)) {
    let pair = Pair::new();
    let file = neighbour(
        (local, remote),
        (65002, 65001),
        "",
        &[("10.1.0.0/24", ""), (V6.0, "")],
    );
    let mut exabgp = start(&pair, local, &file);
    let mut speaker = pair.speaker(&peer("exabgp", local, ""));
    pair.kernel_has(&[("10.1.0.0/24", VIA), V6]);
    for (prefix, next_hop) in [("10.2.0.0/24", "10.99.0.1"), ("fd00:2::/64", "fd00:99::1")] {
        receives(
            &mut exabgp,
            &["announce", prefix, next_hop, "\"as-path\": [ 65001 ]"],
        );
    }

    exabgp
        .tell("announce route 10.1.1.0/24 next-hop 10.99.0.2")
        .unwrap();
    exabgp
        .tell("withdraw route fd00:1::/64 next-hop fd00:99::2")
        .unwrap();
    pair.kernel_has(&[("10.1.0.0/24", VIA), ("10.1.1.0/24", VIA)]);
    let networks = config(&peer("exabgp", local, ""), "\"fd00:2::/64\"");
    speaker.reload(&networks).unwrap();
    receives(&mut exabgp, &["withdraw", "10.2.0.0/24"]);
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);

    exabgp
        .tell(&format!("neighbor {remote} teardown 4"))
        .unwrap();
    eventually(SOON, "the log tells", || {
        speaker.says(&["session down", "Administrative Reset"])
    });
    eventually(SOON, "it comes back", || {
        match speaker.logged(&["session established"]) {
            2 => Ok(()),
            n => Err(format!("{n} sessions")),
        }
    });
    receives(&mut exabgp, &["\"down\"", "notification sent (6,4)"]);
}

#[test]
fn routes_go_both_ways_over_ipv4() {
    check_exchange(OVER_V4);
}

#[test]
fn routes_go_both_ways_over_ipv6() {
    check_exchange(OVER_V6);
}

/// RFC 6793 §4.2: whoever knows two octets only sees AS_TRANS and passes AS4_PATH and AS4_AGGREGATOR on; who knows four
/// gets the whole path. Our own AS has four octets, too.
#[test]
fn as_numbers_of_four_octets_pass_a_peer_of_two() {
    let three = Three::new();
    let route =
        "as-path [ 65002 4200000009 3356 ] atomic-aggregate aggregator ( 4200000010:192.0.2.10 )";
    let file = neighbour(
        OVER_V4,
        (65002, 23456),
        "capability { asn4 disable; }",
        &[("10.1.0.0/24", route)],
    );
    let mut exabgp = start(&three.left, OVER_V4.0, &file);
    let right = bird(
        "right",
        4_200_000_003,
        &["10.3.0.0/24"],
        "",
        "bgp_path.prepend(4200000007);",
    );
    let right = three.right_bird(&right.replace("as 65001", "as 4200000001"));
    let peers = ours("left", 65002, "") + &ours("right", 4_200_000_003, "");
    let file = config(&peers, OUR_NETWORKS).replace("asNumber = 65001", "asNumber = 4200000001");
    let _speaker = Bgpd::start(&three.left.us, three.left.dir(), &file).unwrap();
    bird_has(
        &right,
        "10.1.0.0/24",
        &[
            "BGP.as_path: 4200000001 65002 4200000009 3356\n",
            "BGP.aggregator: 192.0.2.10 AS4200000010",
            "BGP.atomic_aggr",
        ],
    );
    // ExaBGP shows both attributes merged only when it takes them for one path; the AS_PATH alone would be AS_TRANS.
    receives(
        &mut exabgp,
        &["10.3.0.0/24", "4200000001", "4200000003", "4200000007"],
    );
    let log = exabgp.received();
    assert!(!log.contains("notification"), "{log}");
}

/// An iBGP peer hands us routes that we have reflected before (RFC 4456 §8), and an AS_SET: they are not used, sound ones are.
#[test]
fn loops_of_reflection_and_sets_from_inside_are_not_used() {
    let pair = Pair::new();
    let routes = [
        (
            "10.1.0.0/24",
            "originator-id 10.99.0.1 cluster-list [ 192.0.2.1 ]",
        ),
        (
            "10.1.1.0/24",
            "originator-id 192.0.2.9 cluster-list [ 192.0.2.1 10.99.0.1 ]",
        ),
        (
            "10.1.2.0/24",
            "originator-id 192.0.2.9 cluster-list [ 192.0.2.77 ]",
        ),
        (
            "10.1.3.0/24",
            "originator-id 192.0.2.9 cluster-list [ 192.0.2.1 ]",
        ),
        // RFC 9774 does not spare internal peers.
        ("10.1.4.0/24", "as-path [ 65009 ( 64600 64601 ) ]"),
    ];
    let _exabgp = start(
        &pair,
        OVER_V4.0,
        &neighbour(OVER_V4, (65001, 65001), "", &routes),
    );
    let peers = peer("exabgp", "10.99.0.2", "").replace("65002", "65001");
    let speaker = pair.speaker(&peers);
    pair.kernel_has(&[("10.1.2.0/24", VIA), ("10.1.3.0/24", VIA)]);
    throughout(Duration::from_secs(1), "the others stay out", || {
        pair.kernel_has_now(&[("10.1.2.0/24", VIA), ("10.1.3.0/24", VIA)])
    });
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Well-known communities (RFC 1997), from ExaBGP to BIRD on the other side.
fn check_communities(asn: u32, passed: &[&str], kept: &[&str]) {
    let three = Three::new();
    let routes = [
        ("10.1.0.0/24", ""),
        ("10.1.1.0/24", "community [ no-export ]"),
        ("10.1.2.0/24", "community [ no-advertise ]"),
        ("10.1.3.0/24", "community [ 65535:65283 ]"),
        ("10.1.4.0/24", "community [ 65002:4 no-export 65002:5 ]"),
    ];
    let _exabgp = start(
        &three.left,
        OVER_V4.0,
        &neighbour(OVER_V4, (65002, 65001), "", &routes),
    );
    let right = three.right_bird(&bird("right", asn, &[], "", ""));
    let _speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", asn, "")));
    let all = routes.map(|(prefix, _)| (prefix, VIA));
    three.left.kernel_has(&all);
    for prefix in passed {
        bird_has(&right, prefix, &["BGP.as_path"]);
    }
    throughout(Duration::from_secs(1), "the others stay here", || {
        kept.iter()
            .try_for_each(|prefix| bird_lacks(&right, prefix))
    });
}

#[test]
fn well_known_communities_keep_routes_inside() {
    check_communities(
        65003,
        &["10.1.0.0/24"],
        &["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.1.4.0/24"],
    );
    check_communities(
        65001,
        &["10.1.0.0/24", "10.1.1.0/24", "10.1.3.0/24", "10.1.4.0/24"],
        &["10.1.2.0/24"],
    );
}

/// What must not be used: AS_SET (RFC 9774), AS 0 (RFC 7607), our own AS. What must be passed on: unknown transitive
/// attributes, and communities of all kinds.
#[test]
fn paths_that_are_not_used_and_attributes_that_pass() {
    let three = Three::new();
    let many = "as-path [ 65002 3356 ] origin incomplete community [ 65002:1 65002:2 ] \
                large-community [ 65002:1:2 65002:3:4 ] \
                extended-community [ target:65002:100 origin:65002:7 ] \
                attribute [ 0x63 0xc0 0x726f6164 ]";
    let routes = [
        ("10.1.0.0/24", many),
        ("10.1.1.0/24", "as-path [ 65002 ( 64600 64601 ) ]"),
        ("10.1.2.0/24", "as-path [ 65002 0 3356 ]"),
        ("10.1.3.0/24", "as-path [ 65002 65001 ]"),
        ("10.1.4.0/24", "aggregator ( 0:192.0.2.10 )"),
    ];
    let _exabgp = start(
        &three.left,
        OVER_V4.0,
        &neighbour(OVER_V4, (65002, 65001), "", &routes),
    );
    let right = three.right_bird(&bird("right", 65003, &[], "", ""));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    let used = [("10.1.0.0/24", VIA), ("10.1.4.0/24", VIA)];
    three.left.kernel_has(&used);
    throughout(Duration::from_secs(1), "the others stay out", || {
        three.left.kernel_has_now(&used)
    });
    bird_has(
        &right,
        "10.1.0.0/24",
        &[
            "BGP.as_path: 65001 65002 3356\n",
            "BGP.origin: Incomplete",
            "BGP.community: (65002,1) (65002,2)",
            "BGP.large_community: (65002, 1, 2) (65002, 3, 4)",
            "(rt, 65002, 100)",
            "(ro, 65002, 7)",
            // Partial, since we do not know it (RFC 4271 §5).
            "BGP.63 [t]: 72 6f 61 64",
        ],
    );
    // RFC 7607: of an AGGREGATOR with AS 0 the attribute goes, not the route.
    bird_has(&right, "10.1.4.0/24", &["BGP.as_path: 65001 65002\n"]);
    let shown = right.cli("show route all 10.1.4.0/24").unwrap();
    assert!(!shown.contains("aggregator"), "{shown}");
    assert_eq!(speaker.logged(&["session down"]), 0);
}
