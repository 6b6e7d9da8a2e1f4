//! What can go wrong in the ledger.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::AttachmentKey;

use crate::family::Family;

/// The ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// What the kernel has could not be found out; without it an address of a living pod might seem free.
    #[error("cannot list the attachments that the kernel has: {0}")]
    Kernel(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There can be no file at that path.
    #[error("ledger {}: {source}", path.display())]
    Path {
        /// Where the ledger should be.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// SQLite does not do it. What is in memory is unchanged.
    #[error("ledger {}: {source}", path.display())]
    Sql {
        /// The ledger's file.
        path: PathBuf,
        /// What happened.
        source: rusqlite::Error,
    },
}

/// No address for an attachment.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// No family has a usable pool.
    #[error(
        "no IPPool is usable on this node: apply one, or look at `roadbedctl ipam show` for what is wrong with those there are"
    )]
    NoPool,
    /// A family has pools but this node has no confirmed block of one.
    #[error("this node has no confirmed {family} block yet: try again")]
    NoBlock {
        /// The family.
        family: Family,
    },
    /// Every address of every block is in use or kept back.
    #[error(
        "no free {family} address in IPPool {}: {blocks} blocks of this node have {capacity} addresses, {in_use} in use, {cooling} kept back for {} s after their release; apply a further IPPool, or end pods",
        pools.join(", "), cool_down.as_secs()
    )]
    PoolFull {
        /// The family.
        family: Family,
        /// Names of the pools that the blocks are of.
        pools: Vec<String>,
        /// Confirmed blocks.
        blocks: usize,
        /// Addresses in them.
        capacity: u64,
        /// Of these, held by attachments.
        in_use: u64,
        /// Of these, kept back for a while.
        cooling: u64,
        /// For how long.
        cool_down: Duration,
    },
    /// The address that was asked for is somebody's.
    #[error("address {address} is {}/{}/{}'s: choose another, or end that pod", key.network, key.container_id, key.ifname)]
    Held {
        /// The address.
        address: IpAddr,
        /// Who has it.
        key: Box<AttachmentKey>,
    },
    /// The address that was asked for is not this node's to give.
    #[error(
        "address {address} is in no block of this node: choose one of {}",
        blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Outside {
        /// The address.
        address: IpAddr,
        /// The node's blocks.
        blocks: Vec<IpNet>,
    },
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// An attachment cannot be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Its reservation has expired or never was.
    #[error("the attachment is not reserved (any more): undo the wiring and start again")]
    NotReserved,
    /// A later ADD has reserved for another namespace.
    #[error("the attachment is reserved for another network namespace by now: undo the wiring")]
    OtherNamespace,
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
