//! Outbound path identifiers (RFC 7911 §3) of one table, the same for all its groups with ADD-PATH.
//!
//! Owns: which path of which prefix has which [`NlriId`]; the identifier on the wire is the number after it. A path that
//! was sent once keeps its id as long as it lives, whatever its rank and whoever is sent it. After that the id is one of
//! the prefix still: the next path of that prefix takes it, which to a receiver is an implicit withdraw of the one before
//! and needs nobody to wait. Only when nobody is behind is it free for other prefixes.

use bgp_wire::Nlri;
use smallvec::SmallVec;

use crate::rib::add_path::Ranking;
use crate::rib::ids::{NlriId, PeerId, PrefixId};
use crate::rib::table::{Path, Table};

/// A path is known by who sent it under which identifier.
type PathKey = (PeerId, u32);

/// End of a list.
const NONE: u32 = u32::MAX;

/// A path id of a prefix, and the rank of its path; `None`: nobody is sent that path, or it is gone.
pub(super) type Placed = SmallVec<[(NlriId, Option<u16>); 4]>;

#[derive(Default)]
pub(super) struct PathIds {
    places: Vec<Place>,
    free: Vec<NlriId>,
    /// The first place of each prefix.
    first: Vec<u32>,
    /// Places whose path is gone, each at most once; some of them have found another path since, or are free.
    vacated: Vec<NlriId>,
}

struct Place {
    /// `None`: free.
    prefix: Option<PrefixId>,
    path: Option<PathKey>,
    /// The next place of the same prefix.
    next: u32,
    /// In `vacated`.
    listed: bool,
}

impl Place {
    const FREE: Place = Place {
        prefix: None,
        path: None,
        next: NONE,
        listed: false,
    };
}

/// What the ids of a group stand for.
#[derive(Clone, Copy)]
pub(super) struct Naming<'a> {
    pub(super) table: &'a Table,
    /// With ADD-PATH.
    pub(super) paths: Option<&'a PathIds>,
}

impl Naming<'_> {
    /// One past the highest id.
    pub(super) fn end(&self) -> u32 {
        match self.paths {
            None => self.table.end(),
            Some(ids) => ids.places.len() as u32,
        }
    }

    pub(super) fn nlri(&self, id: NlriId) -> Option<Nlri> {
        let (prefix, path_id) = match self.paths {
            None => (PrefixId(id.0), 0),
            Some(ids) => (ids.places.get(id.index())?.prefix?, path_id(id)),
        };
        let prefix = self.table.get(prefix)?.prefix;
        Some(Nlri { path_id, prefix })
    }
}

/// The path identifier on the wire; 0 is left to those without ADD-PATH.
pub(super) fn path_id(id: NlriId) -> u32 {
    id.0 + 1
}

impl PathIds {
    /// Compares with the paths that a prefix has now: those of the ranking get an id, where they have none, and ids
    /// whose path is gone are vacated. All ids of the prefix.
    pub(super) fn place(&mut self, prefix: PrefixId, paths: &[Path], ranking: &Ranking) -> Placed {
        let key = |path: &Path| (path.peer, path.path_id);
        let mut sorted: SmallVec<[(PathKey, usize); 4]> =
            (0..).zip(paths).map(|(i, path)| (key(path), i)).collect();
        sorted.sort_unstable();
        let mut ranks: SmallVec<[Option<u16>; 4]> = SmallVec::from_elem(None, paths.len());
        for (rank, &i) in (0u16..).zip(ranking) {
            ranks[usize::from(i)] = Some(rank);
        }
        let mut placed = Placed::new();
        let mut vacant: SmallVec<[usize; 4]> = SmallVec::new();
        let mut at = self.first.get(prefix.index()).copied().unwrap_or(NONE);
        while let Some(place) = self.places.get_mut(at as usize) {
            let id = NlriId(at);
            at = place.next;
            let found = place
                .path
                .and_then(|key| sorted.binary_search_by_key(&key, |(key, _)| *key).ok());
            if let Some(found) = found {
                // Taken: whoever still has a rank afterwards has no place.
                placed.push((id, ranks[sorted[found].1].take()));
                continue;
            }
            place.path = None;
            if !std::mem::replace(&mut place.listed, true) {
                self.vacated.push(id);
            }
            vacant.push(placed.len());
            placed.push((id, None));
        }
        for &i in ranking {
            let Some(rank) = ranks[usize::from(i)] else {
                continue;
            };
            let path = Some(key(&paths[usize::from(i)]));
            match vacant.pop() {
                Some(at) => {
                    placed[at].1 = Some(rank);
                    self.places[placed[at].0.index()].path = path;
                }
                None => placed.push((self.add(prefix, path), Some(rank))),
            }
        }
        placed
    }

