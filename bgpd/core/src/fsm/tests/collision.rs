//! RFC 4271 §6.8: which connection stays, at the end that a [`Bench`] shows. `pair` looks at both ends.

use super::*;
use crate::fsm::collision::{Speaker, Verdict, patience, resolve};
use crate::fsm::conn::Phase;

/// Our router id is 10.0.0.1, or 10.0.0.3 to be above the peer's 10.0.0.2.
fn ours(above: bool) -> PeerSettings {
    let local_id = Ipv4Addr::new(10, 0, 0, if above { 3 } else { 1 });
    PeerSettings {
        local_id,
        ..settings()
    }
}

/// Both connections in OpenSent: (bench, outgoing, incoming).
pub(super) fn both_open_sent(above: bool) -> (Bench, ConnId, ConnId) {
    let (mut bench, outgoing) = Bench::connected(ours(above));
    let (incoming, line) = bench.accept();
    assert_eq!(line, "in OPEN");
    (bench, outgoing, incoming)
}

fn check(above: bool, first_open_on: Initiator, first: &str, second: &str) {
    let (mut bench, outgoing, incoming) = both_open_sent(above);
    let (x, y) = match first_open_on {
        Initiator::Local => (outgoing, incoming),
        Initiator::Remote => (incoming, outgoing),
    };
    assert_eq!(
        bench.input(Input::Open {
            conn: x,
            open: peer_open()
        }),
        first
    );
    assert_eq!(
        bench.input(Input::Open {
            conn: y,
            open: peer_open()
        }),
        second
    );
    let left: Vec<_> = bench
        .peer
        .conns
        .iter()
        .flatten()
        .map(|conn| conn.id)
        .collect();
    assert_eq!(left, [if above { outgoing } else { incoming }]);
    assert_eq!(bench.peer.state(), State::OpenConfirm);
    assert_eq!(bench.peer.counters().collisions, 1);
    assert_eq!(bench.peer.last_error(), None, "a collision is not an error");
}

#[test]
fn the_connection_of_the_higher_identifier_stays() {
    let (local, remote) = (Initiator::Local, Initiator::Remote);
    check(true, local, "in 6/7, in close, out KEEPALIVE", "");
    check(true, remote, "in 6/7, in close", "out KEEPALIVE");
    check(false, remote, "out 6/7, out close, in KEEPALIVE", "");
    check(
        false,
        local,
        "out KEEPALIVE",
        "out 6/7, out close, in KEEPALIVE",
    );
}

#[test]
fn the_as_number_breaks_a_tie() {
    let id = Ipv4Addr::new(10, 0, 0, 1);
    let (low, high) = (Speaker { id, asn: 65001 }, Speaker { id, asn: 65002 });
    let confirmed = |us, peer, this| resolve(us, peer, this, Phase::OpenConfirm, false);
    assert_eq!(confirmed(high, low, Initiator::Local), Verdict::CloseOther);
    assert_eq!(confirmed(high, low, Initiator::Remote), Verdict::CloseThis);
    assert_eq!(confirmed(low, high, Initiator::Local), Verdict::CloseThis);
    assert_eq!(confirmed(low, high, Initiator::Remote), Verdict::CloseOther);
    let far = Speaker {
        id: Ipv4Addr::new(9, 255, 255, 255),
        asn: u32::MAX,
    };
    assert_eq!(
        confirmed(low, far, Initiator::Local),
        Verdict::CloseOther,
        "identifiers come first, as numbers"
    );
}

#[test]
fn every_verdict() {
    let speaker = |last| Speaker {
        id: Ipv4Addr::new(10, 0, 0, last),
        asn: 65001,
    };
    let check = |above: bool, this, other, silent, expected| {
        let (us, peer) = (speaker(if above { 3 } else { 1 }), speaker(2));
        let context = format!("above {above}, OPEN on {this:?}, other {other:?}, silent {silent}");
        assert_eq!(
            resolve(us, peer, this, other, silent),
            expected,
            "{context}"
        );
    };
    use Initiator::{Local, Remote};
    use Phase::{Connecting, DelayOpen, Established, OpenConfirm, OpenSent};
    use Verdict::{CloseOther, CloseThis, KeepBoth};
    for silent in [false, true] {
        for (above, this) in [
            (true, Local),
            (true, Remote),
            (false, Local),
            (false, Remote),
        ] {
            let wins = above == (this == Local);
            let by_identifier = if wins { CloseOther } else { CloseThis };
            check(above, this, Established, silent, CloseThis);
            check(above, this, OpenConfirm, silent, by_identifier);
            for idle in [Connecting, DelayOpen] {
                let expected = if this == Remote { CloseOther } else { KeepBoth };
                check(above, this, idle, silent, expected);
            }
        }
        check(true, Local, OpenSent, silent, CloseOther);
        check(false, Remote, OpenSent, silent, CloseOther);
        check(false, Local, OpenSent, silent, KeepBoth);
    }
    // Only here does silence count: a connection of ours that would win.
    check(true, Remote, OpenSent, false, CloseThis);
    check(true, Remote, OpenSent, true, CloseOther);
}

