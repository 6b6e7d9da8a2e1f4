//! Next-hop groups on a real kernel: shared, shrunk and grown as links go and come, adopted, and never a foreign one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::netns::{eventually, ifindex, in_netns, ip, shows, start, want};
use crate::monitor::{self, Event};
use crate::{
    FibEvent, FibHandle, NEXT_HOP_IDS, NextHop, RouteChange, RouteKey, RouteKind, RouteSpec,
    RouteState, Source,
};

/// A second pair beside `e0`: `f0` (10.0.1.1/24, fd00:0:0:1::1/64) and `f1`.
fn second_link() {
    ip("link add f0 type veth peer name f1");
    ip("addr add 10.0.1.1/24 dev f0");
    ip("-6 addr add fd00:0:0:1::1/64 dev f0 nodad");
    ip("link set f0 up");
    ip("link set f1 up");
}

fn hop(gateway: &str, link: &str, weight: u16) -> NextHop {
    NextHop {
        gateway: gateway.parse().unwrap(),
        ifindex: Some(ifindex(link)),
        weight,
    }
}

fn shared(prefix: &str, hops: &[NextHop]) -> RouteSpec {
    RouteSpec {
        prefix: prefix.parse().unwrap(),
        kind: RouteKind::Via(SmallVec::from_slice(hops)),
        prefsrc: None,
        metric: 20,
    }
}

/// `10.200.x.y/32`, all over both links.
fn many(count: u32, hops: &[NextHop]) -> Vec<RouteSpec> {
    let prefix = |i| format!("10.200.{}.{}/32", i >> 8, i & 255);
    (0..count).map(|i| shared(&prefix(i), hops)).collect()
}

/// Writes that anybody does to routes and next-hop objects from now on. Without the compatibility mode, in which the
/// kernel repeats every route when its group changes.
fn count_writes() -> mpsc::Receiver<Vec<Event>> {
    std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").unwrap();
    let (tx, rx) = mpsc::channel(100_000);
    let socket = monitor::open().unwrap();
    // No port is 0 but the kernel's, so that nothing counts as an echo.
    tokio::spawn(monitor::run(socket, std::sync::Arc::default(), tx));
    rx
}

fn writes(seen: &mut mpsc::Receiver<Vec<Event>>) -> (usize, usize) {
    let (mut routes, mut next_hops) = (0, 0);
    while let Ok(events) = seen.try_recv() {
        for event in events {
            match event {
                Event::RouteAdded { route, .. } | Event::RouteRemoved(route) => {
                    routes += usize::from(route.protocol == 82);
                }
                Event::NextHop(_) => next_hops += 1,
                Event::Overrun => panic!("the watcher lost events"),
                Event::Link { .. } | Event::Address { .. } => {}
            }
        }
    }
    (routes, next_hops)
}

async fn all_are(fib: &FibHandle, state: RouteState) -> bool {
    let routes = fib.dump().await.unwrap();
    routes.iter().all(|route| route.state == state)
}

#[test]
fn routes_with_the_same_next_hops_share_a_group() {
    in_netns(|| async {
        second_link();
        let (fib, _events) = start(&[]).await;
        let both = [hop("10.0.0.2", "e0", 10), hop("10.0.1.2", "f0", 2560)];
        let six = [hop("fd00::2", "e0", 0), hop("fe80::2", "f0", 1)];
        want(&fib, Source::Bgp, &many(50, &both)).await;
        want(
            &fib,
            Source::Bgp,
            &[shared("fd00:244::/64", &six), shared("10.7.0.0/16", &six)],
        )
        .await;
        let objects = ip("nexthop show proto 82");
        assert_eq!(objects.matches("group").count(), 2, "{objects}");
        assert_eq!(objects.lines().count(), 6, "{objects}");
        let first = ip("route show 10.200.0.0/32");
        // 2560 is more than the kernel takes; 10 and 256 have a common divisor.
        assert!(
            first.contains("weight 5 ") && first.contains("weight 128 "),
            "{first}"
        );
        assert!(shows("-6 route show proto 82", "via fe80::2 dev f0"));
        assert!(shows("route show 10.7.0.0/16", "via inet6 fd00::2 dev e0"));
        for id in objects
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
        {
            assert!(NEXT_HOP_IDS.contains(&id.parse().unwrap()), "{objects}");
        }
        let withdraws = fib.dump().await.unwrap().into_iter();
        let withdraws = withdraws.map(|r| RouteChange::withdraw(Source::Bgp, r.key.prefix));
        fib.apply(withdraws.collect()).await.unwrap();
        assert_eq!(ip("nexthop show"), "", "what nothing uses goes");
    });
}

