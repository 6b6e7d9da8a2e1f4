//! The store that a command works on, and opening it.

use std::path::PathBuf;
use std::sync::Arc;

use roadbed_store::{KubernetesConfig, Store, StoreConfig};

use crate::cli::Global;
use crate::error::CtlError;

/// The store that the command line names; else the cluster of a kubeconfig that is there.
///
/// # Errors
/// When neither is.
pub fn config(global: &Global) -> Result<StoreConfig, CtlError> {
    match &global.store {
        Some(StoreConfig::Kubernetes(_)) => Ok(StoreConfig::Kubernetes(cluster(global))),
        Some(other) => Ok(other.clone()),
        None => match cluster(global) {
            found if found.kubeconfig.is_some() => Ok(StoreConfig::Kubernetes(found)),
            _ => Err(CtlError::Usage(
                "which store? There is no kubeconfig: say --kubeconfig FILE, or --store sqlite:PATH (or set ROADBED_STORE); the agent's configuration names the path in [store]"
                    .to_owned(),
            )),
        },
    }
}

/// The cluster of the kubeconfig; without one, that of the pod in which the command runs.
fn cluster(global: &Global) -> KubernetesConfig {
    let named = global.kubeconfig.clone().filter(|path| !path.is_empty());
    KubernetesConfig {
        kubeconfig: named.or_else(usual),
        context: global.context.clone(),
        api_server: None,
    }
}

/// `~/.kube/config`, if it is there.
fn usual() -> Option<String> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let path = home.join(".kube/config");
    path.is_file().then(|| path.display().to_string())
}

/// Opens a store; none is created.
///
/// # Errors
/// The store's.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, CtlError> {
    Ok(roadbed_kube::open_store(config).await?)
}

/// Opens a store to fill it: a file that is not there is created. A dry run must not create one; an empty store stands
/// in.
///
/// # Errors
/// The store's.
pub async fn open_to_fill(config: &StoreConfig, dry_run: bool) -> Result<Arc<dyn Store>, CtlError> {
    match config {
        StoreConfig::Sqlite { path } if dry_run && !path.exists() => {
            open(&StoreConfig::Memory {}).await
        }
        StoreConfig::Sqlite { .. } if !dry_run => Ok(roadbed_store::open_or_create(config).await?),
        _ => open(config).await,
    }
}
