//! A router that has moved to another AS while its peer still knows the former one (RFC 7705), and paths that do not begin
//! with the AS of who sends them.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::fixture::SOON;
use crate::three::{LEFT, Three, bird, bird_has, frr, frr_has, ours};

const RIGHT: &str = "10.3.0.0/24";

/// FRR on the right knows us as AS 64999; BIRD on the left as what we are.
struct Moved {
    three: Three,
    left: Bird,
    right: Frr,
    speaker: Bgpd,
}

impl Moved {
    fn new(known_as: u32, options: &str) -> Self {
        let three = Three::new();
        let left = three.left_bird(&bird("left", 65002, &[LEFT], "", ""));
        let config =
            frr(65003, &[RIGHT], "").replace("remote-as 65001", &format!("remote-as {known_as}"));
        let right = three.right_frr(&config);
        let speaker = three.speaker(&peers(options));
        Self {
            three,
            left,
            right,
            speaker,
        }
    }

    #[track_caller]
    fn sees(&self, left: &str, right: &str) {
        bird_has(&self.left, RIGHT, &[&format!("BGP.as_path: {left}\n")]);
        frr_has(&self.right, LEFT, &[("/aspath/string", json!(right))]);
    }

    fn reload(&self, options: &str) {
        Three::reload(&self.speaker, &peers(options));
    }
}

fn peers(options: &str) -> String {
    let right = format!("localAsNumber = 64999\n{options}");
    ours("left", 65002, "") + &ours("right", 65003, &right)
}

#[test]
fn what_either_side_sees_of_the_former_as() {
    let moved = Moved::new(64999, "");
    moved.sees("65001 65003", "64999 65002");
    moved.reload("asMigration = {}");
    moved.sees("65001 64999 65003", "64999 65001 65002");
    moved.reload("asMigration = { noPrepend = true }");
    moved.sees("65001 65003", "64999 65001 65002");
    moved.reload("asMigration = { replaceAs = true }");
    moved.sees("65001 64999 65003", "64999 65002");
    assert_eq!(moved.speaker.logged(&["session established"]), 2);
    assert_eq!(moved.speaker.logged(&["session down"]), 0);
    let routes = [
        (LEFT, "via 10.99.0.2 dev eth0"),
        (RIGHT, "via 10.98.0.2 dev eth1"),
    ];
    moved.three.left.kernel_has(&routes);
}

/// FRR has been moved too: it knows us by the real AS, and refuses the former one.
#[test]
fn a_peer_that_knows_the_real_as_already() {
    let moved = Moved::new(65001, "asMigration = { dualAs = true }");
    moved.sees("65001 65003", "65001 65002");
    assert!(moved.speaker.logged(&["Bad Peer AS"]) > 0);
    moved.reload("asMigration = { dualAs = true, noPrepend = true }");
    throughout(Duration::from_secs(1), "the session stays", || match moved
        .speaker
        .logged(&["session down"])
    {
        0 => Ok(()),
        downs => Err(format!("{downs} times down")),
    });
}

/// The same from BIRD's side, which is told one number first and the other one then.
#[test]
fn a_bird_that_knows_either_as() {
    let three = Three::new();
    let knows = |asn: u32| {
        let config = bird("left", 65002, &[LEFT], "", "");
        config.replace("as 65001;", &format!("as {asn};"))
    };
    let left = three.left_bird(&knows(64999));
    let right = three.right_frr(&frr(65003, &[RIGHT], ""));
    let options = "localAsNumber = 64999\nasMigration = { dualAs = true }";
    let speaker = three.speaker(&(ours("left", 65002, options) + &ours("right", 65003, "")));
    bird_has(&left, RIGHT, &["BGP.as_path: 64999 65001 65003\n"]);
    let former = json!("65001 64999 65002");
    frr_has(&right, LEFT, &[("/aspath/string", former)]);
    left.configure(&knows(65001)).unwrap();
    bird_has(&left, RIGHT, &["BGP.as_path: 65001 65003\n"]);
    frr_has(&right, LEFT, &[("/aspath/string", json!("65001 65002"))]);
    assert!(speaker.logged(&["Bad Peer AS"]) > 0);
}

/// A route server leaves its own AS out of the path: wrong for who is none.
#[test]
fn a_path_must_begin_with_the_peers_as_unless_it_need_not() {
    let three = Three::new();
    let left = three.left_bird(&bird(
        "left",
        65002,
        &[LEFT],
        "rs client;",
        "bgp_path.prepend(65009);",
    ));
    let right = three.right_bird(&bird("right", 65003, &[], "", ""));
    let with = |left: &str| ours("left", 65002, left) + &ours("right", 65003, "");
    let mut speaker = three.speaker(&with(""));
    eventually(SOON, "the fault is logged", || {
        speaker.says(&["treat-as-withdraw", "does not begin with the peer's AS"])
    });
    bird_has(&right, "10.2.0.0/24", &["BGP.as_path: 65001\n"]);
    three.left.kernel_has_now(&[]).unwrap();
    Three::reload(&speaker, &with("enforceFirstAs = false"));
    eventually(SOON, "what it sends now is taken", || {
        left.cli("reload out rb").map_err(|e| e.to_string())?;
        three
            .left
            .kernel_has_now(&[(LEFT, "via 10.99.0.2 dev eth0")])
    });
    bird_has(&right, LEFT, &["BGP.as_path: 65001 65009\n"]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
