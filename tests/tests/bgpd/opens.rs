//! OPENs with every capability there is, and with those that nobody has defined: the session comes up, or is refused with
//! the NOTIFICATION that the RFC names. What is agreed on is `bgp-core`'s to test (`negotiation`); here it is whether a
//! whole speaker lives with it.

use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, peer};
use crate::hostile::{US, victim};
use crate::script::{KEEPALIVE, OPEN, Script, message};

/// IPv4 unicast, and the peer's AS in four octets: what any of today's speakers sends.
const BASE: [u8; 12] = [1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xea];

/// What is to come of an OPEN.
enum Answer {
    Up,
    /// Code and subcode.
    Refused(u8, u8),
}
use Answer::{Refused, Up};

/// Optional parameters after their length.
fn parameters(bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![u8::try_from(bytes.len()).unwrap()];
    field.extend(bytes);
    field
}

/// All capabilities in one optional parameter.
fn one_parameter(capabilities: &[u8]) -> Vec<u8> {
    let len = u8::try_from(capabilities.len()).unwrap();
    parameters(&[&[2, len], capabilities].concat())
}

/// The same in the encoding of RFC 9072.
fn extended(capabilities: &[u8]) -> Vec<u8> {
    let len = u16::try_from(capabilities.len()).unwrap();
    let mut field = vec![255, 255];
    field.extend((len + 3).to_be_bytes());
    field.push(2);
    field.extend(len.to_be_bytes());
    field.extend(capabilities);
    field
}

fn with(capability: &[u8]) -> Vec<u8> {
    one_parameter(&[&BASE, capability].concat())
}

/// An OPEN of AS 65002 with these optional parameters, their length in front.
fn open_with(optional: &[u8], id: [u8; 4]) -> Vec<u8> {
    let mut body = vec![4, 0xfd, 0xea, 0, 9];
    body.extend(id);
    body.extend(optional);
    message(OPEN, &body)
}

/// Codes for which there is neither a meaning nor, hence, a wrong value.
fn undefined() -> impl Iterator<Item = u8> {
    let defined = [1, 2, 5, 6, 9, 64, 65, 69, 70, 73];
    (0..=255).filter(move |code| !defined.contains(code))
}

