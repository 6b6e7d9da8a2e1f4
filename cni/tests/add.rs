//! ADD with the real binary, a real kernel and a scripted agent.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Node, Reply, healthy, key, mac, refuse, reservation};
use roadbed_api::agent::AttachmentState;
use roadbed_api::names;
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{LinkTarget, RouteFilter, VethSpec, sysctl};
use serde_json::{Value, json};

fn plain_veth<'a>(name: &'a str, peer_name: &'a str) -> VethSpec<'a> {
    VethSpec {
        name,
        mac: None,
        peer_name,
        peer_mac: None,
        peer_ns: None,
        mtu: None,
    }
}

#[test]
fn add_wires_both_ends_and_reports_them() {
    let node = Node::with_agent("add");
    let output = node.call("ADD");
    output.check_ok();
    assert_eq!(output.stderr, "");
    let host_ifname = names::host_ifname(&key());
    assert_eq!(
        output.json(),
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": host_ifname, "mac": mac(0).to_string(), "mtu": 1450},
                {"name": "eth0", "mac": mac(1).to_string(), "mtu": 1450, "sandbox": node.pod.path()},
            ],
            "ips": [
                {"address": "10.244.0.5/32", "gateway": "169.254.1.1", "interface": 1},
                {"address": "fd00:244::5/128", "gateway": "fe80::1", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
            "dns": {},
        })
    );

    let (mut host, mut pod) = (node.in_host(), node.in_pod());
    let near = host.link(LinkTarget::Name(&host_ifname)).unwrap();
    assert_eq!(near.alias.as_deref(), Some("roadbed:1:pods/c0ffee/eth0"));
    assert_eq!((near.mac, near.mtu, near.up), (Some(mac(0)), 1450, true));
    assert_eq!(
        host.addrs(Some(near.ifindex)).unwrap(),
        [],
        "the host end is the agent's to address"
    );
    let far = pod.link(LinkTarget::Name("eth0")).unwrap();
    assert_eq!((far.mac, far.mtu, far.running), (Some(mac(1)), 1450, true));
    let addresses = pod.addrs(Some(far.ifindex)).unwrap();
    for net in ["10.244.0.5/32", "fd00:244::5/128"] {
        let address = addresses.iter().find(|a| a.net.to_string() == net).unwrap();
        assert!(!address.tentative, "{net}: usable at once");
    }
    for gateway in ["169.254.1.1", "fe80::1"] {
        let gateway: IpAddr = gateway.parse().unwrap();
        let neighbours = pod.neighs(Some(far.ifindex)).unwrap();
        let neighbour = neighbours.iter().find(|n| n.ip == gateway).unwrap();
        assert!(
            neighbour.permanent && neighbour.mac == Some(mac(0)),
            "{gateway}"
        );
    }
    let routes = pod
        .routes(RouteFilter {
            ifindex: Some(far.ifindex),
            ..RouteFilter::default()
        })
        .unwrap();
    assert!(
        routes
            .iter()
            .any(|r| r.dst.to_string() == "169.254.1.1/32" && r.scope_link),
        "{routes:?}"
    );
    let accept_ra = run_in(node.pod.ns(), || {
        sysctl::read("net/ipv6/conf/eth0/accept_ra").unwrap()
    })
    .unwrap();
    assert_eq!(accept_ra, "0");

    let cookie = node.pod.ns().cookie().unwrap().to_string();
    let seen = node.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let reserve: Value =
        serde_json::from_str(seen[0].strip_prefix("POST /v1/attachments ").unwrap()).unwrap();
    assert_eq!(reserve["key"], json!(key()));
    assert_eq!(reserve["netnsCookie"], cookie);
    assert_eq!(reserve["pod"], json!({"namespace": "ns", "name": "web-0"}));
    let commit = seen[1]
        .strip_prefix("POST /v1/attachments/pods/c0ffee/eth0/commit ")
        .unwrap();
    let commit: Value = serde_json::from_str(commit).unwrap();
    assert_eq!(
        commit,
        json!({"netnsCookie": cookie, "hostIfindex": near.ifindex, "podMac": mac(1).to_string()})
    );
}

