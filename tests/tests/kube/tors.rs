//! Nodes behind two top-of-rack routers, without a node mesh.

use anyhow::{Result, ensure};
use roadbed_tests::kube::{Cluster, PATIENCE, Pods, Server, Tor, text};
use roadbed_tests::wait::eventually;
use serde_json::json;

use crate::mesh::is_whole;
use crate::traffic::every_pair;

/// Confirmed blocks of all nodes.
fn blocks(cluster: &Cluster) -> Result<Vec<String>> {
    let blocks = cluster.items(&["ipblocks"])?;
    let confirmed = blocks.iter().filter(|b| b["spec"]["state"] == "Confirmed");
    Ok(confirmed.map(|b| text(&b["spec"]["cidr"])).collect())
}

fn peer(rack: &str, n: u8, v6: bool) -> String {
    let (family, address) = match v6 {
        false => ("ipv4", format!("10.200.0.{}", 100 + n)),
        true => ("ipv6", format!("fd00:10:200::{}", 100 + u32::from(n))),
    };
    // All nodes have one AS, so a path through both racks holds it twice.
    json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "BGPPeer", "metadata": {"name": format!("tor{n}-{family}")},
        "spec": {
            "address": address, "asNumber": 65100 + u32::from(n), "allowedOwnAs": 1, "families": [format!("{family}-unicast")],
            "nodeSelector": {"matchLabels": {"topology.kubernetes.io/rack": rack}},
        },
    })
    .to_string()
}

#[test]
fn two_tors_route_the_pods() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    let (tor1, tor2) = (Tor::start(1, 2).unwrap(), Tor::start(2, 1).unwrap());
    for (node, rack) in [("n1", "r1"), ("n2", "r2"), ("n3", "r2")] {
        cluster
            .kubectl(&[
                "label",
                "node",
                node,
                &format!("topology.kubernetes.io/rack={rack}"),
                "--overwrite",
            ])
            .unwrap();
    }
    for (rack, n) in [("r1", 1), ("r2", 2)] {
        cluster.apply(&peer(rack, n, false)).unwrap();
        cluster.apply(&peer(rack, n, true)).unwrap();
    }
    let off = json!({"spec": {"nodeMesh": "Disabled"}}).to_string();
    cluster
        .kubectl(&["patch", "bgpconfig", "default", "--type=merge", "-p", &off])
        .unwrap();
    eventually(
        PATIENCE,
        "each node speaks with its ToR, and with nobody else",
        || {
            cluster.has_sessions("n1", &["tor1-ipv4", "tor1-ipv6"])?;
            cluster.has_sessions("n2", &["tor2-ipv4", "tor2-ipv6"])?;
            cluster.has_sessions("n3", &["tor2-ipv4", "tor2-ipv6"])
        },
    );

    let pods = Pods::start(&cluster, "racks", 3, None);
    let servers = pods.list().unwrap();
    let all = blocks(&cluster).unwrap();
    assert!(all.len() >= 6, "{all:?}");
    tor1.await_blocks(&all);
    tor2.await_blocks(&all);
    println!(
        "tor1# show bgp summary\n{}",
        tor1.cli("show bgp ipv4 unicast summary").unwrap()
    );
    println!(
        "tor1 $ ip route show proto bgp\n{}",
        tor1.ns.run("ip route show proto bgp").unwrap()
    );
    every_pair(&cluster, &servers);
    for server in &servers {
        for address in &server.addresses {
            let url = Server::url(address);
            eventually(PATIENCE, &format!("tor1 reaches {url}"), || {
                let answer = tor1.ns.run(&format!("curl -sSf --max-time 3 {url}"))?;
                ensure!(answer == server.name, "{answer}");
                Ok(())
            });
        }
    }
    println!(
        "$ roadbedctl status (n1)\n{}",
        cluster.roadbedctl("n1", &["status"]).unwrap()
    );

    // Back to the mesh.
    cluster.kubectl(&["delete", "bgppeers", "--all"]).unwrap();
    let auto = json!({"spec": {"nodeMesh": "Auto"}}).to_string();
    cluster
        .kubectl(&["patch", "bgpconfig", "default", "--type=merge", "-p", &auto])
        .unwrap();
    cluster
        .kubectl(&["label", "nodes", "--all", "topology.kubernetes.io/rack-"])
        .unwrap();
    eventually(PATIENCE, "the mesh is whole again", || {
        is_whole(&cluster, &[])
    });
}
