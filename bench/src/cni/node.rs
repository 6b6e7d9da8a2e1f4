//! The run's own node: namespaces that end with the process, an agent, pods.
//!
//! Never touches the machine's network: the process leaves it before it does anything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How long the agent may take to have its blocks.
const READY: Duration = Duration::from_secs(30);

const POOLS: &str = "apiVersion: roadbed.dev/v1alpha1
kind: IPPool
metadata: {name: pods-v4}
spec: {cidr: \"10.244.0.0/16\", blockSize: 24}
---
apiVersion: roadbed.dev/v1alpha1
kind: IPPool
metadata: {name: pods-v6}
spec: {cidr: \"fd00:244::/48\", blockSize: 120}
";

/// The node; its agent ends with it.
pub(crate) struct Node {
    /// Files of the run.
    pub(crate) dir: PathBuf,
    /// Our binaries.
    pub(crate) bin_dir: PathBuf,
    agent: Child,
}

/// A pod's namespace.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Name, and CNI container ID.
    pub(crate) name: String,
    /// `CNI_NETNS`
    pub(crate) netns: String,
}

impl Node {
    /// Leaves the machine's namespaces and starts an agent. Call while the process has one thread.
    pub(crate) fn new(bin_dir: &Path) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("make namespaces: run as root")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // What names of namespaces, ptp and host-local write ends with the run.
        for dir in ["/run/netns", "/var/lib/cni", "/run/cni", "/tmp"] {
            fs::create_dir_all(dir)?;
            let tmpfs = Some("tmpfs");
            mount(tmpfs, dir, tmpfs, MsFlags::empty(), none)
                .with_context(|| format!("mount {dir}"))?;
        }
        for line in [
            "ip link set lo up",
            "ip address add 10.255.0.11/32 dev lo",
            "ip address add fd00:255::11/128 dev lo",
        ] {
            sh(line)?;
        }
        let dir = PathBuf::from("/tmp/roadbed-bench");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("pools.yaml"), POOLS)?;
        let store = dir.join("store.db");
        let config = format!(
            "node = \"n1\"\nas_number = 65111\nnode_addresses = [\"10.255.0.11\", \"fd00:255::11\"]\n\
             run_dir = \"{0}/run\"\nstate_dir = \"{0}/state\"\n[store]\nkind = \"sqlite\"\npath = \"{1}\"\n",
            dir.display(),
            store.display()
        );
        fs::write(dir.join("agent.toml"), config)?;
        sh(&format!(
            "{} --store sqlite:{} apply -f {}",
            bin_dir.join("roadbedctl").display(),
            store.display(),
            dir.join("pools.yaml").display()
        ))?;
        let log = fs::File::create(dir.join("agent.log"))?;
        let agent = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(bin_dir.join("roadbed-agent"))
            .arg("--config")
            .arg(dir.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the agent")?;
        let node = Self {
            dir,
            bin_dir: bin_dir.to_owned(),
            agent,
        };
        node.ready()?;
        Ok(node)
    }

    fn ready(&self) -> Result<()> {
        let socket = self.run_dir().join("agent.sock");
        let deadline = Instant::now() + READY;
        loop {
            let probe = Command::new("curl")
                .args(["-sf", "--unix-socket"])
                .arg(&socket)
                .arg("http://localhost/readyz")
                .output()?;
            if probe.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
                bail!("the agent is not ready:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The agent's run directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Makes namespaces for pods, their loopback up.
    pub(crate) fn pods(&self, prefix: &str, count: usize) -> Result<Vec<Pod>> {
        (0..count)
            .map(|i| {
                let name = format!("{prefix}{i}");
                sh(&format!("ip netns add {name}"))?;
                sh(&format!("ip -n {name} link set lo up"))?;
                // ptp waits for duplicate address detection, which takes it seconds and says nothing of its work.
                let detection = "sysctl -qw net.ipv6.conf.default.accept_dad=0";
                sh(&format!("ip netns exec {name} {detection}"))?;
                let netns = format!("/run/netns/{name}");
                Ok(Pod { name, netns })
            })
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.agent.kill().ok();
        self.agent.wait().ok();
    }
}

/// Runs a command line to its end; words are separated by blanks, nothing is quoted.
pub(crate) fn sh(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| line.to_owned())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{line}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}
