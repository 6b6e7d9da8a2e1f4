//! The network configuration: its text, and keeping it in place.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CniConfig, PLUGIN};
use crate::files::write_atomically;

/// Name of the file. Runtimes take the first in the order of names: before a `10-calico.conflist` that somebody left.
pub const CONFLIST: &str = "05-roadbed.conflist";
/// What a runtime must know at least, and what it may use (CNI specification 1.1.0 §1).
const VERSION: &str = "1.0.0";
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The agent's own network configuration.
#[derive(Clone, Debug)]
pub struct Conflist {
    path: PathBuf,
    config: CniConfig,
    run_dir: PathBuf,
}

/// What a look at the file led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is as it should be.
    Right,
    /// It was written.
    Written,
    /// There is no plugin that it could name: it would make a node Ready that cannot start a pod.
    NoPlugin,
    /// A file of this name is not ours: left alone.
    Foreign,
}

impl Conflist {
    /// That of an agent with these settings, if it is to write one.
    pub fn new(config: &CniConfig, run_dir: &Path) -> Option<Self> {
        Some(Self {
            path: config.conf_dir.as_ref()?.join(CONFLIST),
            config: config.clone(),
            run_dir: run_dir.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, unless it is there already and right.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep(&self) -> io::Result<Kept> {
        let exists = |plugin: &str| self.config.bin_dir.join(plugin).is_file();
        if !exists(PLUGIN) {
            return Ok(Kept::NoPlugin);
        }
        let text = text(&self.config, &self.run_dir, exists);
        match std::fs::read(&self.path) {
            Ok(found) if found == text.as_bytes() => return Ok(Kept::Right),
            Ok(found) if !is_ours(&found) => return Ok(Kept::Foreign),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(directory) = &self.config.conf_dir {
            std::fs::create_dir_all(directory)?;
        }
        write_atomically(&self.path, 0o644, text.as_bytes())?;
        Ok(Kept::Written)
    }

    /// Removes it if it is ours; whether there was one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self) -> io::Result<bool> {
        match std::fs::read(&self.path) {
            Ok(found) if is_ours(&found) => std::fs::remove_file(&self.path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn text(config: &CniConfig, run_dir: &Path, exists: impl Fn(&str) -> bool) -> String {
    let mut plugins = vec![
        json!({"type": PLUGIN, "runDir": run_dir, "capabilities": {"mac": true, "ips": true}}),
    ];
    let chained = config.chain.iter().filter(|plugin| exists(plugin));
    plugins.extend(chained.map(|plugin| match plugin.as_str() {
        "portmap" => json!({"type": plugin, "capabilities": {"portMappings": true}}),
        "bandwidth" => json!({"type": plugin, "capabilities": {"bandwidth": true}}),
        _ => json!({"type": plugin}),
    }));
    let list = json!({
        "cniVersion": VERSION,
        "cniVersions": VERSIONS,
        "name": config.network,
        "plugins": plugins,
    });
    format!("{list:#}\n")
}

/// Whether our plugin comes first: nobody else's configuration has that, under this name.
fn is_ours(bytes: &[u8]) -> bool {
    let parsed: Value = serde_json::from_slice(bytes).unwrap_or_default();
    // What a crash left of one of ours is nobody's.
    bytes.is_empty() || parsed["plugins"][0]["type"] == PLUGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dirs(tempfile::TempDir);

    impl Dirs {
        fn new(plugins: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("bin")).unwrap();
            for plugin in plugins {
                std::fs::write(dir.path().join("bin").join(plugin), "").unwrap();
            }
            Self(dir)
        }

        fn conflist(&self) -> Conflist {
            let config = CniConfig {
                bin_dir: self.0.path().join("bin"),
                conf_dir: Some(self.0.path().join("net.d")),
                ..CniConfig::default()
            };
            Conflist::new(&config, Path::new("/run/roadbed")).unwrap()
        }
    }

    #[test]
    fn it_is_kept_and_chains_what_exists() {
        let dirs = Dirs::new(&["roadbed", "portmap"]);
        let conflist = dirs.conflist();
        assert_eq!(conflist.keep().unwrap(), Kept::Written);
        assert_eq!(conflist.keep().unwrap(), Kept::Right);
        let read = || -> Value {
            serde_json::from_slice(&std::fs::read(conflist.path()).unwrap()).unwrap()
        };
        let types = |list: &Value| -> Vec<String> {
            let plugins = list["plugins"].as_array().unwrap();
            plugins
                .iter()
                .map(|p| p["type"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(types(&read()), ["roadbed", "portmap"]);
        assert_eq!(read()["plugins"][0]["runDir"], "/run/roadbed");
        // A plugin that comes later is chained later.
        std::fs::write(dirs.0.path().join("bin/bandwidth"), "").unwrap();
        assert_eq!(conflist.keep().unwrap(), Kept::Written);
        assert_eq!(types(&read()), ["roadbed", "portmap", "bandwidth"]);
        for damage in ["", r#"{"plugins":[{"type":"roadbed"}]}"#] {
            std::fs::write(conflist.path(), damage).unwrap();
            assert_eq!(conflist.keep().unwrap(), Kept::Written, "{damage}");
        }
        assert!(conflist.path().file_name().unwrap() < std::ffi::OsStr::new("10-calico.conflist"));
        assert!(conflist.remove().unwrap() && !conflist.remove().unwrap());
    }

    #[test]
    fn what_is_not_ours_stays_and_without_a_plugin_there_is_none() {
        let conflist = Dirs::new(&["portmap"]).conflist();
        assert_eq!(conflist.keep().unwrap(), Kept::NoPlugin);
        let dirs = Dirs::new(&["roadbed"]);
        let conflist = dirs.conflist();
        std::fs::create_dir(dirs.0.path().join("net.d")).unwrap();
        for theirs in ["text", r#"{"plugins":[{"type":"bridge"}]}"#] {
            std::fs::write(conflist.path(), theirs).unwrap();
            assert_eq!(conflist.keep().unwrap(), Kept::Foreign);
            assert!(!conflist.remove().unwrap());
            assert_eq!(std::fs::read_to_string(conflist.path()).unwrap(), theirs);
        }
        let none = CniConfig::default();
        assert!(Conflist::new(&none, Path::new("/run/roadbed")).is_none());
    }
}