fn cases() -> Vec<(String, Vec<u8>, Answer)> {
    let named = [
        ("no optional parameter", vec![0], Up),
        ("an empty parameter", parameters(&[2, 0]), Up),
        ("four-octet AS alone", one_parameter(&BASE[6..]), Up),
        ("IPv4 and IPv6", with(&[1, 4, 0, 2, 0, 1]), Up),
        ("IPv6 alone", one_parameter(&[1, 4, 0, 2, 0, 1]), Up),
        ("each twice", with(&BASE), Up),
        (
            "each in a parameter of its own",
            parameters(&[&[2, 6], &BASE[..6], &[2, 6], &BASE[6..]].concat()),
            Up,
        ),
        (
            "a family we do not speak beside",
            with(&[1, 4, 0, 25, 0, 70]),
            Up,
        ),
        (
            "a family we do not speak alone",
            one_parameter(&[1, 4, 0, 25, 0, 70]),
            Refused(2, 7),
        ),
        ("route refresh", with(&[2, 0]), Up),
        ("enhanced route refresh", with(&[2, 0, 70, 0]), Up),
        ("extended messages", with(&[6, 0]), Up),
        ("IPv6 next hops", with(&[5, 6, 0, 1, 0, 1, 0, 2]), Up),
        ("a role, which we have not set", with(&[9, 1, 0]), Up),
        ("an undefined role", with(&[9, 1, 77]), Up),
        (
            "graceful restart",
            with(&[64, 6, 0x40, 120, 0, 1, 1, 0x80]),
            Up,
        ),
        ("graceful restart, empty", with(&[64, 2, 0, 0]), Up),
        ("ADD-PATH both ways", with(&[69, 4, 0, 1, 1, 3]), Up),
        ("ADD-PATH of no direction", with(&[69, 4, 0, 1, 1, 9]), Up),
        (
            "long-lived graceful restart",
            with(&[71, 7, 0, 1, 1, 0x80, 0, 0, 60]),
            Up,
        ),
        (
            "host name",
            with(&[73, 6, 3, b't', b'o', b'r', 1, b'x']),
            Up,
        ),
        ("host name that runs over", with(&[73, 3, 200, b't', 0]), Up),
        ("Cisco's route refresh", with(&[128, 0]), Up),
        (
            "every undefined code",
            extended(&[BASE.to_vec(), undefined().flat_map(|c| [c, 0]).collect()].concat()),
            Up,
        ),
        (
            "every undefined code with a value",
            extended(
                &[
                    BASE.to_vec(),
                    undefined().flat_map(|c| [c, 4, 0xff, 0, c, 1]).collect(),
                ]
                .concat(),
            ),
            Up,
        ),
        (
            "a value of 200 octets",
            with(&[&[201, 200][..], &[0x5a; 200]].concat()),
            Up,
        ),
        ("RFC 9072 where it is not needed", extended(&BASE), Up),
        ("AS 0", one_parameter(&[65, 4, 0, 0, 0, 0]), Refused(2, 2)),
        (
            "AS_TRANS",
            one_parameter(&[65, 4, 0, 0, 0x5b, 0xa0]),
            Refused(2, 2),
        ),
        (
            "another AS",
            one_parameter(&[65, 4, 0, 0, 0xfd, 0xeb]),
            Refused(2, 2),
        ),
        (
            "a family of 3 octets",
            one_parameter(&[1, 3, 0, 1, 0]),
            Refused(2, 0),
        ),
        (
            "an AS of 2 octets",
            one_parameter(&[65, 2, 0xfd, 0xea]),
            Refused(2, 0),
        ),
        ("a role of 2 octets", with(&[9, 2, 0, 0]), Refused(2, 0)),
        (
            "ADD-PATH of 3 octets",
            with(&[69, 3, 0, 1, 1]),
            Refused(2, 0),
        ),
        (
            "graceful restart of 1 octet",
            with(&[64, 1, 0]),
            Refused(2, 0),
        ),
        (
            "IPv6 next hops of 5 octets",
            with(&[5, 5, 0, 1, 0, 1, 0]),
            Refused(2, 0),
        ),
        ("a capability without length", with(&[2]), Refused(2, 0)),
        (
            "a capability that runs over",
            with(&[200, 9, 0]),
            Refused(2, 0),
        ),
        (
            "a parameter that runs over",
            parameters(&[2, 9, 2, 0]),
            Refused(2, 0),
        ),
        (
            "a parameter without length",
            parameters(&[2]),
            Refused(2, 0),
        ),
        (
            "parameters shorter than said",
            vec![9, 2, 2, 2, 0],
            Refused(2, 0),
        ),
        (
            "parameters longer than said",
            vec![0, 2, 2, 2, 0],
            Refused(2, 0),
        ),
        (
            "authentication, which is gone",
            parameters(&[1, 1, 0]),
            Refused(2, 4),
        ),
        (
            "an undefined parameter",
            parameters(&[77, 0]),
            Refused(2, 4),
        ),
        ("RFC 9072, cut", vec![255, 255, 0], Refused(2, 0)),
        (
            "RFC 9072 that runs over",
            vec![255, 255, 0, 9, 2, 0, 2, 2, 0],
            Refused(2, 0),
        ),
    ];
    let named = named.into_iter();
    named
        .map(|(what, bytes, answer)| (what.to_owned(), bytes, answer))
        .collect()
}

#[test]
fn every_capability_known_and_unknown() {
    let pair = Pair::new();
    let cases = cases();
    let mut peers = String::new();
    for i in 1..=cases.len() {
        let address = victim(u8::try_from(i).unwrap());
        pair.peer
            .add_address("eth0", &format!("{address}/16"))
            .unwrap();
        peers += &peer(&format!("victim{i}"), &address, "passive = true");
    }
    let mut speaker = pair.speaker(&peers);
    let mut faults = Vec::new();
    let mut alive = Vec::new();
    for (i, (what, optional, answer)) in (1..).zip(cases) {
        let mut script = Script::connect(&pair.peer, &victim(i), US);
        script.send(&open_with(&optional, [10, 99, 1, i]));
        script.send(&message(KEEPALIVE, &[]));
        match answer {
            Up => {
                let kinds = [script.next_kind(), script.next_kind()];
                if kinds != [Some(OPEN), Some(KEEPALIVE)] {
                    faults.push(format!("{what}: {kinds:?} instead of a session"));
                }
                alive.push((format!("victim{i}"), script));
            }
            Refused(code, subcode) => {
                let words = script.last_words();
                let right = words
                    .as_deref()
                    .is_some_and(|w| w.starts_with(&[code, subcode]));
                if !right {
                    faults.push(format!("{what}: {words:?} instead of {code}/{subcode}"));
                }
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
    for (name, script) in &mut alive {
        script.send(&message(KEEPALIVE, &[]));
        let words = ["session established", &format!("peer={name} ")];
        eventually(SOON, name, || speaker.says(&words));
    }
    speaker.process().alive().unwrap();
}
