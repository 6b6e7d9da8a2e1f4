//! `roadbedctl` from a machine with a kubeconfig.

use std::process::{Command, Output};

use roadbed_tests::kube::Cluster;
use serde_json::{Value, json};

/// Runs it; `None` where it was not built.
fn roadbedctl(args: &[&str]) -> Option<Output> {
    let folder = std::env::var("ROADBED_BIN").ok()?;
    let program = format!("{folder}/roadbedctl");
    Some(Command::new(program).args(args).output().unwrap())
}

fn pool(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "roadbed.dev/v1alpha1", "kind": "IPPool",
        "metadata": {"name": name, "labels": {"rack": label}},
        "spec": {"cidr": "10.252.0.0/16", "disabled": true},
    })
}

fn file(object: &Value) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object.json");
    std::fs::write(&path, object.to_string()).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

#[track_caller]
fn done(args: &[&str], expected: &str) {
    let Some(output) = roadbedctl(args) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert!(text.contains(expected), "{args:?}: {text}");
}

#[test]
fn resources_of_the_cluster() {
    let cluster = Cluster::attach();
    let (_dir, path) = file(&pool("by-hand", "r1"));
    done(
        &["apply", "-f", &path, "--dry-run"],
        "ippool/by-hand created (dry run)",
    );
    assert!(cluster.kubectl(&["get", "ippool", "by-hand"]).is_err());
    done(&["apply", "-f", &path], "ippool/by-hand created");
    done(&["apply", "-f", &path], "ippool/by-hand unchanged");
    let (_dir, path) = file(&pool("by-hand", "r2"));
    done(&["apply", "-f", &path], "ippool/by-hand configured");
    let stored = cluster.get(&["ippool", "by-hand"]).unwrap();
    assert_eq!(stored["metadata"]["labels"]["rack"], "r2");
    done(&["get", "ippools", "-o", "name"], "by-hand");
    done(
        &["--store", "kubernetes", "delete", "ippool", "by-hand"],
        "ippool/by-hand deleted",
    );
    assert!(cluster.kubectl(&["get", "ippool", "by-hand"]).is_err());
}

/// Manifests are checked by the server too, and nothing is written.
#[test]
fn validate_asks_the_server() {
    let cluster = Cluster::attach();
    let (_dir, path) = file(&pool("checked", "r1"));
    done(&["validate", "-f", &path], "ippool/checked valid");
    // Labels are the server's to judge.
    let (_dir, path) = file(&pool("checked", "not a label"));
    let Some(refused) = roadbedctl(&["validate", "-f", &path]) else {
        return;
    };
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("a valid label must be"),
        "{text}"
    );
    assert!(cluster.kubectl(&["get", "ippool", "checked"]).is_err());
}
