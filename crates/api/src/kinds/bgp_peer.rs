//! `BGPPeer`: a neighbour that some or all nodes speak BGP with.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::kinds::Kind;
use crate::kinds::bgp_config::validate_asn;
use crate::problem::Problems;
use crate::resource::Spec;
use crate::selector::LabelSelector;

/// Route policies that exist without being declared.
///
/// `default` is what RFC 8212 asks of an eBGP speaker, filled in for pods: out, own blocks and node addresses; in,
/// prefixes inside a pool or a declared node prefix. `accept-all` and `reject-all` say what they do.
pub const BUILTIN_POLICIES: [&str; 3] = ["default", "accept-all", "reject-all"];

/// A peer. In the cluster one object per peer; in `bgpd.toml` the tables `[peers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerSpec {
    /// Nodes that speak with this peer; absent means all. Cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The peer's address: the far end of the TCP connection.
    pub address: IpAddr,
    /// The AS that the peer's OPEN must carry.
    pub as_number: u32,
    /// TCP port of the peer; default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Our AS towards this peer; absent: the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<u32>,
    /// Our end of the TCP connection; absent: what the route to the peer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// Address families to negotiate (RFC 4760); default both.
    #[serde(
        default = "AddressFamily::all",
        skip_serializing_if = "AddressFamily::is_all"
    )]
    pub families: Vec<AddressFamily>,
    /// Hold Time to offer, seconds: 0 (never) or 3–65535; default 90 (RFC 4271 §10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// KEEPALIVE interval, seconds; default a third of the negotiated Hold Time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_time_seconds: Option<u16>,
    /// Time between connection attempts, seconds, 1–65535; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_retry_seconds: Option<u16>,
    /// Never connect, only accept; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
    /// Route policies for what the peer sends; default `["default"]` towards eBGP, `["accept-all"]` towards iBGP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import_policies: Vec<String>,
    /// Route policies for what the peer is sent; default `["default"]` towards eBGP, `["accept-all"]` towards iBGP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_policies: Vec<String>,
}

/// An address family that routes are exchanged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFamily {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl AddressFamily {
    /// Both families, the default of a peer.
    pub fn all() -> Vec<AddressFamily> {
        vec![AddressFamily::Ipv4Unicast, AddressFamily::Ipv6Unicast]
    }

    fn is_all(families: &[AddressFamily]) -> bool {
        families == AddressFamily::all()
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressFamily::Ipv4Unicast => "ipv4-unicast",
            AddressFamily::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

/// Peer state is per node and lives in the agents; see `roadbedctl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpPeerStatus {}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BGPPeer;
    type Status = BgpPeerStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        let at = |field: &str| format!("{path}.{field}");
        validate_asn(self.as_number, &at("asNumber"), problems);
        if let Some(asn) = self.local_as_number {
            validate_asn(asn, &at("localAsNumber"), problems);
        }
        if self.address.is_unspecified() || self.address.is_multicast() {
            problems.add(
                at("address"),
                format!("{} is not a unicast address", self.address),
            );
        }
        if let Some(source) = self.source_address {
            if source.is_ipv4() != self.address.is_ipv4() {
                problems.add(
                    at("sourceAddress"),
                    format!(
                        "{source} and address {} are of different families",
                        self.address
                    ),
                );
            }
            if source == self.address {
                problems.add(
                    at("sourceAddress"),
                    format!("{source} is the peer's own address"),
                );
            }
        }
        if self.port == Some(0) {
            problems.add(at("port"), "0 is not a TCP port: use 1 to 65535");
        }
        if let Some(hold @ 1..=2) = self.hold_time_seconds {
            problems.add(
                at("holdTimeSeconds"),
                format!("{hold} is refused by RFC 4271 §4.2: use 0 (never) or at least 3"),
            );
        }
        if let Some(keepalive) = self.keepalive_time_seconds {
            let hold = self.hold_time_seconds.unwrap_or(90);
            if hold != 0 && (keepalive == 0 || keepalive >= hold) {
                problems.add(
                    at("keepaliveTimeSeconds"),
                    format!("{keepalive} must be at least 1 and less than the Hold Time of {hold}"),
                );
            }
        }
        if self.connect_retry_seconds == Some(0) {
            problems.add(
                at("connectRetrySeconds"),
                "0 would connect without pause: use 1 to 65535",
            );
        }
        if self.families.is_empty() {
            problems.add(
                at("families"),
                "is empty: name ipv4-unicast, ipv6-unicast or both",
            );
        }
        for (field, policies) in [
            ("importPolicies", &self.import_policies),
            ("exportPolicies", &self.export_policies),
        ] {
            for (i, policy) in policies.iter().enumerate() {
                if !BUILTIN_POLICIES.contains(&policy.as_str()) {
                    problems.add(
                        format!("{path}.{field}[{i}]"),
                        format!(
                            "there is no route policy \"{}\": known are {}",
                            policy.escape_default(),
                            BUILTIN_POLICIES.join(", ")
                        ),
                    );
                }
            }
        }
    }
}
