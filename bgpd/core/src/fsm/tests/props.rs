//! Whatever happens in whatever order: no panic, and the promises of the outputs hold.

use std::collections::HashSet;

use bgp_wire::RouteRefresh;
use proptest::prelude::*;

use super::*;
use crate::fsm::conn::Phase;
use crate::fsm::timer::Timer;

/// A random step: which event, about which connection, how much time passes first.
#[derive(Debug, Clone)]
struct Step {
    event: u8,
    conn: u8,
    wait_ms: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![3 => Just(0u64), 2 => 0u64..3000, 1 => 0u64..300_000];
    let step = (0u8..32, any::<u8>(), wait);
    proptest::collection::vec(
        step.prop_map(|(event, conn, wait_ms)| Step {
            event,
            conn,
            wait_ms,
        }),
        1..120,
    )
}

/// What the driver knows.
struct World {
    bench: Bench,
    known: Vec<ConnId>,
    open: HashSet<ConnId>,
    up: Option<ConnId>,
    seen: usize,
    state: State,
}

impl World {
    fn new(settings: PeerSettings) -> World {
        let nobody = ConnId {
            initiator: Initiator::Remote,
            generation: 77,
        };
        let bench = Bench::new(settings);
        World {
            bench,
            known: vec![nobody],
            open: HashSet::new(),
            up: None,
            seen: 0,
            state: State::Idle,
        }
    }

    fn step(&mut self, step: &Step) {
        self.bench.now += Duration::from_millis(step.wait_ms);
        // Mostly a connection that lives, or nearly nothing would ever come up.
        let alive: Vec<_> = self
            .bench
            .peer
            .conns
            .iter()
            .flatten()
            .map(|conn| conn.id)
            .collect();
        let conn = match alive.get(usize::from(step.conn) % 3) {
            Some(conn) => *conn,
            None => self.known[usize::from(step.conn) % self.known.len()],
        };
        let known_before = self.bench.peer.conn(conn).is_some();
        let about_conn = (9..28).contains(&step.event);
        let input = self.input_of(step, conn);
        let refused_input = matches!(
            input,
            Input::TcpConnected { .. } | Input::TcpAccepted { .. }
        );
        self.bench.input(input);
        if about_conn && !known_before && !refused_input {
            let news = &self.bench.outputs[self.seen..];
            assert!(
                news.is_empty(),
                "an unknown connection says nothing: {news:?}"
            );
        }
        self.check_outputs();
        self.check_peer();
    }

    fn input_of(&mut self, step: &Step, conn: ConnId) -> Input {
        let (local, remote) = (addr(1), addr(2));
        let notification = Notification::new(step.conn % 8, step.conn / 8 % 12);
        match step.event {
            0..=3 => Input::ManualStart,
            4 => Input::ManualStop {
                message: "x".repeat(step.conn.into()),
            },
            5 => Input::AutomaticStop {
                notification,
                restart_after: (step.conn > 99).then_some(secs(1)),
            },
            6 => Input::SettingsChanged(Box::new(PeerSettings {
                hold_time: [0, 3, 90][usize::from(step.conn) % 3],
                passive: step.conn.is_multiple_of(2),
                delay_open: step.conn.is_multiple_of(5).then_some(secs(1)),
                ..settings()
            })),
            7 | 8 | 28 => {
                let conn = self.bench.peer.next_incoming();
                self.known.push(conn);
                self.open.insert(conn);
                Input::TcpAccepted {
                    conn,
                    local,
                    remote,
                }
            }
            9..=11 => {
                if conn.initiator() == Initiator::Local && self.known.contains(&conn) {
                    self.open.insert(conn);
                }
                Input::TcpConnected {
                    conn,
                    local,
                    remote,
                }
            }
            12 => Input::TcpFailed {
                conn,
                reason: String::new(),
            },
            13 => Input::TcpClosed {
                conn,
                reason: String::new(),
            },
            14..=17 => Input::Open {
                conn,
                open: peer_open(),
            },
            18 => {
                let wrong = PeerSettings {
                    local_as: 65003,
                    ..peer_settings()
                };
                Input::Open {
                    conn,
                    open: Box::new(local_open(&wrong)),
                }
            }
            19..=21 => Input::Keepalive { conn },
            22 => Input::Update { conn },
            23 => {
                let refresh = RouteRefresh {
                    family_raw: (step.conn.into(), 1),
                    subtype: step.conn % 4,
                };
                Input::RouteRefresh { conn, refresh }
            }
            24 => Input::Notification { conn, notification },
            25 => Input::DecodeError { conn, notification },
            26 => Input::BytesWaiting { conn },
            27 => Input::WriteProgress { conn },
            _ => Input::Tick,
        }
    }

