//! MULTI_EXIT_DISC between two neighbouring ASes, and from policies.

use roadbed_tests::frr::Frr;
use roadbed_tests::gobgp::Gobgp;
use serde_json::json;

use crate::gobgp::{announce, gobgp_config};
use crate::three::{LEFT, Three, bird, frr, frr_has, ours};

const VIA_LEFT: (&str, &str) = (LEFT, "via 10.99.0.2 dev eth0");
const VIA_RIGHT: (&str, &str) = (LEFT, "via 10.98.0.2 dev eth1");

/// An FRR on the right that announces [`LEFT`] with this MED.
fn right_with_med(three: &Three, asn: u32, med: u32) -> Frr {
    let right = three.right_frr(&frr(asn, &[LEFT], ""));
    set_med(&right, med);
    right
        .configure(&[
            &format!("router bgp {asn}"),
            "address-family ipv4 unicast",
            "neighbor 10.98.0.1 route-map med out",
        ])
        .unwrap();
    right
}

fn set_med(frr: &Frr, med: u32) {
    let set = format!("set metric {med}");
    frr.configure(&["route-map med permit 10", &set]).unwrap();
}

/// The right router has the lower identifier, the left one the better MED.
fn check(left_filter: &str, right_filter: &str, options: &str, expected: (&str, &str)) {
    let three = Three::new();
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", left_filter));
    let _right = three.right_bird(&bird("right", 65003, &[LEFT], "", right_filter));
    let peers = ours("left", 65002, "") + &ours("right", 65003, "");
    let speaker = three.speaker(&peers);
    three.left.kernel_has(&[VIA_RIGHT]);
    Three::reload_with(&speaker, options, &peers);
    three.left.kernel_has(&[expected]);
    Three::reload(&speaker, &peers);
    three.left.kernel_has(&[VIA_RIGHT]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn meds_of_different_ases_are_compared_when_asked() {
    check(
        "bgp_med = 5;",
        "bgp_med = 10;",
        "alwaysCompareMed = true",
        VIA_LEFT,
    );
}

/// Within one AS it counts without a word of configuration, and what ties shares the traffic.
#[test]
fn meds_of_one_as_are_always_compared() {
    const BOTH: (&str, &str) = (LEFT, "via 10.98.0.2 dev eth1, via 10.99.0.2 dev eth0");
    let three = Three::new();
    let left = |med: u32| bird("left", 65002, &[LEFT], "", &format!("bgp_med = {med};"));
    let bird = three.left_bird(&left(5));
    let frr = right_with_med(&three, 65002, 10);
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65002, "")));
    three.left.kernel_has(&[VIA_LEFT]);
    bird.configure(&left(20)).unwrap();
    three.left.kernel_has(&[VIA_RIGHT]);
    bird.configure(&left(10)).unwrap();
    three.left.kernel_has(&[BOTH]);
    set_med(&frr, 9);
    three.left.kernel_has(&[VIA_RIGHT]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn a_missing_med_is_the_worst_when_asked() {
    let both = "alwaysCompareMed = true\nmissingMedAsWorst = true";
    check("bgp_med = 5;", "unset(bgp_med);", both, VIA_LEFT);
}

/// GoBGP sends no MED of its own accord, which is the best, or the worst when asked.
#[test]
fn a_missing_med_of_gobgp_is_the_best_or_the_worst() {
    let three = Three::new();
    let left = Gobgp::start(
        &three.left.peer,
        three.left.dir(),
        &gobgp_config("10.99.0.1", ""),
    )
    .unwrap();
    announce(&left, VIA_LEFT, "origin igp");
    let _right = three.right_bird(&bird("right", 65003, &[LEFT], "", "bgp_med = 5;"));
    let peers = ours("left", 65002, "") + &ours("right", 65003, "");
    let speaker = three.speaker(&peers);
    three.left.kernel_has(&[VIA_RIGHT]);
    Three::reload_with(&speaker, "alwaysCompareMed = true", &peers);
    three.left.kernel_has(&[VIA_LEFT]);
    let both = "alwaysCompareMed = true\nmissingMedAsWorst = true";
    Three::reload_with(&speaker, both, &peers);
    three.left.kernel_has(&[VIA_RIGHT]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// The same between a BIRD and an FRR.
#[test]
fn a_med_of_frr_is_compared_with_one_of_bird_when_asked() {
    let three = Three::new();
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", "bgp_med = 5;"));
    let right = right_with_med(&three, 65003, 10);
    let peers = ours("left", 65002, "") + &ours("right", 65003, "");
    let speaker = three.speaker(&peers);
    three.left.kernel_has(&[VIA_RIGHT]);
    Three::reload_with(&speaker, "alwaysCompareMed = true", &peers);
    three.left.kernel_has(&[VIA_LEFT]);
    // Two are alike by their MEDs again.
    set_med(&right, 5);
    three.left.kernel_has(&[VIA_RIGHT]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Another AS's MED is not passed on; a policy's is, even when it is the same.
#[test]
fn a_policy_sends_its_own_med() {
    let three = Three::new();
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", "bgp_med = 7;"));
    let right = three.right_frr(&frr(65003, &[], ""));
    let left = ours("left", 65002, "");
    let speaker = three.speaker(&(left.clone() + &ours("right", 65003, "")));
    frr_has(
        &right,
        LEFT,
        &[("/metric", json!(null)), ("/valid", json!(true))],
    );
    let sets = ours("right", 65003, "exportPolicies = [\"med\"]")
        + "[policies.med]\nrules = [{ set = { med = 7 }, action = \"accept\" }]\n";
    Three::reload(&speaker, &(left + &sets));
    frr_has(&right, LEFT, &[("/metric", json!(7))]);
}
