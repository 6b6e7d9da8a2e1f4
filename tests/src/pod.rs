//! Pods: network namespaces inside a node, wired by the plugin as a container runtime calls it.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail, ensure};
use roadbed_api::agent::AttachmentKey;
use roadbed_api::names::{DEFAULT_RUN_DIR, host_ifname};
use serde_json::{Value, json};

use crate::probe::LISTENING;
use crate::site::Site;

/// Name of the network in the configuration that the plugin gets.
pub const NETWORK: &str = "pods";
/// The pod's interface.
pub const IFNAME: &str = "eth0";

/// A namespace on a node, wired or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// The node.
    pub node: String,
    /// Name of the namespace, and of the pod.
    pub name: String,
    /// What ADD gave, IPv4 first; empty while not wired.
    pub addresses: Vec<IpAddr>,
}

/// What a plugin run came to.
#[derive(Clone, Debug)]
pub struct PluginRun {
    /// Exit code 0.
    pub ok: bool,
    /// Standard output: a result, an error object, or nothing.
    pub stdout: String,
    /// Log lines.
    pub stderr: String,
}

/// One plugin call; a runtime fills it in.
#[derive(Clone, Debug)]
pub struct Call {
    /// `CNI_COMMAND`
    pub command: &'static str,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`
    pub netns: String,
    /// `CNI_ARGS`
    pub args: String,
    /// Standard input.
    pub stdin: Vec<u8>,
}

impl PluginRun {
    /// The result or error object.
    ///
    /// # Errors
    /// When standard output holds none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!(
                "the plugin printed {:?} and logged {:?}",
                self.stdout, self.stderr
            )
        })
    }

    /// Code and message of a failed run.
    ///
    /// # Errors
    /// When it did not fail as the CNI spec has it.
    pub fn error(&self) -> Result<(u64, String)> {
        ensure!(!self.ok, "the plugin succeeded: {}", self.stdout);
        let object = self.json()?;
        let code = object["code"].as_u64().context("no code")?;
        let msg = object["msg"].as_str().context("no msg")?;
        Ok((code, msg.to_owned()))
    }
}

/// The network configuration, as a runtime hands it over.
#[must_use]
pub fn network() -> Value {
    json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "roadbed", "runDir": DEFAULT_RUN_DIR})
}

impl Pod {
    /// A pod to be.
    #[must_use]
    pub fn new(node: &str, name: &str) -> Self {
        Self {
            node: node.to_owned(),
            name: name.to_owned(),
            addresses: Vec::new(),
        }
    }