    fn check_outputs(&mut self) {
        for output in &self.bench.outputs[self.seen..] {
            match output {
                Output::Connect { conn } => self.known.push(*conn),
                Output::Send { conn, .. } => {
                    assert!(self.open.contains(conn), "sent on {conn}, not open")
                }
                Output::Close { conn } => {
                    self.open.remove(conn);
                }
                Output::Established { conn, .. } => {
                    assert_eq!(self.up.replace(*conn), None, "up twice")
                }
                Output::Down { .. } => assert!(self.up.take().is_some(), "down without up"),
                Output::StateChanged { from, to } => {
                    assert_eq!(*from, self.state);
                    assert_ne!(from, to);
                    self.state = *to;
                }
                _ => {}
            }
        }
        self.seen = self.bench.outputs.len();
    }

    fn check_peer(&self) {
        let peer = &self.bench.peer;
        assert_eq!(peer.state(), self.state);
        assert_eq!(peer.session().map(|(conn, _)| conn), self.up);
        assert_eq!(peer.state() == State::Established, self.up.is_some());
        let alive: Vec<_> = peer.conns.iter().flatten().collect();
        assert!(
            self.up.is_none() || alive.len() == 1,
            "a session tolerates no second connection"
        );
        assert!(peer.started || alive.is_empty());
        assert!(
            !peer.timers.is_armed(Timer::IdleHold) || alive.is_empty(),
            "a pause has no connections"
        );
        for conn in alive {
            let armed = |timer| conn.timers.is_armed(timer);
            let agreed = conn.negotiated.as_ref();
            let hold = agreed.map(|agreed| !agreed.hold_time.is_zero());
            assert_eq!(agreed.is_some(), conn.phase >= Phase::OpenConfirm);
            assert_eq!(armed(Timer::DelayOpen), conn.phase == Phase::DelayOpen);
            assert_eq!(armed(Timer::Keepalive), hold == Some(true));
            assert_eq!(
                armed(Timer::SendHold),
                conn.phase == Phase::Established && hold == Some(true)
            );
            let holds = match conn.phase {
                Phase::Connecting | Phase::DelayOpen => false,
                Phase::OpenSent | Phase::OpenConfirm => true,
                Phase::Established => hold == Some(true),
            };
            assert_eq!(armed(Timer::Hold), holds, "{:?}", conn.phase);
            assert_eq!(conn.phase > Phase::Connecting, self.open.contains(&conn.id));
        }
        let waits =
            peer.started && matches!(peer.state(), State::Idle | State::Active | State::Connect);
        let passive = peer.settings().passive;
        assert!(
            !waits || passive || peer.next_deadline().is_some(),
            "a started peer always goes on"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_promises(
        steps in steps(),
        passive in any::<bool>(),
        delayed in any::<bool>(),
    ) {
        let settings = PeerSettings { passive, delay_open: delayed.then_some(secs(2)), ..settings() };
        let mut world = World::new(settings);
        for step in &steps {
            world.step(step);
        }
    }

    #[test]
    fn ticking_never_spins(steps in steps()) {
        let mut world = World::new(settings());
        for step in &steps {
            world.step(step);
        }
        let mut ticks = 0;
        let end = world.bench.now + secs(600);
        while let Some(deadline) = world.bench.peer.next_deadline().filter(|deadline| *deadline <= end) {
            world.bench.now = deadline.max(world.bench.now);
            world.bench.input(Input::Tick);
            let next = world.bench.peer.next_deadline();
            prop_assert!(next.is_none_or(|next| next > world.bench.now), "a due timer stayed due");
            ticks += 1;
        }
        prop_assert!(ticks < 1500, "{ticks} ticks in ten minutes");
    }
}
