//! Addresses, neighbours and routes on a real kernel, up to a pod that talks through 169.254.1.1.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{MAC_A, MAC_B, Pair};
use ipnet::IpNet;
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{
    Change, Ipv4Conf, LinkTarget, Netlink, NetlinkError, Route, RouteFilter, RouteKind, TABLE_MAIN,
    sockopt, sysctl,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn changes_in_one_datagram_are_made_in_order_and_judged_one_by_one() {
    let mut pair = Pair::new("batch");
    let (index, gateway) = (pair.index_a, ip("169.254.1.1"));
    let changes = [
        // Needs what only comes after it.
        Change::route_add(&Route::default_via(gateway, index)),
        Change::addr_add(index, net("10.9.0.1/32")),
        Change::addr_add(index, net("10.9.0.1/32")),
        Change::route_add(&Route::on_link(net("169.254.1.1/32"), index)),
        Change::route_add(&Route::default_via(gateway, index)),
        Change::neigh_replace(index, gateway, MAC_B),
        Change::neigh_replace(index + 1000, gateway, MAC_B),
        Change::addr_add(index, net("fd00:9::1/128")),
    ];
    let made = pair.a.make_all(&changes).unwrap();
    let refused: Vec<Option<i32>> = made
        .iter()
        .map(|made| made.as_ref().err().and_then(NetlinkError::errno))
        .collect();
    let (unreachable, exists) = (Some(libc::ENETUNREACH), Some(libc::EEXIST));
    let absent = Some(libc::ENODEV);
    assert_eq!(
        refused,
        [unreachable, None, exists, None, None, None, absent, None]
    );
    let error = made[2].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("add address 10.9.0.1/32"), "{error}");
    let error = made[6].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("set neighbour 169.254.1.1"), "{error}");
    // Nothing of it is left in the socket.
    assert_eq!(pair.a.addrs(Some(index)).unwrap().len(), 3);
    assert!(pair.a.make_all(&[]).unwrap().is_empty());
}

