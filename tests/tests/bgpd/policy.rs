//! Route policies in force, well-known communities, and refreshes.

use std::time::Duration;

use roadbed_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::fixture::{Pair, SOON, peer};
use crate::script::{Script, mandatory, message, open, update};
use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, frr_lacks, ours};

const SECOND: &str = "10.1.1.0/24";
const OURS: &str = "10.2.0.0/24";

/// What goes in, out to the left and out to the right, with the values that a reload changes.
fn policies(rejected: &str, pref: u32, med: u32, prepends: u8) -> String {
    ours(
        "left",
        65002,
        "importPolicies = [\"in\"]\nexportPolicies = [\"out\"]",
    ) + &ours("right", 65001, "exportPolicies = [\"out\", \"accept-all\"]")
        + &format!(
            r#"
[policies.in]
defaultAction = "accept"
[[policies.in.rules]]
match = {{ prefixes = [{{ prefix = "{rejected}" }}] }}
action = "reject"
[[policies.in.rules]]
set = {{ localPref = {pref}, communities = {{ add = ["65001:7"] }} }}

[policies.out]
defaultAction = "next"
[[policies.out.rules]]
match = {{ sources = ["static"] }}
set = {{ med = {med}, prependAs = {{ count = {prepends} }}, communities = {{ add = ["65001:{med}"] }} }}
action = "accept"
"#
        )
}

#[test]
fn policies_are_in_force_both_ways_and_change_without_a_reset() {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65002, &[LEFT, SECOND], "", ""));
    let frr = three.right_frr(&frr(65001, &[], ""));
    // Its own AS is in what it is sent: `out` puts it there.
    let allow = [
        "router bgp 65001",
        "address-family ipv4 unicast",
        "neighbor 10.98.0.1 allowas-in 5",
    ];
    frr.configure(&allow).unwrap();
    let speaker = three.speaker(&policies(SECOND, 250, 50, 2));
    for (accepted, rejected, pref, med, path) in [
        (LEFT, SECOND, 250, 50, "65001 65001 65001"),
        (SECOND, LEFT, 40, 60, "65001 65001"),
    ] {
        if accepted == SECOND {
            Three::reload(&speaker, &policies(LEFT, pref, med, 1));
        }
        frr_has(
            &frr,
            accepted,
            &[
                ("/locPrf", json!(pref)),
                ("/community/string", json!("65001:7")),
                ("/aspath/string", json!("65002")),
            ],
        );
        eventually(SOON, "the other one is not let in", || {
            frr_lacks(&frr, rejected)
        });
        three
            .left
            .kernel_has(&[(accepted, "via 10.99.0.2 dev eth0")]);
        let (as_path, med) = (format!("BGP.as_path: {path}\n"), med.to_string());
        bird_has(
            &bird,
            OURS,
            &[
                &as_path,
                &format!("BGP.med: {med}"),
                &format!("BGP.community: (65001,{med})"),
            ],
        );
        let prepended = path.split_once(' ').unwrap().1;
        frr_has(
            &frr,
            OURS,
            &[
                ("/aspath/string", json!(prepended)),
                ("/metric", json!(med.parse::<u32>().unwrap())),
                ("/community/string", json!(format!("65001:{med}"))),
            ],
        );
    }
    // `out` is the only policy to the left: its `next` has none to ask.
    throughout(Duration::from_millis(500), "no route comes back", || {
        let answer = bird
            .cli("show route protocol rb")
            .map_err(|e| e.to_string())?;
        let only_ours = answer.contains(OURS) && !answer.contains("10.1.");
        only_ours.then_some(()).ok_or(answer)
    });
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn no_export_stays_inside_and_the_rest_goes_on() {
    let three = Three::new();
    let filter = format!("if net = {SECOND} then bgp_community.add((65535, 65281));");
    let _left = three.left_bird(&bird("left", 65002, &[LEFT, SECOND], "", &filter));
    let right = three.right_bird(&bird("right", 65003, &[], "", ""));
    let peers = |asn: u32| ours("left", 65002, "") + &ours("right", asn, "");
    let _speaker = three.speaker(&peers(65003));
    bird_has(&right, LEFT, &["BGP.as_path: 65001 65002"]);
    three.left.kernel_has(&[
        (LEFT, "via 10.99.0.2 dev eth0"),
        (SECOND, "via 10.99.0.2 dev eth0"),
    ]);
    throughout(Duration::from_secs(1), "it does not leave our AS", || {
        bird_lacks(&right, SECOND)
    });
}

#[test]
fn no_export_reaches_an_internal_peer() {
    let three = Three::new();
    let filter = "bgp_community.add((65535, 65281));";
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", filter));
    let right = three.right_bird(&bird("right", 65001, &[], "", ""));
    let _speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65001, "")));
    bird_has(&right, LEFT, &["BGP.community: (65535,65281)"]);
}

