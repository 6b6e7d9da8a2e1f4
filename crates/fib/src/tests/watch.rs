//! What others do to links, addresses and routes, and how the writer and the tracker follow; on a real kernel.

use std::net::IpAddr;
use std::time::Duration;

use super::netns::{eventually, ifindex, in_netns, ip, shows, start, want};
use super::via;
use crate::{FibEvent, FibEvents, NextHopKey, NextHopState, RouteSpec, RouteState, Source};

/// Everything is as wanted, or nothing is.
async fn check_states(fib: &crate::FibHandle, installed: bool) {
    let routes = fib.dump().await.unwrap();
    let right = |state: &RouteState| match state {
        RouteState::Installed => installed,
        RouteState::Failed(_) => !installed,
        RouteState::Stale => false,
    };
    assert!(
        routes.iter().all(|route| right(&route.state)),
        "installed={installed}: {routes:?}"
    );
}

/// One family at a time, so that the events of the other cannot help.
async fn check_link_flap(family: &str, prefix: &str, gateway: &str, address: &str) {
    if family == "-4" {
        // IPv6 addresses that go with the link would give away what IPv4 keeps silent about.
        ip("-6 addr flush dev e0");
    }
    let (fib, _events) = start(&[]).await;
    want(&fib, Source::Bgp, &[via(prefix, gateway, None, 20)]).await;
    let show = format!("{family} route show proto 82");
    ip("link set e0 down");
    eventually(|| !shows(&show, gateway)).await;
    // Long enough for an attempt to fail while the link is down.
    tokio::time::sleep(Duration::from_millis(300)).await;
    check_states(&fib, false).await;
    ip("link set e0 up");
    // IPv6 addresses go with the link; without one the gateway is not on it.
    ip(&format!("{family} addr replace {address} dev e0"));
    eventually(|| shows(&show, gateway)).await;
    check_states(&fib, true).await;
}

#[test]
fn ipv4_routes_survive_a_link_flap() {
    in_netns(|| check_link_flap("-4", "10.244.1.0/26", "10.0.0.2", "10.0.0.1/24"));
}

#[test]
fn ipv6_routes_survive_a_link_flap() {
    in_netns(|| check_link_flap("-6", "fd00:244:1::/64", "fd00::2", "fd00::1/64"));
}

