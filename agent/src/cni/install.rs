//! The plugin's binary where runtimes look for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{CniConfig, Conflist, PLUGIN};
use crate::files::write_atomically;

/// What every build of the plugin contains: the mark that it writes on links.
const MARK: &[u8] = b"roadbed:1:";

/// The plugin cannot be installed or uninstalled.
#[derive(Debug, Error)]
pub enum InstallError {
    /// There is something of the plugin's name that is no Roadbed plugin.
    #[error(
        "{path} is not Roadbed's plugin; it was left as it is. Move it away, or set cni.bin_dir"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// What should be installed is no Roadbed plugin.
    #[error("{path} is not Roadbed's plugin: name it with --from")]
    WrongSource {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn fail(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io {
        action,
        path,
        source,
    }
}

/// Copies the plugin into `bin_dir`, over an older one of ours; runtimes that start it meanwhile get one or the other.
/// Returns where it is.
///
/// # Errors
/// Either file is no Roadbed plugin, or the system refuses.
pub fn install(config: &CniConfig, from: &Path) -> Result<PathBuf, InstallError> {
    let target = config.bin_dir.join(PLUGIN);
    let binary = fs::read(from).map_err(fail("read", from))?;
    if !is_ours(&binary) {
        return Err(InstallError::WrongSource { path: from.into() });
    }
    match fs::read(&target) {
        Ok(found) if !is_ours(&found) => return Err(InstallError::Foreign { path: target }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("read", &target)(error));
        }
        _ => {}
    }
    fs::create_dir_all(&config.bin_dir).map_err(fail("create", &config.bin_dir))?;
    write_atomically(&target, 0o755, &binary).map_err(fail("write", &target))?;
    Ok(target)
}

/// Removes the network configuration, then the binary that it names; what is not ours or not there is left out. Returns
/// what was removed.
///
/// # Errors
/// When the system refuses.
pub fn uninstall(config: &CniConfig, run_dir: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut removed = Vec::new();
    if let Some(conflist) = Conflist::new(config, run_dir) {
        let path = conflist.path();
        if conflist.remove().map_err(fail("remove", path))? {
            removed.push(path.to_owned());
        }
    }
    let target = config.bin_dir.join(PLUGIN);
    match fs::read(&target) {
        Ok(found) if is_ours(&found) => {
            fs::remove_file(&target).map_err(fail("remove", &target))?;
            removed.push(target);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("read", &target)(error));
        }
        _ => {}
    }
    Ok(removed)
}

fn is_ours(binary: &[u8]) -> bool {
    binary.windows(MARK.len()).any(|window| window == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let config = CniConfig {
            bin_dir: dir.path().join("opt/cni/bin"),
            conf_dir: Some(dir.path().join("net.d")),
            ..CniConfig::default()
        };
        let source = dir.path().join("source");
        let run_dir = Path::new("/run/roadbed");
        fs::write(&source, b"something else").unwrap();
        let wrong = install(&config, &source).unwrap_err();
        assert!(matches!(wrong, InstallError::WrongSource { .. }), "{wrong}");
        for version in ["one", "two"] {
            let binary = [b"ELF ", MARK, version.as_bytes()].concat();
            fs::write(&source, &binary).unwrap();
            let target = install(&config, &source).unwrap();
            assert_eq!(fs::read(target).unwrap(), binary);
        }
        let conflist = Conflist::new(&config, run_dir).unwrap();
        conflist.keep().unwrap();
        let removed = uninstall(&config, run_dir).unwrap();
        assert_eq!(removed, [conflist.path(), &config.bin_dir.join(PLUGIN)]);
        assert_eq!(uninstall(&config, run_dir).unwrap(), [] as [PathBuf; 0]);

        let theirs = config.bin_dir.join(PLUGIN);
        fs::write(&theirs, "theirs").unwrap();
        let foreign = install(&config, &source).unwrap_err();
        assert!(matches!(foreign, InstallError::Foreign { .. }), "{foreign}");
        assert_eq!(uninstall(&config, run_dir).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
    }
}
