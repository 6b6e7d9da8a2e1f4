//! RFC 4271 §6.8: which connection stays, at the end that a [`Bench`] shows. `pair` looks at both ends.

use super::*;
use crate::fsm::collision::{Speaker, Verdict, resolve};
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
fn both_open_sent(above: bool) -> (Bench, ConnId, ConnId) {
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
    let confirmed = |us, peer, this| resolve(us, peer, this, Phase::OpenConfirm);
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
