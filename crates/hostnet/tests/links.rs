//! Links on a real kernel: veth across namespaces, marks, per-link settings.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{MAC_A, MAC_B, Pair};
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{
    AddrGenMode, Ipv4Conf, LinkMonitor, LinkNews, LinkTarget, MacAddr, Netlink, NetlinkError,
    VethSpec, sysctl,
};

#[test]
fn a_veth_has_names_addresses_mtu_and_peer_from_the_first_message() {
    let mut pair = Pair::new("veth");
    let a = pair.a.link(LinkTarget::Index(pair.index_a)).unwrap();
    let b = pair.b.link(LinkTarget::Name("b")).unwrap();
    assert_eq!(
        (pair.made.ifindex, pair.made.peer_ifindex, &pair.made.name),
        (a.ifindex, Some(b.ifindex), &a.name),
        "what was said of it when it was made"
    );
    assert_eq!(
        (a.name.as_str(), a.mac, a.mtu, a.kind.as_deref()),
        ("a", Some(MAC_A), 1400, Some("veth"))
    );
    assert_eq!(
        (b.name.as_str(), b.mac, b.mtu, b.kind.as_deref()),
        ("b", Some(MAC_B), 1400, Some("veth"))
    );
    assert_eq!(
        (a.peer_ifindex, b.peer_ifindex),
        (Some(b.ifindex), Some(a.ifindex))
    );
    assert!(a.peer_netnsid.is_some() && b.peer_netnsid.is_some());
    assert!(a.up && b.up && a.running && b.running);
    assert_eq!(
        pair.a.link_by_name("b").unwrap(),
        None,
        "the peer is not in our namespace"
    );

    let peer = pair.a.link_peer(&a).unwrap().unwrap();
    assert_eq!((peer.name.as_str(), peer.mac), ("b", Some(MAC_B)));

    assert!(pair.b.link_delete(LinkTarget::Name("b")).unwrap());
    assert_eq!(
        pair.a.link_by_index(pair.index_a).unwrap(),
        None,
        "the pair goes together"
    );
}

#[test]
fn a_taken_peer_name_makes_neither_end() {
    let mut pair = Pair::new("takenpeer");
    let spec = VethSpec {
        name: "c",
        mac: None,
        peer_name: "b",
        peer_mac: None,
        peer_ns: Some(pair.ns_b.ns()),
        mtu: None,
    };
    let error = pair.a.veth_create(&spec).unwrap_err();
    assert!(error.is_exists(), "{error}");
    assert!(
        error.to_string().contains("create veth c (peer b)"),
        "{error}"
    );
    assert_eq!(pair.a.link_by_name("c").unwrap(), None);
}

#[test]
fn names_the_kernel_would_not_take_never_reach_it() {
    let mut pair = Pair::new("names");
    for (name, peer) in [
        ("", "x"),
        ("x", ""),
        ("sixteen--letters", "x"),
        ("x", "a/b"),
    ] {
        let spec = VethSpec {
            name,
            mac: None,
            peer_name: peer,
            peer_mac: None,
            peer_ns: None,
            mtu: None,
        };
        assert!(
            matches!(pair.a.veth_create(&spec), Err(NetlinkError::Invalid { .. })),
            "{name:?} {peer:?}"
        );
    }
}

#[test]
fn listing_filters_by_prefix_and_alias_finds_exactly_one() {
    let ns = common::netns("list");
    let mut nl = Netlink::open_in(ns.ns()).unwrap();
    for (name, peer) in [
        ("rb000000000001", "p1"),
        ("rb000000000002", "p2"),
        ("xrb3", "p3"),
    ] {
        nl.veth_create(&VethSpec {
            name,
            mac: None,
            peer_name: peer,
            peer_mac: None,
            peer_ns: None,
            mtu: None,
        })
        .unwrap();
    }
    nl.link_set_alias(LinkTarget::Name("rb000000000002"), "roadbed:1:net/c2/eth0")
        .unwrap();
    let names: Vec<String> = nl
        .links("rb")
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(names, ["rb000000000001", "rb000000000002"]);
    let found = nl.link_by_alias("roadbed:1:net/c2/eth0").unwrap().unwrap();
    assert_eq!(found.name, "rb000000000002");
    assert_eq!(
        found.peer_netnsid, None,
        "the peer is in the same namespace"
    );
    assert_eq!(nl.link_by_alias("roadbed:1:net/c2/eth").unwrap(), None);
}

