//! podman 4.3 with its CNI backend: ports, addresses, restarts, MACs, two networks.

use std::net::IpAddr;

use serde_json::Value;

use crate::host::{Host, ROOTFS, SERVER};
use crate::{N1, host};

/// Podman's own files lie in the node's overlay, which overlayfs cannot be mounted upon; with `--rootfs` it needs no
/// image store.
const CONFIG: &str = r#"[network]
network_backend = "cni"
cni_plugin_dirs = ["/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"#;
const PODMAN: [&str; 6] = [
    "env",
    "CONTAINERS_CONF=/tmp/containers.conf",
    "podman",
    "--root=/tmp/podman/root",
    "--runroot=/tmp/podman/run",
    "--storage-driver=vfs",
];
/// The machine may be without CAP_SYS_RESOURCE: limits are not raised. Containers get no cgroup of their own.
const LIMITS: [&str; 5] = [
    "--cgroups=disabled",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    // The server ignores TERM, as pid 1 without a handler does.
    "--stop-timeout=0",
    "--detach",
];

struct Podman {
    host: Host,
}

impl Podman {
    fn new() -> Self {
        let host = Host::new();
        let path = host.site().path(N1, "/tmp/containers.conf").unwrap();
        std::fs::write(path, CONFIG).unwrap();
        Self { host }
    }

    /// Runs podman on the node.
    #[track_caller]
    fn podman(&self, args: &[&str]) -> String {
        self.host.run(&[&PODMAN, args].concat())
    }

    /// Starts a server.
    #[track_caller]
    fn start(&self, name: &str, args: &[&str]) {
        let container = ["--name", name, "--rootfs", ROOTFS];
        self.podman(&[&["run"], &LIMITS[..], args, &container, &SERVER].concat());
    }

    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let text = self.podman(&["inspect", name]);
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// What `podman inspect` shows of one network: addresses, IPv4 first.
    #[track_caller]
    fn addresses(&self, name: &str, network: &str) -> Vec<IpAddr> {
        let shown = &self.inspect(name)["NetworkSettings"]["Networks"][network];
        assert_eq!(
            (&shown["IPPrefixLen"], &shown["GlobalIPv6PrefixLen"]),
            (&32.into(), &128.into()),
            "{shown}"
        );
        ["IPAddress", "GlobalIPv6Address"]
            .map(|field| shown[field].as_str().unwrap().parse().unwrap())
            .to_vec()
    }

    /// Interfaces inside a container, as `ip` shows them.
    #[track_caller]
    fn inside(&self, name: &str) -> Value {
        let pid = self.inspect(name)["State"]["Pid"].to_string();
        let argv = ["nsenter", "-n", "-t", &pid, "ip", "-j", "address"];
        serde_json::from_str(&self.host.run(&argv)).unwrap()
    }
}

#[test]
fn a_published_port_follows_its_container_through_restarts() {
    let podman = Podman::new();
    let host = &podman.host;
    podman.start("web", &["--network=pods", "--publish=18080:80"]);
    let first = podman.addresses("web", "pods");
    assert_eq!(host.held(), std::slice::from_ref(&first));
    host.wired(std::slice::from_ref(&first));
    let shown = podman.inspect("web");
    assert_eq!(
        shown["NetworkSettings"]["Networks"]["pods"]["Gateway"],
        "169.254.1.1"
    );
    let inside = podman.inside("web").to_string();
    assert!(first.iter().all(|a| inside.contains(&format!("\"{a}\""))));
    // The node itself, and who comes over the underlay: to the port, and by BGP to the pod.
    host.serves(N1, "http://10.255.0.11:18080/");
    host.serves("r1", "http://172.31.0.1:18080/");
    host.serves("r1", &format!("http://{}/", first[0]));

    podman.podman(&["restart", "web"]);
    let second = podman.addresses("web", "pods");
    host.wired(std::slice::from_ref(&second));
    host.serves("r1", "http://172.31.0.1:18080/");
    host.serves("r1", &format!("http://{}/", second[0]));
    if first != second {
        host.refuses("r1", &format!("http://{}/", first[0]));
    }

    podman.podman(&["stop", "web"]);
    host.nothing_left();
    host.refuses("r1", "http://172.31.0.1:18080/");
    podman.podman(&["start", "web"]);
    host.wired(&[podman.addresses("web", "pods")]);
    host.serves("r1", "http://172.31.0.1:18080/");
    podman.podman(&["rm", "--force", "web"]);
    host.nothing_left();
}

#[test]
fn a_container_has_the_mac_it_asks_for_and_one_that_dies_leaves_nothing() {
    const MAC: &str = "02:11:22:33:44:55";
    let podman = Podman::new();
    let host = &podman.host;
    podman.start("web", &[&format!("--network=pods:mac={MAC}")]);
    let inside = podman.inside("web");
    let eth0 = inside
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["ifname"] == "eth0");
    assert_eq!(eth0.unwrap()["address"], MAC);
    let address = podman.addresses("web", "pods");
    host.serves(N1, &format!("http://{}/", address[0]));
    // Its process is killed; podman cleans up by itself.
    podman.podman(&["kill", "web"]);
    host.nothing_left();
}

#[test]
fn a_container_in_two_networks_has_an_interface_in_each() {
    let podman = Podman::new();
    let host = &podman.host;
    podman.start("web", &["--network=pods", "--network=other"]);
    let both = ["pods", "other"].map(|network| podman.addresses("web", network));
    host.wired(&both);
    for addresses in &both {
        host.serves(N1, &format!("http://{}/", addresses[0]));
        host.serves(N1, &format!("http://[{}]/", addresses[1]));
    }
    podman.podman(&["network", "disconnect", "other", "web"]);
    host.wired(&both[..1]);
    host.serves("r1", &format!("http://{}/", both[0][0]));
    podman.podman(&["rm", "--force", "--time=0", "web"]);
    host.nothing_left();
}

#[test]
fn an_address_that_podman_wants_is_refused_in_our_words() {
    let podman = Podman::new();
    let container = ["--network=pods:ip=10.244.0.9", "--rootfs", host::ROOTFS];
    let argv = [&PODMAN[..], &["run"], &LIMITS, &container, &SERVER].concat();
    let output = podman.host.site().output(N1, &argv).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("10.244.0.9"), "{said}");
    podman.host.nothing_left();
}
