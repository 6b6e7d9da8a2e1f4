//! Monitoring: what the Adj-RIBs-In hold and how they change, for readers that fetch it page by page (BMP, RFC 7854).
//!
//! Owns a bounded log of *which* paths changed, kept only while somebody reads it. What a page says is what the tables
//! hold when the page is made: changes of one path that nobody has read yet are one. So a walk over the tables and the
//! log may be read in turns, and whoever has read both to their ends knows every path as it is. Never tells of a peer
//! without a session: what it had is gone with the session.

use std::collections::{HashMap, HashSet, VecDeque};

use bgp_wire::{Family, NextHop, PathAttributes};
use ipnet::IpNet;

use super::ids::{AttrId, NextHopId, PeerId, PrefixId, SessionId};
use super::table::{Entry, Path};
use super::{Rib, TableIndex};

/// Prefixes that one page looks at, at most.
const PAGE_PREFIXES: u32 = if cfg!(test) { 4 } else { 4096 };
/// Paths after which a page ends; the last prefix of a walk is told whole.
const PAGE_PATHS: usize = if cfg!(test) { 6 } else { 2048 };
/// Octets of attributes after which a page ends.
const PAGE_OCTETS: usize = 1 << 20;
/// Changes kept for the slowest reader, of 24 octets each; a reader that is further behind is cut off.
const LOG: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// A reader of changes, named by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u32);

/// Where the next page of a walk begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor {
    table: TableIndex,
    next: u32,
}

/// Some paths of peers with a session, none of them twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitorPage {
    /// What paths refer to.
    pub sets: Vec<(PathAttributes, NextHop)>,
    /// In no order.
    pub paths: Vec<MonitoredPath>,
}

/// A path as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitoredPath {
    /// Whose.
    pub session: SessionId,
    /// Destination.
    pub prefix: IpNet,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
    /// Seconds since it was received; 0 for one that is gone.
    pub age: u32,
    /// As received, as an index of [`MonitorPage::sets`]; `None`: it is gone.
    pub received: Option<u32>,
    /// After the import policy; `None`: it is gone, or not let in.
    pub accepted: Option<u32>,
}

/// The reader was too slow, or is not known: only a new walk tells it what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more changes than are kept for a reader")]
pub struct Overrun;

/// What became of a session's UPDATEs and prefixes since it began (RFC 7854 §4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCounters {
    /// Prefixes that the import policy rejected.
    pub rejected: u32,
    /// UPDATEs with our AS in their AS_PATH.
    pub as_path_loops: u32,
    /// UPDATEs with our BGP Identifier as ORIGINATOR_ID.
    pub originator_id_loops: u32,
    /// UPDATEs with our cluster in CLUSTER_LIST.
    pub cluster_list_loops: u32,
}

/// Numbers about a session, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Since the session began.
    pub import: ImportCounters,
    /// Paths in its Adj-RIB-In, in [`Family::ALL`] order; `None`: not negotiated.
    pub received: [Option<u64>; 2],
    /// Prefixes in the Loc-RIB of its table, in [`Family::ALL`] order.
    pub chosen: [u64; 2],
}

/// One path that is another than it was, or gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Change {
    prefix: IpNet,
    peer: PeerId,
    path_id: u32,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct ChangeLog {
    changes: VecDeque<Change>,
    /// Position of the first of them.
    begin: u64,
    /// How far each reader is. No reader is before `begin`.
    readers: HashMap<ReaderId, u64>,
}

impl ChangeLog {
    /// Free when nobody reads.
    pub(super) fn note(&mut self, prefix: IpNet, peer: PeerId, path_id: u32) {
        if self.readers.is_empty() {
            return;
        }
        if self.changes.len() >= LOG {
            // Whoever has read nothing of the first half does not get to see it any more.
            let begin = self.begin + LOG as u64 / 2;
            self.readers.retain(|_, at| *at >= begin);
            self.trim();
            if self.readers.is_empty() {
                return;
            }
        }
        self.changes.push_back(Change {
            prefix,
            peer,
            path_id,
        });
    }

