//! One table of one family: prefixes by dense id, and the paths of each.

use std::hash::BuildHasher;
use std::net::IpAddr;

use bgp_wire::Nlri;
use foldhash::quality::FixedState;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::ids::{AttrId, PeerId, PrefixId};
use super::index::Index;
use super::pages::Pages;
use crate::policy::RouteSource;

/// One path to one prefix: 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Attributes as received.
    pub(crate) received: AttrId,
    /// Attributes after import policy; equal to `received` when the policy changed nothing.
    pub(crate) attrs: AttrId,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub(crate) path_id: u32,
    /// When it was received, seconds of the driver's clock.
    pub(crate) time: u32,
    pub(crate) peer: PeerId,
    pub(crate) flags: PathFlags,
}

impl Path {
    /// A local route for peers that ask for it.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.flags.has(PathFlags::ON_DEMAND)
    }
}

/// Why a path may not be used, what a local route is, and which refresh last confirmed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathFlags(u16);

impl PathFlags {
    /// Rejected by the import policy, kept so that a changed policy can let it in.
    pub(crate) const FILTERED: u16 = 1 << 0;
    /// Our AS is in the AS_PATH (RFC 4271 §9.1.2), or our id in ORIGINATOR_ID or CLUSTER_LIST (RFC 4456 §8).
    pub(crate) const LOOP: u16 = 1 << 1;
    const SOURCE_SHIFT: u16 = 2;
    /// A route leak (RFC 9234 §5).
    pub(crate) const LEAK: u16 = 1 << 4;
    /// A local route for peers that ask for it; never chosen.
    pub(crate) const ON_DEMAND: u16 = 1 << 5;
    const EPOCH_SHIFT: u16 = 8;

    pub(crate) fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.0 |= flag;
        } else {
            self.0 &= !flag;
        }
    }

    /// The peer's refresh that last confirmed the path, modulo 256; see `Peer::epoch`.
    pub(crate) fn epoch(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    pub(crate) fn set_epoch(&mut self, epoch: u8) {
        self.0 = (self.0 & 0xff) | u16::from(epoch) << Self::EPOCH_SHIFT;
    }

    /// Neither filtered nor a loop nor a leak: counts as accepted.
    pub(crate) fn accepted(self) -> bool {
        self.0 & (Self::FILTERED | Self::LOOP | Self::LEAK) == 0
    }

    /// Flags of a local route.
    pub(crate) fn local(source: RouteSource) -> Self {
        let code = match source {
            RouteSource::Learned => 0,
            RouteSource::OwnBlock => 1,
            RouteSource::Node => 2,
            RouteSource::Static => 3,
        };
        Self(code << Self::SOURCE_SHIFT)
    }

    pub(crate) fn source(self) -> RouteSource {
        match (self.0 >> Self::SOURCE_SHIFT) & 3 {
            1 => RouteSource::OwnBlock,
            2 => RouteSource::Node,
            3 => RouteSource::Static,
            _ => RouteSource::Learned,
        }
    }
}

/// A prefix and what is known of it.
pub(crate) struct Entry {
    pub(crate) prefix: IpNet,
    pub(crate) paths: SmallVec<[Path; 1]>,
    /// Index of the best path in `paths`.
    pub(crate) best: Option<u16>,
    /// In `TableState::empty`.
    pub(super) listed_empty: bool,
}

impl Entry {
    pub(crate) fn best_path(&self) -> Option<&Path> {
        self.best.and_then(|i| self.paths.get(usize::from(i)))
    }

    /// The local route for peers that ask for it.
    pub(crate) fn on_demand(&self) -> Option<&Path> {
        let mut paths = self.paths.iter();
        paths.find(|path| path.is_on_demand())
    }

    /// Whether it can take no further path of this peer.
    pub(crate) fn is_full(&self, peer: PeerId) -> bool {
        let held = self.paths.len();
        let of_peer = || self.paths.iter().filter(|p| p.peer == peer).count();
        held >= MAX_PATHS || (held >= MAX_PATHS_OF_PEER && of_peer() >= MAX_PATHS_OF_PEER)
    }

    pub(crate) fn position(&self, peer: PeerId, path_id: u32) -> Option<usize> {
        self.paths
            .iter()
            .position(|p| p.peer == peer && p.path_id == path_id)
    }
}

/// Paths of one prefix at most: `best` is a u16, and no fabric has that many sources.
pub(crate) const MAX_PATHS: usize = 4096;
/// Paths of one prefix that are taken of one peer at most (RFC 7911): each change of one looks at all of them, and nobody
/// forwards over more.
pub const MAX_PATHS_OF_PEER: usize = if cfg!(test) { 8 } else { 256 };

