//! GoBGP as a peer. It is told what to announce by its command line tool, over gRPC inside the namespace.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::Ns;
use crate::process::Process;
use crate::wait::eventually;

/// A `gobgpd` running in a namespace.
#[derive(Debug)]
pub struct Gobgp<'a> {
    ns: &'a Ns,
    process: Process,
}

impl<'a> Gobgp<'a> {
    /// Writes `config` (TOML) to `dir`/gobgpd.toml, starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &'a Ns, dir: &Path, config: &str) -> Result<Self> {
        let file = dir.join("gobgpd.toml");
        std::fs::write(&file, config)?;
        let file = file.to_str().context("paths of tests are UTF-8")?;
        let argv = [
            "gobgpd",
            "-f",
            file,
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
        ];
        let mut gobgp = Self {
            ns,
            process: Process::start(ns, dir, "gobgpd", &argv)?,
        };
        eventually(Duration::from_secs(10), "GoBGP answers", || {
            gobgp.process.alive()?;
            gobgp.cli("global")
        });
        Ok(gobgp)
    }

    /// One command of `gobgp`; words are separated by blanks.
    ///
    /// # Errors
    /// When GoBGP does not take it.
    pub fn cli(&self, line: &str) -> Result<String> {
        self.ns.run(&format!("gobgp {line}"))
    }

    /// One command whose answer is JSON.
    ///
    /// # Errors
    /// When GoBGP does not take it.
    pub fn json(&self, line: &str) -> Result<Value> {
        let text = self.cli(&format!("-j {line}"))?;
        serde_json::from_str(&text).with_context(|| format!("{line}: {text}"))
    }

    /// Succeeds when the answer to `line` holds all of `words`.
    ///
    /// # Errors
    /// With the answer, when it does not.
    pub fn shows(&self, line: &str, words: &[&str]) -> Result<()> {
        let answer = self.cli(line)?;
        for word in words {
            ensure!(answer.contains(word), "{line}: lacks {word}\n{answer}");
        }
        Ok(())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
