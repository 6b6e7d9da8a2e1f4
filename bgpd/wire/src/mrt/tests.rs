use proptest::prelude::*;

use super::*;
use crate::attrs::{AttributeEditor, Origin};
use crate::frame::encode_keepalive;

const TIME: u32 = 0x6500_0000;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// The record is the expected one, behind whatever was there before.
fn check(expected: &str, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), MrtError>) {
    let mut out = vec![0xaa, 0xbb];
    assert_eq!(encode(&mut out), Ok(()), "{expected}");
    assert_eq!(out[..2], [0xaa, 0xbb]);
    assert_eq!(out[2..], hex(expected), "{expected}");
}

/// Nothing is appended.
fn check_refused(expected: MrtError, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), MrtError>) {
    let mut out = vec![0xaa, 0xbb];
    assert_eq!(encode(&mut out), Err(expected));
    assert_eq!(out, [0xaa, 0xbb], "{expected}");
}

fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[65001, 4_200_000_001])
        .set_med(Some(10))
        .set_communities(&[0xfde9_0001])
        .set_only_to_customer(Some(65001))
        .build()
}

/// ORIGIN and AS_PATH of [`attributes`].
const HEAD: &str = "400101 00  40020a 0202 0000fde9 fa56ea01";
/// Its other attributes: MED, COMMUNITIES, OTC.
const MED_COMMUNITY: &str = "800404 0000000a  c00804 fde90001";
const OTC: &str = "c02304 0000fde9";

fn entry(attributes: &PathAttributes, next_hop: NextHop) -> RibEntry<'_> {
    RibEntry {
        peer_index: 1,
        originated: 0x6400_0000,
        path_id: 7,
        attributes,
        next_hop,
    }
}

