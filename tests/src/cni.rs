//! A container runtime as section 3 of the CNI specification has it, to run any plugin's configuration list.
//!
//! Owns: the order of calls (ADD forwards, DEL backwards), what each plugin gets in its environment and on standard
//! input, the result that is kept for CHECK and DEL. Judges what comes back against section 5 ([`schema`]) and is strict
//! where libcni is not: it is there to find what another runtime would stumble over. Never retries, and changes nothing in a
//! result on its way from one plugin to the next.

pub mod schema;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::site::Site;

/// Where a node of a lab has Roadbed's plugin and Debian's (package `containernetworking-plugins`).
pub const PATHS: [&str; 2] = ["/usr/local/bin", "/usr/lib/cni"];

/// A network configuration list (section 1).
#[derive(Clone, Debug)]
pub struct NetworkList {
    /// `cniVersion`
    pub version: String,
    /// `name`
    pub name: String,
    /// `plugins`, each with `type`.
    pub plugins: Vec<Value>,
}

/// What section 2 calls the parameters of an attachment.
#[derive(Clone, Debug)]
pub struct Container {
    /// `CNI_CONTAINERID`
    pub id: String,
    /// `CNI_NETNS`, as the node sees it; empty once the namespace is gone (DEL only).
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// Capability arguments, for the plugins that declare them.
    pub capabilities: Map<String, Value>,
}

/// A plugin that failed as section 5 has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// `type` of the plugin.
    pub plugin: String,
    /// `CNI_COMMAND`
    pub command: String,
    /// `code`
    pub code: u64,
    /// `msg`, and `details` if there are any.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {}: error {}: {}",
            self.command, self.plugin, self.code, self.message
        )
    }
}

impl std::error::Error for Refusal {}

/// One execution of one plugin, as it ended.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Exit status 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error: logs.
    pub stderr: String,
}

/// Runs plugins on one node of a lab.
pub struct Runtime<'a> {
    site: &'a Site,
    node: String,
    /// Final results of ADD by network, container and interface.
    results: BTreeMap<(String, String, String), Value>,
}

impl NetworkList {
    /// A list.
    #[must_use]
    pub fn new(version: &str, name: &str, plugins: Vec<Value>) -> Self {
        Self {
            version: version.to_owned(),
            name: name.to_owned(),
            plugins,
        }
    }

    /// The execution configuration of one plugin (section 3, "Deriving execution configuration from plugin
    /// configuration").
    fn execution(&self, plugin: &Value, container: Option<&Container>) -> Value {
        let mut conf = plugin.clone();
        conf["cniVersion"] = json!(self.version);
        conf["name"] = json!(self.name);
        let declared = conf
            .as_object_mut()
            .and_then(|conf| conf.remove("capabilities"));
        let Some(container) = container else {
            return conf;
        };
        let declared = declared.unwrap_or_default();
        let runtime: Map<String, Value> = container
            .capabilities
            .iter()
            .filter(|(name, _)| declared[name.as_str()] == json!(true))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            conf["runtimeConfig"] = Value::Object(runtime);
        }
        conf
    }

    fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|n| n.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }
}

impl Container {
    /// A pod of Kubernetes in the node's namespace `/run/netns/<id>`, with `eth0`.
    #[must_use]
    pub fn pod(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            netns: format!("/run/netns/{id}"),
            ifname: "eth0".into(),
            args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={id}"),
            capabilities: Map::new(),
        }
    }

    /// With this interface instead of `eth0`.
    #[must_use]
    pub fn interface(mut self, ifname: &str) -> Self {
        self.ifname = ifname.to_owned();
        self
    }

    /// With a capability argument.
    #[must_use]
    pub fn capability(mut self, name: &str, value: Value) -> Self {
        self.capabilities.insert(name.to_owned(), value);
        self
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CNI_CONTAINERID", self.id.clone()),
            ("CNI_NETNS", self.netns.clone()),
            ("CNI_IFNAME", self.ifname.clone()),
            ("CNI_ARGS", self.args.clone()),
        ]
    }
}

