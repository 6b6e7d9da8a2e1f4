//! The hidden verbs: `roadbed-lab` started again as a part of a node.
//!
//! ```text
//! up ── node-stage DIR ──unshare──► node-init DIR (pid 1) ──► node-run zebra …
//! ```
//! `node-stage` makes the namespaces and leaves; `node-init` is pid 1, and when it dies the kernel takes the whole node
//! with it; `node-run` gives a program its signals back. Each is single-threaded, so `unshare` and `setns` are safe.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname, setsid};

use crate::control::{self, Program, Request, Status};
use crate::process::Process;
use crate::rootfs;
use crate::spec::{NodeSpec, ProcessSpec};

/// The hidden verbs that take a node's directory.
pub(crate) const VERBS: &[&str] = &[STAGE, INIT];
/// Makes the namespaces.
pub(crate) const STAGE: &str = "node-stage";
const INIT: &str = "node-init";
const RUN: &str = "node-run";

/// File in the node's directory with the identity of its first process.
pub(crate) const IDENTITY: &str = "init.json";
/// File in the node's directory with its [`NodeSpec`].
pub(crate) const SPEC: &str = "spec.json";
/// What the first process had to say.
pub(crate) const LOG: &str = "init.log";

/// How long programs get to end after TERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long programs get to become ready before they are configured anyway.
const READY: Duration = Duration::from_secs(15);
/// How often the first process looks around without being woken, in milliseconds.
const TICK: u16 = 100;
/// The same while programs are being started.
const BUSY_TICK: u16 = 10;

