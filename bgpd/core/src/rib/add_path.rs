//! ADD-PATH (RFC 7911): which paths of a prefix go to a peer that takes several.
//!
//! Pure: from what the decision looks at to a ranking. Best of all first, then the best of what is left, and so on: the
//! decision is repeated, since with MED it is no order that paths could be sorted by.

use smallvec::SmallVec;

use super::best::{self, Candidate};

/// Which paths of a prefix a peer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathSelection {
    /// The best ones, this many.
    Best(u8),
    /// Every path that may be used.
    #[default]
    All,
}

impl PathSelection {
    /// Whether the path at this place of a ranking is sent.
    pub(super) fn takes(self, rank: u16) -> bool {
        match self {
            PathSelection::Best(count) => rank < u16::from(count),
            PathSelection::All => true,
        }
    }
}

/// How far into the ranking anybody looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// So many places are of interest one by one.
    pub(super) best: u8,
    /// Those behind them are, too, in any order.
    pub(super) all: bool,
}

impl From<PathSelection> for Depth {
    fn from(selection: PathSelection) -> Self {
        match selection {
            PathSelection::Best(best) => Depth { best, all: false },
            PathSelection::All => Depth { best: 0, all: true },
        }
    }
}

impl Depth {
    /// Far enough for both.
    pub(super) fn or(self, other: Depth) -> Depth {
        Depth {
            best: self.best.max(other.best),
            all: self.all || other.all,
        }
    }
}

/// Indexes of paths that are sent to somebody, best first.
pub(super) type Ranking = SmallVec<[u16; 4]>;

/// Ranks the eligible ones of `paths`.
pub(super) fn rank(paths: &[Candidate], depth: Depth) -> Ranking {
    let eligible = (0u16..)
        .zip(paths)
        .filter(|(_, path)| path.ineligible.is_none())
        .map(|(place, path)| (place, *path));
    let (mut places, mut left): (Ranking, SmallVec<[Candidate; 4]>) = eligible.unzip();
    let mut ranking = Ranking::new();
    for _ in 0..depth.best {
        let Some(best) = best::select(&left) else {
            return ranking;
        };
        left.swap_remove(best);
        ranking.push(places.swap_remove(best));
    }
    if depth.all {
        ranking.append(&mut places);
    }
    ranking
}

#[cfg(test)]
mod tests;