    fn end(&self) -> u64 {
        self.begin + self.changes.len() as u64
    }

    /// Forgets what every reader has read.
    fn trim(&mut self) {
        let keep_from = self.readers.values().min().copied().unwrap_or(self.end());
        let read = usize::try_from(keep_from - self.begin).unwrap_or(usize::MAX);
        self.changes.drain(..read.min(self.changes.len()));
        self.begin = keep_from;
        if self.changes.is_empty() {
            self.changes.shrink_to(PAGE_PATHS);
        }
    }
}

/// A page under construction.
#[derive(Default)]
struct Draft {
    page: MonitorPage,
    known: HashMap<AttrId, Option<u32>>,
    octets: usize,
}

impl Draft {
    fn is_full(&self) -> bool {
        self.page.paths.len() >= PAGE_PATHS || self.octets >= PAGE_OCTETS
    }
}

impl Rib {
    /// Begins to keep changes for a reader.
    pub fn begin_reading(&mut self, reader: ReaderId) {
        self.changes.readers.insert(reader, self.changes.end());
    }

    /// Keeps no more changes for a reader.
    pub fn end_reading(&mut self, reader: ReaderId) {
        self.changes.readers.remove(&reader);
        self.changes.trim();
    }

    /// Whether a reader has something to read, if only that it was cut off.
    pub fn has_changes(&self, reader: ReaderId) -> bool {
        let at = self.changes.readers.get(&reader);
        at.is_none_or(|at| *at < self.changes.end())
    }

    /// The next page of changes; whether there are more. `now` is in seconds of the driver's clock.
    ///
    /// # Errors
    /// When the reader was too slow; it is none any more.
    pub fn changes(&mut self, now: u32, reader: ReaderId) -> Result<(MonitorPage, bool), Overrun> {
        let at = *self.changes.readers.get(&reader).ok_or(Overrun)?;
        let start = usize::try_from(at - self.changes.begin).unwrap_or(usize::MAX);
        let (mut draft, mut seen, mut read) = (Draft::default(), HashSet::new(), 0);
        for change in self.changes.changes.iter().skip(start) {
            if draft.is_full() || read >= u64::from(PAGE_PREFIXES) {
                break;
            }
            read += 1;
            if seen.insert(*change) {
                self.tell_change(now, change, &mut draft);
            }
        }
        self.changes.readers.insert(reader, at + read);
        self.changes.trim();
        Ok((draft.page, self.has_changes(reader)))
    }

    /// A page of all paths from `cursor` on, and where the next one begins. `now` is in seconds of the driver's clock.
    pub fn walk(&self, now: u32, mut cursor: WalkCursor) -> (MonitorPage, Option<WalkCursor>) {
        let mut draft = Draft::default();
        let mut left = PAGE_PREFIXES;
        while let Some(state) = self.tables.get(cursor.table) {
            while cursor.next < state.table.end() {
                if left == 0 || draft.is_full() {
                    return (draft.page, Some(cursor));
                }
                left -= 1;
                let id = PrefixId(cursor.next);
                cursor.next += 1;
                let Some(entry) = state.table.get(id) else {
                    continue;
                };
                for path in &entry.paths {
                    if let Some(session) = self.session_of(path.peer) {
                        self.tell(now, session, entry, path, &mut draft);
                    }
                }
            }
            cursor = WalkCursor {
                table: cursor.table + 1,
                next: 0,
            };
        }
        (draft.page, None)
    }

    /// Numbers about a session; `None` when it is over.
    pub fn statistics(&self, session: SessionId) -> Option<Statistics> {
        let peer = self.peers.get(self.peers.by_session(session)?)?;
        let chosen = Family::ALL.map(|family| {
            let table = self.find_table((peer.up.table, family));
            table.map_or(0, |table| self.tables[table].chosen)
        });
        Some(Statistics {
            import: peer.import_counters,
            received: [0, 1].map(|i| peer.up.families[i].then_some(peer.received[i])),
            chosen,
        })
    }

