use proptest::prelude::*;

use super::super::best::{Ineligible, Verdict};
use super::*;

/// A path of this length and MED through this neighbouring AS.
fn path(as_path_len: u16, neighbor_as: u32, med: u32, id: u32) -> Candidate {
    Candidate {
        ineligible: None,
        local: false,
        local_pref: 100,
        as_path_len,
        origin: 0,
        med,
        neighbor_as: Some(neighbor_as),
        ebgp: true,
        igp_cost: 0,
        bgp_id: id,
        cluster_list_len: 0,
        peer_address: "192.0.2.1".parse().unwrap(),
        path_id: 0,
    }
}

fn check(paths: &[Candidate], best: u8, all: bool, expected: &[u16]) {
    assert_eq!(rank(paths, Depth { best, all }).to_vec(), expected);
}

#[test]
fn ranks_are_choices_repeated() {
    let paths = [path(3, 1, 0, 1), path(1, 1, 0, 2), path(2, 1, 0, 3)];
    check(&paths, 1, false, &[1]);
    check(&paths, 2, false, &[1, 2]);
    check(&paths, 9, false, &[1, 2, 0]);
    check(&paths, 1, true, &[1, 0, 2]);
    check(&[], 2, true, &[]);
    let mut two = paths;
    two[1].ineligible = Some(Ineligible::Loop);
    check(&two, 1, false, &[2]);
    check(&two, 0, true, &[0, 2]);
}

/// By pairs, a beats b, b beats c and c beats a: c has a better MED than a, within their AS; else the BGP Identifier tells.
#[test]
fn with_med_the_second_is_the_best_of_those_left() {
    let (a, b, c) = (path(1, 1, 20, 1), path(1, 2, 0, 2), path(1, 1, 10, 3));
    check(&[a, b, c], 3, false, &[1, 2, 0]);
    check(&[c, b, a], 3, false, &[1, 0, 2]);
}

proptest! {
    #[test]
    fn like_explaining_again_and_again(
        paths in prop::collection::vec((1u16..3, 0u32..3, 0u32..3, any::<bool>()), 0..8),
        best in 0u8..10,
        all in any::<bool>(),
    ) {
        let paths: Vec<Candidate> = (0..).zip(paths).map(|(id, (len, asn, med, usable))| Candidate {
            ineligible: (!usable).then_some(Ineligible::Filtered),
            ..path(len, asn, med, id)
        }).collect();
        let mut left = paths.clone();
        let mut order = Vec::new();
        while let Some(i) = best::explain(&left).iter().position(|v| matches!(v, Verdict::Best(_))) {
            left[i].ineligible = Some(Ineligible::Filtered);
            order.push(i as u16);
        }
        let ranking = rank(&paths, Depth { best, all });
        let ranked = order.len().min(best.into());
        prop_assert_eq!(&ranking[..ranked], &order[..ranked]);
        prop_assert_eq!(ranking.len(), if all { order.len() } else { ranked });
        let distinct: std::collections::BTreeSet<u16> = ranking.iter().copied().collect();
        prop_assert_eq!(distinct.len(), ranking.len());
    }
}
