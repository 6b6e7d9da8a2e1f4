//! `BGPPeer`: a neighbour, or a range of them, that some or all nodes speak BGP with.

mod add_path;
mod migration;
mod peer_as;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::Kind;
use crate::kinds::bgp_config::validate_asn;
use crate::kinds::password::Password;
use crate::kinds::prefix_limit::{self, PrefixLimits};
use crate::problem::Problems;
use crate::resource::Spec;
use crate::selector::LabelSelector;

pub use add_path::{AddPath, SendPaths, SendPathsError};
pub use migration::{AsMigration, DefaultOriginate};
pub use peer_as::PeerAs;

/// Route policies that exist without being declared.
///
/// `default` is what RFC 8212 asks of an eBGP speaker, filled in for pods: out, own blocks and node addresses; in,
/// prefixes inside a pool or a declared node prefix. `accept-all` and `reject-all` say what they do.
pub const BUILTIN_POLICIES: [&str; 3] = ["default", "accept-all", "reject-all"];

/// A peer. In the cluster one object per peer; in `bgpd.toml` the tables `[peers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpPeerSpec {
    /// Nodes that speak with this peer; absent means all. Cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The peer's address: the far end of the TCP connection. This or `listenRange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Address>"))]
    pub address: Option<IpAddr>,
    /// Peers that are known only by where they connect from: any address of this prefix. This or `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Cidr>"))]
    pub listen_range: Option<IpNet>,
    /// With `listenRange`: most peers at a time, at least 1; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_sessions: Option<u32>,
    /// The AS that the peer's OPEN must carry.
    pub as_number: PeerAs,
    /// TCP port of the peer; default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: Option<u16>,
    /// Our AS towards this peer; absent: the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::AsNumber>"))]
    pub local_as_number: Option<u32>,
    /// Our end of the TCP connection; absent: what the route to the peer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Address>"))]
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
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub connect_retry_seconds: Option<u16>,
    /// Never connect, only accept; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
    /// Key of TCP-MD5 signatures (RFC 2385), 1–80 bytes; absent: no signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Take packets only from at most this many hops away, 1–254, and send with TTL 255 (RFC 5082); absent: do not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 254)))]
    pub ttl_security_hops: Option<u8>,
    /// TTL of packets sent, 1–255: how far away the peer may be; default 1 towards eBGP, 255 towards iBGP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub multihop_ttl: Option<u8>,
    /// Bounds on the prefixes that the peer sends, before import policy.
    #[serde(default, skip_serializing_if = "PrefixLimits::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::ByFamily<crate::kinds::PrefixLimit>")
    )]
    pub max_prefixes: PrefixLimits,
    /// Bounds on the prefixes that the peer is sent.
    #[serde(default, skip_serializing_if = "PrefixLimits::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::ByFamily<crate::kinds::PrefixLimit>")
    )]
    pub max_prefixes_out: PrefixLimits,
    /// An iBGP peer that we reflect routes to and from (RFC 4456); default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub route_reflector_client: bool,
    /// Next hop of learned routes that the peer is sent; default `auto`.
    #[serde(default, skip_serializing_if = "NextHopPolicy::is_auto")]
    pub next_hop: NextHopPolicy,
    /// Put our AS in place of the peer's in the AS_PATH that it is sent; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_override: bool,
    /// How often our own AS may be in a received AS_PATH, 0–10; default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "schema", schemars(range(max = 10)))]
    pub allowed_own_as: u8,
    /// Remove private AS numbers (RFC 6996) from the AS_PATH that the peer is sent; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_private_as: bool,
    /// What we are to the peer (RFC 9234); absent: no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<BgpRole>,
    /// Refuse a peer that does not say its role; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub role_strict: bool,
    /// The session has our former AS, `localAsNumber` (RFC 7705); absent: that is simply our AS towards this peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_migration: Option<AsMigration>,
    /// Take only paths that begin with the peer's AS (RFC 4271 §6.3); default true but for a client of a route server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_first_as: Option<bool>,
    /// Offer IPv6 next hops for IPv4 routes (RFC 8950); default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended_next_hop: bool,
    /// Families that the peer is sent a default route of ours for, whatever the export policies say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::ByFamily<DefaultOriginate>")
    )]
    pub default_originate: BTreeMap<AddressFamily, DefaultOriginate>,
    /// Make routes from and to this peer the last resort, before its session goes (RFC 8326); default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub graceful_shutdown: bool,
    /// Keep the session down, and tell the peer this when it goes (RFC 9003); absent: the session is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = migration::MAX_COMMUNICATION)))]
    pub shutdown: Option<String>,
    /// Several paths per prefix (RFC 7911), by family; default neither from the peer nor to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::ByFamily<AddPath>")
    )]
    pub add_path: BTreeMap<AddressFamily, AddPath>,
    /// Route policies for what the peer sends; default `["default"]` towards eBGP, `["accept-all"]` towards iBGP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import_policies: Vec<String>,
    /// Route policies for what the peer is sent; default `["default"]` towards eBGP, `["accept-all"]` towards iBGP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_policies: Vec<String>,
}

