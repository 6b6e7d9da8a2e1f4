//! What a peer's settings make of AS paths and next hops, as BIRD sees it, and FRR.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::wait::throughout;
use serde_json::json;

use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, frr_lacks, ours};

const LEARNED: (&str, &str) = (LEFT, "via 10.99.0.2 dev eth0");

/// The left router's route with these AS numbers behind its own, a right router of AS `right`, and our peers.
struct Path {
    three: Three,
    right: Bird,
    speaker: Bgpd,
    asn: u32,
    _left: Bird,
}

impl Path {
    fn new(behind: &[u32], asn: u32) -> Self {
        let three = Three::new();
        let prepends: String = behind
            .iter()
            .rev()
            .map(|asn| format!("bgp_path.prepend({asn}); "))
            .collect();
        let left = three.left_bird(&bird("left", 65002, &[LEFT], "", &prepends));
        let right = three.right_bird(&bird("right", asn, &[], "", ""));
        let speaker = three.speaker(&peers("", asn, ""));
        bird_has(&right, "10.2.0.0/24", &[]);
        Self {
            three,
            right,
            speaker,
            asn,
            _left: left,
        }
    }

    fn reload(&self, left: &str, right: &str) {
        Three::reload(&self.speaker, &peers(left, self.asn, right));
    }

    #[track_caller]
    fn lacks(&self, why: &str) {
        throughout(Duration::from_secs(1), why, || {
            bird_lacks(&self.right, LEFT)
        });
    }

    #[track_caller]
    fn no_reset(&self) {
        assert_eq!(self.speaker.logged(&["session established"]), 2);
        assert_eq!(self.speaker.logged(&["session down"]), 0);
    }
}

fn peers(left: &str, asn: u32, right: &str) -> String {
    ours("left", 65002, left) + &ours("right", asn, right)
}

#[test]
fn as_override_puts_our_as_in_place_of_the_peers() {
    let path = Path::new(&[65003, 65009], 65003);
    path.three.left.kernel_has(&[LEARNED]);
    path.lacks("the right router refuses its own AS");
    path.reload("", "asOverride = true");
    bird_has(
        &path.right,
        LEFT,
        &["BGP.as_path: 65001 65002 65001 65009\n"],
    );
    path.no_reset();
}

#[test]
fn our_own_as_is_let_in_as_often_as_allowed() {
    let path = Path::new(&[65001, 65009, 65001], 65003);
    path.lacks("a loop");
    path.reload("allowedOwnAs = 1", "");
    path.lacks("twice is more than once");
    path.three.left.kernel_has(&[]);
    path.reload("allowedOwnAs = 2", "");
    bird_has(
        &path.right,
        LEFT,
        &["BGP.as_path: 65001 65002 65001 65009 65001\n"],
    );
    path.three.left.kernel_has(&[LEARNED]);
    path.reload("", "");
    path.three.left.kernel_has(&[]);
    path.no_reset();
}

#[test]
fn private_as_numbers_are_removed_and_others_stay() {
    let path = Path::new(&[3356, 64512, 4_200_000_000, 174], 65003);
    bird_has(
        &path.right,
        LEFT,
        &["BGP.as_path: 65001 65002 3356 64512 4200000000 174\n"],
    );
    path.reload("", "removePrivateAs = true");
    bird_has(&path.right, LEFT, &["BGP.as_path: 65001 3356 174\n"]);
    path.no_reset();
}

#[test]
fn next_hops_to_an_external_peer() {
    let path = Path::new(&[], 65003);
    for (mode, next_hop) in [
        ("", "10.98.0.1"),
        ("nextHop = \"keep\"", "10.99.0.2"),
        ("nextHop = \"self\"", "10.98.0.1"),
    ] {
        path.reload("", mode);
        bird_has(&path.right, LEFT, &[&format!("BGP.next_hop: {next_hop}\n")]);
        // What we originate has no other next hop than us.
        bird_has(&path.right, "10.2.0.0/24", &["BGP.next_hop: 10.98.0.1\n"]);
    }
    path.no_reset();
}

