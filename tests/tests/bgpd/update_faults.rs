//! What a malformed message does to routes and session (RFC 4271 §6, RFC 7606), seen from outside.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, peer};
use crate::script::{KEEPALIVE, NOTIFICATION, Script, attribute, mandatory, message, open, update};

/// 10.1.0.0/24 as NLRI, and as the kernel shows it.
const NLRI: [u8; 4] = [24, 10, 1, 0];
const ROUTE: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
const NEXT_HOP: [u8; 4] = [10, 99, 0, 2];

fn established() -> (Pair, Bgpd, Script) {
    let pair = Pair::new();
    let speaker = pair.speaker(&peer("script", "10.99.0.2", "passive = true"));
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.send(&update(&mandatory(NEXT_HOP), &NLRI));
    pair.kernel_has(&[ROUTE]);
    (pair, speaker, script)
}

fn with(changed: Vec<u8>) -> Vec<Vec<u8>> {
    let mut attributes = mandatory(NEXT_HOP);
    match attributes.iter_mut().find(|a| a[1] == changed[1]) {
        Some(same) => *same = changed,
        None => attributes.push(changed),
    }
    attributes
}

#[test]
fn treat_as_withdraw_takes_the_route_and_leaves_the_session() {
    let (pair, mut speaker, mut script) = established();
    let faults = [
        ("ORIGIN 3", with(attribute(0x40, 1, &[3]))),
        (
            "AS_PATH of half a segment",
            with(attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xea])),
        ),
        ("MED of three octets", with(attribute(0x80, 4, &[0, 0, 1]))),
        (
            "COMMUNITIES of three octets",
            with(attribute(0xc0, 8, &[0, 0, 1])),
        ),
        ("no ORIGIN", mandatory(NEXT_HOP)[1..].to_vec()),
        (
            "our AS in AS_PATH",
            with(attribute(
                0x40,
                2,
                &[2, 2, 0, 0, 0xfd, 0xea, 0, 0, 0xfd, 0xe9],
            )),
        ),
    ];
    for (what, attributes) in faults {
        script.send(&update(&attributes, &NLRI));
        eventually(SOON, what, || pair.kernel_has_now(&[]));
        script.send(&update(&mandatory(NEXT_HOP), &NLRI));
        pair.kernel_has(&[ROUTE]);
        assert_eq!(speaker.logged(&["session down"]), 0, "{what}");
    }
    script.keep_alive(Duration::from_secs(1));
    let named = [
        "1 (ORIGIN)",
        "2 (AS_PATH)",
        "4 (MULTI_EXIT_DISC)",
        "8 (COMMUNITIES)",
    ];
    for attribute in named {
        let label = format!("treat-as-withdraw: attribute {attribute}: ");
        eventually(SOON, "the log names the fault", || {
            speaker.says(&["UPDATE with a fault", "script", &label])
        });
    }
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn attribute_discard_keeps_the_route() {
    let (pair, speaker, mut script) = established();
    for (i, changed) in [attribute(0xc0, 7, &[0, 0, 1]), attribute(0x40, 6, &[0])]
        .into_iter()
        .enumerate()
    {
        let third = u8::try_from(i).unwrap() + 1;
        script.send(&update(&with(changed), &[24, 10, 1, third]));
    }
    pair.kernel_has(&[ROUTE, ("10.1.1.0/24", ROUTE.1), ("10.1.2.0/24", ROUTE.1)]);
    script.keep_alive(Duration::from_secs(1));
    for attribute in ["7 (AGGREGATOR)", "6 (ATOMIC_AGGREGATE)"] {
        let label = format!("attribute-discard: attribute {attribute}: ");
        assert_eq!(speaker.logged(&["UPDATE with a fault", &label]), 1);
    }
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// RFC 7606 §2 lets a speaker end the session where a family alone could be given up: ours does.
#[test]
fn a_family_that_cannot_go_on_takes_the_session_along() {
    // An IPv6 prefix of 129 bits.
    let unreach = attribute(0x80, 15, &[0, 2, 1, 129, 0x20, 1]);
    let bytes = update(&with(unreach), &NLRI);
    check_reset("MP_UNREACH_NLRI", &bytes, 3, 9, None);
    let (_pair, mut speaker, mut script) = established();
    script.send(&bytes);
    eventually(SOON, "the log names the fault", || {
        speaker.says(&[
            "UPDATE with a fault",
            "family-disable: attribute 15 (MP_UNREACH_NLRI): ",
        ])
    });
}

/// Bytes over an Established session, and the NOTIFICATION that must answer them. The route goes with the session.
fn check_reset(what: &str, bytes: &[u8], code: u8, subcode: u8, data: Option<&[u8]>) {
    let (pair, mut speaker, mut script) = established();
    script.send(bytes);
    let words = script
        .last_words()
        .unwrap_or_else(|| panic!("{what}: closed without a NOTIFICATION"));
    assert_eq!(words[..2], [code, subcode], "{what}: {words:?}");
    if let Some(data) = data {
        assert_eq!(words[2..], *data, "{what}");
    }
    pair.kernel_has(&[]);
    eventually(SOON, "the log tells", || speaker.says(&["session down"]));
    speaker.process().alive().unwrap();
}

#[test]
fn a_bad_header_resets() {
    let mut marker = message(KEEPALIVE, &[]);
    marker[3] = 0;
    check_reset("marker", &marker, 1, 1, None);
    let mut short = message(KEEPALIVE, &[]);
    short[16..18].copy_from_slice(&[0, 18]);
    check_reset("length 18", &short, 1, 2, Some(&[0, 18]));
    let mut long = message(KEEPALIVE, &[]);
    long[16..18].copy_from_slice(&[0xff, 0xff]);
    check_reset("length 65535", &long, 1, 2, Some(&[0xff, 0xff]));
    check_reset("type 9", &message(9, &[]), 1, 3, Some(&[9]));
}

#[test]
fn an_update_that_cannot_be_parsed_resets() {
    // Total Path Attribute Length runs past the end.
    check_reset("lengths", &message(2, &[0, 0, 0, 9, 0x40]), 3, 1, None);
    check_reset(
        "prefix length 33",
        &update(&mandatory(NEXT_HOP), &[33, 10, 1, 0, 0, 0]),
        3,
        10,
        None,
    );
    let reach = attribute(
        0x80,
        14,
        &[
            0, 2, 1, 16, 0xfd, 0, 0, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0,
        ],
    );
    let twice = [mandatory(NEXT_HOP), vec![reach.clone(), reach]].concat();
    check_reset("MP_REACH_NLRI twice", &update(&twice, &[]), 3, 1, None);
}

#[test]
fn a_message_out_of_order_resets() {
    // Established is state 6 of RFC 6608: subcode 3, "unexpected message in Established".
    check_reset("OPEN", &open(65002, [10, 99, 0, 2]), 5, 3, None);
}

#[test]
fn a_wrong_peer_as_is_named_on_both_ends() {
    let pair = Pair::new();
    let mut speaker = pair.speaker(&peer("script", "10.99.0.2", "passive = true"));
    let mut script = Script::connect(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.send(&open(65009, [10, 99, 0, 2]));
    let words = script.last_words().unwrap();
    assert_eq!(words[..2], [2, 2], "Bad Peer AS: {words:?}");
    eventually(SOON, "the log names both", || {
        speaker.says(&["script", "65009", "65002"])
    });
    assert_eq!(speaker.logged(&["session established"]), 0);
}

#[test]
fn a_notification_is_logged_by_its_name() {
    let (pair, mut speaker, mut script) = established();
    let mut body = vec![6, 2, 5];
    body.extend(b"bye \xff");
    script.send(&message(NOTIFICATION, &body));
    eventually(SOON, "the log tells", || {
        speaker.says(&["session down", "Administrative Shutdown"])
    });
    pair.kernel_has(&[]);
}