/// Runs a hidden verb; `None` when `args` (without the program) is none.
#[must_use]
pub fn hidden(args: &[String]) -> Option<ExitCode> {
    let outcome = match args {
        [verb, dir] if verb == STAGE => stage(Path::new(dir)),
        [verb, dir] if verb == INIT => init(Path::new(dir)),
        [verb, argv @ ..] if verb == RUN && !argv.is_empty() => Err(run(argv)),
        _ => return crate::enter::hidden(args),
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn stage(dir: &Path) -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("make namespaces (are you root?)")?;
    let log = File::create(dir.join(LOG)).context("create the log")?;
    let child = Command::new("/proc/self/exe")
        .arg0("roadbed-lab")
        .args([INIT.as_ref(), dir.as_os_str()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .spawn()
        .context("start the node's first process")?;
    let pid = i32::try_from(child.id())?;
    let identity = Process::find(pid).with_context(|| {
        let said = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
        format!("the node's first process ended: {}", said.trim())
    })?;
    fs::write(dir.join(IDENTITY), serde_json::to_vec(&identity)?)
        .context("record the node's first process")
}

fn run(argv: &[String]) -> anyhow::Error {
    if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        return error.into();
    }
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    anyhow::Error::new(error).context(format!("cannot start {}", argv[0]))
}

fn init(dir: &Path) -> Result<()> {
    // Away from the terminal of `up`: its Ctrl-C must not reach the nodes.
    setsid().context("setsid")?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)?;
    let wakeups = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let text = fs::read_to_string(dir.join(SPEC)).context("read the node's spec")?;
    let spec: NodeSpec = serde_json::from_str(&text).context("read the node's spec")?;
    sethostname(&spec.hostname).context("sethostname")?;
    let mut logs = BTreeMap::new();
    for name in spec
        .processes
        .iter()
        .map(|p| p.name.as_str())
        .chain(["boot"])
    {
        let path = dir.join(format!("{name}.log"));
        logs.insert(name.to_owned(), File::create(path)?);
    }
    // Here and not in the stage: pivot_root moves every process of its mount namespace.
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let scratch = dir.join("rootfs");
    fs::create_dir(&scratch)?;
    // Bound under another name first: `up` takes the socket's presence as "this node is whole".
    let hidden = dir.join("control.new");
    let listener = UnixListener::bind(&hidden).context("bind the control socket")?;
    listener.set_nonblocking(true)?;
    let node_dir = File::open(dir)?;
    rootfs::enter(&scratch, &spec)?;
    rootfs::sysctls(&spec.sysctls)?;
    nix::fcntl::renameat(&node_dir, "control.new", &node_dir, control::SOCKET)
        .context("show the control socket")?;
    drop(node_dir);

    Supervisor {
        programs: spec
            .processes
            .iter()
            .cloned()
            .map(Supervised::new)
            .collect(),
        spec,
        logs,
        boot: Boot::Settled,
        warning: None,
        stopping: None,
    }
    .serve(&listener, &wakeups)
}

struct Supervised {
    spec: ProcessSpec,
    pid: Option<Pid>,
    state: String,
    wanted: bool,
}

impl Supervised {
    fn new(spec: ProcessSpec) -> Supervised {
        Supervised {
            spec,
            pid: None,
            state: "not started".to_owned(),
            wanted: false,
        }
    }

    fn ready(&self) -> bool {
        self.pid.is_none() || self.spec.ready.as_ref().is_none_or(|path| path.exists())
    }
}

/// Where the configuring of the programs stands.
enum Boot {
    Settled,
    Waiting(Instant),
    Running(Pid),
}

struct Supervisor {
    spec: NodeSpec,
    programs: Vec<Supervised>,
    logs: BTreeMap<String, File>,
    boot: Boot,
    warning: Option<String>,
    stopping: Option<Instant>,
}

impl Supervisor {
    fn serve(mut self, listener: &UnixListener, wakeups: &SignalFd) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(wakeups.as_fd(), PollFlags::POLLIN),
            ];
            let tick = if matches!(self.boot, Boot::Waiting(_)) {
                BUSY_TICK
            } else {
                TICK
            };
            match poll(&mut fds, PollTimeout::from(tick)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            while let Ok(Some(signal)) = wakeups.read_signal() {
                if signal.ssi_signo != Signal::SIGCHLD as u32 && self.stopping.is_none() {
                    self.signal(Signal::SIGTERM);
                    self.stopping = Some(Instant::now() + GRACE);
                }
            }
            self.reap();
            self.configure();
            if let Ok((stream, _)) = listener.accept() {
                // A client that says nothing or nonsense costs a moment, never the node.
                if stream.set_nonblocking(false).is_ok()
                    && let Ok(request) = control::receive(&stream)
                {
                    self.obey(request);
                    self.configure();
                    let _ = control::send(&stream, &self.status());
                }
            }
            if let Some(deadline) = self.stopping
                && (Instant::now() >= deadline || self.programs.iter().all(|p| p.pid.is_none()))
            {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Status => {}
            Request::Start => self.start(),
            Request::Kill(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    self.signal(signal);
                    // So that the answer already tells what a deadly signal did.
                    std::thread::sleep(Duration::from_millis(20));
                    self.reap();
                }
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            programs: self
                .programs
                .iter()
                .map(|program| Program {
                    name: program.spec.name.clone(),
                    pid: program.pid.map(Pid::as_raw),
                    state: program.state.clone(),
                })
                .collect(),
            settled: matches!(self.boot, Boot::Settled),
            warning: self.warning.clone(),
        }
    }

    /// Marks what does not run for starting; [`Supervisor::configure`] starts one program after the other.
    fn start(&mut self) {
        let mut wanted = false;
        for program in self
            .programs
            .iter_mut()
            .filter(|program| program.pid.is_none())
        {
            if let Some(path) = &program.spec.ready {
                // Left by an earlier run; it would count as ready.
                let _ = fs::remove_file(path);
            }
            program.wanted = true;
            wanted = true;
        }
        if wanted {
            self.warning = None;
            self.boot = Boot::Waiting(Instant::now() + READY);
        }
    }

    /// Starts what is wanted and whose predecessors are ready: bgpd without zebra's socket would retry for ten seconds.
    fn start_next(&mut self, anyway: bool) {
        while let Some(index) = self.programs.iter().position(|program| program.wanted) {
            if !anyway && !self.programs[..index].iter().all(Supervised::ready) {
                return;
            }
            let spec = self.programs[index].spec.clone();
            let outcome = self.spawn(&spec.name, &spec.argv);
            let program = &mut self.programs[index];
            program.wanted = false;
            match outcome {
                Ok(pid) => {
                    program.pid = Some(pid);
                    program.state = "running".to_owned();
                }
                Err(error) => program.state = error.to_string(),
            }
        }
    }

    fn spawn(&self, name: &str, argv: &[String]) -> io::Result<Pid> {
        let log = match self.logs.get(name) {
            Some(log) => log,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let child = Command::new("/proc/self/exe")
            .arg0("roadbed-lab")
            .arg(RUN)
            .args(argv)
            .env_clear()
            .envs(&self.spec.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()?;
        i32::try_from(child.id())
            .map(Pid::from_raw)
            .map_err(io::Error::other)
    }

    fn signal(&self, signal: Signal) {
        for pid in self.programs.iter().filter_map(|program| program.pid) {
            // Already gone: the reaper will tell.
            let _ = kill(pid, signal);
        }
    }

    fn configure(&mut self) {
        let Boot::Waiting(deadline) = self.boot else {
            return;
        };
        let late = Instant::now() >= deadline;
        self.start_next(late);
        let ready = self.programs.iter().all(|p| !p.wanted && p.ready());
        if !ready && !late {
            return;
        }
        if !ready {
            self.warning = Some("not every program became ready".to_owned());
        }
        if self.spec.boot.is_empty() {
            self.boot = Boot::Settled;
            return;
        }
        self.boot = match self.spawn("boot", &self.spec.boot) {
            Ok(pid) => Boot::Running(pid),
            Err(error) => {
                self.warning = Some(format!("{}: {error}", self.spec.boot.join(" ")));
                Boot::Settled
            }
        };
    }

    fn reap(&mut self) {
        loop {
            let (pid, state) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exited {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("killed by {signal}")),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Boot::Running(boot) = self.boot
                && boot == pid
            {
                self.boot = Boot::Settled;
                if state != "exited 0" {
                    self.warning = Some(format!("{}: {state}", self.spec.boot.join(" ")));
                }
            }
            if let Some(program) = self.programs.iter_mut().find(|p| p.pid == Some(pid)) {
                program.pid = None;
                program.state = state;
            }
        }
    }
}

/// Reads the identity of the first process of the node in `dir`.
pub(crate) fn identity(dir: &Path) -> Result<Process> {
    let path: PathBuf = dir.join(IDENTITY);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let process: Process = serde_json::from_str(&text)?;
    if !process.alive() {
        let log = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
        bail!("the node's first process is gone: {}", log.trim());
    }
    Ok(process)
}
