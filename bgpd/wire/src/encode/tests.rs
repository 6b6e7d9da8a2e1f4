use super::*;
use crate::attrs::{AttributeEditor, Origin};
use crate::update::{DecodeContext, Verdict, decode_update};

const CTX: EncodeContext = EncodeContext {
    four_octet_as: true,
    add_path: [false; 2],
    max_len: 4096,
    extended_next_hop: false,
};
const V4: NextHop = NextHop::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));

fn v6(link_local: Option<&str>) -> NextHop {
    NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: link_local.map(|addr| addr.parse().unwrap()),
    }
}

fn nlri(prefixes: &[&str]) -> Vec<Nlri> {
    prefixes
        .iter()
        .map(|p| Nlri::new(p.parse().unwrap()))
        .collect()
}

fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .prepend_as(65001, 1)
        .set_med(Some(5))
        .build()
}

/// Encodes and checks the body of the only message.
fn check(
    family: Family,
    next_hop: &NextHop,
    prefixes: &[&str],
    ctx: &EncodeContext,
    next_hop_at: (usize, usize),
    expected: &[&[u8]],
) {
    let mut out = Vec::new();
    encode_reach(
        family,
        &attributes(),
        next_hop,
        &nlri(prefixes),
        ctx,
        &mut out,
    )
    .unwrap();
    let [message] = &out[..] else {
        panic!("{} messages", out.len());
    };
    assert_eq!(&message.bytes[19..], expected.concat());
    assert_eq!(message.next_hop_at, Some(next_hop_at));
    assert_eq!(message.prefixes, prefixes.len());
}

const PATH: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const MED: &[u8] = &[0x80, 4, 4, 0, 0, 0, 5];
const GLOBAL: &[u8] = &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LOCAL: &[u8] = &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

#[test]
fn announcements_octet_by_octet() {
    let next_hop: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
    check(
        Family::Ipv4Unicast,
        &V4,
        &["10.244.0.0/26", "0.0.0.0/0"],
        &CTX,
        (19 + 4 + 13 + 3, 4),
        &[&[0, 0, 0, 27], PATH, next_hop, MED, &[26, 10, 244, 0, 0, 0]],
    );
    check(
        Family::Ipv6Unicast,
        &v6(None),
        &["2001:db8:1::/48"],
        &CTX,
        (19 + 4 + 4 + 4, 16),
        &[
            &[0, 0, 0, 52, 0x90, 14, 0, 28, 0, 2, 1, 16],
            GLOBAL,
            &[0, 48, 0x20, 1, 0x0d, 0xb8, 0, 1],
            PATH,
            MED,
        ],
    );
    let extended = EncodeContext {
        extended_next_hop: true,
        add_path: [true, false],
        ..CTX
    };
    check(
        Family::Ipv4Unicast,
        &v6(Some("fe80::2")),
        &["10.0.0.0/8"],
        &extended,
        (19 + 4 + 4 + 4, 32),
        &[
            &[0, 0, 0, 67, 0x90, 14, 0, 43, 0, 1, 1, 32],
            GLOBAL,
            LOCAL,
            &[0, 0, 0, 0, 0, 8, 10],
            PATH,
            MED,
        ],
    );
}

