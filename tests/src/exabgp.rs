//! ExaBGP as a peer: it announces what its file and the test say, passes nothing on, and writes down what it receives.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::netns::Ns;
use crate::process::Process;

/// What a neighbour's block needs for [`Exabgp::tell`] and [`Exabgp::received`].
pub const API: &str =
    "api { processes [ test ]; neighbor-changes; receive { parsed; update; notification; } }";

/// An ExaBGP running in a namespace, listening on the given addresses.
#[derive(Debug)]
pub struct Exabgp {
    process: Process,
    commands: PathBuf,
    received: PathBuf,
}

impl Exabgp {
    /// Writes `neighbours` to `dir`/exabgp.conf and starts; `listen` are addresses separated by blanks.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &Ns, dir: &Path, listen: &str, neighbours: &str) -> Result<Self> {
        let (file, helper) = (dir.join("exabgp.conf"), dir.join("exabgp.sh"));
        let (commands, received) = (dir.join("exabgp.commands"), dir.join("exabgp.received"));
        File::create(&commands)?;
        File::create(&received)?;
        // Its helper: commands from one file, events to another. Ends with ExaBGP.
        let script = format!(
            "#!/bin/sh\nexec 3<&0\ncat <&3 >{} &\nexec setpriv --pdeathsig KILL tail -n +1 -f {}\n",
            received.display(),
            commands.display()
        );
        std::fs::write(&helper, script)?;
        std::fs::set_permissions(&helper, Permissions::from_mode(0o755))?;
        let process = format!(
            "process test {{ run {}; encoder json; }}\n",
            helper.display()
        );
        std::fs::write(&file, process + neighbours)?;
        let file = file.to_str().context("paths of tests are UTF-8")?;
        let env = [
            ("exabgp.tcp.bind", listen),
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.ack", "false"),
            ("exabgp.api.cli", "false"),
            ("exabgp.log.destination", "stdout"),
        ];
        Ok(Self {
            process: Process::start_with(ns, dir, "exabgp", &["exabgp", file], &env)?,
            commands,
            received,
        })
    }

    /// Gives a command of its API.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tell(&self, command: &str) -> Result<()> {
        let mut file = File::options().append(true).open(&self.commands)?;
        writeln!(file, "{command}")?;
        Ok(())
    }

    /// What it received so far: JSON objects, one per line.
    #[must_use]
    pub fn received(&self) -> String {
        let bytes = std::fs::read(&self.received).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Succeeds when one received message holds all of `words`.
    ///
    /// # Errors
    /// With all that was received, when none does; when it has ended.
    pub fn has_received(&mut self, words: &[&str]) -> Result<()> {
        self.process.alive()?;
        let received = self.received();
        let found = received
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(found, "no message has {words:?}\n{received}");
        Ok(())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
