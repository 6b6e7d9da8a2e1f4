//! ADD-PATH (RFC 7911): what a path identifier stands for, in and out.

use proptest::prelude::*;

use super::*;
use crate::rib::table::MAX_PATHS_OF_PEER;

/// A peer that sends several paths, and takes those of `selection`.
fn several(session: u64, remote_as: u32, selection: PathSelection) -> PeerUp {
    PeerUp {
        encode: EncodeContext {
            add_path: [true; 2],
            ..encode()
        },
        relation: Relation {
            add_path: [selection; 2],
            ..Relation::default()
        },
        ..up(session, remote_as)
    }
}

/// An AS_PATH of this length, marked.
fn path(session: u64, len: usize, mark: u32) -> PathAttributes {
    let asns: Vec<u32> = (0..len as u32)
        .map(|i| 65000 + session as u32 + i * 100)
        .collect();
    attributes(&asns, None)
        .edit()
        .set_communities(&[mark])
        .build()
}

fn nlri(n: u32, path_id: u32) -> Nlri {
    Nlri {
        path_id,
        prefix: prefix(n),
    }
}

impl Bench {
    fn send(&mut self, session: u64, announced: Vec<Nlri>, attributes: &PathAttributes) {
        self.both(session, vec![], announced, attributes);
    }

    fn both(
        &mut self,
        session: u64,
        withdrawn: Vec<Nlri>,
        announced: Vec<Nlri>,
        attributes: &PathAttributes,
    ) {
        let attributes =
            (!announced.is_empty()).then(|| (attributes.clone(), next_hop(session as u8)));
        let update = FamilyUpdate {
            family: Family::Ipv4Unicast,
            withdrawn,
            announced,
            attributes,
        };
        self.event(Event::Update(SessionId(session), vec![update]));
    }

    fn unsend(&mut self, session: u64, withdrawn: Vec<Nlri>) {
        self.both(session, withdrawn, vec![], &attributes(&[], None));
    }

    /// What a session holds of a prefix: path identifiers by mark.
    fn ids(&self, session: u64, n: u32) -> BTreeMap<u32, u32> {
        let held = self.paths.get(&session).into_iter().flatten();
        let held = held.filter(|((net, _), _)| *net == prefix(n));
        let marked: Vec<(u32, u32)> = held
            .map(|((_, id), (attributes, _))| (attributes.communities().next().unwrap_or(0), *id))
            .collect();
        assert!(marked.iter().all(|(_, id)| *id != 0));
        let ids: BTreeMap<u32, u32> = marked.iter().copied().collect();
        assert_eq!(ids.len(), marked.len(), "each path once: {marked:?}");
        ids
    }

    fn marks(&self, session: u64, n: u32) -> Vec<u32> {
        self.ids(session, n).into_keys().collect()
    }

    fn select(&mut self, session: u64, remote_as: u32, selection: PathSelection, export: Chain) {
        let up = several(session, remote_as, selection);
        let event = Event::Policies(SessionId(session), up.import, export, up.relation);
        self.event(event);
    }
}

/// Two plain upstream peers, and one that takes all paths.
fn upstreams() -> Bench {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.up(several(3, 65003, PathSelection::All));
    bench.send(1, vec![nlri(1, 0)], &path(1, 1, 1));
    bench.send(2, vec![nlri(1, 0)], &path(2, 2, 2));
    bench
}

#[test]
fn all_paths_are_sent_and_each_keeps_its_id() {
    let mut bench = upstreams();
    let before = bench.ids(3, 1);
    assert_eq!(bench.marks(3, 1), [1, 2]);
    assert_eq!(bench.paths[&2].len(), 1, "a plain peer has one path");
    // The other becomes the best.
    let messages = bench.messages[&3];
    bench.send(1, vec![nlri(1, 0)], &path(1, 3, 1));
    assert_eq!(bench.ids(3, 1), before);
    assert_eq!(bench.messages[&3], messages + 1, "the one that changed");
    bench.unsend(1, vec![nlri(1, 0)]);
    assert_eq!(bench.ids(3, 1), BTreeMap::from([(2, before[&2])]));
    bench.unsend(2, vec![nlri(1, 0)]);
    assert!(bench.ids(3, 1).is_empty());
    assert_eq!(bench.rib.summary().prefixes, 0);
}

#[test]
fn another_selection_or_policy_changes_no_id() {
    let mut bench = upstreams();
    let all = bench.ids(3, 1);
    let accept = Chain::new(&[Builtin::AcceptAll]);
    bench.select(3, 65003, PathSelection::Best(1), accept.clone());
    assert_eq!(bench.ids(3, 1), BTreeMap::from([(1, all[&1])]));
    bench.select(3, 65003, PathSelection::Best(2), accept.clone());
    assert_eq!(bench.ids(3, 1), all);
    bench.select(
        3,
        65003,
        PathSelection::All,
        Chain::new(&[Builtin::RejectAll]),
    );
    assert!(bench.ids(3, 1).is_empty());
    bench.select(3, 65003, PathSelection::All, accept);
    assert_eq!(bench.ids(3, 1), all);
    // A peer that comes later has the same ones.
    bench.up(several(4, 65004, PathSelection::Best(3)));
    assert_eq!(bench.ids(4, 1), all);
}