#[test]
fn withdrawals_and_end_of_rib_octet_by_octet() {
    let check = |family, prefixes: &[&str], expected: &[u8]| {
        let mut out = Vec::new();
        encode_unreach(family, &nlri(prefixes), &CTX, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(&out[0].bytes[19..], expected);
        assert_eq!(
            (out[0].next_hop_at, out[0].prefixes),
            (None, prefixes.len())
        );
    };
    check(
        Family::Ipv4Unicast,
        &["10.0.0.0/8", "192.0.2.0/24"],
        &[0, 6, 8, 10, 24, 192, 0, 2, 0, 0],
    );
    check(
        Family::Ipv6Unicast,
        &["2001:db8::/32"],
        &[
            0, 0, 0, 12, 0x90, 15, 0, 8, 0, 2, 1, 32, 0x20, 1, 0x0d, 0xb8,
        ],
    );
    let end = |family| encode_end_of_rib(family).bytes[16..].to_vec();
    assert_eq!(end(Family::Ipv4Unicast), [0, 23, 2, 0, 0, 0, 0]);
    assert_eq!(
        end(Family::Ipv6Unicast),
        [0, 30, 2, 0, 0, 0, 7, 0x90, 15, 0, 3, 0, 2, 1]
    );
}

/// RFC 6793 §4.2.2.
#[test]
fn towards_a_two_octet_speaker() {
    let narrow = EncodeContext {
        four_octet_as: false,
        ..CTX
    };
    let encode = |attrs: &PathAttributes| {
        let mut out = Vec::new();
        encode_reach(
            Family::Ipv4Unicast,
            attrs,
            &V4,
            &nlri(&["0.0.0.0/0"]),
            &narrow,
            &mut out,
        )
        .unwrap();
        out[0].bytes[23..].to_vec()
    };
    let next_hop: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
    let origin: &[u8] = &[0x40, 1, 1, 0];
    let fits = AttributeEditor::new(Origin::Igp)
        .prepend_as(65001, 1)
        .build();
    let expected: [&[u8]; 4] = [origin, &[0x40, 2, 4, 2, 1, 0xfd, 0xe9], next_hop, &[0]];
    assert_eq!(encode(&fits), expected.concat());

    let wide = AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[4_200_000_000, 65001])
        .set_only_to_customer(Some(1))
        .build();
    let expected: [&[u8]; 6] = [
        origin,
        &[0x40, 2, 6, 2, 2, 0x5b, 0xa0, 0xfd, 0xe9],
        next_hop,
        &[0xc0, 17, 10, 2, 2, 0xfa, 0x56, 0xea, 0, 0, 0, 0xfd, 0xe9],
        &[0xc0, 35, 4, 0, 0, 0, 1],
        &[0],
    ];
    assert_eq!(encode(&wide), expected.concat());

    // AGGREGATOR has no setter: it only ever passes through, so it comes from a decoded message.
    let body = [
        &[0, 0, 0, 15, 0x40, 1, 1, 0][..],
        &[0xe0, 7, 8, 0, 1, 0x11, 0x70, 10, 0, 0, 1],
    ]
    .concat();
    let ctx = DecodeContext {
        four_octet_as: true,
        ebgp: false,
        add_path: [false; 2],
        families: [true; 2],
        extended_next_hop: false,
    };
    let aggregated = decode_update(&body, &ctx).attributes.unwrap();
    let expected: [&[u8]; 5] = [
        origin,
        next_hop,
        &[0xe0, 7, 6, 0x5b, 0xa0, 10, 0, 0, 1],
        &[0xe0, 18, 8, 0, 1, 0x11, 0x70, 10, 0, 0, 1],
        &[0],
    ];
    assert_eq!(encode(&aggregated), expected.concat());
    let read = DecodeContext {
        four_octet_as: false,
        ..ctx
    };
    let mut bytes = vec![0, 0, 0, (encode(&aggregated).len() - 1) as u8];
    bytes.extend_from_slice(&encode(&aggregated)[..]);
    bytes.pop();
    assert_eq!(decode_update(&bytes, &read).attributes, Some(aggregated));
}

#[test]
fn what_cannot_be_sent() {
    let refuse = |family, next_hop: &NextHop| {
        let mut out = Vec::new();
        let result = encode_reach(
            family,
            &attributes(),
            next_hop,
            &nlri(&["0.0.0.0/0", "::/0"]),
            &CTX,
            &mut out,
        );
        assert_eq!(result, Err(EncodeError::NextHopFamily { family }));
        assert!(out.is_empty());
    };
    refuse(Family::Ipv6Unicast, &V4);
    refuse(Family::Ipv4Unicast, &v6(None));

    let mut editor = AttributeEditor::new(Origin::Igp);
    editor.set_unknown(99, 0xc0, &[0; 5000]);
    let mut out = Vec::new();
    let prefixes = nlri(&["10.0.0.0/8"]);
    let large = editor.build();
    let too_long = encode_reach(Family::Ipv4Unicast, &large, &V4, &prefixes, &CTX, &mut out);
    assert_eq!(
        too_long,
        Err(EncodeError::AttributesTooLong { max_len: 4096 })
    );
    let extended = EncodeContext {
        max_len: 65535,
        ..CTX
    };
    encode_reach(
        Family::Ipv4Unicast,
        &large,
        &V4,
        &prefixes,
        &extended,
        &mut out,
    )
    .unwrap();
    assert_eq!(out.len(), 1);

    // Prefixes of the other family, and no prefixes, make no message.
    out.clear();
    encode_reach(
        Family::Ipv4Unicast,
        &attributes(),
        &V4,
        &nlri(&["::/0"]),
        &CTX,
        &mut out,
    )
    .unwrap();
    encode_unreach(Family::Ipv6Unicast, &[], &CTX, &mut out);
    assert!(out.is_empty());
}

