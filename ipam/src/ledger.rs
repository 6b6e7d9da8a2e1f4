//! Which attachment has which address, on this node.
//!
//! Owns: the rows of all attachments, the order in which addresses are handed out, one SQLite file in the run
//! directory. One process owns a ledger at a time; the rows in memory answer, the file is for the next process. Never
//! does: look at the kernel by itself, read a clock. All calls block for a write to the page cache at most: nothing is
//! synced, since a ledger does not outlive its boot.
//!
//! Times are durations since boot (`CLOCK_BOOTTIME`), which neither a restart of the process nor a set clock moves.
//!
//! The kernel tells the truth: [`Ledger::open`] compares with the kernel's attachments whatever the file says, so a
//! lost or damaged file never makes an address of a living pod free.

mod db;
mod error;
mod index;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, AttachmentState, PodRef};
use roadbed_api::names::host_ifname;

use crate::family::Family;
use db::Db;
use index::Index;

pub use error::{CommitError, LedgerError, ReserveError};

/// An attachment that the kernel has: a host veth with our alias, and the pod routes over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelAttachment {
    /// From the alias.
    pub key: AttachmentKey,
    /// Destinations of the /32 and /128 routes over it.
    pub addresses: Vec<IpAddr>,
    /// Name of the host end.
    pub host_ifname: String,
    /// Index of the host end.
    pub host_ifindex: u32,
}

/// A block that addresses may be handed out from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmedBlock {
    /// Its range.
    pub cidr: IpNet,
    /// Name of its pool.
    pub pool: String,
}

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which attachment.
    pub key: AttachmentKey,
    /// The namespace; `None` when the row was rebuilt from the kernel, which does not tell.
    pub cookie: Option<String>,
    /// Where it is between its phases.
    pub state: AttachmentState,
    /// The pod, when known.
    pub pod: Option<PodRef>,
    /// Its addresses, one per family at most.
    pub addresses: Vec<IpAddr>,
    /// Name of the host end.
    pub host_ifname: String,
    /// Index of the host end, once committed.
    pub host_ifindex: Option<u32>,
    /// While wiring: when it expires, time since boot.
    pub deadline: Option<Duration>,
}

/// How a ledger behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// How long a released address is kept back; 0 hands it out again at once, when it is the oldest free one.
    pub cool_down: Duration,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            cool_down: Duration::from_secs(30),
        }
    }
}

/// What became of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// Its rows count.
    Adopted,
    /// It was of another boot and is empty now, but for what the kernel has.
    NewBoot,
    /// It was missing or of no use, for this reason; all rows come from the kernel.
    Rebuilt(String),
}

/// An open ledger and how it came to be.
#[derive(Debug)]
pub struct Opened {
    /// The ledger.
    pub ledger: Ledger,
    /// What became of the file.
    pub outcome: OpenOutcome,
    /// What the kernel knew better.
    pub reconciled: Reconciled,
}

/// What a comparison with the kernel changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Rows that went, since their veth is gone.
    pub released: Vec<Row>,
    /// Rows that came, since their veth is there.
    pub added: Vec<Row>,
    /// Rows, as they are now, whose addresses or interface index were not the kernel's.
    pub corrected: Vec<Row>,
    /// Addresses that the kernel routes to two attachments: who else claims which.
    pub conflicts: Vec<(AttachmentKey, IpAddr)>,
}

/// What is asked for an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRequest<'a> {
    /// Which attachment.
    pub key: &'a AttachmentKey,
    /// The namespace that it is for.
    pub cookie: &'a str,
    /// The pod, when known.
    pub pod: Option<&'a PodRef>,
    /// Families that a pod gets an address of, all of them or none ([`families`](crate::families)).
    pub families: &'a [Family],
    /// Where from, in this order ([`confirmed_blocks`](crate::confirmed_blocks)).
    pub blocks: &'a [ConfirmedBlock],
    /// Addresses that are chosen already, one per family at most. They must be in one of the blocks, unless they are
    /// foreign.
    pub chosen: &'a [IpAddr],
    /// `chosen` is another allocator's: these addresses and no others.
    pub foreign: bool,
}

/// Answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The attachment: `Committed` when this very namespace is wired already.
    pub row: Row,
    /// What was there before under this key, for another or an unknown namespace. Unwire it before answering: its
    /// host end has the same name.
    pub replaced: Option<Row>,
}

/// Counts of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Addresses in it; all of them can be given to pods.
    pub capacity: u64,
    /// Addresses that attachments hold.
    pub in_use: u64,
    /// Addresses released lately and kept back.
    pub cooling: u64,
}

impl Usage {
    /// Addresses that can be handed out now.
    pub fn free(&self) -> u64 {
        self.capacity
            .saturating_sub(self.in_use)
            .saturating_sub(self.cooling)
    }
}

/// The addresses of this node's attachments.
#[derive(Debug)]
pub struct Ledger {
    db: Db,
    index: Index,
}

impl Ledger {
    /// Opens the ledger at `path` and brings it in line with `kernel`, which is asked once.
    ///
    /// A file of another boot, a damaged one, one of a newer version, or something that is not a file is moved to
    /// `<path>.broken` (another boot's is deleted) and a new one is begun.
    ///
    /// # Errors
    /// The kernel could not be asked, or no file can be made at `path`. Never because of what a file contains.
    pub fn open<E>(
        path: &Path,
        boot_id: &str,
        settings: LedgerSettings,
        kernel: impl FnOnce() -> Result<Vec<KernelAttachment>, E>,
        now: Duration,
    ) -> Result<Opened, LedgerError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let kernel = kernel().map_err(|e| LedgerError::Kernel(e.into()))?;
        let (db, loaded, outcome) = match Db::load(path) {
            Ok((db, loaded)) if loaded.boot_id == boot_id => (db, loaded, OpenOutcome::Adopted),
            Ok((db, _)) => {
                drop(db);
                db::remove(path)?;
                let (db, loaded) = Db::create(path, boot_id)?;
                (db, loaded, OpenOutcome::NewBoot)
            }
            Err(reason) => {
                db::set_aside(path)?;
                let (db, loaded) = Db::create(path, boot_id)?;
                (db, loaded, OpenOutcome::Rebuilt(reason))
            }
        };
        let index = Index::new(boot_id, settings.cool_down, loaded.rows, loaded.released);
        let mut ledger = Self { db, index };
        let reconciled = ledger.reconcile(&kernel, now)?;
        Ok(Opened {
            ledger,
            outcome,
            reconciled,
        })
    }

    /// Brings committed rows in line with the kernel: a row without veth is released, a veth without row is added,
    /// and where index or addresses differ the kernel's count. A family that the kernel has no route of keeps the
    /// row's address: the pod still has it, though somebody deleted its route. Rows being wired are left alone, but
    /// for addresses that turn out to be another attachment's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reconcile(
        &mut self,
        kernel: &[KernelAttachment],
        now: Duration,
    ) -> Result<Reconciled, LedgerError> {
        let mut found: BTreeMap<&AttachmentKey, &KernelAttachment> = BTreeMap::new();
        let mut owners: BTreeMap<IpAddr, &AttachmentKey> = BTreeMap::new();
        let mut done = Reconciled::default();
        for attachment in kernel {
            if found.contains_key(&attachment.key) {
                continue;
            }
            found.insert(&attachment.key, attachment);
            for &address in &attachment.addresses {
                if *owners.entry(address).or_insert(&attachment.key) != &attachment.key {
                    done.conflicts.push((attachment.key.clone(), address));
                }
            }
        }
        // First all that give addresses up, then all that take them: two rows may have each other's.
        for row in self.list() {
            let committed = row.state == AttachmentState::Committed;
            let truth = found.get(&row.key);
            let stolen = row
                .addresses
                .iter()
                .any(|a| owners.get(a).is_some_and(|owner| **owner != row.key));
            match truth {
                None if committed || stolen => {
                    self.swap(Some(&row), None, now)?;
                    done.released.push(row);
                }
                Some(_) if !committed && stolen => {
                    self.swap(Some(&row), None, now)?;
                    done.released.push(row);
                }
                Some(truth) if committed => {
                    let right = corrected(&row, truth, &owners);
                    if right != row {
                        let mut bare = right.clone();
                        bare.addresses.retain(|a| row.addresses.contains(a));
                        self.swap(Some(&row), Some(&bare), now)?;
                        done.corrected.push(right);
                    }
                }
                _ => {}
            }
        }
        for right in &done.corrected {
            let bare = self.get(&right.key).cloned();
            self.swap(bare.as_ref(), Some(right), now)?;
        }
        for (key, truth) in found {
            if self.get(key).is_some() {
                continue;
            }
            let bare = Row {
                key: key.clone(),
                cookie: None,
                state: AttachmentState::Committed,
                pod: None,
                addresses: Vec::new(),
                host_ifname: truth.host_ifname.clone(),
                host_ifindex: None,
                deadline: None,
            };
            let row = corrected(&bare, truth, &owners);
            self.swap(None, Some(&row), now)?;
            done.added.push(row);
        }
        Ok(done)
    }

    /// Holds one address per family for an attachment until `deadline` (time since boot).
    ///
    /// Asked again for the same namespace, the answer is the same row, its deadline renewed while it is being wired.
    /// For another namespace under the same key there are new addresses and the old row is in
    /// [`Reserved::replaced`]; a row rebuilt from the kernel, whose namespace is unknown, keeps its addresses and is
    /// replaced as well.
    ///
    /// # Errors
    /// No pool, no block yet, no free address, a chosen address that cannot be given, or the file cannot be written.
    /// Nothing is held then.
    pub fn reserve(
        &mut self,
        request: &AddressRequest<'_>,
        deadline: Duration,
        now: Duration,
    ) -> Result<Reserved, ReserveError> {
        let before = self.get(request.key).cloned();
        let mut row = Row {
            key: request.key.clone(),
            cookie: Some(request.cookie.to_owned()),
            state: AttachmentState::Wiring,
            pod: request.pod.cloned(),
            addresses: Vec::new(),
            host_ifname: host_ifname(request.key),
            host_ifindex: None,
            deadline: Some(deadline),
        };
        let mut replaced = before.clone();
        let has_chosen = |old: &Row| request.chosen.iter().all(|a| old.addresses.contains(a));
        match &before {
            Some(old) if has_chosen(old) && old.cookie.as_deref() == Some(request.cookie) => {
                row = old.clone();
                replaced = None;
                if row.state == AttachmentState::Wiring {
                    row.deadline = Some(deadline);
                }
            }
            Some(old) if has_chosen(old) && old.cookie.is_none() && !old.addresses.is_empty() => {
                row.addresses.clone_from(&old.addresses);
            }
            _ => row.addresses = self.choose(request, now)?,
        }
        if before.as_ref() != Some(&row) {
            self.swap(before.as_ref(), Some(&row), now)?;
        }
        Ok(Reserved { row, replaced })
    }

    fn choose(
        &mut self,
        request: &AddressRequest<'_>,
        now: Duration,
    ) -> Result<Vec<IpAddr>, ReserveError> {
        for &address in request.chosen {
            let other = |row: &&Row| row.key != *request.key;
            if let Some(row) = self.owner(&address).filter(other) {
                let key = Box::new(row.key.clone());
                return Err(ReserveError::Held { address, key });
            }
            let inside = |block: &ConfirmedBlock| block.cidr.contains(&address);
            if !request.foreign && !request.blocks.iter().any(inside) {
                let blocks = request.blocks.iter().map(|b| b.cidr).collect();
                return Err(ReserveError::Outside { address, blocks });
            }
        }
        let mut addresses = request.chosen.to_vec();
        if request.foreign {
            return Ok(addresses);
        }
        if request.families.is_empty() {
            return Err(ReserveError::NoPool);
        }
        for &family in request.families {
            let has = |address: &IpAddr| Family::of_address(address) == family;
            if !request.chosen.iter().any(has) {
                addresses.push(self.index.pick(family, request.blocks, now)?);
            }
        }
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Marks an attachment as wired.
    ///
    /// # Errors
    /// It is not reserved, or for another namespace, or the file cannot be written.
    pub fn commit(
        &mut self,
        key: &AttachmentKey,
        cookie: &str,
        host_ifindex: u32,
    ) -> Result<Row, CommitError> {
        let old = self.get(key).cloned().ok_or(CommitError::NotReserved)?;
        match &old.cookie {
            Some(reserved) if reserved == cookie => {}
            Some(_) => return Err(CommitError::OtherNamespace),
            // Rebuilt from the kernel between the two phases. Without addresses nobody knows what the pod has.
            None if old.host_ifindex != Some(host_ifindex) || old.addresses.is_empty() => {
                return Err(CommitError::NotReserved);
            }
            None => {}
        }
        let row = Row {
            cookie: Some(cookie.to_owned()),
            state: AttachmentState::Committed,
            host_ifindex: Some(host_ifindex),
            deadline: None,
            ..old.clone()
        };
        if row != old {
            self.swap(Some(&old), Some(&row), Duration::ZERO)?;
        }
        Ok(row)
    }

    /// Gives an attachment's addresses back, once it is unwired; `None` when there is no such attachment.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release(
        &mut self,
        key: &AttachmentKey,
        now: Duration,
    ) -> Result<Option<Row>, LedgerError> {
        let row = self.get(key).cloned();
        if let Some(row) = &row {
            self.swap(Some(row), None, now)?;
        }
        Ok(row)
    }

    /// Gives an attachment's addresses back only if its row is still exactly this one; says whether it was. For what
    /// was decided some time ago: an expired row that was unwired meanwhile, or an undo.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release_row(&mut self, row: &Row, now: Duration) -> Result<bool, LedgerError> {
        let current = self.get(&row.key) == Some(row);
        if current {
            self.swap(Some(row), None, now)?;
        }
        Ok(current)
    }

    /// Rows being wired whose deadline has passed. They hold their addresses until they are released, which is for
    /// the driver to do once it has removed what the plugin may have left ([`release_row`](Self::release_row)).
    pub fn expired(&self, now: Duration) -> Vec<Row> {
        self.index.expired(now)
    }

    /// The attachment with that key.
    pub fn get(&self, key: &AttachmentKey) -> Option<&Row> {
        self.index.get(key)
    }

    /// The attachment that holds that address.
    pub fn owner(&self, address: &IpAddr) -> Option<&Row> {
        self.index.owner(address)
    }

    /// All attachments, in the order of their keys.
    pub fn list(&self) -> Vec<Row> {
        self.index.rows().cloned().collect()
    }

    /// Counts of a block.
    pub fn usage(&self, block: &IpNet, now: Duration) -> Usage {
        self.index.usage(block, now)
    }

    /// Whether an attachment holds an address of that block.
    pub fn block_in_use(&self, block: &IpNet) -> bool {
        self.index.in_use(block) > 0
    }

    /// The one way in which rows change: first in the file, then in memory.
    fn swap(
        &mut self,
        old: Option<&Row>,
        new: Option<&Row>,
        now: Duration,
    ) -> Result<(), LedgerError> {
        let freed = index::freed(old, new);
        let first = self.index.next_release();
        self.db.swap(old, new, &freed, first, now)?;
        self.index.swap(old, new, &freed, now);
        Ok(())
    }
}

/// The row with the kernel's interface index and addresses.
fn corrected(
    row: &Row,
    truth: &KernelAttachment,
    owners: &BTreeMap<IpAddr, &AttachmentKey>,
) -> Row {
    let routed: BTreeSet<Family> = truth.addresses.iter().map(Family::of_address).collect();
    let kept = row
        .addresses
        .iter()
        .filter(|a| !routed.contains(&Family::of_address(a)) && !owners.contains_key(a));
    let theirs = truth
        .addresses
        .iter()
        .filter(|a| owners.get(a) == Some(&&row.key));
    let addresses: BTreeSet<IpAddr> = kept.chain(theirs).copied().collect();
    let mut right = row.clone();
    right.host_ifindex = Some(truth.host_ifindex);
    if row.addresses.iter().copied().collect::<BTreeSet<_>>() != addresses {
        right.addresses = addresses.into_iter().collect();
    }
    right
}

#[cfg(test)]
mod tests;
