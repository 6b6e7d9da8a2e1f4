//! What can go wrong with a lab.

use std::path::PathBuf;

use crate::topology::TopologyError;

/// Why a verb failed. Every message says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The lab is up already.
    #[error("the lab {name} exists ({dir}); remove it first: roadbed-lab down {file}")]
    Exists {
        /// Its name.
        name: String,
        /// Its directory.
        dir: PathBuf,
        /// The topology file that it was asked from.
        file: PathBuf,
    },
    /// There is no such lab.
    #[error("no lab {name} in {dir}; start it first: roadbed-lab up FILE")]
    Missing {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There is no such node.
    #[error("the lab {lab} has no node {node}; it has {known}")]
    NoNode {
        /// The lab.
        lab: String,
        /// The name asked for.
        node: String,
        /// The nodes that it has.
        known: String,
    },
    /// Another process is bringing this lab up.
    #[error("the lab {name} is being brought up by process {pid}; stop that one first")]
    Busy {
        /// The lab.
        name: String,
        /// The process.
        pid: i32,
    },
    /// A step of a node failed.
    #[error("node {node}: {step}: {message}")]
    Node {
        /// The node.
        node: String,
        /// What was tried.
        step: String,
        /// What came of it.
        message: String,
    },
    /// An `ip` command failed.
    #[error("`{command}` failed: {message}")]
    Ip {
        /// The command.
        command: String,
        /// Its words.
        message: String,
    },
    /// The lab cannot be made as asked for.
    #[error("{0}")]
    Refused(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file or process of the lab's own.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// Adds what was tried to an I/O error.
pub(crate) trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T> Tried<T> for std::io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io {
            what: what(),
            source,
        })
    }
}
