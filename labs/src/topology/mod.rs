//! A containerlab topology file, read and validated for what namespaces can do.
//!
//! Owns the types. `read` turns a document into them and `keys` says which keys of containerlab's schema are taken,
//! tolerated or refused. Nothing here touches a namespace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::images::Image;
use crate::problem::Problem;

mod keys;
mod read;
#[cfg(test)]
mod tests;

/// Largest topology file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// Most nodes in one lab.
pub const MAX_NODES: usize = 256;
/// Most links in one lab.
pub const MAX_LINKS: usize = 2048;
/// MTU of a link that names none: containerlab's own default.
pub const DEFAULT_MTU: u32 = 9500;

/// A validated topology.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The lab's name; [`crate::Options::name`] may replace it.
    pub name: String,
    /// First part of every node's outside name.
    pub prefix: String,
    /// The file, absolute.
    pub file: PathBuf,
    /// Nodes in file order.
    pub nodes: Vec<Node>,
    /// Links in file order.
    pub links: Vec<Link>,
    /// Keys that were accepted and have no effect here, one sentence each.
    pub notes: Vec<String>,
}

/// One node, with `defaults`, `kinds` and `groups` already merged in.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name within the lab, and host name inside.
    pub name: String,
    /// The image as written.
    pub image: String,
    /// What stands in for the image.
    pub stand_in: &'static Image,
    /// `entrypoint`, split into words.
    pub entrypoint: Vec<String>,
    /// `cmd`, split into words.
    pub cmd: Vec<String>,
    /// Commands run once after links and programs are there.
    pub exec: Vec<Vec<String>>,
    /// Bind mounts.
    pub binds: Vec<Bind>,
    /// Environment of all of the node's processes.
    pub env: BTreeMap<String, String>,
    /// Kernel settings, dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// One bind mount: `source:target[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Host path as written; `__clabDir__` and `__clabNodeDir__` not yet replaced.
    pub source: String,
    /// Absolute path inside the node.
    pub target: String,
    /// Whether the node may not write.
    pub read_only: bool,
}

/// A veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Both ends.
    pub ends: [Endpoint; 2],
    /// MTU of both ends, in bytes.
    pub mtu: u32,
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Node name.
    pub node: String,
    /// Interface name inside the node.
    pub interface: String,
}

/// Why a topology file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_FILE`].
    #[error("{path} is larger than {MAX_FILE} bytes; a topology file is smaller than that")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not YAML.
    #[error("{path} is not valid YAML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// Valid YAML that namespaces cannot realise: every fault, not only the first.
    #[error("{path} cannot be realised in namespaces:{}", list(.problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All faults in file order.
        problems: Vec<Problem>,
    },
}

impl Topology {
    /// Reads and validates `path`; sources of binds are checked to exist.
    ///
    /// # Errors
    /// All faults of the file together.
    pub fn load(path: &Path) -> Result<Topology, TopologyError> {
        let read = |source| TopologyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = path.canonicalize().map_err(read)?;
        if std::fs::metadata(&file).map_err(read)?.len() > MAX_FILE {
            return Err(TopologyError::TooLarge {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(&file).map_err(read)?;
        let (topology, mut problems) = read::read(&text, &file)?;
        for node in topology.iter().flat_map(|topology| &topology.nodes) {
            for (index, bind) in node.binds.iter().enumerate() {
                let source = file.parent().unwrap_or(Path::new("/")).join(&bind.source);
                if !bind.source.starts_with("__clab") && !source.exists() {
                    problems.push(Problem {
                        line: 0,
                        path: format!("topology.nodes.{}.binds[{index}]", node.name),
                        message: format!("the source {} does not exist", source.display()),
                    });
                }
            }
        }
        finish(topology, problems, path)
    }

    /// Validates `text` as if it stood in `path`; reads nothing.
    ///
    /// # Errors
    /// All faults of the text together.
    pub fn parse(text: &str, path: &Path) -> Result<Topology, TopologyError> {
        let (topology, problems) = read::read(text, path)?;
        finish(topology, problems, path)
    }

    /// The directory that relative bind sources start from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The outside name of `node` in the lab `lab`, as containerlab names its containers.
    #[must_use]
    pub fn outside_name(&self, lab: &str, node: &str) -> String {
        match self.prefix.as_str() {
            "" => node.to_owned(),
            "__lab-name" => format!("{lab}-{node}"),
            prefix => format!("{prefix}-{lab}-{node}"),
        }
    }
}

fn finish(
    topology: Option<Topology>,
    mut problems: Vec<Problem>,
    path: &Path,
) -> Result<Topology, TopologyError> {
    match topology {
        Some(topology) if problems.is_empty() => Ok(topology),
        _ => {
            problems.sort_by_key(|problem| match problem.line {
                0 => u64::MAX,
                line => line,
            });
            Err(TopologyError::Invalid {
                path: path.to_owned(),
                problems,
            })
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}
