//! A Kubernetes cluster that tests attach to: the bed of `tests/kube`, or one of the user's own (`KUBECONFIG`).
//!
//! The cluster is made by `make test-kube` before the tests and removed after them; the tests share it, one at a time.

mod ping;
mod pods;
mod tor;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use ping::{Ping, Sent, netns_of};
pub use pods::{Pods, Server};
pub use tor::Tor;

use crate::wait::eventually;

/// Namespace of the agents.
pub const SYSTEM: &str = "roadbed-system";
/// Namespace of the tests' pods, under the Pod Security level `restricted`.
pub const NAMESPACE: &str = "roadbed-test";
/// The client of container runtimes, on a node of the bed.
pub const CRICTL: &str = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock";
/// Longest time for what usually takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The script that drives the bed; `None` on somebody else's cluster.
    bed: Option<PathBuf>,
}

impl Cluster {
    /// The cluster of the environment.
    ///
    /// # Panics
    /// Without `KUBECONFIG`.
    #[must_use]
    pub fn attach() -> Self {
        assert!(
            std::env::var_os("KUBECONFIG").is_some(),
            "no cluster: run `make test-kube`"
        );
        Self {
            bed: std::env::var_os("ROADBED_BED").map(PathBuf::from),
        }
    }

    /// The cluster, when it is the bed, whose nodes are namespaces of this machine. Says so when it is not.
    #[must_use]
    pub fn bed() -> Option<Self> {
        let cluster = Self::attach();
        if cluster.bed.is_none() {
            println!("NOT RUN: needs the bed, whose nodes are namespaces of this machine");
            return None;
        }
        Some(cluster)
    }

    /// This is the bed.
    #[must_use]
    pub fn is_bed(&self) -> bool {
        self.bed.is_some()
    }

