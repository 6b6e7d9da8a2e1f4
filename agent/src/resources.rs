//! The resources that a node works with, typed; what is wrong in them is named and left out.

use ipnet::IpNet;
use roadbed_api::kinds::{BgpConfigSpec, BgpPeerSpec, IpBlockSpec, IpPoolSpec, MeshDecision};
use roadbed_api::{Kind, Object, Resource, Spec};
use roadbed_bgpd::{PolicySet, compile_policies};
use roadbed_kube::Node;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mesh::Cluster;

/// Resources as of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// All pools.
    pub pools: Vec<Resource<IpPoolSpec>>,
    /// Peers of all nodes.
    pub peers: Vec<Resource<BgpPeerSpec>>,
    /// Declared route policies, compiled.
    pub policies: PolicySet,
    /// The settings, when there are any.
    pub bgp: Option<Resource<BgpConfigSpec>>,
    /// Blocks of this node.
    pub blocks: Vec<Resource<IpBlockSpec>>,
    /// Nodes of the cluster that this agent follows: its own, or all.
    pub nodes: Vec<Node>,
    /// The store has a `BGPPeer`, usable or not.
    pub has_peers: bool,
    /// The decision about the node mesh that this agent last saw.
    pub mesh: Option<MeshDecision>,
    /// Objects that cannot be used as they are.
    pub refused: Vec<Refused>,
}

/// An object that cannot be used, or not as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The object; `None` when several do not fit together.
    pub object: Option<Object>,
    /// What is wrong.
    pub note: String,
    /// The object is left out.
    pub left_out: bool,
}

/// Objects of each kind as a store gives them and a snapshot keeps them.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// `IPPool`s.
    pub pools: Vec<Object>,
    /// `BGPPeer`s.
    pub peers: Vec<Object>,
    /// `BGPRoutePolicy`s.
    pub policies: Vec<Object>,
    /// `BGPConfig`s.
    pub bgp: Vec<Object>,
    /// This node's `IPBlock`s.
    pub blocks: Vec<Object>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// The decision about the node mesh that this agent last saw.
    pub mesh: Option<MeshDecision>,
}

/// What a snapshot has of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Metadata.
    pub metadata: roadbed_api::Metadata,
    /// Spec.
    pub spec: Value,
    /// Status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

impl Resources {
    /// Types and checks objects.
    pub fn from_objects(objects: &Objects) -> Self {
        let mut refused = Vec::new();
        let mut bgp = typed(&objects.bgp, &mut refused);
        let policies = typed(&objects.policies, &mut refused);
        let policies = compile_policies(&policies).unwrap_or_else(|found| {
            refused.push(Refused {
                object: None,
                note: found.to_string(),
                left_out: true,
            });
            PolicySet::default()
        });
        Self {
            policies,
            pools: typed(&objects.pools, &mut refused),
            peers: typed(&objects.peers, &mut refused),
            bgp: bgp.pop(),
            blocks: typed(&objects.blocks, &mut refused),
            nodes: objects.nodes.clone(),
            has_peers: !objects.peers.is_empty(),
            mesh: objects.mesh,
            refused,
        }
    }

    /// Reasons of all objects that are left out.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let left_out = self.refused.iter().filter(|r| r.left_out);
        left_out.map(|r| r.note.as_str())
    }

    /// Facts for the decision about a node mesh.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster {
            config: self.bgp.as_ref().map(|b| (&b.spec, &b.status)),
            previous: self.mesh,
            peers: self.has_peers,
            nodes: self.nodes.len(),
        }
    }

    /// Node prefixes that the settings declare.
    pub fn node_prefixes(&self) -> Vec<IpNet> {
        self.bgp
            .as_ref()
            .map(|c| c.spec.node_prefixes.clone())
            .unwrap_or_default()
    }
}

fn typed<S: Spec>(objects: &[Object], refused: &mut Vec<Refused>) -> Vec<Resource<S>> {
    let mut usable = Vec::new();
    for object in objects {
        let mut refuse = |note: String, left_out: bool| {
            refused.push(Refused {
                object: Some(object.clone()),
                note,
                left_out,
            });
        };
        let resource = match object.typed::<S>() {
            Ok(resource) => resource,
            Err(error) => {
                refuse(error.to_string(), true);
                continue;
            }
        };
        match object.validate() {
            Ok(()) => usable.push(resource),
            // A pool that is wrong is shown as such by `roadbedctl ipam show`: ipam resolves it by itself.
            Err(error) if S::KIND == Kind::IPPool => {
                refuse(error.to_string(), false);
                usable.push(resource);
            }
            Err(error) => refuse(error.to_string(), true),
        }
    }
    usable
}
