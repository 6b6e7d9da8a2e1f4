use proptest::prelude::*;

use super::*;
use crate::encode::encode_end_of_rib;
use crate::notification::cease;
use crate::open::Open;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// The message is the expected one, behind whatever was there before.
fn check(expected: &str, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), BmpError>) {
    let mut out = vec![0xaa, 0xbb];
    assert_eq!(encode(&mut out), Ok(()), "{expected}");
    assert_eq!(out[..2], [0xaa, 0xbb]);
    assert_eq!(out[2..], hex(expected), "{expected}");
}

/// Nothing is appended.
fn check_refused(expected: BmpError, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), BmpError>) {
    let mut out = vec![0xaa, 0xbb];
    assert_eq!(encode(&mut out), Err(expected));
    assert_eq!(out, [0xaa, 0xbb], "{expected}");
}

fn peer(address: &str) -> PeerHeader {
    PeerHeader {
        address: address.parse().unwrap(),
        asn: 4_200_000_001,
        bgp_id: [10, 0, 0, 2].into(),
        view: AdjRibIn::PrePolicy,
        two_octet_as: false,
        time: Timestamp::since_1970(Duration::new(0x6500_0000, 16_000)),
    }
}

/// What follows the flags of [`peer`]: distinguisher, address, AS, BGP Identifier, time.
const V4: &str =
    "0000000000000000 000000000000000000000000c0000201 fa56ea01 0a000002 65000000 00000010";
const V6: &str =
    "0000000000000000 20010db8000000000000000000000001 fa56ea01 0a000002 65000000 00000010";
const MARKER: &str = "ffffffffffffffffffffffffffffffff";

fn open(asn: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Open {
        my_as: asn,
        my_as_2octet: Open::two_octet(asn),
        hold_time: 90,
        bgp_id: [10, 0, 0, 1].into(),
        capabilities: Vec::new(),
    }
    .encode(&mut out);
    out
}

#[test]
fn initiation_and_termination_of_rfc7854_4_3_and_4_5() {
    check(
        "03 0000001c 04  0001 0005 5461626c65  0002 0002 7231  0000 0003 c3a978",
        |out| encode_initiation("Table", "r1", &["\u{e9}x"], out),
    );
    check("03 0000000e 04 0001 0000 0002 0000", |out| {
        encode_initiation("", "", &[], out)
    });
    check("03 00000011 05 0001 0002 0000 0000 0001 78", |out| {
        encode_termination(TerminationReason::AdministrativelyClosed, "x", out)
    });
    for (reason, code) in [
        (TerminationReason::Unspecified, "0001"),
        (TerminationReason::OutOfResources, "0002"),
        (TerminationReason::RedundantConnection, "0003"),
        (TerminationReason::PermanentlyClosed, "0004"),
    ] {
        check(&format!("03 0000000c 05 0001 0002 {code}"), |out| {
            encode_termination(reason, "", out)
        });
    }
}

#[test]
fn text_is_cut_between_characters() {
    let mut out = Vec::new();
    // 4095 octets, then a character of two.
    let text = format!("{}\u{e9}", "x".repeat(MAX_TEXT_LEN - 1));
    encode_initiation(&text, "", &[], &mut out).unwrap();
    assert_eq!(out.len(), 6 + 4 + 4095 + 4);
}

#[test]
fn per_peer_flags_of_rfc7854_4_2() {
    for (address, view, two_octet_as, flags) in [
        ("192.0.2.1", AdjRibIn::PrePolicy, false, "00"),
        ("::ffff:192.0.2.1", AdjRibIn::PostPolicy, false, "40"),
        ("192.0.2.1", AdjRibIn::PrePolicy, true, "20"),
        ("2001:db8::1", AdjRibIn::PrePolicy, false, "80"),
        ("2001:db8::1", AdjRibIn::PostPolicy, true, "e0"),
    ] {
        let header = PeerHeader {
            view,
            two_octet_as,
            ..peer(address)
        };
        let rest = if address == "2001:db8::1" { V6 } else { V4 };
        check(
            &format!("03 00000047 00 00 {flags} {rest} {MARKER} 0017 02 0000 0000"),
            |out| {
                let update = encode_end_of_rib(Family::Ipv4Unicast).bytes;
                encode_route_monitoring(&header, &update, out)
            },
        );
        // Peer Down says nothing about a view.
        let v6_flag = if address == "2001:db8::1" { "80" } else { "00" };
        check(&format!("03 00000031 02 00 {v6_flag} {rest} 04"), |out| {
            encode_peer_down(&header, &PeerDown::RemoteClose, out)
        });
    }
}

