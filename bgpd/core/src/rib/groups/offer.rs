//! Which paths of a prefix a group is to announce, before its policy is asked.

use ipnet::IpNet;

use super::GroupKey;
use super::path_ids::{PathIds, Placed};
use crate::rib::add_path::{Depth, Ranking};
use crate::rib::ids::{NlriId, PeerId, PrefixId};
use crate::rib::relation::DefaultOriginate;
use crate::rib::table::{Entry, Path};
use crate::rib::{Rib, TableState};

/// A path on its way to a group, and whose it counts as.
pub(super) type Route<'a> = (&'a IpNet, &'a Path, PeerId);

impl GroupKey {
    /// The route of a group without ADD-PATH: the best path, or a default route of ours that the group asked for.
    pub(super) fn best<'a>(&self, entry: &'a Entry) -> Option<Route<'a>> {
        let best = entry.best_path();
        let (path, source) = match self.own_default(&entry.prefix) {
            None => (best?, best?.peer),
            Some(own) => own_default(own, entry)?,
        };
        Some((&entry.prefix, path, source))
    }
}

fn own_default(own: DefaultOriginate, entry: &Entry) -> Option<(&Path, PeerId)> {
    let path = entry.on_demand()?;
    let source = match own {
        DefaultOriginate::Always => PeerId::LOCAL,
        // Not to the peer that the default route here is from.
        DefaultOriginate::IfPresent => entry.best_path()?.peer,
    };
    Some((path, source))
}

/// The paths of a prefix for groups with ADD-PATH, each with its identifier.
pub(super) struct Offer<'a> {
    entry: &'a Entry,
    /// The ranking, and behind it the default route of ours that no choice takes.
    paths: Ranking,
    /// How many of `paths` are of the ranking.
    ranked: u16,
    placed: Placed,
    suppressed: bool,
}

impl<'a> Offer<'a> {
    /// What a group that takes several paths is to be told: of each identifier the path, or that there is none.
    pub(super) fn routes(
        &self,
        key: &GroupKey,
    ) -> impl Iterator<Item = (NlriId, Option<Route<'a>>)> {
        let entry = self.entry;
        let own = key.own_default(&entry.prefix);
        let route = move |rank: u16| {
            let path = entry
                .paths
                .get(usize::from(*self.paths.get(usize::from(rank))?))?;
            let (path, source) = match own {
                None if rank < self.ranked && key.paths?.takes(rank) => (path, path.peer),
                Some(own) if rank >= self.ranked => own_default(own, entry)?,
                _ => return None,
            };
            Some((&entry.prefix, path, source))
        };
        let sent = !self.suppressed;
        let placed = self.placed.iter();
        placed.map(move |(id, rank)| (*id, rank.filter(|_| sent).and_then(route)))
    }
}

impl Rib {
    /// What groups that look into the ranking to this depth are offered of these prefixes. Identifiers are still to be
    /// placed.
    pub(super) fn offers<'a>(
        &self,
        state: &'a TableState,
        ids: &[PrefixId],
        depth: Depth,
    ) -> Vec<(PrefixId, Offer<'a>)> {
        let offer = |id: &PrefixId| {
            let entry = state.table.get(*id)?;
            let mut paths = self.ranking(entry, depth);
            let ranked = paths.len() as u16;
            if entry.prefix.prefix_len() == 0 {
                let on_demand = entry.paths.iter().position(Path::is_on_demand);
                paths.extend(on_demand.map(|i| i as u16));
            }
            let offer = Offer {
                entry,
                paths,
                ranked,
                placed: Placed::new(),
                suppressed: state.aggregates.suppress(&entry.prefix).is_some(),
            };
            Some((*id, offer))
        };
        ids.iter().filter_map(offer).collect()
    }
}

/// Gives the paths of each offer their identifiers.
pub(super) fn place(offers: &mut [(PrefixId, Offer<'_>)], path_ids: &mut PathIds) {
    for (id, offer) in offers {
        offer.placed = path_ids.place(*id, &offer.entry.paths, &offer.paths);
    }
}
