//! What OPENs agree on with real daemons, and what follows from it: message sizes (RFC 8654), AS numbers of two octets
//! (RFC 6793), Identifiers (RFC 6286).

use std::fmt::Write;
use std::time::Duration;

use roadbed_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::fixture::SOON;
use crate::looking::why_not;
use crate::script::{OPEN, Script, open};
use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, ours};

const SECOND: &str = "10.1.1.0/24";
const OURS: &str = "10.2.0.0/24";
/// Twelve octets each: more than fits into 4096.
const COMMUNITIES: u32 = 400;

/// BIRD on the left, whose first route does not fit into a message of 4096 octets; the second does.
fn much(three: &Three) -> roadbed_tests::bird::Bird {
    let mut filter = format!("if net = {LEFT} then {{ ");
    for i in 0..COMMUNITIES {
        write!(filter, "bgp_large_community.add((65002, 1, {i})); ").unwrap();
    }
    filter += "}";
    let options = "enable extended messages yes;";
    three.left_bird(&bird("left", 65002, &[LEFT, SECOND], options, &filter))
}

#[test]
fn a_message_beyond_4096_octets_goes_from_bird_to_frr() {
    let three = Three::new();
    let _bird = much(&three);
    let frr = three.right_frr(&frr(65003, &[], ""));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    let all: Vec<String> = (0..COMMUNITIES).map(|i| format!("65002:1:{i}")).collect();
    frr_has(
        &frr,
        LEFT,
        &[("/largeCommunity/string", json!(all.join(" ")))],
    );
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn a_peer_of_4096_octets_is_not_sent_what_does_not_fit() {
    let three = Three::new();
    let _left = much(&three);
    let right = three.right_bird(&bird("right", 65003, &[], "", ""));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    three.left.kernel_has(&[
        (LEFT, "via 10.99.0.2 dev eth0"),
        (SECOND, "via 10.99.0.2 dev eth0"),
    ]);
    bird_has(&right, SECOND, &["BGP.as_path: 65001 65002\n"]);
    throughout(Duration::from_secs(1), "it stays here", || {
        bird_lacks(&right, LEFT)
    });
    let why = why_not(&speaker, LEFT, "right");
    assert!(why.len() == 1 && why[0].contains("4096 octets"), "{why:?}");
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// The left BIRD hides that it knows four octets; the right one's AS has them.
#[test]
fn as_numbers_of_four_octets_pass_a_bird_of_two() {
    let three = Three::new();
    let behind = "bgp_path.prepend(3356); bgp_path.prepend(4200000009);";
    let left = three.left_bird(&bird("left", 65002, &[LEFT], "enable as4 no;", behind));
    let asn = 4_200_000_003;
    let right = three.right_bird(&bird("right", asn, &["10.3.0.0/24"], "", ""));
    let _speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", asn, "")));
    bird_has(
        &right,
        LEFT,
        &["BGP.as_path: 65001 65002 4200000009 3356\n"],
    );
    bird_has(&left, "10.3.0.0/24", &["BGP.as_path: 65001 4200000003\n"]);
    let capabilities = left.cli("show protocols all rb").unwrap();
    assert_eq!(
        capabilities.matches("4-octet AS numbers").count(),
        1,
        "ours alone: {capabilities}"
    );
}

/// An Identifier is unique within one AS only.
#[test]
fn our_own_identifier_is_in_order_in_another_as_and_refused_in_ours() {
    let same = |config: String| {
        config
            .replace("router id 10.99.0.2", "router id 10.99.0.1")
            .replace("router-id 10.98.0.2", "router-id 10.99.0.1")
    };
    let three = Three::new();
    let bird = three.left_bird(&same(crate::three::bird("left", 65002, &[LEFT], "", "")));
    let frr = three.right_frr(&same(frr(65003, &[], "")));
    let _speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    bird_has(&bird, OURS, &["BGP.as_path: 65001\n"]);
    frr_has(&frr, OURS, &[("/aspath/string", json!("65001"))]);

    let three = Three::new();
    let bird = three.left_bird(&same(crate::three::bird("left", 65001, &[], "", "")));
    let speaker = three.speaker(&ours("left", 65001, ""));
    eventually(SOON, "BIRD knows why", || {
        bird.shows("show protocols all rb", &["Bad BGP identifier"])
    });
    assert_eq!(speaker.logged(&["session established"]), 0);
}

/// RFC 4271 §4.2: the smaller Hold Time counts, and keepalives come in a third of it.
#[test]
fn frr_and_bird_take_our_hold_time() {
    let three = Three::new();
    let bird = three.left_bird(&crate::three::bird("left", 65002, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65003, &[], ""));
    let six = |peer: String| peer.replace("holdTimeSeconds = 9", "holdTimeSeconds = 6");
    let peers = six(ours("left", 65002, "")) + &six(ours("right", 65003, ""));
    let speaker = three.speaker(&peers);
    frr_has(&frr, LEFT, &[("/aspath/string", json!("65001 65002"))]);
    let words = [
        "\"bgpTimerHoldTimeMsecs\":6000",
        "\"bgpTimerKeepAliveIntervalMsecs\":2000",
    ];
    eventually(SOON, "FRR has six seconds", || {
        frr.shows("show bgp neighbors 10.98.0.1 json", &words)
    });
    let timers = bird.cli("show protocols all rb").unwrap();
    let hold = timers.lines().find(|line| line.contains("Hold timer"));
    assert!(hold.is_some_and(|line| line.ends_with("/6")), "{timers}");
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// An OPEN with more capabilities than a one-octet length can count (RFC 9072): BIRD with every family that it has, and all
/// that can be said of each.
#[test]
fn an_open_of_bird_in_the_extended_encoding() {
    let three = Three::new();
    let mut tables = String::new();
    let mut channels = String::new();
    for (number, (family, net)) in [
        ("ipv4 multicast", "ipv4"),
        ("ipv6 multicast", "ipv6"),
        ("ipv4 mpls", "ipv4"),
        ("ipv6 mpls", "ipv6"),
        ("vpn4 mpls", "vpn4"),
        ("vpn6 mpls", "vpn6"),
        ("vpn4 multicast", "vpn4"),
        ("vpn6 multicast", "vpn6"),
        ("flow4", "flow4"),
        ("flow6", "flow6"),
    ]
    .into_iter()
    .enumerate()
    {
        writeln!(tables, "{net} table t{number};").unwrap();
        writeln!(
            channels,
            "{family} {{ table t{number}; import none; export none; add paths on; }};"
        )
        .unwrap();
    }
    let options = "graceful restart on; long lived graceful restart on; advertise hostname on; ipv6 { import none; export none; add paths on; };";
    let config = tables
        + &bird(
            "left",
            65002,
            &[LEFT],
            &format!("{options}\n{channels}"),
            "",
        );
    let bird = three.left_bird(&config);
    // What it says, before anybody else is asked.
    let mut first = Script::connect(&three.left.us, "10.99.0.1", "10.99.0.2");
    first.send(&open(65001, [10, 99, 0, 1]));
    let body = first.expect(OPEN);
    assert_eq!(body[9..11], [255, 255], "the mark of RFC 9072 §2");
    let len = usize::from(u16::from_be_bytes([body[11], body[12]]));
    assert_eq!(body.len(), 13 + len);
    assert!(len > 255, "{len}");
    drop(first);

    let speaker = three.speaker(&ours("left", 65002, ""));
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    bird_has(&bird, OURS, &["BGP.as_path: 65001\n"]);
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