pub(crate) struct Table {
    entries: Pages<Option<Entry>>,
    free: Vec<PrefixId>,
    index: Index<PrefixId>,
    hasher: FixedState,
    /// How many prefixes came in, until somebody takes note of it.
    pub(super) made: usize,
    /// Found last by [`Table::find_all`].
    last: PrefixId,
}

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: Pages::default(),
            free: Vec::new(),
            index: Index::default(),
            hasher: FixedState::with_seed(seed),
            made: 0,
            last: PrefixId(0),
        }
    }

    pub(crate) fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let hash = hash_prefix(&self.hasher, prefix);
        self.index.find(hash, |id| self.is(*id, prefix))
    }

    /// Draws into the cache what [`Table::find_all`] is about to read: not of each prefix, since neighbours lie beside each
    /// other, and of a long list only what does not follow upon its beginning.
    pub(crate) fn draw_near(&self, prefixes: &[Nlri]) {
        const STEP: usize = 8;
        let mut id = None;
        for nlri in prefixes.iter().step_by(STEP) {
            let guess = id.map(|id: PrefixId| PrefixId(id.0.wrapping_add(STEP as u32)));
            id = guess
                .filter(|guess| self.is(*guess, &nlri.prefix))
                .or_else(|| self.find(&nlri.prefix));
            std::hint::black_box(id);
        }
    }

    fn is(&self, id: PrefixId, prefix: &IpNet) -> bool {
        self.get(id).is_some_and(|entry| entry.prefix == *prefix)
    }

    /// Appends the ids of some prefixes. Ids are given in the order of arrival, and peers speak of prefixes in an order
    /// of their own, again and again: the prefix after the last one is tried before the index, whose lines are spread
    /// over memory.
    pub(crate) fn find_all(&mut self, prefixes: &[Nlri], found: &mut Vec<Option<PrefixId>>) {
        let mut last = self.last;
        let find = |nlri: &Nlri| {
            let next = PrefixId(last.0.wrapping_add(1));
            let id = match self.is(next, &nlri.prefix) {
                true => Some(next),
                false => self.find(&nlri.prefix),
            };
            last = id.unwrap_or(last);
            id
        };
        found.extend(prefixes.iter().map(find));
        self.last = last;
    }

    /// The id of a prefix, made when it is new.
    pub(crate) fn id_of(&mut self, prefix: &IpNet) -> PrefixId {
        let (entries, hasher) = (&self.entries, &self.hasher);
        let prefix_of = |id: &PrefixId| entries[id.index()].as_ref().map(|e| &e.prefix);
        let free = self.free.last().copied();
        let (id, new) = self.index.find_or_insert(
            hash_prefix(hasher, prefix),
            |id| prefix_of(id) == Some(prefix),
            |id| prefix_of(id).map_or(0, |prefix| hash_prefix(hasher, prefix)),
            free.unwrap_or(PrefixId(entries.len() as u32)),
        );
        if new {
            self.made += 1;
            let entry = Some(Entry {
                prefix: *prefix,
                paths: SmallVec::new(),
                best: None,
                listed_empty: false,
            });
            match self.free.pop() {
                Some(id) => self.entries[id.index()] = entry,
                None => self.entries.push(entry),
            }
        }
        id
    }

    pub(crate) fn get(&self, id: PrefixId) -> Option<&Entry> {
        self.entries.get(id.index()).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: PrefixId) -> Option<&mut Entry> {
        self.entries.get_mut(id.index()).and_then(Option::as_mut)
    }

    /// Forgets a prefix without paths. Its id is given out again.
    pub(crate) fn remove(&mut self, id: PrefixId) {
        let Some(entry) = self.get(id) else { return };
        debug_assert!(
            entry.paths.is_empty(),
            "a prefix with paths is never removed"
        );
        let hash = hash_prefix(&self.hasher, &entry.prefix);
        self.index.remove(hash, |other| *other == id);
        self.entries[id.index()] = None;
        self.free.push(id);
    }

    /// Prefixes in the table, those without paths included.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One past the highest id in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Entries with their ids.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> impl Iterator<Item = (PrefixId, &Entry)> {
        (0u32..)
            .zip(self.entries.iter())
            .filter_map(|(i, e)| Some((PrefixId(i), e.as_ref()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter_map(Option::as_ref)
    }
}

/// Neighbours of one length lie beside each other in the index, sixteen at a time: a peer speaks of them together, and
/// one cache line then serves them all. The base is keyed; no more than sixteen prefixes can be made to share one.
fn hash_prefix(hasher: &FixedState, prefix: &IpNet) -> u64 {
    const NEIGHBOURS: u64 = 0xf;
    const TAG_SHIFT: u32 = 57;
    let len = prefix.prefix_len();
    // Right-aligned: what tells neighbours apart is in the lowest bits.
    let (bits, base) = match prefix.addr() {
        IpAddr::V4(a) => {
            let bits = u64::from(u32::from(a)) >> (32 - u32::from(len));
            (bits, hasher.hash_one((bits >> 4 << 8) | u64::from(len)))
        }
        IpAddr::V6(a) => {
            let shift = 128 - u32::from(len);
            let bits = u128::from(a).checked_shr(shift).unwrap_or(0);
            (bits as u64, hasher.hash_one((bits >> 4, len)))
        }
    };
    let low = bits & NEIGHBOURS;
    // The table compares the highest seven bits before it looks at an entry: they must tell neighbours apart, too.
    ((base & !NEIGHBOURS) | low) ^ (low << (TAG_SHIFT + 3)) ^ (low << TAG_SHIFT)
}
