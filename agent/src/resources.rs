//! The resources that a node works with, typed; what is wrong in them is named and left out.

use ipnet::IpNet;
use roadbed_api::kinds::{BgpConfigSpec, BgpPeerSpec, IpBlockSpec, IpPoolSpec};
use roadbed_api::{Object, Problems, Resource, Spec};
use roadbed_bgpd::{PolicySet, compile_policies};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// What was left out, and why.
    pub problems: Vec<String>,
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
        let mut problems = Vec::new();
        let mut bgp = typed(&objects.bgp, &mut problems);
        let policies = typed(&objects.policies, &mut problems);
        let policies = compile_policies(&policies).unwrap_or_else(|found| {
            problems.push(found.to_string());
            PolicySet::default()
        });
        Self {
            policies,
            pools: typed(&objects.pools, &mut problems),
            peers: typed(&objects.peers, &mut problems),
            bgp: bgp.pop(),
            blocks: typed(&objects.blocks, &mut problems),
            problems,
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

fn typed<S: Spec>(objects: &[Object], problems: &mut Vec<String>) -> Vec<Resource<S>> {
    let check = |object: &Object| -> Result<Resource<S>, String> {
        let resource = object.typed::<S>().map_err(|e| e.to_string())?;
        let mut found = Problems::new();
        resource.spec.validate("spec", &mut found);
        // A pool that is wrong is shown as such by `roadbedctl ipam show`: ipam resolves it by itself.
        if found.is_empty() || S::KIND == roadbed_api::Kind::IPPool {
            Ok(resource)
        } else {
            Err(format!("{}/{}: {found}", S::KIND, resource.name()))
        }
    };
    objects
        .iter()
        .filter_map(|object| check(object).map_err(|problem| problems.push(problem)).ok())
        .collect()
}
