//! Monitoring: whoever reads walk and changes in turns knows every Adj-RIB-In as it is, before and after policy.

use super::*;
use proptest::prelude::*;

const READER: ReaderId = ReaderId(7);

type Route = (PathAttributes, NextHop);
type Mirror = BTreeMap<(SessionId, IpNet, u32), (Route, Option<Route>)>;

/// Somebody who reads.
#[derive(Default)]
struct Reader {
    mirror: Mirror,
    /// `None`: the walk is through.
    walk: Option<WalkCursor>,
}

impl Reader {
    fn begin(rib: &mut Rib) -> Self {
        rib.begin_reading(READER);
        Self {
            mirror: Mirror::new(),
            walk: Some(WalkCursor::default()),
        }
    }

    fn walk(&mut self, rib: &Rib) {
        if let Some(at) = self.walk {
            let (page, next) = rib.walk(9, at);
            assert!(page.paths.len() < 6 + 4, "{}", page.paths.len());
            self.take(&page);
            self.walk = next;
        }
    }

    /// Whether there is more.
    fn read(&mut self, rib: &mut Rib) -> bool {
        let (page, more) = rib.changes(9, READER).unwrap();
        assert!(page.paths.len() <= 6);
        self.take(&page);
        assert_eq!(more, rib.has_changes(READER));
        more
    }

    fn finish(&mut self, rib: &mut Rib) {
        while self.walk.is_some() {
            self.walk(rib);
        }
        while self.read(rib) {}
    }

    fn take(&mut self, page: &MonitorPage) {
        let set = |i: u32| page.sets[i as usize].clone();
        for path in &page.paths {
            let key = (path.session, path.prefix, path.path_id);
            match path.received {
                Some(received) => self
                    .mirror
                    .insert(key, (set(received), path.accepted.map(set))),
                None => self.mirror.remove(&key),
            };
        }
    }
}

/// What the tables hold, by way of looking in.
fn truth(rib: &Rib) -> Mirror {
    let (mut mirror, mut cursor) = (Mirror::new(), Some(Cursor::default()));
    while let Some(at) = cursor {
        let page = rib.look(9, &RouteQuery::default(), at).unwrap();
        for route in page.routes {
            let (Some(next_hop), Some(session)) = (route.next_hop, rib.session_of(route.peer_id))
            else {
                continue;
            };
            let now = (route.attributes, next_hop);
            let received = route.received;
            let received = received.map_or(now.clone(), |r| (r.attributes, r.next_hop.unwrap()));
            let out = [Ineligible::Filtered, Ineligible::Loop, Ineligible::Leak];
            let is_in = !out.map(Verdict::Ineligible).contains(&route.verdict);
            mirror.insert(
                (session, route.prefix, route.path_id),
                (received, is_in.then_some(now)),
            );
        }
        cursor = page.next;
    }
    mirror
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u64, Vec<u32>, u32),
    Withdraw(u64, Vec<u32>),
    /// A session ends, another one with the same peer begins.
    Flap(u64),
    /// Whether the import policy lets in.
    Policy(u64, bool),
    Work,
    Walk,
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let prefixes = || proptest::collection::vec(0..12u32, 1..6);
    prop_oneof![
        4 => (0..3u64, prefixes(), 0..3u32).prop_map(|(p, n, a)| Step::Announce(p, n, a)),
        2 => (0..3u64, prefixes()).prop_map(|(p, n)| Step::Withdraw(p, n)),
        1 => (0..3u64).prop_map(Step::Flap),
        1 => (0..3u64, any::<bool>()).prop_map(|(p, on)| Step::Policy(p, on)),
        3 => Just(Step::Work),
        2 => Just(Step::Walk),
        4 => Just(Step::Read),
    ]
}

fn update(session: u64, withdrawn: &[u32], announced: &[u32], variant: u32) -> Event {
    let nlri = |n: &[u32]| n.iter().map(|n| Nlri::new(prefix(*n))).collect::<Vec<_>>();
    // The third is a loop.
    let path = [65001, 65002, 65000][variant as usize];
    let update = FamilyUpdate {
        family: Family::Ipv4Unicast,
        withdrawn: nlri(withdrawn),
        announced: nlri(announced),
        attributes: Some((attributes(&[path], None), next_hop(variant as u8))),
    };
    Event::Update(SessionId(session), vec![update])
}