impl<'a> Runtime<'a> {
    /// A runtime that knows of no container yet.
    #[must_use]
    pub fn new(site: &'a Site, node: &str) -> Self {
        Self {
            site,
            node: node.to_owned(),
            results: BTreeMap::new(),
        }
    }

    /// The versions that a plugin speaks; podman's way of asking, which is the barest.
    ///
    /// # Errors
    /// When the answer is not as section 5, "Version Success", has it.
    pub fn versions(&self, plugin: &str) -> Result<Vec<String>> {
        let environment = [
            ("CNI_NETNS", "dummy".to_owned()),
            ("CNI_IFNAME", "dummy".to_owned()),
        ];
        let stdin = json!({"cniVersion": "1.0.0"}).to_string();
        let run = self.execute(plugin, "VERSION", &environment, stdin.as_bytes())?;
        ensure!(run.ok, "VERSION of {plugin}: {}", run.stdout);
        let answer: Value = serde_json::from_str(&run.stdout)?;
        ensure!(answer["cniVersion"] == "1.0.0", "{answer}");
        let versions = answer["supportedVersions"]
            .as_array()
            .context("no supportedVersions")?;
        versions
            .iter()
            .map(|version| Ok(version.as_str().context("not a string")?.to_owned()))
            .collect()
    }

    /// ADD: each plugin in turn gets the result of the one before; the last one's is kept. After a failure, DEL, as
    /// runtimes do.
    ///
    /// # Errors
    /// A [`Refusal`], or a result that no runtime could read.
    pub fn add(&mut self, list: &NetworkList, container: &Container) -> Result<Value> {
        match self.add_chain(list, container) {
            Ok(result) => {
                self.results.insert(key(list, container), result.clone());
                Ok(result)
            }
            Err(error) => {
                self.del(list, container)
                    .with_context(|| format!("DEL after: {error:#}"))?;
                Err(error)
            }
        }
    }

    fn add_chain(&self, list: &NetworkList, container: &Container) -> Result<Value> {
        let mut previous: Option<Value> = None;
        for plugin in &list.plugins {
            let mut conf = list.execution(plugin, Some(container));
            if let Some(previous) = &previous {
                conf["prevResult"] = previous.clone();
            }
            let stdout = self.call(plugin, "ADD", container.environment(), &conf)?;
            let result: Value = serde_json::from_str(&stdout)
                .with_context(|| format!("ADD of {}: not JSON: {stdout}", plugin["type"]))?;
            schema::check_result(&result, &list.version)
                .with_context(|| format!("result of {}: {result}", plugin["type"]))?;
            previous = Some(result);
        }
        let result = previous.context("an empty list")?;
        schema::check_attachment(&result, &container.ifname, &container.netns)
            .with_context(|| result.to_string())?;
        Ok(result)
    }

    /// CHECK: in the order of ADD, each plugin with the final result.
    ///
    /// # Errors
    /// A [`Refusal`], output where there may be none, or nothing was added.
    pub fn check(&self, list: &NetworkList, container: &Container) -> Result<()> {
        let result = self
            .results
            .get(&key(list, container))
            .context("CHECK of what was not added")?;
        for plugin in &list.plugins {
            let mut conf = list.execution(plugin, Some(container));
            conf["prevResult"] = result.clone();
            self.silent(plugin, "CHECK", container.environment(), &conf)?;
        }
        Ok(())
    }

    /// DEL: in the reverse order, each plugin with the final result if there is one (since 0.4.0).
    ///
    /// # Errors
    /// A [`Refusal`], or output where there may be none.
    pub fn del(&mut self, list: &NetworkList, container: &Container) -> Result<()> {
        let result = self.results.get(&key(list, container));
        for plugin in list.plugins.iter().rev() {
            let mut conf = list.execution(plugin, Some(container));
            if let (Some(result), true) = (result, list.at_least(0, 4)) {
                conf["prevResult"] = result.clone();
            }
            self.silent(plugin, "DEL", container.environment(), &conf)?;
        }
        self.results.remove(&key(list, container));
        Ok(())
    }

