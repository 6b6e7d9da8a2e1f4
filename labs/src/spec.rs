//! What a node's first process is told: one JSON file per node, written by `up`, read once by `init`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that makes a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    /// Host name inside.
    pub(crate) hostname: String,
    /// Bind mounts, sources as canonical host paths.
    pub(crate) mounts: Vec<Mount>,
    /// Host directories that must be readable at their own path.
    pub(crate) visible: Vec<PathBuf>,
    /// Programs linked into `/usr/local/bin`.
    pub(crate) tools: Vec<PathBuf>,
    /// The environment of every process of the node, complete.
    pub(crate) env: BTreeMap<String, String>,
    /// Kernel settings under `/proc/sys`, dotted, in order.
    pub(crate) sysctls: Vec<(String, String)>,
    /// Directories that the programs expect.
    pub(crate) dirs: Vec<OwnedDir>,
    /// The image's programs.
    pub(crate) processes: Vec<ProcessSpec>,
    /// Run once when every program is ready; empty for none.
    pub(crate) boot: Vec<String>,
}

/// One bind mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// A directory made before the programs start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnedDir {
    pub(crate) path: PathBuf,
    /// User and group of this name, as the machine's passwd knows them.
    pub(crate) owner: String,
    pub(crate) mode: u32,
}

/// A supervised program. It is not restarted when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    /// The program is ready once this path exists.
    pub(crate) ready: Option<PathBuf>,
}
