//! Network namespaces: open one, prove that it is one, work inside one on a thread for it or, for a visit, on the caller's.
#![allow(
    unsafe_code,
    reason = "NS_GET_NSTYPE and SO_NETNS_COOKIE have no safe wrapper in the crates we use"
)]

mod named;

pub use named::{NETNS_DIR, NamedNetNs};

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::NetlinkError;

/// `_IO(NSIO, 0x3)` of linux/nsfs.h: the CLONE_NEW* flag of the namespace behind a descriptor.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// An open network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

impl NetNs {
    /// Opens the namespace at `path` (`/run/netns/NAME`, `/proc/PID/ns/net`) and checks that it is a network namespace.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetlinkError> {
        let path = path.as_ref();
        // O_NONBLOCK: a FIFO at that path must not hold us.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| NetlinkError::io("open network namespace", path.display(), e))?;
        let ns = Self {
            file,
            path: path.to_owned(),
        };
        ns.check_type()?;
        Ok(ns)
    }

    /// The calling thread's own namespace.
    pub fn current() -> Result<Self, NetlinkError> {
        Self::open("/proc/thread-self/ns/net")
    }

    fn check_type(&self) -> Result<(), NetlinkError> {
        // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open for the call. On a file
        // that is no namespace the number means nothing to the driver and the call fails.
        let kind = unsafe { libc::ioctl(self.file.as_raw_fd(), NS_GET_NSTYPE as _) };
        let reason = match kind {
            libc::CLONE_NEWNET => return Ok(()),
            -1 => "it is not a namespace at all",
            _ => "it is a namespace of another type",
        };
        Err(NetlinkError::NotANetNs {
            path: self.path.clone(),
            reason,
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `DEVICE:INODE` of the namespace: equal for two handles of one namespace. The kernel reuses inodes after the
    /// namespace is gone; see [`Self::cookie`].
    pub fn identity(&self) -> Result<String, NetlinkError> {
        let meta = self
            .file
            .metadata()
            .map_err(|e| NetlinkError::io("stat", self.path.display(), e))?;
        Ok(format!("{}:{}", meta.dev(), meta.ino()))
    }

    /// The kernel's number for this namespace (SO_NETNS_COOKIE): never given twice within one boot.
    pub fn cookie(&self) -> Result<u64, NetlinkError> {
        run_in(self, read_cookie)?
            .map_err(|e| NetlinkError::io("read the cookie of", self.path.display(), e))
    }

    /// Whether both are the same namespace.
    pub fn is_same(&self, other: &Self) -> Result<bool, NetlinkError> {
        Ok(self.identity()? == other.identity()?)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn read_cookie() -> io::Result<u64> {
    cookie_of(&socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// The cookie of the namespace that a socket was opened in.
pub(crate) fn cookie_of(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` is valid for writes of `length` bytes, the size the kernel requires for this option, and both
    // outlive the call; the descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs `work` on the calling thread inside `ns`, then brings the thread back to `home`, its own namespace: [`run_in`]
/// without a thread, for a process that has only one and may enter both namespaces.
///
/// # Errors
/// `ns` cannot be entered, or `home` not any more, in which case the thread is stuck in `ns` and should end.
pub fn visit<T>(home: &NetNs, ns: &NetNs, work: impl FnOnce() -> T) -> Result<T, NetlinkError> {
    /// Brings the thread back when `work` panics, too.
    struct Visit<'a>(Option<&'a NetNs>);
    impl Drop for Visit<'_> {
        fn drop(&mut self) {
            if let Some(home) = self.0.take() {
                // The panic that led here says more.
                let _ = enter(home);
            }
        }
    }
    enter(ns)?;
    let mut visit = Visit(Some(home));
    let done = work();
    visit.0.take().map_or(Ok(()), enter)?;
    Ok(done)
}

fn enter(ns: &NetNs) -> Result<(), NetlinkError> {
    setns(ns.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(|e| NetlinkError::io("enter network namespace", ns.path.display(), e.into()))
}

/// Runs `work` on a short-lived thread inside `ns`; the caller's thread never changes namespace. A panic of `work`
/// continues on the caller's thread.
pub fn run_in<T: Send>(ns: &NetNs, work: impl FnOnce() -> T + Send) -> Result<T, NetlinkError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                enter(ns)?;
                Ok(work())
            })
            .map_err(|e| NetlinkError::io("enter network namespace", ns.path.display(), e))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