    fn add(&mut self, prefix: PrefixId, path: Option<PathKey>) -> NlriId {
        if self.first.len() <= prefix.index() {
            self.first.resize(prefix.index() + 1, NONE);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::FREE);
            NlriId((self.places.len() - 1) as u32)
        });
        let place = &mut self.places[id.index()];
        place.prefix = Some(prefix);
        place.path = path;
        place.next = std::mem::replace(&mut self.first[prefix.index()], id.0);
        id
    }

    /// The id of a path that is, or was, sent to somebody.
    pub(super) fn find(&self, prefix: PrefixId, path: &Path) -> Option<NlriId> {
        let key = Some((path.peer, path.path_id));
        self.of(prefix)
            .find(|(_, place)| place.path == key)
            .map(|(id, _)| id)
    }

    fn of(&self, prefix: PrefixId) -> impl Iterator<Item = (NlriId, &Place)> {
        let mut at = self.first.get(prefix.index()).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let place = self.places.get(at as usize)?;
            let id = NlriId(at);
            at = place.next;
            Some((id, place))
        })
    }

    /// Frees up to `max` vacated ids: nobody is behind. Which ones, and whether there are more.
    pub(super) fn free_vacated(&mut self, max: usize) -> (Vec<NlriId>, bool) {
        let keep = self.vacated.len().saturating_sub(max);
        let mut freed = self.vacated.split_off(keep);
        freed.retain(|id| {
            let place = &mut self.places[id.index()];
            place.listed = false;
            place.prefix.is_some() && place.path.is_none()
        });
        for id in &freed {
            self.unlink(*id);
        }
        (freed, keep > 0)
    }

    fn unlink(&mut self, id: NlriId) {
        let Place { prefix, next, .. } = self.places[id.index()];
        let Some(prefix) = prefix else { return };
        let before = self.of(prefix).find(|(_, place)| place.next == id.0);
        match before.map(|(before, _)| before) {
            Some(before) => self.places[before.index()].next = next,
            None => self.first[prefix.index()] = next,
        }
        self.places[id.index()].prefix = None;
        self.free.push(id);
    }

    /// Frees all ids of a prefix that is about to become another one.
    pub(super) fn forget(&mut self, prefix: PrefixId) -> Vec<NlriId> {
        let ids: Vec<NlriId> = self.of(prefix).map(|(id, _)| id).collect();
        for id in &ids {
            let place = &mut self.places[id.index()];
            place.prefix = None;
            place.path = None;
            self.free.push(*id);
        }
        if let Some(first) = self.first.get_mut(prefix.index()) {
            *first = NONE;
        }
        ids
    }

    /// The path behind an id that is in use.
    #[cfg(test)]
    pub(super) fn path(&self, id: NlriId) -> Option<(PrefixId, PathKey)> {
        let place = self.places.get(id.index())?;
        Some((place.prefix?, place.path?))
    }

    /// Panics when something does not add up.
    #[cfg(test)]
    pub(super) fn check(&self, table: &Table) {
        use std::collections::BTreeSet;
        let mut used = BTreeSet::new();
        for prefix in (0..self.first.len() as u32).map(PrefixId) {
            let mut paths = BTreeSet::new();
            for (id, place) in self.of(prefix) {
                assert_eq!(place.prefix, Some(prefix));
                assert!(used.insert(id), "{id:?} is in two lists");
                assert!(place.path.is_some() || place.listed, "{id:?} is lost");
                assert!(
                    place.path.is_none_or(|path| paths.insert(path)),
                    "one id per path"
                );
                assert!(table.get(prefix).is_some());
            }
        }
        let free: BTreeSet<NlriId> = self.free.iter().copied().collect();
        assert_eq!(free.len(), self.free.len(), "free once");
        assert!(free.is_disjoint(&used));
        assert_eq!(free.len() + used.len(), self.places.len());
        let vacated: BTreeSet<NlriId> = self.vacated.iter().copied().collect();
        assert_eq!(vacated.len(), self.vacated.len(), "listed once");
        let listed = (0..).map(NlriId).zip(&self.places);
        let listed: BTreeSet<NlriId> = listed.filter(|(_, p)| p.listed).map(|(id, _)| id).collect();
        assert_eq!(listed, vacated);
    }
}