#[test]
fn two_next_hops_that_lie_behind_one_router_are_one() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        let twice = [hop("10.0.0.2", "e0", 1), hop("10.0.0.2", "e0", 3)];
        want(&fib, Source::Bgp, &[shared("10.7.0.0/16", &twice)]).await;
        assert_eq!(ip("nexthop show"), "");
        assert!(shows(
            "route show proto 82",
            "10.7.0.0/16 via 10.0.0.2 dev e0"
        ));
    });
}

/// The promise that groups are for.
#[test]
fn the_loss_of_a_link_writes_nothing_per_route() {
    in_netns(|| async {
        second_link();
        let (fib, mut events) = start(&[]).await;
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 1)];
        let routes = many(10_000, &both);
        want(&fib, Source::Bgp, &routes).await;
        let mut seen = count_writes();
        ip("link set e1 down");
        eventually(|| !shows("route get 10.200.39.15", "dev e0")).await;
        assert_eq!(ip("route show proto 82").lines().count(), 10_000);
        // BGP follows what it is told, in parts as it does; the kernel has it so already.
        let e0 = ifindex("e0");
        let lost = |event: &FibEvent| matches!(event, FibEvent::LinkChanged { ifindex, alive: false, .. } if *ifindex == e0);
        while !events.next().await.unwrap().iter().any(lost) {}
        for part in routes.chunks(2048) {
            let left = |route: &RouteSpec| RouteSpec {
                kind: RouteKind::Via(SmallVec::from_slice(&both[1..])),
                ..route.clone()
            };
            let part: Vec<RouteSpec> = part.iter().map(left).collect();
            want(&fib, Source::Bgp, &part).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (routes_written, next_hops_written) = writes(&mut seen);
        assert!(
            routes_written == 0 && next_hops_written <= 2,
            "{routes_written} routes, {next_hops_written} next hops"
        );
        assert!(all_are(&fib, RouteState::Installed).await);
        // At leisure a single next hop is a plain route, which outlives the next loss of carrier.
        fib.audit().await.unwrap();
        assert_eq!(ip("nexthop show"), "");
        ip("link set f1 down");
        eventually(|| shows("route show 10.200.0.0/32", "linkdown")).await;
    });
}

#[test]
fn a_next_hop_that_moves_is_one_write_for_all_routes() {
    in_netns(|| async {
        second_link();
        let (fib, _events) = start(&[]).await;
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 1)];
        want(&fib, Source::Bgp, &many(10_000, &both)).await;
        let mut seen = count_writes();
        let moved = [hop("10.0.0.2", "e0", 1), hop("10.0.1.3", "f0", 1)];
        want(&fib, Source::Bgp, &many(10_000, &moved)).await;
        assert_eq!(ip("nexthop show proto 82").lines().count(), 3);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The new object, the group, and the old object that goes.
        assert_eq!(writes(&mut seen), (0, 3));
        std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "1").unwrap();
        assert!(shows("route show 10.200.39.15/32", "via 10.0.1.3 dev f0"));
    });
}

/// Both links lose their carrier one after the other, and get it back.
#[test]
fn routes_outlive_the_loss_of_all_their_links() {
    in_netns(|| async {
        second_link();
        let (fib, _events) = start(&[]).await;
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 3)];
        let six = [hop("fd00::2", "e0", 1), hop("fd00:0:0:1::2", "f0", 1)];
        want(&fib, Source::Bgp, &many(100, &both)).await;
        want(&fib, Source::Bgp, &[shared("fd00:244::/64", &six)]).await;
        let dead = || ip("route show proto 82").matches("linkdown").count();
        ip("link set e1 down");
        ip("link set f1 down");
        // As plain routes that lie over dead links.
        eventually(|| dead() == 300).await;
        eventually(|| shows("-6 route show proto 82", "fd00:244::/64")).await;
        ip("link set f1 up");
        eventually(|| shows("route show 10.200.0.1/32", "via 10.0.1.2 dev f0") && dead() == 0)
            .await;
        ip("link set e1 up");
        let back = || {
            let route = ip("route show 10.200.0.1/32");
            route.contains("nhid") && route.contains("10.0.0.2") && route.contains("weight 3")
        };
        eventually(back).await;
        eventually(|| shows("-6 route show fd00:244::/64", "nhid")).await;
        assert!(all_are(&fib, RouteState::Installed).await);
    });
}

