//! The order in which a block's addresses are handed out: whoever was free longest comes first.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::{Family, bounds, number};
use crate::hash::stable;

/// Addresses of a block that the ledger hands out at most. The largest legal block has 4096.
const MAX_ADDRESSES: u128 = 65_536;

/// Free addresses of one block. May name addresses that were taken meanwhile, never the same one twice.
#[derive(Debug)]
pub(crate) struct Queue {
    family: Family,
    first: u128,
    free: VecDeque<u32>,
}

impl Queue {
    /// The queue of a block: what was never used since the boot, from a place that differs from boot to boot, then
    /// what was released, in that order.
    pub(crate) fn new(
        block: &IpNet,
        boot_id: &str,
        released: impl Iterator<Item = IpAddr>,
        used: impl Fn(&IpAddr) -> bool,
    ) -> Self {
        let (first, last) = bounds(block);
        let size = (last - first).saturating_add(1).min(MAX_ADDRESSES);
        let size = u32::try_from(size).expect("bounded above");
        let mut queue = Self {
            family: Family::of(block),
            first,
            free: VecDeque::new(),
        };
        let released: Vec<u32> = released
            .filter_map(|a| queue.ordinal(&a))
            .filter(|o| *o < size)
            .collect();
        let mut late = vec![false; size as usize];
        for &ordinal in &released {
            late[ordinal as usize] = true;
        }
        let text = block.to_string();
        let start = u32::try_from(stable([boot_id, &text]) % u64::from(size)).unwrap_or(0);
        let fresh = (0..size)
            .map(|i| (start + i) % size)
            .filter(|o| !late[*o as usize]);
        queue.free = fresh
            .chain(released)
            .filter(|o| !used(&queue.address(*o)))
            .collect();
        queue
    }

    /// The address that is next.
    pub(crate) fn front(&self) -> Option<IpAddr> {
        self.free.front().map(|o| self.address(*o))
    }

    /// Takes the address that is next off the queue.
    pub(crate) fn pop(&mut self) {
        self.free.pop_front();
    }

    /// Puts a released address at the end. The scan is bounded by the block and not in the path of an ADD.
    pub(crate) fn push(&mut self, address: &IpAddr) {
        if let Some(ordinal) = self.ordinal(address) {
            self.free.retain(|o| *o != ordinal);
            self.free.push_back(ordinal);
        }
    }

    fn ordinal(&self, address: &IpAddr) -> Option<u32> {
        if Family::of_address(address) != self.family {
            return None;
        }
        u32::try_from(number(*address).checked_sub(self.first)?).ok()
    }

    fn address(&self, ordinal: u32) -> IpAddr {
        self.family.address(self.first + u128::from(ordinal))
    }
}
