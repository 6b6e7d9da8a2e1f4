//! `roadbed-bgpd` under test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::netns::Ns;
use crate::process::{Process, program};

/// A speaker running in a namespace, from a file in a directory of the test.
#[derive(Debug)]
pub struct Bgpd {
    process: Process,
    config: PathBuf,
}

impl Bgpd {
    /// Writes `config` to `dir`/bgpd.toml and starts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &Ns, dir: &Path, config: &str) -> Result<Self> {
        let path = dir.join("bgpd.toml");
        std::fs::write(&path, config)?;
        let program = program("roadbed-bgpd")?;
        let argv = [program.as_path(), Path::new("--config"), &path];
        let argv: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
        ensure!(argv.len() == 3, "paths of tests are UTF-8");
        Ok(Self {
            process: Process::start(ns, dir, "roadbed-bgpd", &argv)?,
            config: path,
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many log lines hold all of `words`.
    #[must_use]
    pub fn logged(&self, words: &[&str]) -> usize {
        let log = self.log();
        log.lines()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    }

    /// Succeeds once some log line holds all of `words`.
    ///
    /// # Errors
    /// Until then; when it has ended, with its log.
    pub fn says(&mut self, words: &[&str]) -> Result<()> {
        let found = self.logged(words) > 0;
        if !found {
            self.process.alive()?;
        }
        ensure!(found, "no log line has {words:?}");
        Ok(())
    }

    /// Replaces the file and sends SIGHUP.
    ///
    /// # Errors
    /// When it has ended.
    pub fn reload(&self, config: &str) -> Result<()> {
        std::fs::write(&self.config, config)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Sends SIGTERM and waits for a clean exit.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "{status} after SIGTERM");
        Ok(())
    }
}

/// Runs `roadbed-bgpd` to its end: exit code, standard output, standard error.
///
/// # Errors
/// When it cannot be run, or is ended by a signal.
pub fn run_to_end(ns: &Ns, args: &[&str]) -> Result<(i32, String, String)> {
    let output = std::process::Command::new("timeout")
        .args(["--signal=KILL", "20", "ip", "netns", "exec", ns.name()])
        .arg(program("roadbed-bgpd")?)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()?;
    Ok((
        output
            .status
            .code()
            .context("roadbed-bgpd did not end by itself")?,
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}
