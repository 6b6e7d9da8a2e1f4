//! Roles and ONLY_TO_CUSTOMER (RFC 9234) with BIRD and FRR, which both implement them.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::exabgp::{OVER_V4, neighbour, start};
use crate::fixture::SOON;
use crate::three::{LEFT, Three, bird, bird_has, frr, frr_has, frr_lacks, ours};

const OURS: &str = "10.2.0.0/24";

fn role(role: &str) -> String {
    format!("role = \"{role}\"")
}

#[test]
fn the_other_side_of_each_role_comes_up_with_bird() {
    for (ours_is, theirs, otc) in [
        ("provider", "customer", true),
        ("customer", "provider", false),
        ("peer", "peer", true),
        ("route-server", "rs_client", true),
        ("route-server-client", "rs_server", false),
    ] {
        let three = Three::new();
        let options = format!("local role {theirs}; require roles yes;");
        let bird = three.left_bird(&bird("left", 65002, &[LEFT], &options, ""));
        let more = role(ours_is) + "\nroleStrict = true";
        let _speaker = three.speaker(&ours("left", 65002, &more));
        bird_has(&bird, OURS, &["BGP.as_path: 65001"]);
        three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
        // Downhill and sideways our own routes are marked as ours.
        let marked = bird.shows(&format!("show route all {OURS}"), &["BGP.otc: 65001"]);
        assert_eq!(marked.is_ok(), otc, "{ours_is}: {marked:?}");
    }
}

#[test]
fn the_other_side_of_a_role_comes_up_with_frr() {
    let three = Three::new();
    let frr = three.right_frr(&frr(
        65003,
        &["10.3.0.0/24"],
        "local-role customer strict-mode",
    ));
    let more = role("provider") + "\nroleStrict = true";
    let _speaker = three.speaker(&ours("right", 65003, &more));
    frr_has(&frr, OURS, &[("/otc", json!(65001))]);
    three
        .left
        .kernel_has(&[("10.3.0.0/24", "via 10.98.0.2 dev eth1")]);
}

/// The session stays away, both ends know why, and so does who reads our log.
fn check_refused(ours_has: &str, theirs: &str, expected: &str) {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65002, &[LEFT], theirs, ""));
    let mut speaker = three.speaker(&ours("left", 65002, ours_has));
    eventually(SOON, "our log tells", || tells(&mut speaker, expected));
    eventually(SOON, "BIRD knows", || knows_mismatch(&bird));
    throughout(Duration::from_secs(2), "no session", || {
        three.left.kernel_has_now(&[])
    });
    assert_eq!(speaker.logged(&["session established"]), 0);
}

/// Whoever reads the other's OPEN first, says so first.
fn tells(speaker: &mut Bgpd, expected: &str) -> Result<(), String> {
    speaker
        .says(&["did not come up", expected])
        .or_else(|_| {
            speaker.says(&[
                "did not come up",
                "the peer sent OPEN Message Error/Role Mismatch",
            ])
        })
        .map_err(|e| e.to_string())
}

fn knows_mismatch(bird: &Bird) -> Result<(), String> {
    let answer = bird
        .cli("show protocols all rb")
        .map_err(|e| e.to_string())?;
    let known = answer.contains("Role mismatch");
    known.then_some(()).ok_or(answer)
}

#[test]
fn roles_that_do_not_fit_are_refused() {
    check_refused(
        &role("provider"),
        "local role provider;",
        "the peer says that it is our provider, but it is configured as our customer",
    );
}

#[test]
fn a_strict_role_refuses_silence() {
    let more = role("provider") + "\nroleStrict = true";
    check_refused(&more, "", "the peer names no role");
}

/// FRR dials: what it says of a session that it only accepted is soon forgotten.
#[test]
fn frr_is_told_that_roles_do_not_fit() {
    let three = Three::new();
    let frr = three.right_frr(&frr(65003, &[], "local-role peer\ntimers connect 1"));
    let dial = ["router bgp 65003", "no neighbor 10.98.0.1 passive"];
    let more = role("provider") + "\npassive = true";
    let mut speaker = three.speaker(&ours("right", 65003, &more));
    frr.configure(&dial).unwrap();
    let expected = "the peer says that it is our peer, but it is configured as our customer";
    eventually(SOON, "our log tells", || tells(&mut speaker, expected));
    eventually(SOON, "FRR knows", || {
        let words = ["\"lastErrorCodeSubcode\":\"020B\""];
        frr.shows("show bgp neighbors 10.98.0.1 json", &words)
    });
    assert_eq!(speaker.logged(&["session established"]), 0);
}

