//! Every state × every event, held against `matrix.txt`. `ROADBED_BLESS=1` writes that file anew; its diff is then to
//! be read against RFC 4271 §8.2.2 and the list of differences in the module's header.

use std::fmt::Write;

use bgp_wire::{RouteRefresh, refresh_subtype};

use super::*;
use crate::fsm::timer::Timer;

/// As an operator sees them; then, in what, and which of two connections an event is about.
const STATES: [&str; 14] = [
    "Idle (stopped)",
    "Idle (pausing)",
    "Connect",
    "Connect (OPEN delayed)",
    "Active",
    "Active (OPEN delayed)",
    "OpenSent",
    "OpenSent (incoming)",
    "OpenConfirm",
    "Established",
    "OpenSent (theirs; ours dialling)",
    "OpenSent (both; ours)",
    "OpenSent (both; theirs)",
    "OpenConfirm (ours; theirs OpenSent)",
];

const EVENTS: [&str; 28] = [
    "ManualStart",
    "ManualStop",
    "AutomaticStop",
    "SettingsChanged (live)",
    "SettingsChanged (OPEN)",
    "ConnectRetryTimer",
    "HoldTimer",
    "KeepaliveTimer",
    "DelayOpenTimer",
    "IdleHoldTimer",
    "SendHoldTimer",
    "TcpConnected",
    "TcpAccepted",
    "TcpFailed",
    "TcpClosed",
    "Open",
    "Open (wrong AS)",
    "DecodeError header",
    "DecodeError OPEN",
    "DecodeError UPDATE",
    "Notification version",
    "Notification Cease/2",
    "Notification Cease/5",
    "Keepalive",
    "Update",
    "RouteRefresh",
    "BytesWaiting",
    "WriteProgress, UpdateSent",
];

/// A peer in the named state, and the connection that events are about.
fn in_state(name: &str) -> (Bench, ConnId) {
    let delayed = |passive| PeerSettings {
        delay_open: Some(secs(3)),
        passive,
        ..settings()
    };
    let nobody = ConnId {
        initiator: Initiator::Local,
        generation: 99,
    };
    match name {
        "Idle (stopped)" => (Bench::new(settings()), nobody),
        "Idle (pausing)" => {
            let (mut bench, conn) = Bench::established(settings());
            bench.input(Input::TcpClosed {
                conn,
                reason: String::new(),
            });
            (bench, conn)
        }
        "Connect" => {
            let mut bench = Bench::new(settings());
            bench.input(Input::ManualStart);
            let conn = bench.dialled();
            (bench, conn)
        }
        "Connect (OPEN delayed)" => Bench::connected(delayed(false)),
        "Active" => {
            let mut bench = Bench::new(settings());
            bench.input(Input::ManualStart);
            let conn = bench.dialled();
            bench.input(Input::TcpFailed {
                conn,
                reason: String::new(),
            });
            (bench, conn)
        }
        "Active (OPEN delayed)" | "OpenSent (incoming)" => {
            let passive = PeerSettings {
                passive: true,
                ..settings()
            };
            let mut bench = Bench::new(if name.starts_with("Active") {
                delayed(true)
            } else {
                passive
            });
            bench.input(Input::ManualStart);
            let (conn, _) = bench.accept();
            (bench, conn)
        }
        "OpenSent" => Bench::connected(settings()),
        "OpenConfirm" => {
            let (mut bench, conn) = Bench::connected(settings());
            bench.input(Input::Open {
                conn,
                open: peer_open(),
            });
            (bench, conn)
        }
        "Established" => Bench::established(settings()),
        "OpenSent (theirs; ours dialling)" => {
            let mut bench = Bench::new(settings());
            bench.input(Input::ManualStart);
            let ours = bench.dialled();
            bench.accept();
            (bench, ours)
        }
        "OpenSent (both; ours)" | "OpenSent (both; theirs)" => {
            let (bench, ours, theirs) = collision::both_open_sent(false);
            (
                bench,
                if name.ends_with("ours)") {
                    ours
                } else {
                    theirs
                },
            )
        }
        // The peer's OPEN came on ours, and theirs is to win.
        "OpenConfirm (ours; theirs OpenSent)" => {
            let (mut bench, ours, theirs) = collision::both_open_sent(false);
            bench.input(Input::Open {
                conn: ours,
                open: peer_open(),
            });
            (bench, theirs)
        }
        other => unreachable!("no such state: {other}"),
    }
}