    /// Runs `kubectl`.
    ///
    /// # Errors
    /// With all that it printed, when it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        finished(Command::new("kubectl").args(args).output(), args)
    }

    /// Runs `kubectl` with a manifest on standard input.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn kubectl_with(&self, args: &[&str], manifest: &str) -> Result<String> {
        let mut child = Command::new("kubectl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(manifest.as_bytes())?;
        }
        finished(child.wait_with_output(), args)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// The answer of `kubectl get ARGS -o json`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let all = [&["get"], args, &["-o", "json"]].concat();
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// The objects of such an answer.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn items(&self, args: &[&str]) -> Result<Vec<Value>> {
        let mut list = self.get(args)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("{args:?}: no list"),
        }
    }

    /// Names of the nodes, in their order.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn nodes(&self) -> Result<Vec<String>> {
        let names = self.items(&["nodes"])?.into_iter();
        let mut names: Vec<String> = names.map(|n| name(&n)).collect();
        names.sort();
        Ok(names)
    }

    /// `InternalIP`s of a node.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn node_addresses(&self, node: &str) -> Result<Vec<String>> {
        let node = self.get(&["node", node])?;
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        Ok(addresses
            .filter(|a| a["type"] == "InternalIP")
            .map(|a| text(&a["address"]))
            .collect())
    }

    /// Whether each node is Ready, by its name.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn ready(&self) -> Result<BTreeMap<String, bool>> {
        let ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        Ok(self
            .items(&["nodes"])?
            .iter()
            .map(|n| (name(n), ready(n)))
            .collect())
    }

    /// The agent's pod on a node.
    ///
    /// # Errors
    /// When there is none that runs.
    pub fn agent(&self, node: &str) -> Result<String> {
        let selector = format!("spec.nodeName={node},status.phase=Running");
        let pods = self.items(&[
            "pods",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=roadbed-agent",
            "--field-selector",
            &selector,
        ])?;
        let living = |p: &&Value| p["metadata"]["deletionTimestamp"].is_null();
        let pod = pods.iter().find(living).context("no agent runs there")?;
        Ok(name(pod))
    }

    /// Runs `roadbedctl` beside the agent of a node.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn roadbedctl(&self, node: &str, args: &[&str]) -> Result<String> {
        let pod = self.agent(node)?;
        let exec = ["exec", "-n", SYSTEM, &pod, "--", "roadbedctl"];
        self.kubectl(&[&exec, args].concat())
    }

    /// The agent's status.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn status(&self, node: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.roadbedctl(node, &["status", "-o", "json"])?,
        )?)
    }

    /// Sessions of a node: name to FSM state.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn sessions(&self, node: &str) -> Result<BTreeMap<String, String>> {
        let status = self.status(node)?;
        let peers = status["peers"].as_array().into_iter().flatten();
        Ok(peers
            .map(|p| (text(&p["name"]), text(&p["state"])))
            .collect())
    }

    /// Succeeds when these, and no other, sessions of a node are Established.
    ///
    /// # Errors
    /// With those that are there.
    pub fn has_sessions(&self, node: &str, expected: &[&str]) -> Result<()> {
        let sessions = self.sessions(node)?;
        let names: Vec<&str> = sessions.keys().map(String::as_str).collect();
        ensure!(
            names == expected,
            "{node}: sessions {names:?}, expected {expected:?}"
        );
        for (name, state) in &sessions {
            ensure!(state == "Established", "{node}: {name} is {state}");
        }
        Ok(())
    }

    /// One condition of a node's agent: its status and message.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn condition(&self, node: &str, kind: &str) -> Result<Option<(String, String)>> {
        let status = self.status(node)?;
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut of_kind = conditions.filter(|c| c["type"] == kind);
        Ok(of_kind
            .next()
            .map(|c| (text(&c["status"]), text(&c["message"]))))
    }

    /// Runs the script of the bed.
    ///
    /// # Errors
    /// With all that it printed, when it fails; on another cluster.
    pub fn drive(&self, args: &[&str]) -> Result<String> {
        let bed = self.bed.as_ref().context("this cluster is not the bed")?;
        finished(Command::new(bed).args(args).output(), args)
    }

    /// Runs a command line in the namespaces of a node of the bed; words are separated by blanks.
    ///
    /// # Errors
    /// As [`Cluster::drive`].
    pub fn on(&self, node: &str, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.drive(&[&["node-exec", node], words.as_slice()].concat())
    }

    /// A command in the namespaces of a node, to be run in the background.
    ///
    /// # Panics
    /// On another cluster.
    #[must_use]
    pub fn command_on(&self, node: &str, line: &str) -> Command {
        let bed = self.bed.as_ref().expect("this is the bed");
        let mut command = Command::new(bed);
        command
            .args(["node-exec", node])
            .args(line.split_whitespace());
        command
    }

    /// Process of the agent's container on a node of the bed.
    ///
    /// # Errors
    /// When none runs.
    pub fn agent_pid(&self, node: &str) -> Result<i32> {
        let id = self.on(
            node,
            &format!("{CRICTL} ps --state running --name agent -q"),
        )?;
        let id = id.lines().next().context("no agent runs")?;
        let inspected = self.on(node, &format!("{CRICTL} inspect -o json {id}"))?;
        let inspected: Value = serde_json::from_str(&inspected)?;
        let pid = inspected["info"]["pid"].as_i64().context("no pid")?;
        Ok(i32::try_from(pid)?)
    }

    /// Runs the `roadbedctl` of this machine in the namespaces of a node of the bed: needs neither kubelet nor API
    /// server.
    ///
    /// # Errors
    /// As [`Cluster::drive`].
    pub fn roadbedctl_on(&self, node: &str, args: &str) -> Result<String> {
        let folder = std::env::var("ROADBED_BIN").context("ROADBED_BIN")?;
        self.on(node, &format!("{folder}/roadbedctl {args}"))
    }

    /// Waits until all nodes are Ready and all agents are.
    ///
    /// # Panics
    /// When they do not become so.
    pub fn settle(&self) {
        eventually(PATIENCE, "all nodes and agents are ready", || {
            let ready = self.ready()?;
            ensure!(ready.values().all(|r| *r), "nodes: {ready:?}");
            let agents = self.get(&["daemonset", "-n", SYSTEM, "roadbed-agent"])?;
            let status = &agents["status"];
            ensure!(
                status["numberReady"] == status["desiredNumberScheduled"]
                    && status["observedGeneration"] == agents["metadata"]["generation"]
                    && status["updatedNumberScheduled"] == status["desiredNumberScheduled"],
                "agents: {status}"
            );
            Ok(())
        });
    }
}

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> String {
    text(&object["metadata"]["name"])
}

/// A JSON string, or nothing.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn finished(output: std::io::Result<Output>, args: &[&str]) -> Result<String> {
    let output = output.with_context(|| format!("{args:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{args:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
