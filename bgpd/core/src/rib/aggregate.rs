//! Aggregates (RFC 4271 §9.2.2.2): one route of ours in place of many more specific ones.
//!
//! Owns, per table: which prefixes are aggregated, what every prefix of the table contributes to them, and the sums of
//! that. An aggregate is a local path that is there while some more specific prefix has a best path. Sums follow each
//! change of a best path at once; what follows from them waits for [`Rib::work`], so that many changes are one. Nothing
//! is scanned but when the configuration changes.
//!
//! Beyond the RFC: AS_PATH is empty, since AS_SET is deprecated (RFC 9774); what that drops, ATOMIC_AGGREGATE tells.
//! Routes with different MEDs are aggregated, and the aggregate has none. Communities of contributors are not gathered.

#[cfg(test)]
mod check;

use std::collections::BTreeSet;

use bgp_wire::{AttributeEditor, Family, Nlri, Origin};
use hashbrown::HashMap;
use ipnet::IpNet;

use super::ids::{NextHopId, PeerId, PrefixId, TableId};
use super::originate::path_id;
use super::table::{Entry, Path, PathFlags};
use super::{Rib, TableIndex, TableKey};
use crate::policy::RouteSource;

/// A prefix to aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// What is announced while something inside is known.
    pub prefix: IpNet,
    /// What is inside is not announced.
    pub summary_only: bool,
}

/// What one prefix contributes: nothing, or 1 + [`Origin`] with a bit for a path that the aggregate does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share(u8);

impl Share {
    const LOSSY: u8 = 4;
    /// Shares there are: indexes of [`Sums`].
    const KINDS: usize = 8;

    fn new(origin: Origin, lossy: bool) -> Self {
        Self((1 + origin as u8) | if lossy { Self::LOSSY } else { 0 })
    }
}

/// How many prefixes contribute which share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums([u32; Share::KINDS]);

impl Sums {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    fn has(&self, of: impl Fn(Share) -> bool) -> bool {
        (0u8..)
            .zip(&self.0)
            .any(|(share, count)| *count > 0 && of(Share(share)))
    }

    fn has_origin(&self, origin: Origin) -> bool {
        self.has(|share| share.0 & !Share::LOSSY == 1 + origin as u8)
    }

    /// What the aggregate says; `None` when nothing contributes.
    fn editor(&self) -> Option<AttributeEditor> {
        if self.is_empty() {
            return None;
        }
        let worst = [Origin::Incomplete, Origin::Egp]
            .into_iter()
            .find(|origin| self.has_origin(*origin));
        let mut editor = AttributeEditor::new(worst.unwrap_or(Origin::Igp));
        editor.set_atomic_aggregate(self.has(|share| share.0 & Share::LOSSY != 0));
        Some(editor)
    }
}

/// Prefixes by length, to find those around another one: one look-up per length in use.
#[derive(Clone, Debug, Default)]
struct Ranges {
    /// Longest first.
    lengths: Vec<u8>,
    index: HashMap<IpNet, usize>,
}

impl Ranges {
    fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let index: HashMap<IpNet, usize> = prefixes.zip(0..).collect();
        let mut lengths: Vec<u8> = index.keys().map(IpNet::prefix_len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Self { lengths, index }
    }

    /// Ranges that hold this prefix and more, the smallest first.
    fn around(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, usize)> + '_ {
        let shorter = self
            .lengths
            .iter()
            .filter(move |l| **l < prefix.prefix_len());
        shorter.filter_map(move |length| {
            let range = IpNet::new(prefix.addr(), *length).ok()?.trunc();
            Some((range, *self.index.get(&range)?))
        })
    }
}

struct Slot {
    prefix: IpNet,
    sums: Sums,
    /// In `Aggregates::stale`.
    stale: bool,
}

/// The aggregates of one table.
#[derive(Default)]
pub(super) struct Aggregates {
    slots: Vec<Slot>,
    all: Ranges,
    summaries: Ranges,
    /// By prefix id; empty when nothing is aggregated.
    shares: Vec<Share>,
    /// Slots whose route may have to change.
    stale: Vec<usize>,
    /// A cursor is counting for a new configuration. Until it is through nothing that is announced changes.
    counting: bool,
    /// While counting: ranges that the former configuration held back.
    former_summaries: Ranges,
    /// Former aggregates, to be withdrawn after what was inside is announced again.
    retired: Vec<IpNet>,
}

impl Aggregates {
    /// The aggregate that is announced in place of this prefix.
    pub(super) fn suppress(&self, prefix: &IpNet) -> Option<IpNet> {
        self.summaries
            .around(*prefix)
            .next()
            .map(|(range, _)| range)
    }

    /// Counts what a prefix contributes from now on.
    fn set_share(&mut self, id: PrefixId, prefix: IpNet, share: Share) {
        if self.shares.len() <= id.index() {
            self.shares.resize(id.index() + 1, Share::default());
        }
        let before = std::mem::replace(&mut self.shares[id.index()], share);
        if before == share {
            return;
        }
        for (_, index) in self.all.around(prefix) {
            let slot = &mut self.slots[index];
            if before != Share::default() {
                slot.sums.0[usize::from(before.0)] -= 1;
            }
            if share != Share::default() {
                slot.sums.0[usize::from(share.0)] += 1;
            }
            if !std::mem::replace(&mut slot.stale, true) {
                self.stale.push(index);
            }
        }
    }
}