#[test]
fn patience_follows_short_hold_times() {
    for (hold_time, expected) in [(0, 10), (3, 1), (9, 3), (30, 10), (90, 10), (65535, 10)] {
        assert_eq!(patience(secs(hold_time)), secs(expected), "{hold_time}");
    }
}

/// We are above the peer, and our OPEN went out `after` before the peer's came in on its own connection.
#[test]
fn our_silent_connection_loses_when_patience_ends() {
    let check = |hold_time: u16, after: Duration, expected: &str| {
        let (mut bench, _) = Bench::connected(PeerSettings {
            hold_time,
            ..ours(true)
        });
        bench.pass(after);
        let (conn, line) = bench.accept();
        assert_eq!(line, "in OPEN");
        let open = peer_open();
        let line = bench.input(Input::Open { conn, open });
        assert_eq!(line, expected, "hold time {hold_time}, after {after:?}");
        assert_eq!(bench.peer.last_error(), None, "a collision is not an error");
    };
    let (refused, taken) = ("in 6/7, in close", "out 6/7, out close, in KEEPALIVE");
    let millis = Duration::from_millis;
    check(90, secs(0), refused);
    check(90, secs(10), refused);
    check(90, millis(10_001), taken);
    check(90, secs(29), taken);
    check(0, secs(10), refused);
    check(0, secs(11), taken);
    check(9, secs(3), refused);
    check(9, millis(3_001), taken);
}

/// What came last counts, and the OPEN itself is a word of the peer.
#[test]
fn our_connection_that_spoke_late_still_wins() {
    let (mut bench, outgoing) = Bench::connected(ours(true));
    bench.pass(secs(25));
    let (incoming, _) = bench.accept();
    let open = peer_open;
    let (conn, first) = (outgoing, open());
    assert_eq!(
        bench.input(Input::Open { conn, open: first }),
        "in 6/7, in close, out KEEPALIVE"
    );
    let (conn, second) = (incoming, open());
    assert_eq!(bench.input(Input::Open { conn, open: second }), "");
}

#[test]
fn an_attempt_that_is_still_dialling_gives_way() {
    let mut bench = Bench::new(settings());
    bench.input(Input::ManualStart);
    let dialled = bench.dialled();
    let (incoming, _) = bench.accept();
    let line = bench.input(Input::Open {
        conn: incoming,
        open: peer_open(),
    });
    assert_eq!(line, "out close, in KEEPALIVE");
    let late = Input::TcpConnected {
        conn: dialled,
        local: addr(1),
        remote: addr(2),
    };
    assert_eq!(
        bench.input(late),
        "out close",
        "the kernel may have finished meanwhile"
    );
    assert_eq!(bench.input(Input::Keepalive { conn: incoming }), "in up");
}

#[test]
fn the_first_to_be_established_ends_the_other() {
    let (mut bench, outgoing, incoming) = both_open_sent(false);
    bench.input(Input::Open {
        conn: outgoing,
        open: peer_open(),
    });
    assert_eq!(
        bench.input(Input::Keepalive { conn: outgoing }),
        "in 6/7, in close, out up"
    );
    assert_eq!(
        bench.input(Input::Open {
            conn: incoming,
            open: peer_open()
        }),
        "",
        "late news"
    );
}

#[test]
fn an_established_session_is_not_disturbed() {
    let (mut bench, conn) = Bench::established(settings());
    let before = bench.peer.next_deadline();
    let (refused, line) = bench.accept();
    assert_eq!(line, "in 6/7, in close");
    for input in [
        Input::Open {
            conn: refused,
            open: peer_open(),
        },
        Input::Notification {
            conn: refused,
            notification: Notification::cease(7),
        },
        Input::TcpClosed {
            conn: refused,
            reason: String::new(),
        },
    ] {
        assert_eq!(bench.input(input), "");
    }
    assert_eq!(bench.peer.session().map(|(conn, _)| conn), Some(conn));
    assert_eq!(bench.peer.next_deadline(), before);
    assert_eq!(bench.peer.counters().refused, 1);
}

#[test]
fn a_fault_on_one_connection_leaves_the_other_alone() {
    let (mut bench, outgoing, incoming) = both_open_sent(false);
    let notification = Notification::new(1, 1);
    let line = bench.input(Input::DecodeError {
        conn: incoming,
        notification,
    });
    assert_eq!(line, "in 1/1, in close, failed decode_error");
    assert_eq!(bench.peer.state(), State::OpenSent);
    bench.input(Input::Open {
        conn: outgoing,
        open: peer_open(),
    });
    assert_eq!(bench.input(Input::Keepalive { conn: outgoing }), "out up");
}

#[test]
fn a_peer_that_dials_again_replaces_its_own_connection() {
    let passive = PeerSettings {
        passive: true,
        ..settings()
    };
    let mut bench = Bench::new(passive);
    bench.input(Input::ManualStart);
    let (old, _) = bench.accept();
    bench.input(Input::Open {
        conn: old,
        open: peer_open(),
    });
    let (new, line) = bench.accept();
    assert_eq!(line, "in 6/7, in close, in OPEN");
    assert_eq!(bench.input(Input::Keepalive { conn: old }), "");
    bench.input(Input::Open {
        conn: new,
        open: peer_open(),
    });
    assert_eq!(bench.input(Input::Keepalive { conn: new }), "in up");
}
