//! What the reader takes, and what it refuses by name.

use std::path::Path;

use proptest::prelude::*;

use super::{Topology, TopologyError, keys};
use crate::problem::Problem;

const GOOD: &str = r#"name: lab
prefix: x
topology:
  defaults:
    kind: linux
    env: {A: "1", B: 2}
    exec: [ip link show lo]
    binds: ["d:/d"]
  kinds:
    linux:
      image: alpine:3
      sysctls: {net.ipv4.ip_forward: 1}
      binds: ["k:/k", "k:/d:ro"]
  groups:
    g:
      image: debian:12
      env: {B: g}
  nodes:
    a:
      group: g
      cmd: sleep "1 0"
      exec: ["sh -c 'echo hi'"]
      env: {C: true}
      cpu: 1
    b:
  links:
    - endpoints: ["a:eth1", "b:eth1"]
      mtu: 1500
    - type: veth
      endpoints: [{node: a, interface: eth2}, {node: b, interface: eth2}]
"#;

fn problems(text: &str) -> Vec<Problem> {
    match Topology::parse(text, Path::new("/x/lab.clab.yml")) {
        Ok(_) => Vec::new(),
        Err(TopologyError::Invalid { problems, .. }) => problems,
        Err(error) => panic!("{error}"),
    }
}

/// A lab of two plain nodes with `extra` keys in the first and `rest` after the nodes.
fn lab(extra: &str, rest: &str) -> String {
    format!(
        "name: lab\ntopology:\n  nodes:\n    a:\n      kind: linux\n      image: alpine\n{extra}\n    b:\n      kind: linux\n      image: alpine\n{rest}\n"
    )
}

/// `text` has exactly one problem, on `line`, whose path ends in `path` and whose message holds `message`.
fn check(text: &str, line: u64, path: &str, message: &str) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:?}");
    let problem = &problems[0];
    assert!(
        problem.path.ends_with(path),
        "{problem} has not the path {path}"
    );
    assert!(
        problem.message.contains(message),
        "{problem} does not say {message}"
    );
    assert_eq!(problem.line, line, "{problem}");
}

#[test]
fn levels_merge_as_in_containerlab() {
    let topology = Topology::parse(GOOD, Path::new("/x/lab.clab.yml")).unwrap();
    assert_eq!(
        (topology.name.as_str(), topology.prefix.as_str()),
        ("lab", "x")
    );
    assert_eq!(topology.outside_name("other", "a"), "x-other-a");
    let (a, b) = (topology.node("a").unwrap(), topology.node("b").unwrap());
    assert_eq!(
        (a.image.as_str(), b.image.as_str()),
        ("debian:12", "alpine:3")
    );
    assert_eq!(a.cmd, ["sleep", "1 0"]);
    assert_eq!(
        a.exec,
        [
            vec!["ip", "link", "show", "lo"],
            vec!["sh", "-c", "echo hi"]
        ]
    );
    let env: Vec<(&str, &str)> = a
        .env
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(env, [("A", "1"), ("B", "g"), ("C", "true")]);
    assert_eq!(b.sysctls["net.ipv4.ip_forward"], "1");
    let binds: Vec<(&str, &str, bool)> = b
        .binds
        .iter()
        .map(|bind| (bind.source.as_str(), bind.target.as_str(), bind.read_only))
        .collect();
    assert_eq!(binds, [("k", "/k", false), ("k", "/d", true)]);
    assert_eq!(topology.links.len(), 2);
    assert_eq!((topology.links[0].mtu, topology.links[1].mtu), (1500, 9500));
    assert_eq!(topology.links[1].ends[1].interface, "eth2");
    assert_eq!(topology.notes.len(), 1);
    assert!(topology.notes[0].starts_with("topology.nodes.a.cpu"));
}

#[test]
fn prefixes_name_as_containerlab_does() {
    for (prefix, expected) in [
        ("", "clab-lab-a"),
        ("prefix: p\n", "p-lab-a"),
        ("prefix: __lab-name\n", "lab-a"),
        ("prefix: \"\"\n", "a"),
    ] {
        let topology =
            Topology::parse(&format!("{prefix}{}", lab("", "")), Path::new("/x")).unwrap();
        assert_eq!(topology.outside_name("lab", "a"), expected, "{prefix}");
    }
}

