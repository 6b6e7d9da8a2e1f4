//! Named namespaces under `/run/netns`, as `ip netns` keeps them, made without `fork`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::NetNs;
use crate::error::NetlinkError;

/// Where named namespaces live.
pub const NETNS_DIR: &str = "/run/netns";

/// A namespace that we made, with a name other programs (`ip netns exec NAME`) can use. Dropping it deletes the name;
/// processes and sockets inside keep the namespace itself alive.
#[derive(Debug)]
pub struct NamedNetNs {
    name: String,
    ns: NetNs,
    keep: bool,
}

impl NamedNetNs {
    /// Makes a new, empty namespace (loopback down). Fails if the name is taken.
    pub fn create(name: &str) -> Result<Self, NetlinkError> {
        let path = path_of(name)?;
        prepare_dir().map_err(|e| NetlinkError::io("prepare", NETNS_DIR, e))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .map_err(|e| NetlinkError::io("create network namespace", name, e))?;
        let made = unshare_onto(&path)
            .map_err(|e| NetlinkError::io("create network namespace", name, e))
            .and_then(|()| NetNs::open(&path));
        match made {
            Ok(ns) => Ok(Self {
                name: name.to_owned(),
                ns,
                keep: false,
            }),
            Err(error) => {
                // The first error is the one worth telling.
                let _ = Self::delete(name);
                Err(error)
            }
        }
    }

    /// Deletes the name; `false` if there was none.
    pub fn delete(name: &str) -> Result<bool, NetlinkError> {
        let path = path_of(name)?;
        let failed = |e: io::Error| NetlinkError::io("delete network namespace", name, e);
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: a plain file, left by a creation that was cut short.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, `/run/netns/NAME`.
    pub fn path(&self) -> &Path {
        self.ns.path()
    }

    /// The open namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Gives up ownership: the name stays until someone calls [`Self::delete`].
    pub fn leave(mut self) {
        self.keep = true;
    }
}

impl Drop for NamedNetNs {
    fn drop(&mut self) {
        if !self.keep {
            // Nobody is left to tell; a name that stays is visible in `ip netns`.
            let _ = Self::delete(&self.name);
        }
    }
}

fn path_of(name: &str) -> Result<PathBuf, NetlinkError> {
    let reason = match name {
        "" => "must not be empty",
        "." | ".." => "must be a plain name",
        _ if name.len() > 255 => "must have at most 255 bytes",
        _ if name.contains(['/', '\0']) => "must not contain '/' or NUL",
        _ => return Ok(Path::new(NETNS_DIR).join(name)),
    };
    Err(NetlinkError::Invalid {
        field: "namespace name",
        value: name.chars().take(64).collect(),
        reason,
    })
}

/// Makes the directory a shared mount point, exactly as `ip netns add` does: two tools that disagree on that hide each
/// other's names. The lock is the one `ip` takes.
fn prepare_dir() -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(NETNS_DIR)?;
    let _locked =
        Flock::lock(File::open(NETNS_DIR)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let share = || {
        mount(
            None::<&str>,
            NETNS_DIR,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    match share() {
        Err(Errno::EINVAL) => {
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(NETNS_DIR), NETNS_DIR, None::<&str>, bind, None::<&str>)?;
            Ok(share()?)
        }
        other => Ok(other?),
    }
}

/// A thread of its own leaves our namespace for a fresh one and pins that to `path`.
fn unshare_onto(path: &Path) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns-create".into())
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(
                    Some("/proc/thread-self/ns/net"),
                    path,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )?;
                Ok(())
            })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
