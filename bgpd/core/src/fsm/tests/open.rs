//! OPENs as other speakers send them, from bytes to a session: whatever a peer can say about itself that the codec
//! lets pass must not keep a session down.

use bgp_wire::{Capability, HEADER_LEN, RouteRefresh, refresh_subtype};
use proptest::prelude::*;

use super::*;
use crate::negotiation::{Negotiated, Role, negotiate};

/// The capabilities that have a registered code (IANA, "Capability Codes") or that routers are known to send, each
/// with a value as one would send it.
const KNOWN: &[(&str, u8, &[u8])] = &[
    ("multiprotocol IPv4 unicast", 1, &[0, 1, 0, 1]),
    ("multiprotocol IPv6 unicast", 1, &[0, 2, 0, 1]),
    ("multiprotocol IPv4 multicast", 1, &[0, 1, 0, 2]),
    ("multiprotocol EVPN", 1, &[0, 25, 0, 70]),
    ("multiprotocol, reserved octet set", 1, &[0, 1, 9, 1]),
    ("route refresh", 2, &[]),
    ("route refresh with a value", 2, &[1]),
    ("outbound route filtering", 3, &[0, 1, 0, 1, 1, 64, 3]),
    ("multiple routes to a destination", 4, &[0, 1, 1, 1]),
    ("extended next hop", 5, &[0, 1, 0, 1, 0, 2]),
    ("extended next hop of VPN routes", 5, &[0, 1, 0, 128, 0, 2]),
    ("extended message", 6, &[]),
    ("BGPsec", 7, &[0, 0, 1]),
    ("multiple labels", 8, &[0, 1, 4, 2]),
    ("role provider", 9, &[0]),
    ("graceful restart", 64, &[0x80, 120, 0, 1, 1, 0x80]),
    ("graceful restart, helper only", 64, &[0x40, 0]),
    ("four-octet AS", 65, &[0, 0, 0xfd, 0xea]),
    ("dynamic capability, old", 66, &[]),
    ("dynamic capability", 67, &[1, 2, 64]),
    ("multisession", 68, &[0]),
    ("ADD-PATH", 69, &[0, 1, 1, 3, 0, 2, 1, 3]),
    ("ADD-PATH, undefined direction", 69, &[0, 1, 1, 9]),
    ("ADD-PATH, empty", 69, &[]),
    ("enhanced route refresh", 70, &[]),
    (
        "long-lived graceful restart",
        71,
        &[0, 1, 1, 0x80, 0, 14, 16],
    ),
    ("routing policy distribution", 72, &[0]),
    ("FQDN", 73, &[2, b't', b'1', 1, b'x']),
    ("FQDN, not UTF-8", 73, &[1, 0xff, 0]),
    ("FQDN, cut", 73, &[200, b't']),
    ("BFD strict mode", 74, &[]),
    ("software version", 75, b"\x07BIRD 3.1"),
    ("paths limit", 76, &[0, 1, 1, 0, 8]),
    ("link-local next hop", 77, &[]),
    ("route refresh, old Cisco", 128, &[]),
    (
        "outbound route filtering, old Cisco",
        130,
        &[0, 1, 0, 1, 1, 128, 3],
    ),
    ("multisession, Cisco", 131, &[0]),
    ("FQDN, prestandard", 184, &[1, b'h', 0]),
    ("operational message", 185, &[]),
    ("reserved", 0, &[]),
    ("reserved for private use", 239, &[1, 2, 3]),
    ("reserved, last", 255, &[0; 9]),
];

/// How capabilities are spread over optional parameters.
#[derive(Debug, Clone, Copy)]
enum Layout {
    OneParameter,
    ParameterEach,
    /// RFC 9072.
    Extended,
    ExtendedParameterEach,
}

const LAYOUTS: [Layout; 4] = [
    Layout::OneParameter,
    Layout::ParameterEach,
    Layout::Extended,
    Layout::ExtendedParameterEach,
];

fn tlv(code: u8, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(value.len()).expect("short");
    [&[code, len], value].concat()
}

/// The body of an OPEN of AS 65002, router id 10.0.0.2; `None` when the capabilities do not fit the layout.
fn body(capabilities: &[Vec<u8>], layout: Layout) -> Option<Vec<u8>> {
    let whole = [capabilities.concat()];
    let (parameters, extended) = match layout {
        Layout::OneParameter => (&whole[..], false),
        Layout::ParameterEach => (capabilities, false),
        Layout::Extended => (&whole[..], true),
        Layout::ExtendedParameterEach => (capabilities, true),
    };
    let mut list = Vec::new();
    for parameter in parameters {
        list.push(2);
        if extended {
            list.extend_from_slice(&u16::try_from(parameter.len()).ok()?.to_be_bytes());
        } else {
            list.push(u8::try_from(parameter.len()).ok()?);
        }
        list.extend_from_slice(parameter);
    }
    let mut body = vec![4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2];
    if extended {
        body.extend_from_slice(&[255, 255]);
        body.extend_from_slice(&u16::try_from(list.len()).ok()?.to_be_bytes());
    } else {
        body.push(u8::try_from(list.len()).ok().filter(|len| *len < 255)?);
    }
    body.extend_from_slice(&list);
    (body.len() <= 4096 - HEADER_LEN).then_some(body)
}