#[test]
fn the_pod_talks_once_the_agent_has_done_its_part() {
    let node = Node::with_agent("talk");
    node.add();
    let mut host = node.in_host();
    let near = host
        .link(LinkTarget::Name(&names::host_ifname(&key())))
        .unwrap()
        .ifindex;
    for (pod, server) in [("10.244.0.5", "10.9.9.9"), ("fd00:244::5", "fd00:9::9")] {
        let (pod, server): (IpAddr, IpAddr) = (pod.parse().unwrap(), server.parse().unwrap());
        host.addr_add(near, server.into()).unwrap();
        host.addr_wait_local(server, Duration::from_secs(5))
            .unwrap();
        let receiver = run_in(node.host.ns(), || {
            UdpSocket::bind(SocketAddr::new(server, 5005)).unwrap()
        })
        .unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        run_in(node.pod.ns(), || {
            UdpSocket::bind(SocketAddr::new(pod, 0))
                .unwrap()
                .send_to(b"hello", (server, 5005))
                .unwrap();
        })
        .unwrap();
        assert_eq!(receiver.recv_from(&mut [0; 16]).unwrap().1.ip(), pod);
    }
}

#[test]
fn older_versions_get_their_own_spelling() {
    let node = Node::with_agent("oldspec");
    let output = node.run(
        "ADD",
        &node.conf_with(json!({"cniVersion": "0.3.1"})).to_string(),
        &[],
    );
    output.check_ok();
    let result = output.json();
    assert_eq!(result["cniVersion"], "0.3.1");
    assert_eq!(result["ips"][0]["version"], "4");
    assert!(result["interfaces"][0].get("mtu").is_none());
}

#[test]
fn a_repeated_add_of_a_standing_attachment_changes_nothing() {
    let mut node = Node::with_agent("again");
    let first = node.add();
    let before = node.in_host().links("").unwrap();
    node.start_agent(|request, _| match request {
        "POST /v1/attachments" => Reply::Json(200, json!(reservation(AttachmentState::Committed))),
        other => healthy(other),
    });
    let second = node.call("ADD");
    second.check_ok();
    assert_eq!(first, second.json());
    assert_eq!(node.in_host().links("").unwrap(), before);
    assert_eq!(node.seen().len(), 1, "no second commit: {:?}", node.seen());

    let mut pod = node.in_pod();
    let index = pod.link(LinkTarget::Name("eth0")).unwrap().ifindex;
    pod.addr_del(index, "10.244.0.5/32".parse().unwrap())
        .unwrap();
    let third = node.call("ADD");
    third.check_ok();
    assert_eq!(first, third.json());
    assert_ne!(
        node.in_host().links("rb").unwrap()[0].ifindex,
        before[1].ifindex,
        "a broken one is wired anew"
    );
    assert_eq!(node.seen().len(), 3, "and committed: {:?}", node.seen());
}

#[test]
fn what_an_interrupted_add_left_is_replaced() {
    let node = Node::with_agent("leftover");
    let mut host = node.in_host();
    let name = names::host_ifname(&key());
    host.veth_create(&VethSpec {
        peer_ns: Some(node.pod.ns()),
        ..plain_veth(&name, "eth0")
    })
    .unwrap();
    host.link_set_alias(LinkTarget::Name(&name), &names::ifalias(&key()))
        .unwrap();
    node.call("ADD").check_ok();
    assert_eq!(
        host.link(LinkTarget::Name(&name)).unwrap().mac,
        Some(mac(0))
    );
}

