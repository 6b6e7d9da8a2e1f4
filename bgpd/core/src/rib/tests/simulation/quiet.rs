//! What must be true once nothing has happened for a while.

use super::network::Network;
use super::oracle::{LocRib, Oracle, Route};
use super::speaker::Speaker;
use super::*;

pub(super) fn check(network: &Network) {
    let (topology, speakers) = (network.topology, &network.speakers);
    let oracle = Oracle {
        topology,
        policies: &|at, peer| speakers[at].peers[&peer].policies,
        origins: &network.origins(),
    };
    let expected = oracle.loc_ribs();
    for (at, speaker) in speakers.iter().enumerate() {
        speaker.rib.check();
        check_loc_rib(at, speaker, &expected[at]);
        check_no_loop(at, network);
    }
    for link in &topology.links {
        let [a, b] = link.ends;
        for (from, to) in [(a, b), (b, a)] {
            let said = oracle.announced(link, from, to, &expected[from]);
            check_session(from, to, network, &said);
        }
    }
}

/// The Loc-RIB is the oracle's, and the kernel has it.
fn check_loc_rib(at: usize, speaker: &Speaker, expected: &LocRib) {
    let paths = speaker.rib.paths(T, None).into_iter();
    let best: Vec<PathView> = paths
        .filter(|path| matches!(path.verdict, Verdict::Best(_)))
        .collect();
    let found: BTreeMap<IpNet, (String, usize, usize)> = best
        .iter()
        .map(|path| {
            let from = path
                .peer
                .as_ref()
                .map_or(at, |name| name[1..].parse().unwrap());
            let hop = path.next_hop.map_or(at, speaker_of);
            (path.prefix, (path.as_path.clone(), from, hop))
        })
        .collect();
    let expected: BTreeMap<IpNet, (String, usize, usize)> = expected
        .iter()
        .map(|(prefix, route)| (*prefix, (words(&route.path), route.from, route.hop)))
        .collect();
    assert_eq!(found, expected, "Loc-RIB of speaker {at}");
    let learned = best.iter().filter_map(|p| Some((p.prefix, p.next_hop?)));
    let learned: BTreeMap<IpNet, NextHop> = learned.collect();
    assert_eq!(speaker.fib, learned, "kernel of speaker {at}");
}

/// What one end announced is what the other has, what the oracle says, and what it would be without update groups.
fn check_session(from: usize, to: usize, network: &Network, said: &LocRib) {
    let (sender, receiver) = (&network.speakers[from], &network.speakers[to]);
    let there = sender.peers[&to].up.as_ref();
    let here = receiver.peers[&from].up.as_ref();
    let (Some(there), Some(here)) = (there, here) else {
        panic!("no session from {from} to {to}");
    };
    // The Adj-RIB-In by the plainest means, from the messages; then the RIB's own.
    let heard: BTreeMap<IpNet, (String, usize, Option<usize>, Vec<usize>)> = here
        .heard
        .iter()
        .map(|(prefix, (attributes, next_hop))| {
            let id = |id: Ipv4Addr| usize::from(id.octets()[3]) - 1;
            let route = (
                attributes.as_path().to_string(),
                speaker_of(*next_hop),
                attributes.hot().originator_id.map(id),
                attributes.cluster_list().map(id).collect(),
            );
            (*prefix, route)
        })
        .collect();
    let passed = |route: &Route| {
        route.path.contains(&network.topology.asn[to])
            || route.originator == Some(to)
            || route.clusters.contains(&to)
    };
    let looping: BTreeSet<IpNet> = said
        .iter()
        .filter(|(_, route)| passed(route))
        .map(|(prefix, _)| *prefix)
        .collect();
    let of = |route: &Route| {
        (
            words(&route.path),
            route.hop,
            route.originator,
            route.clusters.clone(),
        )
    };
    let said: BTreeMap<_, _> = said.iter().map(|(prefix, r)| (*prefix, of(r))).collect();
    assert_eq!(heard, said, "what {from} announces to {to}");
    let name = format!("p{from}");
    let paths = receiver.rib.paths(T, None).into_iter();
    let adj_rib_in: BTreeMap<IpNet, (String, Option<NextHop>)> = paths
        .filter(|path| path.peer.as_deref() == Some(name.as_str()))
        .inspect(|path| {
            let found = path.verdict == Verdict::Ineligible(Ineligible::Loop);
            assert!(!path.stale, "stale: {path:?}");
            assert_eq!(found, looping.contains(&path.prefix), "loop: {path:?}");
        })
        .map(|path| (path.prefix, (path.as_path, path.next_hop)))
        .collect();
    let plain = here.heard.iter().map(|(prefix, (attributes, next_hop))| {
        (*prefix, (attributes.as_path().to_string(), Some(*next_hop)))
    });
    assert_eq!(
        adj_rib_in,
        plain.collect(),
        "Adj-RIB-In of {to} from {from}"
    );
    assert_eq!(
        solo::output(sender, to, &here.decode),
        here.heard,
        "group output of {from} to {to} is not its output per peer"
    );
    let counted = sender.rib.counters(there.told.session);
    let counted: u64 = counted.iter().flatten().map(|c| c.advertised).sum();
    assert_eq!(
        counted,
        here.heard.len() as u64,
        "Adj-RIB-Out of {from} to {to}"
    );
}

/// No AS is passed twice, and from next hop to next hop a packet comes to where the prefix is originated.
fn check_no_loop(at: usize, network: &Network) {
    let speakers = &network.speakers;
    for path in speakers[at].rib.paths(T, None) {
        let best = matches!(path.verdict, Verdict::Best(_));
        let mut asns: Vec<&str> = path.as_path.split_whitespace().collect();
        asns.dedup();
        let distinct: BTreeSet<&str> = asns.iter().copied().collect();
        assert!(
            !best || distinct.len() == asns.len(),
            "speaker {at}: {} has a loop in {}",
            path.prefix,
            path.as_path
        );
    }
    for prefix in speakers[at].fib.keys() {
        let (mut now, mut hops) = (at, 0);
        while let Some(next_hop) = speakers[now].fib.get(prefix) {
            now = speaker_of(*next_hop);
            hops += 1;
            assert!(hops <= speakers.len(), "packets from {at} to {prefix} loop");
        }
        let origin = speakers[now].origins.contains(prefix);
        assert!(origin, "packets from {at} to {prefix} are lost at {now}");
    }
}

fn words(path: &[u32]) -> String {
    let words: Vec<String> = path.iter().map(u32::to_string).collect();
    words.join(" ")
}
