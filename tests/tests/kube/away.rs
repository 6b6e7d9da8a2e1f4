//! An API server that is away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roadbed_tests::kube::{CRICTL, Cluster, PATIENCE, Ping, Pods, text};
use roadbed_tests::wait::eventually;
use serde_json::{Value, json};

use crate::mesh::is_whole;

/// Blocks that the node owns, as its agent says.
fn blocks(cluster: &Cluster, node: &str) -> Result<Vec<IpNet>> {
    let report: Value =
        serde_json::from_str(&cluster.roadbedctl_on(node, "ipam show --blocks -o json")?)?;
    let blocks = report["blocks"].as_array().context("blocks")?;
    Ok(blocks
        .iter()
        .filter_map(|b| text(&b["cidr"]).parse().ok())
        .collect())
}

/// A pod sandbox made as a runtime's own client makes it; its address, and how long it took.
struct Sandbox<'a> {
    cluster: &'a Cluster,
    id: String,
    address: String,
    took: Duration,
}

impl<'a> Sandbox<'a> {
    fn run(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("roadbed-{name}-{}.json", std::process::id()));
        let config = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "attempt": 1},
            "log_directory": "/tmp", "linux": {},
        });
        std::fs::write(&file, config.to_string())?;
        let begin = Instant::now();
        let id = cluster.on("n1", &format!("{CRICTL} runp {}", file.display()));
        let took = begin.elapsed();
        std::fs::remove_file(&file)?;
        let id = id?.trim().to_owned();
        let inspected: Value =
            serde_json::from_str(&cluster.on("n1", &format!("{CRICTL} inspectp -o json {id}"))?)?;
        let address = text(&inspected["status"]["network"]["ip"]);
        Ok(Self {
            cluster,
            id,
            address,
            took,
        })
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        for verb in ["stopp", "rmp"] {
            self.cluster
                .on("n1", &format!("{CRICTL} {verb} {}", self.id))
                .ok();
        }
    }
}

/// `pods untouched, nothing freed`, and new pods start from blocks that the node owns.
#[test]
fn a_minute_without_api_server_and_a_killed_agent() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let pods = Pods::start(&cluster, "away", 2, Some("n1"));
    let servers = pods.list().unwrap();
    let [a, b] = servers.as_slice() else {
        panic!("{servers:?}")
    };
    let ping = Ping::start(&cluster, "n1", Some(&a.addresses[0]), &b.addresses[0]).unwrap();
    let owned = blocks(&cluster, "n1").unwrap();
    let stored = || {
        cluster.kubectl(&["get", "ipblocks", "-o", "jsonpath={range .items[*]}{.metadata.name} {.spec.owner.node} {.spec.state}{\"\\n\"}{end}"])
    };
    let before = stored().unwrap();

    let begin = Instant::now();
    cluster.drive(&["kill", "apiserver"]).unwrap();
    let first = cluster.agent_pid("n1").unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "the kubelet starts the agent again", || {
        let now = cluster.agent_pid("n1")?;
        ensure!(now != first, "the former one");
        let status = cluster.roadbedctl_on("n1", "status -o json")?;
        ensure!(
            status.contains("\"fromSnapshot\":true") || status.contains("\"fromSnapshot\": true"),
            "{status}"
        );
        Ok(())
    });
    println!(
        "agent back from its snapshot {:.1} s after kill -9",
        begin.elapsed().as_secs_f64()
    );

    let ours = |address: &str| -> Result<()> {
        let address: std::net::IpAddr = address.parse()?;
        ensure!(
            owned.iter().any(|block| block.contains(&address)),
            "{address} is of none of {owned:?}"
        );
        Ok(())
    };
    let sandbox = Sandbox::run(&cluster, "away").unwrap();
    ours(&sandbox.address).unwrap();
    println!(
        "crictl runp: {} after {:.1} s",
        sandbox.address,
        sandbox.took.as_secs_f64()
    );
    assert!(sandbox.took < Duration::from_secs(5));

    let manifest = PathBuf::from(std::env::var("RUN").unwrap())
        .join("nodes/n1/root/etc/kubernetes/manifests/static.json");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "pause", "image": "localhost/pause:3.10.2", "imagePullPolicy": "Never"}]},
    });
    let dropped = Instant::now();
    std::fs::write(&manifest, pod.to_string()).unwrap();
    let address = eventually(
        Duration::from_secs(30),
        "the static pod has an address",
        || {
            let id = cluster.on(
                "n1",
                &format!("{CRICTL} pods --name static --state ready -q"),
            )?;
            let id = id.lines().next().context("no sandbox")?;
            let inspected: Value = serde_json::from_str(
                &cluster.on("n1", &format!("{CRICTL} inspectp -o json {id}"))?,
            )?;
            let address = text(&inspected["status"]["network"]["ip"]);
            ensure!(!address.is_empty(), "no address");
            anyhow::Ok(address)
        },
    );
    println!(
        "static pod: {address} after {:.1} s",
        dropped.elapsed().as_secs_f64()
    );
    assert!(
        dropped.elapsed() < Duration::from_secs(5),
        "{:?}",
        dropped.elapsed()
    );
    ours(&address).unwrap();

    std::thread::sleep(Duration::from_secs(60).saturating_sub(begin.elapsed()));
    std::fs::remove_file(&manifest).unwrap();
    drop(sandbox);
    cluster.drive(&["restart", "apiserver"]).unwrap();
    cluster.settle();
    let lost = ping.stop().unwrap();
    println!(
        "between pods of the node: {} of {} lost",
        lost.lost, lost.sent
    );
    assert_eq!(lost.lost, 0);
    let now = pods.list().unwrap();
    assert_eq!(
        now.iter().map(|s| &s.addresses).collect::<Vec<_>>(),
        servers.iter().map(|s| &s.addresses).collect::<Vec<_>>()
    );
    let after = stored().unwrap();
    for line in before.lines() {
        assert!(after.contains(line), "{line} was freed:\n{after}");
    }
    eventually(PATIENCE, "the mesh is whole", || is_whole(&cluster, &[]));
}

