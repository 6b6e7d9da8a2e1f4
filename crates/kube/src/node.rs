//! Nodes, as small as Roadbed needs them: name, labels, addresses and AS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roadbed_api::names::AS_NUMBER_KEY;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::access::Access;
use crate::failure::Failure;
use crate::follow::{Change, Ended, Selection, Source};
use crate::wire::{Meta, Wire};

/// A Node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Tells a deleted and recreated Node from the one before.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `InternalIP`s, in the order of the Node's status: of each family the first counts.
    pub addresses: Vec<IpAddr>,
    /// AS of its annotation or label [`AS_NUMBER_KEY`].
    pub as_number: Option<u32>,
    /// Fault of that annotation or label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Node {
    /// The first address of each family, IPv4 first.
    pub fn primary(&self) -> [Option<IpAddr>; 2] {
        let first = |v4: bool| self.addresses.iter().copied().find(|a| a.is_ipv4() == v4);
        [first(true), first(false)]
    }
}

/// A choice of Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one of that name.
    One(String),
    /// All.
    All,
}

/// A change of a Node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeChange {
    /// The Node is new or has changed.
    Put(Node),
    /// The Node is gone.
    Gone(Node),
}

/// Nodes cannot be read; the message says why.
#[derive(Debug, Error)]
#[error("Nodes: {0}")]
pub struct NodesUnknown(String);

/// Reads Nodes.
#[derive(Clone)]
pub struct Nodes {
    source: Source,
}

/// Changes of Nodes. After an error the stream ends: list again.
pub struct NodeStream(mpsc::Receiver<Result<Change<Wired>, Ended>>);

impl Nodes {
    /// Of the cluster that this client reaches.
    pub fn new(access: &Access) -> Self {
        Self {
            source: Source::new(access.client.clone()),
        }
    }

    /// The Nodes as of now, and what changes from there on.
    ///
    /// # Errors
    /// When the API server is away or refuses.
    pub async fn list_and_watch(
        &self,
        scope: &Scope,
    ) -> Result<(Vec<Node>, NodeStream), NodesUnknown> {
        let what = Selection {
            path: "/api/v1/nodes".to_owned(),
            labels: None,
            fields: match scope {
                Scope::One(name) => Some(format!("metadata.name={name}")),
                Scope::All => None,
            },
        };
        let (listed, changes) = self
            .source
            .list_and_watch::<Wired>(&what)
            .await
            .map_err(unknown)?;
        let nodes = listed.objects.into_iter().map(Wired::into_node).collect();
        Ok((nodes, NodeStream(changes)))
    }
}

impl NodeStream {
    /// The next change; `None` after an error was delivered. Safe to cancel: no change is lost.
    ///
    /// # Errors
    /// When the server forgot the version, is away or refuses.
    pub async fn next(&mut self) -> Option<Result<NodeChange, NodesUnknown>> {
        Some(match self.0.recv().await? {
            Ok(Change::Put(node)) => Ok(NodeChange::Put(node.into_node())),
            Ok(Change::Gone(node)) => Ok(NodeChange::Gone(node.into_node())),
            Err(Ended::Expired) => Err(NodesUnknown("the changes are no longer kept".to_owned())),
            Err(Ended::Failed(failure)) => Err(unknown(failure)),
        })
    }
}

fn unknown(failure: Failure) -> NodesUnknown {
    NodesUnknown(failure.to_string())
}

/// A Node as the server writes it.
#[derive(Clone, Debug, Deserialize)]
struct Wired {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

impl Wire for Wired {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Wired {
    fn into_node(self) -> Node {
        let meta = self.metadata;
        let internal = self
            .status
            .addresses
            .iter()
            .filter(|a| a.r#type == "InternalIP");
        let (as_number, problem) = as_number(&meta);
        Node {
            addresses: internal.filter_map(|a| a.address.parse().ok()).collect(),
            name: meta.name,
            uid: meta.uid,
            labels: meta.labels,
            as_number,
            problem,
        }
    }
}

/// The AS of the annotation, else of the label.
fn as_number(meta: &Meta) -> (Option<u32>, Option<String>) {
    let annotation = meta
        .annotations
        .get(AS_NUMBER_KEY)
        .map(|v| ("annotation", v));
    let label = || meta.labels.get(AS_NUMBER_KEY).map(|v| ("label", v));
    let Some((place, text)) = annotation.or_else(label) else {
        return (None, None);
    };
    match text.parse() {
        Ok(asn) if !matches!(asn, 0 | 23456 | u32::MAX) => (Some(asn), None),
        _ => (
            None,
            Some(format!(
                "Node/{}: {place} {AS_NUMBER_KEY}: \"{}\" is not an AS number: use 1 to 4294967294, not 23456 (AS_TRANS)",
                meta.name,
                text.escape_default()
            )),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: serde_json::Value) -> Node {
        serde_json::from_value::<Wired>(json).unwrap().into_node()
    }

    #[test]
    fn of_a_node_little_is_kept() {
        let read = node(serde_json::json!({
            "metadata": {"name": "n1", "uid": "u", "resourceVersion": "5", "labels": {"rack": "r1", AS_NUMBER_KEY: "65001"},
                         "annotations": {"a": "b"}, "managedFields": []},
            "spec": {"podCIDR": "10.244.1.0/24"},
            "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.200.0.11"},
                {"type": "InternalIP", "address": "fd00:10:200::11"}, {"type": "ExternalIP", "address": "192.0.2.1"}], "images": []},
        }));
        let addresses = ["10.200.0.11", "fd00:10:200::11"].map(|a| a.parse().unwrap());
        assert_eq!(read.addresses, addresses);
        assert_eq!(read.primary(), addresses.map(Some));
        assert_eq!((read.as_number, read.problem), (Some(65001), None));
        assert_eq!(read.labels["rack"], "r1");
        assert_eq!(
            node(serde_json::json!({"metadata": {"name": "n2"}})).addresses,
            [] as [IpAddr; 0]
        );
    }

    #[test]
    fn the_annotation_counts_before_the_label_and_wrong_ones_are_named() {
        let read = node(serde_json::json!({"metadata": {"name": "n1",
            "labels": {AS_NUMBER_KEY: "65001"}, "annotations": {AS_NUMBER_KEY: "65002"}}}));
        assert_eq!(read.as_number, Some(65002));
        for wrong in ["0", "23456", "4294967295", "65000.1", ""] {
            let read = node(
                serde_json::json!({"metadata": {"name": "n1", "annotations": {AS_NUMBER_KEY: wrong}}}),
            );
            assert_eq!(read.as_number, None);
            let problem = read.problem.unwrap();
            assert!(
                problem.starts_with("Node/n1: annotation roadbed.dev/as-number: "),
                "{problem}"
            );
        }
    }
}
