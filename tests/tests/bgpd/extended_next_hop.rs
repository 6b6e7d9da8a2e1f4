//! IPv4 routes by way of IPv6 next hops (RFC 8950), both ways over an IPv6 session, into both kernels.

use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::routes;
use roadbed_tests::wait::eventually;
use serde_json::json;

use crate::fixture::{Pair, SOON, peer};
use crate::looking::why_not;
use crate::three::{Three, frr, frr_has, frr_lacks, ours as ours_in_three, soon};

const V4: (&str, &str) = ("10.1.0.0/24", "via fd00:99::2 dev eth0");
const OURS: &str = "10.2.0.0/24";

/// Our peer with IPv6 next hops.
fn ours() -> String {
    peer("other", "fd00:99::2", "extendedNextHop = true")
}

/// Neither side has an IPv4 address on the link.
fn without_ipv4() -> Pair {
    let pair = Pair::new();
    pair.us.run("ip addr del 10.99.0.1/16 dev eth0").unwrap();
    pair.peer.run("ip addr del 10.99.0.2/16 dev eth0").unwrap();
    pair
}

const BIRD: &str = "log stderr all;
    router id 10.99.0.2;
    protocol device { scan time 1; }
    protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
    protocol static { ipv4; route 10.1.0.0/24 blackhole; }
    protocol bgp rb {
        local fd00:99::2 as 65002;
        neighbor fd00:99::1 as 65001;
        passive yes; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
        ipv4 { import all; export where source = RTS_STATIC; extended next hop on; };
        ipv6 { import all; export where source = RTS_STATIC; };
    }";

#[test]
fn both_ways_with_bird() {
    let pair = without_ipv4();
    let bird = Bird::start(&pair.peer, pair.dir(), BIRD).unwrap();
    let speaker = pair.speaker(&ours());
    pair.kernel_has(&[V4]);
    eventually(SOON, "BIRD has our network", || {
        let words = ["BGP.as_path: 65001", "BGP.next_hop: fd00:99::1"];
        bird.shows(&format!("show route all {OURS}"), &words)
    });
    eventually(SOON, "BIRD's kernel has our network", || {
        let found = routes(&pair.peer, "bird").map_err(|e| e.to_string())?;
        let right = found
            .get(OURS)
            .is_some_and(|via| via == "via fd00:99::1 dev eth0");
        right.then_some(()).ok_or(format!("{found:?}"))
    });
    bird.cli("disable static1").unwrap();
    pair.kernel_has(&[]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn both_ways_with_frr() {
    let pair = without_ipv4();
    let config = "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor fd00:99::1 remote-as 65001
 neighbor fd00:99::1 passive
 neighbor fd00:99::1 capability extended-nexthop
 neighbor fd00:99::1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor fd00:99::1 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor fd00:99::1 activate
 exit-address-family
";
    let frr = Frr::start(&pair.peer, pair.dir(), config).unwrap();
    let speaker = pair.speaker(&ours());
    pair.kernel_has(&[V4]);
    eventually(SOON, "FRR has our network", || {
        let line = format!("show bgp ipv4 unicast {OURS} json");
        frr.shows(&line, &["65001", "\"ip\":\"fd00:99::1\""])
    });
    eventually(SOON, "FRR's kernel has our network", || {
        let found = routes(&pair.peer, "bgp").map_err(|e| e.to_string())?;
        let right = found.get(OURS).is_some_and(|via| via.ends_with("dev eth0"));
        right.then_some(()).ok_or(format!("{found:?}"))
    });
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// What came from BIRD by way of IPv6 goes on to an internal FRR that takes IPv4 next hops alone: with ours, and not at all
/// where the received one is to be kept.
#[test]
fn to_a_peer_that_takes_none() {
    let three = Three::new();
    let _bird = three.left_bird(BIRD);
    let frr = three.right_frr(&frr(65001, &[], ""));
    let peers = |right: &str| ours() + &ours_in_three("right", 65001, right);
    let speaker = three.speaker(&peers(""));
    frr_has(
        &frr,
        V4.0,
        &[
            ("/nexthops/0/ip", json!("10.98.0.1")),
            ("/aspath/string", json!("65002")),
            ("/valid", json!(true)),
        ],
    );
    Three::reload(&speaker, &peers("nextHop = \"keep\""));
    soon("it cannot be said", || frr_lacks(&frr, V4.0));
    let why = why_not(&speaker, V4.0, "right");
    assert!(
        why.len() == 1 && why[0].contains("extendedNextHop"),
        "{why:?}"
    );
    frr_has(&frr, OURS, &[("/nexthops/0/ip", json!("10.98.0.1"))]);
    Three::reload(&speaker, &peers("nextHop = \"self\""));
    frr_has(&frr, V4.0, &[("/nexthops/0/ip", json!("10.98.0.1"))]);
    three.left.kernel_has(&[V4]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