#[test]
fn the_best_n_are_those_of_the_moment() {
    let mut bench = upstreams();
    bench.up(several(4, 65004, PathSelection::Best(2)));
    bench.up(several(5, 65005, PathSelection::All));
    // A third, better than the second.
    bench.send(5, vec![nlri(1, 7)], &path(5, 1, 57));
    assert_eq!(bench.marks(4, 1), [1, 57]);
    assert_eq!(bench.marks(3, 1), [1, 2, 57]);
    assert_eq!(bench.marks(5, 1), [1, 2], "not its own");
    bench.unsend(1, vec![nlri(1, 0)]);
    assert_eq!(bench.marks(4, 1), [2, 57]);
    // Worse than it was: no more among the two.
    bench.send(1, vec![nlri(1, 0)], &path(1, 3, 1));
    assert_eq!(bench.marks(4, 1), [2, 57]);
}

/// The best path stays, and still there is something to say.
#[test]
fn what_a_next_hop_does_to_other_paths_is_heard() {
    let mut bench = Bench::new();
    bench.up(up(1, 65001));
    bench.up(up(2, 65002));
    bench.up(several(3, 65003, PathSelection::All));
    bench.send(1, vec![nlri(1, 0)], &path(1, 1, 1));
    bench.send(2, vec![nlri(1, 0)], &path(2, 2, 2));
    assert!(bench.marks(3, 1).is_empty());
    bench.resolve(next_hop(1), 0);
    assert_eq!(bench.marks(3, 1), [1]);
    bench.resolve(next_hop(2), 0);
    let both = bench.ids(3, 1);
    assert_eq!(both.len(), 2);
    bench.event(Event::NextHops(vec![(
        next_hop(2),
        NextHopState::Unresolved,
    )]));
    assert_eq!(bench.marks(3, 1), [1]);
    bench.resolve(next_hop(2), 0);
    assert_eq!(bench.ids(3, 1), both);
}

/// A group is filled while a next hop is resolved and the choice still to be made anew; then it is not resolved any more.
#[test]
fn a_path_that_no_choice_took_is_not_sent() {
    let mut bench = Bench::new();
    let receiver = several(3, 65003, PathSelection::All);
    bench.note(&Event::PeerUp(Box::new(receiver.clone())));
    let update = FamilyUpdate {
        family: Family::Ipv4Unicast,
        withdrawn: vec![],
        announced: vec![nlri(1, 0)],
        attributes: Some((path(1, 1, 1), next_hop(1))),
    };
    let resolved = NextHopState::Resolved { igp_cost: 0 };
    let mut out = Vec::new();
    for event in [
        Event::PeerUp(Box::new(receiver)),
        Event::PeerUp(Box::new(up(1, 65001))),
        Event::Update(SessionId(1), vec![update]),
        Event::NextHops(vec![(next_hop(1), resolved)]),
    ] {
        bench.rib.handle(1, event, &mut out);
    }
    bench.rib.work(&mut out);
    out.into_iter().for_each(|output| bench.take(output));
    bench.event(Event::NextHops(vec![(
        next_hop(1),
        NextHopState::Unresolved,
    )]));
    bench.event(Event::Permit(SessionId(3), 100));
    assert!(bench.ids(3, 1).is_empty());
}

#[test]
fn a_received_path_is_known_by_peer_and_id() {
    let mut bench = Bench::with(true);
    bench.up(several(1, 65001, PathSelection::All));
    bench.up(several(2, 65002, PathSelection::All));
    bench.up(several(3, 65003, PathSelection::All));
    bench.send(1, vec![nlri(1, 1), nlri(1, 2), nlri(2, 1)], &path(1, 1, 1));
    bench.send(2, vec![nlri(1, 1)], &path(2, 1, 21));
    // Implicit withdraw of one of them.
    bench.send(1, vec![nlri(1, 2)], &path(1, 2, 12));
    assert_eq!(bench.marks(3, 1), [1, 12, 21]);
    // Withdrawn and announced in one UPDATE is announced (RFC 4271 §4.3); twice is once.
    let twice = vec![nlri(1, 2), nlri(1, 2)];
    bench.both(1, vec![nlri(1, 2), nlri(1, 9)], twice, &path(1, 2, 112));
    assert_eq!(bench.marks(3, 1), [1, 21, 112]);
    let received = |bench: &Bench| bench.rib.counters(SessionId(1))[0].unwrap().received;
    assert_eq!(received(&bench), 3, "paths are counted");
    assert_eq!(bench.rib.counters(SessionId(3))[0].unwrap().advertised, 4);
    // A refresh that repeats one of three.
    let family = Family::Ipv4Unicast;
    bench.event(Event::RefreshBegin(SessionId(1), family));
    bench.send(1, vec![nlri(1, 2)], &path(1, 2, 112));
    bench.event(Event::RefreshEnd(SessionId(1), family));
    assert_eq!((received(&bench), bench.marks(3, 1)), (1, vec![21, 112]));
    bench.event(Event::PeerDown(SessionId(1), PeerDown::Purge));
    assert_eq!(bench.marks(3, 1), [21]);
}

