//! What others may see once pods can be started: the mark of readiness, and the network configuration.
//!
//! The mark, `<runDir>/ready`, tells the plugin's STATUS how long an agent that does not answer has been away. An upgrade
//! must not make a node NotReady.

use std::path::{Path, PathBuf};
use std::time::Duration;

use roadbed_api::names::{READY_EVERY_SECONDS, READY_NAME};
use tokio::time::MissedTickBehavior;

use crate::blocks::Blocks;
use crate::cni::{Conflist, Kept};
use crate::files::write_atomically;
use crate::kernel;

/// Renews both while pods can be started; to be called once the socket is there. Ends only with the process.
pub async fn keep(run_dir: PathBuf, conflist: Option<Conflist>, blocks: Blocks) {
    let mut view = blocks.watch();
    let mut interval = tokio::time::interval(Duration::from_secs(READY_EVERY_SECONDS));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_ready = false;
    let mut kept = None;
    loop {
        let ready = view.borrow_and_update().waiting_for().is_empty();
        if ready && let Err(error) = mark(&run_dir) {
            tracing::warn!(%error, run_dir = %run_dir.display(), "the mark of readiness cannot be written");
        }
        if ready && !was_ready {
            tracing::info!("ready: pods can be started");
        }
        was_ready = ready;
        if let (true, Some(conflist)) = (ready, &conflist) {
            kept = keep_conflist(conflist, kept);
        }
        // While ready, a changed view is no news.
        tokio::select! {
            _ = interval.tick() => {}
            changed = view.changed(), if !ready => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Says what became of the network configuration, when that is news.
fn keep_conflist(conflist: &Conflist, last: Option<Kept>) -> Option<Kept> {
    let path = conflist.path().display();
    let kept = match conflist.keep() {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, %path, "the network configuration cannot be written");
            return None;
        }
    };
    match kept {
        Kept::Right => {}
        Kept::Written => tracing::info!(%path, "network configuration written"),
        _ if last == Some(kept) => {}
        Kept::NoPlugin => tracing::warn!(
            "cni.bin_dir has no plugin `roadbed`: no network configuration is written; see roadbed-agent install-cni"
        ),
        Kept::Foreign => tracing::warn!(%path, "the network configuration is not ours: left alone"),
    }
    Some(kept)
}

fn mark(run_dir: &Path) -> std::io::Result<()> {
    let now = kernel::since_boot().as_secs();
    write_atomically(
        &run_dir.join(READY_NAME),
        0o600,
        format!("{now}\n").as_bytes(),
    )
}
