//! Two network namespaces and a link: the daemon on one side, every peer's address on the other. What was made is written
//! down process-wide, so that a panic or Ctrl-C takes it away as well.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use roadbed_hostnet::NamedNetNs;
use roadbed_hostnet::netns::run_in;

use crate::workload::{DAEMON, SUBNET_LEN, Workload};

const NAME: &str = "rbb";

#[derive(Default)]
struct Traces {
    namespaces: BTreeSet<String>,
    processes: BTreeSet<i32>,
}

static TRACES: Mutex<Traces> = Mutex::new(Traces {
    namespaces: BTreeSet::new(),
    processes: BTreeSet::new(),
});
static STOPPED: AtomicBool = AtomicBool::new(false);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Fails once the operator has asked to stop: every loop that waits asks this.
pub(crate) fn running() -> Result<()> {
    ensure!(!STOPPED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Ends every process of ours, then deletes every namespace of ours.
pub(crate) fn sweep() {
    let traces = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
    for pid in traces.processes {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    for name in traces.namespaces {
        NamedNetNs::delete(&name).ok();
    }
}

/// Sweeps on panic, SIGINT and SIGTERM, and takes away what an earlier, killed run left. Call before any thread starts:
/// they inherit the signal mask.
pub(crate) fn sweep_whatever_happens() -> Result<()> {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        sweep();
    }));
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            // The first one lets the run end by itself, the second one does not wait for that.
            if STOPPED.swap(true, Ordering::Relaxed) {
                sweep();
                std::process::exit(130);
            }
        }
    });
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(NAME)
            .and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            NamedNetNs::delete(&name).ok();
        }
    }
    Ok(())
}

/// Remembers a process for [`sweep`].
pub(crate) fn remember_process(pid: u32) {
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    traces.processes.insert(pid as i32);
}

/// The process has been waited for: its number may soon be somebody else's.
pub(crate) fn forget_process(pid: u32) {
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    traces.processes.remove(&(pid as i32));
}

/// The place of one run.
#[derive(Debug)]
pub(crate) struct Scene {
    daemon: NamedNetNs,
    peers: NamedNetNs,
}

impl Scene {
    pub(crate) fn new(peers: usize) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let scene = Self {
            daemon: namespace(&format!("{NAME}-{pid}-{number}-d"))?,
            peers: namespace(&format!("{NAME}-{pid}-{number}-p"))?,
        };
        let (here, there) = (scene.daemon.name(), scene.peers.name());
        ip(
            &[],
            &format!("link add dut netns {here} type veth peer name peers netns {there}\n"),
        )?;
        ip(
            &["-n", here],
            &format!(
                "link set lo up\naddress add {DAEMON}/{SUBNET_LEN} dev dut\nlink set dut up\n"
            ),
        )?;
        let mut lines = String::from("link set lo up\n");
        for peer in 0..peers {
            let address = Workload::address(peer);
            writeln!(lines, "address add {address}/{SUBNET_LEN} dev peers")?;
        }
        lines.push_str("link set peers up\n");
        ip(&["-n", there], &lines)?;
        Ok(scene)
    }

    /// Runs code beside the daemon.
    pub(crate) fn at_daemon<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(run_in(self.daemon.ns(), work)?)
    }

    /// Runs code where the peers' addresses are.
    pub(crate) fn at_peers<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(run_in(self.peers.ns(), work)?)
    }

    /// A command that runs beside the daemon, as the process that it starts as.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.daemon.name()])
            .arg(program);
        command
    }

    /// Whether somebody listens on the daemon's BGP port.
    pub(crate) fn listens(&self) -> Result<bool> {
        let sockets = self.at_daemon(|| std::fs::read_to_string("/proc/thread-self/net/tcp"))??
            + &self.at_daemon(|| std::fs::read_to_string("/proc/thread-self/net/tcp6"))??;
        let port = format!(":{:04X}", crate::session::PORT);
        Ok(sockets.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
        }))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
        for ns in [&self.daemon, &self.peers] {
            traces.namespaces.remove(ns.name());
        }
    }
}

fn namespace(name: &str) -> Result<NamedNetNs> {
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    traces.namespaces.insert(name.to_owned());
    NamedNetNs::create(name).context("cannot make a network namespace: run as root")
}

fn ip(options: &[&str], lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip of iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
