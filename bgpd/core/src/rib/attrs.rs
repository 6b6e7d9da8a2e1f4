//! Interned attribute sets: one copy of equal attributes and next hop, whoever sent them.
//!
//! Owns the sets and their reference counts. A set is freed when the last path and the last announced
//! route let go of it.

use std::hash::BuildHasher;

use bgp_wire::PathAttributes;
use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::ids::{AttrId, NextHopId};

pub(crate) struct AttrSet {
    pub(crate) attributes: PathAttributes,
    pub(crate) next_hop: NextHopId,
    refs: u32,
    hash: u64,
}

pub(crate) struct AttrTable {
    sets: Vec<Option<AttrSet>>,
    free: Vec<AttrId>,
    index: HashTable<AttrId>,
    hasher: FixedState,
}

impl AttrTable {
    /// `seed` keys the hash: peers choose the bytes and must not be able to choose the buckets.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            sets: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The id of these attributes with this next hop, with one reference added. The bool tells whether the set is new,
    /// in which case the caller has given one reference of `next_hop` to the table.
    pub(crate) fn intern(
        &mut self,
        attributes: &PathAttributes,
        next_hop: NextHopId,
    ) -> (AttrId, bool) {
        let hash = self.hasher.hash_one((attributes.as_bytes(), next_hop));
        let sets = &mut self.sets;
        let same = |id: &AttrId| {
            sets.get(id.index())
                .and_then(Option::as_ref)
                .is_some_and(|set| {
                    set.next_hop == next_hop && set.attributes.as_bytes() == attributes.as_bytes()
                })
        };
        if let Some(&id) = self.index.find(hash, same) {
            self.retain(id);
            return (id, false);
        }
        let set = AttrSet {
            attributes: attributes.clone(),
            next_hop,
            refs: 1,
            hash,
        };
        let id = match self.free.pop() {
            Some(id) => {
                sets[id.index()] = Some(set);
                id
            }
            None => {
                sets.push(Some(set));
                AttrId((sets.len() - 1) as u32)
            }
        };
        let sets = &self.sets;
        self.index.insert_unique(hash, id, |id| {
            sets[id.index()].as_ref().map_or(0, |set| set.hash)
        });
        (id, true)
    }

    pub(crate) fn get(&self, id: AttrId) -> &AttrSet {
        self.sets
            .get(id.index())
            .and_then(Option::as_ref)
            .expect("an AttrId that is held has a set")
    }

    /// Draws a set into the cache that is needed soon.
    pub(crate) fn touch(&self, id: AttrId) {
        std::hint::black_box(self.sets.get(id.index()).and_then(|set| Some(set.as_ref()?.refs)));
    }

    pub(crate) fn retain(&mut self, id: AttrId) {
        if let Some(Some(set)) = self.sets.get_mut(id.index()) {
            set.refs += 1;
        }
    }

    /// Drops one reference; the next hop to release when that was the last.
    #[must_use]
    pub(crate) fn release(&mut self, id: AttrId) -> Option<NextHopId> {
        let slot = self.sets.get_mut(id.index())?;
        let set = slot.as_mut()?;
        set.refs -= 1;
        if set.refs > 0 {
            return None;
        }
        let (hash, next_hop) = (set.hash, set.next_hop);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        *slot = None;
        self.free.push(id);
        Some(next_hop)
    }

    /// How many distinct sets are held.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    #[cfg(test)]
    pub(crate) fn references(&self) -> std::collections::BTreeMap<AttrId, u32> {
        (0u32..)
            .zip(&self.sets)
            .filter_map(|(i, set)| Some((AttrId(i), set.as_ref()?.refs)))
            .collect()
    }
}
