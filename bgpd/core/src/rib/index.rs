//! From what a thing is to its id: a hash table in parts, since a table grows all at once, and the sessions' events wait
//! meanwhile.

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};

/// A part of a table of a million grows in half a millisecond.
const PARTS: usize = 64;
/// Bits of the hash that choose the part: the table itself uses the lowest ones and the highest seven.
const SHIFT: u32 = 48;

/// Holds ids; hashes and comparisons are the caller's.
pub(crate) struct Index<Id> {
    parts: [HashTable<Id>; PARTS],
    len: usize,
}

impl<Id> Default for Index<Id> {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| HashTable::new()),
            len: 0,
        }
    }
}

fn part(hash: u64) -> usize {
    (hash >> SHIFT) as usize % PARTS
}

impl<Id: Copy> Index<Id> {
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&Id) -> bool) -> Option<Id> {
        self.parts[part(hash)].find(hash, is_it).copied()
    }

    /// The id that is there, or `new` in its place; the bool tells which. `hash_of` is asked for others' hashes when the
    /// part grows.
    pub(crate) fn find_or_insert(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&Id) -> bool,
        hash_of: impl Fn(&Id) -> u64,
        new: Id,
    ) -> (Id, bool) {
        match self.parts[part(hash)].entry(hash, is_it, hash_of) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                self.len += 1;
                (new, true)
            }
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, is_it: impl FnMut(&Id) -> bool) {
        let found = self.parts[part(hash)].find_entry(hash, is_it);
        if found.map(OccupiedEntry::remove).is_ok() {
            self.len -= 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
