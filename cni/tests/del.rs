//! DEL, GC and VERSION with the real binary, a real kernel and a scripted agent.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Node, Reply, healthy, key, mac, refuse};
use roadbed_api::agent::AttachmentKey;
use roadbed_api::names;
use roadbed_hostnet::{LinkTarget, VethSpec};
use serde_json::{Value, json};

#[test]
fn del_is_the_agents_business() {
    let node = Node::with_agent("del");
    node.call("ADD").check_ok();
    let output = node.run("DEL", &node.conf().to_string(), &[("CNI_NETNS", "")]);
    output.check_ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    assert_eq!(
        node.seen().last().unwrap(),
        "DELETE /v1/attachments/pods/c0ffee/eth0"
    );
    assert!(!node.note().exists());
}

#[test]
fn what_the_agent_does_not_know_is_gone() {
    let mut node = Node::new("unknown");
    node.start_agent(|_, _| refuse(404, "notFound", "no such attachment"));
    node.call("DEL").check_ok();
}

#[test]
fn an_agent_that_refuses_is_believed() {
    let mut node = Node::with_agent("refuses");
    node.call("ADD").check_ok();
    node.start_agent(|_, _| refuse(500, "kernel", "deleting the route: busy"));
    node.call("DEL")
        .check_error(104, &["deleting the route: busy"]);
    assert_eq!(
        node.in_host().links("rb").unwrap().len(),
        1,
        "the runtime tries again"
    );
}

#[test]
fn without_the_agent_the_plugin_unwires_and_leaves_a_note() {
    let mut node = Node::with_agent("away");
    node.call("ADD").check_ok();
    node.stop_agent();
    let output = node.run(
        "DEL",
        &node.conf().to_string(),
        &[("CNI_NETNS", "/run/netns/rbt-gone")],
    );
    output.check_ok();
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.contains("the pod was unwired without it"),
        "{}",
        output.stderr
    );
    node.check_clean();
    let note: AttachmentKey = serde_json::from_slice(&std::fs::read(node.note()).unwrap()).unwrap();
    assert_eq!(note, key());
    let files = std::fs::read_dir(node.note().parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(files, 1, "no temporary file stays");
    node.call("DEL").check_ok();

    node.start_agent(|request, _| healthy(request));
    node.call("ADD").check_ok();
    assert!(!node.note().exists(), "a new wiring takes the note back");
}

#[test]
fn a_silent_agent_counts_as_away_after_two_seconds() {
    let mut node = Node::with_agent("silent");
    node.call("ADD").check_ok();
    node.start_agent(|_, _| Reply::Silence);
    let started = Instant::now();
    node.call("DEL").check_ok();
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(1900)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    node.check_clean();
    assert!(node.note().exists());
}

#[test]
fn an_agent_that_is_starting_counts_as_away() {
    let mut node = Node::with_agent("starting");
    node.call("ADD").check_ok();
    node.start_agent(|_, _| refuse(503, "notReady", "starting"));
    node.call("DEL").check_ok();
    node.check_clean();
    assert!(node.note().exists());
}

#[test]
fn unwiring_alone_finds_a_renamed_link_and_spares_a_foreign_one() {
    let mut node = Node::with_agent("renamed");
    node.call("ADD").check_ok();
    node.stop_agent();
    let mut host = node.in_host();
    let name = names::host_ifname(&key());
    let index = host.link(LinkTarget::Name(&name)).unwrap().ifindex;
    host.link_set_up(LinkTarget::Index(index), false).unwrap();
    host.link_rename(index, "renamed").unwrap();
    let foreign = VethSpec {
        name: &name,
        mac: None,
        peer_name: "other",
        peer_mac: None,
        peer_ns: None,
        mtu: None,
    };
    host.veth_create(&foreign).unwrap();
    node.call("DEL").check_ok();
    assert_eq!(host.link_by_name("renamed").unwrap(), None);
    assert!(
        host.link_by_name(&name).unwrap().is_some(),
        "not ours, so untouched"
    );
}

