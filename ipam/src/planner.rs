//! Blocks of this node: what to claim, confirm and give back.
//!
//! ```text
//! ∅ ──Claim──▶ Pending ──Confirm──▶ Confirmed ──Release──▶ Releasing ──Delete──▶ ∅
//!                 └──────────────────Delete (lost, or its pool is gone)───────────▲
//! ```
//! Each arrow is one compare-and-swap of the driver. A plan is made from what is known now; when a write loses, the
//! driver reads again and plans again. Writes of the driver must be visible in the next view (take the object that
//! the store returns). After carrying out plans until one is empty, nothing is left to do until something changes.
//!
//! **Ahead of need.** Every usable pool has one confirmed block. The next is claimed when less than
//! [`Tuning::spare_percent`] of one block is free over all of the pool's blocks, so a node with few pods holds one
//! block. An empty block goes back when the others alone have twice that free; between the two nothing moves.
//!
//! **Two nodes, one range.** A claim creates the object named after the range, so of two claims of one slot one fails.
//! Ranges of different size (a pool was deleted and cut anew) have different names; so a pending block is confirmed
//! only by a listing that was made after it was created, and yields to every block that it overlaps, unless that one
//! is pending and younger: whichever of two overlapping blocks was created later finds the other in its listing.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use roadbed_api::kinds::{BlockState, block_name};
use roadbed_api::{IpBlockSpec, Resource};

use crate::family::{capacity, overlap};
use crate::ledger::{ConfirmedBlock, Usage};
use crate::pools::PoolView;
use crate::slots::{Slot, choose_slot};

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// This node's name.
    pub node: &'a str,
    /// All pools, from [`resolve`](crate::resolve).
    pub pools: &'a [PoolView],
    /// Blocks of this node; others are ignored.
    pub own_blocks: &'a [Resource<IpBlockSpec>],
    /// What the ledger says of each own block; absent means empty.
    pub usage: &'a BTreeMap<IpNet, Usage>,
    /// Every block of the store, listed after the last write of this node; `None` unless a plan asked for it.
    pub all_blocks: Option<&'a [Resource<IpBlockSpec>]>,
}

/// When to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Percent of one block's addresses that must stay free over all blocks of a pool, 0–50. With less, the next
    /// block is claimed.
    pub spare_percent: u8,
}

impl Default for Tuning {
    /// A quarter of a block: 16 of 64 addresses.
    fn default() -> Self {
        Self { spare_percent: 25 }
    }
}

/// One step for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// List every block of the store and plan again; claims and confirmations wait for it.
    NeedListing,
    /// Create the block, pending, owned by this node.
    Claim {
        /// The slot.
        cidr: IpNet,
        /// Its pool.
        pool: String,
    },
    /// Set the block's state to `Confirmed`.
    Confirm {
        /// Name of the block.
        name: String,
    },
    /// Set the block's state to `Releasing`. Take it from what `reserve` gets before the write.
    Release {
        /// Name of the block.
        name: String,
    },
    /// Delete the block.
    Delete {
        /// Name of the block.
        name: String,
    },
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanProblem {
    /// A block is needed and no slot is free.
    Exhausted {
        /// The pool.
        pool: String,
        /// Its range.
        cidr: IpNet,
        /// Its slots.
        slots: u128,
        /// Blocks in it.
        taken: usize,
    },
    /// A block holds addresses though its pool is gone or not to be used; it goes back when the last pod is gone.
    Stranded {
        /// Name of the block.
        block: String,
        /// Its pool.
        pool: String,
        /// Addresses in use.
        in_use: u64,
    },
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted {
                pool,
                cidr,
                slots,
                taken,
            } => write!(
                f,
                "IPPool/{pool} ({cidr}) is full: {taken} blocks lie in its {slots} slots; add a pool or remove nodes"
            ),
            Self::Stranded {
                block,
                pool,
                in_use,
            } => write!(
                f,
                "IPBlock/{block} still has {in_use} addresses in use, though IPPool/{pool} is not to be used: restart these pods to give it back"
            ),
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; at most [`MAX_ACTIONS`].
    pub actions: Vec<Action>,
    /// What cannot be helped by an action.
    pub problems: Vec<PlanProblem>,
}

/// Actions of one plan at most: the driver looks up in between.
pub const MAX_ACTIONS: usize = 16;

/// Plans the next steps.
pub fn plan(view: &View<'_>, tuning: &Tuning) -> Plan {
    let _ = (view, tuning);
    Plan::default()
}

/// The blocks that addresses may be handed out from now, in the order of their ranges.
pub fn confirmed_blocks(
    node: &str,
    pools: &[PoolView],
    own_blocks: &[Resource<IpBlockSpec>],
) -> Vec<ConfirmedBlock> {
    let mut blocks: Vec<ConfirmedBlock> = own_blocks
        .iter()
        .filter(|b| b.spec.owner.node == node && b.spec.state == BlockState::Confirmed)
        .filter(|b| pool_of(pools, b).is_some())
        .map(|b| ConfirmedBlock {
            cidr: b.spec.cidr,
            pool: b.spec.pool.clone(),
        })
        .collect();
    blocks.sort_by_key(|b| b.cidr);
    blocks
}

/// The pool that a block belongs to, if that pool is used and is still cut that way.
fn pool_of<'a>(pools: &'a [PoolView], block: &Resource<IpBlockSpec>) -> Option<&'a PoolView> {
    pools
        .iter()
        .find(|p| p.name == block.spec.pool && p.usable.is_ok() && p.cuts(&block.spec.cidr))
}

#[cfg(test)]
mod tests;
