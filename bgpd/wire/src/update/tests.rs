use super::*;
use crate::attrs::Origin;

mod matrix;
mod whole;

const IBGP: DecodeContext = DecodeContext {
    four_octet_as: true,
    ebgp: false,
    add_path: [false, false],
    families: [true, true],
    extended_next_hop: false,
};
const EBGP: DecodeContext = DecodeContext { ebgp: true, ..IBGP };
const NARROW: DecodeContext = DecodeContext {
    four_octet_as: false,
    ..IBGP
};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const NLRI: &[u8] = &[24, 198, 51, 100];
/// 2001:db8:1::/48 via 2001:db8::1.
const MP_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48,
    0x20, 1, 0x0d, 0xb8, 0, 1,
];

fn body(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(withdrawn);
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(&attributes);
    body.extend_from_slice(nlri);
    body
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Expect {
    Ok,
    Discard,
    Withdraw,
    Disable(Family),
    Reset(u8),
}
use Expect::{Discard, Reset, Withdraw};

fn verdict(update: &Update<'_>) -> Expect {
    match &update.verdict {
        Verdict::Ok => Expect::Ok,
        Verdict::AttributeDiscard => Discard,
        Verdict::TreatAsWithdraw => Withdraw,
        Verdict::FamilyDisable(family) => Expect::Disable(*family),
        Verdict::SessionReset(n) => {
            assert_eq!(n.code, 3);
            Reset(n.subcode)
        }
    }
}

/// Decodes a body and checks verdict, usability of the attributes, and that a fault is named exactly when there is one.
fn check_body(name: &str, ctx: &DecodeContext, body: &[u8], expected: Expect) {
    let update = decode_update(body, ctx);
    assert_eq!(verdict(&update), expected, "{name}: {:?}", update.faults);
    assert_eq!(update.faults.is_empty(), expected == Expect::Ok, "{name}");
    if matches!(expected, Withdraw | Reset(_)) {
        assert_eq!(update.attributes, None, "{name}");
    }
    if !matches!(expected, Reset(_)) && body.ends_with(NLRI) {
        assert_eq!(update.announced.iter().count(), 1, "{name}: prefix lost");
    }
}

/// Adds `attribute` to an announcement that is valid without it, replacing the same type there.
fn check(name: &str, ctx: &DecodeContext, attribute: &[u8], expected: Expect) {
    let mut attributes: Vec<&[u8]> = [ORIGIN, AS_PATH, NEXT_HOP]
        .into_iter()
        .filter(|base| base.get(1) != attribute.get(1))
        .collect();
    attributes.push(attribute);
    check_body(name, ctx, &body(&[], &attributes, NLRI), expected);
}

#[test]
fn a_valid_announcement_of_both_families() {
    let bytes = body(
        &[8, 10],
        &[
            MP_REACH,
            ORIGIN,
            AS_PATH,
            NEXT_HOP,
            &[0x80, 4, 4, 0, 0, 0, 9],
        ],
        NLRI,
    );
    let update = decode_update(&bytes, &EBGP);
    assert_eq!(update.verdict, Verdict::Ok);
    let strings = |slice: NlriSlice<'_>| {
        slice
            .iter()
            .map(|n| n.prefix.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(strings(update.withdrawn), ["10.0.0.0/8"]);
    assert_eq!(strings(update.announced), ["198.51.100.0/24"]);
    assert_eq!(update.next_hop, Some(Ipv4Addr::new(192, 0, 2, 1)));
    let mp = update.mp_reach.unwrap();
    assert_eq!(mp.next_hop.to_string(), "2001:db8::1");
    assert_eq!(strings(mp.nlri), ["2001:db8:1::/48"]);
    let attributes = update.attributes.unwrap();
    let hot = attributes.hot();
    assert_eq!(
        (hot.origin, hot.med, hot.as_path_len),
        (Origin::Igp, Some(9), 1)
    );
    assert_eq!(hot.neighbor_as, Some(65001));
    assert_eq!(attributes.raw(attr_type::NEXT_HOP), None);
    assert_eq!(attributes.raw(attr_type::MP_REACH_NLRI), None);
}

#[test]
fn every_attribute_with_wrong_flags_withdraws() {
    let attributes: [&[u8]; 15] = [
        ORIGIN,
        AS_PATH,
        NEXT_HOP,
        &[0x80, 4, 4, 0, 0, 0, 1],
        &[0x40, 5, 4, 0, 0, 0, 100],
        &[0x40, 6, 0],
        &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 192, 0, 2, 1],
        &[0xc0, 8, 4, 0, 1, 0, 1],
        &[0x80, 9, 4, 1, 1, 1, 1],
        &[0x80, 10, 4, 1, 1, 1, 1],
        &[0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 1],
        &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        &[0xc0, 35, 4, 0, 0, 0xfd, 0xe9],
        MP_REACH,
        // MP_UNREACH_NLRI of 2001:db8::/32.
        &[0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0x0d, 0xb8],
    ];
    for attribute in attributes {
        let kind = attribute[1];
        check(&format!("type {kind}"), &IBGP, attribute, Expect::Ok);
        for bit in [0x80, 0x40] {
            let mut wrong = attribute.to_vec();
            wrong[0] ^= bit;
            check(
                &format!("type {kind} flag {bit:#x}"),
                &IBGP,
                &wrong,
                Withdraw,
            );
        }
        // Partial where it has no meaning, low bits, and a long length field are no faults.
        let mut odd = attribute.to_vec();
        odd[0] |= 0x3f;
        odd.insert(2, 0);
        check(&format!("type {kind} odd flags"), &IBGP, &odd, Expect::Ok);
    }
}

#[test]
fn lengths_and_values() {
    let cases: &[(&str, &[u8], Expect, Expect)] = &[
        // name, attribute, from an internal peer, from an external peer
        ("ORIGIN empty", &[0x40, 1, 0], Withdraw, Withdraw),
        ("ORIGIN long", &[0x40, 1, 2, 0, 0], Withdraw, Withdraw),
        ("ORIGIN 3", &[0x40, 1, 1, 3], Withdraw, Withdraw),
        ("AS_PATH empty", &[0x40, 2, 0], Expect::Ok, Expect::Ok),
        (
            "AS_PATH odd byte",
            &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe9, 2],
            Withdraw,
            Withdraw,
        ),
        ("AS_PATH no ASN", &[0x40, 2, 2, 2, 0], Withdraw, Withdraw),
        (
            "AS_PATH type 0",
            &[0x40, 2, 6, 0, 1, 0, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "AS_PATH type 5",
            &[0x40, 2, 6, 5, 1, 0, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "AS_PATH confed",
            &[0x40, 2, 6, 3, 1, 0, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "AS_PATH overrun",
            &[0x40, 2, 6, 2, 2, 0, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "AS_PATH AS 0",
            &[0x40, 2, 10, 2, 2, 0, 0, 0, 1, 0, 0, 0, 0],
            Withdraw,
            Withdraw,
        ),
        (
            "AS_PATH set",
            &[0x40, 2, 6, 1, 1, 0, 0, 0, 1],
            Expect::Ok,
            Expect::Ok,
        ),
        ("NEXT_HOP short", &[0x40, 3, 3, 1, 1, 1], Withdraw, Withdraw),
        (
            "NEXT_HOP v6",
            &[
                0x40, 3, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ],
            Withdraw,
            Withdraw,
        ),
        (
            "NEXT_HOP 0.0.0.0",
            &[0x40, 3, 4, 0, 0, 0, 0],
            Withdraw,
            Withdraw,
        ),
        (
            "NEXT_HOP loopback",
            &[0x40, 3, 4, 127, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "NEXT_HOP multicast",
            &[0x40, 3, 4, 224, 0, 0, 5],
            Withdraw,
            Withdraw,
        ),
        (
            "NEXT_HOP class E",
            &[0x40, 3, 4, 240, 0, 0, 1],
            Withdraw,
            Withdraw,
        ),
        (
            "NEXT_HOP broadcast",
            &[0x40, 3, 4, 255, 255, 255, 255],
            Withdraw,
            Withdraw,
        ),
        ("MED short", &[0x80, 4, 3, 0, 0, 1], Withdraw, Withdraw),
        ("MED empty", &[0x80, 4, 0], Withdraw, Withdraw),
        ("LOCAL_PREF", &[0x40, 5, 4, 0, 0, 0, 1], Expect::Ok, Discard),
        (
            "LOCAL_PREF long",
            &[0x40, 5, 5, 0, 0, 0, 0, 1],
            Withdraw,
            Discard,
        ),
        (
            "ATOMIC_AGGREGATE with value",
            &[0x40, 6, 1, 0],
            Discard,
            Discard,
        ),
        (
            "AGGREGATOR narrow",
            &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1],
            Discard,
            Discard,
        ),
        (
            "AGGREGATOR AS 0",
            &[0xc0, 7, 8, 0, 0, 0, 0, 1, 1, 1, 1],
            Discard,
            Discard,
        ),
        ("COMMUNITIES empty", &[0xc0, 8, 0], Withdraw, Withdraw),
        ("COMMUNITIES 3", &[0xc0, 8, 3, 0, 0, 0], Withdraw, Withdraw),
        (
            "ORIGINATOR_ID",
            &[0x80, 9, 4, 1, 1, 1, 1],
            Expect::Ok,
            Discard,
        ),
        (
            "ORIGINATOR_ID short",
            &[0x80, 9, 3, 1, 1, 1],
            Withdraw,
            Discard,
        ),
        (
            "CLUSTER_LIST",
            &[0x80, 10, 4, 1, 1, 1, 1],
            Expect::Ok,
            Discard,
        ),
        ("CLUSTER_LIST empty", &[0x80, 10, 0], Withdraw, Discard),
        (
            "CLUSTER_LIST 5",
            &[0x80, 10, 5, 1, 1, 1, 1, 1],
            Withdraw,
            Discard,
        ),
        ("EXT empty", &[0xc0, 16, 0], Withdraw, Withdraw),
        (
            "EXT 7",
            &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
            Withdraw,
            Withdraw,
        ),
        (
            "AS4_PATH from a wide speaker",
            &[0xc0, 17, 6, 2, 1, 0, 0, 0, 1],
            Discard,
            Discard,
        ),
        (
            "AS4_AGGREGATOR from a wide speaker",
            &[0xc0, 18, 8, 0, 0, 0, 1, 1, 1, 1, 1],
            Discard,
            Discard,
        ),
        ("LARGE empty", &[0xc0, 32, 0], Withdraw, Withdraw),
        (
            "LARGE 13",
            &[0xc0, 32, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Withdraw,
            Withdraw,
        ),
        ("OTC short", &[0xc0, 35, 2, 0, 0], Withdraw, Withdraw),
        (
            "unknown transitive",
            &[0xc0, 99, 1, 7],
            Expect::Ok,
            Expect::Ok,
        ),
        (
            "unknown non-transitive",
            &[0x80, 99, 1, 7],
            Expect::Ok,
            Expect::Ok,
        ),
        ("unknown well-known", &[0x40, 99, 1, 7], Reset(2), Reset(2)),
        ("type 0 well-known", &[0x00, 0, 0], Reset(2), Reset(2)),
    ];
    for (name, attribute, internal, external) in cases {
        check(&format!("{name}, internal"), &IBGP, attribute, *internal);
        check(&format!("{name}, external"), &EBGP, attribute, *external);
    }
}

/// Lists of any length: whole entries pass, everything between does not.
#[test]
fn list_lengths() {
    for (kind, flags, entry) in [(8, 0xc0, 4), (10, 0x80, 4), (16, 0xc0, 8), (32, 0xc0, 12)] {
        for len in 0..40u8 {
            let mut attribute = vec![flags, kind, len];
            attribute.extend(1..=len);
            let whole = len > 0 && len % entry == 0;
            let expected = if whole { Expect::Ok } else { Withdraw };
            check(
                &format!("type {kind} length {len}"),
                &IBGP,
                &attribute,
                expected,
            );
        }
    }
}

#[test]
fn two_octet_sessions_read_their_own_widths() {
    let path: &[u8] = &[0x40, 2, 4, 2, 1, 0xfd, 0xe9];
    let cases: &[(&str, &[u8], Expect)] = &[
        ("AS_PATH", path, Expect::Ok),
        ("AS_PATH AS 0", &[0x40, 2, 4, 2, 1, 0, 0], Withdraw),
        (
            "AS_PATH wide",
            &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
            Withdraw,
        ),
        (
            "AGGREGATOR wide",
            &[0xc0, 7, 8, 0, 0, 0, 1, 1, 1, 1, 1],
            Discard,
        ),
        ("AGGREGATOR", &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1], Expect::Ok),
        ("AS4_PATH empty", &[0xc0, 17, 0], Discard),
        ("AS4_PATH AS 0", &[0xc0, 17, 6, 2, 1, 0, 0, 0, 0], Discard),
        ("AS4_PATH odd", &[0xc0, 17, 7, 2, 1, 0, 0, 0, 1, 2], Discard),
        (
            "AS4_AGGREGATOR short",
            &[0xc0, 18, 7, 0, 0, 0, 1, 1, 1, 1],
            Discard,
        ),
        (
            "AS4_AGGREGATOR AS 0",
            &[0xc0, 18, 8, 0, 0, 0, 0, 1, 1, 1, 1],
            Discard,
        ),
        ("AS4_PATH flags", &[0x80, 17, 6, 2, 1, 0, 0, 0, 1], Withdraw),
    ];
    for (name, attribute, expected) in cases {
        let mut attributes: Vec<&[u8]> = vec![ORIGIN, NEXT_HOP];
        if attribute[1] != 2 {
            attributes.push(path);
        }
        attributes.push(attribute);
        check_body(name, &NARROW, &body(&[], &attributes, NLRI), *expected);
    }
}

#[test]
fn missing_mandatory_attributes_withdraw() {
    let all = [ORIGIN, AS_PATH, NEXT_HOP];
    for missing in 0..all.len() {
        let rest: Vec<&[u8]> = (0..3).filter(|i| *i != missing).map(|i| all[i]).collect();
        check_body("classic", &EBGP, &body(&[], &rest, NLRI), Withdraw);
        let update = decode_update(&body(&[], &rest, NLRI), &EBGP).faults[0];
        assert_eq!(update.attr_type, missing as u8 + 1);
    }
    check_body(
        "mp",
        &EBGP,
        &body(&[], &[MP_REACH, ORIGIN, AS_PATH], &[]),
        Expect::Ok,
    );
    check_body("mp", &EBGP, &body(&[], &[MP_REACH, AS_PATH], &[]), Withdraw);
    check_body("mp", &EBGP, &body(&[], &[MP_REACH, ORIGIN], &[]), Withdraw);
    check_body(
        "withdrawals only",
        &EBGP,
        &body(&[8, 10], &[], &[]),
        Expect::Ok,
    );
}

#[test]
fn repeated_attributes() {
    for again in [
        ORIGIN,
        AS_PATH,
        NEXT_HOP,
        // The second may even be malformed: it does not count.
        &[0x40, 1, 0],
        &[0x40, 2, 3, 9, 9, 9],
    ] {
        let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, again], NLRI);
        check_body("repeated", &EBGP, &bytes, Discard);
    }
    let med = |value: u8| vec![0x80, 4, 4, 0, 0, 0, value];
    let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &med(1), &med(2)], NLRI);
    let attributes = decode_update(&bytes, &EBGP).attributes.unwrap();
    assert_eq!(attributes.hot().med, Some(1), "the first one counts");

    let unreach: &[u8] = &[0x80, 15, 3, 0, 2, 1];
    for twice in [MP_REACH, unreach] {
        let bytes = body(&[], &[twice, ORIGIN, AS_PATH, NEXT_HOP, twice], NLRI);
        check_body("MP repeated", &EBGP, &bytes, Reset(1));
    }
}

