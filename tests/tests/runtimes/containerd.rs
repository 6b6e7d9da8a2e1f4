//! containerd 1.6: `ctr run --cni`, and the sandboxes that a kubelet would ask for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Child, Stdio};

use roadbed_api::agent::PodRef;
use serde_json::{Value, json};

use crate::cri::{self, SOCKET, Sandbox};
use crate::host::{Host, ROOTFS, SERVER};
use crate::{N1, SOON};

/// Root, state and socket of its own. Without CAP_SYS_RESOURCE no process can be made less likely to be killed; without
/// cgroup controllers no limits can be set.
const CONFIG: &str = r#"version = 2
root = "/tmp/containerd/root"
state = "/tmp/containerd/state"
[grpc]
address = "/tmp/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "roadbed.test/pause:1"
restrict_oom_score_adj = true
disable_cgroup = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#;

/// The sandbox image: busybox that sleeps, packed by hand.
const IMAGE: &str = r#"set -e
mkdir -p /tmp/image
cd /tmp/image
tar -C /tmp/rootfs -cf layer.tar .
digest=$(sha256sum layer.tar | cut -d' ' -f1)
echo '{"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/bin/busybox", "sleep", "3600"]},
  "rootfs": {"type": "layers", "diff_ids": ["sha256:'$digest'"]}}' > config.json
echo '[{"Config": "config.json", "RepoTags": ["roadbed.test/pause:1"], "Layers": ["layer.tar"]}]' > manifest.json
tar -cf image.tar config.json layer.tar manifest.json
ctr -a "$1" -n k8s.io images import --snapshotter native image.tar
"#;

/// Sandboxes of one test, unless `CRI_SANDBOXES` says otherwise; as many at a time as a kubelet may start.
const SANDBOXES: usize = 100;
const AT_A_TIME: usize = 5;

struct Containerd {
    // Before the host: the daemon ends first.
    _daemon: Daemon,
    host: Host,
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Killing who entered the node kills what it runs there.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Containerd {
    fn new() -> Self {
        let host = Host::new();
        let site = host.site();
        site.run(N1, "mkdir -p /tmp/containerd").unwrap();
        std::fs::write(
            site.path(N1, "/tmp/containerd/config.toml").unwrap(),
            CONFIG,
        )
        .unwrap();
        let log = std::fs::File::create(site.log_dir(N1).join("containerd.log")).unwrap();
        let child = site
            .lab()
            .command(
                N1,
                &["containerd", "--config", "/tmp/containerd/config.toml"],
            )
            .unwrap()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon(child);
        site.until(SOON, "containerd and its network are ready", || {
            cri::ready(site)
        })
        .unwrap();
        Self {
            _daemon: daemon,
            host,
        }
    }

    /// Runs `ctr` on the node.
    #[track_caller]
    fn ctr(&self, args: &[&str]) -> String {
        self.host.run(&[&["ctr", "-a", SOCKET], args].concat())
    }

    /// Writes what `ctr run` takes; its own choice of cgroup limits needs controllers.
    #[track_caller]
    fn spec(&self, name: &str, args: &[&str]) -> String {
        let mut spec: Value =
            serde_json::from_str(&self.host.run(&["ctr", "oci", "spec"])).unwrap();
        spec["linux"].as_object_mut().unwrap().remove("resources");
        spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        spec["root"] = json!({"path": ROOTFS});
        spec["process"]["args"] = json!(args);
        let path = format!("/tmp/containerd/{name}.json");
        std::fs::write(self.host.site().path(N1, &path).unwrap(), spec.to_string()).unwrap();
        path
    }
}

#[test]
fn ctr_runs_containers_with_and_without_a_del() {
    let containerd = Containerd::new();
    let host = &containerd.host;
    // To its end: ctr calls DEL when the process is gone, without a namespace.
    let spec = containerd.spec("look", &["/bin/busybox", "ip", "-o", "address"]);
    let seen = containerd.ctr(&["run", "--rm", "--cni", "--config", &spec, "look"]);
    assert!(seen.contains("eth0    inet 10.244."), "{seen}");
    assert!(seen.contains("eth0    inet6 fd00:244:"), "{seen}");
    host.nothing_left();
    // In the background: ctr never calls DEL. The namespace goes with the task, and the agent sees it.
    let spec = containerd.spec("web", &SERVER);
    containerd.ctr(&["run", "--detach", "--cni", "--config", &spec, "web"]);
    let held = host.held();
    host.wired(&held);
    host.serves("r1", &format!("http://{}/", held[0][0]));
    containerd.ctr(&["task", "kill", "--signal", "KILL", "web"]);
    host.wired(&[]);
}

#[test]
fn sandboxes_come_and_go() {
    let count = match std::env::var("CRI_SANDBOXES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => SANDBOXES,
    };
    let containerd = Containerd::new();
    let host = &containerd.host;
    let site = host.site();
    host.run(&["sh", "-c", IMAGE, "sh", SOCKET]);
    let names: Vec<String> = (0..count).map(|i| format!("pod-{i}")).collect();
    let share = count.div_ceil(AT_A_TIME);

    let sandboxes: Vec<(String, Sandbox)> = std::thread::scope(|scope| {
        let start = |names: &[String]| -> Vec<(String, Sandbox)> {
            let run = |name: &String| (name.clone(), Sandbox::run(site, name).unwrap());
            names.iter().map(run).collect()
        };
        let threads: Vec<_> = names
            .chunks(share)
            .map(|part| scope.spawn(move || start(part)))
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    let addresses: Vec<Vec<IpAddr>> = sandboxes
        .iter()
        .map(|(_, sandbox)| sandbox.addresses(site).unwrap())
        .collect();
    let distinct: BTreeSet<&IpAddr> = addresses.iter().flatten().collect();
    assert_eq!(distinct.len(), 2 * count);
    host.wired(&addresses);
    // Whose they are: the kubelet's words arrive.
    let attachments = site.attachments(N1).unwrap();
    for (name, sandbox) in &sandboxes {
        let found = attachments
            .iter()
            .find(|attachment| attachment.key.container_id == sandbox.id)
            .unwrap();
        let pod = PodRef {
            namespace: "default".into(),
            name: name.clone(),
            uid: Some(format!("uid-{name}")),
        };
        assert_eq!(found.pod, Some(pod));
    }
    std::thread::scope(|scope| {
        for part in sandboxes.chunks(share) {
            scope.spawn(move || {
                for (_, sandbox) in part {
                    sandbox.stop(site).unwrap();
                    sandbox.remove(site).unwrap();
                }
            });
        }
    });
    host.nothing_left();
}