#[test]
fn only_a_link_with_the_whole_mark_is_deleted() {
    let mut pair = Pair::new("mark");
    let target = LinkTarget::Index(pair.index_a);
    let mark = "roadbed:1:net/container/eth0";
    for alias in [
        "",
        "roadbed:1:net/container/eth",
        "roadbed:1:net/container/eth01",
    ] {
        pair.a.link_set_alias(target, alias).unwrap();
        let error = pair.a.link_delete_marked(target, mark).unwrap_err();
        assert!(
            matches!(error, NetlinkError::NotOurs { .. }),
            "{alias:?}: {error}"
        );
        assert!(
            pair.a.link_by_index(pair.index_a).unwrap().is_some(),
            "{alias:?}: must survive"
        );
    }
    pair.a.link_set_alias(target, mark).unwrap();
    assert!(pair.a.link_delete_marked(target, mark).unwrap());
    assert!(
        !pair.a.link_delete_marked(target, mark).unwrap(),
        "already gone is success"
    );
    assert!(!pair.a.link_delete(target).unwrap());
}

#[test]
fn the_longest_alias_round_trips_and_a_longer_one_is_refused() {
    let mut pair = Pair::new("alias");
    let target = LinkTarget::Index(pair.index_a);
    let longest = "x".repeat(255);
    pair.a.link_set_alias(target, &longest).unwrap();
    assert_eq!(pair.a.link(target).unwrap().alias, Some(longest.clone()));
    assert!(pair.a.link_set_alias(target, &(longest + "x")).is_err());
    pair.a.link_set_alias(target, "").unwrap();
    assert_eq!(pair.a.link(target).unwrap().alias, None);
}

#[test]
fn mac_mtu_name_and_namespace_can_change() {
    let mut pair = Pair::new("change");
    let target = LinkTarget::Index(pair.index_a);
    let mac = MacAddr([0x02, 0, 0, 0, 0, 9]);
    pair.a.link_set_mac(target, mac).unwrap();
    pair.a.link_set_mtu(target, 1300).unwrap();
    pair.a.link_set_up(target, false).unwrap();
    pair.a.link_rename(pair.index_a, "renamed").unwrap();
    let link = pair.a.link(target).unwrap();
    assert_eq!(
        (link.name.as_str(), link.mac, link.mtu, link.up),
        ("renamed", Some(mac), 1300, false)
    );
    pair.a.link_move(target, pair.ns_b.ns()).unwrap();
    assert_eq!(pair.a.link_by_name("renamed").unwrap(), None);
    assert!(pair.b.link_by_name("renamed").unwrap().is_some());
}

#[test]
fn per_link_ipv4_settings_go_on_and_off_over_netlink() {
    let mut pair = Pair::new("conf");
    let target = LinkTarget::Index(pair.index_a);
    for value in [1, 0] {
        let settings = [
            (Ipv4Conf::ProxyArp, value),
            (Ipv4Conf::Forwarding, value),
            (Ipv4Conf::RpFilter, value),
        ];
        pair.a.link_set_ipv4_conf(target, &settings).unwrap();
        let read = run_in(pair.ns_a.ns(), || {
            ["proxy_arp", "forwarding", "rp_filter"]
                .map(|key| sysctl::read(&format!("net/ipv4/conf/a/{key}")).unwrap())
        });
        assert_eq!(
            read.unwrap(),
            [value.to_string(), value.to_string(), value.to_string()]
        );
    }
}

#[test]
fn no_link_local_address_appears_with_address_generation_off() {
    let ns = common::netns("genmode");
    let mut nl = Netlink::open_in(ns.ns()).unwrap();
    let spec = VethSpec {
        name: "a",
        mac: None,
        peer_name: "b",
        peer_mac: None,
        peer_ns: None,
        mtu: None,
    };
    let a = nl.veth_create(&spec).unwrap().ifindex;
    let b = nl.link(LinkTarget::Name("b")).unwrap().ifindex;
    nl.link_set_addr_gen_mode(LinkTarget::Index(a), AddrGenMode::None)
        .unwrap();
    for index in [a, b] {
        nl.link_set_up(LinkTarget::Index(index), true).unwrap();
    }
    let patience = std::time::Duration::from_secs(5);
    for index in [a, b] {
        nl.link_wait_running(LinkTarget::Index(index), patience)
            .unwrap();
    }
    let started = std::time::Instant::now();
    while nl.addrs(Some(b)).unwrap().is_empty() {
        assert!(started.elapsed() < patience, "the other end must make one");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(nl.addrs(Some(a)).unwrap(), []);
}

#[test]
fn missing_links_are_named() {
    let mut pair = Pair::new("missing");
    let error = pair.a.link(LinkTarget::Name("nope")).unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains("link nope"),
        "{error}"
    );
    let error = pair
        .a
        .link_set_up(LinkTarget::Index(4711), true)
        .unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains("link index 4711"),
        "{error}"
    );
}

