//! A Kubernetes cluster beside its store: the Nodes, which this agent follows as few of as it can, and the one
//! decision about the node mesh, which whoever comes first writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roadbed_api::kinds::{BgpConfigSpec, BgpConfigStatus, MeshDecision};
use roadbed_api::{Kind, Metadata, Object, Resource};
use roadbed_kube::{Node, NodeChange, NodeStream, Nodes, Scope};
use roadbed_store::{Store, StoreError};
use tokio::sync::watch;

use crate::sync::Known;

/// Nodes write one after the other, as far as chance does it: the first write makes the others needless.
const SPREAD: Duration = Duration::from_secs(1);
/// Pauses after writes that failed: the first, and the longest.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MOST: Duration = Duration::from_secs(160);

/// The Nodes that are followed, and their changes.
pub(crate) struct Followed {
    nodes: Nodes,
    scope: Scope,
    by_name: BTreeMap<String, Node>,
    changes: NodeStream,
}

impl Followed {
    /// Reads the Nodes of this scope.
    pub(crate) async fn new(nodes: Nodes, scope: Scope) -> Result<Self, String> {
        let (listed, changes) = nodes
            .list_and_watch(&scope)
            .await
            .map_err(|error| error.to_string())?;
        let by_name = listed.into_iter().map(|n| (n.name.clone(), n)).collect();
        Ok(Self {
            nodes,
            scope,
            by_name,
            changes,
        })
    }

    /// The same Nodes when the scope is right, else those of the new one.
    pub(crate) async fn rescope(&mut self, scope: Scope) -> Result<(), String> {
        if self.scope != scope {
            tracing::debug!(?scope, "other Nodes are followed");
            *self = Self::new(self.nodes.clone(), scope).await?;
        }
        Ok(())
    }

    /// Takes in the next change. Safe to cancel.
    ///
    /// # Errors
    /// When the stream ended, with the reason.
    pub(crate) async fn next(&mut self) -> Result<(), String> {
        match self.changes.next().await {
            Some(Ok(NodeChange::Put(node))) => {
                self.by_name.insert(node.name.clone(), node);
                Ok(())
            }
            Some(Ok(NodeChange::Gone(node))) => {
                self.by_name.remove(&node.name);
                Ok(())
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the watch of Nodes ended".to_owned()),
        }
    }

    /// The Nodes as of now.
    pub(crate) fn all(&self) -> Vec<Node> {
        self.by_name.values().cloned().collect()
    }
}

/// Writes the decision about the node mesh whenever one is due; runs until the process ends.
pub async fn decide(node: String, store: Arc<dyn Store>, mut known: watch::Receiver<Known>) {
    let mut pause = RETRY;
    loop {
        if due(&known).is_some() {
            tokio::time::sleep(spread(&node)).await;
            if let Some((decision, settings)) = due(&known) {
                match write(&*store, decision, settings).await {
                    Ok(()) => {
                        pause = RETRY;
                        tracing::info!(?decision, "node mesh decided for the cluster");
                    }
                    Err(StoreError::AlreadyExists { .. } | StoreError::Conflict { .. }) => {}
                    Err(error) => {
                        tracing::warn!(%error, "node mesh: the decision cannot be written, trying again");
                        tokio::time::sleep(pause).await;
                        pause = RETRY_MOST.min(pause * 2);
                        continue;
                    }
                }
            }
        }
        if known.changed().await.is_err() {
            return;
        }
    }
}

/// The decision that is due, and the object that holds it, if it exists.
fn due(known: &watch::Receiver<Known>) -> Option<(MeshDecision, Option<Object>)> {
    let known = known.borrow();
    let resources = known.resources.as_ref().filter(|_| known.store.reachable)?;
    let decision = resources.cluster().decision()?;
    // Settings that cannot be used are somebody's to mend first.
    let refused = |object: &Object| object.kind == Kind::BGPConfig;
    if resources
        .refused
        .iter()
        .any(|r| r.object.as_ref().is_some_and(refused))
    {
        return None;
    }
    Some((decision, resources.bgp.as_ref().map(Resource::to_object)))
}

async fn write(
    store: &dyn Store,
    decision: MeshDecision,
    settings: Option<Object>,
) -> Result<(), StoreError> {
    let settings = match settings {
        Some(settings) => settings,
        None => {
            let settings = Resource::new(Metadata::named("default"), BgpConfigSpec::default());
            store.create(settings.to_object()).await?
        }
    };
    let status = BgpConfigStatus {
        node_mesh: Some(decision),
    };
    let status = serde_json::to_value(status).unwrap_or_default();
    // Only over what it was decided from: somebody may have said Disabled meanwhile.
    store.update_status_of(&settings, status).await.map(drop)
}

/// A pause that differs between nodes.
pub(crate) fn spread(node: &str) -> Duration {
    let sum = node
        .bytes()
        .fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    SPREAD * (sum % 16) / 16
}
