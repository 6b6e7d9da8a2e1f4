//! Best path (RFC 4271 §9.1.2): a pure function from paths to the best one and to the reason of each loser.
//!
//! Each step looks at all paths that are still in and drops those that lose it, as the RFC words it. So the result
//! does not depend on the order of arrival, not even with MED, which only compares paths of one neighbouring AS.
//!
//! Steps: eligible → local → LOCAL_PREF → AS_PATH length → ORIGIN → MED → eBGP over iBGP → IGP cost → BGP Identifier →
//! CLUSTER_LIST length → peer address → path identifier. Ours beyond the RFC: local first; CLUSTER_LIST (RFC 4456 §9);
//! path identifier (RFC 7911 leaves it open). "Oldest first" is left out on purpose: it would depend on history.
//!
//! [`multipath`] says which of the others share the traffic with the best one.

pub mod multipath;

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;

/// What the decision looks at, of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Why it may not be used at all.
    pub ineligible: Option<Ineligible>,
    /// Originated by this speaker.
    pub local: bool,
    /// LOCAL_PREF, 100 when absent.
    pub local_pref: u32,
    /// Length of the AS_PATH; a set counts one (RFC 4271 §9.1.2.2 a).
    pub as_path_len: u16,
    /// ORIGIN: 0 IGP, 1 EGP, 2 INCOMPLETE.
    pub origin: u8,
    /// MULTI_EXIT_DISC; when absent 0, or the highest where that counts as worst.
    pub med: u32,
    /// The AS that MED is compared within: the first of the AS_PATH; `None` where it always is.
    pub neighbor_as: Option<u32>,
    /// Learned over eBGP.
    pub ebgp: bool,
    /// Cost to the next hop.
    pub igp_cost: u32,
    /// ORIGINATOR_ID, else the peer's BGP Identifier.
    pub bgp_id: u32,
    /// Entries of the CLUSTER_LIST.
    pub cluster_list_len: u16,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// Path identifier.
    pub path_id: u32,
}

/// Why a path is not considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ineligible {
    /// No foreign route leads to its next hop.
    NextHopUnreachable,
    /// Our AS, or our id, is in its history.
    Loop,
    /// A customer or peer passes on what it should not (RFC 9234 §5).
    Leak,
    /// The import policy rejects it.
    Filtered,
    /// It is for peers that are sent a default route, and for nobody else.
    OnDemand,
}

/// A step of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Local routes win.
    Local,
    /// The highest LOCAL_PREF.
    LocalPref,
    /// The shortest AS_PATH.
    AsPathLength,
    /// The lowest ORIGIN.
    Origin,
    /// The lowest MULTI_EXIT_DISC within a neighbouring AS.
    Med,
    /// eBGP over iBGP.
    EbgpOverIbgp,
    /// The lowest cost to the next hop.
    IgpCost,
    /// The lowest BGP Identifier.
    BgpId,
    /// The shortest CLUSTER_LIST.
    ClusterListLength,
    /// The lowest peer address.
    PeerAddress,
    /// The lowest path identifier.
    PathId,
}

/// What became of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Best; the last step that dropped another path, `None` when it was the only one.
    Best(Option<Step>),
    /// Dropped by this step.
    Lost(Step),
    /// Dropped by this step alone, which only breaks ties: it shares the traffic with the best one.
    Shares(Step),
    /// Dropped by this step alone, and yet it does not share.
    Tied(Step, multipath::Unshared),
    /// Never in.
    Ineligible(Ineligible),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Local => "local origin",
            Step::LocalPref => "LOCAL_PREF",
            Step::AsPathLength => "AS_PATH length",
            Step::Origin => "ORIGIN",
            Step::Med => "MED",
            Step::EbgpOverIbgp => "eBGP over iBGP",
            Step::IgpCost => "IGP cost",
            Step::BgpId => "BGP Identifier",
            Step::ClusterListLength => "CLUSTER_LIST length",
            Step::PeerAddress => "peer address",
            Step::PathId => "path identifier",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Best(None) => f.write_str("best: the only path"),
            Verdict::Best(Some(step)) => write!(f, "best: {step}"),
            Verdict::Lost(step) => write!(f, "not best: {step}"),
            Verdict::Shares(step) => write!(f, "multipath: not best by {step} alone"),
            Verdict::Tied(step, why) => write!(f, "not best: {step}; not multipath: {why}"),
            Verdict::Ineligible(Ineligible::NextHopUnreachable) => {
                f.write_str("not eligible: next hop unreachable")
            }
            Verdict::Ineligible(Ineligible::Loop) => {
                f.write_str("not eligible: our AS or id is in its path")
            }
            Verdict::Ineligible(Ineligible::Leak) => {
                f.write_str("not eligible: a route leak by the peer's role")
            }
            Verdict::Ineligible(Ineligible::Filtered) => {
                f.write_str("not eligible: rejected by import policy")
            }
            Verdict::Ineligible(Ineligible::OnDemand) => {
                f.write_str("not eligible: for peers with defaultOriginate alone")
            }
        }
    }
}

type Remaining = SmallVec<[u16; 8]>;