#[test]
fn lengths_of_the_message_itself() {
    let reset1: &[&[u8]] = &[
        &[],
        &[0],
        &[0, 0],
        &[0, 0, 0],
        &[0, 1, 0, 0],
        &[0, 0, 0, 1],
        &[0xff, 0xff, 0, 0],
        &[0, 0, 0xff, 0xff, 0x40],
    ];
    for bytes in reset1 {
        check_body("lengths", &EBGP, bytes, Reset(1));
    }
    check_body(
        "withdrawn /33",
        &EBGP,
        &body(&[33, 1, 2, 3, 4, 5], &[], &[]),
        Reset(10),
    );
    check_body("withdrawn cut", &EBGP, &body(&[24, 1], &[], &[]), Reset(10));
    for nlri in [&[33, 1, 2, 3, 4, 5][..], &[24, 1, 2], &[255]] {
        let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP], nlri);
        check_body("nlri", &EBGP, &bytes, Reset(10));
    }
}

#[test]
fn an_attribute_that_overruns_the_list() {
    let tails: [&[u8]; 6] = [
        &[0x80],
        &[0x80, 4],
        &[0x80, 4, 4, 0, 0, 0],
        &[0x90, 4],
        &[0x90, 4, 0],
        &[0xd0, 8, 0xff, 0xff, 1, 2, 3, 4],
    ];
    for tail in tails {
        // The NLRI is located by the Total Attribute Length, so its routes are withdrawn (RFC 7606 §4) …
        let bytes = body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, tail], NLRI);
        check_body("with NLRI", &EBGP, &bytes, Withdraw);
        let bytes = body(&[], &[MP_REACH, ORIGIN, AS_PATH, tail], &[]);
        check_body("with MP_REACH first", &EBGP, &bytes, Withdraw);
        // … but where nothing is announced, MP_REACH_NLRI may be in what cannot be read (§5.2).
        let bytes = body(&[], &[ORIGIN, AS_PATH, tail], &[]);
        check_body("without", &EBGP, &bytes, Reset(1));
    }
}

