//! Where the time of a call goes, what it reads and how much memory it holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::call::Plugin;
use crate::node::{Node, Pod};
use crate::pairs::millis;
use crate::report::median;

/// Calls under `strace`; the middle one counts.
const TRACED: usize = 9;
/// Rounds of what is measured by itself.
const ROUNDS: usize = 100;

/// What one ADD read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Files opened.
    pub(crate) files: u64,
    /// Bytes read from files.
    pub(crate) bytes: u64,
    /// Bytes received from netlink.
    pub(crate) netlink: u64,
}

/// A system call of a trace.
struct Traced<'a> {
    name: &'a str,
    /// What its first argument is open on, as `strace -yy` shows it.
    on: &'a str,
    returned: u64,
    took: f64,
}

/// Files and bytes of one ADD.
pub(crate) fn reads(node: &Node, plugin: &Plugin) -> Result<Reads> {
    let mut reads = Reads::default();
    for call in parse(&trace(node, plugin)?) {
        match call.name {
            "openat" | "open" => reads.files += 1,
            "read" | "pread64" | "readv" if call.on.starts_with('/') => {
                reads.bytes += call.returned
            }
            "read" | "recvfrom" | "recvmsg" if call.on.starts_with("NETLINK") => {
                reads.netlink += call.returned;
            }
            _ => {}
        }
    }
    ensure!(reads.files > 0, "strace shows no file");
    Ok(reads)
}

/// Most memory that an ADD and a DEL held, KiB.
pub(crate) fn rss(node: &Node, plugin: &Plugin) -> Result<u64> {
    let pod = &node.pods("rss", 1)?[0];
    // A child starts with its parent's size on its account; this one's parent is small.
    let wrapper = ["time", "-f", "%M"].map(str::to_owned);
    let mut most = 0;
    for command in ["ADD", "DEL"] {
        let called = plugin.call(command, pod, &wrapper)?;
        let last = called.stderr.trim().lines().next_back().unwrap_or_default();
        most = most.max(last.parse().with_context(|| called.stderr.clone())?);
    }
    Ok(most)
}

/// Milliseconds that the system calls of one ADD took, by what they are for. Watched by `strace`, each takes longer than
/// by itself; the shares are what counts.
pub(crate) fn shares(node: &Node, plugin: &Plugin) -> Result<Vec<(&'static str, f64)>> {
    let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..TRACED {
        let text = trace(node, plugin)?;
        let mut one: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut started = false;
        for call in parse(&text) {
            started |= call.on.starts_with("pipe:");
            *one.entry(purpose(&call, started)).or_default() += call.took * 1000.0;
        }
        for (purpose, time) in one {
            all.entry(purpose).or_default().push(time);
        }
    }
    Ok(all
        .into_iter()
        .map(|(purpose, times)| (purpose, median(&times)))
        .collect())
}

/// Milliseconds of what can be measured by itself: the median.
pub(crate) fn steps(node: &Node, plugin: &Plugin) -> Result<Vec<(&'static str, f64)>> {
    let pod = Pod {
        name: "steps".to_owned(),
        netns: "/run/netns/none".to_owned(),
    };
    let socket = node.run_dir().join("agent.sock");
    let path = "/v1/attachments/pods/steps/eth0";
    let body = r#"{"key": {"network": "pods", "containerId": "steps", "ifname": "eth0"}, "netns": "/x", "netnsCookie": "1"}"#;
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        times[0].push(millis(plugin.call("VERSION", &pod, &[])?.took));
        times[1].push(millis(request(&socket, "POST", "/v1/attachments", body)?));
        times[2].push(millis(request(&socket, "DELETE", path, "")?));
    }
    let names = [
        "process start and end (VERSION)",
        "agent: reserve",
        "agent: release of what was not wired",
    ];
    Ok(names
        .into_iter()
        .zip(times.iter().map(|times| median(times)))
        .collect())
}

/// One ADD under `strace`, undone afterwards.
fn trace(node: &Node, plugin: &Plugin) -> Result<String> {
    let pod = &node.pods("traced", 1)?[0];
    let file = node.dir.join("trace");
    let wrapper = ["strace", "-f", "-yy", "-T", "-o"].map(str::to_owned);
    let wrapper = [&wrapper[..], &[file.display().to_string()]].concat();
    plugin.call("ADD", pod, &wrapper)?;
    plugin.del(pod)?;
    crate::node::sh(&format!("ip netns del {}", pod.name))?;
    Ok(fs::read_to_string(file)?)
}

/// `PID name(FD<what>, …) = RESULT <SECONDS>`; lines of calls that were interrupted by another thread's are left out.
fn parse(text: &str) -> Vec<Traced<'_>> {
    let one = |line| -> Option<Traced<'_>> {
        let (_, line) = str::split_once(line, ' ')?;
        let (name, rest) = line.trim_start().split_once('(')?;
        let first = rest.split([',', ')']).next()?;
        let on = first
            .split_once('<')
            .map_or("", |(_, on)| on.trim_end_matches('>'));
        let (_, end) = rest.rsplit_once(" = ")?;
        let returned = end.split([' ', '<']).next()?.parse().unwrap_or(0);
        let took = end.rsplit_once('<')?.1.strip_suffix('>')?.parse().ok()?;
        Some(Traced {
            name,
            on,
            returned,
            took,
        })
    };
    text.lines().filter_map(one).collect()
}

/// What a call is for. What comes before standard input is read is the start of the process.
fn purpose(call: &Traced<'_>, started: bool) -> &'static str {
    match (call.name, call.on) {
        _ if !started => "process start",
        ("futex" | "wait4", _) => "waiting for its own thread (counted there)",
        (_, on) if on.starts_with("UNIX") => "agent",
        ("connect", _) => "agent",
        (_, on) if on.starts_with("NETLINK") => "kernel, by netlink",
        ("poll" | "ppoll", _) => "kernel, until the link runs",
        ("setns" | "clone" | "clone3" | "unshare", _) => "namespaces and threads",
        (_, on) if on.starts_with('/') => "settings under /proc/sys and other files",
        ("openat" | "statx", _) => "settings under /proc/sys and other files",
        _ => "other",
    }
}

/// One request to the agent, as the plugin makes it.
fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 20"),
        "{method} {path}: {answer}"
    );
    Ok(start.elapsed())
}
