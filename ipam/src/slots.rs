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
