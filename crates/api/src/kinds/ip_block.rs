//! `IPBlock`: one slot of a pool and who owns it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::Kind;
use crate::problem::Problems;
use crate::resource::{Spec, Timestamp};

/// What a block is. One object per slot, so whoever creates the object owns the slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IpBlockSpec {
    /// The block's range: pool-aligned, of the pool's block size. Immutable.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Cidr"))]
    pub cidr: IpNet,
    /// Name of the pool that it was cut from.
    pub pool: String,
    /// Who hands out its addresses.
    pub owner: BlockOwner,
    /// Where it is in its life.
    pub state: BlockState,
}

/// Who owns a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockOwner {
    /// The owning node's name. Immutable.
    pub node: String,
}

/// The life of a block; each step is one compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BlockState {
    /// Claimed, not yet checked against the pools. Never announced, no address handed out.
    Pending,
    /// Owned: announced, addresses handed out.
    Confirmed,
    /// On its way back: not announced, no new address; deleted next.
    Releasing,
}

/// What is observed of a block. Nobody watches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IpBlockStatus {
    /// Addresses in the block.
    #[serde(default)]
    pub capacity: u64,
    /// Addresses held by attachments.
    #[serde(default)]
    pub in_use: u64,
    /// When the counts were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Timestamp>,
}

/// The one name that a block of this range can have: `10-244-0-64-26`, `fd00-244-0-0-0-0-0-40-122`.
///
/// Two claims of one slot thus meet in one object.
pub fn block_name(cidr: &IpNet) -> String {
    let cidr = cidr.trunc();
    let mut name = match cidr.addr() {
        IpAddr::V4(a) => a.octets().map(|o| o.to_string()).join("-"),
        IpAddr::V6(a) => a.segments().map(|s| format!("{s:x}")).join("-"),
    };
    name.push('-');
    name.push_str(&cidr.prefix_len().to_string());
    name
}

impl Spec for IpBlockSpec {
    const KIND: Kind = Kind::IPBlock;
    type Status = IpBlockStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        if self.cidr != self.cidr.trunc() {
            problems.add(
                format!("{path}.cidr"),
                format!(
                    "{} has host bits set: write {}",
                    self.cidr,
                    self.cidr.trunc()
                ),
            );
        }
        if self.pool.is_empty() {
            problems.add(
                format!("{path}.pool"),
                "is empty: name the pool that the block was cut from",
            );
        }
        if self.owner.node.is_empty() {
            problems.add(
                format!("{path}.owner.node"),
                "is empty: name the owning node",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_per_range_and_dns_safe() {
        let name = |s: &str| block_name(&s.parse().unwrap());
        assert_eq!(name("10.244.0.64/26"), "10-244-0-64-26");
        assert_eq!(name("10.244.0.65/26"), "10-244-0-64-26");
        assert_eq!(name("fd00:244::40/122"), "fd00-244-0-0-0-0-0-40-122");
    }
}
