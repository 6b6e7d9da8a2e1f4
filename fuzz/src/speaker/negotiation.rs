//! OPENs against settings: bytes, recipes with every capability, and what other settings would send.
//!
//! Three octets of settings (see `settings`), one that chooses: 0 the rest is the body of an OPEN; 1 it is a recipe; 2 it
//! is the other side's settings, and both sides judge each other.

use std::time::{Duration, Instant};

use bgp_core::fsm::{Change, Input, Message, Output, Peer, PeerSettings, settings_change};
use bgp_core::negotiation::{Negotiated, OpenError, local_open, negotiate};
use bgp_wire::{
    AttributeEditor, Capability, Family, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, NextHop, Nlri,
    Notification, Open, Origin, Verdict, decode_update, encode_reach,
};

use super::settings::{ASNS, settings};
use crate::wire::{Octets, codec::check_open};

/// Runs one input; says whether two OPENs were compared.
pub fn run(input: &[u8]) -> bool {
    let mut u = Octets::new(input);
    let ours = settings(&mut u);
    match u.below(3) {
        0 => body(&ours, u.rest()),
        1 => body(&ours, &recipe(&mut u)),
        _ => {
            let mut theirs = settings(&mut u);
            theirs.local_id = [10, 0, 0, 1 + u.below(2)].into();
            both(&ours, &theirs);
            true
        }
    }
}

fn body(ours: &PeerSettings, body: &[u8]) -> bool {
    let Some(open) = check_open(body) else {
        return false;
    };
    let _ = judged(ours, &open);
    true
}

/// The body of an OPEN. One octet each: version and identifier spoilers, AS number, Hold Time, encoding, how many
/// capabilities; then per capability its code, a spoiler, and what its value asks for.
fn recipe(u: &mut Octets<'_>) -> Vec<u8> {
    let spoiler = u.octet();
    let asn = ASNS[usize::from(u.below(3))];
    let hold_time = u16::from(u.octet());
    let extended = u.flag();
    let mut body = vec![if spoiler == 255 { 3 } else { 4 }];
    body.extend_from_slice(&Open::two_octet(asn).to_be_bytes());
    body.extend_from_slice(&hold_time.to_be_bytes());
    body.extend_from_slice(&[10, 0, 0, if spoiler == 254 { 1 } else { 2 }]);
    let mut parameters = Vec::new();
    let mut value = Vec::new();
    for _ in 0..u.below(24) {
        capability(u, asn, &mut value);
        // All in one parameter, or one each.
        if u.flag() {
            parameter(&std::mem::take(&mut value), extended, &mut parameters);
        }
    }
    parameter(&value, extended, &mut parameters);
    if spoiler == 253 {
        parameters.push(1);
    }
    if extended {
        body.extend_from_slice(&[255, 255]);
        body.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    } else {
        body.push(parameters.len() as u8);
    }
    body.extend_from_slice(&parameters);
    body
}

fn parameter(value: &[u8], extended: bool, out: &mut Vec<u8>) {
    out.push(2);
    if extended {
        out.push((value.len() >> 8) as u8);
    }
    out.push(value.len() as u8);
    out.extend_from_slice(value);
}

fn capability(u: &mut Octets<'_>, asn: u32, out: &mut Vec<u8>) {
    let code = match u.octet() {
        // Mostly those that mean something, else any.
        known @ 0..=199 => [1, 2, 5, 6, 9, 64, 65, 69, 70, 73][usize::from(known) % 10],
        other => other
            .wrapping_sub(200)
            .wrapping_mul(5)
            .wrapping_add(u.octet()),
    };
    let spoiler = u.octet();
    let mut value = Vec::new();
    match code {
        1 => value.extend_from_slice(&[0, 1 + u.below(2), 0, 1 + u.below(2) / 2]),
        2 | 6 | 70 => {}
        5 => {
            for _ in 0..u.below(3) {
                value.extend_from_slice(&[0, 1 + u.below(2), 0, 1, 0, 1 + u.below(2)]);
            }
        }
        9 => value.push(u.below(6)),
        64 => {
            u.copy(2, &mut value);
            for _ in 0..u.below(3) {
                value.extend_from_slice(&[0, 1 + u.below(2), 1, u.octet()]);
            }
        }
        65 if spoiler & 16 == 0 => value.extend_from_slice(&asn.to_be_bytes()),
        65 => u.copy(4, &mut value),
        69 => {
            for _ in 0..u.below(4) {
                value.extend_from_slice(&[0, 1 + u.below(3), 1, u.below(5)]);
            }
        }
        73 => {
            for _ in 0..2 {
                let len = u.below(12);
                value.push(len);
                u.copy(usize::from(len), &mut value);
            }
        }
        _ => {
            let len = u.below(40);
            u.copy(usize::from(len), &mut value);
        }
    }
    // One in eight is spoiled.
    match spoiler {
        224..=239 => value.push(spoiler),
        240..=255 => drop(value.pop()),
        _ => {}
    }
    out.extend_from_slice(&[code, value.len() as u8]);
    out.extend_from_slice(&value);
}