/// Brings a session up with these bytes.
fn session(settings: PeerSettings, what: &str, body: &[u8]) -> Negotiated {
    let open = match Open::decode(body) {
        Ok(open) => Box::new(open),
        Err(error) => panic!("{what}: {error}"),
    };
    let (mut bench, conn) = Bench::connected(settings);
    assert_eq!(
        bench.input(Input::Open { conn, open }),
        "out KEEPALIVE",
        "{what}"
    );
    assert_eq!(bench.input(Input::Keepalive { conn }), "out up", "{what}");
    bench.peer.negotiated(conn).cloned().expect("established")
}

/// Settings with everything offered: the most that a capability could disagree with.
fn eager() -> PeerSettings {
    let both = AddPath {
        send: true,
        receive: true,
    };
    PeerSettings {
        add_path: [both; 2],
        extended_next_hop: true,
        role: Some(Role::Customer),
        ..settings()
    }
}

/// The capability alone is one that a session needs when it names a family, so both of ours go with it.
fn with_families(capability: &[u8]) -> Vec<Vec<u8>> {
    vec![
        tlv(1, &[0, 1, 0, 1]),
        tlv(1, &[0, 2, 0, 1]),
        capability.to_vec(),
    ]
}

/// RFC 5492, RFC 9072: every capability alone, twice, and three times, in every layout.
#[test]
fn each_known_capability_lets_the_session_come_up() {
    for (name, code, value) in KNOWN {
        for copies in 0..3 {
            let mut capabilities = with_families(&tlv(*code, value));
            capabilities.extend(vec![tlv(*code, value); copies]);
            for layout in LAYOUTS {
                let what = format!("{name}, {} times, {layout:?}", copies + 1);
                let body = body(&capabilities, layout).expect("fits");
                for settings in [settings(), eager()] {
                    let agreed = session(settings, &what, &body);
                    assert_eq!(agreed.families.len(), 2, "{what}");
                    assert!(agreed.peer_capabilities.len() >= 3, "{what}");
                }
            }
        }
    }
}

/// RFC 5492 §3: a capability that is not known is ignored, whatever its value.
#[test]
fn each_unknown_capability_lets_the_session_come_up() {
    let interpreted = [1, 2, 5, 6, 9, 64, 65, 69, 70, 73];
    for code in (0..=255).filter(|code| !interpreted.contains(code)) {
        for len in [0, 1, 4, 6, 240] {
            let value = vec![code ^ 0x5a; len];
            for layout in LAYOUTS {
                let what = format!("capability {code} of {len} octets, {layout:?}");
                let Some(body) = body(&with_families(&tlv(code, &value)), layout) else {
                    assert_eq!(len, 240, "{what}");
                    continue;
                };
                let agreed = session(eager(), &what, &body);
                let kept = agreed.peer_capabilities.last();
                assert_eq!(
                    kept,
                    Some(&Capability::Unknown {
                        code,
                        value: value.clone()
                    })
                );
            }
        }
    }
}

#[test]
fn all_of_them_at_once_in_either_order() {
    let mut all: Vec<Vec<u8>> = KNOWN
        .iter()
        .map(|(_, code, value)| tlv(*code, value))
        .collect();
    all.extend((140..180).map(|code| tlv(code, &[code; 20])));
    for reversed in [false, true] {
        for layout in [Layout::Extended, Layout::ExtendedParameterEach] {
            let what = format!("{layout:?}, reversed: {reversed}");
            let agreed = session(eager(), &what, &body(&all, layout).expect("fits"));
            assert_eq!(agreed.peer_capabilities.len(), all.len(), "{what}");
            assert_eq!(agreed.families, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
            assert_eq!(agreed.add_path_send, [true; 2], "{what}");
            assert_eq!(agreed.add_path_receive, [true; 2], "{what}");
            assert_eq!(agreed.max_send, 65535, "{what}");
            assert_eq!(agreed.peer_role, Some(Role::Provider), "{what}");
            assert!(agreed.extended_next_hop && agreed.enhanced_route_refresh);
        }
        all.reverse();
    }
}

/// RFC 9072 §2: an OPEN as long as a message may be.
#[test]
fn an_open_of_4096_octets() {
    let mut capabilities = with_families(&tlv(2, &[]));
    capabilities.extend((0..15).map(|i| tlv(200 + i, &[i; 255])));
    let rest = 4096 - HEADER_LEN - body(&capabilities, Layout::Extended).expect("fits").len();
    capabilities.push(tlv(240, &vec![7; rest - 2]));
    let body = body(&capabilities, Layout::Extended).expect("fits");
    assert_eq!(body.len() + HEADER_LEN, 4096);
    session(settings(), "4096 octets", &body);
}

/// RFC 5492 §3: a speaker from before capabilities.
#[test]
fn an_open_without_parameters() {
    let agreed = session(
        eager(),
        "no parameters",
        &[4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2, 0],
    );
    assert_eq!(agreed.families, [Family::Ipv4Unicast]);
    assert_eq!(
        (agreed.add_path_send, agreed.add_path_receive),
        ([false; 2], [false; 2])
    );
}

/// One of the known ones, half the time with one octet of its value changed a little.
fn capability() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let change = prop_oneof![Just(0u8), 1u8..4, any::<u8>()];
    (
        prop::sample::select(KNOWN),
        any::<prop::sample::Index>(),
        change,
    )
        .prop_map(|((_, code, value), at, change)| {
            let mut value = value.to_vec();
            if !value.is_empty() {
                let at = at.index(value.len());
                value[at] ^= change;
            }
            (code, value)
        })
}

