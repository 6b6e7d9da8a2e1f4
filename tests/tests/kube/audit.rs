//! RBAC: what the agents asked for, as the API server logged it, is what they are granted; no more and no less.

use std::collections::BTreeSet;

use roadbed_tests::kube::{Cluster, text};
use serde_json::Value;

const USER: &str = "system:serviceaccount:roadbed-system:roadbed-agent";

/// `verb group/resource[/subresource]`.
fn right(verb: &str, group: &str, resource: &str) -> String {
    format!("{verb} {group}/{resource}")
}

fn granted(rules: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    granted.insert(right(&verb, &group, &resource));
                }
            }
        }
    }
    granted
}

#[test]
fn every_granted_verb_is_used_and_none_is_missing() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let mut all = granted(&cluster.get(&["clusterrole", "roadbed-agent"]).unwrap()["rules"]);
    all.extend(granted(
        &cluster
            .get(&["role", "-n", "default", "roadbed-agent-events"])
            .unwrap()["rules"],
    ));

    let log = std::fs::read_to_string(std::env::var("AUDIT_LOG").unwrap()).unwrap();
    let mut used = BTreeSet::new();
    let mut refused = BTreeSet::new();
    let mut count = 0;
    for line in log.lines() {
        // The last line may be in the making.
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if event["user"]["username"] != USER {
            continue;
        }
        count += 1;
        let object = &event["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let right = right(&text(&event["verb"]), &text(&object["apiGroup"]), &resource);
        match event["responseStatus"]["code"].as_u64() {
            Some(403) => refused.insert(right),
            _ => used.insert(right),
        };
    }
    println!(
        "{count} requests of the agents, {} kinds of them",
        used.len()
    );
    // A server that has just started refuses until it has read the roles.
    let refused: Vec<&String> = refused.difference(&used).collect();
    assert_eq!(refused, Vec::<&String>::new(), "refused, and never granted");
    let unused: Vec<&String> = all.difference(&used).collect();
    assert_eq!(unused, Vec::<&String>::new(), "granted and never used");
    let ungranted: Vec<&String> = used.difference(&all).collect();
    assert_eq!(
        ungranted,
        Vec::<&String>::new(),
        "used and not granted by these roles"
    );
}
