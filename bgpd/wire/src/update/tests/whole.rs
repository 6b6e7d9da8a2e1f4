//! What shows in the message as a whole: MP attributes, strongest treatment, End-of-RIB, hostile bodies.

use super::*;

/// An MP_REACH_NLRI of given fields.
fn reach(afi: u16, safi: u8, next_hop: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut value = afi.to_be_bytes().to_vec();
    value.extend_from_slice(&[safi, next_hop.len() as u8]);
    value.extend_from_slice(next_hop);
    value.extend_from_slice(rest);
    let mut attribute = vec![0x80, 14, value.len() as u8];
    attribute.extend_from_slice(&value);
    attribute
}

#[test]
fn mp_reach_and_unreach() {
    let global = "2001:db8::1"
        .parse::<core::net::Ipv6Addr>()
        .unwrap()
        .octets();
    let local = "fe80::1".parse::<core::net::Ipv6Addr>().unwrap().octets();
    let both = [global, local].concat();
    let v6_disable = Expect::Disable(Family::Ipv6Unicast);
    let extended = DecodeContext {
        extended_next_hop: true,
        ..EBGP
    };
    let check = |name: &str, ctx: &DecodeContext, attribute: &[u8], expected| {
        let bytes = body(&[], &[attribute, ORIGIN, AS_PATH], &[]);
        check_body(name, ctx, &bytes, expected);
    };
    let nlri: &[u8] = &[0, 32, 0x20, 1, 0x0d, 0xb8];
    check("16", &EBGP, &reach(2, 1, &global, nlri), Expect::Ok);
    check("32", &EBGP, &reach(2, 1, &both, nlri), Expect::Ok);
    for wrong in [0usize, 4, 15, 17, 24, 31, 33, 48] {
        check(
            "wrong length",
            &EBGP,
            &reach(2, 1, &vec![0x20; wrong], nlri),
            Reset(9),
        );
    }
    check(
        "v4 via 4",
        &EBGP,
        &reach(1, 1, &[192, 0, 2, 1], &[0, 8, 10]),
        Expect::Ok,
    );
    check(
        "v4 via 16 not agreed",
        &EBGP,
        &reach(1, 1, &global, &[0, 8, 10]),
        Reset(9),
    );
    check(
        "v4 via 16",
        &extended,
        &reach(1, 1, &global, &[0, 8, 10]),
        Expect::Ok,
    );
    check(
        "v4 via 32",
        &extended,
        &reach(1, 1, &both, &[0, 8, 10]),
        Expect::Ok,
    );
    check(
        "v6 via 4",
        &extended,
        &reach(2, 1, &[192, 0, 2, 1], nlri),
        Reset(9),
    );
    check("unspecified", &EBGP, &reach(2, 1, &[0; 16], nlri), Withdraw);
    check(
        "multicast",
        &EBGP,
        &reach(2, 1, &[0xff; 16], nlri),
        Withdraw,
    );
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
    check("mapped IPv4", &EBGP, &reach(2, 1, &mapped, nlri), Withdraw);
    let lone_local = [[0; 16], local].concat();
    check(
        "link-local beside ::",
        &EBGP,
        &reach(2, 1, &lone_local, nlri),
        Expect::Ok,
    );
    check(
        "/129",
        &EBGP,
        &reach(2, 1, &global, &[&[0, 129][..], &[0; 17]].concat()),
        v6_disable,
    );
    check(
        "cut prefix",
        &EBGP,
        &reach(2, 1, &global, &[0, 64, 0x20]),
        v6_disable,
    );
    check(
        "no reserved octet",
        &EBGP,
        &reach(2, 1, &global, &[]),
        Reset(9),
    );
    check(
        "SNPA count ignored",
        &EBGP,
        &reach(2, 1, &global, &[7, 8, 0x20]),
        Expect::Ok,
    );
    for cut in 0..5 {
        let attribute = [&[0x80, 14, cut as u8][..], &[0, 2, 1, 0, 0][..cut]].concat();
        check("cut", &EBGP, &attribute, Reset(9));
    }
    for cut in 0..3 {
        let attribute = [&[0x80, 15, cut as u8][..], &[0, 2, 1][..cut]].concat();
        check("unreach cut", &EBGP, &attribute, Reset(9));
    }
    check(
        "unreach /129",
        &EBGP,
        &[0x80, 15, 4, 0, 2, 1, 129],
        v6_disable,
    );

    // A family that was not negotiated: named as a fault, otherwise without effect.
    let only_v4 = DecodeContext {
        families: [true, false],
        ..EBGP
    };
    for attribute in [
        reach(2, 1, &global, nlri),
        reach(1, 128, &[0; 12], nlri),
        vec![0x80, 15, 3, 0, 2, 1],
    ] {
        let bytes = body(&[], &[&attribute, ORIGIN, AS_PATH, NEXT_HOP], NLRI);
        let update = decode_update(&bytes, &only_v4);
        assert_eq!(update.verdict, Verdict::Ok);
        assert_eq!(update.faults.len(), 1);
        assert_eq!(update.faults[0].treatment, Treatment::Ignore);
        assert!(update.mp_reach.is_none() && update.mp_unreach.is_none());
        assert_eq!(update.end_of_rib(), None);
    }
}

