//! Agents that go and come back under pods.

use std::time::Duration;

use anyhow::ensure;
use roadbed_tests::kube::{Cluster, PATIENCE, Ping, Pods, SYSTEM, Sent, Server};
use roadbed_tests::wait::eventually;

use crate::mesh::is_whole;

/// Two pods on n1 and one on n2, and packets between them.
struct Scene<'a> {
    _pods: (Pods<'a>, Pods<'a>),
    /// Within n1: must lose nothing.
    local: Vec<Ping>,
    /// From n1 to n2: what is lost is told.
    remote: Vec<Ping>,
    servers: Vec<Server>,
}

impl<'a> Scene<'a> {
    fn start(cluster: &'a Cluster, name: &str) -> Self {
        let near = Pods::start(cluster, &format!("{name}-near"), 2, Some("n1"));
        let far = Pods::start(cluster, &format!("{name}-far"), 1, Some("n2"));
        let mut servers = near.list().unwrap();
        servers.extend(far.list().unwrap());
        let [a, b, c] = servers.as_slice() else {
            panic!("{servers:?}")
        };
        let from = a.addresses[0].clone();
        let ping = |from: Option<&str>, to: &str| Ping::start(cluster, "n1", from, to).unwrap();
        let local = b.addresses.iter().enumerate();
        let local = local
            .map(|(i, to)| ping(Some(&a.addresses[i]), to))
            .collect();
        let remote = vec![
            ping(Some(&from), &c.addresses[0]),
            ping(None, &c.addresses[0]),
        ];
        Self {
            _pods: (near, far),
            local,
            remote,
            servers,
        }
    }

    fn end(self, cluster: &Cluster, what: &str) {
        let mut all = self._pods.0.list().unwrap();
        all.extend(self._pods.1.list().unwrap());
        let addresses = |servers: &[Server]| -> Vec<(String, Vec<String>)> {
            servers
                .iter()
                .map(|s| (s.name.clone(), s.addresses.clone()))
                .collect()
        };
        assert_eq!(
            addresses(&all),
            addresses(&self.servers),
            "pods keep their addresses"
        );
        for ping in self.local {
            let name = ping.what().to_owned();
            let Sent { sent, lost } = ping.stop().unwrap();
            println!("{what}: on the node, {name}: {lost} of {sent} lost");
            assert_eq!(lost, 0, "{name}");
            assert!(sent > 20, "{sent}");
        }
        for ping in self.remote {
            let name = ping.what().to_owned();
            let Sent { sent, lost } = ping.stop().unwrap();
            println!("{what}: between nodes, {name}: {lost} of {sent} lost");
        }
        eventually(PATIENCE, "the mesh is whole", || is_whole(cluster, &[]));
    }
}

#[test]
fn rollout_restart_under_pods() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let scene = Scene::start(&cluster, "rollout");
    cluster
        .kubectl(&[
            "rollout",
            "restart",
            "-n",
            SYSTEM,
            "daemonset/roadbed-agent",
        ])
        .unwrap();
    cluster
        .kubectl(&[
            "rollout",
            "status",
            "-n",
            SYSTEM,
            "daemonset/roadbed-agent",
            "--timeout=180s",
        ])
        .unwrap();
    cluster.settle();
    scene.end(&cluster, "rollout restart");
}

#[test]
fn deleted_agent_under_pods() {
    let Some(cluster) = Cluster::bed() else {
        return;
    };
    let scene = Scene::start(&cluster, "deleted");
    let before = cluster.agent("n1").unwrap();
    cluster
        .kubectl(&["delete", "pod", "-n", SYSTEM, &before])
        .unwrap();
    eventually(PATIENCE, "another agent is there", || {
        ensure!(cluster.agent("n1")? != before, "the former one");
        Ok(())
    });
    cluster.settle();
    std::thread::sleep(Duration::from_secs(1));
    scene.end(&cluster, "kubectl delete pod");
}