impl Rib {
    /// Aggregates exactly these prefixes of a table.
    pub(super) fn set_aggregates(&mut self, table: TableId, aggregates: Vec<Aggregate>) {
        for family in Family::ALL {
            let of_family = |a: &&Aggregate| Family::of(&a.prefix) == family;
            let mut wanted: Vec<Aggregate> = aggregates.iter().filter(of_family).copied().collect();
            wanted.iter_mut().for_each(|a| a.prefix = a.prefix.trunc());
            wanted.sort_by_key(|a| a.prefix);
            wanted.dedup_by_key(|a| a.prefix);
            let key = (table, family);
            if wanted.is_empty() && self.find_table(key).is_none() {
                continue;
            }
            let table = self.table_of(key);
            self.tables[table].aggregates.replace(wanted);
            self.count_shares(key);
        }
    }

    /// The best path of a prefix is another one.
    pub(super) fn share_changed(&mut self, table: TableIndex, id: PrefixId) {
        let state = &self.tables[table];
        if state.aggregates.slots.is_empty() {
            return;
        }
        let Some(entry) = state.table.get(id) else {
            return;
        };
        let (prefix, share) = (entry.prefix, self.share(entry));
        self.tables[table].aggregates.set_share(id, prefix, share);
    }

    fn share(&self, entry: &Entry) -> Share {
        entry.best_path().map_or(Share::default(), |path| {
            let attributes = &self.attrs.get(path.attrs).attributes;
            let hot = attributes.hot();
            let lossy = hot.as_path_len > 0 || attributes.atomic_aggregate();
            Share::new(hot.origin, lossy)
        })
    }

    /// One prefix, for a new configuration.
    pub(super) fn count_anew(&mut self, table: TableIndex, id: PrefixId) {
        self.share_changed(table, id);
        let state = &mut self.tables[table];
        let Some(entry) = state.table.get(id) else {
            return;
        };
        let held_back = |ranges: &Ranges| ranges.around(entry.prefix).next().is_some();
        let aggregates = &state.aggregates;
        if held_back(&aggregates.summaries) || held_back(&aggregates.former_summaries) {
            state.mark_dirty(id);
        }
    }

    /// The cursor is through: sums are whole.
    pub(super) fn all_counted(&mut self, key: TableKey) {
        let Some(table) = self.find_table(key) else {
            return;
        };
        let aggregates = &mut self.tables[table].aggregates;
        aggregates.counting = false;
        aggregates.former_summaries = Ranges::default();
        for (index, slot) in aggregates.slots.iter_mut().enumerate() {
            if !std::mem::replace(&mut slot.stale, true) {
                aggregates.stale.push(index);
            }
        }
    }

    /// Announces, changes and withdraws aggregates whose sums have changed.
    pub(super) fn settle_aggregates(&mut self) {
        for table in 0..self.tables.len() {
            if !self.tables[table].aggregates.counting {
                for prefix in std::mem::take(&mut self.tables[table].aggregates.retired) {
                    self.withdraw(table, &aggregate(prefix), PeerId::LOCAL);
                }
            }
            // One that changes may change a larger one, and none changes a smaller one.
            while let Some(index) = self.tables[table].aggregates.stale.pop() {
                self.settle_aggregate(table, index);
            }
        }
    }

    fn settle_aggregate(&mut self, table: TableIndex, index: usize) {
        let state = &mut self.tables[table];
        let slot = &mut state.aggregates.slots[index];
        slot.stale = false;
        let nlri = aggregate(slot.prefix);
        let entry = state
            .table
            .find(&slot.prefix)
            .and_then(|id| state.table.get(id));
        let present = entry.and_then(|entry| {
            let position = entry.position(PeerId::LOCAL, path_id::AGGREGATE)?;
            entry.paths.get(position).map(|path| path.attrs)
        });
        if state.aggregates.counting && present.is_some() {
            return;
        }
        let Some(mut editor) = slot.sums.editor() else {
            self.withdraw(table, &nlri, PeerId::LOCAL);
            return;
        };
        editor.set_aggregator(Some((self.config.local_as, self.config.router_id)));
        let (attrs, _) = self.attrs.intern(&editor.build(), NextHopId::SELF);
        if present == Some(attrs) {
            self.attrs.release(attrs);
            return;
        }
        let flags = PathFlags::local(RouteSource::Static);
        self.originate(table, &nlri, attrs, flags);
    }
}

impl Aggregates {
    /// Other aggregates from now on. What stays is announced as it is until all is counted again.
    fn replace(&mut self, wanted: Vec<Aggregate>) {
        let former = std::mem::take(self);
        let all = Ranges::new(wanted.iter().map(|a| a.prefix));
        let summaries = wanted.iter().filter(|a| a.summary_only);
        let ranges = former.slots.iter().map(|slot| slot.prefix);
        let retired = ranges.chain(former.retired);
        let held_back = former.summaries.index.into_keys();
        let before_that = former.former_summaries.index.into_keys();
        *self = Self {
            summaries: Ranges::new(summaries.map(|a| a.prefix)),
            retired: retired.filter(|p| !all.index.contains_key(p)).collect(),
            all,
            slots: wanted
                .into_iter()
                .map(|aggregate| Slot {
                    prefix: aggregate.prefix,
                    sums: Sums::default(),
                    stale: false,
                })
                .collect(),
            shares: Vec::new(),
            stale: Vec::new(),
            counting: true,
            // After a change that is not through yet, some are held back for the one reason, some for the other.
            former_summaries: Ranges::new(
                held_back
                    .chain(before_that)
                    .collect::<BTreeSet<_>>()
                    .into_iter(),
            ),
        };
    }
}

/// Whether a path is an aggregate of ours.
pub(super) fn is_aggregate(path: &Path) -> bool {
    path.peer == PeerId::LOCAL && path.path_id == path_id::AGGREGATE
}

fn aggregate(prefix: IpNet) -> Nlri {
    Nlri {
        path_id: path_id::AGGREGATE,
        prefix,
    }
}