/// Whatever a peer sends, the work for one prefix has its bound; it may begin anew with other ids.
#[test]
fn paths_of_one_prefix_have_their_bound() {
    let mut bench = Bench::with(true);
    bench.up(several(1, 65001, PathSelection::All));
    bench.up(several(2, 65002, PathSelection::All));
    bench.up(up(3, 65003));
    let many = (0..20).map(|id| nlri(1, id)).collect();
    bench.send(1, many, &path(1, 1, 1));
    bench.send(3, vec![nlri(1, 0)], &path(3, 2, 3));
    let counters = |bench: &Bench| bench.rib.counters(SessionId(1))[0].unwrap();
    let bound = MAX_PATHS_OF_PEER as u64;
    assert_eq!(counters(&bench).received, bound);
    assert_eq!(counters(&bench).refused, 20 - bound);
    let held = bench.paths[&2].len();
    assert_eq!(held, MAX_PATHS_OF_PEER + 1, "others have room");
    bench.unsend(1, (0..20).map(|id| nlri(1, id)).collect());
    assert_eq!((counters(&bench).received, bench.paths[&2].len()), (0, 1));
    // Ids come and go, and nothing grows.
    for round in 0..50 {
        let ids = || (0..4).map(|i| nlri(1, 100 + 4 * round + i));
        bench.send(1, ids().collect(), &path(1, 1, 1));
        bench.unsend(1, ids().collect());
    }
    let used: BTreeSet<u32> = bench.paths[&2].keys().map(|(_, id)| *id).collect();
    assert!(used.iter().all(|id| *id <= 2 + bound as u32), "{used:?}");
}

/// A member that does not read still believes in what it has: no id it knows is given to another prefix.
#[test]
fn ids_are_not_used_again_while_a_member_is_behind() {
    let mut bench = upstreams();
    let deaf = several(4, 65004, PathSelection::All);
    bench.event(Event::PeerUp(Box::new(deaf)));
    bench.event(Event::Permit(SessionId(4), 3));
    let held = bench.ids(4, 1);
    assert_eq!(held, bench.ids(3, 1));
    bench.unsend(1, vec![nlri(1, 0)]);
    bench.unsend(2, vec![nlri(1, 0)]);
    bench.send(1, vec![nlri(2, 0), nlri(3, 0)], &path(1, 1, 1));
    for n in [2, 3] {
        assert!(
            bench
                .ids(3, n)
                .values()
                .all(|id| !held.values().any(|h| h == id))
        );
    }
    bench.event(Event::Permit(SessionId(4), 1000));
    assert_eq!(
        (bench.ids(4, 1).len(), bench.ids(4, 2)),
        (0, bench.ids(3, 2))
    );
    // Nobody is behind: the two ids are free.
    bench.event(Event::Tick);
    bench.send(1, vec![nlri(4, 0), nlri(5, 0)], &path(1, 1, 1));
    let again: BTreeSet<u32> = [4, 5]
        .iter()
        .flat_map(|n| bench.ids(3, *n).into_values())
        .collect();
    assert_eq!(again, held.into_values().collect());
}

/// Rules are asked for each path by itself.
#[test]
fn communities_roles_and_reflection_are_asked_for_each_path() {
    let mut bench = upstreams();
    bench.up(several(4, 65000, PathSelection::All));
    bench.up(PeerUp {
        relation: Relation {
            role: Some(crate::negotiation::Role::Peer),
            ..Relation::default()
        },
        ..several(5, 65005, PathSelection::default())
    });
    bench.up(up(6, 65000));
    const NO_EXPORT: u32 = 0xffff_ff01;
    bench.send(1, vec![nlri(1, 0)], &path(1, 1, NO_EXPORT));
    assert_eq!(bench.marks(3, 1), [2], "not beyond our AS");
    assert_eq!(bench.marks(4, 1), [2, NO_EXPORT]);
    let otc = path(2, 2, 2)
        .edit()
        .set_only_to_customer(Some(65002))
        .build();
    bench.send(2, vec![nlri(1, 0)], &otc);
    assert!(bench.marks(5, 1).is_empty(), "a peer is no customer");
    bench.send(6, vec![nlri(1, 0)], &path(6, 0, 6));
    assert_eq!(bench.marks(3, 1), [2, 6]);
    assert_eq!(bench.marks(4, 1), [2, NO_EXPORT], "iBGP tells iBGP nothing");
    assert_eq!(bench.marks(5, 1), [6]);
}