async fn check_lost_source_address(family: &str, prefix: &str, gateway: &str, source: &str) {
    let (fib, _events) = start(&[]).await;
    // A tentative address is no valid source, so duplicate address detection is left out.
    let nodad = if family == "-6" { "nodad" } else { "" };
    ip(&format!("{family} addr add {source} dev lo {nodad}"));
    let prefsrc = Some(source.parse().unwrap());
    want(
        &fib,
        Source::Bgp,
        &[RouteSpec {
            prefsrc,
            ..via(prefix, gateway, None, 20)
        }],
    )
    .await;
    ip(&format!("{family} addr del {source} dev lo"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    check_states(&fib, false).await;
    ip(&format!("{family} addr add {source} dev lo {nodad}"));
    eventually(|| {
        shows(
            &format!("{family} route show proto 82"),
            &format!("src {source}"),
        )
    })
    .await;
}

#[test]
fn ipv4_routes_survive_the_loss_of_their_source_address() {
    in_netns(|| check_lost_source_address("-4", "10.244.1.0/26", "10.0.0.2", "10.9.9.9"));
}

#[test]
fn ipv6_routes_survive_the_loss_of_their_source_address() {
    in_netns(|| check_lost_source_address("-6", "fd00:244:1::/64", "fd00::2", "fd00:9::9"));
}

#[test]
fn a_flood_that_overruns_the_monitor_ends_in_the_truth() {
    in_netns(|| async {
        let (fib, mut events) = start(&[]).await;
        let far = NextHopKey {
            addr: "10.200.39.16".parse().unwrap(),
            ifindex: None,
        };
        assert_eq!(fib.track(far).await.unwrap(), NextHopState::Unresolved);
        want(
            &fib,
            Source::Bgp,
            &[via("10.244.1.0/26", "10.0.0.2", None, 20)],
        )
        .await;
        // The runtime does not turn meanwhile: 20 000 notifications wait in the socket, and most are dropped.
        let batch: String = (0..20_000)
            .map(|i| {
                format!(
                    "route add 10.200.{}.{}/32 via 10.0.0.7 proto static\n",
                    i / 256,
                    i % 256
                )
            })
            .collect();
        let file = std::env::temp_dir().join(format!("roadbed-fib-{}.batch", std::process::id()));
        std::fs::write(&file, batch + "route del 10.244.1.0/26\n").unwrap();
        ip(&format!("-batch {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let state = next_state(&mut events, far).await;
        assert!(
            matches!(
                state,
                NextHopState::Resolved {
                    gateway: Some(_),
                    ..
                }
            ),
            "{state:?}"
        );
        eventually(|| shows("route show proto 82", "10.244.1.0/26")).await;
    });
}

async fn next_state(events: &mut FibEvents, key: NextHopKey) -> NextHopState {
    loop {
        let batch = tokio::time::timeout(Duration::from_secs(5), events.next())
            .await
            .expect("an event")
            .expect("writer");
        for event in batch {
            match event {
                FibEvent::NextHopChanged {
                    key: changed,
                    state,
                } if changed == key => return state,
                _ => {}
            }
        }
    }
}

#[test]
fn next_hops_follow_links_and_routes() {
    in_netns(|| async {
        let e0 = ifindex("e0");
        let (fib, mut events) = start(&[]).await;
        let addr = |text: &str| -> IpAddr { text.parse().unwrap() };
        let near = NextHopKey {
            addr: addr("10.0.0.2"),
            ifindex: None,
        };
        let far = NextHopKey {
            addr: addr("192.0.2.1"),
            ifindex: None,
        };
        let direct = NextHopState::Resolved {
            ifindex: e0,
            gateway: None,
            igp_cost: 0,
        };
        assert_eq!(fib.track(near).await.unwrap(), direct);
        assert_eq!(fib.track(far).await.unwrap(), NextHopState::Unresolved);

        // Our own routes never resolve a next hop.
        want(
            &fib,
            Source::Bgp,
            &[via("192.0.2.0/24", "10.0.0.2", None, 5)],
        )
        .await;
        assert_eq!(fib.resolve(far).await.unwrap(), NextHopState::Unresolved);

        let through = |gateway: &str, igp_cost| NextHopState::Resolved {
            ifindex: e0,
            gateway: Some(addr(gateway)),
            igp_cost,
        };
        ip("route add 192.0.2.0/24 via 10.0.0.7 metric 30 proto static");
        assert_eq!(next_state(&mut events, far).await, through("10.0.0.7", 30));
        ip("route replace 192.0.2.0/24 via 10.0.0.8 metric 30 proto static");
        assert_eq!(next_state(&mut events, far).await, through("10.0.0.8", 30));
        ip("route del 192.0.2.0/24 metric 30 proto static");
        assert_eq!(next_state(&mut events, far).await, NextHopState::Unresolved);

        // Routes go with their source address.
        ip("addr add 10.9.9.9/32 dev lo");
        ip("route add 192.0.2.0/24 via 10.0.0.7 src 10.9.9.9 proto static");
        assert_eq!(next_state(&mut events, far).await, through("10.0.0.7", 0));
        ip("addr del 10.9.9.9/32 dev lo");
        assert_eq!(next_state(&mut events, far).await, NextHopState::Unresolved);

        ip("link set e1 down");
        assert_eq!(
            next_state(&mut events, near).await,
            NextHopState::Unresolved
        );
        ip("link set e1 up");
        assert_eq!(next_state(&mut events, near).await, direct);
        ip("addr del 10.0.0.1/24 dev e0");
        assert_eq!(
            next_state(&mut events, near).await,
            NextHopState::Unresolved
        );
        ip("addr add 10.0.0.1/24 dev e0");
        assert_eq!(next_state(&mut events, near).await, direct);
    });
}

#[test]
fn local_addresses_are_found_by_any_of_them() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        let found = fib
            .local_addresses("10.0.0.1".parse().unwrap())
            .await
            .unwrap()
            .expect("known");
        assert_eq!((found.ifindex, found.name.as_str()), (ifindex("e0"), "e0"));
        assert_eq!(found.v4, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(found.v6_global, Some("fd00::1".parse().unwrap()));
        let again = fib
            .local_addresses("fd00::1".parse().unwrap())
            .await
            .unwrap()
            .expect("known");
        assert_eq!(again.v4, found.v4);
        assert_eq!(
            fib.local_addresses("10.0.0.99".parse().unwrap())
                .await
                .unwrap(),
            None
        );
    });
}