/// Fifty sandboxes while the API server is stopped, beside fifty while it answers.
#[test]
fn a_stopped_api_server_slows_no_add() {
    const COUNT: usize = 50;
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let round = |name: &str| {
        let mut times: Vec<Duration> = (0..COUNT)
            .map(|i| Sandbox::run(&cluster, &format!("{name}-{i}")).unwrap().took)
            .collect();
        times.sort_unstable();
        (times[COUNT / 2], times[COUNT - 1])
    };
    let usual = round("usual");
    cluster.drive(&["stop", "apiserver"]).unwrap();
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round("stopped")));
    cluster.drive(&["cont", "apiserver"]).unwrap();
    let stopped = stopped.unwrap();
    println!(
        "crictl runp, median and p99 of {COUNT}: {usual:.0?} usually, {stopped:.0?} with the API server stopped"
    );
    assert!(
        stopped.1 < usual.1 * 2 + Duration::from_millis(500),
        "{stopped:?} against {usual:?}"
    );
    cluster.settle();
}

/// A server that does not stream lists (WatchList off, or older): agents start from lists in pages.
#[test]
fn a_server_that_streams_no_lists() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let file = PathBuf::from(std::env::var("RUN").unwrap()).join("programs/apiserver.cmd");
    let usual = std::fs::read(&file).unwrap();
    let without = [usual.as_slice(), b"--feature-gates=WatchList=false\0"].concat();
    std::fs::write(&file, without).unwrap();
    let restarted = cluster.drive(&["restart", "apiserver"]);
    let checked = restarted.and_then(|_| {
        for node in cluster.nodes()? {
            let agent = cluster.agent(&node)?;
            cluster.kubectl(&["delete", "pod", "-n", "roadbed-system", &agent])?;
        }
        cluster.settle();
        is_whole_soon(&cluster);
        Ok(())
    });
    std::fs::write(&file, usual).unwrap();
    cluster.drive(&["restart", "apiserver"]).unwrap();
    checked.unwrap();
    cluster.settle();
    is_whole_soon(&cluster);
}

fn is_whole_soon(cluster: &Cluster) {
    eventually(PATIENCE, "the mesh is whole", || is_whole(cluster, &[]));
}