#[test]
fn peer_up_of_rfc7854_4_10() {
    let (sent, received) = (open(65000), open(4_200_000_001));
    let hex_of = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for (remote, local, flags, rest, local_hex) in [
        (
            "192.0.2.1",
            "192.0.2.2",
            "00",
            V4,
            "000000000000000000000000 c0000202",
        ),
        (
            "2001:db8::1",
            "2001:db8::2",
            "80",
            V6,
            "20010db8000000000000000000000002",
        ),
    ] {
        let up = PeerUp {
            local_address: local.parse().unwrap(),
            local_port: 179,
            remote_port: 40000,
            sent_open: &sent,
            received_open: &received,
            information: &["leaf"],
        };
        let len = 6 + 42 + 20 + sent.len() + received.len() + 8;
        check(
            &format!(
                "03 {len:08x} 03 00 {flags} {rest} {local_hex} 00b3 9c40 {} {} 0000 0004 6c656166",
                hex_of(&sent),
                hex_of(&received)
            ),
            |out| encode_peer_up(&peer(remote), &up, out),
        );
    }
}

#[test]
fn peer_down_reasons_of_rfc7854_4_9() {
    let notification = Notification::cease(cease::ADMINISTRATIVE_RESET);
    for (down, len, data) in [
        (
            PeerDown::LocalNotification(&notification),
            0x46,
            format!("01 {MARKER} 0015 03 06 04"),
        ),
        (PeerDown::LocalEvent(10), 0x33, "02 000a".to_owned()),
        (
            PeerDown::RemoteNotification(&notification),
            0x46,
            format!("03 {MARKER} 0015 03 06 04"),
        ),
        (PeerDown::RemoteClose, 0x31, "04".to_owned()),
        (PeerDown::Deconfigured, 0x31, "05".to_owned()),
    ] {
        check(&format!("03 {len:08x} 02 00 80 {V6} {data}"), |out| {
            encode_peer_down(&peer("2001:db8::1"), &down, out)
        });
    }
}

#[test]
fn stats_of_rfc7854_4_8_and_rfc8671_6_2() {
    let stats = [
        (Stat::RejectedByPolicy(1), "0000 0004 00000001"),
        (Stat::DuplicateAnnouncements(2), "0001 0004 00000002"),
        (Stat::DuplicateWithdrawals(3), "0002 0004 00000003"),
        (Stat::ClusterListLoops(4), "0003 0004 00000004"),
        (Stat::AsPathLoops(5), "0004 0004 00000005"),
        (Stat::OriginatorIdLoops(6), "0005 0004 00000006"),
        (Stat::AdjRibInRoutes(7), "0007 0008 0000000000000007"),
        (Stat::LocRibRoutes(1 << 32), "0008 0008 0000000100000000"),
        (
            Stat::AdjRibInFamilyRoutes(Family::Ipv4Unicast, 9),
            "0009 000b 0001 01 0000000000000009",
        ),
        (
            Stat::LocRibFamilyRoutes(Family::Ipv6Unicast, 10),
            "000a 000b 0002 01 000000000000000a",
        ),
        (Stat::UpdatesTreatedAsWithdraw(11), "000b 0004 0000000b"),
        (Stat::PrefixesTreatedAsWithdraw(12), "000c 0004 0000000c"),
        (Stat::DuplicateUpdates(13), "000d 0004 0000000d"),
        (Stat::AdjRibOutRoutes(15), "000f 0008 000000000000000f"),
        (
            Stat::AdjRibOutFamilyRoutes(Family::Ipv6Unicast, 17),
            "0011 000b 0002 01 0000000000000011",
        ),
    ];
    let (list, tlvs): (Vec<Stat>, Vec<&str>) = stats.iter().copied().unzip();
    let tlvs = tlvs.join(" ");
    let len = 6 + 42 + 4 + hex(&tlvs).len();
    check(
        &format!("03 {len:08x} 01 00 80 {V6} 0000000f {tlvs}"),
        |out| encode_stats_report(&peer("2001:db8::1"), &list, out),
    );
    check(&format!("03 00000034 01 00 80 {V6} 00000000"), |out| {
        encode_stats_report(&peer("2001:db8::1"), &[], out)
    });
}