/// Ten marked veths in a namespace of their own, with their peers elsewhere.
fn ten(what: &str) -> (common::Pair, Vec<(u32, String)>) {
    let mut pair = Pair::new(what);
    let make = |i: u32, pair: &mut common::Pair| {
        let (name, peer_name) = (format!("ten{i}"), format!("peer{i}"));
        let spec = VethSpec {
            name: &name,
            mac: None,
            peer_name: &peer_name,
            peer_mac: None,
            peer_ns: Some(pair.ns_b.ns()),
            mtu: None,
        };
        let index = pair.a.veth_create(&spec).unwrap().ifindex;
        let mark = format!("mark {i}");
        pair.a
            .link_set_alias(LinkTarget::Index(index), &mark)
            .unwrap();
        (index, mark)
    };
    let made = (0..10).map(|i| make(i, &mut pair)).collect();
    (pair, made)
}

fn marked(made: &[(u32, String)]) -> Vec<(u32, &str)> {
    made.iter().map(|(i, mark)| (*i, mark.as_str())).collect()
}

#[test]
fn many_links_go_at_once_and_no_other() {
    let (mut pair, made) = ten("group");
    let answers = pair.a.links_delete_marked(&marked(&made[1..]));
    assert!(answers.into_iter().all(|answer| answer.unwrap()));
    let left: Vec<String> = pair
        .a
        .links("")
        .unwrap()
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(left, ["lo", "a", "ten0"]);
    assert!(pair.a.links("").unwrap().iter().all(|l| l.group == 0));
}

#[test]
fn one_of_many_that_is_missing_or_not_ours_is_named_and_the_others_go() {
    let (mut pair, mut made) = ten("groupf");
    assert!(pair.a.link_delete(LinkTarget::Index(made[3].0)).unwrap());
    made[5].1 = "another mark".into();
    let answers = pair.a.links_delete_marked(&marked(&made));
    for (i, answer) in answers.into_iter().enumerate() {
        match i {
            3 => assert!(!answer.unwrap()),
            5 => assert!(
                matches!(answer, Err(NetlinkError::NotOurs { .. })),
                "{answer:?}"
            ),
            _ => assert!(answer.unwrap()),
        }
    }
    let left: Vec<String> = pair
        .a
        .links("")
        .unwrap()
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(left, ["lo", "a", "ten5"]);
}

#[test]
fn of_a_link_that_goes_is_told_when_nobody_finds_it_any_more() {
    let ns = common::netns("gone");
    let mut monitor = run_in(ns.ns(), LinkMonitor::open_for_gone)
        .unwrap()
        .unwrap();
    let mut everything = run_in(ns.ns(), LinkMonitor::open).unwrap().unwrap();
    let mut nl = Netlink::open_in(ns.ns()).unwrap();
    let spec = VethSpec {
        name: "a",
        mac: None,
        peer_name: "b",
        peer_mac: None,
        peer_ns: None,
        mtu: None,
    };
    let link = nl.veth_create(&spec).unwrap();
    let both = [link.ifindex, link.peer_ifindex.unwrap()];
    std::thread::scope(|scope| {
        let deletes = scope.spawn(|| nl.link_delete(LinkTarget::Index(link.ifindex)).unwrap());
        let mut gone = Vec::new();
        while gone.len() < 2 {
            let news = monitor.wait().unwrap();
            let left = run_in(ns.ns(), || Netlink::open().unwrap().links("").unwrap());
            let left: Vec<String> = left.unwrap().into_iter().map(|link| link.name).collect();
            assert_eq!(left, ["lo"], "at the first word on either both are gone");
            for news in news {
                // Making them was told of before, and not here.
                let LinkNews::Gone(index) = news else {
                    panic!("{news:?}")
                };
                gone.push(index);
            }
        }
        gone.sort_unstable();
        assert_eq!(
            gone,
            both.into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
        assert!(deletes.join().unwrap());
    });
    let first = everything.wait().unwrap();
    assert!(matches!(first[..], [LinkNews::Changed(_)]), "{first:?}");
}