#[test]
fn messages_are_full_to_the_last_octet() {
    let prefixes: Vec<Nlri> = (0..4000u32)
        .map(|n| Nlri::new(format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap()))
        .collect();
    let mut out = Vec::new();
    encode_reach(
        Family::Ipv4Unicast,
        &attributes(),
        &V4,
        &prefixes,
        &CTX,
        &mut out,
    )
    .unwrap();
    // 4096 - 19 - 4 - 27 of attributes leave room for 1011 prefixes of 4 octets.
    let counts: Vec<usize> = out.iter().map(|m| m.prefixes).collect();
    assert_eq!(counts, [1011, 1011, 1011, 967]);
    assert!(out.iter().all(|m| m.bytes.len() <= 4096));
}

#[test]
fn patching_the_next_hop() {
    let mut out = Vec::new();
    let prefixes = nlri(&["2001:db8::/32"]);
    encode_reach(
        Family::Ipv6Unicast,
        &attributes(),
        &v6(Some("fe80::2")),
        &prefixes,
        &CTX,
        &mut out,
    )
    .unwrap();
    let message = &mut out[0];
    assert!(!message.patch_next_hop(&V4));
    assert!(!message.patch_next_hop(&v6(None)));
    assert!(message.patch_next_hop(&v6(Some("fe80::77"))));
    let ctx = DecodeContext {
        four_octet_as: true,
        ebgp: true,
        add_path: [false; 2],
        families: [true; 2],
        extended_next_hop: false,
    };
    let update = decode_update(&message.bytes[19..], &ctx);
    assert_eq!(update.verdict, Verdict::Ok);
    assert_eq!(update.mp_reach.unwrap().next_hop, v6(Some("fe80::77")));
    let mut withdrawal = Vec::new();
    encode_unreach(Family::Ipv6Unicast, &prefixes, &CTX, &mut withdrawal);
    assert!(!withdrawal[0].patch_next_hop(&v6(None)));
}

/// Around the longest that fits, for every way in which a session writes attributes.
#[test]
fn has_room_says_whether_the_longest_prefix_can_be_announced() {
    let both = v6(Some("fe80::1"));
    let kinds = [
        (Family::Ipv4Unicast, V4),
        (Family::Ipv4Unicast, both),
        (Family::Ipv6Unicast, v6(None)),
        (Family::Ipv6Unicast, both),
    ];
    let (mut fit, mut do_not) = (0, 0);
    for asns in (960..1030).chain(300..520) {
        // Four octets each for those who know them; AS_TRANS and AS4_PATH for the others.
        let path: Vec<u32> = (0..asns).map(|n| 4_200_000_000 + n).collect();
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(&path);
        let attributes = editor.build();
        for (family, next_hop) in kinds {
            for bits in 0..4 {
                let ctx = EncodeContext {
                    four_octet_as: bits & 1 != 0,
                    add_path: [bits & 2 != 0; 2],
                    extended_next_hop: true,
                    ..CTX
                };
                let longest = match family {
                    Family::Ipv4Unicast => "192.0.2.1/32",
                    Family::Ipv6Unicast => "2001:db8::1/128",
                };
                let nlri = [Nlri::with_path_id(7, longest.parse().unwrap())];
                let mut out = Vec::new();
                let said = encode_reach(family, &attributes, &next_hop, &nlri, &ctx, &mut out);
                let room = has_room(family, &attributes, &next_hop, &ctx);
                assert_eq!(said.is_ok(), room, "{asns} {family} {next_hop} {ctx:?}");
                fit += u32::from(room);
                do_not += u32::from(!room);
            }
        }
    }
    assert!(fit > 500 && do_not > 500, "{fit} {do_not}");
}
