use super::*;
use proptest::prelude::*;

use crate::rib::best::tests::{candidate, path};

const FOUR: Multipath = Multipath {
    max_paths: 4,
    max_paths_ibgp: 4,
    as_path_relax: false,
    link_bandwidth: false,
};

/// A path with what the rules look at beyond the steps.
type Traited = (Candidate, &'static [u8], u32);

/// Paths from as many routers, all alike.
fn alike(count: u32) -> Vec<Traited> {
    let path = |i| {
        let candidate = Candidate {
            bgp_id: i,
            ..path()
        };
        (candidate, &b"1"[..], i)
    };
    (0..count).map(path).collect()
}

fn said(paths: &[Traited], rules: &Multipath) -> Vec<Verdict> {
    let candidates: Vec<Candidate> = paths.iter().map(|p| p.0).collect();
    let traits = |i: usize| Traits {
        as_path: paths[i].1,
        next_hop: paths[i].2,
    };
    let verdicts = explain_shared(&candidates, rules, traits);
    let shared = select(&candidates, rules, traits);
    let sharing = |v: &&Verdict| matches!(v, Verdict::Best(_) | Verdict::Shares(_));
    assert_eq!(shared.len(), verdicts.iter().filter(sharing).count());
    assert!(shared.iter().all(|i| sharing(&&verdicts[usize::from(*i)])));
    verdicts
}

/// What becomes of the second of two paths.
fn check(rules: Multipath, change: impl Fn(&mut Traited), expected: Verdict) {
    let mut paths = alike(2);
    change(&mut paths[1]);
    assert_eq!(said(&paths, &rules)[1], expected);
}

#[test]
fn who_ties_shares_and_the_others_are_told_why_not() {
    let shares = Verdict::Shares(Step::BgpId);
    check(FOUR, |_| (), shares);
    check(Multipath::OFF, |_| (), Verdict::Lost(Step::BgpId));
    check(FOUR, |p| p.0.cluster_list_len = 3, shares);
    check(FOUR, |p| p.0.peer_address = [9; 4].into(), shares);
    type Change = fn(&mut Candidate);
    let worse: [(Change, Step); 7] = [
        (|p| p.local_pref = 99, Step::LocalPref),
        (|p| p.as_path_len = 3, Step::AsPathLength),
        (|p| p.origin = 2, Step::Origin),
        (|p| p.med = 1, Step::Med),
        (|p| p.ebgp = false, Step::EbgpOverIbgp),
        (|p| p.igp_cost = 11, Step::IgpCost),
        (|p| (p.igp_cost, p.med) = (9, 1), Step::Med),
    ];
    for (change, step) in worse {
        check(FOUR, |p| change(&mut p.0), Verdict::Lost(step));
    }
    let tied = |why| Verdict::Tied(Step::BgpId, why);
    check(FOUR, |p| p.1 = b"2", tied(Unshared::AsPath));
    let relaxed = Multipath {
        as_path_relax: true,
        ..FOUR
    };
    check(relaxed, |p| p.1 = b"2", shares);
    check(FOUR, |p| p.2 = 0, tied(Unshared::SameNextHop));
}

#[test]
fn ebgp_and_ibgp_have_their_own_bounds() {
    let rules = Multipath {
        max_paths: 3,
        max_paths_ibgp: 2,
        ..FOUR
    };
    let mut paths = alike(5);
    let count = |paths: &[Traited]| {
        let verdicts = said(paths, &rules);
        let over = Verdict::Tied(Step::BgpId, Unshared::MaxPaths);
        assert_eq!(
            verdicts.last(),
            Some(&over),
            "the least preferred stays out"
        );
        verdicts
            .iter()
            .filter(|v| matches!(v, Verdict::Shares(_)))
            .count()
    };
    assert_eq!(count(&paths), 2);
    paths.iter_mut().for_each(|p| p.0.ebgp = false);
    assert_eq!(count(&paths), 1);
}

#[test]
fn local_routes_share_with_nobody() {
    let mut paths = alike(3);
    for (path, i) in paths.iter_mut().zip(0..) {
        (path.0.local, path.0.path_id) = (true, i);
    }
    let shares = |v: &Verdict| matches!(v, Verdict::Shares(_) | Verdict::Tied(..));
    assert!(!said(&paths, &FOUR).iter().any(shares));
}

#[test]
fn weights_are_in_proportion_where_all_are_known() {
    let check = |bandwidths: &[Option<f32>], expected: &[u16]| {
        assert_eq!(weights(bandwidths).as_slice(), expected, "{bandwidths:?}");
    };
    check(&[], &[]);
    check(&[Some(1.25e9)], &[1]);
    check(&[Some(1.25e9), Some(1.25e9)], &[1, 1]);
    check(&[Some(1.25e9), Some(5e9)], &[1, 4]);
    check(&[Some(1.0), Some(f32::MAX)], &[1, 256]);
    check(&[Some(3e9), Some(2e9), Some(1e9)], &[256, 171, 85]);
    check(&[Some(1.25e9), None], &[1, 1]);
    for useless in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        check(&[Some(1.25e9), Some(5e9), Some(useless)], &[1, 1, 1]);
    }
}

