//! The daemons under test: rendering their configurations, starting, measuring, ending.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::unistd::{User, chown};
use serde::Serialize;

use crate::scene::{Scene, forget_process, remember_process, running};
use crate::workload::{DAEMON, DAEMON_AS, Workload};

const FRR_BGPD: &str = "/usr/lib/frr/bgpd";
const FRR_ZEBRA: &str = "/usr/lib/frr/zebra";

/// Until its BGP port is open.
const START: Duration = Duration::from_secs(20);
/// Lines of its log that are shown when it fails.
const LOG_TAIL: usize = 5;
/// After its BGP port is open: whatever else it begins with.
const REST: Duration = Duration::from_millis(1500);

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `roadbed-bgpd` beside this program.
    Roadbed,
    /// Debian's BIRD 2.
    Bird,
    /// Debian's FRR: `bgpd`, and `zebra`, without which no next hop resolves.
    Frr,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Roadbed, Kind::Bird, Kind::Frr];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Roadbed => "roadbed",
            Kind::Bird => "bird",
            Kind::Frr => "frr",
        }
    }

    fn template(self, reflector: bool) -> &'static str {
        match (self, reflector) {
            (Kind::Roadbed, false) => include_str!("../configs/roadbed.toml"),
            (Kind::Roadbed, true) => include_str!("../configs/roadbed-reflector.toml"),
            (Kind::Bird, false) => include_str!("../configs/bird.conf"),
            (Kind::Bird, true) => include_str!("../configs/bird-reflector.conf"),
            (Kind::Frr, false) => include_str!("../configs/frr.conf"),
            (Kind::Frr, true) => include_str!("../configs/frr-reflector.conf"),
        }
    }

    fn program(self, ours: &Path) -> &Path {
        match self {
            Kind::Roadbed => ours,
            Kind::Bird => Path::new("bird"),
            Kind::Frr => Path::new(FRR_BGPD),
        }
    }

    /// Its version as it says it; `None` when it is not installed.
    pub(crate) fn version(self, ours: &Path) -> Option<String> {
        let program = self.program(ours);
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.lines().next().map(str::to_owned)
    }

    fn configure(self, workload: &Workload, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let file = dir.join(format!("{}.conf", self.name()));
        fs::write(&file, render(self.template(workload.ibgp()), workload))?;
        Ok(file)
    }
}

/// Fills a template: what lies between `@BEGIN PEER@` and `@END PEER@` once for every peer.
fn render(template: &str, workload: &Workload) -> String {
    let (head, rest) = template
        .split_once("@BEGIN PEER@\n")
        .unwrap_or((template, ""));
    let (peer, tail) = rest.split_once("@END PEER@\n").unwrap_or((rest, ""));
    let mut text = head.to_owned();
    for number in 0..workload.peers {
        text.push_str(
            &peer
                .replace("@PEER_NAME@", &format!("p{number}"))
                .replace("@PEER_ADDRESS@", &Workload::address(number).to_string())
                .replace("@PEER_AS@", &workload.peer_as(number).to_string()),
        );
    }
    text.push_str(tail);
    text.replace("@AS@", &DAEMON_AS.to_string())
        .replace("@ADDRESS@", &DAEMON.to_string())
}

/// Where daemons find their files; the directory is gone with it.
#[derive(Debug)]
pub(crate) struct Place {
    /// For configurations, sockets and logs.
    pub(crate) dir: PathBuf,
    /// The `roadbed-bgpd` under test.
    pub(crate) bgpd: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// What a daemon used.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// VmHWM of all its processes, KiB.
    pub(crate) peak_kib: u64,
    /// Processor time of all its threads, seconds.
    pub(crate) cpu_seconds: f64,
}

/// A running daemon; killed on drop.
#[derive(Debug, Default)]
pub(crate) struct Daemon {
    children: Vec<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until its BGP port is open and it has come to rest.
    pub(crate) fn start(
        kind: Kind,
        scene: &Scene,
        workload: &Workload,
        place: &Place,
    ) -> Result<Self> {
        let dir = place.dir.as_path();
        let config = kind.configure(workload, dir)?;
        let mut daemon = Self {
            children: Vec::new(),
            log: dir.join(format!("{}.log", kind.name())),
        };
        File::create(&daemon.log)?;
        let mut command = scene.command(kind.program(&place.bgpd));
        match kind {
            Kind::Roadbed => {
                let run_dir = dir.join("run");
                command.arg("--config").arg(&config);
                command.arg("--run-dir").arg(run_dir);
            }
            Kind::Bird => {
                let socket = dir.join("bird.ctl");
                command
                    .arg("-f")
                    .arg("-c")
                    .arg(&config)
                    .arg("-s")
                    .arg(socket);
            }
            Kind::Frr => {
                let own = own_by_frr(dir, &config)?;
                let zebra = scene.command(Path::new(FRR_ZEBRA));
                daemon.spawn(frr(zebra, &own, "zebra"))?;
                let socket = own.join("zserv.api");
                daemon.wait("zebra takes no clients", || Ok(socket.exists()))?;
                command = frr(command, &own, "bgpd");
                command.arg("--no_kernel").arg("-f").arg(&config);
            }
        }
        daemon.spawn(command)?;
        daemon.wait("it does not listen", || scene.listens())?;
        std::thread::sleep(REST);
        daemon.alive()?;
        Ok(daemon)
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        let log = File::options().append(true).open(&self.log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        remember_process(child.id());
        self.children.push(child);
        Ok(())
    }

    fn wait(&mut self, else_say: &str, ready: impl Fn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !ready()? {
            running()?;
            self.alive()?;
            ensure!(started.elapsed() < START, "{else_say} after {START:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn alive(&mut self) -> Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended ({status}):\n{}", self.log_tail());
            }
        }
        Ok(())
    }

    pub(crate) fn log_tail(&self) -> String {
        let mut text = String::new();
        File::open(&self.log)
            .and_then(|mut file| file.read_to_string(&mut text))
            .ok();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// The sum over its processes.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::default();
        for child in &self.children {
            let usage = Usage::of(child.id())?;
            sum.peak_kib += usage.peak_kib;
            sum.cpu_seconds += usage.cpu_seconds;
        }
        Ok(sum)
    }
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let dir = PathBuf::from(format!("/proc/{}", pid));
        let status = fs::read_to_string(dir.join("status"))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmHWM")?;
        let stat = fs::read_to_string(dir.join("stat"))?;
        // After the name, which may hold anything: state is the first field, utime and stime the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Usage {
            peak_kib: peak.parse()?,
            cpu_seconds: ticks as f64 / per_second as f64,
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
            forget_process(child.id());
        }
    }
}

/// FRR gives up root and needs a directory where its own user may write: makes one, empty.
fn own_by_frr(dir: &Path, config: &Path) -> Result<PathBuf> {
    let user = User::from_name("frr")?.context("there is no user frr: install frr")?;
    let own = dir.join("frr");
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    fs::create_dir_all(&own)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    for path in [own.as_path(), config] {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(own)
}

fn frr(mut command: Command, own: &Path, name: &str) -> Command {
    command
        .args(["--log", "stdout", "-A", "127.0.0.1", "-P", "0", "-i"])
        .arg(own.join(format!("{name}.pid")))
        .arg("-z")
        .arg(own.join("zserv.api"))
        .arg("--vty_socket")
        .arg(own);
    command
}
