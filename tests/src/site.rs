//! A lab with agents on its nodes: commands inside them, their agents' answers, their logs.
//!
//! Owns the lab of one test or of the demo. Reaches an agent's socket and files through the node's root in `/proc`, so
//! that polling costs no process. Everything waits with a deadline and the last reason.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use roadbed_api::agent::{
    ATTACHMENTS, Attachment, AttachmentList, IPAM, IpamReport, NodeStatus, ROUTES, RouteReport,
    STATUS,
};
use roadbed_api::names::{DEFAULT_RUN_DIR, SOCKET_NAME};
use roadbed_client::AgentClient;
use roadbed_lab::{Lab, Options, Topology};

/// The store as the nodes of our labs have it.
pub const STORE: &str = "sqlite:/var/lib/roadbed-store/store.db";
/// The resources as the nodes of our labs have them.
pub const RESOURCES: &str = "/etc/roadbed/resources";
/// How long an agent may take to answer one question.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long agents may take to have their blocks: seconds on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// A lab that is up, and how to talk to what runs in it.
pub struct Site {
    lab: Lab,
    helper: PathBuf,
    interrupted: Option<Arc<AtomicBool>>,
}

impl Site {
    /// Brings the topology up. `helper` is the program `roadbed-demo`, which probes run inside nodes.
    ///
    /// # Errors
    /// What the lab says.
    pub fn up(file: &Path, options: &Options, helper: &Path) -> Result<Self> {
        let topology = Topology::load(file)?;
        let lab = Lab::up(&topology, options)?;
        Ok(Self {
            lab,
            helper: helper.to_owned(),
            interrupted: options.interrupted.clone(),
        })
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Takes the lab down.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(self) -> Result<()> {
        Ok(self.lab.down()?)
    }

    /// Path of the program that probes run.
    #[must_use]
    pub fn helper(&self) -> String {
        self.helper.display().to_string()
    }

    /// Runs a command line inside `node`; words are separated by blanks, nothing is quoted.
    ///
    /// # Errors
    /// With all of its output, when it cannot be run or fails.
    pub fn run(&self, node: &str, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.exec(node, &words)
    }

    /// Runs a command inside `node`.
    ///
    /// # Errors
    /// As [`Site::run`].
    pub fn exec(&self, node: &str, argv: &[&str]) -> Result<String> {
        let output = self.output(node, argv)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{node}: `{}`: {}\n{stdout}{}",
            argv.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// Runs a command inside `node`, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn output(&self, node: &str, argv: &[&str]) -> Result<Output> {
        self.uninterrupted()?;
        Ok(self.lab.exec(node, argv)?)
    }

    /// A file of `node`, as the machine sees it; symbolic links in it would lead to the machine's own files.
    ///
    /// # Errors
    /// When the node is dead.
    pub fn path(&self, node: &str, path: &str) -> Result<PathBuf> {
        let pid = self.lab.node_pid(node)?;
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        Ok(root.join(path.trim_start_matches('/')))
    }

    /// The store's file, which all nodes share.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.lab.dir().join("store/store.db")
    }

    /// Where a node's programs write.
    #[must_use]
    pub fn log_dir(&self, node: &str) -> PathBuf {
        self.lab.dir().join(node)
    }

    /// What the node's agent has written.
    #[must_use]
    pub fn agent_log(&self, node: &str) -> String {
        let path = self.log_dir(node).join("roadbed-agent.log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The node's agent.
    ///
    /// # Errors
    /// When the node is dead.
    pub fn agent(&self, node: &str) -> Result<AgentClient> {
        let socket = self.path(node, &format!("{DEFAULT_RUN_DIR}/{SOCKET_NAME}"))?;
        Ok(AgentClient::new(socket).with_timeout(ANSWER))
    }

    /// What the node's agent says of itself and its peers.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, node: &str) -> Result<NodeStatus> {
        Ok(self.agent(node)?.get(STATUS)?)
    }

    /// What the node's agent says of addresses.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ipam(&self, node: &str) -> Result<IpamReport> {
        Ok(self.agent(node)?.get(IPAM)?)
    }

    /// What the node's agent says of routes.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn routes(&self, node: &str) -> Result<RouteReport> {
        Ok(self.agent(node)?.get(ROUTES)?)
    }

    /// The node's attachments.
    ///
    /// # Errors
    /// When its agent does not answer.
    pub fn attachments(&self, node: &str) -> Result<Vec<Attachment>> {
        let list: AttachmentList = self.agent(node)?.get(ATTACHMENTS)?;
        Ok(list.attachments)
    }

    /// Runs `roadbedctl` inside `node` on the shared store.
    ///
    /// # Errors
    /// With all of its output, when it fails.
    pub fn ctl(&self, node: &str, args: &[&str]) -> Result<String> {
        self.exec(node, &[&["roadbedctl", "--store", STORE], args].concat())
    }

    /// Puts the lab's resources into the store, from inside `node`.
    ///
    /// # Errors
    /// What `roadbedctl` says.
    pub fn apply(&self, node: &str) -> Result<String> {
        self.ctl(node, &["apply", "-f", RESOURCES])
    }

    /// Waits until the node's agent can start pods.
    ///
    /// # Errors
    /// With what it is waiting for.
    pub fn ready(&self, node: &str) -> Result<()> {
        self.until(READY, format!("the agent of {node} is ready"), || {
            let probe = self.agent(node)?.probe("/readyz")?;
            ensure!(probe.ok, "waiting for {}", probe.waiting_for.join("; "));
            Ok(())
        })
    }

    /// Waits until every peer of the node is Established and has sent its whole table.
    ///
    /// # Errors
    /// With the state of those that are not.
    pub fn established(&self, node: &str) -> Result<NodeStatus> {
        let what = format!("every BGP session of {node} is Established");
        self.until(READY, &what, || {
            let status = self.status(node)?;
            ensure!(!status.peers.is_empty(), "no peer selects {node}");
            for peer in &status.peers {
                ensure!(
                    peer.state == "Established",
                    "{} ({}) is {}{}",
                    peer.name,
                    peer.address,
                    peer.state,
                    peer.last_error
                        .as_ref()
                        .map(|e| format!(": {e}"))
                        .unwrap_or_default()
                );
            }
            Ok(status)
        })
    }

    /// Polls `look` until it succeeds, at most `limit`.
    ///
    /// # Errors
    /// After `limit`, with what was waited for and the last reason; at once when interrupted.
    pub fn until<T>(
        &self,
        limit: Duration,
        what: impl Display,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            self.uninterrupted()?;
            match look() {
                Ok(found) => return Ok(found),
                Err(reason) if Instant::now() >= deadline => {
                    return Err(reason.context(format!("not within {} s: {what}", limit.as_secs())));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn uninterrupted(&self) -> Result<()> {
        match &self.interrupted {
            Some(flag) if flag.load(Ordering::Relaxed) => bail!("interrupted"),
            _ => Ok(()),
        }
    }
}

/// The lines of a command's output that are JSON values.
///
/// # Errors
/// When one is not.
pub fn json_lines<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("`{line}`"));
    text.lines()
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect()
}
