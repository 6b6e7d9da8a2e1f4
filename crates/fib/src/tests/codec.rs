//! What is written reads back the same; error texts; link of a local address.

use smallvec::smallvec;

use super::{device, unreachable, via};
use crate::codec::{extack_text, new_route, read_route};
use crate::monitor::{Event, decode};
use crate::plan::{Believed, Written};
use crate::route::{NextHop, RouteKind, RouteSpec};

fn check_round_trip(spec: RouteSpec) {
    let spec = Written::from(spec);
    let read = read_route(&new_route(&spec, 254, 82)).expect("readable");
    assert_eq!((read.table, read.protocol, read.key()), (254, 82, spec.key));
    match read.believed() {
        Believed::Exact(back) => assert!(spec.satisfied_by(&back), "{spec:?} became {back:?}"),
        other => panic!("{spec:?} became {other:?}"),
    }
}

#[test]
fn written_routes_read_back() {
    check_round_trip(via("10.1.0.0/16", "10.0.0.1", Some(3), 20));
    check_round_trip(via("10.1.0.0/16", "fe80::1", Some(3), 20));
    check_round_trip(via("0.0.0.0/0", "10.0.0.1", Some(3), 0));
    check_round_trip(via("fd00::/48", "fe80::1", Some(3), 0));
    check_round_trip(RouteSpec {
        prefsrc: Some("10.9.9.9".parse().unwrap()),
        ..via("10.1.0.0/16", "10.0.0.1", Some(3), 20)
    });
    check_round_trip(device("10.1.0.7/32", 9));
    check_round_trip(device("fd00::7/128", 9));
    check_round_trip(unreachable("10.1.0.0/26"));
    check_round_trip(unreachable("fd00::/122"));
    let hop = |gateway: &str, weight| NextHop {
        gateway: gateway.parse().unwrap(),
        ifindex: Some(4),
        weight,
    };
    let kind = RouteKind::Via(smallvec![hop("10.0.0.1", 1), hop("10.0.0.2", 200)]);
    check_round_trip(RouteSpec {
        kind,
        ..via("10.1.0.0/16", "10.0.0.1", None, 20)
    });
}

#[test]
fn large_tables_are_named_by_attribute() {
    let read =
        read_route(&new_route(&device("10.1.0.7/32", 9).into(), 5000, 82)).expect("readable");
    assert_eq!(read.table, 5000);
}

#[test]
fn satisfaction_is_exact_where_it_matters() {
    let plain = via("10.1.0.0/16", "10.0.0.1", None, 20);
    let want = Written::from(plain.clone());
    let have = |gateway, metric| Written::from(via("10.1.0.0/16", gateway, Some(3), metric));
    assert!(
        want.satisfied_by(&have("10.0.0.1", 20)),
        "an open interface matches any"
    );
    assert!(!want.satisfied_by(&have("10.0.0.2", 20)));
    assert!(!want.satisfied_by(&have("10.0.0.1", 21)));
    assert!(
        !Written {
            prefsrc: Some("10.0.0.9".parse().unwrap()),
            ..want.clone()
        }
        .satisfied_by(&have("10.0.0.1", 20))
    );
    let hop = |ifindex, weight| NextHop {
        gateway: "10.0.0.1".parse().unwrap(),
        ifindex,
        weight,
    };
    let multi = |hops: Vec<NextHop>| RouteSpec {
        kind: RouteKind::Via(hops.into()),
        ..plain.clone()
    };
    let multi = |hops| Written::from(multi(hops));
    let kernel = multi(vec![hop(Some(1), 1), hop(Some(2), 1)]);
    assert!(
        multi(vec![hop(None, 0), hop(Some(1), 1)]).satisfied_by(&kernel),
        "any order, and 0 counts as 1"
    );
    assert!(!multi(vec![hop(Some(1), 1), hop(Some(1), 1)]).satisfied_by(&kernel));
    assert!(!multi(vec![hop(Some(1), 1), hop(Some(2), 7)]).satisfied_by(&kernel));
}

#[test]
fn extended_ack_text_is_found_and_garbage_is_harmless() {
    let text = b"Nexthop has invalid gateway\0";
    let mut payload = vec![0_u8; 16];
    payload.extend([8_u8, 0, 2, 0, 1, 2, 3, 4]);
    payload.extend(((text.len() + 4) as u16).to_ne_bytes());
    payload.extend(1_u16.to_ne_bytes());
    payload.extend(text);
    assert_eq!(
        extack_text(&payload).as_deref(),
        Some("Nexthop has invalid gateway")
    );
    assert_eq!(extack_text(&payload[..20]), None);
    assert_eq!(
        extack_text(&[0; 64]),
        None,
        "an attribute of length 0 must not loop"
    );
    assert_eq!(extack_text(&[]), None);
}

#[test]
fn unreadable_notifications_ask_for_a_resync() {
    let mut header = vec![0_u8; 16];
    header[..4].copy_from_slice(&64_u32.to_ne_bytes());
    assert!(
        matches!(decode(&header, 1)[..], [Event::Overrun]),
        "longer than the datagram"
    );
    header[..4].copy_from_slice(&0_u32.to_ne_bytes());
    assert!(
        matches!(decode(&header, 1)[..], [Event::Overrun]),
        "a length of 0 must not loop"
    );
    header[..4].copy_from_slice(&16_u32.to_ne_bytes());
    header[4..6].copy_from_slice(&24_u16.to_ne_bytes());
    assert!(
        matches!(decode(&header, 1)[..], [Event::Overrun]),
        "a route without a body"
    );
    header[12..16].copy_from_slice(&1_u32.to_ne_bytes());
    assert!(
        decode(&header, 1).is_empty(),
        "an echo of our own write is not even decoded"
    );
    assert!(decode(&[1, 2, 3], 1).is_empty());
}