/// The index of the best path, when one is eligible.
pub fn select(paths: &[Candidate]) -> Option<usize> {
    let eligible = || {
        let all = paths.iter().enumerate();
        all.filter(|(_, path)| path.ineligible.is_none())
    };
    let (_, first) = eligible().next()?;
    if eligible().all(|(_, path)| path.med == first.med) {
        // Without MED, preference is a total order.
        let best = eligible().min_by(|(_, a), (_, b)| {
            before_med(a)
                .cmp(&before_med(b))
                .then_with(|| after_med(a).cmp(&after_med(b)))
        });
        return best.map(|(i, _)| i);
    }
    decide(paths, |_, _| {})
}

/// Whether a path that joins the others is better than the `best` of them. `None`: that depends on MEDs of the others.
pub(super) fn is_better(new: &Candidate, best: &Candidate) -> Option<bool> {
    if new.ineligible.is_some() {
        return Some(false);
    }
    match before_med(new).cmp(&before_med(best)) {
        Ordering::Less => return Some(true),
        Ordering::Greater => return Some(false),
        Ordering::Equal => {}
    }
    let better = after_med(new) < after_med(best);
    if new.neighbor_as != best.neighbor_as {
        // A path of its own AS may beat it before it comes to that.
        return (!better).then_some(false);
    }
    match new.med.cmp(&best.med) {
        // It drops the best one, and then others may be better than both.
        Ordering::Less => None,
        Ordering::Greater => Some(false),
        Ordering::Equal => Some(better),
    }
}

/// The steps before MED; less is better.
fn before_med(path: &Candidate) -> impl Ord {
    (
        !path.local,
        u32::MAX - path.local_pref,
        path.as_path_len,
        path.origin,
    )
}

/// The steps after MED.
fn after_med(path: &Candidate) -> impl Ord {
    (
        !path.ebgp,
        path.igp_cost,
        path.bgp_id,
        path.cluster_list_len,
        path.peer_address,
        path.path_id,
    )
}

/// What becomes of every path, in the order given.
pub fn explain(paths: &[Candidate]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = paths
        .iter()
        .map(|p| {
            p.ineligible
                .map_or(Verdict::Best(None), Verdict::Ineligible)
        })
        .collect();
    let mut last = None;
    let best = decide(paths, |index, step| {
        verdicts[index] = Verdict::Lost(step);
        last = Some(step);
    });
    if let Some(best) = best {
        verdicts[best] = Verdict::Best(last);
    }
    verdicts
}

fn decide(paths: &[Candidate], dropped: impl FnMut(usize, Step)) -> Option<usize> {
    let left = (0u16..).zip(paths).filter(|(_, p)| p.ineligible.is_none());
    let mut round = Elimination {
        paths,
        left: left.map(|(i, _)| i).collect(),
        dropped,
    };
    round.lowest(Step::Local, |p| !p.local);
    round.lowest(Step::LocalPref, |p| u32::MAX - p.local_pref);
    round.lowest(Step::AsPathLength, |p| p.as_path_len);
    round.lowest(Step::Origin, |p| p.origin);
    round.lowest_med();
    round.lowest(Step::EbgpOverIbgp, |p| !p.ebgp);
    round.lowest(Step::IgpCost, |p| p.igp_cost);
    round.lowest(Step::BgpId, |p| p.bgp_id);
    round.lowest(Step::ClusterListLength, |p| p.cluster_list_len);
    round.lowest(Step::PeerAddress, |p| p.peer_address);
    round.lowest(Step::PathId, |p| p.path_id);
    round.left.first().map(|&i| usize::from(i))
}

struct Elimination<'a, F> {
    paths: &'a [Candidate],
    left: Remaining,
    dropped: F,
}

impl<F: FnMut(usize, Step)> Elimination<'_, F> {
    fn path(&self, i: u16) -> &Candidate {
        &self.paths[usize::from(i)]
    }

    /// Keeps the paths with the lowest key.
    fn lowest<K: Ord>(&mut self, step: Step, key: impl Fn(&Candidate) -> K) {
        if self.left.len() < 2 {
            return;
        }
        let Some(min) = self.left.iter().map(|&i| key(self.path(i))).min() else {
            return;
        };
        let keep: Remaining = self
            .left
            .iter()
            .copied()
            .filter(|&i| key(self.path(i)) == min)
            .collect();
        self.replace(step, keep);
    }

    /// Within each neighbouring AS, only those tied for its lowest MED stay (§9.1.2.2 c).
    fn lowest_med(&mut self) {
        let beaten = |p: &Candidate| {
            let mut others = self.left.iter().map(|&i| self.path(i));
            others.any(|q| q.neighbor_as == p.neighbor_as && q.med < p.med)
        };
        let keep: Remaining = self
            .left
            .iter()
            .copied()
            .filter(|&i| !beaten(self.path(i)))
            .collect();
        self.replace(Step::Med, keep);
    }

    fn replace(&mut self, step: Step, keep: Remaining) {
        if keep.len() == self.left.len() {
            return;
        }
        for i in std::mem::replace(&mut self.left, keep) {
            if !self.left.contains(&i) {
                (self.dropped)(usize::from(i), step);
            }
        }
    }
}

#[cfg(test)]
mod tests;
