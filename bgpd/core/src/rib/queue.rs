//! A queue of prefixes, each in it at most once.

use std::collections::VecDeque;

use super::ids::PrefixId;

#[derive(Default)]
pub(super) struct PrefixQueue {
    /// Oldest first, so that a prefix which never rests does not keep others waiting.
    order: VecDeque<PrefixId>,
    bits: Vec<u64>,
}

impl PrefixQueue {
    pub(super) fn push(&mut self, id: PrefixId) {
        let (word, bit) = place(id);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        if self.bits[word] & bit == 0 {
            self.bits[word] |= bit;
            self.order.push_back(id);
        }
    }

    pub(super) fn contains(&self, id: PrefixId) -> bool {
        let (word, bit) = place(id);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Takes prefixes out until `budget` is used up; each costs what `cost` says.
    pub(super) fn take(
        &mut self,
        budget: usize,
        cost: impl Fn(PrefixId) -> usize,
    ) -> Vec<PrefixId> {
        let mut left = budget;
        let mut count = 0;
        for id in &self.order {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(cost(*id));
            count += 1;
        }
        let taken: Vec<PrefixId> = self.order.drain(..count).collect();
        for id in &taken {
            let (word, bit) = place(*id);
            self.bits[word] &= !bit;
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let ids: std::collections::BTreeSet<PrefixId> = self.order.iter().copied().collect();
        assert_eq!(ids.len(), self.order.len(), "queued once");
        let bits: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        assert_eq!(bits as usize, ids.len());
        assert!(ids.iter().all(|id| self.contains(*id)));
    }
}

fn place(id: PrefixId) -> (usize, u64) {
    (id.index() / 64, 1u64 << (id.index() % 64))
}