/// Makes one running timer, and no other, due now. A timer that does not run stays that way.
fn fire(bench: &mut Bench, timer: Timer) -> String {
    let now = bench.now;
    let conns = bench
        .peer
        .conns
        .iter_mut()
        .flatten()
        .map(|conn| &mut conn.timers);
    let mut running = false;
    for timers in conns.chain([&mut bench.peer.timers]) {
        if timers.is_armed(timer) {
            timers.arm(timer, now);
            running = true;
        }
    }
    let outputs = bench.input(Input::Tick);
    if running {
        outputs
    } else {
        format!("(not running){outputs}")
    }
}

fn apply(bench: &mut Bench, conn: ConnId, event: &str) -> String {
    let reason = || "reset".to_string();
    let decode_error = |code| Input::DecodeError {
        conn,
        notification: Notification::new(code, 1),
    };
    let notified = |code, subcode| Input::Notification {
        conn,
        notification: Notification::new(code, subcode),
    };
    let input = match event {
        "ManualStart" => Input::ManualStart,
        "ManualStop" => Input::ManualStop {
            message: "bye".into(),
        },
        "AutomaticStop" => Input::AutomaticStop {
            notification: Notification::cease(4),
            restart_after: None,
        },
        "SettingsChanged (live)" => {
            let changed = PeerSettings {
                keepalive: Some(7),
                ..bench.peer.settings().clone()
            };
            Input::SettingsChanged(Box::new(changed))
        }
        "SettingsChanged (OPEN)" => {
            let changed = PeerSettings {
                hold_time: 30,
                ..bench.peer.settings().clone()
            };
            Input::SettingsChanged(Box::new(changed))
        }
        "ConnectRetryTimer" => return fire(bench, Timer::ConnectRetry),
        "HoldTimer" => return fire(bench, Timer::Hold),
        "KeepaliveTimer" => return fire(bench, Timer::Keepalive),
        "DelayOpenTimer" => return fire(bench, Timer::DelayOpen),
        "IdleHoldTimer" => return fire(bench, Timer::IdleHold),
        "SendHoldTimer" => return fire(bench, Timer::SendHold),
        "TcpConnected" => Input::TcpConnected {
            conn,
            local: addr(1),
            remote: addr(2),
        },
        "TcpAccepted" => return bench.accept().1,
        "TcpFailed" => Input::TcpFailed {
            conn,
            reason: reason(),
        },
        "TcpClosed" => Input::TcpClosed {
            conn,
            reason: reason(),
        },
        "Open" => Input::Open {
            conn,
            open: peer_open(),
        },
        "Open (wrong AS)" => {
            let wrong = PeerSettings {
                local_as: 65099,
                ..peer_settings()
            };
            Input::Open {
                conn,
                open: Box::new(local_open(&wrong)),
            }
        }
        "DecodeError header" => decode_error(1),
        "DecodeError OPEN" => decode_error(2),
        "DecodeError UPDATE" => decode_error(3),
        "Notification version" => notified(2, 1),
        "Notification Cease/2" => notified(6, 2),
        "Notification Cease/5" => notified(6, 5),
        "Keepalive" => Input::Keepalive { conn },
        "Update" => Input::Update { conn },
        "RouteRefresh" => {
            let refresh = RouteRefresh::new(Family::Ipv4Unicast, refresh_subtype::REQUEST);
            Input::RouteRefresh { conn, refresh }
        }
        "BytesWaiting" => Input::BytesWaiting { conn },
        "WriteProgress, UpdateSent" => {
            let written = bench.input(Input::WriteProgress { conn });
            return written + &bench.input(Input::UpdateSent { conn });
        }
        other => unreachable!("no such event: {other}"),
    };
    bench.input(input)
}

