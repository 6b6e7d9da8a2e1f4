//! A running lab: bring up, look into, take down.
//!
//! Owns the order of things and the undoing. A [`Lab`] is only a handle: the nodes live on without it, unless
//! [`Options::down_on_drop`] asks otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::control::{self, Request, Status};
use crate::error::{LabError, Tried};
use crate::process::{self, Process};
use crate::state::{NodeState, State};
use crate::topology::Topology;
use crate::{enter, init, netdev};

mod up;

/// Where labs live unless `ROADBED_LAB_DIR` or [`Options::base_dir`] says otherwise.
pub const BASE_DIR: &str = "/run/roadbed-lab";
/// How long the programs of all nodes may take to be configured.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How long nodes get to end by themselves, then to be killed.
const TERM_LIMIT: Duration = Duration::from_secs(4);
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What is told while a lab comes up or goes: one line each.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How a lab is brought up.
#[derive(Clone, Default)]
pub struct Options {
    /// Another name than the file's, so that one file can be up several times.
    pub name: Option<String>,
    /// Where labs live; default [`BASE_DIR`].
    pub base_dir: Option<PathBuf>,
    /// Where Roadbed's binaries are; default: where `roadbed-lab` is.
    pub bin_dir: Option<PathBuf>,
    /// The `roadbed-lab` binary that nodes run; default: this one, or the one beside (or one above) the current binary.
    pub lab_exe: Option<PathBuf>,
    /// More environment for every node.
    pub env: BTreeMap<String, String>,
    /// Told what happens.
    pub progress: Option<Progress>,
    /// Set from elsewhere to stop and undo an `up` that runs.
    pub interrupted: Option<Arc<AtomicBool>>,
    /// Whether dropping the handle takes the lab down.
    pub down_on_drop: bool,
}

/// A handle on a lab that is up.
pub struct Lab {
    state: State,
    dir: PathBuf,
    exe: PathBuf,
    progress: Option<Progress>,
    down_on_drop: bool,
}

/// A node as `inspect` shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NodeView {
    /// Name in the lab.
    pub name: String,
    /// Always `linux`.
    pub kind: String,
    /// The image as the file has it.
    pub image: String,
    /// `running`, `dead`, or the programs that do not run and why.
    pub state: String,
    /// First process, in the machine's pid namespace.
    pub pid: Option<i32>,
    /// Outside name, for `ip netns exec`.
    pub netns: String,
    /// `interface address/length`.
    pub addresses: Vec<String>,
    /// The programs.
    pub status: Option<Status>,
}

impl Lab {
    /// Brings `topology` up and returns once every `exec` line has run. A failure undoes what was made.
    ///
    /// # Errors
    /// The first step that failed; [`LabError::Exists`] when a lab of that name is up.
    pub fn up(topology: &Topology, options: &Options) -> Result<Lab, LabError> {
        let mut lab = Lab::prepare(topology, options)?;
        let steps = lab.realise(topology, options);
        let done = steps.and_then(|()| {
            lab.state.creator = None;
            lab.state.save(&lab.dir)
        });
        if let Err(error) = done {
            lab.say("undoing");
            if let Err(undo) = lab.take_down() {
                lab.say(&format!("undoing failed too: {undo}"));
            }
            return Err(error);
        }
        lab.down_on_drop = options.down_on_drop;
        Ok(lab)
    }

    /// Finds a lab that is up.
    ///
    /// # Errors
    /// [`LabError::Missing`] when there is none.
    pub fn find(name: &str, options: &Options) -> Result<Lab, LabError> {
        let base = base_dir(options);
        let dir = base.join(name);
        let Some(state) = State::load(&dir)? else {
            return Err(LabError::Missing {
                name: name.to_owned(),
                dir: base,
            });
        };
        Ok(Lab {
            state,
            dir,
            exe: lab_exe(options)?,
            progress: options.progress.clone(),
            down_on_drop: false,
        })
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The lab's directory: `__clabDir__`, and below it one directory per node with its logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Node names in file order.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.state.nodes.iter().map(|node| node.name.as_str())
    }