#[test]
fn a_link_made_by_a_plugin_killed_before_it_could_mark_it_is_replaced() {
    let node = Node::with_agent("unmarked");
    let mut host = node.in_host();
    let name = names::host_ifname(&key());
    let unmarked = VethSpec {
        mac: Some(mac(0)),
        peer_mac: Some(mac(1)),
        peer_ns: Some(node.pod.ns()),
        ..plain_veth(&name, "eth0")
    };
    let first = host.veth_create(&unmarked).unwrap();
    node.call("ADD").check_ok();
    let made = host.link(LinkTarget::Name(&name)).unwrap();
    assert_ne!(made.ifindex, first.ifindex);
    assert_eq!(made.alias, Some(names::ifalias(&key())));
}

#[test]
fn a_reservation_of_another_address_than_was_asked_for_is_not_used() {
    let node = Node::with_agent("oldagent");
    let conf = node.conf_with(json!({"runtimeConfig": {"ips": ["10.244.0.9"]}}));
    node.run("ADD", &conf.to_string(), &[])
        .check_error(105, &["asked for 10.244.0.9", "10.244.0.5"]);
    node.check_clean();
}

#[test]
fn a_foreign_link_under_our_name_is_left_alone() {
    let node = Node::with_agent("foreign");
    let mut host = node.in_host();
    let name = names::host_ifname(&key());
    host.veth_create(&plain_veth(&name, "other")).unwrap();
    let before = host.links("").unwrap();
    node.call("ADD")
        .check_error(100, &[&name, "is not ours", "left untouched"]);
    assert_eq!(host.links("").unwrap(), before);
    assert_eq!(
        node.seen().last().unwrap(),
        "DELETE /v1/attachments/pods/c0ffee/eth0",
        "the reservation is given back"
    );
}

#[test]
fn an_interface_name_in_use_undoes_everything_of_ours() {
    let node = Node::with_agent("ifname");
    let mut pod = node.in_pod();
    pod.veth_create(&plain_veth("eth0", "other")).unwrap();
    let before = pod.links("").unwrap();
    node.call("ADD")
        .check_error(100, &["CNI_IFNAME \"eth0\": exists already"]);
    assert_eq!(pod.links("").unwrap(), before);
    assert_eq!(node.in_host().links("rb").unwrap(), []);
    assert_eq!(
        node.seen().last().unwrap(),
        "DELETE /v1/attachments/pods/c0ffee/eth0"
    );
}

#[test]
fn a_refused_commit_leaves_nothing() {
    let mut node = Node::new("nocommit");
    node.start_agent(|request, _| match request.ends_with("/commit") {
        true => refuse(500, "kernel", "adding the host route: no buffer space"),
        false => healthy(request),
    });
    node.call("ADD")
        .check_error(104, &["adding the host route: no buffer space"]);
    node.check_clean();
    assert_eq!(
        node.seen().last().unwrap(),
        "DELETE /v1/attachments/pods/c0ffee/eth0"
    );
    assert!(!node.note().exists());
}

#[test]
fn an_agent_that_dies_between_the_phases_gets_a_note() {
    let mut node = Node::new("dies");
    node.start_agent(|request, _| {
        if request == "POST /v1/attachments" {
            healthy(request)
        } else {
            Reply::Hangup
        }
    });
    node.run("ADD", &node.conf().to_string(), &[])
        .check_error(11, &["closed the connection before it had answered"]);
    node.check_clean();
    assert!(node.note().exists(), "the release did not get through");
}

#[test]
fn a_failure_on_the_pods_side_leaves_nothing() {
    let mut node = Node::new("podside");
    node.start_agent(|request, _| {
        let mut reserved = reservation(AttachmentState::Wiring);
        // The kernel refuses a multicast address on a link, after the veth was made.
        reserved.addresses = vec!["ff02::5".parse().unwrap()];
        if request == "POST /v1/attachments" {
            Reply::Json(200, json!(reserved))
        } else {
            healthy(request)
        }
    });
    node.call("ADD")
        .check_error(100, &["add address ff02::5/128"]);
    node.check_clean();
}

