//! Two peers and a network between them, in memory: every delay is drawn from a seed, bytes of one connection keep
//! their order, and time only moves from event to event.

use super::*;
use crate::fsm::conn::Phase;
use crate::fsm::timer::Jitter;

/// One TCP connection; index 0 of the arrays is peer A's end.
struct Link {
    dialler: usize,
    ids: [Option<ConnId>; 2],
    closed: [bool; 2],
    /// When the last thing towards each end arrives.
    last: [Instant; 2],
    /// Nothing arrives any more, and nobody is told.
    silent: bool,
}

enum Arrival {
    Syn,
    Connected,
    Data(Message),
    Fin,
}

struct Pair {
    peers: [Peer; 2],
    now: Instant,
    links: Vec<Link>,
    /// Due time, tie-breaking number, link, receiving end, what.
    flight: Vec<(Instant, usize, usize, usize, Arrival)>,
    sequence: usize,
    jitter: Jitter,
    longest_delay: Duration,
    cut: bool,
    ups: [u32; 2],
    downs: [u32; 2],
}

impl Pair {
    fn new(a: PeerSettings, b: PeerSettings, seed: u64, longest_delay: Duration) -> Pair {
        let now = Instant::now();
        Pair {
            peers: [
                Peer::new(a, now, seed * 2 + 1),
                Peer::new(b, now, seed * 2 + 2),
            ],
            now,
            links: Vec::new(),
            flight: Vec::new(),
            sequence: 0,
            jitter: Jitter::new(seed + 1),
            longest_delay,
            cut: false,
            ups: [0; 2],
            downs: [0; 2],
        }
    }

    fn started(a: PeerSettings, b: PeerSettings, seed: u64, longest_delay: Duration) -> Pair {
        let mut pair = Pair::new(a, b, seed, longest_delay);
        for end in 0..2 {
            pair.feed(end, Input::ManualStart);
        }
        pair
    }

    fn feed(&mut self, end: usize, input: Input) {
        let mut outputs = Vec::new();
        self.peers[end].handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Connect { conn } => {
                    let mut ids = [None; 2];
                    ids[end] = Some(conn);
                    let link = Link {
                        dialler: end,
                        ids,
                        closed: [false; 2],
                        last: [self.now; 2],
                        silent: false,
                    };
                    self.links.push(link);
                    self.launch(self.links.len() - 1, 1 - end, Arrival::Syn);
                }
                Output::Send { conn, message } => {
                    let link = self.link(end, conn);
                    assert!(
                        !self.links[link].closed[end],
                        "nothing is sent on a closed connection"
                    );
                    self.launch(link, 1 - end, Arrival::Data(message));
                    self.feed(end, Input::WriteProgress { conn });
                }
                Output::Close { conn } => {
                    let link = self.link(end, conn);
                    if !std::mem::replace(&mut self.links[link].closed[end], true) {
                        self.launch(link, 1 - end, Arrival::Fin);
                    }
                }
                Output::Established { .. } => self.ups[end] += 1,
                Output::Down { .. } => self.downs[end] += 1,
                _ => {}
            }
        }
    }

    fn link(&self, end: usize, conn: ConnId) -> usize {
        let found = self
            .links
            .iter()
            .rposition(|link| link.ids[end] == Some(conn));
        found.expect("an output names a connection that exists")
    }

    fn launch(&mut self, link: usize, to: usize, what: Arrival) {
        // Between three quarters and the whole is too regular for a network: three draws, mostly of the remainder.
        let whole = self.longest_delay;
        let delay = (self.jitter.apply(whole) - whole * 3 / 4) * 4;
        let at = (self.now + delay).max(self.links[link].last[to]);
        self.links[link].last[to] = at;
        self.sequence += 1;
        self.flight.push((at, self.sequence, link, to, what));
    }

    fn arrive(&mut self, link: usize, to: usize, what: Arrival) {
        if self.cut || self.links[link].silent || self.links[link].closed[to] {
            return;
        }
        let (local, remote) = (addr(1), addr(2));
        match (what, self.links[link].ids[to]) {
            (Arrival::Syn, _) => {
                let conn = self.peers[to].next_incoming();
                self.links[link].ids[to] = Some(conn);
                let dialler = self.links[link].dialler;
                self.launch(link, dialler, Arrival::Connected);
                self.feed(
                    to,
                    Input::TcpAccepted {
                        conn,
                        local,
                        remote,
                    },
                );
            }
            (Arrival::Connected, Some(conn)) => self.feed(
                to,
                Input::TcpConnected {
                    conn,
                    local,
                    remote,
                },
            ),
            (Arrival::Data(Message::Open(open)), Some(conn)) => {
                self.feed(to, Input::Open { conn, open })
            }
            (Arrival::Data(Message::Keepalive), Some(conn)) => {
                self.feed(to, Input::Keepalive { conn })
            }
            (Arrival::Data(Message::Notification(notification)), Some(conn)) => {
                self.feed(to, Input::Notification { conn, notification });
            }
            (Arrival::Fin, Some(conn)) => {
                self.feed(
                    to,
                    Input::TcpClosed {
                        conn,
                        reason: "end of file".into(),
                    },
                );
            }
            (_, None) => {}
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let next =
                (0..self.flight.len()).min_by_key(|i| (self.flight[*i].0, self.flight[*i].1));
            let arrival = next.map(|i| self.flight[i].0);
            let deadline = self.peers.iter().filter_map(Peer::next_deadline).min();
            let Some(at) = arrival
                .into_iter()
                .chain(deadline)
                .min()
                .filter(|at| *at <= end)
            else {
                self.now = end;
                return;
            };
            self.now = at.max(self.now);
            if let Some(i) = next.filter(|_| arrival == Some(at)) {
                let (_, _, link, to, what) = self.flight.remove(i);
                self.arrive(link, to, what);
            } else {
                for end in 0..2 {
                    self.feed(end, Input::Tick);
                }
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.peers[0].state(), self.peers[1].state()]
    }

    fn assert_one_session(&self, context: &str) {
        assert_eq!(self.states(), [State::Established; 2], "{context}");
        let ends = [0, 1].map(|end| {
            self.peers[end]
                .session()
                .map(|(conn, _)| self.link(end, conn))
        });
        assert_eq!(
            ends[0], ends[1],
            "{context}: both ends on the same connection"
        );
    }
}