#[test]
fn errors_in_a_message_that_announces_nothing() {
    let unreach: &[u8] = &[0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0x0d, 0xb8];
    check_body(
        "flags",
        &EBGP,
        &body(&[], &[unreach, &[0xc0, 1, 1, 0]], &[]),
        Reset(4),
    );
    check_body(
        "origin",
        &EBGP,
        &body(&[8, 10], &[&[0x40, 1, 1, 9]], &[]),
        Reset(6),
    );
    check_body(
        "length",
        &EBGP,
        &body(&[8, 10], &[&[0x80, 4, 0]], &[]),
        Reset(5),
    );
    // Attribute discard stays what it is.
    check_body(
        "discard",
        &EBGP,
        &body(&[8, 10], &[&[0x40, 6, 1, 0]], &[]),
        Discard,
    );
    // MP_UNREACH_NLRI alone has its prefixes located.
    let wrong: Vec<u8> = [&[0x40], &unreach[1..]].concat();
    let bytes = body(&[], &[&wrong], &[]);
    let update = decode_update(&bytes, &EBGP);
    assert_eq!(update.verdict, Verdict::TreatAsWithdraw);
    assert_eq!(update.mp_unreach.unwrap().iter().count(), 1);
    // The notification carries the attribute that was wrong.
    let bytes = body(&[8, 10], &[ORIGIN, &[0x80, 4, 1, 5]], &[]);
    let Verdict::SessionReset(notification) = decode_update(&bytes, &EBGP).verdict else {
        panic!("must reset");
    };
    assert_eq!(notification.data, [0x80, 4, 1, 5]);
}