#[test]
fn a_reservation_that_makes_no_sense_is_refused_before_anything_is_touched() {
    let check = |expected: &str, change: fn(&mut Value)| {
        let mut node = Node::new("badres");
        node.start_agent(move |request, _| {
            let mut reserved = json!(reservation(AttachmentState::Wiring));
            change(&mut reserved);
            if request == "POST /v1/attachments" {
                Reply::Json(200, reserved)
            } else {
                healthy(request)
            }
        });
        node.call("ADD").check_error(105, &[expected]);
        node.check_clean();
    };
    check("hostAlias", |r| {
        r["hostAlias"] = json!("roadbed:1:pods/other/eth0")
    });
    check("it is for", |r| r["key"]["containerId"] = json!("other"));
    check("hostIfname", |r| r["hostIfname"] = json!("eth0"));
    check("hostIfname", |r| {
        r["hostIfname"] = json!("rb0123456789abcdef")
    });
    check("hostMac", |r| r["hostMac"] = json!("nonsense"));
    check("podMac", |r| r["podMac"] = json!(""));
    check("addresses", |r| r["addresses"] = json!([]));
    check("addresses", |r| {
        r["addresses"] = json!(["10.0.0.1", "10.0.0.2"])
    });
    check("same version", |r| r["mtu"] = json!("big"));
}

#[test]
fn an_agent_that_is_not_running_is_error_11_and_names_the_socket() {
    let node = Node::new("noagent");
    let socket = node.run_dir.path().join("agent.sock");
    let parts = [
        "is roadbed-agent running on this node?",
        socket.to_str().unwrap(),
        "try again",
    ];
    node.call("ADD").check_error(11, &parts);
    let started = Instant::now();
    node.run(
        "ADD",
        &node.conf_with(json!({"waitSeconds": 1})).to_string(),
        &[],
    )
    .check_error(11, &parts);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    node.check_clean();
}

#[test]
fn an_agent_that_comes_back_in_time_is_waited_for() {
    let node = Node::new("comesback");
    let mut late = Node::new("late");
    let refusals = AtomicU32::new(2);
    let left = move || {
        refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
    };
    late.start_agent(move |request, _| match left() {
        true => refuse(503, "notReady", "waiting for a block"),
        false => healthy(request),
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(500));
            std::fs::rename(late.socket(), node.socket()).unwrap();
        });
        node.run(
            "ADD",
            &node.conf_with(json!({"waitSeconds": 20})).to_string(),
            &[],
        )
        .check_ok();
    });
    let posts = late
        .seen()
        .iter()
        .filter(|r| r.starts_with("POST /v1/attachments {"))
        .count();
    assert_eq!(
        (posts, late.seen().len()),
        (3, 4),
        "two refusals, then a reservation and its commit"
    );
}

#[test]
fn the_agents_refusal_is_passed_on() {
    let mut node = Node::new("full");
    node.start_agent(|_, _| {
        refuse(
            507,
            "poolFull",
            "pool pods-v4 has no free address: add a pool",
        )
    });
    node.call("ADD")
        .check_error(101, &["pool pods-v4 has no free address: add a pool"]);
    assert_eq!(
        node.seen().len(),
        1,
        "nothing was reserved, nothing to release"
    );
    node.start_agent(|_, _| refuse(503, "notReady", "no block is confirmed yet"));
    node.call("ADD")
        .check_error(11, &["no block is confirmed yet"]);
    node.check_clean();
}

