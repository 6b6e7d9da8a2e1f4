//! Next-hop resolution on tables.

use netlink_packet_route::route::RouteType;
use smallvec::smallvec;

use crate::codec::{Hop, KernelRoute};
use crate::tracker::{Link, NextHopKey, NextHopState, Tracker};

const ETH0: u32 = 2;
const ETH1: u32 = 3;

fn route(prefix: &str, gateway: Option<&str>, ifindex: u32, metric: u32) -> KernelRoute {
    KernelRoute {
        prefix: prefix.parse().unwrap(),
        metric,
        table: 254,
        protocol: 4,
        kind: RouteType::Unicast,
        hops: smallvec![Hop {
            ifindex: Some(ifindex),
            gateway: gateway.map(|addr| addr.parse().unwrap()),
            weight: 1
        }],
        prefsrc: None,
        next_hop_id: None,
        unusual: false,
        cloned: false,
    }
}

fn link(up: bool, carrier: bool) -> Option<Link> {
    Some(Link {
        name: "eth".into(),
        up,
        carrier,
    })
}

fn key(addr: &str) -> NextHopKey {
    NextHopKey {
        addr: addr.parse().unwrap(),
        ifindex: None,
    }
}

fn resolved(ifindex: u32, gateway: Option<&str>, igp_cost: u32) -> NextHopState {
    NextHopState::Resolved {
        ifindex,
        gateway: gateway.map(|addr| addr.parse().unwrap()),
        igp_cost,
    }
}

fn tracker(routes: Vec<KernelRoute>) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.set_link(ETH0, link(true, true));
    tracker.set_link(ETH1, link(true, true));
    tracker.load_routes(routes);
    tracker
}

#[track_caller]
fn check(tracker: &Tracker, addr: &str, want: NextHopState) {
    assert_eq!(tracker.resolve(key(addr)), want, "{addr}");
}

#[test]
fn longest_match_then_lowest_metric() {
    let tracker = tracker(vec![
        route("0.0.0.0/0", Some("10.0.0.254"), ETH0, 0),
        route("10.0.0.0/24", None, ETH0, 0),
        route("10.7.0.0/16", Some("10.0.0.9"), ETH0, 50),
        route("10.7.0.0/16", Some("10.0.0.8"), ETH1, 20),
        route("fd00::/64", None, ETH1, 256),
        KernelRoute {
            kind: RouteType::Unreachable,
            hops: smallvec![],
            ..route("10.8.0.0/16", None, ETH0, 0)
        },
    ]);
    check(&tracker, "10.0.0.5", resolved(ETH0, None, 0));
    check(&tracker, "10.7.1.1", resolved(ETH1, Some("10.0.0.8"), 20));
    check(&tracker, "192.0.2.1", resolved(ETH0, Some("10.0.0.254"), 0));
    check(&tracker, "10.8.0.1", NextHopState::Unresolved);
    check(&tracker, "fd00::9", resolved(ETH1, None, 0));
    check(&tracker, "fd01::9", NextHopState::Unresolved);
}

#[test]
fn link_state_decides() {
    let mut tracker = tracker(vec![
        route("0.0.0.0/0", Some("10.0.1.254"), ETH1, 0),
        route("10.0.0.0/24", None, ETH0, 0),
    ]);
    let hop = key("10.0.0.5");
    assert_eq!(tracker.track(hop), Some(resolved(ETH0, None, 0)));
    assert!(tracker.set_link(ETH0, link(true, false)));
    assert_eq!(tracker.refresh(None), vec![hop]);
    assert_eq!(
        tracker.state(&hop),
        Some(NextHopState::Unresolved),
        "no carrier: the route stays and leads nowhere"
    );
    assert!(!tracker.set_link(ETH0, link(true, false)), "nothing new");
    assert!(tracker.set_link(ETH0, link(false, false)));
    tracker.refresh(None);
    assert_eq!(
        tracker.state(&hop),
        Some(resolved(ETH1, Some("10.0.1.254"), 0)),
        "down: the kernel dropped the route"
    );
}

