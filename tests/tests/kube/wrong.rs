//! Objects that the server lets in and Roadbed cannot use; an agent that the API server cannot reach.

use std::time::{Duration, Instant};

use anyhow::ensure;
use roadbed_tests::kube::{Cluster, PATIENCE, text};
use roadbed_tests::wait::eventually;
use serde_json::json;

/// An Event and a local condition, no crash, and everything else goes on.
#[test]
fn what_only_we_refuse_becomes_an_event_and_a_condition() {
    let cluster = Cluster::attach();
    let node = cluster.nodes().unwrap().remove(0);
    // The server cannot read patterns of AS paths.
    let policy = json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "BGPRoutePolicy", "metadata": {"name": "wrong"},
        "spec": {"rules": [{"match": {"asPath": "^(65000"}, "action": "accept"}]},
    });
    cluster.apply(&policy.to_string()).unwrap();
    let event = eventually(PATIENCE, "an Event tells", || {
        let selector = "regarding.name=wrong";
        let events = cluster.items(&[
            "events.events.k8s.io",
            "-n",
            "default",
            "--field-selector",
            selector,
        ])?;
        ensure!(events.len() == 1, "{} Events", events.len());
        Ok(events[0].clone())
    });
    let note = text(&event["note"]);
    assert_eq!(
        (&event["reason"], &event["type"]),
        (&json!("Invalid"), &json!("Warning"))
    );
    assert!(
        note.contains("BGPRoutePolicy/wrong: spec.rules[0].match.asPath"),
        "{note}"
    );
    let condition = eventually(PATIENCE, "a condition tells", || {
        cluster
            .condition(&node, "ResourcesValid")?
            .ok_or_else(|| anyhow::anyhow!("none"))
    });
    assert_eq!(condition.0, "False");
    assert!(
        condition.1.contains("BGPRoutePolicy/wrong"),
        "{}",
        condition.1
    );
    // One Event of all agents together, also after a while.
    std::thread::sleep(Duration::from_secs(2));
    let selector = "regarding.name=wrong";
    let events = cluster
        .items(&[
            "events.events.k8s.io",
            "-n",
            "default",
            "--field-selector",
            selector,
        ])
        .unwrap();
    assert_eq!(events.len(), 1);
    cluster
        .kubectl(&["delete", "bgproutepolicy", "wrong"])
        .unwrap();
    eventually(PATIENCE, "the condition goes", || {
        let condition = cluster.condition(&node, "ResourcesValid")?;
        ensure!(condition.is_none(), "{condition:?}");
        Ok(())
    });
}

/// Packets between a node and the API server are dropped without a word for 60 s. A change that was made meanwhile is
/// seen within 30 s after.
#[test]
fn half_open_connections_are_noticed() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let rules = "add table inet roadbed-test; \
        add chain inet roadbed-test in { type filter hook input priority -300; }; \
        add chain inet roadbed-test out { type filter hook output priority -300; }; \
        add rule inet roadbed-test in tcp sport 16443 drop; \
        add rule inet roadbed-test out tcp dport 16443 drop";
    let pod = cluster.agent("n2").unwrap();
    cluster.drive(&["node-exec", "n2", "nft", rules]).unwrap();
    let pool = json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "meanwhile"},
        "spec": {"cidr": "10.250.0.0/24", "disabled": true},
    });
    std::thread::sleep(Duration::from_secs(5));
    cluster.apply(&pool.to_string()).unwrap();
    std::thread::sleep(Duration::from_secs(55));
    let known = || cluster.roadbedctl_on("n2", "ipam show -o json");
    let before = known().unwrap();
    cluster
        .on("n2", "nft delete table inet roadbed-test")
        .unwrap();
    assert!(
        !before.contains("meanwhile"),
        "the packets were not dropped"
    );
    let begin = Instant::now();
    eventually(Duration::from_secs(30), "the change is seen", || {
        let now = known()?;
        ensure!(now.contains("meanwhile"), "{now}");
        Ok(())
    });
    println!(
        "seen {:.1} s after packets pass again",
        begin.elapsed().as_secs_f64()
    );
    cluster.kubectl(&["delete", "ippool", "meanwhile"]).unwrap();
    eventually(PATIENCE, "the same agent runs", || {
        ensure!(cluster.agent("n2")? == pod, "another one");
        Ok(())
    });
    cluster.settle();
}