proptest! {
    /// Whatever a peer says: what was agreed on was wanted by us and said by it, and concerns agreed families.
    #[test]
    fn nothing_is_agreed_on_that_one_side_did_not_ask_for(
        list in proptest::collection::vec(capability(), 0..8),
        bits in any::<u8>(),
    ) {
        let capabilities: Vec<_> = list.iter().map(|(code, value)| tlv(*code, value)).collect();
        let body = body(&capabilities, Layout::Extended).expect("fits");
        let bit = |n: u8| bits >> n & 1 != 0;
        let mut ours = eager();
        ours.set_remote(RemoteAs::External);
        ours.add_path[0] = AddPath { send: bit(0), receive: bit(1) };
        ours.extended_next_hop = bit(2);
        ours.role = bit(3).then_some(Role::Customer);
        ours.families.truncate(if bit(4) { 1 } else { 2 });
        if let Ok(open) = Open::decode(&body)
            && let Ok(agreed) = negotiate(&ours, &open)
        {
            let said = |code: u8| list.iter().any(|(said, _)| *said == code);
            for family in Family::ALL {
                let (send, receive) = (
                    family.pick(agreed.add_path_send),
                    family.pick(agreed.add_path_receive),
                );
                let both = agreed.families.contains(&family) && said(69);
                let wanted = family.pick(ours.add_path);
                prop_assert!(!send || both && wanted.send);
                prop_assert!(!receive || both && wanted.receive);
            }
            prop_assert!(!agreed.extended_next_hop || bit(2) && said(5));
            prop_assert!(!agreed.extended_next_hop_receive || bit(2));
            prop_assert_eq!(agreed.peer_role, bit(3).then_some(Role::Provider));
            prop_assert!(agreed.max_send == 4096 || said(6));
            prop_assert!(!agreed.enhanced_route_refresh || agreed.route_refresh && said(70));
            prop_assert!(agreed.ebgp && agreed.peer_as != ours.local_as && agreed.peer_as != 0);
            prop_assert!(agreed.families.iter().all(|f| ours.families.contains(f)));
        }
    }
}

fn refusal(settings: PeerSettings, open: Box<Open>) -> String {
    let (mut bench, conn) = Bench::connected(settings);
    bench.input(Input::Open { conn, open })
}

/// RFC 9234 §4.2: subcode 11, and another attempt after a pause.
#[test]
fn a_role_that_does_not_fit_ends_the_attempt() {
    let with_role = |role: &[Role]| {
        let mut open = peer_open();
        let roles = role.iter().map(|role| Capability::Role(role.code()));
        open.capabilities.extend(roles);
        open
    };
    let strict = PeerSettings {
        role_strict: true,
        ..eager()
    };
    let refused = "out 2/11, out close, failed open_rejected";
    assert_eq!(refusal(eager(), with_role(&[Role::Peer])), refused);
    assert_eq!(
        refusal(eager(), with_role(&[Role::Provider, Role::Peer])),
        refused
    );
    assert_eq!(refusal(strict.clone(), with_role(&[])), refused);
    assert_eq!(
        refusal(strict, with_role(&[Role::Provider])),
        "out KEEPALIVE"
    );
    assert_eq!(refusal(eager(), with_role(&[])), "out KEEPALIVE");
}

