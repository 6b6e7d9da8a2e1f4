//! Notes to an agent that was away: one file per attachment that the plugin unwired by itself.
//!
//! `<runDir>/notes/<host interface name>.json` holds the attachment's key. The agent's audit clears them every
//! few seconds; since an attachment lives as long as its host link, a note only says where to look. It is
//! written beside and renamed, so a reader never sees half of one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use roadbed_api::agent::AttachmentKey;
use roadbed_api::names;

fn path_of(run_dir: &Path, key: &AttachmentKey) -> PathBuf {
    run_dir
        .join(names::NOTES_DIR)
        .join(names::host_ifname(key) + ".json")
}

/// Leaves a note. An agent that never ran here (no run directory) needs none.
pub(crate) fn leave(run_dir: &Path, key: &AttachmentKey) -> io::Result<()> {
    if !run_dir.is_dir() {
        return Ok(());
    }
    let path = path_of(run_dir, key);
    match fs::create_dir(run_dir.join(names::NOTES_DIR)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = serde_json::to_vec(key)
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Takes a note back: the attachment was wired again.
pub(crate) fn withdraw(run_dir: &Path, key: &AttachmentKey) -> io::Result<()> {
    match fs::remove_file(path_of(run_dir, key)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