#[test]
fn what_a_killed_plugin_could_not_mark_is_told_by_its_name_and_address() {
    let check = |what: &str, change: fn(&mut VethSpec<'_>), up: bool, ours: bool| {
        let node = Node::new(what);
        let mut host = node.in_host();
        let name = names::host_ifname(&key());
        let mut spec = VethSpec {
            name: &name,
            mac: Some(mac(0)),
            peer_name: "other",
            peer_mac: None,
            peer_ns: None,
            mtu: None,
        };
        change(&mut spec);
        let index = host.veth_create(&spec).unwrap().ifindex;
        host.link_set_up(LinkTarget::Index(index), up).unwrap();
        node.call("DEL").check_ok();
        assert_eq!(host.link_by_index(index).unwrap().is_none(), ours, "{what}");
    };
    check("unmarked", |_| {}, false, true);
    check("othermac", |spec| spec.mac = Some(mac(1)), false, false);
    check(
        "othername",
        |spec| spec.name = "rb0000000000ff",
        false,
        false,
    );
    check("inuse", |_| {}, true, false);
}

#[test]
fn del_succeeds_where_no_agent_ever_ran() {
    let node = Node::new("never");
    let conf =
        node.conf_with(json!({"runDir": node.run_dir.path().join("missing"), "mtu": "broken"}));
    node.run("DEL", &conf.to_string(), &[]).check_ok();
    assert!(!node.run_dir.path().join("missing").exists());
    node.run("DEL", "garbage", &[])
        .check_error(6, &["not a JSON object"]);
}

fn attachment(network: &str, container_id: &str) -> Value {
    let key = json!({"network": network, "containerId": container_id, "ifname": "eth0"});
    json!({"key": key, "state": "committed", "addresses": [], "hostIfname": "rb000000000000"})
}

#[test]
fn gc_releases_only_what_its_own_network_no_longer_has() {
    let mut node = Node::new("gc");
    node.start_agent(|request, _| match request {
        "GET /v1/attachments" => Reply::Json(
            200,
            json!({"attachments": [
                attachment("pods", "alive"), attachment("pods", "dead1"), attachment("other", "foreign"),
                attachment("pods", "gone"), attachment("pods", "stuck"), attachment("pods", "dead2"),
            ]}),
        ),
        "DELETE /v1/attachments/pods/gone/eth0" => refuse(404, "notFound", "gone"),
        "DELETE /v1/attachments/pods/stuck/eth0" => refuse(500, "kernel", "busy"),
        _ => healthy(request),
    });
    let valid = |list: Value| {
        node.conf_with(json!({"cni.dev/valid-attachments": list}))
            .to_string()
    };
    let alive = json!([{"containerID": "alive", "ifname": "eth0"}, {"containerID": "foreign", "ifname": "eth1"}]);
    node.run("GC", &valid(alive), &[])
        .check_error(111, &["stuck/eth0", "busy"]);
    let deleted: Vec<String> = node
        .seen()
        .into_iter()
        .filter(|r| r.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deleted,
        ["dead1", "gone", "stuck", "dead2"]
            .map(|id| format!("DELETE /v1/attachments/pods/{id}/eth0")),
        "a failure does not stop the rest"
    );
    node.call("GC")
        .check_error(7, &["cni.dev/valid-attachments is missing"]);
    let conf = valid(json!([]));
    node.stop_agent();
    node.run("GC", &conf, &[])
        .check_error(11, &["is roadbed-agent running"]);
}

#[test]
fn version_answers_podman_and_everyone_else() {
    let node = Node::new("version");
    let podman = [
        ("CNI_NETNS", "dummy"),
        ("CNI_IFNAME", "dummy"),
        ("CNI_CONTAINERID", ""),
    ];
    let check = |stdin: &str, version: &str| {
        let output = node.run("VERSION", stdin, &podman);
        output.check_ok();
        let expected = json!({"cniVersion": version, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
        assert_eq!(output.json(), expected, "{stdin:?}");
    };
    check(r#"{"cniVersion":"1.0.0"}"#, "1.0.0");
    check(r#"{"cniVersion":"0.1.0"}"#, "0.1.0");
    check("{}", "1.1.0");
    check("", "1.1.0");
    node.run("VERSION", "garbage", &podman)
        .check_error(6, &["not a JSON object"]);
}
