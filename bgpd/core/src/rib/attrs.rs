//! Interned attribute sets: one copy of equal attributes and next hop, whoever sent them.
//!
//! Owns the sets and their reference counts. A set that the last path and the last announced route let go of is freed
//! by a later [`AttrTable::bury`], unless it has come back by then.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use bgp_wire::PathAttributes;
use foldhash::quality::FixedState;

use super::ids::{AttrId, NextHopId};
use super::index::Index;
use super::pages::Pages;

pub(crate) struct AttrSet {
    pub(crate) attributes: PathAttributes,
    pub(crate) next_hop: NextHopId,
    refs: u32,
    hash: u64,
}

pub(crate) struct AttrTable {
    sets: Pages<Option<AttrSet>>,
    free: Vec<AttrId>,
    /// Lost their last reference; some may have one again. What was revived and lost again is listed twice.
    dying: VecDeque<AttrId>,
    /// How many sets came in, until somebody takes note of it.
    pub(super) made: usize,
    index: Index<AttrId>,
    hasher: FixedState,
}

impl AttrTable {
    /// `seed` keys the hash: peers choose the bytes and must not be able to choose the buckets.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            sets: Pages::default(),
            free: Vec::new(),
            dying: VecDeque::new(),
            made: 0,
            index: Index::default(),
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
        let sets = &self.sets;
        let set_of = |id: &AttrId| sets.get(id.index()).and_then(Option::as_ref);
        let same = |set: &AttrSet| {
            set.next_hop == next_hop && set.attributes.as_bytes() == attributes.as_bytes()
        };
        let free = self.free.last().copied();
        let (id, new) = self.index.find_or_insert(
            hash,
            |id| set_of(id).is_some_and(same),
            |id| set_of(id).map_or(0, |set| set.hash),
            free.unwrap_or(AttrId(sets.len() as u32)),
        );
        if !new {
            self.retain(id);
            return (id, false);
        }
        let set = Some(AttrSet {
            attributes: attributes.clone(),
            next_hop,
            refs: 1,
            hash,
        });
        self.made += 1;
        match self.free.pop() {
            Some(id) => self.sets[id.index()] = set,
            None => self.sets.push(set),
        }
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
        std::hint::black_box(
            self.sets
                .get(id.index())
                .and_then(|set| Some(set.as_ref()?.refs)),
        );
    }

    pub(crate) fn retain(&mut self, id: AttrId) {
        if let Some(Some(set)) = self.sets.get_mut(id.index()) {
            set.refs += 1;
        }
    }

    /// Drops one reference.
    pub(crate) fn release(&mut self, id: AttrId) {
        if let Some(Some(set)) = self.sets.get_mut(id.index()) {
            set.refs -= 1;
            if set.refs == 0 {
                self.dying.push_back(id);
            }
        }
    }

    /// Frees up to `max` sets without references, those that have been so for longest; calls `release` with the next hop
    /// of each. Whether there are more.
    pub(crate) fn bury(&mut self, max: usize, mut release: impl FnMut(NextHopId)) -> bool {
        let now = max.min(self.dying.len());
        for id in self.dying.range(..now) {
            self.touch_index(*id);
        }
        for id in self.dying.drain(..now) {
            let Some(slot) = self.sets.get_mut(id.index()) else {
                continue;
            };
            let Some(set) = slot.take_if(|set| set.refs == 0) else {
                continue;
            };
            self.index.remove(set.hash, |other| *other == id);
            self.free.push(id);
            release(set.next_hop);
        }
        !self.dying.is_empty()
    }

    /// Draws a set's place in the index into the cache.
    fn touch_index(&self, id: AttrId) {
        let set = self.sets.get(id.index()).and_then(Option::as_ref);
        std::hint::black_box(set.and_then(|set| self.index.find(set.hash, |other| *other == id)));
    }

    /// How many distinct sets there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    #[cfg(test)]
    pub(crate) fn is_dying(&self, id: AttrId) -> bool {
        self.dying.contains(&id)
    }

    #[cfg(test)]
    pub(crate) fn references(&self) -> std::collections::BTreeMap<AttrId, u32> {
        (0u32..)
            .zip(self.sets.iter())
            .filter_map(|(i, set)| Some((AttrId(i), set.as_ref()?.refs)))
            .collect()
    }
}
