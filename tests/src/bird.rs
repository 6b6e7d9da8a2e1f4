//! BIRD 2 as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::netns::{Ns, run};
use crate::process::Process;
use crate::wait::eventually;

/// A BIRD running in a namespace, with its control socket in a directory of the test.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    socket: PathBuf,
}

impl Bird {
    /// Writes `config` to `dir`/bird.conf, starts BIRD and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &Ns, dir: &Path, config: &str) -> Result<Self> {
        let (file, socket) = (dir.join("bird.conf"), dir.join("bird.ctl"));
        std::fs::write(&file, config)?;
        // A leftover of a killed one would be taken for an answering one.
        std::fs::remove_file(&socket).ok();
        let argv = [Path::new("bird"), Path::new("-f"), Path::new("-c"), &file];
        let mut argv: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
        argv.push("-s");
        argv.extend(socket.to_str());
        ensure!(argv.len() == 6, "paths of tests are UTF-8");
        let mut bird = Self {
            process: Process::start(ns, dir, "bird", &argv)?,
            socket: socket.clone(),
        };
        eventually(Duration::from_secs(10), "BIRD answers", || {
            bird.process.alive()?;
            bird.cli("show status")
        });
        Ok(bird)
    }

    /// One command of `birdc`.
    ///
    /// # Errors
    /// When BIRD does not answer.
    pub fn cli(&self, line: &str) -> Result<String> {
        run(Command::new("birdc")
            .arg("-s")
            .arg(&self.socket)
            .args(line.split_whitespace()))
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// When BIRD does not take it.
    pub fn configure(&self, config: &str) -> Result<()> {
        std::fs::write(self.socket.with_extension("conf"), config)?;
        let answer = self.cli("configure")?;
        ensure!(answer.contains("Reconfigur"), "configure: {answer}");
        Ok(())
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
