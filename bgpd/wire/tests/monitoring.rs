//! What others read in our MRT records and BMP messages: `bgpdump` and `tshark`, Debian packages of `scripts/packages.txt`.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a broken invariant should stop there"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "runs the programs that read what we write"
)]

use core::time::Duration;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use bgp_wire::bmp::{self, AdjRibIn, PeerDown, PeerHeader, PeerUp, Stat, TerminationReason};
use bgp_wire::mrt::{self, IndexedPeer, MessageFormat, RibEntry, RibRecord, Session, State};
use bgp_wire::{
    AttributeEditor, Capability, EncodeContext, Family, MAX_MESSAGE_LEN, NextHop, Nlri,
    Notification, Open, Origin, PathAttributes, cease, encode_end_of_rib, encode_reach,
    encode_unreach,
};

/// 2023-11-14 22:13:20 UTC.
const TIME: u32 = 1_700_000_000;

/// What a program writes to standard output when it reads `input`; it has 60 seconds.
fn read_by(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("timeout")
        .args(["60", program])
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that is missing closes the pipe: what it says below tells more than the error of a write.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.status.success(),
        "{program} (installed by `scripts/setup packages`): {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v6(global: &str, link_local: Option<&str>) -> NextHop {
    NextHop::V6 {
        global: global.parse().unwrap(),
        link_local: link_local.map(|a| a.parse().unwrap()),
    }
}

fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[4_200_000_001, 65010])
        .set_med(Some(10))
        .set_local_pref(Some(200))
        .set_communities(&[0xfde9_0001, 0xfde9_0002])
        .build()
}

fn update(family: Family, next_hop: &NextHop, prefix: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let nlri = [Nlri::new(prefix.parse().unwrap())];
    encode_reach(family, &attributes(), next_hop, &nlri, &context(), &mut out).unwrap();
    out.remove(0).bytes
}

fn context() -> EncodeContext {
    EncodeContext {
        four_octet_as: true,
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: false,
    }
}

