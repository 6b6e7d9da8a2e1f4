//! Remembers what policies said of attribute sets, so that a million prefixes with the same attributes cost one look
//! at them.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;

use super::{AttributeView, Chain, ChainVerdict, Changed, Changes, Direction, Finished};

/// What one chain said, by key. `K` stands for everything of an [`AttributeView`]: for a RIB the attribute set's id, the
/// peer and the source. `V` is what the caller makes of a change, for a RIB the id of the changed set.
///
/// A key may get another meaning (ids are reused) only after [`Memo::clear`] or in another generation. Another chain,
/// and another `local_as`, is another generation too.
#[derive(Debug)]
pub struct Memo<K, V> {
    generation: u64,
    capacity: usize,
    verdicts: HashMap<K, ChainVerdict, FixedState>,
    changed: HashMap<(K, Changes), V, FixedState>,
}

impl<K: Copy + Eq + Hash, V> Memo<K, V> {
    /// An empty memo that forgets everything when one of its two tables has `capacity` entries, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            generation: 0,
            capacity: capacity.max(1),
            verdicts: HashMap::default(),
            changed: HashMap::default(),
        }
    }

    /// Forgets everything and hands out what was made of changes, so that references can be given back.
    pub fn clear(&mut self) -> impl Iterator<Item = V> {
        self.verdicts.clear();
        std::mem::take(&mut self.changed).into_values()
    }

    /// How many verdicts and changed sets are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.verdicts.len(), self.changed.len())
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Evaluates one prefix. `route` is asked only where `key` is new, `make` only where the changes are; the value is
    /// `None` when the route does not pass or passes unchanged. What is forgotten on the way goes to `forgotten`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, and a struct would be filled for one call"
    )]
    pub fn evaluate<'a>(
        &mut self,
        generation: u64,
        key: K,
        chain: &Chain,
        direction: Direction<'_>,
        prefix: &IpNet,
        route: impl Fn() -> AttributeView<'a>,
        make: impl FnOnce(Changed) -> V,
        forgotten: &mut Vec<V>,
    ) -> (Finished, Option<&V>) {
        let full = self.verdicts.len() >= self.capacity || self.changed.len() >= self.capacity;
        if generation != self.generation || full {
            self.generation = generation;
            forgotten.extend(self.clear());
        }
        let verdict = self.verdicts.entry(key);
        let verdict = verdict.or_insert_with(|| chain.attribute_part(&route()));
        let finished = chain.finish(verdict, direction, prefix);
        if finished.changes.is_empty() {
            return (finished, None);
        }
        let changed = self.changed.entry((key, finished.changes.clone()));
        let value = changed.or_insert_with(|| make(chain.apply(&finished.changes, &route())));
        (finished, Some(value))
    }
}
