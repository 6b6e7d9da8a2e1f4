//! What a lab leaves on disk while it is up: `<base>/<lab>/state.json`, and one directory per node.
//!
//! The file is there before the first namespace is, so whatever a killed `up` leaves behind can be found by `down`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{LabError, Tried};
use crate::process::Process;

const FILE: &str = "state.json";

/// The lab as recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) topology: PathBuf,
    /// The process that brings it up; `None` once it is up.
    pub(crate) creator: Option<Process>,
    pub(crate) nodes: Vec<NodeState>,
}

/// A node as recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) image: String,
    pub(crate) netns: String,
    pub(crate) env: BTreeMap<String, String>,
}

impl State {
    /// Makes the lab's directory in one step with this state in it; false when it is there already.
    pub(crate) fn create(&self, base: &Path) -> Result<bool, LabError> {
        let new = base.join(format!(".{}.{}", self.name, std::process::id()));
        let write = || -> io::Result<bool> {
            fs::create_dir_all(&new)?;
            fs::write(new.join(FILE), serde_json::to_vec_pretty(self)?)?;
            match fs::rename(&new, base.join(&self.name)) {
                Ok(()) => Ok(true),
                Err(error) => {
                    fs::remove_dir_all(&new)?;
                    match error.kind() {
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                            Ok(false)
                        }
                        _ => Err(error),
                    }
                }
            }
        };
        write().tried(|| format!("make the lab's directory in {}", base.display()))
    }

    /// Replaces the record.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), LabError> {
        let new = dir.join("state.new");
        let write = || -> io::Result<()> {
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&new, dir.join(FILE))
        };
        write().tried(|| format!("write {}", dir.join(FILE).display()))
    }

    /// Reads the record of the lab in `dir`; `None` when there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<State>, LabError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(io::Error::from)
                .tried(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).tried(|| format!("read {}", path.display())),
        }
    }
}
