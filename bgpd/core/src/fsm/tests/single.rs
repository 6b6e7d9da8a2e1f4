//! One peer and the clock: timers, damping, settings.

use super::*;
use crate::negotiation::Role;

fn with_hold(hold_time: u16) -> PeerSettings {
    PeerSettings {
        hold_time,
        ..settings()
    }
}

#[test]
fn silence_for_the_hold_time_ends_the_session() {
    let (mut bench, conn) = Bench::established(with_hold(9));
    bench.pass(secs(8));
    bench.input(Input::Update { conn });
    let lines = bench.pass(Duration::from_millis(8999));
    assert!(
        lines.iter().all(|(_, line)| line == "out KEEPALIVE"),
        "{lines:?}"
    );
    let lines = bench.pass(Duration::from_millis(1));
    assert_eq!(lines[0].1, "out 4/0, out close, down hold_timer");
}

#[test]
fn keepalives_leave_at_three_quarters_to_the_whole_of_a_third() {
    let (mut bench, conn) = Bench::established(with_hold(9));
    let mut last = 0.0;
    for second in 0..100 {
        for (at, line) in bench.pass(secs(1)) {
            assert_eq!(line, "out KEEPALIVE");
            let at = f64::from(second) + at;
            assert!((2.25..=3.0).contains(&(at - last)), "{last} then {at}");
            last = at;
        }
        bench.input(Input::Keepalive { conn });
    }
    assert!(last > 90.0);
}

#[test]
fn an_update_sent_stands_for_a_keepalive() {
    let (mut bench, conn) = Bench::established(with_hold(9));
    for _ in 0..20 {
        assert_eq!(bench.pass(secs(2)), []);
        bench.input(Input::UpdateSent { conn });
        bench.input(Input::Update { conn });
    }
}

#[test]
fn hold_time_zero_means_no_timers_but_not_in_open_confirm() {
    let (mut bench, conn) = Bench::connected(with_hold(0));
    bench.input(Input::Open {
        conn,
        open: peer_open(),
    });
    let left = bench.quiet_for();
    assert_eq!(
        left,
        Some(secs(30)),
        "OpenConfirm ends even without a hold time"
    );
    bench.input(Input::Keepalive { conn });
    assert_eq!(bench.peer.next_deadline(), None);
}

#[test]
fn unread_bytes_count_as_life_for_ten_hold_times() {
    let (mut bench, conn) = Bench::established(with_hold(9));
    let start = bench.now;
    while bench.peer.state() == State::Established {
        bench.input(Input::BytesWaiting { conn });
        bench.pass(secs(1));
    }
    let lived = bench.now - start;
    assert!((secs(90)..=secs(91)).contains(&lived), "{lived:?}");
    assert!(bench.peer.counters().unread_extensions > 80);

    let (mut bench, conn) = Bench::established(with_hold(9));
    for second in 0..600 {
        bench.input(Input::BytesWaiting { conn });
        if second % 60 == 0 {
            bench.input(Input::Update { conn });
            bench.input(Input::WriteProgress { conn });
        }
        bench.pass(secs(1));
    }
    assert_eq!(bench.peer.state(), State::Established, "slow is not dead");
}

/// RFC 9687.
#[test]
fn a_peer_that_stops_reading_is_dropped_after_the_send_hold_time() {
    let (mut bench, conn) = Bench::established(with_hold(9));
    let start = bench.now;
    bench.pass(secs(5));
    bench.input(Input::WriteProgress { conn });
    while bench.peer.state() == State::Established {
        bench.input(Input::Keepalive { conn });
        bench.pass(secs(1));
    }
    assert_eq!(bench.now - start, secs(485));
    let reason = bench.peer.last_error().map(|error| error.reason.clone());
    assert_eq!(reason, Some(DownReason::SendHoldTimerExpired));
}

#[test]
fn a_silent_incoming_connection_does_not_stop_us_from_dialling() {
    let mut bench = Bench::new(settings());
    bench.input(Input::ManualStart);
    let conn = bench.dialled();
    bench.accept();
    bench.input(Input::TcpFailed {
        conn,
        reason: String::new(),
    });
    assert_eq!(bench.peer.state(), State::OpenSent);
    let lines = bench.pass(secs(5));
    assert_eq!(lines[0].1, "out connect");
    assert!((3.75..=5.0).contains(&lines[0].0), "{lines:?}");
}

