//! OpenBGPD as a peer, with its control socket in a directory of the test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::{Ns, run};
use crate::process::Process;
use crate::wait::eventually;

/// Where Debian's package has it confine itself; empty, and made at start by the service that tests do not use.
const CHROOT: &str = "/run/openbgpd";

/// An OpenBGPD running in a namespace. It writes no kernel routes.
#[derive(Debug)]
pub struct Openbgpd {
    process: Process,
    config: PathBuf,
    socket: PathBuf,
}

impl Openbgpd {
    /// Writes `config` to `dir`/openbgpd.conf, starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ns: &Ns, dir: &Path, config: &str) -> Result<Self> {
        std::fs::create_dir_all(CHROOT)?;
        let (file, socket) = (dir.join("openbgpd.conf"), dir.join("openbgpd.sock"));
        let text = |path: &Path| -> Result<String> {
            let text = path.to_str().context("paths of tests are UTF-8")?;
            Ok(text.to_owned())
        };
        write(&file, &socket, config)?;
        let argv = ["/usr/sbin/bgpd", "-d", "-v", "-f", &text(&file)?];
        let mut openbgpd = Self {
            process: Process::start(ns, dir, "openbgpd", &argv)?,
            config: file,
            socket,
        };
        eventually(Duration::from_secs(10), "OpenBGPD answers", || {
            openbgpd.process.alive()?;
            openbgpd.cli("show summary")
        });
        Ok(openbgpd)
    }

    /// One command of `bgpctl`; words are separated by blanks.
    ///
    /// # Errors
    /// When OpenBGPD does not take it.
    pub fn cli(&self, line: &str) -> Result<String> {
        run(Command::new("bgpctl")
            .arg("-s")
            .arg(&self.socket)
            .args(line.split_whitespace()))
    }

    /// Replaces the configuration in the running daemon.
    ///
    /// # Errors
    /// When OpenBGPD does not take it.
    pub fn reload(&self, config: &str) -> Result<()> {
        write(&self.config, &self.socket, config)?;
        self.cli("reload")?;
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

/// OpenBGPD refuses a file that others may read.
fn write(file: &Path, socket: &Path, config: &str) -> Result<()> {
    let own = format!("fib-update no\nsocket \"{}\"\n", socket.display());
    std::fs::write(file, own + config)?;
    std::fs::set_permissions(file, Permissions::from_mode(0o600))?;
    Ok(())
}
