//! Where in a pool the next block lies. All arithmetic is in u128: an IPv6 pool has more slots than u64 counts.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use std::net::IpAddr;

use crate::family::{Family, bounds, overlap};
use crate::hash::stable;
use crate::pools::PoolView;

/// Answer of [`choose_slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// This slot is free.
    Free(IpNet),
    /// Every slot is taken, at least in part.
    Exhausted {
        /// Slots of the pool.
        slots: u128,
        /// Ranges that are in the way.
        taken: usize,
    },
}

/// The first free slot of the pool at or after the place where this node starts, wrapping around.
///
/// Nodes start at different places, so that they seldom meet. A slot is free when no taken range overlaps it, whatever
/// its size: the pool may have been cut differently before.
pub fn choose_slot(pool: &PoolView, node: &str, taken: &[IpNet]) -> Slot {
    let (first, last) = bounds(&pool.cidr);
    let host_bits = u32::from(Family::of(&pool.cidr).bits().saturating_sub(pool.block_len));
    let slots = ((last - first) >> host_bits).saturating_add(1);
    let mut spans: Vec<(u128, u128)> = taken
        .iter()
        .filter(|t| overlap(t, &pool.cidr))
        .map(|t| {
            let (low, high) = bounds(t);
            let slot = |address: u128| (address.clamp(first, last) - first) >> host_bits;
            (slot(low), slot(high))
        })
        .collect();
    spans.sort_unstable();
    let exhausted = Slot::Exhausted {
        slots,
        taken: spans.len(),
    };
    if pool.block_len < pool.cidr.prefix_len() {
        return exhausted;
    }
    let start = u128::from(stable([node, &pool.name])) % slots;
    let free = first_free(&spans, start, slots).or_else(|| first_free(&spans, 0, start));
    free.and_then(|slot| net(&pool.cidr, first + (slot << host_bits), pool.block_len))
        .map_or(exhausted, Slot::Free)
}

/// First slot in `from..to` outside of all spans, which are sorted by their start.
fn first_free(spans: &[(u128, u128)], from: u128, to: u128) -> Option<u128> {
    let mut slot = from;
    for &(low, high) in spans {
        if low > slot {
            break;
        }
        if high >= slot {
            slot = high.checked_add(1)?;
        }
    }
    (slot < to).then_some(slot)
}

fn net(pool: &IpNet, address: u128, len: u8) -> Option<IpNet> {
    match Family::of(pool).address(address) {
        IpAddr::V4(a) => Ipv4Net::new(a, len).ok().map(IpNet::V4),
        IpAddr::V6(a) => Ipv6Net::new(a, len).ok().map(IpNet::V6),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(cidr: &str, block_len: u8) -> PoolView {
        PoolView {
            name: "p".into(),
            cidr: cidr.parse().unwrap(),
            block_len,
            usable: Ok(()),
        }
    }

    #[test]
    fn a_huge_pool_is_walked_by_what_is_taken() {
        let pool = pool("fd00:244::/48", 122);
        let half: IpNet = "fd00:244:0:8000::/49".parse().unwrap();
        let low: IpNet = "fd00:244::/49".parse().unwrap();
        for node in ["a", "b", "c", "d"] {
            let Slot::Free(slot) = choose_slot(&pool, node, &[half]) else {
                panic!("half of the pool is free");
            };
            assert!(low.contains(&slot) && slot.prefix_len() == 122, "{slot}");
        }
        assert_eq!(
            choose_slot(&pool, "a", &[half, low]),
            Slot::Exhausted {
                slots: 1 << 74,
                taken: 2
            }
        );
    }

    #[test]
    fn nodes_start_at_different_slots() {
        let pool = pool("10.244.0.0/16", 26);
        let starts: std::collections::BTreeSet<String> = (0..64)
            .map(|i| format!("{:?}", choose_slot(&pool, &format!("node-{i}"), &[])))
            .collect();
        assert!(starts.len() > 50, "{} of 64", starts.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_slot_is_found_exactly_when_there_is_one(
            taken in prop::collection::vec((0..256u32, 24..=32u8), 0..24), node in "[a-z]{1,3}",
        ) {
            let pool = pool("10.0.0.0/24", 28);
            let taken: Vec<IpNet> = taken
                .into_iter()
                .map(|(low, len)| IpNet::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + low).into(), len).unwrap().trunc())
                .collect();
            let is_free = |slot: &IpNet| !taken.iter().any(|t| overlap(t, slot));
            let any = pool.cidr.subnets(28).unwrap().any(|s| is_free(&s));
            match choose_slot(&pool, &node, &taken) {
                Slot::Free(slot) => prop_assert!(pool.cuts(&slot) && slot == slot.trunc() && is_free(&slot)),
                Slot::Exhausted { slots, .. } => prop_assert!(!any && slots == 16),
            }
        }
    }
}