    /// Counts what one UPDATE's announcements met: how many prefixes the policy rejected, and whether it is a loop.
    pub(super) fn count_import(
        &mut self,
        peer: PeerId,
        attributes: &PathAttributes,
        rejected: u32,
        is_loop: bool,
    ) {
        let (router_id, cluster_id) = (self.config.router_id, self.config.cluster_id);
        let Some(peer) = self.peers.get_mut(peer) else {
            return;
        };
        let counters = &mut peer.import_counters;
        counters.rejected = counters.rejected.wrapping_add(rejected);
        if is_loop {
            let count = if attributes.hot().originator_id == Some(router_id) {
                &mut counters.originator_id_loops
            } else if attributes.cluster_list().any(|id| id == cluster_id) {
                &mut counters.cluster_list_loops
            } else {
                &mut counters.as_path_loops
            };
            *count = count.wrapping_add(1);
        }
    }

    #[cfg(test)]
    pub(crate) fn changes_kept(&self) -> usize {
        self.changes.changes.len()
    }

    /// The session that a peer's paths are told of; `None` once it is over.
    pub(super) fn session_of(&self, peer: PeerId) -> Option<SessionId> {
        let peer = self.peers.get(peer)?;
        peer.alive.then_some(peer.up.session)
    }

    fn tell_change(&self, now: u32, change: &Change, draft: &mut Draft) {
        let Some(peer) = self.peers.get(change.peer).filter(|peer| peer.alive) else {
            return;
        };
        let table = self.find_table((peer.up.table, Family::of(&change.prefix)));
        let found = table.and_then(|table| {
            let table = &self.tables[table].table;
            let entry = table.get(table.find(&change.prefix)?)?;
            let path = entry
                .paths
                .get(entry.position(change.peer, change.path_id)?)?;
            Some((entry, path))
        });
        match found {
            Some((entry, path)) => self.tell(now, peer.up.session, entry, path, draft),
            None => draft.page.paths.push(MonitoredPath {
                session: peer.up.session,
                prefix: change.prefix,
                path_id: change.path_id,
                age: 0,
                received: None,
                accepted: None,
            }),
        }
    }

    fn tell(&self, now: u32, session: SessionId, entry: &Entry, path: &Path, draft: &mut Draft) {
        let received = self.set(path.received, draft);
        let accepted = path.flags.accepted().then_some(path.attrs);
        let accepted = accepted.and_then(|attrs| self.set(attrs, draft));
        draft.page.paths.push(MonitoredPath {
            session,
            prefix: entry.prefix,
            path_id: path.path_id,
            age: now.saturating_sub(path.time),
            received,
            accepted,
        });
    }

    /// The place of a set in the page; `None` for one whose next hop is the speaker itself, which no peer sends.
    fn set(&self, attrs: AttrId, draft: &mut Draft) -> Option<u32> {
        let Draft {
            page,
            known,
            octets,
        } = draft;
        *known.entry(attrs).or_insert_with(|| {
            let set = self.attrs.get(attrs);
            let place = u32::try_from(page.sets.len()).ok()?;
            (set.next_hop != NextHopId::SELF).then(|| {
                *octets += set.attributes.as_bytes().len();
                let next_hop = self.next_hops.next_hop(set.next_hop);
                page.sets.push((set.attributes.clone(), next_hop));
                place
            })
        })
    }
}

/// Whether a reader must hear of the new one of two paths of one peer, prefix and identifier. That it was repeated, or
/// chosen, is no change.
pub(super) fn differs(old: &Path, new: &Path) -> bool {
    let told = |path: &Path| (path.received, path.attrs, path.flags.accepted());
    told(old) != told(new)
}