fn with_ids(a: u8, b: u8) -> (PeerSettings, PeerSettings) {
    let id = |last| Ipv4Addr::new(10, 0, 0, last);
    (
        PeerSettings {
            local_id: id(a),
            ..settings()
        },
        PeerSettings {
            local_id: id(b),
            ..peer_settings()
        },
    )
}

#[test]
fn simultaneous_starts_end_in_one_session_that_is_never_lost() {
    for seed in 0..500 {
        let (a, b) = if seed % 2 == 0 {
            with_ids(1, 2)
        } else {
            with_ids(2, 1)
        };
        let delay = Duration::from_millis([1, 40, 900][seed as usize % 3]);
        let mut pair = Pair::started(a, b, seed, delay);
        pair.run(secs(40));
        pair.assert_one_session(&format!("seed {seed}"));
        assert_eq!((pair.ups, pair.downs), ([1, 1], [0, 0]), "seed {seed}");
    }
}

#[test]
fn a_start_at_any_moment_of_the_other_s_attempt_works_too() {
    for seed in 0..300 {
        let (a, b) = with_ids(1, 2);
        let mut pair = Pair::new(a, b, seed, Duration::from_millis(40));
        let first = seed as usize % 2;
        pair.feed(first, Input::ManualStart);
        pair.run(Duration::from_millis(seed / 2));
        pair.feed(1 - first, Input::ManualStart);
        pair.run(secs(20));
        pair.assert_one_session(&format!("seed {seed}"));
        assert_eq!(pair.downs, [0, 0], "seed {seed}");
    }
}