/// Which next hop learned routes carry to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NextHopPolicy {
    /// Our own towards eBGP, the received one towards iBGP (RFC 4271 §5.1.3).
    #[default]
    Auto,
    /// Our own, but for what is reflected.
    #[serde(rename = "self")]
    Own,
    /// The received one.
    Keep,
}

impl NextHopPolicy {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_auto(&self) -> bool {
        *self == NextHopPolicy::Auto
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// What a speaker is to its neighbour (RFC 9234 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BgpRole {
    /// Sells transit to the neighbour.
    Provider,
    /// Distributes routes among its clients.
    RouteServer,
    /// A client of a route server.
    RouteServerClient,
    /// Buys transit from the neighbour.
    Customer,
    /// Neither: each sends its own and its customers' routes.
    Peer,
}

/// An address family that routes are exchanged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpPeerStatus {}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BGPPeer;
    type Status = BgpPeerStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        let at = |field: &str| format!("{path}.{field}");
        if let PeerAs::Number(asn) = self.as_number {
            validate_asn(asn, &at("asNumber"), problems);
        }
        if let Some(asn) = self.local_as_number {
            validate_asn(asn, &at("localAsNumber"), problems);
        }
        self.validate_where(path, problems);
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
        self.validate_transport(path, problems);
        migration::validate(self, path, problems);
        add_path::validate(self, path, problems);
        for (field, limits) in [
            ("maxPrefixes", &self.max_prefixes),
            ("maxPrefixesOut", &self.max_prefixes_out),
        ] {
            prefix_limit::validate(limits, &self.families, &at(field), problems);
        }
        if self.allowed_own_as > 10 {
            problems.add(
                at("allowedOwnAs"),
                format!(
                    "{} is more than any loop-free design needs: use 0 to 10",
                    self.allowed_own_as
                ),
            );
        }
        if self.role_strict && self.role.is_none() {
            problems.add(
                at("roleStrict"),
                "asks for a role of ours as well: set role",
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
                // Whether it exists is known where peers and policies meet.
                if policy.is_empty() {
                    problems.add(
                        format!("{path}.{field}[{i}]"),
                        format!(
                            "is empty: name a BGPRoutePolicy or one of {}",
                            BUILTIN_POLICIES.join(", ")
                        ),
                    );
                }
            }
        }
    }
}

impl BgpPeerSpec {
    /// Which connections are the peer's.
    fn validate_where(&self, path: &str, problems: &mut Problems) {
        let mut wrong =
            |field: &str, message: String| problems.add(format!("{path}.{field}"), message);
        match (self.address, self.listen_range) {
            (None, None) => wrong(
                "address",
                "is missing: give the peer's address, or a listenRange for peers that connect to us".to_owned(),
            ),
            (Some(_), Some(range)) => wrong(
                "listenRange",
                format!("{range} contradicts address, which is one peer's: remove one"),
            ),
            _ => {}
        }
        if let Some(address) = self.address
            && (address.is_unspecified() || address.is_multicast())
        {
            wrong("address", format!("{address} is not a unicast address"));
        }
        if let (Some(source), Some(address)) = (self.source_address, self.address) {
            if source.is_ipv4() != address.is_ipv4() {
                wrong(
                    "sourceAddress",
                    format!("{source} and address {address} are of different families"),
                );
            }
            if source == address {
                wrong(
                    "sourceAddress",
                    format!("{source} is the peer's own address"),
                );
            }
        }
        if let Some(range) = self.listen_range {
            if range != range.trunc() {
                wrong(
                    "listenRange",
                    format!("{range} has host bits set: write {}", range.trunc()),
                );
            }
            for (field, set) in [
                ("port", self.port.is_some()),
                ("sourceAddress", self.source_address.is_some()),
                ("connectRetrySeconds", self.connect_retry_seconds.is_some()),
                ("passive", self.passive),
            ] {
                if set {
                    wrong(
                        field,
                        "is for a peer with an address: those of a listenRange connect to us"
                            .to_owned(),
                    );
                }
            }
        }
        match self.max_sessions {
            Some(_) if self.listen_range.is_none() => wrong(
                "maxSessions",
                "is for a listenRange: an address has one session".to_owned(),
            ),
            Some(0) => wrong("maxSessions", "0 admits nobody: use at least 1".to_owned()),
            _ => {}
        }
    }

    /// What the TCP connection is told.
    fn validate_transport(&self, path: &str, problems: &mut Problems) {
        if let Some(password) = &self.password {
            password.validate(&format!("{path}.password"), problems);
        }
        if let Some(hops @ (0 | 255)) = self.ttl_security_hops {
            problems.add(
                format!("{path}.ttlSecurityHops"),
                format!("{hops} is out of range: use 1 (the peer is on this link) to 254"),
            );
        }
        if self.multihop_ttl == Some(0) {
            problems.add(
                format!("{path}.multihopTtl"),
                "0 reaches nobody: use 1 to 255",
            );
        }
        if self.ttl_security_hops.is_some() && self.multihop_ttl.is_some() {
            problems.add(
                format!("{path}.multihopTtl"),
                "contradicts ttlSecurityHops, which sends with TTL 255 and says how far away the peer may be: remove one",
            );
        }
    }
}

#[cfg(test)]
mod tests;
