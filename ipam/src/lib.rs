//! Pure IPAM planner (pools, slots, blocks) and the node's ledger of addresses.
//!
//! Owns: which pool may be cut, which slot a node claims next, which block goes back, which address a pod gets.
//! Never does: talk to a store or to the kernel, read a clock, wait. The driver carries out a [`Plan`] and tells
//! the [`Ledger`] what the kernel has.
//!
//! - [`pools`]: resources to [`PoolView`]s; overlaps and who yields
//! - [`slots`]: where in a pool the next block lies
//! - [`planner`]: blocks to claim, confirm, give back
//! - [`counts`]: what of a block's usage the store is told
//! - [`ledger`]: addresses of attachments, in one SQLite file of the run directory

pub mod counts;
pub mod family;
mod hash;
pub mod ledger;
pub mod planner;
pub mod pools;
pub mod slots;

pub use counts::{COUNTS_EVERY, worth_telling};
pub use family::Family;
pub use ledger::{
    AddressRequest, CommitError, ConfirmedBlock, KernelAttachment, Ledger, LedgerError,
    LedgerSettings, OpenOutcome, Opened, Reconciled, ReserveError, Reserved, Row, Usage,
};
pub use planner::{Action, Plan, PlanProblem, Tuning, View, confirmed_blocks, pending_block, plan};
pub use pools::{PoolProblem, PoolView, check_new_pool, conditions, families, resolve};
pub use slots::{Slot, choose_slot};
