//! The mark of readiness, `<runDir>/ready`: it tells the plugin's STATUS how long an agent that does not answer has been
//! away. An upgrade must not make a node NotReady.

use std::path::Path;
use std::time::Duration;

use roadbed_api::names::{READY_EVERY_SECONDS, READY_NAME};
use tokio::time::MissedTickBehavior;

use crate::blocks::Blocks;
use crate::kernel;
use crate::snapshot::write_atomically;

/// Renews the mark while pods can be started; to be called once the socket is there. Ends only with the process.
pub async fn keep_mark(run_dir: std::path::PathBuf, blocks: Blocks) {
    let mut view = blocks.watch();
    let mut interval = tokio::time::interval(Duration::from_secs(READY_EVERY_SECONDS));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_ready = false;
    loop {
        let ready = view.borrow_and_update().waiting_for().is_empty();
        if ready && let Err(error) = mark(&run_dir) {
            tracing::warn!(%error, run_dir = %run_dir.display(), "the mark of readiness cannot be written");
        }
        if ready && !was_ready {
            tracing::info!("ready: pods can be started");
        }
        was_ready = ready;
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

fn mark(run_dir: &Path) -> std::io::Result<()> {
    let now = kernel::since_boot().as_secs();
    write_atomically(&run_dir.join(READY_NAME), format!("{now}\n").as_bytes())
}