    /// What the agent knows the attachment by.
    #[must_use]
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey {
            network: NETWORK.into(),
            container_id: self.name.clone(),
            ifname: IFNAME.into(),
        }
    }

    /// Name of the link's end on the node.
    #[must_use]
    pub fn host_ifname(&self) -> String {
        host_ifname(&self.key())
    }

    /// A plugin call for this pod.
    #[must_use]
    pub fn call(&self, command: &'static str) -> Call {
        Call {
            command,
            container_id: self.name.clone(),
            netns: format!("/run/netns/{}", self.name),
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={}",
                self.name
            ),
            stdin: network().to_string().into_bytes(),
        }
    }

    /// Makes the namespace.
    ///
    /// # Errors
    /// When the node does not let us.
    pub fn make(&self, site: &Site) -> Result<()> {
        site.run(&self.node, &format!("ip netns add {}", self.name))?;
        site.run(&self.node, &format!("ip -n {} link set lo up", self.name))?;
        Ok(())
    }

    /// Removes the namespace.
    ///
    /// # Errors
    /// When there is none.
    pub fn unmake(&self, site: &Site) -> Result<()> {
        site.run(&self.node, &format!("ip netns del {}", self.name))?;
        Ok(())
    }

    /// ADD; keeps the addresses.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn add(&mut self, site: &Site) -> Result<Value> {
        let run = plugin(site, &self.node, &self.call("ADD"))?;
        ensure!(
            run.ok,
            "ADD of {} on {}: {}{}",
            self.name,
            self.node,
            run.stdout,
            run.stderr
        );
        let result = run.json()?;
        self.addresses = addresses(&result)?;
        Ok(result)
    }

    /// Makes the namespace and wires it.
    ///
    /// # Errors
    /// As [`Pod::make`] and [`Pod::add`].
    pub fn start(site: &Site, node: &str, name: &str) -> Result<Self> {
        let mut pod = Self::new(node, name);
        pod.make(site)?;
        pod.add(site)?;
        Ok(pod)
    }

    /// DEL.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn del(&self, site: &Site) -> Result<()> {
        let run = plugin(site, &self.node, &self.call("DEL"))?;
        ensure!(
            run.ok,
            "DEL of {} on {}: {}{}",
            self.name,
            self.node,
            run.stdout,
            run.stderr
        );
        Ok(())
    }

    /// Runs a command inside the pod.
    ///
    /// # Errors
    /// With all of its output, when it fails.
    pub fn exec(&self, site: &Site, argv: &[&str]) -> Result<String> {
        let inside = ["ip", "netns", "exec", self.name.as_str()];
        site.exec(&self.node, &[&inside, argv].concat())
    }

    /// Its address of one family.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, v6: bool) -> Result<IpAddr> {
        let found = self.addresses.iter().copied().find(|a| a.is_ipv6() == v6);
        found.with_context(|| {
            format!(
                "{} has no {} address",
                self.name,
                if v6 { "IPv6" } else { "IPv4" }
            )
        })
    }

    /// Starts a listener for TCP transfers inside the pod and waits until it listens. It ends when dropped.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn listen(&self, site: &Site) -> Result<Listener> {
        let helper = site.helper();
        let inside = ["ip", "netns", "exec", &self.name, &helper];
        listen(
            site,
            &self.node,
            &[&inside, &["probe", "listen"][..]].concat(),
        )
    }
}

/// A running listener; killed on drop.
#[derive(Debug)]
pub struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended with its pod.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a listener inside `node` and waits until it listens. It ends when dropped.
///
/// # Errors
/// When it does not come up.
pub fn listen(site: &Site, node: &str, argv: &[&str]) -> Result<Listener> {
    let child = site
        .lab()
        .command(node, argv)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut listener = Listener(child);
    let mut line = String::new();
    if let Some(stdout) = &mut listener.0.stdout {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() != LISTENING {
        bail!("{node}: `{}` does not listen: {line}", argv.join(" "));
    }
    Ok(listener)
}

/// Calls the plugin inside `node` as a runtime would: environment, configuration on standard input.
///
/// # Errors
/// When it cannot be started; a failing plugin is no error.
pub fn plugin(site: &Site, node: &str, call: &Call) -> Result<PluginRun> {
    plugin_run(start_plugin(site, node, call)?)
}

/// Starts the plugin as [`plugin`] does, without waiting for its answer.
///
/// # Errors
/// When it cannot be started.
pub fn start_plugin(site: &Site, node: &str, call: &Call) -> Result<Child> {
    let mut child = site
        .lab()
        .command(node, &["/usr/local/bin/roadbed"])?
        .env("CNI_COMMAND", call.command)
        .env("CNI_CONTAINERID", &call.container_id)
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", IFNAME)
        .env("CNI_PATH", "/usr/local/bin")
        .env("CNI_ARGS", &call.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the plugin cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that refuses its environment does not read on; its answer says why.
        let _ = stdin.write_all(&call.stdin);
    }
    Ok(child)
}

/// Waits for the plugin's end: until its pipes are closed.
///
/// # Errors
/// When they cannot be read.
pub fn plugin_run(child: Child) -> Result<PluginRun> {
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(PluginRun {
        ok: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// The addresses of a result, IPv4 first.
///
/// # Errors
/// When one is none, or not a whole address (/32, /128).
pub fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().context("a result without ips")?;
    let mut addresses = Vec::new();
    for ip in ips {
        let net: ipnet::IpNet = ip["address"]
            .as_str()
            .context("an ip without address")?
            .parse()?;
        ensure!(
            net.prefix_len() == net.max_prefix_len(),
            "{net} is not a single address"
        );
        addresses.push(net.addr());
    }
    addresses.sort();
    Ok(addresses)
}
