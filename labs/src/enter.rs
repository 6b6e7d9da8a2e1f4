//! Runs a command inside a node: all namespaces of its first process, its root, its environment.
//!
//! ```text
//! node-enter PID cmd ──setns(pid)──► node-enter-inner PID PARENT cmd ──setns(mnt, net, uts, ipc), exec──► cmd
//! ```
//! The outer half waits and passes the exit code on; when it dies, the kernel kills the inner half.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::process;

/// The verb of the outer half.
pub(crate) const ENTER: &str = "node-enter";
const INNER: &str = "node-enter-inner";
/// What a shell answers for a command that cannot be started.
const NOT_STARTED: u8 = 127;

pub(crate) fn hidden(args: &[String]) -> Option<ExitCode> {
    let (verb, pid, argv) = match args {
        [verb, pid, argv @ ..] if !argv.is_empty() => (verb.as_str(), pid, argv),
        _ => return None,
    };
    let outcome = match verb {
        ENTER => outer(pid, argv),
        INNER => inner(pid, argv),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| {
        eprintln!("roadbed-lab: {error:#}");
        ExitCode::from(NOT_STARTED)
    }))
}

fn outer(pid: &str, argv: &[String]) -> Result<ExitCode> {
    join(pid, "pid", CloneFlags::CLONE_NEWPID)?;
    let status = Command::new("/proc/self/exe")
        .arg0("roadbed-lab")
        .args([INNER, pid, &std::process::id().to_string()])
        .args(argv)
        .status()
        .context("start inside")?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    ))
}

fn inner(pid: &str, argv: &[String]) -> Result<ExitCode> {
    let [parent, argv @ ..] = argv else {
        bail!("started by hand");
    };
    set_pdeathsig(Signal::SIGKILL).context("set the death signal")?;
    // Killed before the line above, the outer half would have sent nothing. /proc is still the machine's here.
    if process::parent().map(|pid| pid.to_string()).as_ref() != Some(parent) || argv.is_empty() {
        bail!("the caller is gone");
    }
    // An `up` that listens for Ctrl-C has signals blocked; the command must not inherit that.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // The mount namespace last: it takes the machine's /proc away, and with it the other files.
    let files = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    for (name, flag) in files {
        join(pid, name, flag)?;
    }
    let error = Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir("/")
        .exec();
    Err(error).with_context(|| format!("cannot start {}", argv[0]))
}

fn join(pid: &str, name: &str, flag: CloneFlags) -> Result<()> {
    let path = format!("/proc/{pid}/ns/{name}");
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    setns(file, flag).with_context(|| format!("enter {path}"))
}