#[test]
fn addresses_come_and_go_and_v6_is_usable_at_once() {
    let mut pair = Pair::new("addr");
    for address in ["10.9.0.1/32", "fd00:9::1/128", "10.9.1.1/24"] {
        pair.a.addr_add(pair.index_a, net(address)).unwrap();
        assert!(
            pair.a
                .addr_add(pair.index_a, net(address))
                .unwrap_err()
                .is_exists(),
            "{address}"
        );
        pair.a.addr_ensure(pair.index_a, net(address)).unwrap();
        let found = pair.a.addrs(Some(pair.index_a)).unwrap();
        let found = found.iter().find(|a| a.net == net(address)).unwrap();
        assert!(!found.tentative && !found.dad_failed, "{address}");
    }
    assert!(pair.a.addr_del(pair.index_a, net("10.9.0.1/32")).unwrap());
    assert!(!pair.a.addr_del(pair.index_a, net("10.9.0.1/32")).unwrap());
    assert!(
        pair.a
            .addrs(None)
            .unwrap()
            .iter()
            .all(|a| a.net != net("10.9.0.1/32"))
    );
    assert!(
        pair.a
            .addr_add(4711, net("10.9.0.9/32"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn neighbours_are_replaced_and_listed_per_link() {
    let mut pair = Pair::new("neigh");
    for address in ["169.254.1.1", "fe80::1"] {
        pair.b
            .neigh_replace(pair.index_b, ip(address), MAC_B)
            .unwrap();
        pair.b
            .neigh_replace(pair.index_b, ip(address), MAC_A)
            .unwrap();
        let found = pair.b.neighs(Some(pair.index_b)).unwrap();
        let found: Vec<_> = found.iter().filter(|n| n.ip == ip(address)).collect();
        assert_eq!(found.len(), 1, "{address}");
        assert!(
            found[0].permanent && found[0].mac == Some(MAC_A),
            "{address}"
        );
        assert!(pair.b.neigh_del(pair.index_b, ip(address)).unwrap());
        assert!(!pair.b.neigh_del(pair.index_b, ip(address)).unwrap());
    }
}

#[test]
fn routes_round_trip_through_the_kernel() {
    let mut pair = Pair::new("route");
    pair.a.addr_add(pair.index_a, net("10.9.0.1/32")).unwrap();
    pair.a.addr_add(pair.index_a, net("fd00:9::1/128")).unwrap();
    let index = pair.index_a;
    let ours = |route: Route| Route {
        protocol: 82,
        ..route
    };
    let mut routes = vec![
        ours(Route::on_link(net("169.254.1.1/32"), index)),
        ours(Route {
            prefsrc: Some(ip("10.9.0.1")),
            ..Route::default_via(ip("169.254.1.1"), index)
        }),
        ours(Route {
            metric: Some(50),
            ..Route::unreachable(net("10.9.64.0/26"))
        }),
        ours(Route {
            onlink: true,
            table: 1000,
            ..Route::via(net("10.8.0.0/16"), ip("192.0.2.1"), index)
        }),
        ours(Route {
            onlink: true,
            ..Route::via(net("10.7.0.0/16"), ip("fe80::1"), index)
        }),
        ours(Route {
            metric: Some(1024),
            ..Route::default_via(ip("fe80::1"), index)
        }),
    ];
    for route in &routes {
        pair.a
            .route_add(route)
            .unwrap_or_else(|e| panic!("{route}: {e}"));
        assert!(pair.a.route_add(route).unwrap_err().is_exists(), "{route}");
        pair.a.route_replace(route).unwrap();
    }
    let mut found = pair
        .a
        .routes(RouteFilter {
            protocol: Some(82),
            ..RouteFilter::default()
        })
        .unwrap();
    let key = |route: &Route| (route.dst, route.table);
    found.sort_by_key(key);
    routes.sort_by_key(key);
    assert_eq!(found, routes);

    let in_main = RouteFilter {
        protocol: Some(82),
        table: Some(TABLE_MAIN),
        ifindex: None,
    };
    assert_eq!(pair.a.routes(in_main).unwrap().len(), 5);
    let elsewhere = RouteFilter {
        protocol: Some(83),
        ..RouteFilter::default()
    };
    assert_eq!(pair.a.routes(elsewhere).unwrap(), []);
    let no_table = RouteFilter {
        table: Some(4711),
        ..RouteFilter::default()
    };
    assert_eq!(pair.a.routes(no_table).unwrap(), []);

    let taken = pair.a.route_get(ip("203.0.113.9")).unwrap().unwrap();
    assert_eq!(
        (taken.gateway, taken.ifindex, taken.prefsrc),
        (Some(ip("169.254.1.1")), Some(index), Some(ip("10.9.0.1")))
    );
    assert_eq!(
        pair.a.route_get(ip("10.9.64.5")).unwrap(),
        None,
        "unreachable"
    );

    for route in &routes {
        assert!(pair.a.route_del(route).unwrap(), "{route}");
        assert!(!pair.a.route_del(route).unwrap(), "{route}");
    }
    assert_eq!(
        pair.a.route_get(ip("203.0.113.9")).unwrap(),
        None,
        "no route left"
    );
    let local = pair.a.route_get(ip("10.9.0.1")).unwrap().unwrap();
    assert_eq!(local.kind, RouteKind::Local);
}

#[test]
fn the_kernels_own_words_reach_the_error() {
    let mut pair = Pair::new("extack");
    let error = pair
        .a
        .route_add(&Route::via(
            net("10.9.0.0/24"),
            ip("192.0.2.1"),
            pair.index_a,
        ))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("add route 10.9.0.0/24 via 192.0.2.1"),
        "{text}"
    );
    assert!(
        text.contains("(kernel: Nexthop has invalid gateway)"),
        "{text}"
    );
}

/// What the plugin and the agent will do together, by hand: the pod's only neighbour is a gateway nobody configured.
#[test]
fn a_pod_reaches_its_host_over_static_neighbours() {
    let mut pair = Pair::new("pod");
    let (host, pod) = (pair.index_a, pair.index_b);
    sysctl::ensure_in(pair.ns_b.ns(), &[("net/ipv6/conf/b/accept_ra", "0")]).unwrap();
    for (address, gateway, host_address) in [
        ("10.9.0.5", "169.254.1.1", "10.9.255.1"),
        ("fd00:9::5", "fe80::1", "fd00:9:ffff::1"),
    ] {
        let (address, gateway, host_address) = (ip(address), ip(gateway), ip(host_address));
        pair.b.addr_add(pod, address.into()).unwrap();
        pair.b.neigh_replace(pod, gateway, MAC_A).unwrap();
        if gateway.is_ipv4() {
            pair.b
                .route_add(&Route::on_link(gateway.into(), pod))
                .unwrap();
        }
        pair.b.route_add(&Route::default_via(gateway, pod)).unwrap();
        pair.a.addr_add(host, host_address.into()).unwrap();
        pair.a.neigh_replace(host, address, MAC_B).unwrap();
        pair.a
            .route_add(&Route {
                protocol: 82,
                ..Route::on_link(address.into(), host)
            })
            .unwrap();
        pair.b.addr_wait_local(address, PATIENCE).unwrap();
        pair.a.addr_wait_local(host_address, PATIENCE).unwrap();
        assert_eq!(
            echo(&pair, SocketAddr::new(host_address, 5005)).ip(),
            address,
            "the host sees the pod's own address"
        );
    }
    pair.a
        .link_set_ipv4_conf(LinkTarget::Index(host), &[(Ipv4Conf::ProxyArp, 1)])
        .unwrap();
    assert!(Netlink::open_in(pair.ns_b.ns()).is_ok());
}

/// Sends a datagram from namespace b to `server` in namespace a; returns the source the server saw.
fn echo(pair: &Pair, server: SocketAddr) -> SocketAddr {
    let receiver = run_in(pair.ns_a.ns(), || UdpSocket::bind(server).unwrap()).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    run_in(pair.ns_b.ns(), || {
        let any: SocketAddr = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        }
        .parse()
        .unwrap();
        UdpSocket::bind(any)
            .unwrap()
            .send_to(b"hello", server)
            .unwrap();
    })
    .unwrap();
    receiver.recv_from(&mut [0; 16]).unwrap().1
}

#[test]
fn what_never_settles_is_named() {
    let mut pair = Pair::new("settle");
    let short = Duration::from_millis(20);
    let target = LinkTarget::Index(pair.index_a);
    pair.b
        .link_set_up(LinkTarget::Index(pair.index_b), false)
        .unwrap();
    let error = loop {
        match pair.a.link_wait_running(target, short) {
            Ok(()) => std::thread::sleep(short),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("did not become operationally up within 20 ms"),
        "{error}"
    );
    let error = pair
        .a
        .addr_wait_local(ip("fd00:9::1"), short)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("address fd00:9::1 did not become usable"),
        "{error}"
    );
    assert!(
        pair.a
            .link_wait_running(LinkTarget::Name("nope"), short)
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn session_socket_options_take_effect() {
    let pair = Pair::new("sockopt");
    for (address, family) in [
        ("127.0.0.1:0", sockopt::Family::V4),
        ("[::1]:0", sockopt::Family::V6),
    ] {
        let far_too_low = |ttl: u8, min: u8| {
            run_in(pair.ns_a.ns(), || {
                let mut nl = Netlink::open().unwrap();
                nl.link_set_up(LinkTarget::Name("lo"), true).unwrap();
                let listener = std::net::TcpListener::bind(address).unwrap();
                sockopt::set_min_ttl(&listener, family, min).unwrap();
                let sender = socket2::Socket::new(
                    if family == sockopt::Family::V4 {
                        socket2::Domain::IPV4
                    } else {
                        socket2::Domain::IPV6
                    },
                    socket2::Type::STREAM,
                    None,
                )
                .unwrap();
                sockopt::set_ttl(&sender, family, ttl).unwrap();
                sockopt::set_tos(&sender, family, sockopt::TOS_CS6).unwrap();
                let server = listener.local_addr().unwrap().into();
                sender
                    .connect_timeout(&server, Duration::from_millis(300))
                    .is_err()
            })
            .unwrap()
        };
        assert!(!far_too_low(255, 255), "{address}");
        assert!(
            far_too_low(254, 255),
            "{address}: GTSM drops what came through a router"
        );
    }
}
