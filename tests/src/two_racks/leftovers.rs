//! That nothing remains: of pods on their nodes, of the lab on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::netns::run;
use crate::pod::Pod;
use crate::site::Site;

/// How long the kernel may take to let go of namespaces.
const PATIENCE: Duration = Duration::from_secs(5);

/// After DEL: no attachment, no link, no address in use, no route of these pods on any node.
///
/// # Errors
/// With what is still there.
pub fn of_pods(site: &Site, pods: &[Pod]) -> Result<String> {
    let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    for node in nodes {
        let attachments = site.attachments(node)?;
        ensure!(
            attachments.is_empty(),
            "{node}: attachments remain: {attachments:?}"
        );
        for block in site.ipam(node)?.blocks {
            ensure!(
                block.in_use == 0,
                "{node}: {} addresses of {} are still in use",
                block.in_use,
                block.cidr
            );
        }
        let links = site.run(node, "ip -o link")?;
        ensure!(!links.contains(": rb"), "{node}: links remain:\n{links}");
        let mut routes = site.run(node, "ip -4 route show table all")?;
        routes += &site.run(node, "ip -6 route show table all")?;
        ensure!(
            !routes.contains("dev rb"),
            "{node}: routes remain:\n{routes}"
        );
        for address in pods
            .iter()
            .filter(|pod| pod.node == node)
            .flat_map(|pod| &pod.addresses)
        {
            let text = address.to_string();
            let found = routes
                .lines()
                .find(|line| line.split(' ').next() == Some(&text));
            ensure!(found.is_none(), "{node}: a route remains: {found:?}");
        }
    }
    Ok("no attachment, link, route or address in use remains".to_owned())
}

/// What the machine has, as far as a lab could leave something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    links: BTreeSet<String>,
    routes: BTreeSet<String>,
}

impl Machine {
    /// Looks at the machine's own namespace.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn look() -> Result<Self> {
        let lines = |args: &[&str]| -> Result<BTreeSet<String>> {
            let text = run(Command::new("ip").args(args))?;
            Ok(text.lines().map(|line| line.trim().to_owned()).collect())
        };
        // Names only: flags and states of links change by themselves.
        let links = lines(&["-o", "link"])?;
        let name = |line: &String| line.split(": ").nth(1).map(str::to_owned);
        let mut routes = lines(&["-4", "route", "show", "table", "all", "proto", "82"])?;
        routes.extend(lines(&[
            "-6", "route", "show", "table", "all", "proto", "82",
        ])?);
        Ok(Self {
            links: links.iter().filter_map(name).collect(),
            routes,
        })
    }
}

/// What to look for once a lab is down: taken while it is up.
#[derive(Clone, Debug)]
pub struct Traces {
    dir: PathBuf,
    names: Vec<String>,
    processes: BTreeSet<(i32, u64)>,
    before: Machine,
}

impl Traces {
    /// Of a lab that is up, on a machine that was `before`.
    ///
    /// # Errors
    /// When a node is dead.
    pub fn of(site: &Site, before: Machine) -> Result<Self> {
        let lab = site.lab();
        let mut names = Vec::new();
        let mut namespaces = BTreeSet::new();
        for node in lab.nodes() {
            names.push(lab.netns(node)?.to_owned());
            namespaces.insert(fs::metadata(format!("/proc/{}/ns/net", lab.node_pid(node)?))?.ino());
            // Pods' namespaces are named inside the node.
            let pods = fs::read_dir(site.path(node, "/run/netns")?)
                .into_iter()
                .flatten();
            namespaces.extend(
                pods.flatten()
                    .filter_map(|pod| Some(pod.metadata().ok()?.ino())),
            );
        }
        Ok(Self {
            dir: lab.dir().to_owned(),
            names,
            processes: processes_in(&namespaces),
            before,
        })
    }

    /// Waits until nothing is left.
    ///
    /// # Errors
    /// With everything that stays.
    pub fn gone(&self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look_once() {
                Ok(()) => {
                    return Ok("no namespace, link, route, process or file is left".to_owned());
                }
                Err(left) if Instant::now() >= deadline => return Err(left),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Looks for what is left.
    ///
    /// # Errors
    /// With everything found.
    pub fn look_once(&self) -> Result<()> {
        let left = self.left()?;
        ensure!(left.is_empty(), "left behind: {}", left.join("; "));
        Ok(())
    }

    fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        if self.dir.exists() {
            left.push(format!("the directory {}", self.dir.display()));
        }
        for name in &self.names {
            let path = Path::new("/run/netns").join(name);
            if path.exists() {
                left.push(format!("the namespace {}", path.display()));
            }
        }
        let now = Machine::look()?;
        left.extend(
            now.links
                .difference(&self.before.links)
                .map(|link| format!("the link {link}")),
        );
        left.extend(
            now.routes
                .difference(&self.before.routes)
                .map(|route| format!("the route {route}")),
        );
        left.extend(self.processes());
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let dir = self.dir.display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&dir))
                .map(|line| format!("the mount {line}")),
        );
        Ok(left)
    }

    /// Processes that were in a namespace of the lab, or have its directory in their command line.
    fn processes(&self) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut found = Vec::new();
        for pid in pids().filter(|pid| *pid != own) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let known = started(pid).is_some_and(|start| self.processes.contains(&(pid, start)));
            if known || line.contains(&dir) {
                found.push(format!("the process {pid} ({})", line.trim()));
            }
        }
        found
    }
}

/// Pid and start time of every process in one of these namespaces. The kernel reuses a namespace's inode, so it can
/// only be looked for while the namespace is there.
fn processes_in(namespaces: &BTreeSet<u64>) -> BTreeSet<(i32, u64)> {
    let inside = |pid: &i32| {
        let net = fs::metadata(format!("/proc/{pid}/ns/net"));
        net.is_ok_and(|meta| namespaces.contains(&meta.ino()))
    };
    pids()
        .filter(inside)
        .filter_map(|pid| Some((pid, started(pid)?)))
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Start time in clock ticks since boot; `None` when the process is gone or a zombie.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    match fields.first().copied() {
        None | Some("Z" | "X") => None,
        Some(_) => fields.get(19)?.parse().ok(),
    }
}
