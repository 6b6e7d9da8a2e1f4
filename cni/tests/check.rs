//! CHECK and STATUS with the real binary, a real kernel and a scripted agent.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Node, Reply, key, mac};
use roadbed_api::names;
use roadbed_hostnet::{LinkTarget, MacAddr, Route, VethSpec};
use serde_json::{Value, json};

/// The configuration CHECK gets: ADD's, with its result.
fn check_conf(node: &Node, result: &Value) -> String {
    node.conf_with(json!({"prevResult": result})).to_string()
}

#[test]
fn check_is_silent_when_all_is_well_and_asks_nobody() {
    let mut node = Node::with_agent("checkok");
    let conf = check_conf(&node, &node.add());
    node.stop_agent();
    let output = node.run("CHECK", &conf, &[]);
    output.check_ok();
    assert_eq!(output.stdout, "");
}

fn check_broken(what: &str, expected: &[&str], damage: impl Fn(&Node)) {
    let node = Node::with_agent(what);
    let conf = check_conf(&node, &node.add());
    damage(&node);
    node.run("CHECK", &conf, &[]).check_error(110, expected);
}

fn near(node: &Node) -> u32 {
    node.in_host().links("rb").unwrap()[0].ifindex
}

fn far(node: &Node) -> u32 {
    let target = LinkTarget::Name("eth0");
    node.in_pod().link(target).unwrap().ifindex
}

#[test]
fn what_the_pod_lost_is_named() {
    check_broken(
        "ckaddr",
        &["address fd00:244::5/128 is missing on eth0"],
        |node| {
            let net = "fd00:244::5/128".parse().unwrap();
            assert!(node.in_pod().addr_del(far(node), net).unwrap());
        },
    );
    check_broken(
        "ckroute",
        &["route 0.0.0.0/0 via 169.254.1.1 is missing on eth0"],
        |node| {
            let route = Route::default_via("169.254.1.1".parse().unwrap(), far(node));
            assert!(node.in_pod().route_del(&route).unwrap());
        },
    );
    check_broken(
        "cklink",
        &["route 169.254.1.1 is missing on eth0"],
        |node| {
            let route = Route::on_link("169.254.1.1/32".parse().unwrap(), far(node));
            assert!(node.in_pod().route_del(&route).unwrap());
        },
    );
    check_broken(
        "ckneigh",
        &[&format!(
            "static neighbour fe80::1 on eth0 points to {}, not to {}",
            mac(1),
            mac(0)
        )],
        |node| {
            let gateway = "fe80::1".parse().unwrap();
            let mut pod = node.in_pod();
            pod.neigh_replace(far(node), gateway, mac(1)).unwrap();
        },
    );
    check_broken(
        "ckneighgone",
        &["static neighbour 169.254.1.1 on eth0 is missing"],
        |node| {
            let gateway = "169.254.1.1".parse().unwrap();
            assert!(node.in_pod().neigh_del(far(node), gateway).unwrap());
        },
    );
    check_broken(
        "ckpodmac",
        &["interface eth0 has address 02:00:00:00:00:09, not"],
        |node| {
            let mac = MacAddr([2, 0, 0, 0, 0, 9]);
            let target = LinkTarget::Name("eth0");
            node.in_pod().link_set_mac(target, mac).unwrap();
        },
    );
    check_broken(
        "ckmtu",
        &["interface eth0 has MTU 1400, not 1450"],
        |node| {
            let target = LinkTarget::Name("eth0");
            node.in_pod().link_set_mtu(target, 1400).unwrap();
        },
    );
}

