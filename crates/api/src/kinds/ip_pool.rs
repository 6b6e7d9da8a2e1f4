//! `IPPool`: a CIDR, cut into blocks that nodes own.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::Kind;
use crate::problem::Problems;
use crate::resource::{Condition, Spec};
use crate::selector::LabelSelector;

/// What a pool is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IpPoolSpec {
    /// The pool's range, without host bits. Immutable.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Cidr"))]
    pub cidr: IpNet,
    /// Prefix length of a block: IPv4 20–32 (default 26), IPv6 116–128 (default 122). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 20, max = 128)))]
    pub block_size: Option<u8>,
    /// Nodes that may claim blocks; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// No new block is claimed and no new address handed out; what is in use stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// What is observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IpPoolStatus {
    /// `Overlaps` is `True` when an older pool covers part of this one: no block is cut from it then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl IpPoolSpec {
    /// The prefix length of a block, defaults applied.
    pub fn block_prefix_len(&self) -> u8 {
        self.block_size.unwrap_or(match self.cidr {
            IpNet::V4(_) => 26,
            IpNet::V6(_) => 122,
        })
    }

    /// How many blocks the pool can be cut into. Zero when the block size is out of range.
    pub fn slots(&self) -> u128 {
        let bits = self
            .block_prefix_len()
            .saturating_sub(self.cidr.prefix_len());
        if self.block_prefix_len() < self.cidr.prefix_len() {
            return 0;
        }
        1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
    }
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IPPool;
    type Status = IpPoolStatus;

    fn validate(&self, path: &str, problems: &mut Problems) {
        let cidr = self.cidr;
        if cidr != cidr.trunc() {
            problems.add(
                format!("{path}.cidr"),
                format!("{cidr} has host bits set: write {}", cidr.trunc()),
            );
        }
        let reserved: &[&str] = match cidr {
            IpNet::V4(_) => &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
            IpNet::V6(_) => &["::/8", "fe80::/10", "ff00::/8"],
        };
        for range in reserved {
            let Ok(range) = range.parse::<IpNet>() else {
                continue;
            };
            if range.contains(&cidr) || cidr.contains(&range) {
                problems.add(
                    format!("{path}.cidr"),
                    format!("{cidr} touches {range}, which cannot be given to pods"),
                );
            }
        }
        let (low, high) = match cidr {
            IpNet::V4(_) => (20, 32),
            IpNet::V6(_) => (116, 128),
        };
        let size = self.block_prefix_len();
        if !(low..=high).contains(&size) {
            problems.add(
                format!("{path}.blockSize"),
                format!("/{size} is out of range: a block of {cidr} is /{low} to /{high}"),
            );
        } else if size < cidr.prefix_len() {
            problems.add(
                format!("{path}.blockSize"),
                format!("/{size} is larger than the pool {cidr}: a block must fit in its pool"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cidr: &str, block_size: Option<u8>, expected: &[&str]) {
        let spec = IpPoolSpec {
            cidr: cidr.parse().unwrap(),
            block_size,
            node_selector: None,
            disabled: false,
        };
        let mut problems = Problems::new();
        spec.validate("spec", &mut problems);
        let found: Vec<String> = problems
            .iter()
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect();
        assert_eq!(
            found.len(),
            expected.len(),
            "{cidr} {block_size:?}: {found:?}"
        );
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    }

    #[test]
    fn ranges() {
        check("10.244.0.0/16", None, &[]);
        check("fd00:244::/48", Some(122), &[]);
        check("10.244.0.0/26", Some(26), &[]);
        check(
            "10.244.0.1/16",
            None,
            &["spec.cidr: 10.244.0.1/16 has host bits set: write 10.244.0.0/16"],
        );
        check(
            "10.244.0.0/16",
            Some(19),
            &["spec.blockSize: /19 is out of range"],
        );
        check(
            "10.244.0.0/16",
            Some(33),
            &["spec.blockSize: /33 is out of range"],
        );
        check(
            "fd00:244::/48",
            Some(64),
            &["spec.blockSize: /64 is out of range"],
        );
        check(
            "10.244.0.0/28",
            Some(26),
            &["spec.blockSize: /26 is larger than the pool"],
        );
        check("169.254.0.0/16", None, &["touches 169.254.0.0/16"]);
        check(
            "0.0.0.0/0",
            None,
            &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
        );
        check("fe80::/64", None, &["touches fe80::/10"]);
    }

    #[test]
    fn slots_are_counted_in_u128() {
        let spec = |cidr: &str| IpPoolSpec {
            cidr: cidr.parse().unwrap(),
            block_size: None,
            node_selector: None,
            disabled: false,
        };
        assert_eq!(spec("10.244.0.0/16").slots(), 1024);
        assert_eq!(spec("fd00:244::/48").slots(), 1 << 74);
        assert_eq!(spec("10.244.0.0/27").slots(), 0);
    }
}