#[test]
fn every_key_that_cannot_be_honoured_is_refused_by_name() {
    let mut seen = 0;
    for key in keys::refused() {
        check(
            &lab(&format!("      {key}: x"), ""),
            7,
            &format!("topology.nodes.a.{key}"),
            "cannot be honoured",
        );
        check(
            &lab("", &format!("  defaults:\n    {key}: x")),
            12,
            &format!("topology.defaults.{key}"),
            "cannot be honoured",
        );
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn faults_of_a_node_are_named() {
    let node = |extra: &str, path: &str, message: &str| {
        check(&lab(&format!("      {extra}"), ""), 7, path, message);
    };
    node("imagee: x", "nodes.a.imagee", "unknown key");
    node("binds: [\"onlytarget\"]", "nodes.a.binds", "source:target");
    node("binds: [\"a:b:c:d\"]", "nodes.a.binds", "source:target");
    node("binds: [\"~/a:/b\"]", "nodes.a.binds", "source is a path");
    node("binds: [\"a:b\"]", "nodes.a.binds", "absolute path");
    node("binds: [\"a:/b/../..\"]", "nodes.a.binds", "absolute path");
    node("binds: [\"a:/\"]", "nodes.a.binds", "absolute path");
    node(
        "binds: [\"a:/b:shared\"]",
        "nodes.a.binds",
        "option \"shared\"",
    );
    node("binds: x", "nodes.a.binds", "a list belongs here");
    node("exec: [\"echo 'x\"]", "nodes.a.exec", "quote");
    node("exec: [[a]]", "nodes.a.exec", "single value");
    node("cmd: \"\"", "nodes.a.cmd", "empty");
    node("env: [A=1]", "nodes.a.env", "a mapping belongs here");
    node("env: {A=: 1}", "nodes.a.env", "not a name");
    node(
        "sysctls: {kernel.panic: 1}",
        "sysctls.kernel.panic",
        "net.*",
    );
    node("sysctls: {net.../x: 1}", "sysctls.net.../x", "net.*");
}

#[test]
fn faults_of_links_are_named() {
    let link = |link: &str, path: &str, message: &str| {
        check(
            &lab("", &format!("  links:\n    - {link}")),
            12,
            path,
            message,
        );
    };
    link(
        "endpoints: [\"a:eth1\"]",
        "links[0].endpoints",
        "two endpoints",
    );
    link(
        "endpoints: [\"a:eth1\", \"c:eth1\"]",
        "links[0]",
        "no node is named \"c\"",
    );
    link(
        "endpoints: [\"a:eth1\", \"a:eth1\"]",
        "links[0]",
        "used twice",
    );
    link(
        "endpoints: [\"a:eth0\", \"b:eth1\"]",
        "links[0].endpoints",
        "eth0",
    );
    link(
        "endpoints: [\"a:averyveryverylong\", \"b:eth1\"]",
        "links[0].endpoints",
        "interface name",
    );
    link(
        "endpoints: [\"a:e/1\", \"b:eth1\"]",
        "links[0].endpoints",
        "interface name",
    );
    link(
        "endpoints: [\"a\", \"b:eth1\"]",
        "links[0].endpoints",
        "node:interface",
    );
    link(
        "endpoints: [\"a:eth1\", \"host:veth1\"]",
        "links[0].endpoints",
        "leaves the lab",
    );
    link(
        "endpoints: [\"a:eth1\", \"mgmt-net:e\"]",
        "links[0].endpoints",
        "leaves the lab",
    );
    link(
        "endpoints: [\"a:eth1\", \"macvlan:e\"]",
        "links[0].endpoints",
        "leaves the lab",
    );
    link("type: vxlan", "links[0].type", "\"vxlan\"");
    link("mtu: 1500", "links[0]", "`endpoints` is missing");
    link(
        "{endpoints: [\"a:x\", \"b:x\"], mtu: 9}",
        "links[0].mtu",
        "not an MTU",
    );
    link(
        "{endpoints: [\"a:x\", \"b:x\"], speed: 9}",
        "links[0].speed",
        "unknown key",
    );
    link(
        "{endpoints: [{node: a, interface: x, mac: y}, \"b:x\"]}",
        "endpoints.mac",
        "unknown key",
    );
}

#[test]
fn faults_of_the_file_are_named() {
    let nodes = "topology: {nodes: {a: {kind: linux, image: alpine}}}\n";
    check(nodes, 0, "name", "missing");
    check("name: x\n", 0, "topology", "missing");
    check(&format!("name: a/b\n{nodes}"), 1, "name", "a name has");
    check(
        &format!("name: x\nprefix: a/b\n{nodes}"),
        2,
        "prefix",
        "a name has",
    );
    check(
        &format!("name: x\nmgmt: {{network: y}}\n{nodes}"),
        2,
        "mgmt",
        "management network",
    );
    check(
        &format!("name: x\nsettings: {{}}\n{nodes}"),
        2,
        "settings",
        "certificates",
    );
    check(
        &format!("name: x\nnmae: y\n{nodes}"),
        2,
        "nmae",
        "unknown key",
    );
    check(
        "name: x\ntopology: {}\n",
        2,
        "topology.nodes",
        "needs a node",
    );
    check(
        "name: x\ntopology: {nodes: {a: {image: alpine}}}\n",
        2,
        "nodes.a",
        "`kind` is missing",
    );
    check(
        "name: x\ntopology: {nodes: {a: {kind: linux}}}\n",
        2,
        "nodes.a",
        "`image` is missing",
    );
    check(
        "name: x\ntopology: {nodes: {a: {kind: linux, image: \"ceos:4\"}}}\n",
        2,
        "nodes.a.image",
        "known: quay.io/frrouting/frr",
    );
    check(
        "name: x\ntopology: {nodes: {a: {kind: linux, image: \"alpine:${V}\"}}}\n",
        2,
        "",
        "not replaced",
    );
    for kind in [
        "nokia_srlinux",
        "vr-sros",
        "bridge",
        "ovs-bridge",
        "host",
        "k8s-kind",
        "ext-container",
    ] {
        let text =
            format!("name: x\ntopology:\n  nodes:\n    a: {{kind: {kind}, image: alpine}}\n");
        check(&text, 4, "nodes.a.kind", kind);
        check(
            &lab("", &format!("  kinds: {{{kind}: {{}}}}")),
            11,
            &format!("kinds.{kind}"),
            kind,
        );
    }
}

#[test]
fn all_faults_come_together_in_file_order() {
    let text = lab(
        "      ports: [1]\n      license: x",
        "  links:\n    - endpoints: [\"a:e\"]\nmgmt: {}",
    );
    let lines: Vec<u64> = problems(&text).iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [7, 8, 13, 14]);
}

#[test]
fn what_is_not_a_topology_is_an_error() {
    for text in [
        "",
        "[]",
        "x",
        "name: [",
        "a: 1\na: 2",
        "&a [*a]",
        "? [x]\n: y",
        "%YAML 9.9\n---\n\t",
    ] {
        assert!(Topology::parse(text, Path::new("/x")).is_err(), "{text:?}");
    }
}

#[test]
fn the_file_of_this_repository_is_taken() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("two-racks/two-racks.clab.yml");
    let topology = Topology::load(&path).unwrap();
    assert_eq!((topology.nodes.len(), topology.links.len()), (6, 5));
    assert!(topology.notes.is_empty());
}

#[test]
fn a_missing_bind_source_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.clab.yml");
    std::fs::write(
        &path,
        lab("      binds: [\"gone:/x\", \"__clabDir__/new:/y\"]", ""),
    )
    .unwrap();
    let error = Topology::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("nodes.a.binds[0]") && error.contains("gone"),
        "{error}"
    );
    assert!(!error.contains("__clabDir__"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(text in "[ -~\n\t]{0,200}") {
        let _ = Topology::parse(&text, Path::new("/x"));
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0..GOOD.len(), len in 0usize..40, with in "[ -~\n]{0,12}") {
        let end = (at + len).min(GOOD.len());
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]);
        if let Ok(topology) = Topology::parse(&text, Path::new("/x")) {
            // Whatever is taken must be safe to use as names and paths.
            for node in &topology.nodes {
                prop_assert!(!node.name.contains('/') && !node.name.starts_with('.'));
            }
            for end in topology.links.iter().flat_map(|link| &link.ends) {
                prop_assert!(topology.node(&end.node).is_some());
                prop_assert!(end.interface.len() <= 15 && !end.interface.contains(char::is_whitespace));
            }
        }
    }
}
