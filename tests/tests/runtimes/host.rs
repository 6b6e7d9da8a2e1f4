//! A node that a container runtime can live on: a root filesystem for containers, a conflist, a cgroup tree.
//!
//! Everything lies in the node's own overlay and tmpfs and ends with the node; only the cgroups are the machine's, in a
//! tree of the test's own, which is removed last. Nothing is pulled from a registry.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use roadbed_tests::bench::{Bench, unique};
use roadbed_tests::site::Site;
use serde_json::Value;

use crate::{N1, SOON};

/// What containers are made of: busybox alone, which serves `/www` over HTTP.
pub(crate) const ROOTFS: &str = "/tmp/rootfs";
/// What the containers' HTTP servers answer.
pub(crate) const PAGE: &str = "served from a pod";
/// A process of a container.
pub(crate) const SERVER: [&str; 6] = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h/www"];

/// Two networks of ours, `pods` before `other`: the first is what CRI and `ctr` take. Our links take the MAC that the
/// runtime asks for, and Debian's `portmap` follows.
const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "NAME", "plugins": [
  {"type": "roadbed", "capabilities": {"mac": true}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

/// `$1`: the cgroup tree.
const SETUP: &str = r#"set -e
for dir in bin www proc sys dev tmp etc run; do mkdir -p /tmp/rootfs/$dir; done
cp /bin/busybox /tmp/rootfs/bin/
printf '%s' "$2" > /tmp/rootfs/www/index.html
rm -rf /opt/cni /etc/cni/net.d /var/lib/cni
mkdir -p /opt/cni /etc/cni/net.d /tmp/cgroup
ln -s /usr/local/bin/roadbed /usr/lib/cni/roadbed
ln -s /usr/lib/cni /opt/cni/bin
mount -t cgroup2 none /tmp/cgroup
mount --bind "/tmp/cgroup/$1" /sys/fs/cgroup
"#;

/// A node with an agent and room for a runtime.
pub(crate) struct Host {
    // In this order: no process is left in the cgroups once the lab is gone.
    /// The node `n1` below the router `r1`.
    pub(crate) bench: Bench,
    _cgroups: Cgroups,
}

impl Host {
    /// A node whose agent is ready and peers with its router.
    pub(crate) fn new() -> Self {
        let bench = Bench::solo().unwrap();
        bench.site.established(N1).unwrap();
        let cgroups = Cgroups::new().unwrap();
        let name = cgroups.0.file_name().unwrap().to_str().unwrap();
        let site = &bench.site;
        site.exec(N1, &["sh", "-c", SETUP, "sh", name, PAGE])
            .unwrap();
        for (file, network) in [("10-pods", "pods"), ("20-other", "other")] {
            let text = NETWORK.replace("NAME", network);
            // Debian's own plugins know no 1.1.0, and neither do these runtimes.
            let path = format!("/etc/cni/net.d/{file}.conflist");
            fs::write(site.path(N1, &path).unwrap(), text).unwrap();
        }
        Self {
            bench,
            _cgroups: cgroups,
        }
    }

    pub(crate) fn site(&self) -> &Site {
        &self.bench.site
    }

    /// Runs a command on the node; its output.
    #[track_caller]
    pub(crate) fn run(&self, argv: &[&str]) -> String {
        self.site().exec(N1, argv).unwrap()
    }

    /// Waits until the page is served there, as seen from `node`.
    #[track_caller]
    pub(crate) fn serves(&self, node: &str, url: &str) {
        let fetch = ["curl", "-sS", "--max-time", "2", url];
        let what = format!("{url} is served to {node}");
        self.site()
            .until(SOON, what, || {
                let page = self.site().exec(node, &fetch)?;
                ensure!(page == PAGE, "{page}");
                Ok(())
            })
            .unwrap();
    }

    /// Asserts that nobody serves there, as seen from `node`.
    #[track_caller]
    pub(crate) fn refuses(&self, node: &str, url: &str) {
        let fetch = ["curl", "-sS", "--max-time", "1", url];
        let output = self.site().output(node, &fetch).unwrap();
        assert!(!output.status.success(), "{url} is still served to {node}");
    }

    /// Addresses that the agent holds for pods, in the order of the attachments' keys.
    #[track_caller]
    pub(crate) fn held(&self) -> Vec<Vec<IpAddr>> {
        let mut held: Vec<Vec<IpAddr>> = self
            .site()
            .attachments(N1)
            .unwrap()
            .into_iter()
            .map(|attachment| attachment.addresses)
            .collect();
        held.iter_mut().for_each(|addresses| addresses.sort());
        held
    }

    /// Asserts that kernel and ledger hold exactly these addresses, each with its route, each pod with its link.
    #[track_caller]
    pub(crate) fn wired(&self, pods: &[Vec<IpAddr>]) {
        let expected: BTreeSet<String> = pods.iter().flatten().map(IpAddr::to_string).collect();
        let what = "kernel and ledger hold these pods and no others";
        self.site()
            .until(SOON, what, || {
                let (links, routes) = self.kernel()?;
                ensure!(routes == expected, "{routes:?}, expected {expected:?}");
                ensure!(links.len() == pods.len(), "{links:?}");
                let held: BTreeSet<String> = self
                    .site()
                    .attachments(N1)?
                    .iter()
                    .flat_map(|attachment| &attachment.addresses)
                    .map(IpAddr::to_string)
                    .collect();
                ensure!(held == expected, "{held:?}, expected {expected:?}");
                let in_use: u64 = self
                    .site()
                    .ipam(N1)?
                    .blocks
                    .iter()
                    .map(|block| block.in_use)
                    .sum();
                ensure!(in_use == expected.len() as u64, "{in_use} in use");
                Ok(())
            })
            .unwrap();
    }

    /// Asserts that the node is as before the first container.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        self.wired(&[]);
        for dir in ["/run/netns", "/run/roadbed/notes", "/var/lib/cni/results"] {
            let path = self.site().path(N1, dir).unwrap();
            let names: Vec<String> = fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            assert!(names.is_empty(), "{dir}: {names:?}");
        }
        let nat = self.run(&["iptables-save", "-t", "nat"]);
        assert!(!nat.contains("dnat name"), "a port is still mapped:\n{nat}");
    }

    /// Our links, and destinations of routes over them.
    fn kernel(&self) -> Result<(Vec<String>, BTreeSet<String>)> {
        let json = |line: &str| -> Result<Value> {
            let text = self.site().run(N1, line)?;
            serde_json::from_str(&text).with_context(|| format!("{line}: {text}"))
        };
        let strings = |value: Value, field: &str| -> Vec<String> {
            let items = value.as_array().cloned().unwrap_or_default();
            items
                .iter()
                .filter_map(|item| item[field].as_str().map(str::to_owned))
                .collect()
        };
        let ours = |name: &String| name.starts_with("rb");
        let links = strings(json("ip -j link")?, "ifname");
        let mut routes = BTreeSet::new();
        for family in ["-4", "-6"] {
            let shown = json(&format!("ip -j {family} route show table main"))?;
            let over_ours = shown.as_array().cloned().unwrap_or_default();
            let over_ours = over_ours.into_iter().filter(|route| {
                route["dev"]
                    .as_str()
                    .is_some_and(|dev| dev.starts_with("rb"))
            });
            routes.extend(strings(Value::Array(over_ours.collect()), "dst"));
        }
        // The kernel's own, where the host end has an address.
        routes.remove("fe80::/64");
        Ok((links.into_iter().filter(ours).collect(), routes))
    }
}

/// A cgroup of the machine that the node takes for its root.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .context("cgroup2 is mounted nowhere")?[1];
        let path = PathBuf::from(root).join(unique());
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // A dead process leaves its cgroup a moment later.
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(error) = remove_tree(&self.0) {
            if Instant::now() > deadline {
                eprintln!("{}: {error}", self.0.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup with those below it; their files go with them.
fn remove_tree(path: &PathBuf) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