    /// GC: all that was added to this network and not deleted is valid, but for what was [forgotten](Self::forget).
    ///
    /// # Errors
    /// A [`Refusal`], or output where there may be none.
    pub fn gc(&self, list: &NetworkList) -> Result<()> {
        let valid: Vec<Value> = self
            .results
            .keys()
            .filter(|(network, _, _)| *network == list.name)
            .map(|(_, id, ifname)| json!({"containerID": id, "ifname": ifname}))
            .collect();
        for plugin in &list.plugins {
            let mut conf = list.execution(plugin, None);
            conf["cni.dev/valid-attachments"] = json!(valid);
            self.silent(plugin, "GC", Vec::new(), &conf)?;
        }
        Ok(())
    }

    /// STATUS of each plugin.
    ///
    /// # Errors
    /// A [`Refusal`], or output where there may be none.
    pub fn status(&self, list: &NetworkList) -> Result<()> {
        for plugin in &list.plugins {
            let conf = list.execution(plugin, None);
            self.silent(plugin, "STATUS", Vec::new(), &conf)?;
        }
        Ok(())
    }

    /// Loses what is known of an attachment, as a runtime does that crashed.
    pub fn forget(&mut self, list: &NetworkList, container: &Container) {
        self.results.remove(&key(list, container));
    }

    fn silent(
        &self,
        plugin: &Value,
        command: &str,
        environment: Vec<(&'static str, String)>,
        conf: &Value,
    ) -> Result<()> {
        let stdout = self.call(plugin, command, environment, conf)?;
        ensure!(
            stdout.trim().is_empty(),
            "{command} of {} printed {stdout}",
            plugin["type"]
        );
        Ok(())
    }

    fn call(
        &self,
        plugin: &Value,
        command: &str,
        environment: Vec<(&'static str, String)>,
        conf: &Value,
    ) -> Result<String> {
        let kind = plugin["type"].as_str().context("a plugin without type")?;
        let run = self.execute(kind, command, &environment, conf.to_string().as_bytes())?;
        if run.ok {
            return Ok(run.stdout);
        }
        let error: Value = serde_json::from_str(&run.stdout).with_context(|| {
            format!("{command} of {kind} failed without an error object: {run:?}")
        })?;
        schema::check_error(&error, conf["cniVersion"].as_str())
            .with_context(|| format!("error of {kind}: {error}"))?;
        let details = error["details"].as_str().unwrap_or_default();
        bail!(Refusal {
            plugin: kind.to_owned(),
            command: command.to_owned(),
            code: error["code"].as_u64().unwrap_or_default(),
            message: format!("{} {details}", error["msg"].as_str().unwrap_or_default()),
        })
    }

    /// Executes a plugin as section 3 has it, with nothing checked. The environment is `environment`, `CNI_COMMAND`,
    /// `CNI_PATH` and what any program gets.
    ///
    /// # Errors
    /// When there is no such plugin or it cannot be started.
    pub fn execute(
        &self,
        plugin: &str,
        command: &str,
        environment: &[(&str, String)],
        stdin: &[u8],
    ) -> Result<Execution> {
        let mut found = PATHS.iter().map(|dir| format!("{dir}/{plugin}"));
        let program = found
            .find(|path| {
                self.site
                    .path(&self.node, path)
                    .is_ok_and(|path| path.is_file())
            })
            .with_context(|| format!("no plugin {plugin} in {}", PATHS.join(", ")))?;
        let mut child = self
            .site
            .lab()
            .command(&self.node, &[&program])?
            .env("CNI_COMMAND", command)
            .env("CNI_PATH", PATHS.join(":"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| program.clone())?;
        if let Some(mut pipe) = child.stdin.take() {
            // A plugin that refuses its environment does not read on; its answer says why.
            let _ = pipe.write_all(stdin);
        }
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Execution {
            ok: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

/// The refusal inside an error of [`Runtime`].
///
/// # Errors
/// That error itself, when a plugin did something worse than to refuse.
pub fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Result<Refusal> {
    match result {
        Ok(done) => bail!("it succeeded: {done:?}"),
        Err(error) => error.downcast::<Refusal>(),
    }
}

fn key(list: &NetworkList, container: &Container) -> (String, String, String) {
    (
        list.name.clone(),
        container.id.clone(),
        container.ifname.clone(),
    )
}