#[test]
fn looking_in_shows_ids_and_why_a_path_is_not_sent() {
    let mut bench = upstreams();
    bench.up(several(4, 65004, PathSelection::Best(2)));
    bench.up(several(5, 65005, PathSelection::All));
    bench.send(5, vec![nlri(1, 7)], &path(5, 3, 57));
    bench.send(5, vec![nlri(1, 8)], &path(5, 1, 0xffff_ff01));
    bench.send(5, vec![nlri(1, 9)], &attributes(&[65000], None));
    let look = |peer: &str, near: Option<&str>| -> BTreeMap<(String, u32), String> {
        let routes = bench.look(Side::Advertised(peer.into()), near);
        let said = |r: &RouteDetail| match r.sent.as_ref().unwrap() {
            Ok(sent) => format!("sent as {}", sent.path_id),
            Err(why) => why.to_string(),
        };
        let key = |r: &RouteDetail| (r.peer.as_ref().unwrap().to_string(), r.path_id);
        routes.iter().map(|r| (key(r), said(r))).collect()
    };
    let sent = |id: u32| format!("sent as {id}");
    let row = |peer: &str, id: u32, said: &str| ((peer.to_owned(), id), said.to_owned());
    let ids = bench.ids(3, 1);
    assert_eq!(
        look("p4", Some("10.0.1.0/24")),
        BTreeMap::from([
            row("p1", 0, &sent(ids[&1])),
            row("p2", 0, "not among the 2 best paths"),
            row("p5", 7, "not among the 2 best paths"),
            row("p5", 8, "well-known community NO_EXPORT"),
            row("p5", 9, "not eligible: our AS or id is in its path"),
        ])
    );
    assert_eq!(
        look("p5", Some("10.0.1.0/24"))[&("p5".to_owned(), 7)],
        "split horizon: the peer is its source"
    );
    assert_eq!(
        look("p3", None),
        BTreeMap::from([
            row("p1", 0, &sent(ids[&1])),
            row("p2", 0, &sent(ids[&2])),
            row("p5", 7, &sent(ids[&57])),
        ])
    );
    assert_eq!(
        look("p1", Some("10.0.1.0/24"))[&("p2".to_owned(), 0)],
        "not the best path"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A path that lives through an event, and is sent before and after, has the id that it had.
    #[test]
    fn ids_are_stable(ops in prop::collection::vec(
        (1u64..4, 0u32..4, 0u32..3, prop::option::of(1usize..4), 0u8..20), 1..60,
    )) {
        let mut bench = Bench::with(true);
        for session in 1..4 {
            bench.up(several(session, 65000 + session as u32, PathSelection::Best(session as u8)));
        }
        let mut held: [BTreeMap<(u64, u32, u32), u32>; 4] = Default::default();
        for (session, n, path_id, announced, more) in ops {
            let of = |session: u64| (session as u32) << 16 | path_id;
            match announced {
                Some(len) => bench.send(session, vec![nlri(n, path_id)], &path(session, len, of(session))),
                None => bench.unsend(session, vec![nlri(n, path_id)]),
            }
            let receiver = 1 + u64::from(more) % 3;
            match more {
                0..3 => bench.select(receiver, 65000 + receiver as u32, PathSelection::All, Chain::new(&[Builtin::AcceptAll])),
                3..6 => bench.select(receiver, 65000 + receiver as u32, PathSelection::Best(2), Chain::new(&[Builtin::AcceptAll])),
                6..8 => bench.event(Event::RefreshRequest(SessionId(receiver), Family::Ipv4Unicast)),
                _ => {}
            }
            for receiver in 1..4 {
                let now: BTreeMap<(u64, u32, u32), u32> = (0..4).flat_map(|n| {
                    let ids = bench.ids(receiver, n).into_iter();
                    ids.map(move |(mark, id)| ((u64::from(mark >> 16), mark & 0xffff, n), id)).collect::<Vec<_>>()
                }).collect();
                for (path, id) in &held[receiver as usize] {
                    prop_assert!(now.get(path).is_none_or(|now| now == id), "{:?}: {} is {:?}", path, id, now.get(path));
                    if announced.is_none() && *path == (session, path_id, n) {
                        prop_assert!(!now.contains_key(path));
                    }
                }
                held[receiver as usize] = now;
            }
        }
    }
}