/// RFC 7607: AS 0, RFC 6286: identifier 0.0.0.0, should the codec ever let them pass.
#[test]
fn nobody_s_numbers_end_the_attempt() {
    let mut open = peer_open();
    open.capabilities
        .retain(|c| !matches!(c, Capability::FourOctetAs(_)));
    open.capabilities.push(Capability::FourOctetAs(0));
    let mut anyone = settings();
    anyone.set_remote(RemoteAs::External);
    assert_eq!(
        refusal(anyone, open),
        "out 2/2, out close, failed open_rejected"
    );
    let mut open = peer_open();
    open.bgp_id = Ipv4Addr::UNSPECIFIED;
    assert_eq!(
        refusal(settings(), open),
        "out 2/3, out close, failed open_rejected"
    );
}

/// RFC 6608: the subcode names the state.
#[test]
fn a_message_out_of_order_is_answered_with_the_state() {
    let (mut bench, conn) = Bench::connected(settings());
    assert!(bench.input(Input::Update { conn }).starts_with("out 5/1"));
    let (mut bench, conn) = Bench::connected(settings());
    let open = peer_open();
    bench.input(Input::Open { conn, open });
    assert!(bench.input(Input::Update { conn }).starts_with("out 5/2"));
    let (mut bench, conn) = Bench::established(settings());
    let open = peer_open();
    assert!(
        bench
            .input(Input::Open { conn, open })
            .starts_with("out 5/3")
    );
}

/// RFC 2918 and RFC 7313: what was not agreed on means nothing.
#[test]
fn refreshes_are_heard_as_far_as_they_were_agreed_on() {
    let check = |settings: PeerSettings, expected: [&str; 3]| {
        let (mut bench, conn) = Bench::established(settings);
        let subtypes = [
            refresh_subtype::REQUEST,
            refresh_subtype::BEGIN,
            refresh_subtype::END,
        ];
        for (subtype, expected) in subtypes.into_iter().zip(expected) {
            let refresh = RouteRefresh::new(Family::Ipv6Unicast, subtype);
            let found = bench.input(Input::RouteRefresh { conn, refresh });
            assert_eq!(found, expected, "subtype {subtype}");
        }
        assert_eq!(bench.peer.state(), State::Established);
    };
    check(settings(), ["refresh", "refresh-begin", "refresh-end"]);
    let plain = PeerSettings {
        enhanced_route_refresh: false,
        ..settings()
    };
    check(plain, ["refresh", "", ""]);
    let deaf = PeerSettings {
        route_refresh: false,
        ..settings()
    };
    check(deaf, ["", "", ""]);
    let ipv4_only = PeerSettings {
        families: vec![Family::Ipv4Unicast],
        ..settings()
    };
    check(ipv4_only, ["", "", ""]);
}

/// RFC 4486 §4: what `max_prefix` asks for reaches the peer, and the pause is kept.
#[test]
fn too_many_prefixes_end_the_session_for_as_long_as_configured() {
    use crate::max_prefix::{Action, Direction, MaxPrefix};
    let stop = |restart_after| {
        let bound = MaxPrefix {
            limit: 1000,
            warn_percent: 80,
            action: Action::Idle { restart_after },
        };
        let stop = bound.stop(Direction::In, Family::Ipv4Unicast);
        stop.expect("ends the session")
    };
    let (mut bench, _) = Bench::established(settings());
    let line = bench.input(stop(Some(secs(1800))));
    assert_eq!(line, "out 6/1, out close, down automatic_stop");
    assert_eq!(bench.accept().1, "in 6/5, in close");
    assert_eq!(bench.pass(secs(1799)), []);
    assert_eq!(bench.pass(secs(1))[0].1, "out connect");

    let (mut bench, _) = Bench::established(settings());
    bench.input(stop(None));
    assert_eq!(bench.pass(secs(365 * 24 * 3600)), []);
    assert_eq!(bench.peer.state(), State::Idle);
    // An operator's restart.
    bench.input(Input::ManualStop {
        message: String::new(),
    });
    assert_eq!(bench.input(Input::ManualStart), "out connect");
}

/// Pauses come from configuration, and time has an end.
#[test]
fn the_longest_pauses_are_bounded() {
    let endless = PeerSettings {
        connect_retry: Duration::MAX,
        idle_hold_min: Duration::MAX,
        idle_hold_max: Duration::MAX,
        send_hold_time: Some(Duration::MAX),
        ..settings()
    };
    let (mut bench, conn) = Bench::established(endless.clone());
    bench.input(Input::AutomaticStop {
        notification: Notification::cease(4),
        restart_after: Some(Duration::MAX),
    });
    assert_eq!(bench.peer.state(), State::Idle);
    bench.input(Input::TcpClosed {
        conn,
        reason: String::new(),
    });
    let delayed = PeerSettings {
        delay_open: Some(Duration::MAX),
        ..endless
    };
    let (mut bench, conn) = Bench::connected(delayed);
    bench.input(Input::TcpClosed {
        conn,
        reason: String::new(),
    });
    assert_eq!(bench.peer.state(), State::Active);
}