#[test]
fn a_namespace_that_is_none_is_named_before_anyone_is_asked() {
    let node = Node::with_agent("nonetns");
    let conf = node.conf().to_string();
    let check = |path: &str, parts: &[&str]| {
        node.run("ADD", &conf, &[("CNI_NETNS", path)])
            .check_error(4, parts)
    };
    check(
        "/run/netns/rbt-does-not-exist",
        &["CNI_NETNS", "/run/netns/rbt-does-not-exist", "No such file"],
    );
    check(
        "/etc/passwd",
        &["CNI_NETNS", "/etc/passwd", "not a network namespace"],
    );
    check("/proc/self/ns/mnt", &["CNI_NETNS", "another type"]);
    check(
        node.host.path().to_str().unwrap(),
        &["CNI_NETNS", "host's own network namespace"],
    );
    assert_eq!(node.seen(), Vec::<String>::new());
    node.check_clean();
}

#[test]
fn garbage_on_stdin_and_a_missing_environment_are_told_apart() {
    let node = Node::with_agent("garbage");
    node.run("ADD", "\u{0}garbage", &[])
        .check_error(6, &["not a JSON object"]);
    node.run("ADD", "", &[])
        .check_error(6, &["nothing on stdin"]);
    node.run("ADD", &"[".repeat(2_000_000), &[])
        .check_error(7, &["more than 1048576 bytes"]);
    node.run("ADD", "{}", &[])
        .check_error(1, &["cniVersion is missing"]);
    node.run(
        "ADD",
        &node
            .conf_with(json!({"mtu": "x", "waitSeconds": -1}))
            .to_string(),
        &[],
    )
    .check_error(7, &["mtu must be", "waitSeconds must be"]);
    let nothing = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
    ];
    let parts = [
        "CNI_CONTAINERID is missing",
        "CNI_NETNS is missing",
        "CNI_IFNAME is missing",
    ];
    node.run("ADD", &node.conf().to_string(), &nothing)
        .check_error(4, &parts);
    node.run("", &node.conf().to_string(), &[])
        .check_error(4, &["CNI_COMMAND is missing"]);
    node.run("EXPLODE", "", &[])
        .check_error(4, &["\"EXPLODE\" is unknown"]);
    assert_eq!(node.seen(), Vec::<String>::new());
    node.check_clean();
}

#[test]
fn a_pod_whose_runtime_switched_ipv6_off_gets_it_only_if_it_has_an_address() {
    let off = ("net/ipv6/conf/default/disable_ipv6", "1");
    let node = Node::with_agent("v6on");
    sysctl::ensure_in(node.pod.ns(), &[off]).unwrap();
    node.call("ADD").check_ok();
    let read = |node: &Node| {
        run_in(node.pod.ns(), || {
            sysctl::read("net/ipv6/conf/eth0/disable_ipv6").unwrap()
        })
        .unwrap()
    };
    assert_eq!(read(&node), "0");

    let mut node = Node::new("v6off");
    sysctl::ensure_in(node.pod.ns(), &[off]).unwrap();
    node.start_agent(|request, _| {
        let mut reserved = reservation(AttachmentState::Wiring);
        reserved.addresses.truncate(1);
        if request == "POST /v1/attachments" {
            Reply::Json(200, json!(reserved))
        } else {
            healthy(request)
        }
    });
    let output = node.call("ADD");
    output.check_ok();
    assert_eq!(output.json()["ips"].as_array().unwrap().len(), 1);
    assert_eq!(read(&node), "1");
}

#[test]
fn host_settings_from_the_agents_file_are_applied() {
    let node = Node::with_agent("sysctls");
    let wanted = json!({"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "kernel.hostname": "pwned"});
    std::fs::write(
        node.run_dir.path().join(names::SYSCTLS_NAME),
        wanted.to_string(),
    )
    .unwrap();
    let output = node.call("ADD");
    output.check_ok();
    assert!(
        output
            .stderr
            .contains("\"kernel.hostname\" is not a setting we change"),
        "{}",
        output.stderr
    );
    let read = run_in(node.host.ns(), || {
        ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
            .map(|key| sysctl::read(key).unwrap())
    });
    assert_eq!(read.unwrap(), ["1", "1"]);
}