#[test]
fn every_state_and_event() {
    let mut got = String::new();
    for state in STATES {
        writeln!(got, "[{state}]").expect("a string takes all");
        for event in EVENTS {
            let (mut bench, conn) = in_state(state);
            assert_eq!(
                bench.peer.state().name(),
                state.split(' ').next().unwrap_or_default()
            );
            let outputs = apply(&mut bench, conn, event);
            let line = format!("{event:26} -> {:11} | {outputs}", bench.peer.state().name());
            writeln!(got, "{}", line.trim_end()).expect("a string takes all");
        }
        got.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fsm/tests/matrix.txt");
    if std::env::var_os("ROADBED_BLESS").is_some() {
        std::fs::write(path, &got).expect("the source tree is writable");
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    let differing = got
        .lines()
        .zip(want.lines())
        .find(|(got, want)| got != want);
    assert_eq!(
        differing, None,
        "first line that differs: (now, in matrix.txt)"
    );
    assert_eq!(got.lines().count(), want.lines().count());
}

/// The first word of the events that stand for an input. Without a wildcard: a new input has to be named here.
fn event_of(input: &Input) -> &'static str {
    match input {
        Input::ManualStart => "ManualStart",
        Input::ManualStop { .. } => "ManualStop",
        Input::AutomaticStop { .. } => "AutomaticStop",
        Input::SettingsChanged(_) => "SettingsChanged",
        Input::TcpConnected { .. } => "TcpConnected",
        Input::TcpAccepted { .. } => "TcpAccepted",
        Input::TcpFailed { .. } => "TcpFailed",
        Input::TcpClosed { .. } => "TcpClosed",
        Input::Open { .. } => "Open",
        Input::Keepalive { .. } => "Keepalive",
        Input::Update { .. } => "Update",
        Input::RouteRefresh { .. } => "RouteRefresh",
        Input::Notification { .. } => "Notification",
        Input::DecodeError { .. } => "DecodeError",
        Input::BytesWaiting { .. } => "BytesWaiting",
        Input::WriteProgress { .. } => "WriteProgress,",
        Input::UpdateSent { .. } => "UpdateSent",
        // One event for each timer.
        Input::Tick => "HoldTimer",
    }
}

/// The table has every state, every input, and every timer.
#[test]
fn the_table_is_complete() {
    let (mut bench, conn) = Bench::established(settings());
    let (local, remote) = (addr(1), addr(2));
    let reason = String::new();
    let notification = Notification::cease(2);
    let inputs = [
        Input::ManualStart,
        Input::ManualStop {
            message: String::new(),
        },
        Input::AutomaticStop {
            notification: notification.clone(),
            restart_after: None,
        },
        Input::SettingsChanged(Box::new(settings())),
        Input::TcpConnected {
            conn,
            local,
            remote,
        },
        Input::TcpAccepted {
            conn: bench.peer.next_incoming(),
            local,
            remote,
        },
        Input::TcpFailed {
            conn,
            reason: reason.clone(),
        },
        Input::TcpClosed { conn, reason },
        Input::Open {
            conn,
            open: peer_open(),
        },
        Input::Keepalive { conn },
        Input::Update { conn },
        Input::RouteRefresh {
            conn,
            refresh: RouteRefresh::new(Family::Ipv4Unicast, refresh_subtype::REQUEST),
        },
        Input::Notification {
            conn,
            notification: notification.clone(),
        },
        Input::DecodeError { conn, notification },
        Input::BytesWaiting { conn },
        Input::WriteProgress { conn },
        Input::UpdateSent { conn },
        Input::Tick,
    ];
    for input in &inputs {
        let name = event_of(input);
        let found = EVENTS
            .iter()
            .any(|event| event.split(' ').any(|word| word == name));
        assert!(found, "{name} is not in the table");
    }
    for timer in Timer::ALL {
        let name = format!("{timer:?}Timer");
        assert!(EVENTS.contains(&name.as_str()), "{name}");
    }
    for state in [
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ] {
        let found = STATES
            .iter()
            .any(|s| s.split(' ').next() == Some(state.name()));
        assert!(found, "{state}");
    }
}

#[test]
fn the_list_of_rfc_events_is_complete() {
    let inputs = [
        "ManualStart",
        "ManualStop",
        "AutomaticStop",
        "TcpConnected",
        "TcpAccepted",
        "TcpClosed",
        "Open",
        "DecodeError",
        "Notification",
        "Keepalive",
        "Update",
    ];
    for (event, number) in rfc::EVENTS.iter().zip(1..) {
        assert_eq!(event.number, number, "{}", event.name);
        match event.source {
            rfc::Source::Input(name) => assert!(inputs.contains(&name), "{name}"),
            rfc::Source::Timer(timer) => {
                assert!(
                    EVENTS.contains(&format!("{timer:?}Timer").as_str()),
                    "{timer:?}"
                );
            }
            rfc::Source::Unused(why) => assert!(why.len() > 20),
        }
    }
}
