//! `roadbed-bgpd` under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use crate::netns::Ns;
use crate::process::{Process, program};

/// A speaker running in a namespace, from a file in a directory of the test.
#[derive(Debug)]
pub struct Bgpd {
    process: Process,
    config: PathBuf,
    run_dir: PathBuf,
}

impl Bgpd {
    /// Writes `config` to `dir`/bgpd.toml and starts, with `dir`/run as run directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &Ns, dir: &Path, config: &str) -> Result<Self> {
        let path = dir.join("bgpd.toml");
        std::fs::write(&path, config)?;
        let program = program("roadbed-bgpd")?;
        let run_dir = dir.join("run");
        let options = ["--config", "--run-dir"].map(Path::new);
        let argv = [program.as_path(), options[0], &path, options[1], &run_dir];
        let argv: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
        ensure!(argv.len() == 5, "paths of tests are UTF-8");
        Ok(Self {
            process: Process::start(ns, dir, "roadbed-bgpd", &argv)?,
            config: path,
            run_dir,
        })
    }

    /// What `roadbedctl` answers, asked of this speaker; words are separated by blanks.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn ctl(&self, line: &str) -> Result<String> {
        let mut command = Command::new(program("roadbedctl")?);
        command.arg("--run-dir").arg(&self.run_dir);
        crate::netns::run(command.args(line.split_whitespace()))
    }

    /// As [`Bgpd::ctl`], with an answer in JSON.
    ///
    /// # Errors
    /// When it fails, or the answer is not of this shape.
    pub fn ctl_json<T: DeserializeOwned>(&self, line: &str) -> Result<T> {
        Ok(serde_json::from_str(
            &self.ctl(&format!("{line} -o json"))?,
        )?)
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
    // Of a test's own, unless it names one.
    let run_dir = tempfile::tempdir()?;
    let output = Command::new("timeout")
        .args(["--signal=KILL", "20", "ip", "netns", "exec", ns.name()])
        .arg(program("roadbed-bgpd")?)
        .env("ROADBED_RUN_DIR", run_dir.path())
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