#[test]
fn times_beyond_32_bits_are_the_last_second() {
    let late = Timestamp::since_1970(Duration::from_secs(1 << 40));
    assert_eq!((late.seconds, late.micros), (u32::MAX, 0));
    assert_eq!(Timestamp::default(), Timestamp::since_1970(Duration::ZERO));
}

#[test]
fn what_has_no_wire_form_appends_nothing() {
    let update = encode_end_of_rib(Family::Ipv6Unicast).bytes;
    let open = open(65000);
    let not = |expected| BmpError::NotAMessage { expected };
    for bytes in [&[][..], &update[..22], &open, &update.repeat(2), &[0; 23]] {
        check_refused(not(MessageType::Update), |out| {
            encode_route_monitoring(&peer("192.0.2.1"), bytes, out)
        });
    }
    let up = PeerUp {
        local_address: [192, 0, 2, 2].into(),
        local_port: 179,
        remote_port: 179,
        sent_open: &open,
        received_open: &open,
        information: &[],
    };
    check_refused(BmpError::MixedFamilies, |out| {
        encode_peer_up(&peer("2001:db8::1"), &up, out)
    });
    for changed in [
        PeerUp {
            sent_open: &update,
            ..up
        },
        PeerUp {
            received_open: &open[1..],
            ..up
        },
    ] {
        check_refused(not(MessageType::Open), |out| {
            encode_peer_up(&peer("192.0.2.1"), &changed, out)
        });
    }
    let long = "x".repeat(MAX_TEXT_LEN);
    let information = vec![long.as_str(); 64];
    check_refused(BmpError::TooLong, |out| {
        encode_initiation("", "", &information, out)
    });
    for count in [30_000, 40_000] {
        check_refused(BmpError::TooLong, |out| {
            encode_stats_report(
                &peer("192.0.2.1"),
                &vec![Stat::AdjRibInRoutes(1); count],
                out,
            )
        });
    }
}

/// Splits a stream into messages; `None` when it does not end with one.
fn messages(mut stream: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !stream.is_empty() {
        let len = u32::from_be_bytes(*stream.get(1..)?.first_chunk()?) as usize;
        stream = stream
            .get(len..)
            .filter(|_| stream[0] == VERSION && len >= COMMON_LEN)?;
        count += 1;
    }
    Some(count)
}

proptest! {
    /// Whatever is asked for: no panic, and the stream stays a sequence of messages.
    #[test]
    fn a_stream_is_always_whole_messages(
        addresses in any::<[IpAddr; 2]>(),
        opens in any::<[bool; 2]>(),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        texts in prop::collection::vec(".{0,40}", 0..4),
        numbers in any::<(u32, u16, u64)>(),
        post in any::<bool>(),
        elapsed in any::<Duration>(),
    ) {
        let [address, local_address] = addresses;
        let header = PeerHeader {
            address,
            asn: numbers.0,
            bgp_id: numbers.0.into(),
            view: if post { AdjRibIn::PostPolicy } else { AdjRibIn::PrePolicy },
            two_octet_as: !post,
            time: Timestamp::since_1970(elapsed),
        };
        let open = open(numbers.0);
        let framed = [&[0xff; 16][..], &((19 + bytes.len()) as u16).to_be_bytes(), &[2], &bytes].concat();
        let notification = Notification::with_data(6, 2, bytes.clone());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let up = PeerUp {
            local_address,
            local_port: numbers.1,
            remote_port: numbers.1,
            sent_open: if opens[0] { &open } else { &bytes },
            received_open: if opens[1] { &open } else { &bytes },
            information: &texts,
        };
        let mut out = Vec::new();
        let results = [
            encode_initiation("a", "b", &texts, &mut out),
            encode_peer_up(&header, &up, &mut out),
            encode_route_monitoring(&header, &bytes, &mut out),
            encode_route_monitoring(&header, &framed, &mut out),
            encode_stats_report(&header, &[Stat::LocRibRoutes(numbers.2)], &mut out),
            encode_peer_down(&header, &PeerDown::RemoteNotification(&notification), &mut out),
            encode_peer_down(&header, &PeerDown::LocalEvent(numbers.1), &mut out),
            encode_termination(TerminationReason::Unspecified, "", &mut out),
        ];
        let written = results.iter().filter(|r| r.is_ok()).count();
        prop_assert_eq!(messages(&out), Some(written));
    }
}
