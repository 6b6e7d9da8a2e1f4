//! What must be true once nothing has happened for a while.
//!
//! With ADD-PATH a tie may be broken by path identifiers, which depend on what was before. There the oracle has no view of the
//! whole: it starts, at each speaker, from what that one has heard, and says what must follow from it.

use super::network::Network;
use super::oracle::{LocRib, Oracle, Route};
use super::plan::Link;
use super::speaker::Speaker;
use super::*;

/// Usable paths of a speaker, by prefix, the best one first.
type Ranked = BTreeMap<IpNet, Vec<Route>>;

pub(super) fn check(network: &Network) {
    let (topology, speakers) = (network.topology, &network.speakers);
    let oracle = Oracle {
        topology,
        policies: &|at, peer| speakers[at].peers[&peer].policies,
        origins: &network.origins(),
    };
    let ranked: Vec<Ranked> = speakers.iter().map(|s| ranked(s, &oracle)).collect();
    let best = |ranked: &Ranked| -> LocRib {
        let first = ranked.iter().filter(|(_, routes)| !routes.is_empty());
        first.map(|(prefix, r)| (*prefix, r[0].clone())).collect()
    };
    let whole = (!topology.has_add_path()).then(|| oracle.loc_ribs());
    for (at, speaker) in speakers.iter().enumerate() {
        speaker.rib.check();
        let expected = best(&ranked[at]);
        check_loc_rib(at, speaker, &expected);
        if let Some(whole) = &whole {
            assert_eq!(expected, whole[at], "what speaker {at} has heard");
        }
        check_no_loop(at, network);
    }
    for link in &topology.links {
        let [a, b] = link.ends;
        for (from, to) in [(a, b), (b, a)] {
            let said = said(link, (from, to), &oracle, &ranked[from]);
            check_session(from, to, network, &oracle, &said);
        }
    }
}

/// What a speaker has heard, and may use, in the order of preference.
fn ranked(speaker: &Speaker, oracle: &Oracle) -> Ranked {
    let at = speaker.id;
    let mut keyed: BTreeMap<IpNet, Vec<(u32, Route)>> = BTreeMap::new();
    for (peer, peering) in &speaker.peers {
        for (&(prefix, path_id), route) in peering.up.iter().flat_map(|up| &up.heard) {
            let route = oracle.heard((*peer, at), route);
            if oracle.is_usable(at, &prefix, &route) {
                keyed.entry(prefix).or_default().push((path_id, route));
            }
        }
    }
    for prefix in &speaker.origins {
        keyed.entry(*prefix).or_default().push((0, Route::own(at)));
    }
    let sorted = keyed.into_iter().map(|(prefix, mut routes)| {
        routes.sort_by(|(id_a, a), (id_b, b)| {
            let ranks = a.rank(at).partial_cmp(&b.rank(at));
            ranks.expect("ranks are ordered").then(id_a.cmp(id_b))
        });
        (prefix, routes.into_iter().map(|(_, route)| route).collect())
    });
    sorted.collect()
}

/// What one end of a link has to tell the other; of several paths, in no order.
fn said(link: &Link, (from, to): (usize, usize), oracle: &Oracle, ranked: &Ranked) -> Ranked {
    let count = usize::from(link.add_path.unwrap_or(1));
    let passed_on = ranked.iter().map(|(prefix, routes)| {
        let taken = routes.iter().take(count);
        let sent = taken.filter_map(|route| oracle.passed_on(link, from, to, prefix, route));
        (*prefix, sent.collect::<Vec<Route>>())
    });
    passed_on.filter(|(_, routes)| !routes.is_empty()).collect()
}

/// The Loc-RIB is what it should be, and the kernel has it.
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

/// What one end announced is what the other has, what it should be, and what it would be without update groups.
fn check_session(from: usize, to: usize, network: &Network, oracle: &Oracle, said: &Ranked) {
    let (sender, receiver) = (&network.speakers[from], &network.speakers[to]);
    let (Some(there), Some(here)) = (sender.up(to), receiver.up(from)) else {
        panic!("no session from {from} to {to}");
    };
    // The Adj-RIB-In by the plainest means, from the messages; then the RIB's own.
    let heard = here.heard.iter();
    let heard = heard.map(|((prefix, _), route)| (*prefix, oracle.heard((from, to), route)));
    let said = said
        .iter()
        .flat_map(|(p, r)| r.iter().map(|r| (*p, r.clone())));
    assert_eq!(
        in_order(heard),
        in_order(said),
        "what {from} announces to {to}"
    );
    let name = format!("p{from}");
    let paths = receiver.rib.paths(T, None).into_iter();
    let adj_rib_in: BTreeMap<(IpNet, u32), (String, Option<NextHop>)> = paths
        .filter(|path| path.peer.as_deref() == Some(name.as_str()))
        .inspect(|path| assert!(!path.stale, "stale: {path:?}"))
        .map(|path| ((path.prefix, path.path_id), (path.as_path, path.next_hop)))
        .collect();
    let plain = here.heard.iter().map(|(key, (attributes, next_hop))| {
        (*key, (attributes.as_path().to_string(), Some(*next_hop)))
    });
    assert_eq!(
        adj_rib_in,
        plain.collect(),
        "Adj-RIB-In of {to} from {from}"
    );
    // Path identifiers are as old as their paths, so they may be other ones there.
    let without_ids = |routes: &Routes| {
        let routes = routes.iter();
        in_order(routes.map(|((prefix, _), route)| (*prefix, route.clone())))
    };
    assert_eq!(
        without_ids(&solo::output(sender, to, &here.decode)),
        without_ids(&here.heard),
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

/// So that only what there is counts.
fn in_order<R: std::fmt::Debug>(routes: impl Iterator<Item = (IpNet, R)>) -> Vec<(IpNet, String)> {
    let routes = routes.map(|(prefix, route)| (prefix, format!("{route:?}")));
    let mut routes: Vec<(IpNet, String)> = routes.collect();
    routes.sort();
    routes
}

fn words(path: &[u32]) -> String {
    let words: Vec<String> = path.iter().map(u32::to_string).collect();
    words.join(" ")
}
