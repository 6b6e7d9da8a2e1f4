//! The books of the update groups, for `Rib::check`.

use std::collections::BTreeMap;

use super::{Groups, Position};
use crate::rib::TableState;
use crate::rib::add_path::{Depth, Ranking};
use crate::rib::ids::{AttrId, NlriId, PeerId};
use crate::rib::table::{Entry, PathFlags};

impl Groups {
    /// The path identifiers of a table; once it is `quiet`, groups with ADD-PATH announce no more than they should.
    pub(in crate::rib) fn check_paths(
        &self,
        state: &TableState,
        quiet: bool,
        ranking: impl Fn(&Entry, Depth) -> Ranking,
    ) {
        let ids = self.path_ids.iter().find(|(key, _)| *key == state.key);
        let Some((_, ids)) = ids else { return };
        ids.check(&state.table);
        let quiet = quiet && state.dirty.is_empty() && state.other_paths.is_empty();
        let groups = self.slots.iter().flatten();
        for group in groups.filter(|g| g.key.table == state.key && quiet && g.populated) {
            let Some(selection) = group.key.paths else {
                continue;
            };
            let announced = (0..).map(NlriId).zip(group.announced.iter());
            for (id, announced) in announced.filter(|(_, a)| a.attrs != AttrId::NONE) {
                let (prefix, (peer, path_id)) = ids.path(id).expect("announced, so it has a path");
                let entry = state.table.get(prefix).expect("a path of a prefix");
                let at = entry.position(peer, path_id).expect("the path is there");
                if group.key.own_default(&entry.prefix).is_some() {
                    assert!(entry.paths[at].flags.has(PathFlags::ON_DEMAND));
                    continue;
                }
                let ranking = ranking(entry, selection.into());
                let rank = ranking.iter().position(|i| usize::from(*i) == at);
                assert!(
                    rank.is_some_and(|rank| selection.takes(rank as u16)),
                    "{} of {}: rank {rank:?} of {ranking:?}",
                    path_id,
                    entry.prefix
                );
                assert_eq!(announced.source, peer);
            }
        }
    }

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
            let counted = (0..).map(PeerId).zip(&group.by_source);
            let counted = counted.filter(|(_, count)| **count > 0);
            assert_eq!(
                counted
                    .map(|(peer, count)| (peer, *count))
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
