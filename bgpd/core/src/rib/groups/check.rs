//! The books of the update groups, for `Rib::check`.

use std::collections::BTreeMap;

use super::{Groups, Position};
use crate::rib::ids::{AttrId, PeerId};

impl Groups {
    /// Every reference that groups hold. Panics when something does not add up.
    pub(in crate::rib) fn check(&self) -> Vec<AttrId> {
        let mut held = Vec::new();
        for group in self.slots.iter().flatten() {
            assert!(!group.members.is_empty(), "a group without members");
            let mut by_source: BTreeMap<PeerId, u64> = BTreeMap::new();
            for announced in group.announced.iter().filter(|a| a.attrs != AttrId::NONE) {
                held.push(announced.attrs);
                *by_source.entry(announced.source).or_default() += 1;
                assert!(announced.version <= group.version);
            }
            let counted = group.by_source.iter().filter(|(_, count)| **count > 0);
            assert_eq!(
                counted
                    .map(|(peer, count)| (*peer, *count))
                    .collect::<BTreeMap<_, _>>(),
                by_source
            );
            assert_eq!(group.count, by_source.values().sum::<u64>());
            for member in &group.members {
                let position = match &member.position {
                    Position::Ring(position) => *position,
                    Position::Walk(walk) => walk.ring_position().unwrap_or(group.ring.end()),
                };
                assert!(position <= group.ring.end());
                assert!(
                    matches!(member.position, Position::Walk(_)) || position >= group.ring.start()
                );
            }
            group.ring.check();
        }
        held
    }
}
