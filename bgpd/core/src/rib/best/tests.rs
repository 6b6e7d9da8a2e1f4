use super::*;
use proptest::prelude::*;

pub(super) fn path() -> Candidate {
    Candidate {
        ineligible: None,
        local: false,
        local_pref: 100,
        as_path_len: 2,
        origin: 0,
        med: 0,
        neighbor_as: Some(65001),
        ebgp: true,
        igp_cost: 10,
        bgp_id: 0x0a00_0001,
        cluster_list_len: 0,
        peer_address: "192.0.2.1".parse().unwrap(),
        path_id: 0,
    }
}

/// `better` must win over the common path, decided by `step`, in either order.
fn check(step: Step, better: impl Fn(&mut Candidate), worse: impl Fn(&mut Candidate)) {
    let (mut a, mut b) = (path(), path());
    better(&mut a);
    worse(&mut b);
    assert_eq!(
        explain(&[a, b]),
        [Verdict::Best(Some(step)), Verdict::Lost(step)]
    );
    assert_eq!(
        explain(&[b, a]),
        [Verdict::Lost(step), Verdict::Best(Some(step))]
    );
    assert_eq!(select(&[b, a]), Some(1));
}

#[test]
fn every_step_decides_and_beats_all_later_ones() {
    fn worst_after(p: &mut Candidate) {
        p.path_id = 9;
        p.peer_address = "192.0.2.9".parse().unwrap();
    }
    check(
        Step::Local,
        |p| {
            p.local = true;
            worst_after(p);
            p.local_pref = 1
        },
        |_| (),
    );
    check(
        Step::LocalPref,
        |p| {
            p.local_pref = 200;
            p.as_path_len = 9
        },
        |_| (),
    );
    check(
        Step::AsPathLength,
        |p| {
            p.as_path_len = 1;
            p.origin = 2
        },
        |_| (),
    );
    check(Step::Origin, |p| p.med = 7, |p| p.origin = 1);
    check(Step::Med, |p| p.ebgp = false, |p| p.med = 1);
    check(Step::EbgpOverIbgp, |p| p.igp_cost = 99, |p| p.ebgp = false);
    check(Step::IgpCost, |p| p.bgp_id = u32::MAX, |p| p.igp_cost = 11);
    check(Step::BgpId, |p| p.cluster_list_len = 3, |p| p.bgp_id += 1);
    check(
        Step::ClusterListLength,
        |p| p.peer_address = "192.0.2.9".parse().unwrap(),
        |p| p.cluster_list_len = 1,
    );
    check(
        Step::PeerAddress,
        |p| p.path_id = 9,
        |p| p.peer_address = "192.0.2.9".parse().unwrap(),
    );
    check(Step::PathId, |_| (), |p| p.path_id = 1);
}

#[test]
fn ineligible_paths_are_named_and_never_win() {
    for reason in [
        Ineligible::NextHopUnreachable,
        Ineligible::Loop,
        Ineligible::Filtered,
    ] {
        let mut bad = path();
        bad.ineligible = Some(reason);
        bad.local_pref = 1000;
        assert_eq!(
            explain(&[bad, path()]),
            [Verdict::Ineligible(reason), Verdict::Best(None)]
        );
        assert_eq!(select(&[bad]), None);
    }
    assert_eq!(select(&[]), None);
}

/// RFC 4271 §9.1.2.2 c: the classic case in which pairwise comparison depends on the order.
#[test]
fn med_compares_within_one_neighbouring_as_only() {
    let a = Candidate {
        neighbor_as: Some(1),
        med: 10,
        bgp_id: 3,
        ..path()
    };
    let b = Candidate {
        neighbor_as: Some(2),
        med: 0,
        bgp_id: 2,
        ..path()
    };
    let c = Candidate {
        neighbor_as: Some(1),
        med: 5,
        bgp_id: 4,
        ..path()
    };
    assert_eq!(
        explain(&[a, b, c]),
        [
            Verdict::Lost(Step::Med),
            Verdict::Best(Some(Step::BgpId)),
            Verdict::Lost(Step::BgpId)
        ]
    );
}

pub(super) fn candidate() -> impl Strategy<Value = Candidate> {
    (
        (
            prop::option::weighted(0.2, Just(Ineligible::Loop)),
            prop::bool::weighted(0.1),
            99u32..101,
            1u16..3,
            0u8..2,
            0u32..3,
        ),
        (
            prop::option::of(1u32..3),
            any::<bool>(),
            0u32..2,
            0u32..3,
            0u16..2,
            0u8..3,
        ),
    )
        .prop_map(
            |(
                (ineligible, local, local_pref, as_path_len, origin, med),
                (neighbor_as, ebgp, igp_cost, bgp_id, cluster_list_len, host),
            )| {
                Candidate {
                    ineligible,
                    local,
                    local_pref,
                    as_path_len,
                    origin,
                    med,
                    neighbor_as,
                    ebgp,
                    igp_cost,
                    bgp_id,
                    cluster_list_len,
                    peer_address: IpAddr::from([192, 0, 2, host]),
                    path_id: 0,
                }
            },
        )
}

proptest! {
    #[test]
    fn order_of_arrival_does_not_matter(
        (paths, shuffled) in prop::collection::vec(candidate(), 0..7)
            .prop_map(|paths| paths.into_iter().zip(0u32..).map(|(mut p, i)| { p.path_id = i; p }).collect::<Vec<_>>())
            .prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle()))
    ) {
        let winner = |paths: &[Candidate]| select(paths).map(|i| paths[i]);
        prop_assert_eq!(winner(&paths), winner(&shuffled));
    }

    #[test]
    fn exactly_one_best_when_any_is_eligible(mut paths in prop::collection::vec(candidate(), 0..7)) {
        for (path, i) in paths.iter_mut().zip(0u32..) {
            path.path_id = i;
        }
        let best = explain(&paths).iter().filter(|v| matches!(v, Verdict::Best(_))).count();
        prop_assert_eq!(best, usize::from(paths.iter().any(|p| p.ineligible.is_none())));
    }

    /// The short cuts come to where the steps come to.
    #[test]
    fn short_cuts_agree_with_the_steps(mut paths in prop::collection::vec(candidate(), 1..7), no_med in any::<bool>()) {
        if no_med {
            paths.iter_mut().for_each(|p| p.med = 0);
        }
        let all = decide(&paths, |_, _| {});
        prop_assert_eq!(select(&paths), all);
        if let Some((new, others)) = paths.split_last()
            && let Some(best) = decide(others, |_, _| {})
            && let Some(better) = is_better(new, &others[best])
        {
            prop_assert_eq!(all, Some(if better { others.len() } else { best }));
        }
    }
}
