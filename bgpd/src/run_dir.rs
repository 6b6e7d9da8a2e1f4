//! The run directory of a daemon: made, locked against a second one, with the socket that `roadbedctl` asks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use roadbed_api::names::SOCKET_NAME;
use thiserror::Error;
use tokio::net::UnixListener;

/// Name of the lock file.
const LOCK: &str = "agent.lock";

/// The run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// Another daemon has it.
    #[error(
        "run_dir {dir}: another Roadbed daemon (pid {pid}) runs on this directory: stop it, or give this one a run_dir of its own"
    )]
    Busy {
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
    path: PathBuf,
    lock: File,
}

impl RunDir {
    /// Makes the directory and locks it.
    ///
    /// # Errors
    /// When another daemon holds it, or the system refuses.
    pub fn lock(path: &Path) -> Result<Self, RunDirError> {
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
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(fail("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message.
                lock.read_to_string(&mut pid).ok();
                return Err(RunDirError::Busy {
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
        let there = fs::metadata(self.path.join(LOCK));
        match (there, self.lock.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        }
    }

    /// Opens the socket, in place of one that an earlier daemon left: the lock says that none listens there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(&self) -> Result<UnixListener, RunDirError> {
        let path = self.path.join(SOCKET_NAME);
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
        let listener = UnixListener::bind(&path).map_err(fail("listen on"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))
            .map_err(fail("set the mode of"))?;
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::lock(dir.path()).unwrap();
        let error = RunDir::lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        assert!(error.contains("run_dir"), "{error}");
        assert!(first.is_ours());
        std::fs::remove_file(dir.path().join(LOCK)).unwrap();
        assert!(!first.is_ours());
        std::fs::write(dir.path().join(LOCK), "").unwrap();
        assert!(!first.is_ours());
        drop(first);
        RunDir::lock(dir.path()).unwrap();
    }
}
