//! Which paths share the traffic of a prefix with the best one: those that tie with it up to the steps that only break
//! ties (RFC 4271 §9.1.2.2 f, g; RFC 4456 §9), and the weight of each by link bandwidth.
//!
//! Pure, and as independent of the order as the choice of the best path. Local routes share with nobody.

use std::fmt;

use smallvec::SmallVec;

use super::{Candidate, Step, Verdict, after_med, decide, explain};

/// Who may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Multipath {
    /// Paths at most when the best one is from eBGP; 1: it alone.
    pub max_paths: u16,
    /// Paths at most when the best one is from iBGP; 1: it alone.
    pub max_paths_ibgp: u16,
    /// AS_PATHs only have to be as long as that of the best path, not the same.
    pub as_path_relax: bool,
    /// Weights follow the Link Bandwidth Extended Community where every path has one.
    pub link_bandwidth: bool,
}

impl Default for Multipath {
    fn default() -> Self {
        Multipath::OFF
    }
}

impl Multipath {
    /// The best path alone.
    pub const OFF: Multipath = Multipath {
        max_paths: 1,
        max_paths_ibgp: 1,
        as_path_relax: false,
        link_bandwidth: false,
    };

    /// Whether no two paths ever share.
    pub fn is_off(&self) -> bool {
        self.max_paths <= 1 && self.max_paths_ibgp <= 1
    }

    fn max(&self, ebgp: bool) -> usize {
        usize::from(if ebgp {
            self.max_paths
        } else {
            self.max_paths_ibgp
        })
    }
}

/// What the rules look at beyond the steps, of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits<'a> {
    /// Value of the AS_PATH attribute.
    pub as_path: &'a [u8],
    /// Tells next hops apart.
    pub next_hop: u32,
}

/// Why a path that ties with the best one does not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unshared {
    /// Its AS_PATH differs.
    AsPath,
    /// A better path has the same next hop.
    SameNextHop,
    /// There are as many as may be.
    MaxPaths,
}

impl fmt::Display for Unshared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unshared::AsPath => "another AS_PATH",
            Unshared::SameNextHop => "a better path has its next hop",
            Unshared::MaxPaths => "as many paths as may be",
        })
    }
}

/// Paths that share, by index.
pub type Shared = SmallVec<[u16; 4]>;

/// The best path and those that share with it, in the order of preference; empty when none is eligible.
pub fn select<'a>(
    paths: &[Candidate],
    rules: &Multipath,
    traits: impl Fn(usize) -> Traits<'a>,
) -> Shared {
    let mut tied = SmallVec::new();
    let Some(best) = decide(paths, |i, step| {
        if only_breaks_ties(step) {
            tied.push(i);
        }
    }) else {
        return Shared::new();
    };
    let mut shared: Shared = u16::try_from(best).into_iter().collect();
    judge(paths, best, tied, rules, traits, |i, unshared| {
        if unshared.is_none() {
            shared.extend(u16::try_from(i));
        }
    });
    shared
}

/// What becomes of every path, in the order given, those that share included.
pub fn explain_shared<'a>(
    paths: &[Candidate],
    rules: &Multipath,
    traits: impl Fn(usize) -> Traits<'a>,
) -> Vec<Verdict> {
    let mut verdicts = explain(paths);
    let best = verdicts.iter().position(|v| matches!(v, Verdict::Best(_)));
    let Some(best) = best else {
        return verdicts;
    };
    let tied = verdicts.iter().enumerate();
    let tied = tied.filter_map(|(i, verdict)| match verdict {
        Verdict::Lost(step) if only_breaks_ties(*step) => Some(i),
        _ => None,
    });
    let tied = tied.collect();
    judge(paths, best, tied, rules, traits, |i, unshared| {
        if let Verdict::Lost(step) = verdicts[i] {
            verdicts[i] = match unshared {
                None => Verdict::Shares(step),
                Some(why) => Verdict::Tied(step, why),
            };
        }
    });
    verdicts
}

/// Judges the paths that tie with the best one, the most preferred first. Says nothing where nobody shares.
fn judge<'a>(
    paths: &[Candidate],
    best: usize,
    mut tied: SmallVec<[usize; 4]>,
    rules: &Multipath,
    traits: impl Fn(usize) -> Traits<'a>,
    mut said: impl FnMut(usize, Option<Unshared>),
) {
    let max = rules.max(paths[best].ebgp);
    if max <= 1 || paths[best].local || tied.is_empty() {
        return;
    }
    tied.sort_by(|a, b| after_med(&paths[*a]).cmp(&after_med(&paths[*b])));
    let of_best = traits(best);
    let mut next_hops: SmallVec<[u32; 8]> = SmallVec::from_slice(&[of_best.next_hop]);
    for i in tied {
        let of_this = traits(i);
        let unshared = if !rules.as_path_relax && of_this.as_path != of_best.as_path {
            Some(Unshared::AsPath)
        } else if next_hops.contains(&of_this.next_hop) {
            Some(Unshared::SameNextHop)
        } else if next_hops.len() >= max {
            Some(Unshared::MaxPaths)
        } else {
            next_hops.push(of_this.next_hop);
            None
        };
        said(i, unshared);
    }
}

/// Up to here, the steps say which path is better; from here on they only make the choice a definite one.
fn only_breaks_ties(step: Step) -> bool {
    step >= Step::BgpId
}

/// The most that the kernel takes as a weight.
const MAX_WEIGHT: u16 = 256;

/// Weights in proportion to link bandwidths (octets per second), the highest at most 256, the lowest at least 1; all 1
/// where a path has none (draft-ietf-idr-link-bandwidth §3).
pub fn weights(bandwidths: &[Option<f32>]) -> SmallVec<[u16; 4]> {
    let usable = |b: &Option<f32>| b.filter(|b| b.is_finite() && *b > 0.0);
    let known: Option<SmallVec<[f32; 4]>> = bandwidths.iter().map(usable).collect();
    let Some(known) = known else {
        return SmallVec::from_elem(1, bandwidths.len());
    };
    let most = known.iter().copied().fold(0.0, f32::max);
    let scaled: SmallVec<[u16; 4]> = known
        .iter()
        // Within 1 to 256, so that the cast loses but the fraction.
        .map(|b| ((b / most * f32::from(MAX_WEIGHT)).round() as u16).clamp(1, MAX_WEIGHT))
        .collect();
    let divisor = scaled.iter().copied().fold(0, gcd).max(1);
    scaled.into_iter().map(|weight| weight / divisor).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Type and sub-type of the Link Bandwidth Extended Community: non-transitive as registered, and transitive as some send it.
const LINK_BANDWIDTH: [[u8; 2]; 2] = [[0x40, 0x04], [0x00, 0x04]];

/// The bandwidth that extended communities tell, in octets per second; the lowest of several.
pub fn link_bandwidth(communities: impl Iterator<Item = [u8; 8]>) -> Option<f32> {
    communities
        .filter(|[kind, sub, ..]| LINK_BANDWIDTH.contains(&[*kind, *sub]))
        .map(|[_, _, _, _, a, b, c, d]| f32::from_be_bytes([a, b, c, d]))
        .min_by(f32::total_cmp)
}

#[cfg(test)]
mod tests;
