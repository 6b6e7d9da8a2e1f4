//! The demo's telling: one line per step with its time, and what to look at when a step fails.

use std::fmt::Display;
use std::fs;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::NODES;
use crate::site::Site;

/// Begins a further line of a step, below its title.
const LINE: &str = "\n           ";

/// Tells steps as they happen.
#[derive(Clone, Debug)]
pub struct Story {
    started: Instant,
    interrupted: Arc<AtomicBool>,
    terminal: bool,
}

impl Story {
    /// Starts the clock. Steps stop once `interrupted` is set.
    #[must_use]
    pub fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self {
            started: Instant::now(),
            interrupted,
            terminal: stdout().is_terminal(),
        }
    }

    /// Does one step; its answer stands behind the title, or below it when it starts with a line feed.
    ///
    /// # Errors
    /// The step's own, or that a person has interrupted.
    pub fn step<T>(
        &self,
        title: impl Display,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        let began = Instant::now();
        if self.terminal {
            print!("  … {title}");
            stdout().flush().ok();
        }
        let outcome = work();
        let mark = if outcome.is_ok() { "✓" } else { "✗" };
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let took = began.elapsed().as_secs_f64();
        let found = match &outcome {
            Ok((_, found)) if found.starts_with('\n') => found.replace('\n', LINE),
            Ok((_, found)) if !found.is_empty() => format!(": {found}"),
            _ => String::new(),
        };
        println!("{clear}{mark} {took:5.1}s  {title}{found}");
        outcome.map(|(value, _)| value)
    }

    /// A check: a step whose only result is what it says.
    ///
    /// # Errors
    /// As [`Story::step`].
    pub fn check(&self, title: impl Display, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.step(title, || Ok(((), work()?)))
    }

    /// Shows a command and what it printed.
    pub fn show(&self, command: &str, text: &str) {
        println!("\n  $ {command}");
        for line in text.lines() {
            println!("    {}", line.trim_end());
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Commands that show what each kind of node does.
fn questions(node: &str) -> &'static [&'static str] {
    if NODES.iter().any(|known| known.name == node) {
        &[
            "roadbedctl status -o wide",
            "roadbedctl ipam show",
            "roadbedctl routes -o wide",
            "ip address",
            "ip route show table all",
            "ip -6 route show table all",
            "ip neighbour",
        ]
    } else {
        &[
            "ip address",
            "ip route",
            "ip -6 route",
            "ip neighbour",
            "vtysh -c show\u{a0}bgp\u{a0}summary",
            "vtysh -c show\u{a0}bgp\u{a0}ipv4\u{a0}unicast",
            "vtysh -c show\u{a0}bgp\u{a0}ipv6\u{a0}unicast",
        ]
    }
}

/// Keeps the logs of all nodes and what they answer, since the lab is going to be removed.
///
/// # Errors
/// When the directory cannot be written.
pub fn keep_evidence(site: &Site) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("roadbed-demo-failed-{}", std::process::id()));
    for node in site.lab().nodes() {
        let to = dir.join(node);
        fs::create_dir_all(&to)?;
        copy_logs(&site.log_dir(node), &to)?;
        let mut text = String::new();
        for line in questions(node) {
            let argv: Vec<String> = line.split(' ').map(|w| w.replace('\u{a0}', " ")).collect();
            let output = site.lab().exec(node, &argv)?;
            text += &format!(
                "$ {}\n{}{}\n",
                argv.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        fs::write(to.join("state.txt"), text)?;
    }
    Ok(dir)
}

fn copy_logs(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "log") && path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}