/// Negotiates, checks what comes out, and that the FSM does accordingly.
fn judged(ours: &PeerSettings, open: &Open) -> Result<Negotiated, OpenError> {
    let result = negotiate(ours, open);
    match &result {
        Ok(agreed) => check_agreed(ours, open, agreed),
        Err(error) => check_refusal(ours, &error.notification()),
    }
    check_fsm(ours, open, &result);
    result
}

fn check_agreed(ours: &PeerSettings, open: &Open, agreed: &Negotiated) {
    let has = |capability: &Capability| open.capabilities.contains(capability);
    let theirs = offered_families(open);
    let common = ours
        .families
        .iter()
        .filter(|family| theirs.contains(family));
    assert!(
        common.eq(&agreed.families),
        "the families of both sides, in our order"
    );
    assert!(!agreed.families.is_empty());

    assert!(ours.remote.admits(agreed.local_as, agreed.peer_as));
    assert_eq!(
        (agreed.local_as, agreed.peer_id),
        (ours.local_as, open.bgp_id)
    );
    assert_eq!(agreed.peer_as, open.my_as);
    assert_eq!(agreed.ebgp, agreed.peer_as != agreed.local_as);

    let hold_time = ours.hold_time.min(open.hold_time);
    assert_eq!(agreed.hold_time, Duration::from_secs(hold_time.into()));
    assert!(hold_time == 0 || hold_time >= 3);
    assert!(agreed.keepalive <= agreed.hold_time / 3);
    assert_eq!(agreed.keepalive.is_zero(), hold_time == 0);

    let four = |c: &Capability| matches!(c, Capability::FourOctetAs(_));
    assert_eq!(agreed.four_octet_as, open.capabilities.iter().any(four));
    assert_eq!(
        agreed.route_refresh,
        ours.route_refresh && has(&Capability::RouteRefresh)
    );
    assert!(!agreed.enhanced_route_refresh || agreed.route_refresh);
    assert!(!agreed.enhanced_route_refresh || has(&Capability::EnhancedRouteRefresh));
    let long = |yes| {
        if yes {
            MAX_EXTENDED_MESSAGE_LEN
        } else {
            MAX_MESSAGE_LEN
        }
    };
    assert_eq!(agreed.max_receive, long(ours.extended_message));
    let both = ours.extended_message && has(&Capability::ExtendedMessage);
    assert_eq!(agreed.max_send, long(both));

    for family in Family::ALL {
        let [wanted, send, receive] = [
            agreed.families.contains(&family),
            family.pick(agreed.add_path_send),
            family.pick(agreed.add_path_receive),
        ];
        let ours = family.pick(ours.add_path);
        assert!(!send || (wanted && ours.send && says_add_path(open, family, 1)));
        assert!(!receive || (wanted && ours.receive && says_add_path(open, family, 2)));
    }
    let ipv4 = agreed.families.contains(&Family::Ipv4Unicast);
    assert_eq!(
        agreed.extended_next_hop_receive,
        ipv4 && ours.extended_next_hop
    );
    let takes = |c: &Capability| matches!(c, Capability::ExtendedNextHop(entries) if entries.contains(&(1, 1, 2)));
    let takes = open.capabilities.iter().any(takes);
    assert_eq!(
        agreed.extended_next_hop,
        agreed.extended_next_hop_receive && takes
    );

    let role = ours.role.filter(|_| ours.is_ebgp());
    assert_eq!(agreed.peer_role, role.map(|role| role.counterpart()));
    for capability in &open.capabilities {
        if let (Some(role), Capability::Role(named)) = (role, capability) {
            assert_eq!(role.counterpart().code(), *named);
        }
    }
    assert_eq!(agreed.peer_capabilities, open.capabilities);
}

/// RFC 4760 §8: without any multiprotocol capability it is IPv4 unicast.
fn offered_families(open: &Open) -> Vec<Family> {
    let mut named = Vec::new();
    for capability in &open.capabilities {
        if let Capability::MultiProtocol { afi, safi } = capability {
            named.push(Family::from_afi_safi(*afi, *safi));
        }
    }
    if named.is_empty() {
        return vec![Family::Ipv4Unicast];
    }
    named.into_iter().flatten().collect()
}

fn says_add_path(open: &Open, family: Family, direction: u8) -> bool {
    open.capabilities.iter().any(|capability| match capability {
        Capability::AddPath(entries) => entries.iter().any(|(afi, safi, directions)| {
            (*afi, *safi) == (family.afi(), family.safi()) && directions & direction != 0
        }),
        _ => false,
    })
}

fn check_refusal(ours: &PeerSettings, notification: &Notification) {
    assert_eq!(notification.code, 2);
    assert!(matches!(notification.subcode, 2 | 3 | 6 | 7 | 11));
    let wanted = if notification.subcode == 7 {
        6 * ours.families.len()
    } else {
        0
    };
    assert_eq!(notification.data.len(), wanted);
}

