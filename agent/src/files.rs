//! Files that others read while we write them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes beside, syncs, renames: a reader finds the old content or the new one, never half of one, after a crash too.
///
/// # Errors
/// When the system refuses; nothing is left beside then.
pub fn write_atomically(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Always the same, so that crashes do not pile up; with no suffix that a container runtime takes for a configuration.
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let written = write(&temporary, mode, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // What the umask took away, and what a file that a crash left had.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_stays_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roadbed");
        for (mode, text) in [(0o755, "one"), (0o600, "two")] {
            write_atomically(&path, mode, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let found = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
        // A directory is in the way.
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        write_atomically(&taken, 0o600, b"x").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
