//! FRR as the peer: its `bgpd` and `zebra`, which puts our routes into its kernel.

use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::routes;
use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, peer};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
const V6: (&str, &str) = ("fd00:1::/64", "via fd00:99::2 dev eth0");

fn frr_config(remote: &str) -> String {
    format!(
        "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor {remote} remote-as 65001
 neighbor {remote} passive
 neighbor {remote} advertisement-interval 0
 address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor {remote} activate
 exit-address-family
 address-family ipv6 unicast
  network fd00:1::/64
  neighbor {remote} activate
 exit-address-family
"
    )
}

fn check_exchange(local: &str, remote: &str) {
    let pair = Pair::new();
    let frr = Frr::start(&pair.peer, pair.dir(), &frr_config(remote)).unwrap();
    let mut speaker = pair.speaker(&peer("frr", local, ""));
    pair.kernel_has(&[V4, V6]);
    for line in [
        "show bgp ipv4 unicast 10.2.0.0/24 json",
        "show bgp ipv6 unicast fd00:2::/64 json",
    ] {
        eventually(SOON, "FRR has our network", || {
            frr.shows(line, &["65001", "\"bestpath\""])
        });
    }
    eventually(SOON, "FRR's kernel has our networks", || {
        let found = routes(&pair.peer, "bgp").map_err(|e| e.to_string())?;
        let right = found.get("10.2.0.0/24").is_some_and(|via| via == "via 10.99.0.1 dev eth0")
            // zebra prefers the link-local next hop where it knows one.
            && found.get("fd00:2::/64").is_some_and(|via| via.ends_with("dev eth0"));
        right.then_some(()).ok_or(format!("{found:?}"))
    });

    let withdraw = [
        "router bgp 65002",
        "address-family ipv4 unicast",
        "no network 10.1.0.0/24",
    ];
    frr.configure(&withdraw).unwrap();
    pair.kernel_has(&[V6]);

    assert_eq!(speaker.logged(&["session established"]), 1);
    speaker.stop().unwrap();
    eventually(SOON, "FRR knows why we went", || {
        let words = [
            "\"lastErrorCodeSubcode\":\"0602\"",
            "stopped by its operator",
        ];
        frr.shows(&format!("show bgp neighbors {remote} json"), &words)
    });
    eventually(SOON, "FRR's kernel lost our networks", || {
        let found = routes(&pair.peer, "bgp").map_err(|e| e.to_string())?;
        found.is_empty().then_some(()).ok_or(format!("{found:?}"))
    });
}

#[test]
fn routes_go_both_ways_over_ipv4() {
    check_exchange("10.99.0.2", "10.99.0.1");
}

#[test]
fn routes_go_both_ways_over_ipv6() {
    check_exchange("fd00:99::2", "fd00:99::1");
}