/// A peer that is sent the OPEN says KEEPALIVE and goes on, or says why not and closes.
fn check_fsm(ours: &PeerSettings, open: &Open, result: &Result<Negotiated, OpenError>) {
    let now = Instant::now();
    let mut peer = Peer::new(ours.clone(), now, 1);
    let mut out = Vec::new();
    peer.handle(now, Input::ManualStart, &mut out);
    let conn = peer.next_incoming();
    let (local, remote) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let [local, remote] = [local, remote].map(|address| (address, 179).into());
    peer.handle(
        now,
        Input::TcpAccepted {
            conn,
            local,
            remote,
        },
        &mut out,
    );
    out.clear();
    let open = Box::new(open.clone());
    peer.handle(now, Input::Open { conn, open }, &mut out);
    let said = out.iter().find_map(|output| match output {
        Output::Send { conn: on, message } if *on == conn => Some(message.clone()),
        _ => None,
    });
    let closed = out.contains(&Output::Close { conn });
    match result {
        Ok(agreed) => {
            assert_eq!(said, Some(Message::Keepalive));
            assert_eq!(peer.negotiated(conn), Some(agreed));
            assert!(!closed);
        }
        Err(error) => {
            assert_eq!(said, Some(Message::Notification(error.notification())));
            assert!(closed && peer.negotiated(conn).is_none());
        }
    }
}

/// Two sides judge each other's OPENs.
fn both(ours: &PeerSettings, theirs: &PeerSettings) {
    let [our_open, their_open] = [ours, theirs].map(|side| {
        let open = local_open(side);
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        assert_eq!(
            Open::decode(&bytes[19..]),
            Ok(open.clone()),
            "we send what can be read"
        );
        open
    });
    if !matches!(settings_change(ours, theirs), Change::Reset(_)) {
        let differs =
            |a: &Open, b: &Open| a.capabilities.iter().any(|c| !b.capabilities.contains(c));
        assert!(!differs(&our_open, &their_open) && !differs(&their_open, &our_open));
    }
    match (judged(ours, &their_open), judged(theirs, &our_open)) {
        (Ok(here), Ok(there)) => check_mirror(&here, &there),
        (Err(OpenError::NoCommonFamily { .. } | OpenError::RoleMismatch { .. }), Ok(_))
        | (Ok(_), Err(OpenError::NoCommonFamily { .. } | OpenError::RoleMismatch { .. })) => {
            panic!("one side sees a mismatch that the other does not")
        }
        _ => {}
    }
}

fn check_mirror(here: &Negotiated, there: &Negotiated) {
    let set = |side: &Negotiated| Family::ALL.map(|family| side.families.contains(&family));
    assert_eq!(set(here), set(there));
    assert_eq!(
        (here.local_as, here.peer_as),
        (there.peer_as, there.local_as)
    );
    assert_eq!(here.hold_time, there.hold_time);
    assert_eq!(here.ebgp, there.ebgp);
    assert_eq!(here.add_path_send, there.add_path_receive);
    assert_eq!(here.add_path_receive, there.add_path_send);
    assert_eq!(here.route_refresh, there.route_refresh);
    assert_eq!(here.enhanced_route_refresh, there.enhanced_route_refresh);
    for (from, to) in [(here, there), (there, here)] {
        assert!(from.max_send <= to.max_receive);
        assert!(!from.extended_next_hop || to.extended_next_hop_receive);
        check_understood(from, to);
    }
}

/// What one side writes, the other reads.
fn check_understood(from: &Negotiated, to: &Negotiated) {
    let attributes = AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&ASNS)
        .build();
    for family in &from.families {
        let v6 = NextHop::V6 {
            global: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
            link_local: None,
        };
        let (prefix, next_hop) = match family {
            Family::Ipv4Unicast if from.extended_next_hop => ("192.0.2.0/24", v6),
            Family::Ipv4Unicast => ("192.0.2.0/24", NextHop::V4([192, 0, 2, 1].into())),
            Family::Ipv6Unicast => ("2001:db8::/32", v6),
        };
        let path_id = u32::from(family.pick(from.add_path_send));
        let nlri = Nlri::with_path_id(path_id, prefix.parse().expect("a prefix"));
        let mut messages = Vec::new();
        encode_reach(
            *family,
            &attributes,
            &next_hop,
            &[nlri],
            &from.encode_context(),
            &mut messages,
        )
        .expect("negotiated");
        let update = decode_update(&messages[0].bytes[19..], &to.decode_context());
        assert_eq!(
            (&update.verdict, update.faults.len()),
            (&Verdict::Ok, 0),
            "{:?}",
            update.faults
        );
        let read = update.mp_reach.map_or(update.announced, |mp| mp.nlri);
        assert!(read.iter().eq([nlri]));
        assert_eq!(update.attributes, Some(attributes.clone()));
    }
}