/// `-m` prints one line per route: when, whose, what.
fn check_bgpdump(file: &[u8], expected: &[&str]) {
    let found = read_by("bgpdump", &["-m", "-v", "-"], file);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

fn index(out: &mut Vec<u8>) {
    let peers = [
        ("192.0.2.1", 4_200_000_001),
        ("2001:db8::1", 65002),
        ("192.0.2.3", 65003),
    ]
    .map(|(text, asn)| IndexedPeer {
        bgp_id: [10, 0, 0, 1].into(),
        address: address(text),
        asn,
    });
    mrt::encode_peer_index_table(TIME, Ipv4Addr::new(10, 0, 0, 9), "main", &peers, out).unwrap();
}

/// A dump of `routes`: prefix, then the routes of peers in their order.
fn dump(routes: &[(&str, bool, &[RibEntry<'_>])]) -> Vec<u8> {
    let mut out = Vec::new();
    index(&mut out);
    for (sequence, (prefix, add_path, entries)) in routes.iter().enumerate() {
        let record = RibRecord {
            time: TIME,
            sequence: sequence as u32,
            prefix: prefix.parse().unwrap(),
            add_path: *add_path,
            entries,
        };
        mrt::encode_rib(&record, &mut out).unwrap();
    }
    out
}

fn entry(peer_index: u16, attributes: &PathAttributes, next_hop: NextHop) -> RibEntry<'_> {
    RibEntry {
        peer_index,
        originated: TIME - 100,
        path_id: 7,
        attributes,
        next_hop,
    }
}

#[test]
fn bgpdump_reads_a_rib_of_both_families() {
    let full = attributes();
    let bare = AttributeEditor::new(Origin::Incomplete).build();
    let router = NextHop::V4([192, 0, 2, 254].into());
    let global = v6("2001:db8::fe", None);
    let linked = v6("2001:db8::fe", Some("fe80::1"));
    let v4 = [entry(0, &full, router), entry(2, &bare, router)];
    let v6 = [entry(1, &full, global), entry(0, &bare, linked)];
    let file = dump(&[
        ("0.0.0.0/0", false, &v4[1..]),
        ("203.0.113.0/25", false, &v4),
        ("198.51.100.7/32", false, &v4[..1]),
        ("2001:db8:1::/48", false, &v6),
        ("::/0", false, &v6[..1]),
    ]);
    check_bgpdump(
        &file,
        &[
            "TABLE_DUMP2|1700000000|B|192.0.2.3|65003|0.0.0.0/0||INCOMPLETE|192.0.2.254|0|0||NAG||",
            "TABLE_DUMP2|1700000000|B|192.0.2.1|4200000001|203.0.113.0/25|4200000001 65010|IGP|192.0.2.254|200|10|65001:1 65001:2|NAG||",
            "TABLE_DUMP2|1700000000|B|192.0.2.3|65003|203.0.113.0/25||INCOMPLETE|192.0.2.254|0|0||NAG||",
            "TABLE_DUMP2|1700000000|B|192.0.2.1|4200000001|198.51.100.7/32|4200000001 65010|IGP|192.0.2.254|200|10|65001:1 65001:2|NAG||",
            "TABLE_DUMP2|1700000000|B|2001:db8::1|65002|2001:db8:1::/48|4200000001 65010|IGP|2001:db8::fe|200|10|65001:1 65001:2|NAG||",
            "TABLE_DUMP2|1700000000|B|192.0.2.1|4200000001|2001:db8:1::/48||INCOMPLETE|2001:db8::fe|0|0||NAG||",
            "TABLE_DUMP2|1700000000|B|2001:db8::1|65002|::/0|4200000001 65010|IGP|2001:db8::fe|200|10|65001:1 65001:2|NAG||",
        ],
    );
}

#[test]
fn bgpdump_reads_routes_with_path_identifiers() {
    let full = attributes();
    let v4 = [entry(0, &full, NextHop::V4([192, 0, 2, 254].into()))];
    let v6 = [entry(1, &full, v6("2001:db8::fe", None))];
    let file = dump(&[
        ("203.0.113.0/25", true, &v4),
        ("2001:db8:1::/48", true, &v6),
    ]);
    check_bgpdump(
        &file,
        &[
            "TABLE_DUMP2_AP|1700000000|B|192.0.2.1|4200000001|203.0.113.0/25|7|4200000001 65010|IGP|192.0.2.254|200|10|65001:1 65001:2|NAG||",
            "TABLE_DUMP2_AP|1700000000|B|2001:db8::1|65002|2001:db8:1::/48|7|4200000001 65010|IGP|2001:db8::fe|200|10|65001:1 65001:2|NAG||",
        ],
    );
}

#[test]
fn bgpdump_reads_an_ipv4_prefix_behind_an_ipv6_router() {
    let full = attributes();
    let routes = [entry(1, &full, v6("2001:db8::fe", None))];
    let file = dump(&[("203.0.113.0/25", false, &routes)]);
    check_bgpdump(
        &file,
        &[
            "TABLE_DUMP2|1700000000|B|2001:db8::1|65002|203.0.113.0/25|4200000001 65010|IGP|2001:db8::fe|200|10|65001:1 65001:2|NAG||",
        ],
    );
}

#[test]
fn bgpdump_reads_what_sessions_said() {
    let session = |peer, local| Session {
        peer_as: 4_200_000_001,
        local_as: 65000,
        interface: 0,
        peer: address(peer),
        local: address(local),
    };
    let v4 = session("192.0.2.1", "192.0.2.2");
    let v6_session = session("2001:db8::1", "2001:db8::2");
    let wide = MessageFormat {
        four_octet_as: true,
        add_path: false,
    };
    let narrow = MessageFormat {
        four_octet_as: false,
        ..wide
    };
    let mut file = Vec::new();
    let out = &mut file;
    mrt::encode_state_change(TIME, &v4, State::OpenConfirm, State::Established, out).unwrap();
    let router = NextHop::V4([192, 0, 2, 1].into());
    let message = update(Family::Ipv4Unicast, &router, "203.0.113.0/24");
    mrt::encode_message(TIME + 1, &v4, wide, &message, out).unwrap();
    let router = v6("2001:db8::1", Some("fe80::1"));
    let message = update(Family::Ipv6Unicast, &router, "2001:db8:1::/48");
    mrt::encode_message(TIME + 2, &v6_session, wide, &message, out).unwrap();
    let mut messages = Vec::new();
    let gone = [Nlri::new("198.51.100.0/24".parse().unwrap())];
    encode_unreach(Family::Ipv4Unicast, &gone, &context(), &mut messages);
    mrt::encode_message(TIME + 3, &v4, narrow, &messages[0].bytes, out).unwrap();
    mrt::encode_state_change(TIME + 4, &v6_session, State::Established, State::Idle, out).unwrap();
    check_bgpdump(
        &file,
        &[
            "BGP4MP|1700000000|STATE|192.0.2.1|4200000001|5|6",
            "BGP4MP|1700000001|A|192.0.2.1|4200000001|203.0.113.0/24|4200000001 65010|IGP|192.0.2.1|200|10|65001:1 65001:2|NAG||",
            "BGP4MP|1700000002|A|2001:db8::1|4200000001|2001:db8:1::/48|4200000001 65010|IGP|2001:db8::1|200|10|65001:1 65001:2|NAG||",
            "BGP4MP|1700000003|W|192.0.2.1|23456|198.51.100.0/24",
            "BGP4MP|1700000004|STATE|2001:db8::1|4200000001|6|1",
        ],
    );
}

/// A capture of one TCP direction, one segment per message, from 192.0.2.1 to port 11019 of 192.0.2.2.
fn capture(messages: &[Vec<u8>]) -> Vec<u8> {
    /// LINKTYPE_RAW: packets begin with the IP header.
    const RAW_IP: u32 = 101;
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65535, RAW_IP] {
        pcap.extend_from_slice(&word.to_be_bytes());
    }
    let mut sequence = 1u32;
    for message in messages {
        let len = (40 + message.len()) as u32;
        for word in [TIME, 0, len, len] {
            pcap.extend_from_slice(&word.to_be_bytes());
        }
        let [high, low] = (len as u16).to_be_bytes();
        pcap.extend_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        pcap.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        pcap.extend_from_slice(&[0xc3, 0x50, 0x2b, 0x0b]);
        pcap.extend_from_slice(&sequence.to_be_bytes());
        pcap.extend_from_slice(&[0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        pcap.extend_from_slice(message);
        sequence += message.len() as u32;
    }
    pcap
}

/// The fields that `tshark` finds in each message, in that order, repeated ones joined by commas; never "malformed".
fn check_tshark(messages: &[Vec<u8>], fields: &[&str], expected: &[&str]) {
    let mut arguments = vec!["-n", "-r", "-", "-d", "tcp.port==11019,bmp", "-T", "fields"];
    arguments.extend(["-E", "separator=|", "-e", "_ws.malformed"]);
    for field in fields {
        arguments.extend(["-e", field]);
    }
    let found = read_by("tshark", &arguments, &capture(messages));
    let expected: Vec<String> = expected.iter().map(|line| format!("|{line}")).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{fields:?}");
}

fn header(text: &str, view: AdjRibIn) -> PeerHeader {
    PeerHeader {
        address: address(text),
        asn: 4_200_000_001,
        bgp_id: [10, 0, 0, 2].into(),
        view,
        two_octet_as: false,
        time: bmp::Timestamp::since_1970(Duration::new(TIME.into(), 16_000)),
    }
}

fn open(asn: u32, bgp_id: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    Open {
        my_as: asn,
        my_as_2octet: Open::two_octet(asn),
        hold_time: 90,
        bgp_id: bgp_id.into(),
        capabilities: vec![Capability::FourOctetAs(asn)],
    }
    .encode(&mut out);
    out
}

/// The message that `encode` appends.
fn one(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), bmp::BmpError>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out).unwrap();
    out
}

#[test]
fn tshark_reads_the_life_of_a_session() {
    let sent = open(65000, [10, 0, 0, 1]);
    let received = open(4_200_000_001, [10, 0, 0, 2]);
    let up = |local| PeerUp {
        local_address: address(local),
        local_port: 179,
        remote_port: 40000,
        sent_open: &sent,
        received_open: &received,
        information: &[],
    };
    let (v4, v6) = (
        header("192.0.2.1", AdjRibIn::PrePolicy),
        header("2001:db8::1", AdjRibIn::PrePolicy),
    );
    let reset = Notification::cease(cease::ADMINISTRATIVE_RESET);
    let messages = [
        one(|out| bmp::encode_initiation("Roadbed", "leaf-1", &["rack 7"], out)),
        one(|out| bmp::encode_peer_up(&v4, &up("192.0.2.2"), out)),
        one(|out| bmp::encode_peer_up(&v6, &up("2001:db8::2"), out)),
        one(|out| bmp::encode_peer_down(&v4, &PeerDown::LocalNotification(&reset), out)),
        one(|out| bmp::encode_peer_down(&v4, &PeerDown::LocalEvent(10), out)),
        one(|out| bmp::encode_peer_down(&v6, &PeerDown::RemoteNotification(&reset), out)),
        one(|out| bmp::encode_peer_down(&v6, &PeerDown::RemoteClose, out)),
        one(|out| bmp::encode_peer_down(&v6, &PeerDown::Deconfigured, out)),
        // tshark 4.0 shows only the first TLV of a Termination, which is the reason.
        one(|out| bmp::encode_termination(TerminationReason::OutOfResources, "bye", out)),
    ];
    check_tshark(
        &messages,
        &[
            "bmp.type",
            "bmp.init.type",
            "bmp.init.info",
            "bmp.term.reason",
            "bmp.term.info",
        ],
        &[
            "4|1,2,0|Roadbed,leaf-1,rack 7||",
            "3||||",
            "3||||",
            "2||||",
            "2||||",
            "2||||",
            "2||||",
            "2||||",
            "5|||2|",
        ],
    );
    check_tshark(
        &messages,
        &[
            "bmp.peer.flags.ipv6",
            "bmp.peer.ip.addr",
            "bmp.peer.ipv6.addr",
            "bmp.peer.asn",
            "bmp.peer.id",
            "bmp.peer.timestamp.sec",
            "bmp.peer.timestamp.msec",
        ],
        &[
            "||||||",
            "0|192.0.2.1||4200000001|10.0.0.2|1700000000|16",
            "1||2001:db8::1|4200000001|10.0.0.2|1700000000|16",
            "0|192.0.2.1||4200000001|10.0.0.2|1700000000|16",
            "0|192.0.2.1||4200000001|10.0.0.2|1700000000|16",
            "1||2001:db8::1|4200000001|10.0.0.2|1700000000|16",
            "1||2001:db8::1|4200000001|10.0.0.2|1700000000|16",
            "1||2001:db8::1|4200000001|10.0.0.2|1700000000|16",
            "||||||",
        ],
    );
    check_tshark(
        &messages,
        &[
            "bmp.peer.up.ip.addr",
            "bmp.peer.up.ipv6.addr",
            "bmp.peer.up.port.local",
            "bmp.peer.up.port.remote",
            "bgp.open.identifier",
            "bmp.peer.down.reason",
            "bgp.notify.minor_error_cease",
        ],
        &[
            "||||||",
            "192.0.2.2||179|40000|10.0.0.1,10.0.0.2||",
            "|2001:db8::2|179|40000|10.0.0.1,10.0.0.2||",
            "|||||1|4",
            "|||||2|",
            "|||||3|4",
            "|||||4|",
            "|||||5|",
            "||||||",
        ],
    );
}

#[test]
fn tshark_reads_routes_and_numbers() {
    let pre = header("192.0.2.1", AdjRibIn::PrePolicy);
    let post = header("2001:db8::1", AdjRibIn::PostPolicy);
    let router = NextHop::V4([192, 0, 2, 1].into());
    let v4 = update(Family::Ipv4Unicast, &router, "203.0.113.0/24");
    let v6 = update(
        Family::Ipv6Unicast,
        &v6("2001:db8::1", None),
        "2001:db8:1::/48",
    );
    let end = encode_end_of_rib(Family::Ipv4Unicast).bytes;
    let stats = [
        Stat::RejectedByPolicy(1),
        Stat::AsPathLoops(2),
        Stat::AdjRibInRoutes(1 << 33),
        Stat::AdjRibInFamilyRoutes(Family::Ipv6Unicast, 3),
        Stat::LocRibFamilyRoutes(Family::Ipv4Unicast, 4),
        Stat::UpdatesTreatedAsWithdraw(5),
        Stat::AdjRibOutFamilyRoutes(Family::Ipv6Unicast, 6),
    ];
    let messages = [
        one(|out| bmp::encode_route_monitoring(&pre, &v4, out)),
        one(|out| bmp::encode_route_monitoring(&post, &v6, out)),
        one(|out| bmp::encode_route_monitoring(&pre, &end, out)),
        one(|out| bmp::encode_stats_report(&pre, &stats, out)),
    ];
    check_tshark(
        &messages,
        &[
            "bmp.type",
            "bmp.peer.flags.ipv6",
            "bmp.peer.flags.post_policy",
            "bmp.peer.flags.as_path",
            "bgp.nlri_prefix",
            "bgp.mp_reach_nlri_ipv6_prefix",
            "bgp.prefix_length",
            "bgp.update.path_attribute.as_path_segment.as4",
            "bgp.update.path_attribute.next_hop",
            "bgp.update.path_attribute.mp_reach_nlri.next_hop.ipv6",
        ],
        &[
            "0|0|0|0|203.0.113.0||24|4200000001,65010|192.0.2.1|",
            "0|1|1|0||2001:db8:1::|48|4200000001,65010||2001:db8::1",
            "0|0|0|0||||||",
            "1|0|0|0||||||",
        ],
    );
    check_tshark(
        &messages,
        &[
            "bmp.stats.count",
            "bmp.stats.data.prefix_rej",
            "bmp.stats.data.as_loop",
            "bmp.stats.data.routes_adj_rib_in",
            "bmp.stats.data.routes_per_adj_rib_in.afi",
            "bmp.stats.data.routes_per_adj_rib_in",
            "bmp.stats.data.routes_per_loc_rib",
            "bmp.stats.data.update_treat",
            "bmp.stats.data.routes_post_per_adj_rib_out",
        ],
        &[
            "||||||||",
            "||||||||",
            "||||||||",
            "7|1|2|8589934592|2|3|4|5|6",
        ],
    );
}
