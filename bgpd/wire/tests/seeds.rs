//! The seeds of the fuzz targets of this codec: valid messages as lines of hexadecimal digits, written by this test and
//! compared with what is committed.
//!
//! `BLESS=1 cargo test -p bgp-wire --test seeds` writes the files again after the encoder, or a target's input format, has
//! changed on purpose.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a broken invariant should stop there"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "asks the environment whether to write the seeds again"
)]

use std::path::Path;

use bgp_wire::{
    AttributeEditor, Capability, DecodeContext, EncodeContext, Family, MAX_MESSAGE_LEN,
    MessageType, NextHop, Nlri, Notification, Open, Origin, PathAttributes, RouteRefresh, Verdict,
    community, decode_update, encode_end_of_rib, encode_keepalive, encode_reach, encode_unreach,
    frame, refresh_subtype,
};

/// First octet of `codec` and `update_structured` inputs: bit 0 four-octet AS, 1 eBGP, 2 and 3 ADD-PATH for IPv4 and
/// IPv6, 4 and 5 family off, 6 extended next hop, 7 extended messages.
const WIDE: u8 = 0b0000_0001;
const ADD_PATH: u8 = 0b0000_1100;
const EXTENDED_NEXT_HOP: u8 = 0b0100_0000;

fn attributes() -> PathAttributes {
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor
        .set_as_path_sequence(&[65001, 4_200_000_001, 65003])
        .set_med(Some(10))
        .set_local_pref(Some(200))
        .set_communities(&[community::NO_EXPORT, 0xfde9_0001])
        .set_originator_id(Some([10, 0, 0, 9].into()))
        .prepend_cluster_id([10, 0, 0, 1].into())
        .set_only_to_customer(Some(65001))
        .set_unknown(99, 0xc0, &[1, 2, 3]);
    editor.build()
}

fn nlri(prefixes: &[&str], path_id: u32) -> Vec<Nlri> {
    prefixes
        .iter()
        .map(|p| Nlri::with_path_id(path_id, p.parse().unwrap()))
        .collect()
}

fn reach(session: u8, family: Family, next_hop: &str, prefixes: &[&str]) -> Vec<u8> {
    let ctx = EncodeContext {
        four_octet_as: session & WIDE != 0,
        add_path: [session & ADD_PATH != 0; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: session & EXTENDED_NEXT_HOP != 0,
    };
    let next_hop = match next_hop.split_once('%') {
        Some((global, local)) => NextHop::V6 {
            global: global.parse().unwrap(),
            link_local: Some(local.parse().unwrap()),
        },
        None => NextHop::V4(next_hop.parse().unwrap()),
    };
    let nlri = nlri(prefixes, 7);
    let mut messages = Vec::new();
    encode_reach(family, &attributes(), &next_hop, &nlri, &ctx, &mut messages).unwrap();
    encode_unreach(family, &nlri, &ctx, &mut messages);
    messages.push(encode_end_of_rib(family));
    messages.into_iter().flat_map(|m| m.bytes).collect()
}

fn open() -> Vec<u8> {
    let open = Open {
        my_as: 4_200_000_001,
        my_as_2octet: Open::two_octet(4_200_000_001),
        hold_time: 90,
        bgp_id: [10, 0, 0, 1].into(),
        capabilities: vec![
            Capability::MultiProtocol { afi: 1, safi: 1 },
            Capability::MultiProtocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(4_200_000_001),
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::GracefulRestart {
                flags: 12,
                restart_time: 120,
                families: vec![(1, 1, 128), (2, 1, 0)],
            },
            Capability::AddPath(vec![(1, 1, 3), (2, 1, 1)]),
            Capability::Role(4),
            Capability::Fqdn {
                host: "node-1".into(),
                domain: "example.net".into(),
            },
            Capability::Unknown {
                code: 71,
                value: vec![0, 1, 1, 0, 0, 0, 60],
            },
        ],
    };
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    let mut large = open;
    large.capabilities.push(Capability::Unknown {
        code: 200,
        value: vec![9; 250],
    });
    large.encode(&mut bytes);
    bytes
}

fn small_messages() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_keepalive(&mut bytes);
    RouteRefresh::new(Family::Ipv4Unicast, refresh_subtype::REQUEST).encode(&mut bytes);
    RouteRefresh::new(Family::Ipv6Unicast, refresh_subtype::BEGIN).encode(&mut bytes);
    RouteRefresh::new(Family::Ipv6Unicast, refresh_subtype::END).encode(&mut bytes);
    Notification::administrative_shutdown("maintenance").encode(&mut bytes);
    Notification::administrative_reset("now")
        .into_hard_reset()
        .encode(&mut bytes);
    bytes
}

/// One of every code and subcode that has a name, and of some that have none.
fn notifications() -> Vec<u8> {
    let mut bytes = Vec::new();
    for code in 1..=9 {
        for subcode in 0..=11 {
            Notification::new(code, subcode).encode(&mut bytes);
        }
    }
    bytes
}