#[test]
fn next_hops_to_an_internal_peer() {
    let path = Path::new(&[], 65001);
    for (mode, next_hop) in [
        ("", "10.99.0.2"),
        ("nextHop = \"self\"", "10.98.0.1"),
        ("nextHop = \"keep\"", "10.99.0.2"),
    ] {
        path.reload("", mode);
        bird_has(&path.right, LEFT, &[&format!("BGP.next_hop: {next_hop}\n")]);
        bird_has(&path.right, "10.2.0.0/24", &["BGP.next_hop: 10.98.0.1\n"]);
    }
    path.no_reset();
}

/// FRR on the right, the left router's route with these AS numbers behind its own.
fn frr_path(behind: &[u32], asn: u32) -> (Three, Bird, Frr, Bgpd) {
    let three = Three::new();
    let prepends: String = behind
        .iter()
        .rev()
        .map(|asn| format!("bgp_path.prepend({asn}); "))
        .collect();
    let left = three.left_bird(&bird("left", 65002, &[LEFT], "", &prepends));
    let right = three.right_frr(&frr(asn, &["10.3.0.0/24"], ""));
    let speaker = three.speaker(&peers("", asn, ""));
    frr_has(&right, "10.2.0.0/24", &[("/valid", json!(true))]);
    (three, left, right, speaker)
}

/// AS_PATH and next hop of the left router's route at FRR, one setting after the other, without a reset.
fn check_frr(behind: &[u32], asn: u32, settings: &[(&str, Option<&str>, &str)]) {
    let (_three, _left, frr, speaker) = frr_path(behind, asn);
    for (more, path, next_hop) in settings {
        Three::reload(&speaker, &peers("", asn, more));
        match path {
            Some(path) => frr_has(
                &frr,
                LEFT,
                &[
                    ("/aspath/string", json!(path)),
                    ("/nexthops/0/ip", json!(next_hop)),
                ],
            ),
            None => throughout(Duration::from_secs(1), "FRR does not take it", || {
                frr_lacks(&frr, LEFT)
            }),
        }
    }
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn what_an_external_frr_is_sent() {
    check_frr(
        &[65003, 65009],
        65003,
        &[
            ("", None, ""),
            (
                "asOverride = true",
                Some("65001 65002 65001 65009"),
                "10.98.0.1",
            ),
            ("removePrivateAs = true", Some("65001"), "10.98.0.1"),
        ],
    );
    check_frr(
        &[3356, 64512, 4_200_000_000, 174],
        65003,
        &[
            (
                "nextHop = \"keep\"",
                Some("65001 65002 3356 64512 4200000000 174"),
                "10.99.0.2",
            ),
            (
                "removePrivateAs = true",
                Some("65001 3356 174"),
                "10.98.0.1",
            ),
        ],
    );
}

#[test]
fn what_an_internal_frr_is_sent() {
    check_frr(
        &[65009],
        65001,
        &[
            ("", Some("65002 65009"), "10.99.0.2"),
            ("nextHop = \"self\"", Some("65002 65009"), "10.98.0.1"),
            ("nextHop = \"keep\"", Some("65002 65009"), "10.99.0.2"),
        ],
    );
}

#[test]
fn our_own_as_from_frr_is_let_in_as_often_as_allowed() {
    let (three, _left, frr, speaker) = frr_path(&[], 65003);
    let learned = |network: &'static str| (network, "via 10.98.0.2 dev eth1");
    let (left, right) = (LEARNED, learned("10.3.0.0/24"));
    three.left.kernel_has(&[left, right]);
    frr.configure(&[
        "route-map loop permit 10",
        "set as-path prepend 65001 65009 65001",
        "exit",
        "router bgp 65003",
        "address-family ipv4 unicast",
        "neighbor 10.98.0.1 route-map loop out",
    ])
    .unwrap();
    three.left.kernel_has(&[left]);
    Three::reload(&speaker, &peers("", 65003, "allowedOwnAs = 2"));
    three.left.kernel_has(&[left, right]);
    Three::reload(&speaker, &peers("", 65003, "allowedOwnAs = 1"));
    three.left.kernel_has(&[left]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
