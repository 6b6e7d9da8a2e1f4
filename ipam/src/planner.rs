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
use roadbed_api::kinds::{BlockOwner, BlockState, block_name};
use roadbed_api::names::NODE_LABEL;
use roadbed_api::{IpBlockSpec, Metadata, Resource};

use crate::family::{Family, capacity, overlap};
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
    /// Percent of one block's addresses that must stay free over all blocks of a pool, 0–50, at least one
    /// address. With less, the next
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
///
/// A pool that is full makes every plan without a listing ask for one: retry such a plan on a timer, or when a block
/// goes away.
pub fn plan(view: &View<'_>, tuning: &Tuning) -> Plan {
    let mut draft = Draft::default();
    let mut held: BTreeMap<&str, Held> = BTreeMap::new();
    for block in own_blocks(view) {
        step(view, block, &mut held, &mut draft);
    }
    for pool in view.pools.iter().filter(|p| p.usable.is_ok()) {
        let held = held.remove(pool.name.as_str()).unwrap_or_default();
        supply(view, tuning, pool, held, &mut draft);
    }
    let mut actions = draft.actions;
    if draft.listing {
        actions.insert(0, Action::NeedListing);
    }
    actions.truncate(MAX_ACTIONS);
    Plan {
        actions,
        problems: draft.problems,
    }
}

/// The object that an [`Action::Claim`] creates: its name is the range's, its label lets a node watch its own.
pub fn pending_block(node: &str, cidr: IpNet, pool: &str) -> Resource<IpBlockSpec> {
    let mut metadata = Metadata::named(block_name(&cidr));
    metadata
        .labels
        .insert(NODE_LABEL.to_owned(), node.to_owned());
    Resource::new(
        metadata,
        IpBlockSpec {
            cidr,
            pool: pool.to_owned(),
            owner: BlockOwner {
                node: node.to_owned(),
            },
            state: BlockState::Pending,
        },
    )
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

#[derive(Default)]
struct Draft {
    listing: bool,
    actions: Vec<Action>,
    problems: Vec<PlanProblem>,
}

/// What the node has of one usable pool.
#[derive(Default)]
struct Held<'a> {
    confirmed: Vec<(&'a Resource<IpBlockSpec>, Usage)>,
    pending: usize,
}

/// Own blocks by name: those of the view, and those of the listing that the view does not show yet.
fn own_blocks<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Resource<IpBlockSpec>> + use<'a> {
    let listed = view.all_blocks.unwrap_or_default();
    let mut own: BTreeMap<&str, &Resource<IpBlockSpec>> = BTreeMap::new();
    for block in listed.iter().chain(view.own_blocks) {
        if block.spec.owner.node == view.node {
            own.insert(block.name(), block);
        }
    }
    own.into_values()
}

/// The next step in the life of one block.
fn step<'a>(
    view: &View<'a>,
    block: &'a Resource<IpBlockSpec>,
    held: &mut BTreeMap<&'a str, Held<'a>>,
    draft: &mut Draft,
) {
    let usage = usage(view, &block.spec.cidr);
    let name = block.name().to_owned();
    let pool = pool_of(view.pools, block);
    match (block.spec.state, pool) {
        // Given back too early: cutting off its pods would be worse than keeping it.
        (BlockState::Releasing, _) if usage.in_use > 0 => {
            draft.actions.push(Action::Confirm { name });
        }
        (BlockState::Releasing, _) => draft.actions.push(Action::Delete { name }),
        (BlockState::Confirmed, Some(pool)) => {
            let held = held.entry(&pool.name).or_default();
            held.confirmed.push((block, usage));
        }
        (_, None) if usage.in_use > 0 => draft.problems.push(PlanProblem::Stranded {
            block: name,
            pool: block.spec.pool.clone(),
            in_use: usage.in_use,
        }),
        (BlockState::Confirmed, None) if usage.cooling > 0 => {}
        (BlockState::Confirmed, None) => draft.actions.push(Action::Release { name }),
        (BlockState::Pending, None) => draft.actions.push(Action::Delete { name }),
        (BlockState::Pending, Some(pool)) => match stands(view, block) {
            Some(false) => draft.actions.push(Action::Delete { name }),
            stands => {
                held.entry(&pool.name).or_default().pending += 1;
                match stands {
                    Some(_) => draft.actions.push(Action::Confirm { name }),
                    None => draft.listing = true,
                }
            }
        },
    }
}