/// Inputs of `codec`: the session octet and a stream of messages.
fn codec_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = [
        "10.244.0.0/26",
        "10.244.0.64/26",
        "0.0.0.0/0",
        "192.0.2.1/32",
    ];
    let v6 = ["fd00:244::/122", "2001:db8::/32", "::/0"];
    let global = "2001:db8::1%fe80::1";
    let update =
        |session, family, next_hop, prefixes| (session, reach(session, family, next_hop, prefixes));
    [
        ("open", (0, open())),
        ("small", (0, small_messages())),
        ("notifications", (0, notifications())),
        ("v4", update(WIDE, Family::Ipv4Unicast, "192.0.2.1", &v4)),
        (
            "v4-two-octet",
            update(0, Family::Ipv4Unicast, "192.0.2.1", &v4),
        ),
        (
            "v4-add-path",
            update(WIDE | ADD_PATH, Family::Ipv4Unicast, "192.0.2.1", &v4),
        ),
        (
            "v4-extended-next-hop",
            update(WIDE | EXTENDED_NEXT_HOP, Family::Ipv4Unicast, global, &v4),
        ),
        ("v6", update(WIDE, Family::Ipv6Unicast, global, &v6)),
        ("v6-two-octet", update(0, Family::Ipv6Unicast, global, &v6)),
        (
            "v6-add-path",
            update(WIDE | ADD_PATH, Family::Ipv6Unicast, global, &v6),
        ),
    ]
    .into_iter()
    .map(|(name, (session, bytes))| (name, [&[session][..], &bytes].concat()))
    .collect()
}

/// Inputs of `update_structured`: recipes, read front to back as its header says.
fn recipe_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Selector, spoiler, then what the attribute's value asks for.
    let origin: &[u8] = &[0, 0, 0];
    let as_path: &[u8] = &[1, 0, 1, 1, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xea];
    let narrow_path: &[u8] = &[1, 0, 1, 1, 2, 0x5b, 0xa0, 0xfd, 0xea];
    let next_hop: &[u8] = &[2, 0, 192, 0, 2, 1];
    let med: &[u8] = &[3, 0, 0, 0, 0, 5];
    let local_pref: &[u8] = &[4, 0, 0, 0, 0, 100];
    let atomic: &[u8] = &[5, 0];
    let communities: &[u8] = &[7, 0, 2, 0xff, 0xff, 0xff, 1, 0, 1, 0, 1];
    let as4_path: &[u8] = &[13, 0, 1, 1, 2, 0xfa, 0x56, 0xea, 1, 0, 0, 0xfd, 0xea];
    let large: &[u8] = &[15, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    // MP_REACH_NLRI: shape 0 is IPv6 with 16 octets of next hop; one prefix.
    let mp_reach: &[u8] = &[
        10, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 48, 0x20, 1, 0x0d,
        0xb8, 0, 1,
    ];
    let mp_unreach: &[u8] = &[11, 0, 0, 1, 32, 0x20, 1, 0x0d, 0xb8];
    let recipe = |session: u8, attributes: &[&[u8]], prefixes: &[u8]| {
        let mut bytes = vec![session, attributes.len() as u8];
        bytes.extend(attributes.concat());
        bytes.extend_from_slice(prefixes);
        bytes
    };
    // No withdrawn prefix, one announced.
    let announced: &[u8] = &[0, 1, 24, 198, 51, 100, 0];
    let withdrawn: &[u8] = &[1, 8, 10, 0, 0];
    let none: &[u8] = &[0, 0, 0];
    vec![
        (
            "classic",
            recipe(
                WIDE,
                &[origin, as_path, next_hop, med, local_pref, communities],
                announced,
            ),
        ),
        (
            "two-octet",
            recipe(
                0,
                &[origin, narrow_path, next_hop, atomic, as4_path, large],
                announced,
            ),
        ),
        (
            "mp",
            recipe(WIDE, &[mp_reach, origin, as_path, large], none),
        ),
        ("withdraw", recipe(WIDE, &[], withdrawn)),
        ("mp-unreach", recipe(WIDE, &[mp_unreach], none)),
    ]
}

fn check_file(target: &str, seeds: &[(&str, Vec<u8>)]) {
    let mut text = String::new();
    for (name, bytes) in seeds {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("# {name}\n{hex}\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(format!("{target}.hex"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{target}.hex differs; BLESS=1 writes it");
}

#[test]
fn committed_seeds_are_what_this_test_writes() {
    check_file("codec", &codec_seeds());
    check_file("update_structured", &recipe_seeds());
}

#[test]
fn codec_seeds_are_valid_messages() {
    for (name, seed) in codec_seeds() {
        let (session, mut stream) = seed.split_first().unwrap();
        let ctx = DecodeContext {
            four_octet_as: session & WIDE != 0,
            ebgp: false,
            add_path: [session & ADD_PATH != 0; 2],
            families: [true; 2],
            extended_next_hop: session & EXTENDED_NEXT_HOP != 0,
        };
        let mut messages = 0;
        while let Some(found) = frame(stream, MAX_MESSAGE_LEN).unwrap() {
            match found.kind {
                MessageType::Open => drop(Open::decode(found.body).unwrap()),
                MessageType::Update => {
                    let update = decode_update(found.body, &ctx);
                    assert_eq!(update.verdict, Verdict::Ok, "{name}: {:?}", update.faults);
                }
                MessageType::RouteRefresh => drop(RouteRefresh::decode(found.body).unwrap()),
                MessageType::Notification | MessageType::Keepalive => {}
            }
            stream = &stream[found.len..];
            messages += 1;
        }
        assert!(stream.is_empty() && messages >= 2, "{name}");
    }
}
