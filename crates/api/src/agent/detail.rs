//! One attachment at length: what the ledger says of it beside what the kernel has.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Attachment;

/// Answer to `GET /v1/attachments/{network}/{containerID}/{ifname}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentDetail {
    /// As the ledger has it.
    pub attachment: Attachment,
    /// The host's end of the veth; absent when the kernel has none with the attachment's alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<LinkReport>,
    /// The pod's end, as the kernel tells it across namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<LinkReport>,
    /// Routes of the host over the host's end.
    pub routes: Vec<IpNet>,
    /// Neighbours of the host's end.
    pub neighbours: Vec<NeighbourReport>,
    /// What the pod sent.
    pub from_pod: TrafficCounters,
    /// What the pod was sent.
    pub to_pod: TrafficCounters,
    /// What differs from what it should be; empty when all is well.
    pub problems: Vec<String>,
}

/// One end of a veth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// Name.
    pub name: String,
    /// Index in its namespace.
    pub ifindex: u32,
    /// Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU, bytes.
    pub mtu: u32,
    /// Set up by somebody.
    pub up: bool,
    /// Carries packets: both ends are up.
    pub running: bool,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighbourReport {
    /// Whose.
    pub address: IpAddr,
    /// Its Ethernet address, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Set by us for good, as opposed to learned.
    pub permanent: bool,
}

/// Counters of one direction, since the link was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficCounters {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
    /// Packets that the link itself dropped; what anti-spoofing drops is counted in nftables.
    pub dropped: u64,
    /// Faulty packets.
    pub errors: u64,
}