/// The provider says neither role nor OTC: what its routes are allowed is up to us.
#[test]
fn a_providers_route_goes_to_customers_and_to_nobody_else() {
    let three = Three::new();
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65003, &[], "local-role customer"));
    let peers =
        |right: &str| ours("left", 65002, &role("customer")) + &ours("right", 65003, &role(right));
    let speaker = three.speaker(&peers("provider"));
    frr_has(
        &frr,
        LEFT,
        &[
            ("/otc", json!(65002)),
            ("/aspath/string", json!("65001 65002")),
        ],
    );
    for (theirs, ours_is) in [("peer", "peer"), ("provider", "customer")] {
        let local = format!("neighbor 10.98.0.1 local-role {theirs}");
        frr.configure(&["router bgp 65003", &local]).unwrap();
        Three::reload(&speaker, &peers(ours_is));
        eventually(SOON, "the former session's route is gone", || {
            frr_lacks(&frr, LEFT)
        });
        frr_has(&frr, OURS, &[("/aspath/string", json!("65001"))]);
        throughout(Duration::from_secs(2), "it does not leak", || {
            frr_lacks(&frr, LEFT)
        });
        frr_has(&frr, OURS, &[("/aspath/string", json!("65001"))]);
    }
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
}

/// What comes with ONLY_TO_CUSTOMER where it must not (RFC 9234 §5): from a customer, and from a peer with another AS than
/// the peer's. BIRD and ExaBGP say no role, so nothing but our own look at it stands in the way.
const INGRESS: [(&str, &str, bool); 5] = [
    ("provider", "65009", false),
    ("route-server", "65009", false),
    ("peer", "65009", false),
    ("peer", "65002", true),
    ("customer", "65009", true),
];

#[track_caller]
fn is_used(three: &Three, speaker: &Bgpd, ours_is: &str, used: bool) {
    const SECOND: (&str, &str) = ("10.1.1.0/24", "via 10.99.0.2 dev eth0");
    let marked = (LEFT, "via 10.99.0.2 dev eth0");
    let expected = if used {
        vec![marked, SECOND]
    } else {
        vec![SECOND]
    };
    three.left.kernel_has(&expected);
    let line = format!("bgp routes {LEFT} --received left -o wide");
    eventually(SOON, "the reason is shown", || {
        let said = speaker.ctl(&line).map_err(|error| error.to_string())?;
        let leak = said.contains("not eligible: a route leak by the peer's role");
        (leak != used)
            .then_some(())
            .ok_or(format!("{ours_is}: {said}"))
    });
}

#[test]
fn a_leak_of_bird_is_not_used() {
    for (ours_is, otc, used) in INGRESS {
        let three = Three::new();
        let filter = format!("if net = {LEFT} then bgp_otc = {otc};");
        let _bird = three.left_bird(&bird("left", 65002, &[LEFT, "10.1.1.0/24"], "", &filter));
        let speaker = three.speaker(&ours("left", 65002, &role(ours_is)));
        is_used(&three, &speaker, ours_is, used);
    }
}

#[test]
fn a_leak_of_exabgp_is_not_used() {
    for (ours_is, otc, used) in INGRESS {
        let three = Three::new();
        let otc: u32 = otc.parse().unwrap();
        let attribute = format!("attribute [ 0x23 0xc0 0x{otc:08x} ]");
        let routes = [(LEFT, attribute.as_str()), ("10.1.1.0/24", "")];
        let file = neighbour(OVER_V4, (65002, 65001), "", &routes);
        let _exabgp = start(&three.left, OVER_V4.0, &file);
        let speaker = three.speaker(&ours("left", 65002, &role(ours_is)));
        is_used(&three, &speaker, ours_is, used);
    }
}
