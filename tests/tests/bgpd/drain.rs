//! Taking a peer or the whole speaker out of traffic before its sessions go (RFC 8326), and saying why (RFC 9003).

use roadbed_tests::wait::eventually;
use serde_json::json;

use crate::fixture::SOON;
use crate::three::{LEFT, Three, bird, bird_has, frr, frr_has, ours};

const RIGHT: &str = "10.3.0.0/24";
const MARK: &str = "graceful-shutdown";

#[test]
fn a_drained_peer_is_the_last_resort_and_then_told_why() {
    let three = Three::new();
    let left = three.left_bird(&bird("left", 65001, &[LEFT], "", ""));
    let right = three.right_frr(&frr(65003, &[RIGHT], ""));
    let peers = |right: &str| ours("left", 65001, "") + &ours("right", 65003, right);
    let speaker = three.speaker(&peers(""));
    frr_has(
        &right,
        LEFT,
        &[("/community", json!(null)), ("/valid", json!(true))],
    );
    bird_has(&left, RIGHT, &["BGP.local_pref: 100"]);

    Three::reload(&speaker, &peers("gracefulShutdown = true"));
    frr_has(&right, LEFT, &[("/community/string", json!(MARK))]);
    frr_has(&right, "10.2.0.0/24", &[("/community/string", json!(MARK))]);
    // What comes over that session is left to others.
    bird_has(&left, RIGHT, &["BGP.local_pref: 0\n"]);
    Three::reload(&speaker, &peers(""));
    frr_has(&right, LEFT, &[("/community", json!(null))]);
    bird_has(&left, RIGHT, &["BGP.local_pref: 100"]);
    assert_eq!(speaker.logged(&["session down"]), 0);

    let why = "gracefulShutdown = true\nshutdown = \"rack 7 moves, back at noon\"";
    Three::reload(&speaker, &peers(why));
    eventually(SOON, "FRR knows why", || {
        let words = [
            "\"lastErrorCodeSubcode\":\"0602\"",
            "rack 7 moves, back at noon",
        ];
        right.shows("show bgp neighbors 10.98.0.1 json", &words)
    });
    assert_eq!(speaker.logged(&["session down"]), 1);
    Three::reload(&speaker, &peers(""));
    frr_has(
        &right,
        LEFT,
        &[("/community", json!(null)), ("/valid", json!(true))],
    );
}

/// Internal peers are told with LOCAL_PREF, too.
#[test]
fn a_drained_speaker_is_the_last_resort_of_all() {
    let three = Three::new();
    let left = three.left_bird(&bird("left", 65001, &[], "", ""));
    let right = three.right_frr(&frr(65003, &[RIGHT], ""));
    let peers = ours("left", 65001, "") + &ours("right", 65003, "");
    let speaker = three.speaker(&peers);
    bird_has(&left, RIGHT, &["BGP.local_pref: 100"]);
    for (draining, local_pref) in [(true, "0\n"), (false, "100\n")] {
        Three::reload_with(&speaker, &format!("gracefulShutdown = {draining}"), &peers);
        for prefix in ["10.2.0.0/24", RIGHT] {
            bird_has(&left, prefix, &[&format!("BGP.local_pref: {local_pref}")]);
            let answer = left.cli(&format!("show route all {prefix}")).unwrap();
            assert_eq!(answer.contains("(65535,0)"), draining, "{answer}");
        }
        let mark = if draining {
            ("/community/string", json!(MARK))
        } else {
            ("/community", json!(null))
        };
        frr_has(&right, "10.2.0.0/24", &[mark, ("/valid", json!(true))]);
    }
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Each refused attempt of BIRD is a peer of the range for a moment, and none of them stays in the way.
#[test]
fn a_range_that_is_shut_down_refuses_and_then_admits() {
    let three = Three::new();
    let dials = bird("left", 65002, &[LEFT], "", "").replace("passive yes;", "");
    let _left = three.left_bird(&dials);
    let range = |more: &str| {
        let range = "listenRange = \"10.99.0.0/24\"\nmaxSessions = 1\n";
        ours("left", 65002, &format!("{range}{more}"))
            .replace("address = \"10.99.0.2\"\n", "")
            .replace("connectRetrySeconds = 1\n", "")
    };
    let mut speaker = three.speaker(&range("shutdown = \"closed until noon\""));
    eventually(SOON, "two attempts are refused", || {
        match speaker.logged(&["dynamic peer added"]) {
            0 | 1 => speaker.says(&["never said"]),
            _ => Ok(()),
        }
    });
    three.left.kernel_has_now(&[]).unwrap();
    Three::reload(&speaker, &range(""));
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    assert_eq!(speaker.logged(&["the listen range is full"]), 0);
}
