//! `BGPConfig`: what all speakers of a cluster share.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::bgp_origination::{BgpAggregate, validate_aggregates};
use crate::kinds::{BmpStationSpec, Kind};
use crate::problem::Problems;
use crate::resource::Spec;

/// The port of RFC 4271 §8.2.1.
pub const DEFAULT_BGP_PORT: u16 = 179;

/// Speaker settings. In the cluster one object named `default`; in `bgpd.toml` the table `[bgp]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpConfigSpec {
    /// AS of nodes that have no AS of their own. 1–4294967294 (RFC 6793, RFC 7607). Absent: a router has none, a
    /// Kubernetes cluster has 64512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::AsNumber>"))]
    pub as_number: Option<u32>,
    /// BGP Identifier (RFC 6286); of the standalone speaker. Refused in a cluster, where each node has
    /// its own in the agent's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// TCP port to listen on; default 179. 0 means: do not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// CLUSTER_ID of a route reflector (RFC 4456 §7); absent: its BGP Identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<Ipv4Addr>,
    /// Prefixes that node addresses lie in: announced by nodes, accepted from eBGP peers beside the pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::schema::Cidr>"))]
    pub node_prefixes: Vec<IpNet>,
    /// Accept `0.0.0.0/0` and `::/0` from eBGP peers; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_default_route: bool,
    /// Node mesh: all nodes speak iBGP with each other; default `Auto`. Of a Kubernetes cluster only.
    #[serde(default, skip_serializing_if = "NodeMesh::is_auto")]
    pub node_mesh: NodeMesh,
    /// BMP stations by name, of every node. `bgpd.toml` has tables `[bmp.NAME]` instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bmp: BTreeMap<String, BmpStationSpec>,
    /// Prefixes that are announced in place of, or beside, what is inside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::kinds::bgp_origination::MAX_AGGREGATES)))]
    pub aggregates: Vec<BgpAggregate>,
    /// Compare MULTI_EXIT_DISC between paths of all neighbouring ASes, not only within one; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always_compare_med: bool,
    /// A path without MULTI_EXIT_DISC has the worst, not the best; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing_med_as_worst: bool,
    /// Paths that share the traffic of a prefix at most when the best one is from eBGP; default 16, 1–64. 1: no sharing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = HIGHEST_MAX_PATHS)))]
    pub max_paths: Option<u16>,
    /// As `maxPaths`, when the best path is from iBGP; default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = HIGHEST_MAX_PATHS)))]
    pub max_paths_ibgp: Option<u16>,
    /// Paths share even if their AS_PATHs differ, as long as these are of one length; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multipath_as_path_relax: bool,
    /// Whether weights follow the Link Bandwidth Extended Community; default `use`.
    #[serde(default, skip_serializing_if = "LinkBandwidth::is_default")]
    pub link_bandwidth: LinkBandwidth,
    /// Make the routes of all peers the last resort, before the speaker goes (RFC 8326); default false. Of the
    /// standalone speaker; in a cluster it is every node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub graceful_shutdown: bool,
}

/// The node mesh of a Kubernetes cluster: iBGP between the InternalIPs of all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NodeMesh {
    /// From the moment in which the cluster has no `BGPPeer` and at most 100 nodes. Once on, it stays on.
    #[default]
    Auto,
    /// Always.
    Enabled,
    /// Never.
    Disabled,
}

impl NodeMesh {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_auto(&self) -> bool {
        *self == NodeMesh::Auto
    }
}

/// What the Link Bandwidth Extended Community (draft-ietf-idr-link-bandwidth) does among paths that share traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LinkBandwidth {
    /// Where every path has one, each gets traffic in proportion.
    #[default]
    Use,
    /// All get the same.
    Ignore,
}

impl LinkBandwidth {
    fn is_default(&self) -> bool {
        *self == LinkBandwidth::default()
    }
}

/// Default of `maxPaths` and `maxPathsIbgp`.
pub const DEFAULT_MAX_PATHS: u16 = 16;
/// The highest `maxPaths` and `maxPathsIbgp`.
pub const HIGHEST_MAX_PATHS: u16 = 64;

/// Decisions of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpConfigStatus {
    /// The decision that `spec.nodeMesh: Auto` came to; written once. Absent: not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh: Option<MeshDecision>,
}

/// One decision for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MeshDecision {
    /// The nodes speak iBGP with each other, whatever peers come later.
    Enabled,
    /// Somebody switched the mesh off.
    Disabled,
}

impl Spec for BgpConfigSpec {
    const KIND: Kind = Kind::BGPConfig;
    type Status = BgpConfigStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        if let Some(asn) = self.as_number {
            validate_asn(asn, &format!("{path}.asNumber"), problems);
        }
        if let Some(id) = self.router_id
            && (id.is_unspecified() || id.is_multicast() || id.is_broadcast())
        {
            problems.add(
                format!("{path}.routerId"),
                format!("{id} cannot identify a speaker: use one of its unicast IPv4 addresses"),
            );
        }
        validate_aggregates(&self.aggregates, &format!("{path}.aggregates"), problems);
        for (name, station) in &self.bmp {
            station.validate(&format!("{path}.bmp.{name}"), problems);
        }
        for (field, paths) in [
            ("maxPaths", self.max_paths),
            ("maxPathsIbgp", self.max_paths_ibgp),
        ] {
            if let Some(paths) = paths.filter(|n| !(1..=HIGHEST_MAX_PATHS).contains(n)) {
                problems.add(
                    format!("{path}.{field}"),
                    format!("{paths} is not within 1 (no sharing) to {HIGHEST_MAX_PATHS}"),
                );
            }
        }
        for (i, prefix) in self.node_prefixes.iter().enumerate() {
            if *prefix != prefix.trunc() {
                problems.add(
                    format!("{path}.nodePrefixes[{i}]"),
                    format!("{prefix} has host bits set: write {}", prefix.trunc()),
                );
            }
        }
    }
}

/// RFC 7607 (AS 0), RFC 7300 (last AS), RFC 6793 (AS_TRANS).
pub(crate) fn validate_asn(asn: u32, path: &str, problems: &mut Problems) {
    match asn {
        0 => problems.add(path, "AS 0 is reserved (RFC 7607): use 1 to 4294967294"),
        u32::MAX => problems.add(
            path,
            "AS 4294967295 is reserved (RFC 7300): use 1 to 4294967294",
        ),
        23456 => problems.add(
            path,
            "AS 23456 is AS_TRANS (RFC 6793): use the real AS number",
        ),
        _ => {}
    }
}
