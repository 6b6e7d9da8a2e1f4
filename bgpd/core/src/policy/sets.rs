//! What conditions look things up in: prefixes, and the communities of the three kinds.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use roadbed_api::kinds::PrefixRange;
use smallvec::SmallVec;

/// Shortest and longest prefix length below one CIDR; several ranges may share the CIDR.
type Lengths = SmallVec<[(u8, u8); 2]>;

/// Prefix ranges as tries: a look-up walks the CIDRs that cover a prefix, at most 33 or 129 of them.
#[derive(Clone, Default)]
pub(super) struct PrefixSet {
    v4: PrefixMap<Ipv4Net, Lengths>,
    v6: PrefixMap<Ipv6Net, Lengths>,
}

impl PrefixSet {
    pub(super) fn new(ranges: &[PrefixRange]) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range.prefix, range.lengths());
        }
        set
    }

    /// Everything inside these CIDRs.
    pub(super) fn inside(cidrs: &[IpNet]) -> Self {
        let mut set = Self::default();
        for cidr in cidrs {
            set.insert(*cidr, (0, cidr.max_prefix_len()));
        }
        set
    }

    fn insert(&mut self, cidr: IpNet, lengths: (u8, u8)) {
        match cidr.trunc() {
            IpNet::V4(cidr) => self.v4.entry(cidr).or_default().push(lengths),
            IpNet::V6(cidr) => self.v6.entry(cidr).or_default().push(lengths),
        }
    }

    pub(super) fn contains(&self, prefix: &IpNet) -> bool {
        let len = prefix.prefix_len();
        let fits = |lengths: &Lengths| {
            lengths
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&len))
        };
        match prefix {
            IpNet::V4(prefix) => self.v4.cover_values(prefix).any(fits),
            IpNet::V6(prefix) => self.v6.cover_values(prefix).any(fits),
        }
    }

    pub(super) fn contains_address(&self, address: IpAddr) -> bool {
        self.contains(&IpNet::from(address))
    }
}

/// Values to find in a route's list: exact ones sorted, patterns beside them.
#[derive(Clone, Debug)]
pub(super) struct ValueSet<T, P> {
    exact: Vec<T>,
    patterns: Vec<P>,
}

impl<T: Ord, P> ValueSet<T, P> {
    /// `exact` tells the only value of a pattern that names one.
    pub(super) fn new(patterns: Vec<P>, exact: impl Fn(&P) -> Option<T>) -> Self {
        let mut set = Self {
            exact: Vec::new(),
            patterns: Vec::new(),
        };
        for pattern in patterns {
            match exact(&pattern) {
                Some(value) => set.exact.push(value),
                None => set.patterns.push(pattern),
            }
        }
        set.exact.sort_unstable();
        set.exact.dedup();
        set
    }

    pub(super) fn has(&self, value: &T, matches: impl Fn(&P, &T) -> bool) -> bool {
        self.exact.binary_search(value).is_ok() || self.patterns.iter().any(|p| matches(p, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_count_below_their_own_cidr_only() {
        let range = |text: &str, ge, le| PrefixRange {
            prefix: text.parse().unwrap(),
            ge,
            le,
        };
        let set = PrefixSet::new(&[
            range("10.244.0.0/16", Some(26), Some(26)),
            range("10.244.0.0/16", None, Some(17)),
            range("10.0.0.0/8", None, None),
            range("0.0.0.0/0", None, None),
            range("fd00::/8", Some(64), None),
        ]);
        let check = |prefix: &str, expected: bool| {
            assert_eq!(set.contains(&prefix.parse().unwrap()), expected, "{prefix}");
        };
        check("10.244.1.0/26", true);
        check("10.244.0.0/16", true);
        check("10.244.128.0/17", true);
        check("10.244.1.0/24", false);
        check("10.245.1.0/26", false);
        check("10.0.0.0/8", true);
        check("10.0.0.0/9", false);
        check("0.0.0.0/0", true);
        check("0.0.0.0/1", false);
        check("fd00::/64", true);
        check("fd00::1/128", true);
        check("fd00::/8", false);
        check("::/0", false);
    }

    fn net() -> impl Strategy<Value = IpNet> {
        // Few bits in play, so that ranges and prefixes meet.
        (0u8..4, 0u8..4, 0u8..=32, any::<bool>()).prop_map(|(a, b, len, v6)| {
            let net = match v6 {
                false => IpNet::new(IpAddr::from([a << 6, b << 6, 0, 0]), len),
                true => {
                    let first = u16::from(a) << 14 | u16::from(b) << 6;
                    IpNet::new(IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0]), len * 4)
                }
            };
            net.unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn as_a_list_says(
            ranges in prop::collection::vec((net(), prop::option::of(0u8..=128), prop::option::of(0u8..=128)), 0..8),
            prefix in net(),
        ) {
            let ranges: Vec<PrefixRange> = ranges
                .into_iter()
                .map(|(prefix, ge, le)| PrefixRange { prefix, ge, le })
                .collect();
            let expected = ranges.iter().any(|r| r.contains(&prefix));
            prop_assert_eq!(PrefixSet::new(&ranges).contains(&prefix), expected);
        }
    }
}
