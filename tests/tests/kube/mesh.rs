//! The node mesh: one decision, which neither the first peer nor node 101 takes back.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use roadbed_tests::kube::{Cluster, PATIENCE, text};
use roadbed_tests::wait::{eventually, throughout};
use serde_json::{Value, json};

/// Sessions that a node of three has.
pub(crate) fn expected(node: &str) -> Vec<String> {
    let others = ["n1", "n2", "n3"].into_iter().filter(|n| *n != node);
    others
        .flat_map(|n| [format!("mesh-{n}-ipv4"), format!("mesh-{n}-ipv6")])
        .collect()
}

/// All sessions of the mesh are up on all nodes, beside `more` on the first.
pub(crate) fn is_whole(cluster: &Cluster, more: &[&str]) -> Result<()> {
    for node in ["n1", "n2", "n3"] {
        let mesh = expected(node);
        let mut all: Vec<&str> = mesh.iter().map(String::as_str).collect();
        if node == "n1" {
            all.extend(more);
        }
        all.sort_unstable();
        cluster.has_sessions(node, &all)?;
    }
    Ok(())
}

/// How often each session of the mesh came up, by node and peer.
fn counts(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for node in ["n1", "n2", "n3"] {
        let status = cluster.status(node)?;
        for peer in status["peers"].as_array().into_iter().flatten() {
            let name = text(&peer["name"]);
            if name.starts_with("mesh-") {
                let key = format!("{node} {name}");
                let up = u64::from(peer["state"] == "Established");
                counts.insert(key, up * peer["establishedCount"].as_u64().unwrap_or(0));
            }
        }
    }
    Ok(counts)
}

fn in_force(cluster: &Cluster) -> Result<()> {
    let config = cluster.get(&["bgpconfig", "default"])?;
    ensure!(config["status"]["nodeMesh"] == "Enabled", "{config}");
    Ok(())
}

#[test]
fn the_first_peer_and_node_101_end_no_session() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    in_force(&cluster).unwrap();
    let before = counts(&cluster).unwrap();
    assert_eq!(before.len(), 12);

    // Nobody answers there: it is the existence of a BGPPeer that counts.
    let peer = json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "first"},
        "spec": {"address": "10.200.0.99", "asNumber": 65099, "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "n1"}}},
    });
    cluster.apply(&peer.to_string()).unwrap();
    eventually(PATIENCE, "n1 has the peer", || {
        ensure!(cluster.sessions("n1")?.contains_key("first"), "not yet");
        Ok(())
    });
    let same = || {
        let now = counts(&cluster)?;
        ensure!(now == before, "{now:?}\nbefore: {before:?}");
        in_force(&cluster)
    };
    throughout(
        std::time::Duration::from_secs(3),
        "every session stays",
        same,
    );

    // 98 further nodes make 101. They are objects alone, with addresses that nobody has.
    let nodes: Vec<Value> = (0..98)
        .map(|i| {
            let metadata =
                json!({"name": format!("simulated-{i}"), "labels": {"simulated": "yes"}});
            json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": nodes});
    cluster
        .kubectl_with(&["create", "-f", "-"], &list.to_string())
        .unwrap();
    let told = |node: &str| {
        let condition = cluster.condition(node, "NodeMesh")?;
        let Some((status, message)) = condition else {
            anyhow::bail!("no condition")
        };
        ensure!(
            status == "False" && message.contains("the node mesh has 101 nodes"),
            "{status} {message}"
        );
        Ok(message)
    };
    let message = eventually(PATIENCE, "n2 says that it is many", || told("n2"));
    println!("NodeMesh: {message:.160}…");
    throughout(
        std::time::Duration::from_secs(3),
        "every session stays",
        same,
    );

    cluster
        .kubectl(&["delete", "node", "-l", "simulated=yes", "--wait=false"])
        .unwrap();
    cluster.kubectl(&["delete", "bgppeer", "first"]).unwrap();
    eventually(PATIENCE, "the mesh is whole again", || {
        is_whole(&cluster, &[])
    });
    same().unwrap();
}

#[test]
fn another_as_is_told_and_left_out() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    let annotation = "roadbed.dev/as-number";
    cluster
        .kubectl(&["annotate", "node", "n3", &format!("{annotation}=64600")])
        .unwrap();
    eventually(PATIENCE, "n1 leaves n3 out", || {
        cluster.has_sessions("n1", &["mesh-n2-ipv4", "mesh-n2-ipv6"])?;
        let condition = cluster.condition("n1", "NodeMesh")?;
        let message = condition.map(|(_, message)| message).unwrap_or_default();
        ensure!(
            message.contains("node n3 has AS 64600, this one 64512"),
            "{message}"
        );
        Ok(())
    });
    assert_eq!(cluster.status("n3").unwrap()["asNumber"], 64600);
    cluster
        .kubectl(&[
            "annotate",
            "node",
            "n3",
            &format!("{annotation}=0"),
            "--overwrite",
        ])
        .unwrap();
    eventually(PATIENCE, "what is no AS is told", || {
        let condition = cluster.condition("n1", "NodeMesh")?;
        let message = condition.map(|(_, message)| message).unwrap_or_default();
        ensure!(
            message.contains("annotation roadbed.dev/as-number: \"0\" is not an AS number"),
            "{message}"
        );
        Ok(())
    });
    cluster
        .kubectl(&["annotate", "node", "n3", &format!("{annotation}-")])
        .unwrap();
    eventually(PATIENCE, "the mesh is whole again", || {
        is_whole(&cluster, &[])
    });
}

/// Off only by `Disabled`, and decided again afterwards.
#[test]
fn disabled_switches_the_mesh_off() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    let patch = |mesh: &str| {
        let patch = json!({"spec": {"nodeMesh": mesh}}).to_string();
        cluster
            .kubectl(&[
                "patch",
                "bgpconfig",
                "default",
                "--type=merge",
                "-p",
                &patch,
            ])
            .unwrap();
    };
    patch("Disabled");
    eventually(PATIENCE, "no node has a session", || {
        for node in ["n1", "n2", "n3"] {
            cluster.has_sessions(node, &[])?;
        }
        let config = cluster.get(&["bgpconfig", "default"])?;
        ensure!(config["status"]["nodeMesh"] == "Disabled", "{config}");
        Ok(())
    });
    patch("Auto");
    eventually(PATIENCE, "the mesh is whole again", || {
        is_whole(&cluster, &[])?;
        in_force(&cluster)
    });
}

/// Settings that are deleted, made again, or that agents cannot read: the mesh stays, beside a peer too.
#[test]
fn settings_that_go_take_no_session_along() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    let before = counts(&cluster).unwrap();
    let peer = json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "beside"},
        "spec": {"address": "10.200.0.99", "asNumber": 65099, "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "n1"}}},
    });
    cluster.apply(&peer.to_string()).unwrap();
    eventually(PATIENCE, "n1 has the peer", || {
        ensure!(cluster.sessions("n1")?.contains_key("beside"), "not yet");
        Ok(())
    });
    cluster
        .kubectl(&["delete", "bgpconfig", "default"])
        .unwrap();
    eventually(PATIENCE, "the decision is written again", || {
        in_force(&cluster)
    });
    let same = || {
        let now = counts(&cluster)?;
        ensure!(now == before, "{now:?}\nbefore: {before:?}");
        Ok::<_, anyhow::Error>(())
    };
    throughout(
        std::time::Duration::from_secs(2),
        "every session stays",
        same,
    );
    cluster.kubectl(&["delete", "bgppeer", "beside"]).unwrap();
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
    same().unwrap();
}
