//! Pods that come and go leave nothing behind; nodes that go and come back share no address.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use roadbed_tests::kube::{Cluster, PATIENCE, Pods, text};
use roadbed_tests::wait::eventually;
use serde_json::Value;

/// A number of the environment.
fn setting(name: &str, default: usize) -> usize {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| {
        v.parse().unwrap_or_else(|_| panic!("{name}={v}"))
    })
}

/// What a node has, without what changes by itself: counters, times, spare blocks and their routes.
fn dump(cluster: &Cluster, node: &str) -> Result<BTreeMap<&'static str, Vec<String>>> {
    let mut dump = BTreeMap::new();
    for (what, command) in [
        ("links", "ip -o link show"),
        ("routes", "ip -4 route show table all"),
        ("routes of IPv6", "ip -6 route show table all"),
        ("rules", "ip rule show"),
        ("rules of IPv6", "ip -6 rule show"),
        ("neighbours", "ip neighbour show nud permanent"),
        ("neighbours of IPv6", "ip -6 neighbour show nud permanent"),
        ("nft", "nft -s list table inet roadbed"),
        ("next hops", "ip nexthop show"),
        ("attachments", "ls /run/roadbed/notes"),
    ] {
        let text = match what {
            "attachments" => cluster.roadbedctl_on(node, "pods -o name")?,
            _ => cluster.on(node, command)?,
        };
        let block = |line: &&str| line.contains("proto 82") && !line.contains("dev rb");
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !block(line))
            .map(|line| {
                line.split(" expires ")
                    .next()
                    .unwrap_or(line)
                    .trim_end()
                    .to_owned()
            })
            .collect();
        lines.sort_unstable();
        dump.insert(what, lines);
    }
    Ok(dump)
}

#[test]
fn pods_come_and_go_and_leave_nothing() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let count = setting("KUBE_PODS", 30);
    let rounds = setting("KUBE_ROUNDS", 1);
    let nodes = cluster.nodes().unwrap();
    let all = || -> Result<Vec<_>> { nodes.iter().map(|n| dump(&cluster, n)).collect() };
    // Pods of the test before are gone from the API a moment before they are gone from their node.
    eventually(PATIENCE, "nodes have the pods of the API", || {
        for node in &nodes {
            let selector = format!("spec.nodeName={node}");
            let pods = cluster.items(&["pods", "-A", "--field-selector", &selector])?;
            let pods = pods
                .iter()
                .filter(|p| p["spec"]["hostNetwork"] != Value::Bool(true))
                .count();
            let attached = cluster.roadbedctl_on(node, "pods -o name")?.lines().count();
            ensure!(
                pods == attached,
                "{node}: {pods} pods, {attached} attachments"
            );
        }
        Ok(())
    });
    let before = all().unwrap();
    let pods = Pods::start(&cluster, "churn", 0, Some("n1"));
    for round in 1..=rounds {
        pods.scale(count);
        let servers = pods.list().unwrap();
        let addresses: BTreeSet<&String> = servers.iter().flat_map(|s| &s.addresses).collect();
        assert_eq!(addresses.len(), 2 * count, "no address twice");
        println!(
            "round {round}: {count} pods on n1; agent: {}",
            memory(&cluster, "n1")
        );
        pods.scale(0);
    }
    // Cool-down (30 s), then spare blocks go back.
    eventually(PATIENCE, "all is as before", || {
        let after = all()?;
        for (node, (before, after)) in nodes.iter().zip(before.iter().zip(&after)) {
            for (what, lines) in before {
                let now = &after[what];
                ensure!(
                    now == lines,
                    "{node}, {what}:\n{}\nbefore:\n{}",
                    now.join("\n"),
                    lines.join("\n")
                );
            }
        }
        Ok(())
    });
    eventually(
        Duration::from_secs(120),
        "blocks go back to the store",
        || {
            let blocks = cluster.items(&["ipblocks", "-l", "roadbed.dev/node=n1"])?;
            ensure!(blocks.len() <= 4, "{} blocks of n1", blocks.len());
            Ok(())
        },
    );
}

/// The agent's memory of its own, and its bound with a hundred pods.
fn memory(cluster: &Cluster, node: &str) -> String {
    let pid = cluster.agent_pid(node).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let megabytes = kilobytes as f64 / 1024.0;
    assert!(megabytes <= 22.0, "{megabytes:.1} MiB");
    format!("RssAnon {megabytes:.1} MiB")
}

#[test]
fn a_node_that_goes_and_comes_back_shares_no_address() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let pods = Pods::start(&cluster, "nodes", 6, None);
    cluster.kubectl(&["delete", "node", "n3"]).unwrap();
    eventually(PATIENCE, "all pods are on the other nodes", || {
        let servers = pods.list()?;
        ensure!(
            servers.len() == 6
                && servers
                    .iter()
                    .all(|s| s.node != "n3" && !s.addresses.is_empty()),
            "{servers:?}"
        );
        Ok(())
    });
    no_address_twice(&cluster).unwrap();
    cluster.drive(&["restart", "n3/kubelet"]).unwrap();
    // kube-proxy ends when its Node goes; a DaemonSet would start it again.
    cluster.drive(&["proxy", "start", "n3"]).unwrap();
    eventually(PATIENCE, "n3 is back", || {
        ensure!(cluster.nodes()?.len() == 3, "not yet");
        Ok(())
    });
    cluster.settle();
    pods.scale(0);
    pods.scale(9);
    let on = |node: &str| {
        pods.list()
            .unwrap()
            .iter()
            .filter(|s| s.node == node)
            .count()
    };
    assert!(on("n3") > 0, "n3 has pods again");
    no_address_twice(&cluster).unwrap();
}

fn no_address_twice(cluster: &Cluster) -> Result<()> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for pod in cluster.items(&["pods", "-A"])? {
        let gone = matches!(
            text(&pod["status"]["phase"]).as_str(),
            "Failed" | "Succeeded"
        );
        if gone || pod["spec"]["hostNetwork"] == Value::Bool(true) {
            continue;
        }
        let name = format!(
            "{}/{}",
            text(&pod["metadata"]["namespace"]),
            text(&pod["metadata"]["name"])
        );
        for ip in pod["status"]["podIPs"].as_array().into_iter().flatten() {
            let other = seen.insert(text(&ip["ip"]), name.clone());
            ensure!(
                other.is_none(),
                "{} is the address of {name} and of {other:?}",
                ip["ip"]
            );
        }
    }
    let mut ranges = BTreeSet::new();
    for block in cluster.items(&["ipblocks"])? {
        ensure!(
            ranges.insert(text(&block["spec"]["cidr"])),
            "{block} is there twice"
        );
    }
    Ok(())
}