/// RFC 8326: the shorter path loses as soon as its router says that it is about to go, and wins again when it stays.
#[test]
fn graceful_shutdown_makes_a_path_the_least_wanted() {
    let three = Three::new();
    let config = |filter: &str| bird("left", 65002, &[LEFT], "", filter);
    let left = three.left_bird(&config(""));
    let longer = "bgp_path.prepend(65003); bgp_path.prepend(65003);";
    let _right = three.right_bird(&bird("right", 65003, &[LEFT], "", longer));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    let reconfigure = |filter: &str| {
        std::fs::write(three.left.dir().join("bird.conf"), config(filter)).unwrap();
        left.cli("configure").unwrap();
    };
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    reconfigure("bgp_community.add((65535, 0));");
    three.left.kernel_has(&[(LEFT, "via 10.98.0.2 dev eth1")]);
    reconfigure("");
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// FRR says it of everything at once, when it is about to go as a whole.
#[test]
fn graceful_shutdown_of_a_whole_frr() {
    let three = Three::new();
    let longer = "bgp_path.prepend(65002); bgp_path.prepend(65002);";
    let _left = three.left_bird(&bird("left", 65002, &[LEFT], "", longer));
    let frr = three.right_frr(&frr(65003, &[LEFT], ""));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    let (left, right) = (
        (LEFT, "via 10.99.0.2 dev eth0"),
        (LEFT, "via 10.98.0.2 dev eth1"),
    );
    three.left.kernel_has(&[right]);
    frr.configure(&["router bgp 65003", "bgp graceful-shutdown"])
        .unwrap();
    three.left.kernel_has(&[left]);
    frr.configure(&["router bgp 65003", "no bgp graceful-shutdown"])
        .unwrap();
    three.left.kernel_has(&[right]);
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// RFC 7313: the answer to a refresh stands between BoRR and EoRR, and what it repeats is not lost on the way.
#[test]
fn a_refresh_is_answered_in_a_frame_and_loses_nothing() {
    let pair = Pair::new();
    let config = bird("left", 65002, &[LEFT], "debug { packets };", "");
    let mut bird = roadbed_tests::bird::Bird::start(&pair.peer, pair.dir(), &config).unwrap();
    let speaker = pair.speaker(&peer("left", "10.99.0.2", "families = [\"ipv4-unicast\"]"));
    bird_has(&bird, OURS, &["BGP.as_path: 65001"]);
    bird_has(&bird, LEFT, &[]);
    eventually(SOON, "both understand RFC 7313", || {
        let answer = bird
            .cli("show protocols all rb")
            .map_err(|e| e.to_string())?;
        let both = answer.matches("Enhanced refresh").count() == 2;
        both.then_some(()).ok_or(answer)
    });
    let before = bird.process().log().len();
    bird.cli("reload in rb").unwrap();
    eventually(SOON, "BIRD got a frame", || {
        let log = bird.process().log();
        let (begin, end) = (
            log[before..].find("Got BEGIN-OF-RR"),
            log[before..].find("Got END-OF-RR"),
        );
        let update = log[before..].find("Got UPDATE");
        let ordered = begin.is_some() && begin < update && update < end;
        ordered.then_some(()).ok_or(log)
    });
    throughout(Duration::from_secs(1), "no route is lost", || {
        bird.shows("show route", &[OURS, LEFT])
    });
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// RFC 7313 §4, received: what is not repeated between BoRR and EoRR goes.
#[test]
fn what_a_refresh_does_not_repeat_is_gone() {
    let pair = Pair::new();
    let speaker = pair.speaker(&peer("script", "10.99.0.2", "passive = true"));
    let mut script = Script::connect(&pair.peer, "10.99.0.2", "10.99.0.1");
    // Route refresh, and in frames.
    script.greet(&with_capabilities(
        open(65002, [10, 99, 0, 2]),
        &[2, 0, 70, 0],
    ));
    let via = "via 10.99.0.2 dev eth0";
    let announce = |third: u8| update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, third]);
    let all = ["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"];
    for third in 1..=3 {
        script.send(&announce(third));
    }
    pair.kernel_has(&all.map(|prefix| (prefix, via)));
    let mark = |subtype: u8| message(5, &[0, 1, subtype, 1]);
    script.send(&mark(1));
    script.send(&announce(2));
    script.keep_alive(Duration::from_secs(1));
    pair.kernel_has(&all.map(|prefix| (prefix, via)));
    script.send(&mark(2));
    pair.kernel_has(&[(all[1], via)]);
    script.keep_alive(Duration::from_secs(1));
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// An OPEN with more capabilities.
fn with_capabilities(mut open: Vec<u8>, capabilities: &[u8]) -> Vec<u8> {
    let more = u8::try_from(capabilities.len()).unwrap();
    open.extend(capabilities);
    // Length of the message, of all optional parameters, and of the one that holds the capabilities.
    for at in [17, 28, 30] {
        open[at] += more;
    }
    open
}
