//! The run directory of a daemon: made, locked against a second one, with the socket that `roadbedctl` asks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use roadbed_api::names::{ROUTER_SOCKET_NAME, SOCKET_NAME};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::net::UnixListener;

/// Connections that may wait.
const BACKLOG: i32 = 128;

/// Whose run directory it is. An agent and a router can share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `roadbed-agent`.
    Agent,
    /// `roadbed-bgpd` alone.
    Router,
}

impl Daemon {
    fn program(self) -> &'static str {
        match self {
            Daemon::Agent => "roadbed-agent",
            Daemon::Router => "roadbed-bgpd",
        }
    }

    fn lock(self) -> &'static str {
        match self {
            Daemon::Agent => "agent.lock",
            Daemon::Router => "router.lock",
        }
    }

    fn socket(self) -> &'static str {
        match self {
            Daemon::Agent => SOCKET_NAME,
            Daemon::Router => ROUTER_SOCKET_NAME,
        }
    }
}

/// The run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// Another daemon of the kind has it.
    #[error(
        "run_dir {dir}: another {program} (pid {pid}) runs on this directory: stop it, or give this one a run_dir of its own"
    )]
    Busy {
        /// Its name.
        program: &'static str,
        /// The directory.
        dir: String,
        /// From the lock file.
        pid: String,
    },
    /// The system refuses.
    #[error("run_dir: cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A locked run directory. The lock ends with the process, whatever ends it.
#[derive(Debug)]
pub struct RunDir {
    daemon: Daemon,
    path: PathBuf,
    lock: File,
}

impl RunDir {
    /// Makes the directory and locks it.
    ///
    /// # Errors
    /// When another daemon of the kind holds it, or the system refuses.
    pub fn lock(path: &Path, daemon: Daemon) -> Result<Self, RunDirError> {
        let fail = |action, path: &Path| {
            let path = path.display().to_string();
            move |source| RunDirError::Io {
                action,
                path,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(fail("create", path))?;
        let lock_path = path.join(daemon.lock());
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail("open", &lock_path))?;
        // Whoever can open it can lock it.
        lock.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(fail("set the mode of", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message.
                lock.read_to_string(&mut pid).ok();
                return Err(RunDirError::Busy {
                    program: daemon.program(),
                    dir: path.display().to_string(),
                    pid: pid.trim().chars().filter(char::is_ascii_digit).collect(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(fail("lock", &lock_path)(error)),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(fail("write", &lock_path))?;
        Ok(Self {
            daemon,
            path: path.to_owned(),
            lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory is still the one that we locked: without it nobody can reach us, and another daemon may start.
    pub fn is_ours(&self) -> bool {
        let there = fs::metadata(self.path.join(self.daemon.lock()));
        match (there, self.lock.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        }
    }

    /// Whether somebody can find the socket.
    pub fn has_socket(&self) -> bool {
        self.path.join(self.daemon.socket()).exists()
    }

    /// Opens the socket, in place of one that an earlier daemon left: the lock says that none listens there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(&self) -> Result<UnixListener, RunDirError> {
        let path = self.path.join(self.daemon.socket());
        let fail = |action| {
            let path = path.display().to_string();
            move |source| RunDirError::Io {
                action,
                path,
                source,
            }
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fail("remove")(error));
            }
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail("make"))?;
        // Before there is a path, which the mask narrows: nobody may connect in between.
        let socket = File::from(OwnedFd::from(socket));
        socket
            .set_permissions(fs::Permissions::from_mode(0o660))
            .map_err(fail("set the mode of"))?;
        let socket = Socket::from(OwnedFd::from(socket));
        let address = SockAddr::unix(&path).map_err(fail("name"))?;
        socket.bind(&address).map_err(fail("listen on"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))
            .map_err(fail("set the mode of"))?;
        socket.listen(BACKLOG).map_err(fail("listen on"))?;
        socket.set_nonblocking(true).map_err(fail("listen on"))?;
        UnixListener::from_std(OwnedFd::from(socket).into()).map_err(fail("listen on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(dir: &Path) -> Result<RunDir, RunDirError> {
        RunDir::lock(dir, Daemon::Agent)
    }

    #[test]
    fn a_second_daemon_of_a_kind_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        for word in [
            "run_dir",
            "roadbed-agent",
            &format!("pid {}", std::process::id()),
        ] {
            assert!(error.contains(word), "{error}");
        }
        RunDir::lock(dir.path(), Daemon::Router).unwrap();
        assert!(first.is_ours());
        let path = dir.path().join("agent.lock");
        std::fs::remove_file(&path).unwrap();
        assert!(!first.is_ours());
        std::fs::write(&path, "").unwrap();
        assert!(!first.is_ours());
        drop(first);
        lock(dir.path()).unwrap();
    }

    /// An older daemon's lock could be read, and so locked, by everybody.
    #[tokio::test]
    async fn lock_and_socket_are_not_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        std::fs::write(&path, "").unwrap();
        let run_dir = lock(dir.path()).unwrap();
        for _ in 0..2 {
            let _listener = run_dir.listen().unwrap();
            let mode = |name: &str| {
                let found = std::fs::metadata(dir.path().join(name)).unwrap();
                found.permissions().mode() & 0o777
            };
            assert_eq!((mode("agent.lock"), mode(SOCKET_NAME)), (0o600, 0o660));
        }
    }
}
