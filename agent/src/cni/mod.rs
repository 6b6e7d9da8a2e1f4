//! What a container runtime reads of us: the plugin's binary and the network configuration.
//!
//! `roadbed-agent install-cni` puts the binary in place, as an init container does; the running agent writes the
//! configuration once pods can be started, keeps it, and leaves it when it stops: an upgrade must not make a node
//! NotReady. `roadbed-agent uninstall-cni` takes both away. A file that is not ours is never written nor removed.

mod conflist;
mod install;

use std::path::PathBuf;

use roadbed_api::Problems;
use roadbed_api::agent::AttachmentKey;
use serde::Deserialize;

pub use conflist::{CONFLIST, Conflist, Kept};
pub use install::{InstallError, install, uninstall};

/// File name of the plugin, and its `type` in a network configuration.
pub const PLUGIN: &str = "roadbed";

/// The table `cni` of the agent's settings.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CniConfig {
    /// Where runtimes look for plugins.
    pub bin_dir: PathBuf,
    /// Where runtimes look for network configurations; absent: the agent writes none.
    pub conf_dir: Option<PathBuf>,
    /// Name of the network, which attachments are known by.
    pub network: String,
    /// Plugins that are chained after ours, in their order, those that exist in `bin_dir`.
    pub chain: Vec<String>,
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: None,
            network: "roadbed".into(),
            chain: vec!["portmap".into(), "bandwidth".into()],
        }
    }
}

impl CniConfig {
    /// Adds all that is wrong.
    pub fn validate(&self, problems: &mut Problems) {
        let dirs = [
            ("cni.bin_dir", Some(&self.bin_dir)),
            ("cni.conf_dir", self.conf_dir.as_ref()),
        ];
        for (field, path) in dirs {
            if let Some(path) = path.filter(|path| !path.is_absolute()) {
                problems.add(field, format!("{} is not an absolute path", path.display()));
            }
        }
        // The plugin judges the network's name as part of a key; so do we, before it is in a file.
        let key = AttachmentKey {
            network: self.network.clone(),
            container_id: "x".into(),
            ifname: "x".into(),
        };
        if let Some(problem) = key.problem() {
            problems.add("cni.network", problem);
        }
        for (i, plugin) in self.chain.iter().enumerate() {
            let field = format!("cni.chain[{i}]");
            if plugin == PLUGIN {
                problems.add(field, format!("{plugin:?} comes first by itself"));
            } else if plugin.is_empty() || plugin.contains('/') {
                problems.add(field, format!("{plugin:?} is not the name of a plugin"));
            }
        }
    }
}
