//! The rows in memory, by key and by address, and the queues of the blocks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, AttachmentState};

use super::error::ReserveError;
use super::queue::Queue;
use super::{ConfirmedBlock, Row, Usage};
use crate::family::{Family, bounds, capacity};

/// Queues that are kept beyond those asked for; more are dropped and made anew when needed.
const SPARE_QUEUES: usize = 64;

/// When an address was released: its place among all releases, and the time since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) order: u64,
    pub(crate) at: Duration,
}

#[derive(Debug)]
pub(crate) struct Index {
    boot_id: String,
    cool_down: Duration,
    rows: BTreeMap<AttachmentKey, Row>,
    by_address: BTreeMap<IpAddr, AttachmentKey>,
    /// Every address that was released since the boot and is free.
    released: BTreeMap<IpAddr, Release>,
    next_release: u64,
    queues: BTreeMap<IpNet, Queue>,
}

impl Index {
    pub(crate) fn new(
        boot_id: &str,
        cool_down: Duration,
        rows: Vec<Row>,
        released: BTreeMap<IpAddr, Release>,
    ) -> Self {
        let by_address = rows
            .iter()
            .flat_map(|r| r.addresses.iter().map(|a| (*a, r.key.clone())))
            .collect();
        let newest = released.values().map(|r| r.order).max();
        Self {
            boot_id: boot_id.to_owned(),
            cool_down,
            rows: rows.into_iter().map(|r| (r.key.clone(), r)).collect(),
            by_address,
            released,
            next_release: newest.map_or(0, |n| n.saturating_add(1)),
            queues: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, key: &AttachmentKey) -> Option<&Row> {
        self.rows.get(key)
    }

    pub(crate) fn owner(&self, address: &IpAddr) -> Option<&Row> {
        self.rows.get(self.by_address.get(address)?)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub(crate) fn next_release(&self) -> u64 {
        self.next_release
    }

    pub(crate) fn expired(&self, now: Duration) -> Vec<Row> {
        let late = |r: &&Row| {
            r.state == AttachmentState::Wiring && r.deadline.is_some_and(|deadline| deadline <= now)
        };
        self.rows().filter(late).cloned().collect()
    }

    pub(crate) fn in_use(&self, block: &IpNet) -> u64 {
        self.by_address.range(range(block)).count() as u64
    }

    pub(crate) fn usage(&self, block: &IpNet, now: Duration) -> Usage {
        let cooling = self
            .released
            .range(range(block))
            .filter(|(_, r)| cools(r, self.cool_down, now));
        Usage {
            capacity: u64::try_from(capacity(block)).unwrap_or(u64::MAX),
            in_use: self.in_use(block),
            cooling: cooling.count() as u64,
        }
    }

    /// The next address of a family: the first of the blocks that has one.
    pub(crate) fn pick(
        &mut self,
        family: Family,
        blocks: &[ConfirmedBlock],
        now: Duration,
    ) -> Result<IpAddr, ReserveError> {
        if self.queues.len() > blocks.len() + SPARE_QUEUES {
            self.queues
                .retain(|cidr, _| blocks.iter().any(|b| b.cidr == *cidr));
        }
        let ours = || blocks.iter().filter(|b| Family::of(&b.cidr) == family);
        for block in ours() {
            if let Some(address) = self.pick_from(&block.cidr, now) {
                return Ok(address);
            }
        }
        if ours().next().is_none() {
            return Err(ReserveError::NoBlock { family });
        }
        let mut pools: Vec<String> = ours().map(|b| b.pool.clone()).collect();
        pools.sort();
        pools.dedup();
        let usage: Vec<Usage> = ours().map(|b| self.usage(&b.cidr, now)).collect();
        let sum = |count: fn(&Usage) -> u64| usage.iter().map(count).sum();
        Err(ReserveError::PoolFull {
            family,
            pools,
            blocks: usage.len(),
            capacity: sum(|u| u.capacity),
            in_use: sum(|u| u.in_use),
            cooling: sum(|u| u.cooling),
            cool_down: self.cool_down,
        })
    }

    /// The address stays at the front until a row takes it: a reservation may fail for its other family.
    fn pick_from(&mut self, block: &IpNet, now: Duration) -> Option<IpAddr> {
        if !self.queues.contains_key(block) {
            let mut late: Vec<(u64, IpAddr)> = self
                .released
                .range(range(block))
                .map(|(a, r)| (r.order, *a))
                .collect();
            late.sort_unstable();
            let queue = Queue::new(
                block,
                &self.boot_id,
                late.into_iter().map(|(_, a)| a),
                |a| self.by_address.contains_key(a),
            );
            self.queues.insert(*block, queue);
        }
        let queue = self.queues.get_mut(block)?;
        while let Some(address) = queue.front() {
            if self.by_address.contains_key(&address) {
                queue.pop();
                continue;
            }
            // Whatever comes after it was released later.
            let cooling = self.released.get(&address);
            return cooling
                .is_none_or(|r| !cools(r, self.cool_down, now))
                .then_some(address);
        }
        None
    }

    pub(crate) fn swap(
        &mut self,
        old: Option<&Row>,
        new: Option<&Row>,
        freed: &[IpAddr],
        now: Duration,
    ) {
        if let Some(old) = old {
            self.rows.remove(&old.key);
            for address in &old.addresses {
                self.by_address.remove(address);
            }
        }
        for address in freed {
            let release = Release {
                order: self.next_release,
                at: now,
            };
            self.next_release += 1;
            self.released.insert(*address, release);
            for (block, queue) in &mut self.queues {
                if block.contains(address) {
                    queue.push(address);
                }
            }
        }
        if let Some(new) = new {
            for address in &new.addresses {
                self.by_address.insert(*address, new.key.clone());
                self.released.remove(address);
            }
            self.rows.insert(new.key.clone(), new.clone());
        }
    }
}

/// Addresses that nobody holds once `new` stands where `old` was.
pub(crate) fn freed(old: Option<&Row>, new: Option<&Row>) -> Vec<IpAddr> {
    let kept = new.map_or(&[][..], |n| &n.addresses);
    old.map_or(&[][..], |o| &o.addresses)
        .iter()
        .filter(|a| !kept.contains(a))
        .copied()
        .collect()
}

fn cools(release: &Release, cool_down: Duration, now: Duration) -> bool {
    now < release.at.saturating_add(cool_down)
}

fn range(block: &IpNet) -> std::ops::RangeInclusive<IpAddr> {
    let (first, last) = bounds(block);
    let family = Family::of(block);
    family.address(first)..=family.address(last)
}