#[test]
fn pauses_double_and_a_stable_session_forgives() {
    let (mut bench, conn) = Bench::established(settings());
    let lose = |bench: &mut Bench, conn| {
        bench.input(Input::TcpClosed {
            conn,
            reason: String::new(),
        });
        assert_eq!(
            bench.accept().1,
            "in 6/5, in close",
            "refused while pausing"
        );
        let lines = bench.pass(secs(60));
        assert_eq!(lines[0].1, "out connect");
        lines[0].0
    };
    let mut pauses = vec![lose(&mut bench, conn)];
    let connect = |bench: &mut Bench| {
        let conn = bench.dialled();
        bench.input(Input::TcpConnected {
            conn,
            local: addr(1),
            remote: addr(2),
        });
        bench.input(Input::Open {
            conn,
            open: peer_open(),
        });
        bench.input(Input::Keepalive { conn });
        conn
    };
    for _ in 0..8 {
        let conn = connect(&mut bench);
        pauses.push(lose(&mut bench, conn));
    }
    for (pause, full) in pauses
        .iter()
        .zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0])
    {
        assert!((full * 0.75..=full).contains(pause), "{pauses:?}");
    }
    let conn = connect(&mut bench);
    for _ in 0..3 {
        bench.pass(secs(20));
        bench.input(Input::Keepalive { conn });
    }
    assert!(lose(&mut bench, conn) <= 1.0);
}

#[test]
fn a_corrected_setting_does_not_wait_for_the_pause() {
    let wrong = PeerSettings {
        remote: RemoteAs::Asn(65009),
        ..settings()
    };
    let mut bench = Bench::new(PeerSettings {
        idle_hold_min: secs(30),
        ..wrong
    });
    bench.input(Input::ManualStart);
    let conn = bench.dialled();
    bench.input(Input::TcpConnected {
        conn,
        local: addr(1),
        remote: addr(2),
    });
    let line = bench.input(Input::Open {
        conn,
        open: peer_open(),
    });
    assert_eq!(line, "out 2/2, out close, failed open_rejected");
    let words = bench
        .peer
        .last_error()
        .map(|error| error.reason.to_string());
    let expected =
        "the peer says it is AS 65002, but asNumber 65009 is configured: correct one of the two";
    assert_eq!(words.as_deref(), Some(expected));
    bench.input(Input::SettingsChanged(Box::new(settings())));
    assert_eq!(bench.pass(secs(1))[0].1, "out connect");
}

#[test]
fn a_refused_connection_does_not_hide_what_does_not_fit() {
    let rejected = || {
        let (mut bench, conn) = Bench::connected(PeerSettings {
            remote: RemoteAs::Asn(65009),
            ..settings()
        });
        let open = peer_open();
        bench.input(Input::Open { conn, open });
        bench
    };
    let refuse = |bench: &mut Bench, subcode| {
        while bench.peer.state() != State::Connect {
            bench.pass(secs(1));
        }
        let conn = bench.dialled();
        let (local, remote) = (addr(1), addr(2));
        bench.input(Input::TcpConnected {
            conn,
            local,
            remote,
        });
        let notification = Notification::cease(subcode);
        bench.input(Input::Notification { conn, notification });
        let error = bench.peer.last_error().map(|error| error.reason.label());
        error.unwrap_or_default()
    };
    for kept in [5, 7] {
        assert_eq!(refuse(&mut rejected(), kept), "open_rejected");
    }
    assert_eq!(refuse(&mut rejected(), 2), "notification_received");

    let mut bench = rejected();
    bench.input(Input::SettingsChanged(Box::new(settings())));
    let label = refuse(&mut bench, 5);
    assert_eq!(label, "notification_received", "that was corrected");

    let mut bench = rejected();
    let conn = bench.dialled();
    let reason = String::new();
    assert_eq!(bench.input(Input::TcpClosed { conn, reason }), "");
    assert_eq!(refuse(&mut bench, 5), "open_rejected");
    let conn = bench.dialled();
    assert!(bench.peer.conn(conn).is_none(), "the refused one is gone");
}

#[test]
fn a_live_setting_takes_effect_without_a_reset() {
    let (mut bench, conn) = Bench::established(settings());
    let changed = PeerSettings {
        keepalive: Some(4),
        passive: true,
        ..settings()
    };
    assert_eq!(bench.input(Input::SettingsChanged(Box::new(changed))), "");
    let lines = bench.pass(secs(4));
    assert_eq!(lines[0].1, "out KEEPALIVE");
    assert_eq!(
        bench
            .peer
            .negotiated(conn)
            .map(|negotiated| negotiated.keepalive),
        Some(secs(4))
    );
}

