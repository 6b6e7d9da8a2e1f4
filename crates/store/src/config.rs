//! Which home a store has.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::memory::MemoryStore;
use crate::sqlite::SqliteStore;
use crate::store::Store;

/// The table `[store]` of a configuration: `kind = "sqlite"`, `path = "…"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum StoreConfig {
    /// In the process; gone with it.
    Memory {},
    /// One file that several processes of one machine share.
    Sqlite {
        /// The file, on a local filesystem.
        path: PathBuf,
    },
    /// Custom resources in a Kubernetes API server; the crate `roadbed-kube` opens it.
    Kubernetes(KubernetesConfig),
}

/// Access to a Kubernetes API server. Without a kubeconfig: as the pod's ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Files as `kubectl` reads them, separated by `:` as in `KUBECONFIG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Context of the kubeconfig; absent: its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// URL of the API server in place of the one that the kubeconfig or the pod's environment names. An agent that is
    /// given one needs no kube-proxy to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
}

/// Opens a store and never creates one: an agent that comes back while the file is away must not find an empty
/// store in its place.
///
/// A missing file is no error here. Every call answers [`StoreError::Unavailable`] until the file appears, and
/// then works.
///
/// # Errors
/// [`StoreError::Refused`]: network filesystem, newer schema, not a store.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    open_as(config, false).await
}

/// Opens a store; a missing file is created when its directory exists. For whoever fills a store
/// (`roadbedctl apply`).
///
/// # Errors
/// As [`open`], and [`StoreError::Unavailable`] when the file cannot be created.
pub async fn open_or_create(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    open_as(config, true).await
}

async fn open_as(config: &StoreConfig, create: bool) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config {
        StoreConfig::Memory {} => Arc::new(MemoryStore::new()),
        StoreConfig::Sqlite { path } => Arc::new(SqliteStore::open(path, create).await?),
        StoreConfig::Kubernetes(_) => {
            return Err(StoreError::Refused {
                home: "kubernetes".into(),
                reason: "this program is built without it".into(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<StoreConfig, &str>) {
        match (serde_json::from_str::<StoreConfig>(json), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
            (found, expected) => panic!("{json}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_a_configuration_says() {
        let path = PathBuf::from("/x/store.db");
        check(r#"{"kind":"memory"}"#, Ok(StoreConfig::Memory {}));
        check(
            r#"{"kind":"sqlite","path":"/x/store.db"}"#,
            Ok(StoreConfig::Sqlite { path }),
        );
        check(r#"{"kind":"sqlite"}"#, Err("path"));
        check(r#"{"kind":"sqlite","path":"/x","pth":1}"#, Err("pth"));
        check(r#"{"kind":"memory","path":"/x"}"#, Err("path"));
        check(r#"{"kind":"redis"}"#, Err("redis"));
        check(
            r#"{"kind":"kubernetes"}"#,
            Ok(StoreConfig::Kubernetes(KubernetesConfig::default())),
        );
        let given = KubernetesConfig {
            api_server: Some("https://10.0.0.1:6443".into()),
            ..KubernetesConfig::default()
        };
        check(
            r#"{"kind":"kubernetes","api_server":"https://10.0.0.1:6443"}"#,
            Ok(StoreConfig::Kubernetes(given)),
        );
        check(r#"{"kind":"kubernetes","server":"x"}"#, Err("server"));
    }
}