#[test]
fn what_the_host_lost_is_named() {
    let host = names::host_ifname(&key());
    check_broken("ckmac", &["has address 02:00:00:00:00:09, not"], |node| {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let target = LinkTarget::Index(near(node));
        node.in_host().link_set_mac(target, mac).unwrap();
    });
    check_broken(
        "ckhostmtu",
        &[&format!("host interface {host} has MTU 1400, not 1450")],
        |node| {
            let target = LinkTarget::Index(near(node));
            node.in_host().link_set_mtu(target, 1400).unwrap();
        },
    );
    check_broken("ckalias", &["has alias Some(\"mine\")"], |node| {
        let target = LinkTarget::Index(near(node));
        node.in_host().link_set_alias(target, "mine").unwrap();
    });
    check_broken(
        "ckdown",
        &[&format!("host interface {host} is down")],
        |node| {
            let target = LinkTarget::Index(near(node));
            node.in_host().link_set_up(target, false).unwrap();
        },
    );
    check_broken(
        "ckhostroute",
        &[&format!(
            "the host's route to 10.244.0.5 leads to nowhere, not to {host}"
        )],
        |node| {
            let route = Route::on_link("10.244.0.5/32".parse().unwrap(), near(node));
            let protocol = names::ROUTE_PROTOCOL;
            assert!(
                node.in_host()
                    .route_del(&Route { protocol, ..route })
                    .unwrap()
            );
        },
    );
    check_broken(
        "ckstolen",
        &[&format!(
            "the host's route to fd00:244::5 leads to thief0, not to {host}"
        )],
        |node| {
            let mut host = node.in_host();
            let thief = VethSpec {
                name: "thief0",
                mac: None,
                peer_name: "thief1",
                peer_mac: None,
                peer_ns: None,
                mtu: None,
            };
            let thief = host.veth_create(&thief).unwrap().ifindex;
            host.link_set_up(LinkTarget::Index(thief), true).unwrap();
            host.link_set_up(LinkTarget::Name("thief1"), true).unwrap();
            let route = Route::on_link("fd00:244::5/128".parse().unwrap(), thief);
            let metric = Some(1);
            host.route_add(&Route { metric, ..route }).unwrap();
        },
    );
    check_broken(
        "ckhostneigh",
        &[&format!("static neighbour 10.244.0.5 on {host} is missing")],
        |node| {
            let address = "10.244.0.5".parse().unwrap();
            assert!(node.in_host().neigh_del(near(node), address).unwrap());
        },
    );
    check_broken(
        "ckgone",
        &[
            &format!("host interface {host} is missing"),
            "; interface eth0 is missing",
        ],
        |node| {
            let target = LinkTarget::Index(near(node));
            assert!(node.in_host().link_delete(target).unwrap());
        },
    );
}

#[test]
fn an_interface_of_that_name_that_is_another_veths_end_is_named() {
    let host = names::host_ifname(&key());
    check_broken(
        "ckpeer",
        &[&format!("{host} and eth0 are not the two ends of one veth")],
        |node| {
            let mut pod = node.in_pod();
            let ours = far(node);
            pod.link_set_up(LinkTarget::Index(ours), false).unwrap();
            pod.link_rename(ours, "eth9").unwrap();
            let other = VethSpec {
                name: "eth0",
                mac: Some(mac(1)),
                peer_name: "other",
                peer_mac: None,
                peer_ns: None,
                mtu: Some(1450),
            };
            pod.veth_create(&other).unwrap();
        },
    );
}

#[test]
fn check_needs_its_result_and_its_namespace() {
    let node = Node::with_agent("ckneeds");
    let result = node.add();
    node.call("CHECK")
        .check_error(7, &["prevResult is missing"]);
    node.run("CHECK", &check_conf(&node, &json!({})), &[])
        .check_error(110, &["prevResult has no address on eth0"]);
    let gone = [("CNI_NETNS", "/run/netns/rbt-gone")];
    node.run("CHECK", &check_conf(&node, &result), &gone)
        .check_error(4, &["CNI_NETNS", "rbt-gone"]);
    let old = node.conf_with(json!({"cniVersion": "0.3.1", "prevResult": result}));
    node.run("CHECK", &old.to_string(), &[])
        .check_error(1, &["0.3.1 does not know this command"]);
}

#[test]
fn status_is_the_agents_readiness() {
    let mut node = Node::with_agent("status");
    let output = node.call("STATUS");
    output.check_ok();
    assert_eq!(output.stdout, "");
    node.start_agent(|_, _| {
        Reply::Json(
            503,
            json!({"ok": false, "waitingFor": ["no block is confirmed"]}),
        )
    });
    node.call("STATUS")
        .check_error(50, &["not ready", "no block is confirmed", "never ready"]);
    node.stop_agent();
    node.call("STATUS")
        .check_error(50, &["is roadbed-agent running", "agent.sock"]);
    let mark = |seconds_ago: u64| {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        let path = node.run_dir.path().join(names::READY_NAME);
        std::fs::write(path, format!("{}\n", uptime.saturating_sub(seconds_ago))).unwrap();
        node.call("STATUS")
    };
    mark(0).check_ok();
    mark(59).check_ok();
    mark(68).check_ok();
    mark(72).check_error(50, &["is roadbed-agent running", "ready 7", "s ago"]);
    mark(80).check_error(50, &["is roadbed-agent running", "ready 8", "s ago"]);
}