proptest! {
    #[test]
    fn walk_and_changes_add_up_to_the_tables(steps in proptest::collection::vec(step(), 1..60)) {
        let mut rib = Bench::with(true).rib;
        let mut out = Vec::new();
        let mut session = [1u64, 2, 3];
        for (i, id) in session.iter().enumerate() {
            rib.handle(1, Event::PeerUp(Box::new(up(*id, 65001 + i as u32))), &mut out);
        }
        rib.settle(1, update(1, &[], &[0, 1, 2, 3, 4, 5, 6], 0), &mut out);
        let mut reader = Reader::begin(&mut rib);
        for step in steps {
            match step {
                Step::Announce(peer, prefixes, variant) => {
                    rib.handle(2, update(session[peer as usize], &[], &prefixes, variant), &mut out);
                }
                Step::Withdraw(peer, prefixes) => {
                    rib.handle(2, update(session[peer as usize], &prefixes, &[], 0), &mut out);
                }
                Step::Flap(peer) => {
                    let id = &mut session[peer as usize];
                    let gone = SessionId(*id);
                    rib.handle(3, Event::PeerDown(gone, PeerDown::Purge), &mut out);
                    // As a collector does that hears of it.
                    reader.mirror.retain(|(session, ..), _| *session != gone);
                    *id += 10;
                    rib.handle(3, Event::PeerUp(Box::new(up(*id, 65001 + peer as u32))), &mut out);
                }
                Step::Policy(peer, on) => {
                    let import = if on { Builtin::AcceptAll } else { Builtin::RejectAll };
                    let (import, export) = (Chain::new(&[import]), Chain::new(&[Builtin::AcceptAll]));
                    let session = SessionId(session[peer as usize]);
                    rib.handle(4, Event::Policies(session, import, export, Relation::default()), &mut out);
                }
                Step::Work => drop(rib.work(&mut out)),
                Step::Walk => reader.walk(&rib),
                Step::Read => drop(reader.read(&mut rib)),
            }
        }
        while rib.work(&mut out) {}
        reader.finish(&mut rib);
        prop_assert_eq!(&reader.mirror, &truth(&rib));
        rib.end_reading(READER);
        prop_assert!(rib.changes_kept() == 0);
        rib.check();
    }
}

#[test]
fn without_a_reader_nothing_is_kept_and_a_slow_one_is_cut_off() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    bench.announce(1, &[prefix(1)], &attributes(&[65001], None), next_hop(1));
    assert_eq!(bench.rib.changes_kept(), 0);
    bench.rib.begin_reading(READER);
    bench.rib.begin_reading(ReaderId(8));
    for round in 0..40 {
        let changed = attributes(&[65001], Some(round));
        bench.announce(1, &[prefix(1), prefix(2)], &changed, next_hop(1));
        while bench.rib.changes(1, READER).unwrap().1 {}
    }
    assert!(bench.rib.changes_kept() <= 64);
    assert_eq!(bench.rib.changes(1, ReaderId(8)), Err(Overrun));
    assert!(bench.rib.changes(1, READER).is_ok());
    assert_eq!(bench.rib.changes_kept(), 0);
}

#[test]
fn what_was_repeated_is_no_change() {
    let mut bench = Bench::with(true);
    bench.up(up(1, 65001));
    let same = attributes(&[65001], None);
    bench.announce(1, &[prefix(1)], &same, next_hop(1));
    bench.rib.begin_reading(READER);
    bench.announce(1, &[prefix(1)], &same, next_hop(1));
    assert!(!bench.rib.has_changes(READER));
    bench.announce(1, &[prefix(1)], &same, next_hop(2));
    assert!(bench.rib.has_changes(READER));
}

#[test]
fn numbers_of_a_session() {
    let mut bench = Bench::with(true);
    bench.up(PeerUp {
        import: Chain::new(&[Builtin::Default]),
        ..up(1, 65001)
    });
    bench.up(up(2, 65002));
    let many: Vec<IpNet> = (0..5).map(prefix).collect();
    bench.announce(1, &many, &attributes(&[65001], None), next_hop(1));
    let looped = attributes(&[65002, 65000], None);
    bench.announce(2, &many[..2], &looped, next_hop(2));
    bench.announce(2, &many[2..], &attributes(&[65002], None), next_hop(2));
    let of = |bench: &Bench, session| bench.rib.statistics(SessionId(session)).unwrap();
    let one = of(&bench, 1);
    assert_eq!((one.import.rejected, one.import.as_path_loops), (5, 0));
    assert_eq!(one.received, [Some(5), Some(0)]);
    let two = of(&bench, 2);
    assert_eq!((two.import.rejected, two.import.as_path_loops), (0, 1));
    assert_eq!((two.received[0], two.chosen), (Some(5), [3, 0]));
    bench.withdraw(2, &many);
    assert_eq!(of(&bench, 2).chosen, [0, 0]);
    bench.event(Event::PeerDown(SessionId(2), PeerDown::Purge));
    assert_eq!(bench.rib.statistics(SessionId(2)), None);
}
