//! External peers without policies (RFC 8212): nothing of theirs is used or passed on, and what is ours is announced.

use std::time::Duration;

use roadbed_tests::wait::throughout;
use serde_json::json;

use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, frr_lacks, ours};

const RIGHT: &str = "10.3.0.0/24";
const OURS: &str = "10.2.0.0/24";

#[test]
fn without_policies_only_what_is_ours_is_announced_and_nothing_is_used() {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65002, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65003, &[RIGHT], ""));
    let peers = |before: &str| {
        let both = ours("left", 65002, "") + &ours("right", 65003, "");
        let silent = both
            .replace("importPolicies = [\"accept-all\"]\n", "")
            .replace("exportPolicies = [\"accept-all\"]\n", "");
        before.to_owned() + &silent
    };
    let speaker = three.speaker(&peers(""));
    bird_has(&bird, OURS, &["BGP.as_path: 65001\n"]);
    frr_has(&frr, OURS, &[("/aspath/string", json!("65001"))]);
    throughout(Duration::from_secs(1), "nothing of theirs is used", || {
        three.left.kernel_has_now(&[])?;
        bird_lacks(&bird, RIGHT)?;
        frr_lacks(&frr, LEFT)
    });
    // What is let in is still not passed on.
    Three::reload(&speaker, &peers("nodePrefixes = [\"10.1.0.0/16\"]\n"));
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    throughout(Duration::from_secs(1), "it is not announced", || {
        frr_lacks(&frr, LEFT)
    });
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
