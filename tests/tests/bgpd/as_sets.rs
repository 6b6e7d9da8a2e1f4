//! AS_SET as FRR makes it: the paths of what it aggregates.

use std::time::Duration;

use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::SOON;
use crate::three::{Three, bird, frr, ours};

const AGGREGATE: (&str, &str) = ("10.7.0.0/16", "via 10.98.0.2 dev eth1");

/// FRR aggregates what a BIRD beyond us tells it alone. Without an AS_SET the aggregate is used; with one it is taken back,
/// whether it comes from outside or inside (RFC 9774 §3).
#[test]
fn an_aggregate_of_frr_with_a_set_is_not_used() {
    for asn in [65003, 65001] {
        let three = Three::new();
        let forward = "sysctl -qw net.ipv4.ip_forward=1";
        three.left.us.run(forward).unwrap();
        let inside = ["10.7.1.0/24", "10.7.2.0/24"];
        let prepend = "if net = 10.7.2.0/24 then bgp_path.prepend(64600);";
        let session = format!("neighbor 10.98.0.2 as {asn}; multihop 2;");
        let beyond = bird("left", 65002, &inside, "", prepend)
            .replace("neighbor 10.99.0.1 as 65001;", &session);
        let _bird = three.left_bird(&beyond);
        let frr = three.right_frr(&frr(asn, &[], ""));
        let router = format!("router bgp {asn}");
        let family = "address-family ipv4 unicast";
        frr.configure(&[
            &router,
            "neighbor 10.99.0.2 remote-as 65002",
            "neighbor 10.99.0.2 ebgp-multihop 2",
            "neighbor 10.99.0.2 timers connect 1",
            family,
            "neighbor 10.99.0.2 activate",
            "aggregate-address 10.7.0.0/16 summary-only",
        ])
        .unwrap();
        let speaker = three.speaker(&ours("right", asn, ""));
        three.left.kernel_has(&[AGGREGATE]);
        let set = "aggregate-address 10.7.0.0/16 as-set summary-only";
        frr.configure(&[&router, family, set]).unwrap();
        let line = "show bgp ipv4 unicast neighbors 10.98.0.1 advertised-routes";
        eventually(SOON, "FRR says a set of both", || {
            frr.shows(line, &["10.7.0.0/16", "{64600}"])
        });
        three.left.kernel_has(&[]);
        throughout(Duration::from_secs(1), "it stays out", || {
            three.left.kernel_has_now(&[])
        });
        let plain = "aggregate-address 10.7.0.0/16 summary-only";
        frr.configure(&[&router, family, &format!("no {set}"), plain])
            .unwrap();
        three.left.kernel_has(&[AGGREGATE]);
        assert_eq!(speaker.logged(&["session down"]), 0);
    }
}