#[test]
fn the_strongest_treatment_wins_and_faults_are_bounded() {
    let bytes = body(
        &[],
        &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0], &[0x80, 4, 0]],
        NLRI,
    );
    check_body("discard, then withdraw", &EBGP, &bytes, Withdraw);
    let broken_v6 = reach(2, 1, &[0x20; 16], &[0, 200]);
    let bytes = body(
        &[],
        &[&broken_v6, ORIGIN, &[0x80, 4, 0], AS_PATH, NEXT_HOP],
        NLRI,
    );
    let update = decode_update(&bytes, &EBGP);
    assert_eq!(verdict(&update), Expect::Disable(Family::Ipv6Unicast));
    assert_eq!(
        update.attributes, None,
        "IPv4 routes are withdrawn all the same"
    );

    let many = ORIGIN.repeat(100);
    let bytes = body(&[], &[&many, AS_PATH, NEXT_HOP], NLRI);
    let update = decode_update(&bytes, &EBGP);
    assert_eq!(update.verdict, Verdict::AttributeDiscard);
    assert_eq!(update.faults.len(), MAX_FAULTS);
}

#[test]
fn end_of_rib_markers() {
    let check = |bytes: &[u8], expected| {
        assert_eq!(
            decode_update(bytes, &EBGP).end_of_rib(),
            expected,
            "{bytes:?}"
        );
    };
    check(&[0, 0, 0, 0], Some(Family::Ipv4Unicast));
    check(
        &body(&[], &[&[0x80, 15, 3, 0, 2, 1]], &[]),
        Some(Family::Ipv6Unicast),
    );
    check(
        &body(&[], &[&[0x90, 15, 0, 3, 0, 1, 1]], &[]),
        Some(Family::Ipv4Unicast),
    );
    check(&body(&[], &[&[0x80, 15, 4, 0, 2, 1, 0]], &[]), None);
    check(&body(&[8, 10], &[], &[]), None);
    check(&body(&[], &[ORIGIN], &[]), None);
    // AS4_PATH alone leaves no attribute in canonical form, but the message was not empty.
    let as4_only = body(&[], &[&[0xc0, 17, 6, 2, 1, 0, 1, 0, 0]], &[]);
    assert_eq!(decode_update(&as4_only, &NARROW).end_of_rib(), None);
    check(&body(&[], &[&[0x80, 15, 3, 0, 1, 128]], &[]), None);
    check(&body(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI), None);
}

/// UPDATE bodies that make zettabgp 0.6.0 panic or loop (docs/adr/0001), and what RFC 7606 says about each.
#[test]
fn what_breaks_the_oracle_gets_a_verdict_here() {
    let cases: &[(&str, Expect)] = &[
        // An AS_PATH with one octet too many: the endless loop.
        ("0000000a40020702010000fde902", Reset(11)),
        ("0000000140", Reset(1)),
        ("000000024001", Reset(1)),
        ("00000003800e00", Reset(9)),
        ("00000003800f00", Reset(9)),
        ("00000005800f020002", Reset(9)),
        ("00000007800e0400020110", Reset(9)),
        (
            "00000017800e140002011020010db8000000000000000000000001",
            Reset(9),
        ),
        ("00000006c00803000000", Reset(5)),
        ("00000010c0200d00000000000000000000000000", Reset(5)),
        ("00000006800903010101", Reset(5)),
        ("00000005c023020000", Reset(5)),
        // ATTR_SET is opaque to this codec.
        ("00000008c080050000000140", Expect::Ok),
    ];
    for (hex, expected) in cases {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        check_body(hex, &IBGP, &bytes, *expected);
        if *expected == Expect::Ok || bytes.get(5).is_some_and(|t| [14, 15].contains(t)) {
            continue;
        }
        // The same attribute in a message that announces something costs the routes, not the session.
        let mut attributes = [ORIGIN, AS_PATH, NEXT_HOP].concat();
        if bytes[4..].get(1) == Some(&2) {
            attributes = [ORIGIN, NEXT_HOP].concat();
        }
        attributes.extend_from_slice(&bytes[4..]);
        check_body(hex, &IBGP, &body(&[], &[&attributes], NLRI), Withdraw);
    }
}