#[test]
fn only_the_open_message_resets() {
    let old = settings();
    let check = |change: fn(&mut PeerSettings), expected: Change| {
        let mut new = settings();
        change(&mut new);
        assert_eq!(settings_change(&old, &new), expected);
    };
    check(|_| {}, Change::None);
    check(|s| s.keepalive = Some(1), Change::Live);
    check(|s| s.connect_retry = secs(1), Change::Live);
    check(|s| s.idle_hold_max = secs(9), Change::Live);
    check(|s| s.passive = true, Change::Live);
    check(|s| s.delay_open = Some(secs(1)), Change::Live);
    check(|s| s.send_hold_time = Some(secs(1)), Change::Live);
    check(|s| s.families.reverse(), Change::Live);
    check(|s| s.families.truncate(1), Change::Reset(vec!["families"]));
    check(|s| s.hold_time = 30, Change::Reset(vec!["hold_time"]));
    check(
        |s| s.extended_message = false,
        Change::Reset(vec!["extended_message"]),
    );
    check(|s| s.set_remote(1), Change::Reset(vec!["remote_as"]));
    let refresh = Change::Reset(vec!["route_refresh", "enhanced_route_refresh"]);
    check(|s| s.route_refresh = false, refresh);
    check(|s| s.local_as = 1, Change::Reset(vec!["local_as"]));
    check(
        |s| s.set_remote(RemoteAs::External),
        Change::Reset(vec!["remote_as"]),
    );
    check(
        |s| s.add_path[1].send = true,
        Change::Reset(vec!["add_path"]),
    );
    check(
        |s| s.extended_next_hop = true,
        Change::Reset(vec!["extended_next_hop"]),
    );
    check(|s| s.role = Some(Role::Peer), Change::Reset(vec!["role"]));
    check(|s| s.role_strict = true, Change::Live);
}

/// Settings that the OPEN does not show, and checks that only become weaker, reset nothing.
#[test]
fn what_the_peer_would_not_notice_is_live() {
    let check = |prepare: fn(&mut PeerSettings), change: fn(&mut PeerSettings), expected| {
        let mut old = settings();
        prepare(&mut old);
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(settings_change(&old, &new), expected);
    };
    let ipv6_only: fn(&mut PeerSettings) = |s| s.families = vec![Family::Ipv6Unicast];
    check(ipv6_only, |s| s.extended_next_hop = true, Change::Live);
    check(ipv6_only, |s| s.add_path[0].send = true, Change::Live);
    let internal: fn(&mut PeerSettings) = |s| s.set_remote(RemoteAs::Internal);
    check(internal, |s| s.role = Some(Role::Peer), Change::Live);
    let role: fn(&mut PeerSettings) = |s| s.role = Some(Role::Peer);
    let strict = Change::Reset(vec!["role_strict"]);
    check(role, |s| s.role_strict = true, strict);
    let strict: fn(&mut PeerSettings) = |s| {
        s.role = Some(Role::Peer);
        s.role_strict = true;
    };
    check(strict, |s| s.role_strict = false, Change::Live);
    check(
        |s| s.families.reverse(),
        |s| s.families.reverse(),
        Change::Live,
    );
    check(
        |s| {
            s.add_path = [AddPath {
                send: true,
                receive: true,
            }; 2]
        },
        |s| s.families.reverse(),
        Change::Live,
    );
}

#[test]
fn problems_are_reported_together() {
    let wrong = PeerSettings {
        hold_time: 2,
        local_id: Ipv4Addr::UNSPECIFIED,
        ..PeerSettings::new(0, 23456, Ipv4Addr::UNSPECIFIED, Vec::new())
    };
    assert_eq!(wrong.problems().len(), 5);
    assert_eq!(settings().problems(), []);
    let mut internal = settings();
    internal.set_remote(RemoteAs::Internal);
    assert_eq!(internal.problems(), []);
    internal.role = Some(Role::Peer);
    assert_eq!(internal.problems(), [SettingsProblem::InternalRole]);
    let mut strict = settings();
    strict.role_strict = true;
    assert_eq!(strict.problems(), [SettingsProblem::StrictWithoutRole]);
}

/// RFC 9003.
#[test]
fn an_operator_s_words_reach_the_peer() {
    let (mut bench, _) = Bench::established(settings());
    bench.input(Input::ManualStop {
        message: "new cables".into(),
    });
    let sent = bench.outputs.iter().find_map(|output| match output {
        Output::Send {
            message: Message::Notification(notification),
            ..
        } => notification.shutdown_message(),
        _ => None,
    });
    assert_eq!(sent.as_deref(), Some("new cables"));
    assert_eq!(
        bench.peer.next_deadline(),
        None,
        "a stopped peer has no plans"
    );
}

impl Bench {
    /// Time until the last thing that would happen if nobody said anything.
    fn quiet_for(&self) -> Option<Duration> {
        self.peer
            .next_deadline()
            .map(|deadline| deadline - self.now)
    }
}