/// Whether a pending block may be confirmed; `None` when the listing is missing or older than the block.
fn stands(view: &View<'_>, block: &Resource<IpBlockSpec>) -> Option<bool> {
    let listed = view.all_blocks?;
    listed
        .iter()
        .find(|b| b.name() == block.name() && b.metadata.uid == block.metadata.uid)?;
    let created = &block.metadata.creation_timestamp;
    Some(!listed.iter().any(|other| {
        let younger =
            other.spec.state == BlockState::Pending && other.metadata.creation_timestamp > *created;
        other.name() != block.name() && overlap(&other.spec.cidr, &block.spec.cidr) && !younger
    }))
}

/// Claims ahead of need, and gives back what is more than enough.
fn supply(
    view: &View<'_>,
    tuning: &Tuning,
    pool: &PoolView,
    mut held: Held<'_>,
    draft: &mut Draft,
) {
    if held.pending > 0 {
        return;
    }
    let host_bits = u32::from(Family::of(&pool.cidr).bits().saturating_sub(pool.block_len));
    let size = 1u64.checked_shl(host_bits).unwrap_or(u64::MAX);
    let percent = u64::from(tuning.spare_percent.min(50));
    let spare = size.saturating_mul(percent).div_ceil(100).max(1);
    let mut free: u64 = held.confirmed.iter().map(|(_, u)| u.free()).sum();
    if held.confirmed.is_empty() || free < spare {
        let Some(listed) = view.all_blocks else {
            draft.listing = true;
            return;
        };
        let taken: Vec<IpNet> = listed
            .iter()
            .chain(view.own_blocks)
            .map(|b| b.spec.cidr)
            .collect();
        match choose_slot(pool, view.node, &taken) {
            Slot::Free(cidr) => draft.actions.push(Action::Claim {
                cidr,
                pool: pool.name.clone(),
            }),
            Slot::Exhausted { slots, .. } => draft.problems.push(PlanProblem::Exhausted {
                pool: pool.name.clone(),
                cidr: pool.cidr,
                slots,
                taken: listed
                    .iter()
                    .filter(|b| overlap(&b.spec.cidr, &pool.cidr))
                    .count(),
            }),
        }
        return;
    }
    held.confirmed.sort_by_key(|(block, _)| block.spec.cidr);
    let mut left = held.confirmed.len();
    for (block, usage) in held.confirmed.iter().rev() {
        let enough = free.saturating_sub(usage.free()) >= spare.saturating_mul(2);
        if left > 1 && usage.in_use == 0 && usage.cooling == 0 && enough {
            left -= 1;
            free -= usage.free();
            let name = block.name().to_owned();
            draft.actions.push(Action::Release { name });
        }
    }
}

fn usage(view: &View<'_>, cidr: &IpNet) -> Usage {
    let empty = || Usage {
        capacity: u64::try_from(capacity(cidr)).unwrap_or(u64::MAX),
        ..Usage::default()
    };
    view.usage.get(cidr).copied().unwrap_or_else(empty)
}

/// The pool that a block belongs to, if that pool is used and is still cut that way.
fn pool_of<'a>(pools: &'a [PoolView], block: &Resource<IpBlockSpec>) -> Option<&'a PoolView> {
    pools
        .iter()
        .find(|p| p.name == block.spec.pool && p.usable.is_ok() && p.cuts(&block.spec.cidr))
}

#[cfg(test)]
mod tests;
