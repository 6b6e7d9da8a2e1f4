//! The socket that `roadbedctl` asks a standalone router on, for as long as its directory is there.

use std::path::Path;

use roadbed_api::names::DEFAULT_RUN_DIR;
use tokio_util::task::AbortOnDropHandle;

use super::Standalone;
use super::standalone::serve;
use crate::run_dir::{Daemon, RunDir, RunDirError};

/// A router with its run directory, or one that tries to have it.
pub struct Shown {
    router: Standalone,
    dir: Box<Path>,
    now: Option<(RunDir, AbortOnDropHandle<()>)>,
    /// It was said why there is none.
    complained: bool,
}

impl Shown {
    /// Makes, locks and serves `dir`, by default [`DEFAULT_RUN_DIR`]. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be had. Only a directory that somebody asked for has to be had.
    pub fn open(dir: Option<&Path>, router: Standalone) -> Result<Self, RunDirError> {
        let mut shown = Self {
            router,
            dir: dir.unwrap_or(Path::new(DEFAULT_RUN_DIR)).into(),
            now: None,
            complained: false,
        };
        match (shown.listen(), dir) {
            (Err(error), Some(_)) => return Err(error),
            (Err(error), None) => shown.complain(&error),
            (Ok(()), _) => {}
        }
        Ok(shown)
    }

    /// Looks after the directory: it may have been deleted, or be free now. To be called every few seconds.
    pub fn keep(&mut self) {
        match &self.now {
            Some((dir, served)) if dir.is_ours() && dir.has_socket() && !served.is_finished() => {
                return;
            }
            _ => self.now = None,
        }
        match self.listen() {
            Ok(()) => {
                tracing::info!(run_dir = %self.dir.display(), "roadbedctl can ask this router")
            }
            Err(error) => self.complain(&error),
        }
    }

    fn listen(&mut self) -> Result<(), RunDirError> {
        let dir = RunDir::lock(&self.dir, Daemon::Router)?;
        let listener = dir.listen()?;
        let router = self.router.clone();
        let served = tokio::spawn(async move {
            if let Err(error) = serve(listener, router).await {
                tracing::error!(%error, "local API");
            }
        });
        self.now = Some((dir, AbortOnDropHandle::new(served)));
        self.complained = false;
        Ok(())
    }

    fn complain(&mut self, error: &RunDirError) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "roadbedctl cannot ask this router");
        }
    }
}