    /// Outside name of a node's network namespace.
    ///
    /// # Errors
    /// [`LabError::NoNode`].
    pub fn netns(&self, node: &str) -> Result<&str, LabError> {
        self.recorded(node).map(|node| node.netns.as_str())
    }

    /// Pid of a node's first process, in the machine's pid namespace.
    ///
    /// # Errors
    /// [`LabError::NoNode`], or the node is dead.
    pub fn node_pid(&self, node: &str) -> Result<i32, LabError> {
        self.recorded(node)?;
        self.identity(node).map(|process| process.pid)
    }

    /// A command that runs `args` inside `node`: its namespaces, root and environment, nothing of the caller's.
    ///
    /// # Errors
    /// [`LabError::NoNode`], or the node is dead.
    pub fn command<S: AsRef<str>>(&self, node: &str, args: &[S]) -> Result<Command, LabError> {
        let env = &self.recorded(node)?.env;
        let mut command = Command::new(&self.exe);
        command
            .arg(enter::ENTER)
            .arg(self.node_pid(node)?.to_string())
            .args(args.iter().map(AsRef::as_ref))
            .env_clear()
            .envs(env);
        Ok(command)
    }

    /// Runs `args` inside `node` to its end.
    ///
    /// # Errors
    /// As [`Lab::command`], or it could not be started.
    pub fn exec<S: AsRef<str>>(&self, node: &str, args: &[S]) -> Result<Output, LabError> {
        self.command(node, args)?
            .stdin(Stdio::null())
            .output()
            .tried(|| format!("run a command in {node}"))
    }

