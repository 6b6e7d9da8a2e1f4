//! FRR (`zebra` and `bgpd` of Debian's package) as a peer, with its sockets in a directory of its own.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, chown};

use crate::netns::{Ns, run};
use crate::process::Process;
use crate::wait::eventually;

/// Both daemons, running in a namespace.
#[derive(Debug)]
pub struct Frr {
    zebra: Process,
    bgpd: Process,
    dir: PathBuf,
}

impl Frr {
    /// Writes `config` to a file below `dir`, starts both daemons and waits until they answer.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn start(ns: &Ns, dir: &Path, config: &str) -> Result<Self> {
        let dir = &own_directory(dir)?;
        let mut zebra = daemon(ns, dir, "zebra", "hostname zebra\n")?;
        // A bgpd that does not find zebra tries again ten seconds later, and until then knows no interface.
        eventually(Duration::from_secs(10), "zebra takes clients", || {
            zebra.alive()?;
            let socket = dir.join("zserv.api");
            ensure!(socket.exists(), "no {}", socket.display());
            Ok(())
        });
        let mut frr = Self {
            zebra,
            bgpd: daemon(ns, dir, "bgpd", config)?,
            dir: dir.to_owned(),
        };
        eventually(Duration::from_secs(10), "FRR answers", || {
            frr.zebra.alive()?;
            frr.bgpd.alive()?;
            frr.cli("show bgp summary")
        });
        Ok(frr)
    }

    /// One command of `vtysh`.
    ///
    /// # Errors
    /// When FRR does not answer.
    pub fn cli(&self, line: &str) -> Result<String> {
        run(Command::new("vtysh")
            .arg("--vty_socket")
            .arg(&self.dir)
            .args(["-d", "bgpd", "-c", line]))
    }

    /// Runs lines of configuration.
    ///
    /// # Errors
    /// When FRR does not take them.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir);
        command.args(["-d", "bgpd", "-c", "configure terminal"]);
        for line in lines {
            command.args(["-c", line]);
        }
        run(&mut command)?;
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
}

/// FRR gives up root, so it needs a place where its own user may write.
fn own_directory(dir: &Path) -> Result<PathBuf> {
    let frr = User::from_name("frr")?.context("there is no user frr: install Debian's frr")?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    let own = dir.join("frr");
    std::fs::create_dir_all(&own)?;
    chown(&own, Some(frr.uid), Some(frr.gid))?;
    Ok(own)
}

fn daemon(ns: &Ns, dir: &Path, name: &str, config: &str) -> Result<Process> {
    let at = |file: &str| -> Result<String> {
        let path = dir.join(file);
        let text = path.to_str().context("paths of tests are UTF-8")?;
        Ok(text.to_owned())
    };
    let file = at(&format!("{name}.conf"))?;
    std::fs::write(&file, config)?;
    let (program, pid, socket, vty) = (
        format!("/usr/lib/frr/{name}"),
        at(&format!("{name}.pid"))?,
        at("zserv.api")?,
        at("")?,
    );
    let argv = [
        &program,
        "-f",
        &file,
        "-i",
        &pid,
        "-z",
        &socket,
        "--vty_socket",
        vty.trim_end_matches('/'),
        "-A",
        "127.0.0.1",
        "--log",
        "stdout",
    ];
    Process::start(ns, dir, name, &argv)
}