#[test]
fn groups_are_adopted_as_they_are() {
    in_netns(|| async {
        second_link();
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 2)];
        let (fib, _events) = start(&Source::ALL).await;
        want(&fib, Source::Bgp, &many(20, &both)).await;
        let gone = [hop("10.0.0.9", "e0", 1), hop("10.0.1.9", "f0", 1)];
        want(&fib, Source::Bgp, &[shared("10.8.0.0/16", &gone)]).await;
        drop(fib);
        let before = ip("nexthop show proto 82");
        let mut seen = count_writes();
        let (fib, _events) = start(&[Source::Bgp]).await;
        let stale = fib.dump().await.unwrap();
        assert_eq!(stale.len(), 21);
        let key = RouteKey::new("10.8.0.0/16".parse().unwrap(), 20);
        let lost = stale.iter().find(|route| route.key == key).unwrap();
        let RouteKind::Via(hops) = &lost.route.as_ref().unwrap().kind else {
            panic!("{lost:?}")
        };
        let gateways: BTreeSet<IpAddr> = hops.iter().map(|hop| hop.gateway).collect();
        assert_eq!(gateways, gone.iter().map(|hop| hop.gateway).collect());
        want(&fib, Source::Bgp, &many(20, &both)).await;
        assert_eq!(ip("nexthop show proto 82"), before);
        assert_eq!(writes(&mut seen), (0, 0));
        fib.finish_adoption(Source::Bgp).await.unwrap();
        let after = ip("nexthop show proto 82");
        assert_eq!(after.lines().count(), 3, "swept: {after}");
        assert!(!shows("route show", "10.8.0.0/16"));
    });
}

#[test]
fn what_bears_our_id_but_not_our_mark_stays() {
    in_netns(|| async {
        second_link();
        let first = NEXT_HOP_IDS.start() + 1;
        ip(&format!("nexthop add id {first} via 10.0.0.77 dev e0"));
        let (fib, _events) = start(&[]).await;
        let second = first + 1;
        // Taken while we run, and unheard of: no turn of the runtime lies between.
        ip(&format!(
            "nexthop add id {second} via 10.0.0.78 dev e0 proto static"
        ));
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 1)];
        let route = shared("10.7.0.0/16", &both);
        let change = RouteChange::want(Source::Bgp, route);
        fib.apply(vec![change]).await.unwrap();
        eventually(|| shows("route show 10.7.0.0/16", "via 10.0.1.2 dev f0")).await;
        let foreign = |id: u32, gateway: &str| shows(&format!("nexthop show id {id}"), gateway);
        assert!(foreign(first, "10.0.0.77") && foreign(second, "10.0.0.78"));
        // Somebody else's route through our group keeps the group.
        let shown = ip("nexthop show proto 82");
        let group = shown.lines().find(|line| line.contains("group")).unwrap();
        let id = group.split_whitespace().nth(1).unwrap();
        ip(&format!("route add 10.9.0.0/16 nhid {id} proto static"));
        eventually(|| shows("route show", "10.9.0.0/16")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let withdraw = RouteChange::withdraw(Source::Bgp, "10.7.0.0/16".parse().unwrap());
        fib.apply(vec![withdraw]).await.unwrap();
        fib.audit().await.unwrap();
        assert!(shows("route show proto static", "10.9.0.0/16"));
        assert!(!shows("route show", "10.7.0.0/16"));
        assert!(foreign(first, "10.0.0.77") && foreign(second, "10.0.0.78"));
    });
}

/// The kernel deletes a next hop together with its routes, and of those it says nothing.
#[test]
fn a_deleted_group_comes_back_with_its_routes() {
    in_netns(|| async {
        second_link();
        let (fib, _events) = start(&[]).await;
        let both = [hop("10.0.0.2", "e0", 1), hop("10.0.1.2", "f0", 1)];
        want(&fib, Source::Bgp, &many(20, &both)).await;
        ip("nexthop flush proto 82");
        eventually(|| ip("route show proto 82").matches("nhid").count() == 20).await;
        // A group that somebody emptied but for one.
        let objects = ip("nexthop show proto 82");
        let member = objects
            .lines()
            .find(|line| line.contains("10.0.0.2"))
            .unwrap();
        ip(&format!(
            "nexthop del id {}",
            member.split_whitespace().nth(1).unwrap()
        ));
        eventually(|| shows("route show 10.200.0.3/32", "via 10.0.0.2 dev e0")).await;
        assert!(all_are(&fib, RouteState::Installed).await);
    });
}

#[test]
fn a_group_of_wrong_gateways_says_why() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        let wrong = [hop("10.0.0.2", "e0", 1), hop("192.0.2.1", "e0", 1)];
        let change = RouteChange::want(Source::Bgp, shared("10.7.0.0/16", &wrong));
        let report = fib.apply(vec![change]).await.unwrap();
        let reason = &report.failed.first().expect("it fails").reason;
        assert!(reason.contains("gateway"), "{reason}");
        let right = [hop("10.0.0.2", "e0", 1), hop("10.0.0.3", "e0", 1)];
        want(&fib, Source::Bgp, &[shared("10.7.0.0/16", &right)]).await;
        fib.audit().await.unwrap();
        assert_eq!(ip("nexthop show").lines().count(), 3);
    });
}
