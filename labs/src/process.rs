//! Processes by identity: a pid counts only together with its start time, since pids are used again.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Pid in the machine's namespace.
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub(crate) started: u64,
}

impl Process {
    /// Identifies `pid` now; `None` when it is gone or a zombie.
    pub(crate) fn find(pid: i32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name, in parentheses, may hold blanks and parentheses itself.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(fields.first().copied(), None | Some("Z" | "X")) {
            return None;
        }
        let started = fields.get(19)?.parse().ok()?;
        Some(Process { pid, started })
    }

    /// Whether this very process still runs.
    pub(crate) fn alive(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) {
        if self.alive() {
            // Gone between the two lines is what the caller wants as well.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Pid of the calling process's parent, in the namespace that `/proc` shows.
pub(crate) fn parent() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Waits until none of `processes` runs, at most `limit`; returns those that still do.
pub(crate) fn wait_gone(processes: &[Process], limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    loop {
        let left: Vec<Process> = processes.iter().copied().filter(|p| p.alive()).collect();
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every process whose command line is ours for a node below `dir`: `roadbed-lab VERB DIR/NODE`.
pub(crate) fn inits_below(dir: &Path) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            matches!(words[..], [_, verb, node, ..]
                if crate::init::VERBS.iter().any(|known| known.as_bytes() == verb)
                    && std::str::from_utf8(node).is_ok_and(|node| Path::new(node).parent() == Some(dir)))
        })
        .filter_map(Process::find)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_pid_and_its_start() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::find(pid).unwrap();
        assert!(process.alive());
        let other = Process {
            started: process.started + 1,
            ..process
        };
        assert!(!other.alive());
        other.signal(Signal::SIGKILL);
        assert!(
            process.alive(),
            "a stranger with our pid must not be killed"
        );
        process.signal(Signal::SIGKILL);
        assert_eq!(wait_gone(&[process], Duration::from_secs(5)), []);
        child.wait().unwrap();
    }
}