/// Latency up to the patience with a silent connection, and a round trip up to it when OPENs are held back.
#[test]
fn slow_networks_cost_no_session() {
    let check = |delay: Duration, hold_time, delay_open, seed: u64| {
        let (mut a, mut b) = match seed % 2 {
            0 => with_ids(1, 2),
            _ => with_ids(2, 1),
        };
        for settings in [&mut a, &mut b] {
            settings.hold_time = hold_time;
            settings.connect_retry = secs(25);
            settings.delay_open = delay_open;
        }
        let context = format!("{delay:?}, hold time {hold_time}, {delay_open:?}, seed {seed}");
        let mut pair = Pair::started(a, b, seed, delay);
        pair.run(secs(600));
        pair.assert_one_session(&context);
        assert_eq!((pair.ups, pair.downs), ([1, 1], [0, 0]), "{context}");
    };
    let millis = Duration::from_millis;
    for seed in 0..200 {
        for delay in [3_000, 7_000, 10_000] {
            check(millis(delay), 90, None, seed);
        }
        check(millis(5_000), 90, Some(secs(30)), seed);
        check(millis(3_000), 9, None, seed);
    }
}

#[test]
fn a_peer_behind_our_half_open_connection_comes_back_soon() {
    let mut seen = 0;
    for seed in 0..200 {
        let (mut a, b) = with_ids(2, 1);
        a.hold_time = [9, 90, 0][seed as usize % 3];
        let patience = [3, 10, 10][seed as usize % 3];
        let mut pair = Pair::new(a, b, seed, Duration::from_millis(40));
        pair.feed(1, Input::ManualStart);
        pair.feed(0, Input::ManualStart);
        let ours = |pair: &Pair| pair.peers[0].phase_of(Initiator::Local);
        while ours(&pair) == Some(Phase::Connecting) {
            pair.run(Duration::from_millis(1));
        }
        if ours(&pair) != Some(Phase::OpenSent) {
            // The peer's own connection was faster.
            continue;
        }
        seen += 1;
        // Our OPEN is out, and nothing arrives any more on the connection that it is on.
        let ours = pair.links.iter_mut().filter(|link| link.dialler == 0);
        ours.for_each(|link| link.silent = true);
        if seed % 2 == 0 {
            // The peer itself has forgotten about them.
            let (_, settings) = with_ids(2, 1);
            pair.links.iter_mut().for_each(|link| {
                link.silent = true;
                link.closed[1] = true;
            });
            pair.peers[1] = Peer::new(settings, pair.now, seed);
            pair.feed(1, Input::ManualStart);
        }
        // One attempt is refused just before patience ends, the next comes with the ConnectRetryTimer.
        pair.run(secs(patience + 6));
        pair.assert_one_session(&format!("seed {seed}"));
        assert_eq!((pair.ups, pair.downs), ([1, 1], [0, 0]), "seed {seed}");
    }
    assert!(seen > 20, "only {seen} of the runs got there");
}

/// Each end has sent its OPEN on a connection of its own that the other end has forgotten. Neither dials while it waits.
#[test]
fn two_ends_that_wait_on_dead_connections_find_each_other_within_a_minute() {
    for seed in 0..100 {
        let (a, b) = with_ids(1, 2);
        let mut pair = Pair::new(a, b, seed, Duration::from_millis(40));
        for end in 0..2 {
            pair.feed(end, Input::ManualStart);
            let dialled = pair.peers[end].last_dialled;
            let conn = ConnId {
                initiator: Initiator::Local,
                generation: dialled,
            };
            let (local, remote) = (addr(1), addr(2));
            pair.feed(
                end,
                Input::TcpConnected {
                    conn,
                    local,
                    remote,
                },
            );
        }
        pair.links.iter_mut().for_each(|link| link.silent = true);
        pair.run(secs(29));
        assert_eq!(pair.states(), [State::OpenSent; 2], "seed {seed}");
        pair.run(secs(31));
        pair.assert_one_session(&format!("seed {seed}"));
        assert_eq!((pair.ups, pair.downs), ([1, 1], [0, 0]), "seed {seed}");
    }
}

#[test]
fn open_delayed_on_both_sides_works() {
    for seed in 0..100 {
        let (mut a, mut b) = with_ids(1, 2);
        a.delay_open = Some(secs(2));
        b.delay_open = (seed % 2 == 0).then_some(secs(2));
        let mut pair = Pair::started(a, b, seed, Duration::from_millis(40));
        pair.run(secs(60));
        pair.assert_one_session(&format!("seed {seed}"));
        assert_eq!(pair.downs, [0, 0], "seed {seed}");
    }
}

