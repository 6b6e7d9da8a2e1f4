//! `BGPRoutePolicy`: ordered rules that say which routes pass a peer, and what is changed of them on the way.

mod as_path;
mod community;
mod validate;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::{AddressFamily, Kind};
use crate::problem::Problems;
use crate::resource::Spec;

pub(super) use validate::changes as validate_changes;

pub use as_path::{AsPathAlternative, AsPathNode, AsPathPattern, AsTerm, DigitRun, MAX_STEPS};
pub use community::{
    CommunityName, CommunityPattern, ExtCommunityName, ExtCommunityPattern, LargeCommunityPattern,
};

/// What is wrong with a pattern, in words that follow the text of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(crate) String);

/// A route policy. A peer names those that it goes through; in a list the first that decides counts.
///
/// The rules are gone through in order. A rule whose conditions all hold applies what it sets; with an action it also
/// decides, without one the next rule is asked. When no rule decides, `defaultAction` does. Conditions always look at
/// the route as it came: what a rule sets is seen by the peer or the RIB, not by the rules and policies after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpRoutePolicySpec {
    /// The rules, in the order in which they are asked; at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_RULES)))]
    pub rules: Vec<PolicyRule>,
    /// What becomes of a route that no rule decides; default `reject` (RFC 8212).
    #[serde(default, skip_serializing_if = "DefaultAction::is_reject")]
    pub default_action: DefaultAction,
}

/// What becomes of a route that no rule of a policy decides.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DefaultAction {
    /// It passes.
    Accept,
    /// It does not.
    #[default]
    Reject,
    /// The next policy of the peer's list decides; after the last, the route is rejected.
    Next,
}

impl DefaultAction {
    fn is_reject(&self) -> bool {
        *self == DefaultAction::Reject
    }
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyRule {
    /// A name for people, unique in the policy, at most 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_NAME)))]
    pub name: Option<String>,
    /// When the rule applies: all conditions must hold. Absent: always.
    #[serde(
        default,
        rename = "match",
        skip_serializing_if = "PolicyMatch::is_empty"
    )]
    pub conditions: PolicyMatch,
    /// What it changes.
    #[serde(default, rename = "set", skip_serializing_if = "PolicySet::is_empty")]
    pub changes: PolicySet,
    /// What it decides; absent: the next rule is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<PolicyAction>,
}

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PolicyAction {
    /// The route passes.
    Accept,
    /// The route does not pass.
    Reject,
}

/// The conditions of a rule. Each list holds when *one* of its entries does; all conditions that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyMatch {
    /// The route's prefix is in one of these ranges; at most 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_PREFIXES)))]
    pub prefixes: Option<Vec<PrefixRange>>,
    /// The route is of one of these families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 2)))]
    pub families: Option<Vec<AddressFamily>>,
    /// The AS path matches this pattern; see [`AsPathPattern`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = as_path::MAX_LEN)))]
    pub as_path: Option<String>,
    /// The length of the AS path is in this range; an AS_SET counts as one (RFC 4271 §9.1.2.2 a).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path_length: Option<LengthRange>,
    /// The route has one of these communities (RFC 1997): `65000:1`, `65000:*`, `no-export`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<Vec<crate::schema::Any<crate::schema::Community>>>",
            length(max = validate::MAX_ENTRIES)
        )
    )]
    pub communities: Option<Vec<String>>,
    /// The route has one of these large communities (RFC 8092): `65000:1:2`, `65000:*:*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<Vec<crate::schema::Any<crate::schema::LargeCommunity>>>",
            length(max = validate::MAX_ENTRIES)
        )
    )]
    pub large_communities: Option<Vec<String>>,
    /// The route has one of these extended communities (RFC 4360): `rt:65000:1`, `soo:192.0.2.1:*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<Vec<crate::schema::Any<crate::schema::ExtCommunity>>>",
            length(max = validate::MAX_ENTRIES)
        )
    )]
    pub extended_communities: Option<Vec<String>>,
    /// The route's next hop is in one of these CIDRs; of an IPv6 next hop the global address. Own routes have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<Vec<crate::schema::Cidr>>", length(max = validate::MAX_ENTRIES))
    )]
    pub next_hops: Option<Vec<IpNet>>,
    /// The route was received from one of these peers; never true of own routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = validate::MAX_ENTRIES), inner(length(min = 1, max = 253)))
    )]
    pub peers: Option<Vec<String>>,
    /// The route comes from one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_ENTRIES)))]
    pub sources: Option<Vec<PolicySource>>,
}

