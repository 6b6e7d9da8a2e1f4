//! The steps of `up`: record, stage the nodes, connect them, start their programs, run their `exec` lines.
//!
//! Each step only makes; the caller undoes everything when one fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{Lab, Options, base_dir, check, lab_exe, node_error};
use crate::control::{self, Request};
use crate::error::{LabError, Tried};
use crate::process::Process;
use crate::state::{NodeState, State};
use crate::topology::{Node, Topology};
use crate::{init, netdev, plan};

/// How long a node may take to become whole.
const NODE_LIMIT: Duration = Duration::from_secs(20);
/// How long one `exec` line may run.
const EXEC_LIMIT: Duration = Duration::from_secs(60);

impl Lab {
    pub(super) fn prepare(topology: &Topology, options: &Options) -> Result<Lab, LabError> {
        let name = options
            .name
            .clone()
            .unwrap_or_else(|| topology.name.clone());
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty()
            || name.len() > 63
            || name.starts_with(['.', '-'])
            || !name.chars().all(sound)
        {
            let message =
                format!("{name:?} is not a name for a lab: letters, digits, `.`, `_`, `-`");
            return Err(LabError::Refused(message));
        }
        let base = base_dir(options);
        fs::create_dir_all(&base).tried(|| format!("make {}", base.display()))?;
        let base = base
            .canonicalize()
            .tried(|| format!("look at {}", base.display()))?;
        let dir = base.join(&name);
        let longest = topology
            .nodes
            .iter()
            .map(|node| node.name.len())
            .max()
            .unwrap_or(0);
        // A unix socket's path has at most 107 bytes.
        if dir.as_os_str().len() + longest + control::SOCKET.len() + 2 > 107 {
            let message = format!(
                "{} is too long for sockets below it; choose a shorter directory",
                dir.display()
            );
            return Err(LabError::Refused(message));
        }
        let node = |node: &Node| NodeState {
            name: node.name.clone(),
            kind: "linux".to_owned(),
            image: node.image.clone(),
            netns: topology.outside_name(&name, &node.name),
            env: plan::environment(node, &options.env),
        };
        let state = State {
            name: name.clone(),
            topology: topology.file.clone(),
            creator: Process::find(i32::try_from(std::process::id()).unwrap_or_default()),
            nodes: topology.nodes.iter().map(node).collect(),
        };
        let exists = |netns: &str| {
            LabError::Refused(format!(
                "the name {netns} is taken ({}); another lab or tool owns it",
                netdev::path(netns).display()
            ))
        };
        let exe = lab_exe(options)?;
        if State::load(&dir)?.is_none()
            && let Some(taken) = state.nodes.iter().find(|n| netdev::path(&n.netns).exists())
        {
            return Err(exists(&taken.netns));
        }
        if !state.create(&base)? {
            return Err(LabError::Exists {
                name,
                dir,
                file: topology.file.clone(),
            });
        }
        Ok(Lab {
            state,
            dir,
            exe,
            progress: options.progress.clone(),
            down_on_drop: false,
        })
    }

    pub(super) fn realise(&self, topology: &Topology, options: &Options) -> Result<(), LabError> {
        let interrupted = options.interrupted.as_deref();
        let bin_dir = match &options.bin_dir {
            Some(dir) => dir
                .canonicalize()
                .tried(|| format!("look at {}", dir.display()))?,
            None => self.exe.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        self.say(&format!(
            "lab {}: {} nodes, {} links",
            self.state.name,
            topology.nodes.len(),
            topology.links.len()
        ));
        for (node, recorded) in topology.nodes.iter().zip(&self.state.nodes) {
            check(interrupted)?;
            let dir = self.dir.join(&node.name);
            fs::create_dir_all(&dir).tried(|| format!("make {}", dir.display()))?;
            let spec = plan::spec(topology, node, &self.dir, &bin_dir, recorded.env.clone())?;
            let text = serde_json::to_vec_pretty(&spec).map_err(std::io::Error::from);
            text.and_then(|text| fs::write(dir.join(init::SPEC), text))
                .tried(|| format!("write the spec of {}", node.name))?;
            self.stage(&node.name, &dir)?;
        }
        for node in &self.state.nodes {
            self.whole(&node.name, interrupted)?;
            netdev::name(&node.netns, self.identity(&node.name)?.pid)?;
            self.say(&format!(
                "node {}: {} in {}",
                node.name, node.image, node.netns
            ));
        }
        check(interrupted)?;
        netdev::connect(topology, |node| {
            topology.outside_name(&self.state.name, node)
        })?;
        self.say(&format!("{} links up", topology.links.len()));
        for node in self.nodes() {
            self.ask(node, Request::Start)?;
        }
        for node in self.nodes() {
            let status = self.settled(node, interrupted)?;
            for program in status
                .programs
                .iter()
                .filter(|program| program.pid.is_none())
            {
                self.say(&format!(
                    "node {node}: {} {} ({})",
                    program.name,
                    program.state,
                    self.log(node, &program.name)
                ));
            }
            if let Some(warning) = status.warning {
                self.say(&format!(
                    "node {node}: {warning} ({})",
                    self.log(node, "boot")
                ));
            }
        }
        self.say("programs started");
        for node in &topology.nodes {
            for line in &node.exec {
                self.exec_line(&node.name, line, interrupted)?;
            }
        }
        self.say("exec lines done");
        Ok(())
    }

    fn stage(&self, node: &str, dir: &Path) -> Result<(), LabError> {
        let output = Command::new(&self.exe)
            .arg(init::STAGE)
            .arg(dir)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output()
            .tried(|| format!("start {}", self.exe.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(node_error(node, "make the namespaces", message))
    }

    fn whole(&self, node: &str, interrupted: Option<&AtomicBool>) -> Result<(), LabError> {
        let socket = self.dir.join(node).join(control::SOCKET);
        let deadline = Instant::now() + NODE_LIMIT;
        while !socket.exists() {
            check(interrupted)?;
            self.identity(node)?;
            if Instant::now() >= deadline {
                return Err(node_error(node, "build the node", "took too long"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn exec_line(
        &self,
        node: &str,
        line: &[String],
        interrupted: Option<&AtomicBool>,
    ) -> Result<(), LabError> {
        let path = self.dir.join(node).join("exec.log");
        let step = || format!("exec `{}`", line.join(" "));
        let log = || fs::File::options().create(true).append(true).open(&path);
        let stdio = || log().tried(|| format!("open {}", path.display()));
        let before = fs::metadata(&path).map_or(0, |meta| meta.len());
        let mut child = self
            .command(node, line)?
            .stdin(Stdio::null())
            .stdout(stdio()?)
            .stderr(stdio()?)
            .spawn()
            .tried(step)?;
        let deadline = Instant::now() + EXEC_LIMIT;
        let outcome = loop {
            if let Some(status) = child.try_wait().tried(step)? {
                break if status.success() {
                    return Ok(());
                } else {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    let said = text
                        .get(usize::try_from(before).unwrap_or(0)..)
                        .unwrap_or("");
                    Err(node_error(
                        node,
                        &step(),
                        format!("{status}: {}", said.trim()),
                    ))
                };
            }
            if let Err(error) = check(interrupted) {
                break Err(error);
            }
            if Instant::now() >= deadline {
                break Err(node_error(node, &step(), "took too long"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // Ended already, or must end now.
        let _ = child.kill();
        let _ = child.wait();
        outcome
    }
}
