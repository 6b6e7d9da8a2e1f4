//! The RIB's books, done again from scratch: every reference, counter and list compared with what it should be. For
//! tests and simulations, after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::best;
use super::ids::{AttrId, NextHopId, PeerId, PrefixId};
use super::update::slot;
use super::{Rib, TableState};

impl Rib {
    /// Panics when something does not add up.
    pub(crate) fn check(&self) {
        let mut attrs: BTreeMap<AttrId, u32> = BTreeMap::new();
        let mut counts: BTreeMap<(PeerId, usize), (u64, u64)> = BTreeMap::new();
        for state in &self.tables {
            for (id, entry) in state.table.ids() {
                for (i, path) in entry.paths.iter().enumerate() {
                    *attrs.entry(path.received).or_default() += 1;
                    *attrs.entry(path.attrs).or_default() += 1;
                    let count = counts.entry((path.peer, slot(state.key.1))).or_default();
                    count.0 += 1;
                    count.1 += u64::from(path.flags.accepted());
                    assert_eq!(
                        entry.position(path.peer, path.path_id),
                        Some(i),
                        "one path per peer and id"
                    );
                    assert!(
                        path.peer == PeerId::LOCAL || self.peers.get(path.peer).is_some(),
                        "a path without its peer"
                    );
                }
                if self.work.is_empty() {
                    let best = best::select(&self.candidates(entry)).map(|i| i as u16);
                    assert_eq!(entry.best, best, "best path of {}", entry.prefix);
                }
                assert_eq!(
                    state.table.find(&entry.prefix),
                    Some(id),
                    "{} in the index",
                    entry.prefix
                );
            }
            let chosen = state.table.iter().filter(|e| e.best.is_some()).count();
            assert_eq!(state.chosen, chosen as u64, "best paths of {:?}", state.key);
            self.check_lists(state);
            self.check_aggregates(state);
            self.groups
                .check_paths(state, self.work.is_empty(), |entry, depth| {
                    self.ranking(entry, depth)
                });
        }
        for (peer, family) in self.peers.ids().flat_map(|id| [(id, 0), (id, 1)]) {
            let found = self
                .peers
                .get(peer)
                .map(|p| (p.received[family], p.accepted[family]));
            let expected = counts.get(&(peer, family)).copied().unwrap_or_default();
            assert_eq!(found, Some(expected), "counters of {peer:?}");
        }
        for id in self
            .groups
            .check()
            .into_iter()
            .chain(self.garbage.iter().copied())
        {
            *attrs.entry(id).or_default() += 1;
        }
        let held = self.attrs.references();
        assert_eq!(self.attrs.len(), held.len(), "index of attribute sets");
        for id in held.keys() {
            let refs = attrs.entry(*id).or_insert(0);
            assert!(*refs > 0 || self.attrs.is_dying(*id), "{id:?} is lost");
        }
        assert_eq!(held, attrs, "references to attribute sets");
        let mut next_hops: BTreeMap<NextHopId, u32> = BTreeMap::from([(NextHopId::SELF, 1)]);
        for id in attrs.keys().map(|id| self.attrs.get(*id).next_hop) {
            *next_hops.entry(id).or_default() += u32::from(id != NextHopId::SELF);
        }
        assert_eq!(
            self.next_hops.references(),
            next_hops,
            "references to next hops"
        );
    }

    fn check_lists(&self, state: &TableState) {
        state.dirty.check();
        state.other_paths.check();
        let listed: BTreeSet<PrefixId> = state.empty.iter().copied().collect();
        assert_eq!(listed.len(), state.empty.len(), "listed once");
        for (id, entry) in state.table.ids() {
            assert_eq!(entry.listed_empty, listed.contains(&id));
            assert!(
                !entry.paths.is_empty() || entry.listed_empty,
                "{} is lost",
                entry.prefix
            );
        }
    }
}