#[test]
fn an_idle_session_lives_and_a_cut_one_dies_in_time_and_comes_back() {
    for seed in 0..20 {
        let (mut a, b) = with_ids(1, 2);
        a.hold_time = 9;
        let mut pair = Pair::started(a, b, seed, Duration::from_millis(5));
        pair.run(secs(3600));
        pair.assert_one_session("an hour");
        assert_eq!(pair.downs, [0, 0]);
        pair.cut = true;
        pair.run(secs(9));
        assert_eq!(pair.downs, [1, 1], "both notice within the hold time");
        pair.run(secs(60));
        pair.cut = false;
        pair.run(secs(15));
        pair.assert_one_session(&format!("seed {seed} healed"));
    }
}

#[test]
fn pausing_peers_do_not_refuse_each_other_for_ever() {
    for seed in 0..100 {
        let (a, b) = with_ids(1, 2);
        let mut pair = Pair::started(a, b, seed, Duration::from_millis(5));
        pair.run(secs(20));
        for _ in 0..3 {
            pair.run(secs(1));
            let notification = Notification::cease(4);
            pair.feed(
                0,
                Input::AutomaticStop {
                    notification,
                    restart_after: None,
                },
            );
            pair.run(secs(12));
            pair.assert_one_session(&format!("seed {seed}"));
        }
    }
}

#[test]
fn a_wrong_as_is_retried_ever_more_slowly() {
    let (mut a, b) = with_ids(1, 2);
    a.set_remote(65009);
    let mut pair = Pair::started(a, b, 1, Duration::from_millis(5));
    pair.run(secs(3600));
    assert_eq!(pair.ups, [0, 0]);
    let attempts = pair.peers[0].counters().dialled + pair.peers[1].counters().dialled;
    assert!(
        (60..1500).contains(&attempts),
        "{attempts} attempts in an hour"
    );
}

/// RFC 7705, FRR's `dual-as`: the peer may know us by either number, and a change of other settings does not ask again.
#[test]
fn a_peer_that_knows_us_by_our_other_as_number_is_met() {
    for seed in 0..50 {
        let (mut a, b) = with_ids(1, 2);
        let known = a.local_as;
        a.local_as = 64999;
        let mut pair = Pair::started(a.clone(), b.clone(), seed, Duration::from_millis(5));
        pair.run(secs(60));
        assert_eq!(pair.ups, [0, 0], "one number is not enough");
        a.other_local_as = Some(known);
        let mut pair = Pair::started(a.clone(), b, seed, Duration::from_millis(5));
        pair.run(secs(60));
        pair.assert_one_session(&format!("seed {seed}"));
        for end in 0..2 {
            let (_, negotiated) = pair.peers[end].session().unwrap();
            let numbers = (negotiated.local_as, negotiated.peer_as);
            assert!(numbers.0 == known || numbers.1 == known, "{numbers:?}");
        }
        a.connect_retry = secs(7);
        pair.feed(0, Input::SettingsChanged(Box::new(a)));
        pair.run(secs(5));
        assert_eq!(pair.downs, [0, 0], "seed {seed}");
    }
}

#[test]
fn status_says_all_the_time_that_the_as_is_wrong() {
    for seed in 0..50 {
        let (mut a, mut b) = with_ids(1, 2);
        a.set_remote(65009);
        // Either both reject the other's OPEN, or one is told by the other.
        if seed % 2 == 0 {
            b.set_remote(65008);
        }
        let mut pair = Pair::started(a, b, seed, Duration::from_millis(5));
        pair.run(secs(5));
        for _ in 0..300 {
            pair.run(secs(1));
            for peer in &pair.peers {
                let words = peer.last_error().map(|error| error.reason.to_string());
                let words = words.unwrap_or_default();
                let says_it = words.contains("is configured") || words.contains("Bad Peer AS");
                assert!(says_it, "seed {seed}: {words}");
            }
        }
        let refused = pair.peers.iter().map(|peer| peer.counters().refused);
        assert!(refused.sum::<u64>() > 0, "seed {seed}: pauses overlap");
    }
}