fn rib<'a>(prefix: &str, add_path: bool, entries: &'a [RibEntry<'a>]) -> RibRecord<'a> {
    RibRecord {
        time: TIME,
        sequence: 9,
        prefix: prefix.parse().unwrap(),
        add_path,
        entries,
    }
}

fn v6(global: &str, link_local: Option<&str>) -> NextHop {
    NextHop::V6 {
        global: global.parse().unwrap(),
        link_local: link_local.map(|a| a.parse().unwrap()),
    }
}

fn peer(address: &str) -> IndexedPeer {
    IndexedPeer {
        bgp_id: [10, 0, 0, 2].into(),
        address: address.parse().unwrap(),
        asn: 65001,
    }
}

fn session(peer: &str, local: &str) -> Session {
    Session {
        peer_as: 4_200_000_001,
        local_as: 65000,
        interface: 3,
        peer: peer.parse().unwrap(),
        local: local.parse().unwrap(),
    }
}

#[test]
fn peer_index_table_of_rfc6396_4_3_1() {
    let peers = [
        peer("192.0.2.1"),
        peer("2001:db8::1"),
        peer("::ffff:192.0.2.9"),
    ];
    check(
        "65000000 000d 0001 0000003f
         0a000001 0004 6d61696e 0003
         02 0a000002 c0000201 0000fde9
         03 0a000002 20010db8000000000000000000000001 0000fde9
         02 0a000002 c0000209 0000fde9",
        |out| encode_peer_index_table(TIME, [10, 0, 0, 1].into(), "main", &peers, out),
    );
    check("65000000 000d 0001 00000008 0a000001 0000 0000", |out| {
        encode_peer_index_table(TIME, [10, 0, 0, 1].into(), "", &[], out)
    });
}

#[test]
fn rib_ipv4_unicast_of_rfc6396_4_3_2_has_next_hop_between_as_path_and_med() {
    let attributes = attributes();
    let entries = [entry(&attributes, NextHop::V4([192, 0, 2, 1].into()))];
    check(
        &format!(
            "65000000 000d 0002 0000003f
             00000009 14 cb0070 0001
             0001 64000000 002d {HEAD} 400304c0000201 {MED_COMMUNITY} {OTC}"
        ),
        |out| encode_rib(&rib("203.0.112.77/20", false, &entries), out),
    );
    check("65000000 000d 0002 00000007 00000009 00 0000", |out| {
        encode_rib(&rib("0.0.0.0/0", false, &[]), out)
    });
}

#[test]
fn rib_ipv6_unicast_has_nothing_but_the_next_hop_in_mp_reach() {
    let attributes = attributes();
    let entries = [
        entry(&attributes, v6("2001:db8::1", None)),
        entry(&attributes, v6("2001:db8::2", Some("fe80::2"))),
    ];
    let (one, both) = (
        "800e11 10 20010db8000000000000000000000001",
        "800e21 20 20010db8000000000000000000000002 fe800000000000000000000000000002",
    );
    check(
        &format!(
            "65000000 000d 0004 0000009f
             00000009 20 20010db8 0002
             0001 64000000 003a {HEAD} {MED_COMMUNITY} {one} {OTC}
             0001 64000000 004a {HEAD} {MED_COMMUNITY} {both} {OTC}"
        ),
        |out| encode_rib(&rib("2001:db8::/32", false, &entries), out),
    );
}

#[test]
fn an_ipv4_prefix_behind_an_ipv6_router_has_its_next_hop_in_mp_reach() {
    let attributes = attributes();
    let entries = [entry(&attributes, v6("2001:db8::1", None))];
    check(
        &format!(
            "65000000 000d 0002 0000004a
             00000009 08 0a 0001
             0001 64000000 003a {HEAD} {MED_COMMUNITY}
             800e11 10 20010db8000000000000000000000001 {OTC}"
        ),
        |out| encode_rib(&rib("10.0.0.0/8", false, &entries), out),
    );
}

#[test]
fn path_identifiers_of_rfc8050_stand_before_the_attributes() {
    let attributes = attributes();
    let entries = [entry(&attributes, NextHop::V4([192, 0, 2, 1].into()))];
    check(
        &format!(
            "65000000 000d 0008 00000041
             00000009 08 0a 0001
             0001 64000000 00000007 002d {HEAD} 400304c0000201 {MED_COMMUNITY} {OTC}"
        ),
        |out| encode_rib(&rib("10.0.0.0/8", true, &entries), out),
    );
    check("65000000 000d 000a 00000007 00000009 00 0000", |out| {
        encode_rib(&rib("::/0", true, &[]), out)
    });
}

#[test]
fn messages_of_rfc6396_4_4_3_and_rfc8050() {
    let mut keepalive = Vec::new();
    encode_keepalive(&mut keepalive);
    let bytes = "ffffffffffffffffffffffffffffffff 0013 04";
    let v4 = "0003 0001 c0000201 c0000202";
    let v6 = "0003 0002 20010db8000000000000000000000001 20010db8000000000000000000000002";
    let wide = "fa56ea01 0000fde8";
    let narrow = "5ba0 fde8";
    for (four_octet_as, add_path, peer, local, expected) in [
        (
            true,
            false,
            "192.0.2.1",
            "192.0.2.2",
            format!("0004 00000027 {wide} {v4}"),
        ),
        (
            true,
            true,
            "192.0.2.1",
            "192.0.2.2",
            format!("0009 00000027 {wide} {v4}"),
        ),
        (
            true,
            false,
            "2001:db8::1",
            "2001:db8::2",
            format!("0004 0000003f {wide} {v6}"),
        ),
        (
            false,
            false,
            "192.0.2.1",
            "::ffff:192.0.2.2",
            format!("0001 00000023 {narrow} {v4}"),
        ),
        (
            false,
            true,
            "2001:db8::1",
            "2001:db8::2",
            format!("0008 0000003b {narrow} {v6}"),
        ),
    ] {
        let format = MessageFormat {
            four_octet_as,
            add_path,
        };
        check(&format!("65000000 0010 {expected} {bytes}"), |out| {
            encode_message(TIME, &session(peer, local), format, &keepalive, out)
        });
    }
}

#[test]
fn state_changes_of_rfc6396_4_4_4() {
    check(
        "65000000 0010 0005 00000018 fa56ea01 0000fde8 0003 0001 c0000201 c0000202 0005 0006",
        |out| {
            let session = session("192.0.2.1", "192.0.2.2");
            encode_state_change(TIME, &session, State::OpenConfirm, State::Established, out)
        },
    );
    let codes = [
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ];
    assert_eq!(codes.map(|s| s as u16), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_has_no_wire_form_appends_nothing() {
    let collector = Ipv4Addr::LOCALHOST;
    let peers = vec![peer("192.0.2.1"); 65536];
    check_refused(MrtError::TooManyPeers, |out| {
        encode_peer_index_table(TIME, collector, "", &peers, out)
    });
    check_refused(MrtError::ViewNameTooLong, |out| {
        encode_peer_index_table(TIME, collector, &"x".repeat(65536), &[], out)
    });

    let small = attributes();
    let v4 = NextHop::V4([192, 0, 2, 1].into());
    let entries = vec![entry(&small, v4); 65536];
    check_refused(MrtError::TooManyEntries, |out| {
        encode_rib(&rib("10.0.0.0/8", false, &entries), out)
    });
    check_refused(MrtError::NextHopFamily, |out| {
        encode_rib(&rib("::/0", false, &entries[..1]), out)
    });
    // 65532 octets of attributes leave no room for a NEXT_HOP of seven.
    let filler = vec![0; 65532 - small.as_bytes().len() - 4];
    let large = small.edit().set_unknown(99, 0xc0, &filler).build();
    assert_eq!(large.as_bytes().len(), 65532);
    check_refused(MrtError::AttributesTooLong, |out| {
        let entries = [entry(&small, v4), entry(&large, v4)];
        encode_rib(&rib("10.0.0.0/8", false, &entries), out)
    });
    let fits = small.edit().set_unknown(99, 0xc0, &filler[4..]).build();
    assert_eq!(fits.as_bytes().len(), 65528);
    let mut out = Vec::new();
    let one = [entry(&fits, v4)];
    assert_eq!(
        encode_rib(&rib("10.0.0.0/8", false, &one), &mut out),
        Ok(())
    );
    let many = vec![entry(&fits, v4); 300];
    check_refused(MrtError::RecordTooLong, |out| {
        encode_rib(&rib("10.0.0.0/8", false, &many), out)
    });

    let mixed = session("192.0.2.1", "2001:db8::1");
    check_refused(MrtError::MixedFamilies, |out| {
        encode_state_change(TIME, &mixed, State::Idle, State::Active, out)
    });
    let format = MessageFormat {
        four_octet_as: true,
        add_path: false,
    };
    let mut keepalive = Vec::new();
    encode_keepalive(&mut keepalive);
    check_refused(MrtError::MixedFamilies, |out| {
        encode_message(TIME, &mixed, format, &keepalive, out)
    });
    let two = keepalive.repeat(2);
    for bytes in [&[][..], &keepalive[..18], &two, &[0; 19]] {
        check_refused(MrtError::NotAMessage, |out| {
            let session = session("192.0.2.1", "192.0.2.2");
            encode_message(TIME, &session, format, bytes, out)
        });
    }
}

/// Splits a file into records; `None` when it does not end with one.
fn records(mut file: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !file.is_empty() {
        let len = u32::from_be_bytes(*file.get(LENGTH_AT..)?.first_chunk()?) as usize;
        file = file.get(HEADER_LEN + len..)?;
        count += 1;
    }
    Some(count)
}

proptest! {
    /// Whatever is asked for: no panic, and the file stays a sequence of records.
    #[test]
    fn a_file_is_always_whole_records(
        message in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            prop::collection::vec(any::<u8>(), 0..600).prop_map(|body| {
                let len = (19 + body.len()) as u16;
                [&[0xff; 16][..], &len.to_be_bytes(), &[2], &body].concat()
            }),
        ],
        addresses in any::<[IpAddr; 3]>(),
        prefixes in prop::collection::vec((any::<IpAddr>(), 0..=128u8), 0..8),
        unknown in prop::collection::vec(any::<u8>(), 0..400),
        numbers in any::<[u32; 4]>(),
        flags in any::<[bool; 2]>(),
        view in ".{0,20}",
    ) {
        let [a, b, c] = addresses;
        let [time, sequence, peer_as, local_as] = numbers;
        let [four_octet_as, add_path] = flags;
        let attributes = attributes().edit().set_unknown(99, 0xc0, &unknown).build();
        let next_hop = match c {
            IpAddr::V4(address) => NextHop::V4(address),
            IpAddr::V6(global) => NextHop::V6 { global, link_local: four_octet_as.then_some(global) },
        };
        let session = Session { peer_as, local_as, interface: 0, peer: a, local: b };
        let peers = addresses.map(|address| IndexedPeer { bgp_id: Ipv4Addr::UNSPECIFIED, address, asn: peer_as });
        let mut out = Vec::new();
        let mut written = 0;
        written += usize::from(encode_peer_index_table(time, Ipv4Addr::UNSPECIFIED, &view, &peers, &mut out).is_ok());
        for (address, len) in prefixes {
            let prefix = IpNet::new(address, if address.is_ipv4() { len / 4 } else { len }).unwrap();
            let entries = [entry(&attributes, next_hop), entry(&attributes, next_hop)];
            let rib = RibRecord { time, sequence, prefix, add_path, entries: &entries };
            written += usize::from(encode_rib(&rib, &mut out).is_ok());
        }
        let format = MessageFormat { four_octet_as, add_path };
        written += usize::from(encode_message(time, &session, format, &message, &mut out).is_ok());
        written += usize::from(encode_state_change(time, &session, State::Active, State::Idle, &mut out).is_ok());
        prop_assert_eq!(records(&out), Some(written));
    }
}
