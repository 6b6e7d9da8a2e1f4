//! What the agent shows: node, peers, pools, blocks, routes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kinds::{AddressFamily, BlockState};
use crate::resource::Condition;

/// A count that may exceed 64 bits (an IPv6 pool); a decimal string in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u128);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Count).map_err(serde::de::Error::custom)
    }
}

/// Answer of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Whether the probe passes.
    pub ok: bool,
    /// What is missing; empty when it passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
}

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// The node's AS.
    pub as_number: u32,
    /// BGP Identifier, when one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// Node addresses that are announced.
    #[serde(default)]
    pub node_addresses: Vec<IpAddr>,
    /// The store as the agent sees it; a standalone router has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreReport>,
    /// `Ready`, `StoreReachable` and whatever needs a person's eye.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// In the order of their names.
    #[serde(default)]
    pub peers: Vec<PeerReport>,
}

/// How the store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    /// Which home, and where: `sqlite /var/lib/roadbed-store/store.db`.
    pub home: String,
    /// Whether the last access succeeded.
    pub reachable: bool,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Resources come from the snapshot in the state directory, since the store was never reached.
    #[serde(default)]
    pub from_snapshot: bool,
}

/// One peer of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Name of the `BGPPeer`.
    pub name: String,
    /// The peer's address.
    pub address: String,
    /// The peer's AS as configured.
    pub as_number: u32,
    /// Our AS towards it.
    pub local_as_number: u32,
    /// State of RFC 4271 §8.2.2.
    pub state: String,
    /// Seconds in that state.
    pub state_seconds: u64,
    /// The peer's BGP Identifier, while Established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_router_id: Option<Ipv4Addr>,
    /// Negotiated Hold Time, seconds, while Established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// Per negotiated family.
    #[serde(default)]
    pub families: BTreeMap<AddressFamily, FamilyCounts>,
    /// How often the session was Established since the agent started.
    #[serde(default)]
    pub established_count: u64,
    /// Why the session last ended, or why it does not come up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// UPDATE faults by verdict and attribute (RFC 7606), only those seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub update_faults: BTreeMap<String, u64>,
    /// What an operator should look at: prefix counts close to their limits, paths that were not taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Prefix counts of one family of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyCounts {
    /// In the Adj-RIB-In.
    pub received: u64,
    /// Of these, let in by the import policy.
    pub accepted: u64,
    /// In the Adj-RIB-Out; with ADD-PATH, here and above, each path counts.
    pub advertised: u64,
    /// The peer sent End-of-RIB (RFC 4724 §2).
    pub end_of_rib: bool,
}

/// Answer to `GET /v1/ipam`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamReport {
    /// The node that answers.
    pub node: String,
    /// Pools, in the order of their names.
    pub pools: Vec<PoolReport>,
    /// Blocks of this node, in the order of their ranges.
    pub blocks: Vec<BlockReport>,
}

/// One pool as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    /// The pool's name.
    pub name: String,
    /// The pool's range.
    pub cidr: IpNet,
    /// Prefix length of a block.
    pub block_size: u8,
    /// Blocks that the pool can be cut into.
    pub slots: Count,
    /// Whether this node may claim and hand out.
    pub usable: bool,
    /// Why not, when not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One block of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockReport {
    /// The block's range.
    pub cidr: IpNet,
    /// Name of its pool.
    pub pool: String,
    /// Where it is in its life.
    pub state: BlockState,
    /// Addresses in it.
    pub capacity: u64,
    /// Addresses held by attachments.
    pub in_use: u64,
    /// Addresses released lately and kept back for a while.
    pub cooling: u64,
}

/// Answer to `GET /v1/routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteReport {
    /// The node that answers.
    pub node: String,
    /// In the order of their prefixes; the best path of a prefix first.
    pub routes: Vec<RouteRow>,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteOrigin {
    /// A pod of this node.
    Pod,
    /// A block of this node.
    Block,
    /// An address of this node.
    Node,
    /// Declared in the configuration.
    Static,
    /// Learned from a peer.
    Bgp,
}

/// One route: a path of the RIB, a kernel route, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// Destination.
    pub prefix: IpNet,
    /// Where it comes from.
    pub origin: RouteOrigin,
    /// The peer that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Next hop or `dev NAME`. Where the best path shares its traffic, all next hops as the kernel has them, with weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// AS_PATH, as `65101 65000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path: Option<String>,
    /// Whether it is the best path of its prefix.
    pub best: bool,
    /// Why it is or is not best: the deciding step of RFC 4271 §9.1.2, or why it is not eligible.
    pub why: String,
    /// Whether the kernel has it; absent for what is not meant for the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<bool>,
    /// Why the kernel does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_error: Option<String>,
}