#[test]
fn link_local_needs_its_interface() {
    let tracker = tracker(vec![route("fe80::/64", None, ETH0, 256)]);
    check(&tracker, "fe80::1", NextHopState::Unresolved);
    let scoped = |ifindex| NextHopKey {
        addr: "fe80::1".parse().unwrap(),
        ifindex: Some(ifindex),
    };
    assert_eq!(tracker.resolve(scoped(ETH1)), resolved(ETH1, None, 0));
    assert_eq!(tracker.resolve(scoped(77)), NextHopState::Unresolved);
}

#[test]
fn an_interface_restricts_the_match() {
    let tracker = tracker(vec![
        route("10.0.0.0/24", None, ETH0, 0),
        route("10.0.0.0/16", None, ETH1, 0),
    ]);
    let scoped = NextHopKey {
        addr: "10.0.0.5".parse().unwrap(),
        ifindex: Some(ETH1),
    };
    assert_eq!(tracker.resolve(scoped), resolved(ETH1, None, 0));
}

#[test]
fn replace_and_remove_follow_the_kernel() {
    let mut tracker = tracker(vec![route("10.7.0.0/16", Some("10.0.0.9"), ETH0, 20)]);
    let hop = key("10.7.0.1");
    tracker.track(hop);
    let replaced = route("10.7.0.0/16", Some("10.0.1.9"), ETH1, 20);
    tracker.add_route(replaced.clone(), true);
    assert_eq!(
        tracker.refresh(Some("10.9.0.0/16".parse().unwrap())),
        vec![],
        "not concerned"
    );
    assert_eq!(tracker.refresh(Some(replaced.prefix)), vec![hop]);
    assert_eq!(
        tracker.state(&hop),
        Some(resolved(ETH1, Some("10.0.1.9"), 20))
    );
    assert!(
        !tracker.remove_route(&route("10.7.0.0/16", Some("10.0.0.9"), ETH0, 20)),
        "unknown: a dump must tell"
    );
    assert!(tracker.remove_route(&replaced));
    check(&tracker, "10.7.0.1", NextHopState::Unresolved);
}

#[test]
fn references_are_counted() {
    let mut tracker = tracker(vec![]);
    let hop = key("10.7.0.1");
    tracker.track(hop);
    tracker.track(hop);
    tracker.untrack(hop);
    assert!(tracker.state(&hop).is_some());
    tracker.untrack(hop);
    tracker.untrack(hop);
    assert!(tracker.state(&hop).is_none());
}

#[test]
fn forwarding_next_hop_is_the_router_on_the_way() {
    let addr = "10.7.0.1".parse().unwrap();
    let through = resolved(ETH0, Some("10.0.0.9"), 5)
        .forwarding(addr, 1)
        .unwrap();
    assert_eq!(
        (through.gateway, through.ifindex),
        ("10.0.0.9".parse().unwrap(), Some(ETH0))
    );
    assert_eq!(
        resolved(ETH0, None, 0).forwarding(addr, 1).unwrap().gateway,
        addr
    );
    assert_eq!(NextHopState::Unresolved.forwarding(addr, 1), None);
}

#[test]
fn the_prefix_around_an_address() {
    let mut tracker = tracker(vec![
        route("0.0.0.0/0", Some("10.0.0.1"), ETH0, 0),
        route("10.0.0.0/16", None, ETH0, 0),
        route("2001:db8::/64", None, ETH0, 256),
    ]);
    let covering = |tracker: &Tracker, addr: &str| tracker.covering(addr.parse().unwrap());
    assert_eq!(covering(&tracker, "10.0.1.2"), Some(16));
    assert_eq!(covering(&tracker, "192.0.2.1"), Some(0));
    assert_eq!(covering(&tracker, "2001:db8::9"), Some(64));
    assert_eq!(covering(&tracker, "2001:db8:1::9"), None);
    tracker.load_routes(vec![route("10.0.1.0/24", None, ETH1, 0)]);
    assert_eq!(covering(&tracker, "10.0.1.2"), Some(24));
}
