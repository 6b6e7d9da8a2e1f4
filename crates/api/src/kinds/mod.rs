//! The resource kinds. Each file has one kind: spec, status, validation.

mod bgp_config;
mod bgp_origination;
mod bgp_peer;
mod bgp_route_policy;
mod bmp_station;
mod ip_block;
mod ip_pool;
mod password;
mod prefix_limit;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::problem::Problems;
use crate::resource::{Object, ObjectError, Spec};

pub use bgp_config::{
    BgpConfigSpec, BgpConfigStatus, DEFAULT_BGP_PORT, DEFAULT_MAX_PATHS, HIGHEST_MAX_PATHS,
    LinkBandwidth, MeshDecision, NodeMesh,
};
pub use bgp_origination::{BgpAggregate, BgpAnnouncement};
pub use bgp_peer::{
    AddPath, AddressFamily, AsMigration, BUILTIN_POLICIES, BgpPeerSpec, BgpPeerStatus, BgpRole,
    DefaultOriginate, NextHopPolicy, PeerAs, SendPaths, SendPathsError,
};
pub use bgp_route_policy::{
    AsPathAlternative, AsPathNode, AsPathPattern, AsTerm, BgpRoutePolicySpec, BgpRoutePolicyStatus,
    CommunityName, CommunityPattern, DefaultAction, DigitRun, ExtCommunityName,
    ExtCommunityPattern, LargeCommunityPattern, LengthRange, ListChange, MAX_STEPS, NextHopChange,
    PatternError, PolicyAction, PolicyMatch, PolicyRule, PolicySet, PolicySource, PrefixRange,
    PrependAs,
};
pub use bmp_station::{BmpStationSpec, DEFAULT_BMP_PORT, RouteMonitoring};
pub use ip_block::{BlockOwner, BlockState, IpBlockSpec, IpBlockStatus, block_name};
pub use ip_pool::{IpPoolSpec, IpPoolStatus};
pub use password::Password;
pub use prefix_limit::{LimitAction, PrefixLimit, PrefixLimits};

/// The kinds that Roadbed knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kind {
    /// A CIDR that blocks are cut from.
    IPPool,
    /// One pool-aligned block and its owner; the unit of compare-and-swap.
    IPBlock,
    /// A BGP peer of some or all nodes.
    BGPPeer,
    /// Speaker settings of the cluster; one object, named `default`.
    BGPConfig,
    /// Rules that decide which routes pass a peer.
    BGPRoutePolicy,
}

impl Kind {
    /// Every kind, in the order in which `apply` writes them.
    pub const ALL: [Kind; 5] = [
        Kind::BGPConfig,
        Kind::IPPool,
        Kind::IPBlock,
        Kind::BGPRoutePolicy,
        Kind::BGPPeer,
    ];

    /// The name as written in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::IPPool => "IPPool",
            Kind::IPBlock => "IPBlock",
            Kind::BGPPeer => "BGPPeer",
            Kind::BGPConfig => "BGPConfig",
            Kind::BGPRoutePolicy => "BGPRoutePolicy",
        }
    }

    /// The name in a URL of the Kubernetes API, and in `kubectl get`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::IPPool => "ippools",
            Kind::IPBlock => "ipblocks",
            Kind::BGPPeer => "bgppeers",
            Kind::BGPConfig => "bgpconfigs",
            Kind::BGPRoutePolicy => "bgproutepolicies",
        }
    }

    /// The short name that [`FromStr`] and `kubectl` take.
    pub fn short_name(self) -> &'static str {
        match self {
            Kind::IPPool => "ipp",
            Kind::IPBlock => "ipb",
            Kind::BGPPeer => "bgpp",
            Kind::BGPConfig => "bgpc",
            Kind::BGPRoutePolicy => "bgprp",
        }
    }

    /// Checks that a status has the kind's shape: one that no reader can parse would hide the object from all.
    ///
    /// # Errors
    /// [`ObjectError::Shape`], which names the field.
    pub fn check_status(self, name: &str, status: &Value) -> Result<(), ObjectError> {
        let read = match self {
            Kind::IPPool => IpPoolStatus::deserialize(status).map(drop),
            Kind::IPBlock => IpBlockStatus::deserialize(status).map(drop),
            Kind::BGPPeer => BgpPeerStatus::deserialize(status).map(drop),
            Kind::BGPConfig => BgpConfigStatus::deserialize(status).map(drop),
            Kind::BGPRoutePolicy => BgpRoutePolicyStatus::deserialize(status).map(drop),
        };
        read.map_err(|source| ObjectError::Shape {
            kind: self,
            name: name.to_owned(),
            part: "status",
            source,
        })
    }

    pub(crate) fn validate_spec(
        self,
        object: &Object,
        problems: &mut Problems,
    ) -> Result<(), ObjectError> {
        fn check<S: Spec>(object: &Object, problems: &mut Problems) -> Result<(), ObjectError> {
            object.typed::<S>()?.spec.validate("spec", problems);
            Ok(())
        }
        match self {
            Kind::IPPool => check::<IpPoolSpec>(object, problems),
            Kind::IPBlock => check::<IpBlockSpec>(object, problems),
            Kind::BGPPeer => check::<BgpPeerSpec>(object, problems),
            Kind::BGPConfig => {
                if object.metadata.name != "default" {
                    problems.add(
                        "metadata.name",
                        format!(
                            "there is one BGPConfig and its name is \"default\", not \"{}\"",
                            object.metadata.name
                        ),
                    );
                }
                if object.spec.get("routerId").is_some() {
                    problems.add(
                        "spec.routerId",
                        "no two nodes may share it: set router_id in each agent's file, or leave it to the first IPv4 address in node_addresses",
                    );
                }
                check::<BgpConfigSpec>(object, problems)
            }
            Kind::BGPRoutePolicy => {
                let name = object.metadata.name.as_str();
                if BUILTIN_POLICIES.contains(&name) {
                    problems.add(
                        "metadata.name",
                        format!("\"{name}\" is a built-in route policy: choose another name"),
                    );
                }
                check::<BgpRoutePolicySpec>(object, problems)
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No kind has that name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown kind \"{0}\": known are BGPConfig, IPPool, IPBlock, BGPRoutePolicy, BGPPeer")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Accepts the kind, its plural and its short name, in any case (`ippool`, `ippools`, `ipp`).
    fn from_str(s: &str) -> Result<Self, UnknownKind> {
        let wanted = s.to_ascii_lowercase();
        let named = |kind: &Kind| {
            wanted == kind.as_str().to_ascii_lowercase()
                || wanted == kind.plural()
                || wanted == kind.short_name()
        };
        Kind::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| UnknownKind(s.escape_default().to_string()))
    }
}