impl PolicyMatch {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Prefixes inside a CIDR, by their length. Neither `ge` nor `le`: the CIDR itself; `ge` alone: up to the longest
/// length; `le` alone: from the CIDR's own length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrefixRange {
    /// The CIDR, without host bits.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Cidr"))]
    pub prefix: IpNet,
    /// Shortest prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 128)))]
    pub ge: Option<u8>,
    /// Longest prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 128)))]
    pub le: Option<u8>,
}

impl PrefixRange {
    /// Shortest and longest prefix length, defaults applied.
    pub fn lengths(&self) -> (u8, u8) {
        let own = self.prefix.prefix_len();
        match (self.ge, self.le) {
            (None, None) => (own, own),
            (Some(ge), None) => (ge, self.prefix.max_prefix_len()),
            (None, Some(le)) => (own, le),
            (Some(ge), Some(le)) => (ge, le),
        }
    }

    /// Whether a prefix is one of them.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        let (low, high) = self.lengths();
        self.prefix.contains(prefix) && (low..=high).contains(&prefix.prefix_len())
    }
}

/// A range of lengths, bounds included; at least one of them is given.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LengthRange {
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ge: Option<u16>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub le: Option<u16>,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PolicySource {
    /// A block of this node.
    OwnBlock,
    /// An address of this node.
    Node,
    /// A service's address.
    Service,
    /// Declared in the configuration.
    Static,
    /// Received from a peer.
    Learned,
}

impl PolicySource {
    /// Every source.
    pub const ALL: [PolicySource; 5] = [
        PolicySource::OwnBlock,
        PolicySource::Node,
        PolicySource::Service,
        PolicySource::Static,
        PolicySource::Learned,
    ];

    /// The name as written in `sources`.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicySource::OwnBlock => "ownBlock",
            PolicySource::Node => "node",
            PolicySource::Service => "service",
            PolicySource::Static => "static",
            PolicySource::Learned => "learned",
        }
    }
}

/// What a rule changes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicySet {
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Puts an AS in front of the path, beside what BGP itself does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepend_as: Option<PrependAs>,
    /// Changes communities (RFC 1997).
    #[serde(default, skip_serializing_if = "ListChange::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::Changes<crate::schema::Community>")
    )]
    pub communities: ListChange,
    /// Changes large communities (RFC 8092).
    #[serde(default, skip_serializing_if = "ListChange::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::Changes<crate::schema::LargeCommunity>")
    )]
    pub large_communities: ListChange,
    /// Changes extended communities (RFC 4360).
    #[serde(default, skip_serializing_if = "ListChange::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::schema::Changes<crate::schema::ExtCommunity>")
    )]
    pub extended_communities: ListChange,
    /// `self`, `keep` or an address. An IPv4 address is not set on routes of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopChange>,
}

impl PolicySet {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An AS in front of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrependAs {
    /// Which AS; absent: ours towards the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::AsNumber>"))]
    pub as_number: Option<u32>,
    /// How often, 1–32.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = validate::MAX_PREPEND)))]
    pub count: u8,
}

/// Changes of a list of communities: `set` replaces all, else `remove` comes before `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListChange {
    /// To add; no `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_ENTRIES)))]
    pub add: Vec<String>,
    /// To remove; `*` for a part that may be anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_ENTRIES)))]
    pub remove: Vec<String>,
    /// To put in place of all; no `*`. Empty removes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = validate::MAX_ENTRIES)))]
    pub set: Option<Vec<String>>,
}

impl ListChange {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A next hop that a rule sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NextHopChange {
    /// Our own address towards the peer.
    Own,
    /// The one that the route came with.
    Keep,
    /// This address.
    Address(IpAddr),
}

impl TryFrom<String> for NextHopChange {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        match text.as_str() {
            "self" => Ok(NextHopChange::Own),
            "keep" => Ok(NextHopChange::Keep),
            other => other.parse().map(NextHopChange::Address).map_err(|_| {
                PatternError(format!(
                    "\"{}\" is not a next hop: write self, keep or an address",
                    other.escape_default()
                ))
            }),
        }
    }
}

impl fmt::Display for NextHopChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHopChange::Own => f.write_str("self"),
            NextHopChange::Keep => f.write_str("keep"),
            NextHopChange::Address(address) => address.fmt(f),
        }
    }
}

impl From<NextHopChange> for String {
    fn from(change: NextHopChange) -> Self {
        change.to_string()
    }
}

/// Nothing is observed of a policy itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpRoutePolicyStatus {}

impl Spec for BgpRoutePolicySpec {
    const KIND: Kind = Kind::BGPRoutePolicy;
    type Status = BgpRoutePolicyStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        validate::policy(self, path, problems);
    }
}