#[test]
fn bandwidth_is_read_from_either_kind_of_community() {
    let of = |kind: u8, sub: u8, bandwidth: f32| {
        let [a, b, c, d] = bandwidth.to_be_bytes();
        [kind, sub, 0xfd, 0xe8, a, b, c, d]
    };
    let read = |list: &[[u8; 8]]| link_bandwidth(list.iter().copied());
    assert_eq!(read(&[of(0x40, 4, 1.25e9)]), Some(1.25e9));
    assert_eq!(read(&[of(0, 4, 1.25e9), of(0x40, 4, 1e9)]), Some(1e9));
    assert_eq!(read(&[of(0, 2, 1.25e9), of(0x43, 4, 1e9)]), None);
}

/// Step by step with whole lists, as one would on paper.
fn oracle(paths: &[Traited], rules: &Multipath) -> Vec<usize> {
    let mut left: Vec<usize> = (0..paths.len())
        .filter(|i| paths[*i].0.ineligible.is_none())
        .collect();
    let steps: [fn(&Candidate) -> u32; 6] = [
        |p| u32::from(!p.local),
        |p| u32::MAX - p.local_pref,
        |p| p.as_path_len.into(),
        |p| p.origin.into(),
        |p| u32::from(!p.ebgp),
        |p| p.igp_cost,
    ];
    for (n, key) in steps.into_iter().enumerate() {
        if n == 4 {
            let all = left.clone();
            let beaten =
                |a: &Candidate, b: &Candidate| a.neighbor_as == b.neighbor_as && b.med < a.med;
            left.retain(|a| !all.iter().any(|b| beaten(&paths[*a].0, &paths[*b].0)));
        }
        let lowest = left.iter().map(|i| key(&paths[*i].0)).min();
        left.retain(|i| Some(key(&paths[*i].0)) == lowest);
    }
    left.sort_by_key(|i| {
        let p = &paths[*i].0;
        (p.bgp_id, p.cluster_list_len, p.peer_address, p.path_id)
    });
    let Some(best) = left.first().map(|i| &paths[*i]) else {
        return left;
    };
    let max = if best.0.ebgp {
        rules.max_paths
    } else {
        rules.max_paths_ibgp
    };
    let (same, mut seen) = (best.1, Vec::new());
    left.retain(|i| {
        let new = !seen.contains(&paths[*i].2);
        let fits = new && (rules.as_path_relax || paths[*i].1 == same);
        if fits {
            seen.push(paths[*i].2);
        }
        fits
    });
    left.truncate(if best.0.local {
        1
    } else {
        usize::from(max.max(1))
    });
    left
}

fn traited() -> impl Strategy<Value = Traited> {
    let as_path = prop::sample::select(vec![&b"1"[..], &b"2"[..]]);
    (candidate(), as_path, 0u32..4)
}

fn rules() -> impl Strategy<Value = Multipath> {
    (0u16..4, 0u16..4, any::<bool>()).prop_map(|(max_paths, max_paths_ibgp, as_path_relax)| {
        Multipath {
            max_paths,
            max_paths_ibgp,
            as_path_relax,
            link_bandwidth: false,
        }
    })
}

proptest! {
    #[test]
    fn like_a_naive_oracle_in_any_order(
        (paths, shuffled) in prop::collection::vec(traited(), 0..8)
            .prop_map(|paths| paths.into_iter().zip(0u32..).map(|(mut p, i)| { p.0.path_id = i; p }).collect::<Vec<_>>())
            .prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle())),
        rules in rules(),
    ) {
        let shared = |paths: &[Traited]| -> Vec<Traited> {
            let candidates: Vec<Candidate> = paths.iter().map(|p| p.0).collect();
            let traits = |i: usize| Traits { as_path: paths[i].1, next_hop: paths[i].2 };
            said(paths, &rules);
            select(&candidates, &rules, traits).iter().map(|i| paths[usize::from(*i)]).collect()
        };
        let expected: Vec<Traited> = oracle(&paths, &rules).into_iter().map(|i| paths[i]).collect();
        prop_assert_eq!(shared(&paths), expected);
        prop_assert_eq!(shared(&paths), shared(&shuffled));
    }

    #[test]
    fn weights_are_bounded_and_ordered(bandwidths in prop::collection::vec(prop::option::weighted(0.9, any::<f32>()), 0..8)) {
        let weights = weights(&bandwidths);
        prop_assert_eq!(weights.len(), bandwidths.len());
        prop_assert!(weights.iter().all(|weight| (1..=256).contains(weight)));
        for (a, wa) in bandwidths.iter().zip(&weights) {
            for (b, wb) in bandwidths.iter().zip(&weights) {
                if let (Some(a), Some(b)) = (a, b) && a < b {
                    prop_assert!(wa <= wb);
                }
            }
        }
    }
}