    /// Starts `args` inside `node`, output captured; killing the child kills the command too.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn spawn<S: AsRef<str>>(&self, node: &str, args: &[S]) -> Result<Child, LabError> {
        self.command(node, args)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .tried(|| format!("run a command in {node}"))
    }

    /// What the node's programs do.
    ///
    /// # Errors
    /// [`LabError::NoNode`], or the node does not answer.
    pub fn status(&self, node: &str) -> Result<Status, LabError> {
        self.ask(node, Request::Status)
    }

    /// Sends `signal` to the node's programs; nothing restarts them.
    ///
    /// # Errors
    /// As [`Lab::status`].
    pub fn kill_main(&self, node: &str, signal: Signal) -> Result<Status, LabError> {
        self.ask(node, Request::Kill(signal as i32))
    }

    /// Starts those of the node's programs that do not run, and waits until they are configured.
    ///
    /// # Errors
    /// As [`Lab::status`], or they were not configured in time.
    pub fn start_main(&self, node: &str) -> Result<Status, LabError> {
        self.ask(node, Request::Start)?;
        self.settled(node, None)
    }

    /// [`Lab::kill_main`] with TERM, waiting for the end (KILL after five seconds), then [`Lab::start_main`].
    ///
    /// # Errors
    /// As [`Lab::start_main`].
    pub fn restart_main(&self, node: &str) -> Result<Status, LabError> {
        self.kill_main(node, Signal::SIGTERM)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.status(node)?.programs.iter().any(|p| p.pid.is_some()) {
            if Instant::now() >= deadline {
                self.kill_main(node, Signal::SIGKILL)?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.start_main(node)
    }

    /// Every node with its state and addresses.
    #[must_use]
    pub fn inspect(&self) -> Vec<NodeView> {
        self.state
            .nodes
            .iter()
            .map(|node| self.view(node))
            .collect()
    }

    /// Takes the lab down; nothing of it is left.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.down_on_drop = false;
        self.take_down()
    }

    fn settled(&self, node: &str, interrupted: Option<&AtomicBool>) -> Result<Status, LabError> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            check(interrupted)?;
            let status = self.status(node)?;
            if status.settled {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(node_error(node, "configure the programs", "took too long"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn take_down(&self) -> Result<(), LabError> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        if let Some(creator) = self.state.creator
            && creator.pid != own
            && creator.alive()
        {
            return Err(LabError::Busy {
                name: self.state.name.clone(),
                pid: creator.pid,
            });
        }
        let inits = process::inits_below(&self.dir);
        self.say(&format!("stopping {} nodes", inits.len()));
        for init in &inits {
            init.signal(Signal::SIGTERM);
        }
        for stubborn in process::wait_gone(&inits, TERM_LIMIT) {
            stubborn.signal(Signal::SIGKILL);
        }
        // Again from the process table: a stage may have started its node meanwhile.
        let mut left = process::inits_below(&self.dir);
        left.iter().for_each(|init| init.signal(Signal::SIGKILL));
        left = process::wait_gone(&left, KILL_LIMIT);
        if let Some(stuck) = left.first() {
            let message = format!(
                "process {} of the lab {} does not end",
                stuck.pid, self.state.name
            );
            return Err(LabError::Refused(message));
        }
        for node in &self.state.nodes {
            netdev::unname(&node.netns)?;
        }
        fs::remove_dir_all(&self.dir).tried(|| format!("remove {}", self.dir.display()))?;
        if let Some(base) = self.dir.parent() {
            // Refused by the kernel while another lab lives there.
            let _ = fs::remove_dir(base);
        }
        self.say(&format!("lab {} removed", self.state.name));
        Ok(())
    }

    fn view(&self, node: &NodeState) -> NodeView {
        let pid = self.identity(&node.name).ok().map(|process| process.pid);
        let status = self.status(&node.name).ok();
        let state = match (&status, pid) {
            (_, None) => "dead".to_owned(),
            (None, _) => "silent".to_owned(),
            (Some(status), _) if status.healthy() => "running".to_owned(),
            (Some(status), _) => {
                let lost: Vec<String> = status
                    .programs
                    .iter()
                    .filter(|program| program.pid.is_none())
                    .map(|program| format!("{} {}", program.name, program.state))
                    .collect();
                lost.join(", ")
            }
        };
        NodeView {
            name: node.name.clone(),
            kind: node.kind.clone(),
            image: node.image.clone(),
            state,
            pid,
            netns: node.netns.clone(),
            addresses: netdev::addresses(&node.netns),
            status,
        }
    }

    fn recorded(&self, node: &str) -> Result<&NodeState, LabError> {
        let found = self.state.nodes.iter().find(|known| known.name == node);
        found.ok_or_else(|| LabError::NoNode {
            lab: self.state.name.clone(),
            node: node.to_owned(),
            known: self.nodes().collect::<Vec<_>>().join(", "),
        })
    }

    fn identity(&self, node: &str) -> Result<Process, LabError> {
        init::identity(&self.dir.join(node))
            .map_err(|error| node_error(node, "find it", format!("{error:#}")))
    }

    fn ask(&self, node: &str, request: Request) -> Result<Status, LabError> {
        self.recorded(node)?;
        control::ask(&self.dir.join(node), request)
            .map_err(|error| node_error(node, "ask its first process", error.to_string()))
    }

    fn log(&self, node: &str, program: &str) -> String {
        self.dir
            .join(node)
            .join(format!("{program}.log"))
            .display()
            .to_string()
    }

    fn say(&self, line: &str) {
        if let Some(progress) = &self.progress {
            progress(line);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down_on_drop
            && let Err(error) = self.take_down()
        {
            eprintln!("lab {}: {error}", self.state.name);
        }
    }
}

fn check(interrupted: Option<&AtomicBool>) -> Result<(), LabError> {
    match interrupted {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(LabError::Interrupted),
        _ => Ok(()),
    }
}

fn node_error(node: &str, step: &str, message: impl Into<String>) -> LabError {
    LabError::Node {
        node: node.to_owned(),
        step: step.to_owned(),
        message: message.into(),
    }
}

fn base_dir(options: &Options) -> PathBuf {
    let base = options
        .base_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(BASE_DIR));
    // The nodes' processes are found by this path: it has to be the same however it was written.
    base.canonicalize().unwrap_or(base)
}

fn lab_exe(options: &Options) -> Result<PathBuf, LabError> {
    if let Some(exe) = &options.lab_exe {
        return exe
            .canonicalize()
            .tried(|| format!("look at {}", exe.display()));
    }
    let own = std::env::current_exe().tried(|| "find the running program".to_owned())?;
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("roadbed-lab"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            LabError::Refused(
                "the program roadbed-lab is not beside this one; build it first".to_owned(),
            )
        })
}
