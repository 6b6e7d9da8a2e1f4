//! What the kernel is told when several paths share the traffic of a prefix.

use super::*;

const RULES: Multipath = Multipath {
    max_paths: 3,
    max_paths_ibgp: 2,
    as_path_relax: false,
    link_bandwidth: true,
};

/// A RIB with eBGP peers 1 to 4 of one AS; next hops .1 to .4 resolve.
fn fabric(rules: Multipath) -> Bench {
    let mut bench = Bench::new();
    bench.event(Event::Multipath(rules));
    for n in 1..=4u8 {
        bench.up(up(n.into(), 65001));
    }
    bench
}

fn learn(bench: &mut Bench, peer: u8, attributes: &PathAttributes) {
    bench.announce(peer.into(), &[prefix(1)], attributes, next_hop(peer));
    bench.resolve(next_hop(peer), 0);
}

/// Last octets of the next hops that were told last, with their weights.
fn told(bench: &Bench) -> Vec<(u8, u16)> {
    let told = bench.shared.get(&prefix(1)).cloned().unwrap_or_default();
    let last = |forward: Forward| match forward.next_hop {
        NextHop::V4(address) => (address.octets()[3], forward.weight),
        NextHop::V6 { .. } => panic!("{forward:?}"),
    };
    told.into_iter().map(last).collect()
}

fn with_bandwidth(bandwidth: f32) -> PathAttributes {
    let [a, b, c, d] = bandwidth.to_be_bytes();
    let mut editor = attributes(&[65001], None).edit();
    editor.set_ext_communities(&[[0x40, 4, 0xfd, 0xe9, a, b, c, d]]);
    editor.build()
}

#[test]
fn the_kernel_hears_of_those_that_come_change_and_go() {
    let mut bench = fabric(RULES);
    let plain = attributes(&[65001], None);
    learn(&mut bench, 2, &plain);
    assert_eq!(told(&bench), [(2, 1)]);
    learn(&mut bench, 3, &plain);
    assert_eq!(told(&bench), [(2, 1), (3, 1)]);
    learn(&mut bench, 4, &plain);
    learn(&mut bench, 1, &plain);
    assert_eq!(told(&bench), [(1, 1), (2, 1), (3, 1)], "three at most");
    // One that shares, but is not best, goes; the fourth moves up.
    bench.withdraw(2, &[prefix(1)]);
    assert_eq!(told(&bench), [(1, 1), (3, 1), (4, 1)]);
    // Its attributes change so that it shares no more.
    learn(&mut bench, 3, &attributes(&[65001, 65009], None));
    assert_eq!(told(&bench), [(1, 1), (4, 1)]);
    // Its next hop goes and comes.
    bench.event(Event::NextHops(vec![(
        next_hop(4),
        NextHopState::Unresolved,
    )]));
    assert_eq!(told(&bench), [(1, 1)]);
    bench.resolve(next_hop(4), 0);
    assert_eq!(told(&bench), [(1, 1), (4, 1)]);
    // A session ends.
    bench.event(Event::PeerDown(SessionId(4), PeerDown::Purge));
    assert_eq!(told(&bench), [(1, 1)]);
    // Peers were sent the best path alone, all along.
    assert_eq!(bench.sent[&3][&prefix(1)].0.hot().as_path_len, 2);
}

#[test]
fn what_was_said_already_is_not_told_again() {
    let mut bench = fabric(RULES);
    let plain = attributes(&[65001], None);
    learn(&mut bench, 1, &plain);
    learn(&mut bench, 2, &plain);
    bench.shared.clear();
    learn(&mut bench, 2, &plain);
    learn(&mut bench, 3, &attributes(&[65001, 65001], None));
    assert_eq!(bench.shared.len(), 0, "nothing that concerns the kernel");
}

#[test]
fn rules_change_while_it_runs() {
    let mut bench = fabric(Multipath::OFF);
    learn(&mut bench, 1, &attributes(&[65001, 65007], None));
    learn(&mut bench, 2, &attributes(&[65001, 65008], None));
    assert_eq!(told(&bench), [(1, 1)]);
    bench.event(Event::Multipath(RULES));
    assert_eq!(told(&bench), [(1, 1)], "another AS_PATH");
    let relaxed = Multipath {
        as_path_relax: true,
        ..RULES
    };
    bench.event(Event::Multipath(relaxed));
    assert_eq!(told(&bench), [(1, 1), (2, 1)]);
    bench.event(Event::Multipath(Multipath::OFF));
    assert_eq!(told(&bench), [(1, 1)]);
}

#[test]
fn import_policies_decide_who_shares() {
    let mut bench = fabric(RULES);
    let plain = attributes(&[65001], None);
    learn(&mut bench, 1, &plain);
    learn(&mut bench, 2, &plain);
    let policies = |import: &[Builtin]| {
        let (import, all) = (Chain::new(import), Chain::new(&[Builtin::AcceptAll]));
        Event::Policies(SessionId(2), import, all, Default::default())
    };
    bench.event(policies(&[]));
    assert_eq!(told(&bench), [(1, 1)]);
    bench.event(policies(&[Builtin::AcceptAll]));
    assert_eq!(told(&bench), [(1, 1), (2, 1)]);
}

#[test]
fn weights_follow_link_bandwidth_when_all_have_it() {
    let mut bench = fabric(RULES);
    learn(&mut bench, 1, &with_bandwidth(1.25e9));
    learn(&mut bench, 2, &with_bandwidth(5e9));
    assert_eq!(told(&bench), [(1, 1), (2, 4)]);
    learn(&mut bench, 2, &with_bandwidth(2.5e9));
    assert_eq!(told(&bench), [(1, 1), (2, 2)]);
    learn(&mut bench, 3, &attributes(&[65001], None));
    assert_eq!(told(&bench), [(1, 1), (2, 1), (3, 1)]);
    bench.withdraw(3, &[prefix(1)]);
    bench.event(Event::Multipath(Multipath {
        link_bandwidth: false,
        ..RULES
    }));
    assert_eq!(told(&bench), [(1, 1), (2, 1)]);
}

/// A path that MED keeps out comes in when the one that beat it goes, though neither was best.
#[test]
fn a_path_that_only_med_kept_out_comes_in() {
    let mut bench = fabric(Multipath {
        as_path_relax: true,
        ..RULES
    });
    learn(&mut bench, 1, &attributes(&[65001], None));
    learn(&mut bench, 2, &attributes(&[65002], Some(5)));
    learn(&mut bench, 3, &attributes(&[65002], Some(3)));
    assert_eq!(told(&bench), [(1, 1), (3, 1)]);
    // It becomes the dearer way, and still beats the other one's MED.
    bench.resolve(next_hop(3), 10);
    assert_eq!(told(&bench), [(1, 1)]);
    bench.withdraw(3, &[prefix(1)]);
    assert_eq!(told(&bench), [(1, 1), (2, 1)]);
}

#[test]
fn views_say_who_shares_and_why_the_others_do_not() {
    let mut bench = fabric(RULES);
    let plain = attributes(&[65001], None);
    for peer in 1..=4 {
        learn(&mut bench, peer, &plain);
    }
    let paths = bench.rib.paths(T, None);
    let said: Vec<String> = paths.iter().map(|path| path.verdict.to_string()).collect();
    assert_eq!(
        said,
        [
            "best: BGP Identifier",
            "multipath: not best by BGP Identifier alone",
            "multipath: not best by BGP Identifier alone",
            "not best: BGP Identifier; not multipath: as many paths as may be",
        ]
    );
}
