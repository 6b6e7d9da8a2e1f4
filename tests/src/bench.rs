//! Labs of tests: each with a name and a directory of its own, gone with its value, the agents' logs shown on failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use roadbed_lab::Options;
use tempfile::TempDir;

use crate::process::program;
use crate::site::Site;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Log lines shown of each agent when a test fails.
const TAIL: usize = 80;

/// One node whose agent has no store yet, alone or with a router that it peers with.
const SOLO: &str = r#"name: solo
topology:
  kinds:
    linux:
      image: ghcr.io/roadbed/roadbed:latest
      sysctls: {net.ipv6.conf.default.accept_dad: 0}
      env: {ROADBED_STORE: "sqlite:/var/lib/roadbed-store/store.db"}
  nodes:
    n1:
      kind: linux
      binds:
        - agent.toml:/etc/roadbed/agent.toml:ro
        - resources:/etc/roadbed/resources:ro
        - __clabDir__/store:/var/lib/roadbed-store
      exec:
        - ip address add 10.255.0.11/32 dev lo
        - ip address add fd00:255::11/128 dev lo
        - ip address add 172.31.0.1/31 dev eth1
        - ip address add fd00:31::2/64 dev eth1
    r1:
      kind: linux
      cmd: roadbed-bgpd --config /etc/roadbed/bgpd.toml
      binds: ["bgpd.toml:/etc/roadbed/bgpd.toml:ro"]
      exec:
        - ip address add 10.255.0.1/32 dev lo
        - ip address add 172.31.0.0/31 dev eth1
        - ip address add fd00:31::1/64 dev eth1
  links:
    - endpoints: ["n1:eth1", "r1:eth1"]
"#;

const AGENT: &str = r#"node = "n1"
as_number = 65111
node_addresses = ["10.255.0.11", "fd00:255::11"]
cool_down_seconds = 0

[store]
kind = "sqlite"
path = "/var/lib/roadbed-store/store.db"
"#;

const ROUTER: &str = r#"[bgp]
asNumber = 65101
routerId = "10.255.0.1"
[peers.n1]
address = "172.31.0.1"
asNumber = 65111
holdTimeSeconds = 9
connectRetrySeconds = 1
importPolicies = ["accept-all"]
[router]
networks = ["10.255.0.1/32"]
"#;

/// The node's peer.
pub const PEER: &str = "apiVersion: roadbed.dev/v1alpha1
kind: BGPPeer
metadata: {name: r1}
spec: {address: 172.31.0.0, asNumber: 65101, holdTimeSeconds: 9, connectRetrySeconds: 1}
";

/// The files of a lab, before it is up.
#[derive(Debug)]
pub struct Files {
    dir: TempDir,
}

/// A lab of one test.
pub struct Bench {
    // Before the directory: the lab goes first.
    /// The lab.
    pub site: Site,
    files: Files,
}

impl Files {
    /// A copy of the lab two-racks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn two_racks() -> Result<Self> {
        let files = Self::empty()?;
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../labs/two-racks");
        copy(&original, files.dir.path())?;
        Ok(files)
    }

    /// One node, `n1`, with a router above it, `r1`. The resources: pools of these CIDRs and block sizes, named
    /// `pods-v4` and `pods-v6`, and the peer.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn solo(pools: [(&str, u8); 2]) -> Result<Self> {
        let files = Self::empty()?;
        files.write("solo.clab.yml", SOLO)?;
        files.write("agent.toml", AGENT)?;
        files.write("bgpd.toml", ROUTER)?;
        for ((cidr, size), name) in pools.into_iter().zip(["pods-v4", "pods-v6"]) {
            files.write(&format!("resources/{name}.yaml"), &pool(name, cidr, size))?;
        }
        files.write("resources/peer.yaml", PEER)?;
        Ok(files)
    }

    fn empty() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rbt-").tempdir()?;
        Ok(Self { dir })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes one file; its directory is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// Replaces text in one file.
    ///
    /// # Errors
    /// When it is not there to be replaced.
    pub fn replace(&self, path: &str, from: &str, to: &str) -> Result<()> {
        let text = fs::read_to_string(self.dir.path().join(path))?;
        anyhow::ensure!(text.contains(from), "{path} does not contain {from:?}");
        self.write(path, &text.replace(from, to))
    }

    /// Options for a lab of these files.
    ///
    /// # Errors
    /// When the programs have not been built.
    pub fn options(&self) -> Result<Options> {
        let lab = program("roadbed-lab")?;
        for name in ["roadbed", "roadbed-agent", "roadbed-bgpd", "roadbedctl"] {
            program(name)?;
        }
        Ok(Options {
            name: Some(unique()),
            base_dir: Some(self.base()),
            bin_dir: lab.parent().map(Path::to_owned),
            lab_exe: Some(lab),
            down_on_drop: true,
            ..Options::default()
        })
    }

    /// Where labs of these files live.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("labs")
    }

    fn topology(&self) -> Result<PathBuf> {
        let found = fs::read_dir(self.dir.path())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(".clab.yml"));
        found.context("no topology file")
    }

    /// Brings the lab up.
    ///
    /// # Errors
    /// What the lab says.
    pub fn up(self) -> Result<Bench> {
        let site = Site::up(
            &self.topology()?,
            &self.options()?,
            &program("roadbed-demo")?,
        )?;
        Ok(Bench { site, files: self })
    }
}

/// A name that no lab of another test has.
pub fn unique() -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("rbt{}-{number}", std::process::id())
}

/// The manifest of a pool.
#[must_use]
pub fn pool(name: &str, cidr: &str, block_size: u8) -> String {
    format!(
        "apiVersion: roadbed.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\n\
         spec: {{cidr: \"{cidr}\", blockSize: {block_size}}}\n"
    )
}

impl Bench {
    /// One node with roomy pools, its resources applied, its agent ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn solo() -> Result<Self> {
        let bench = Files::solo([("10.244.0.0/16", 26), ("fd00:244::/48", 122)])?.up()?;
        bench.site.apply("n1")?;
        bench.site.ready("n1")?;
        Ok(bench)
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Ends the node's programs as a crash would, and waits until they are gone.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn kill(&self, node: &str) -> Result<()> {
        self.end(node, Signal::SIGKILL)
    }

    /// As [`Bench::kill`], with a signal of one's own.
    ///
    /// # Errors
    /// When they do not end.
    pub fn end(&self, node: &str, signal: Signal) -> Result<()> {
        self.site.lab().kill_main(node, signal)?;
        let limit = std::time::Duration::from_secs(5);
        self.site.until(limit, "the programs have ended", || {
            let running = self.site.lab().status(node)?;
            anyhow::ensure!(
                running.programs.iter().all(|program| program.pid.is_none()),
                "{running:?}"
            );
            Ok(())
        })
    }

    /// Starts the node's programs again.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn start(&self, node: &str) -> Result<()> {
        self.site.lab().start_main(node)?;
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.site.lab().nodes() {
            let log = self.site.agent_log(node);
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(TAIL);
            eprintln!("--- agent of {node}\n{}", lines[from..].join("\n"));
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
