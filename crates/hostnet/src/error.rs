//! What can go wrong between us and the kernel, told so that an operator can act on it.

use std::io;
use std::path::PathBuf;

/// A failed kernel operation. `Display` names the operation and the object, and ends with the kernel's own explanation
/// (extended ACK) where it gave one.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused a request.
    #[error("{op} {object}: {}{}", io::Error::from_raw_os_error(*errno), explain(message))]
    Kernel {
        /// What was asked, in words ("create veth").
        op: &'static str,
        /// What it was asked about ("rb0123456789ab").
        object: String,
        /// The positive errno.
        errno: i32,
        /// The kernel's explanation (NLMSGERR_ATTR_MSG), if any.
        message: Option<String>,
    },
    /// A system call other than a netlink request failed.
    #[error("{op} {object}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        object: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer could not be read.
    #[error("{op} {object}: unreadable answer from the kernel: {reason}")]
    Decode {
        /// What was asked.
        op: &'static str,
        /// About what.
        object: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The table changed under every attempt to list it.
    #[error("{op} {object}: the kernel's table kept changing while it was read; try again")]
    DumpInterrupted {
        /// What was listed.
        op: &'static str,
        /// Of what.
        object: String,
    },
    /// The link exists but does not carry our mark, so it was left alone.
    #[error(
        "link {name} (index {ifindex}) is not ours: its alias is {found:?}, expected {expected:?}; left untouched"
    )]
    NotOurs {
        /// The link's name.
        name: String,
        /// The link's index.
        ifindex: u32,
        /// Its alias.
        found: Option<String>,
        /// The alias that would have made it ours.
        expected: String,
    },
    /// The nftables table exists but does not carry our mark, so it was left alone.
    #[error(
        "nftables table inet {name} is not ours: its comment is {found:?}, expected {expected:?}; left untouched"
    )]
    ForeignTable {
        /// The table's name.
        name: String,
        /// Its comment.
        found: Option<String>,
        /// The comment that would have made it ours.
        expected: String,
    },
    /// The path is not a network namespace.
    #[error("{}: not a network namespace ({reason}); expected a path such as /run/netns/NAME or /proc/PID/ns/net", path.display())]
    NotANetNs {
        /// The path as given.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The kernel did not finish something it had accepted.
    #[error("{object} did not become {state} within {millis} ms")]
    NotSettled {
        /// What was waited for.
        object: String,
        /// In which state.
        state: &'static str,
        /// How long.
        millis: u128,
    },
    /// An argument the kernel would misread or truncate.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn explain(message: &Option<String>) -> String {
    message
        .as_ref()
        .map(|text| format!(" (kernel: {text})"))
        .unwrap_or_default()
}

impl NetlinkError {
    /// The errno behind the error, if a system call or the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The object does not exist: no such link, address, neighbour, route, path.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO)
        )
    }

    /// The object exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    pub(crate) fn io(op: &'static str, object: impl ToString, source: io::Error) -> Self {
        Self::Io {
            op,
            object: object.to_string(),
            source,
        }
    }
}

/// Deleting what is not there is success; callers of the `*_del` calls get to know which of the two it was.
pub(crate) fn absent_is_false(result: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_operation_object_and_the_kernels_words() {
        let error = NetlinkError::Kernel {
            op: "add route",
            object: "10.0.0.0/24".into(),
            errno: libc::EINVAL,
            message: Some("Nexthop has invalid gateway".into()),
        };
        let text = error.to_string();
        assert!(
            text.starts_with("add route 10.0.0.0/24: Invalid argument"),
            "{text}"
        );
        assert!(
            text.ends_with("(kernel: Nexthop has invalid gateway)"),
            "{text}"
        );
    }

    #[test]
    fn absent_counts_as_deleted_and_other_errors_do_not() {
        let kernel = |errno| NetlinkError::Kernel {
            op: "delete",
            object: String::new(),
            errno,
            message: None,
        };
        assert!(matches!(absent_is_false(Ok(())), Ok(true)));
        assert!(matches!(
            absent_is_false(Err(kernel(libc::ENODEV))),
            Ok(false)
        ));
        assert!(matches!(
            absent_is_false(Err(kernel(libc::ESRCH))),
            Ok(false)
        ));
        assert!(absent_is_false(Err(kernel(libc::EPERM))).is_err());
    }
}
