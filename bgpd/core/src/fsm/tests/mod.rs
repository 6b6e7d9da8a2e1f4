//! Tests of the FSM, by topic. Time is made up here: one [`Bench`] is a peer and a clock that only tests move.

mod collision;
mod matrix;
mod open;
mod pair;
mod props;
mod single;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp_wire::{Family, Notification, Open};

use super::*;
use crate::negotiation::local_open;

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 179))
}

/// Settings of AS 65001, router id 10.0.0.1, towards AS 65002.
pub(super) fn settings() -> PeerSettings {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    PeerSettings::new(65001, 65002, Ipv4Addr::new(10, 0, 0, 1), families)
}

/// The same session seen from the other end, router id 10.0.0.2.
pub(super) fn peer_settings() -> PeerSettings {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    PeerSettings::new(65002, 65001, Ipv4Addr::new(10, 0, 0, 2), families)
}

pub(super) fn peer_open() -> Box<Open> {
    Box::new(local_open(&peer_settings()))
}

/// One line per output, short enough to compare in a table.
pub(super) fn summary(output: &Output) -> String {
    let side = |conn: &ConnId| match conn.initiator() {
        Initiator::Local => "out",
        Initiator::Remote => "in",
    };
    match output {
        Output::Connect { conn } => format!("{} connect", side(conn)),
        Output::Send {
            conn,
            message: Message::Open(_),
        } => format!("{} OPEN", side(conn)),
        Output::Send {
            conn,
            message: Message::Keepalive,
        } => format!("{} KEEPALIVE", side(conn)),
        Output::Send {
            conn,
            message: Message::Notification(Notification { code, subcode, .. }),
        } => {
            format!("{} {code}/{subcode}", side(conn))
        }
        Output::Close { conn } => format!("{} close", side(conn)),
        Output::Established { conn, .. } => format!("{} up", side(conn)),
        Output::Down { reason, .. } => format!("down {}", reason.label()),
        Output::AttemptFailed { reason, .. } => format!("failed {}", reason.label()),
        Output::RouteRefreshRequested { .. } => "refresh".into(),
        Output::RefreshBegin { .. } => "refresh-begin".into(),
        Output::RefreshEnd { .. } => "refresh-end".into(),
        Output::StateChanged { .. } => "state".into(),
    }
}

pub(super) struct Bench {
    pub(super) peer: Peer,
    pub(super) now: Instant,
    pub(super) outputs: Vec<Output>,
}

impl Bench {
    pub(super) fn new(settings: PeerSettings) -> Bench {
        let now = Instant::now();
        Bench {
            peer: Peer::new(settings, now, 1),
            now,
            outputs: Vec::new(),
        }
    }

    /// A started peer whose dialled connection is up.
    pub(super) fn connected(settings: PeerSettings) -> (Bench, ConnId) {
        let mut bench = Bench::new(settings);
        bench.input(Input::ManualStart);
        let conn = bench.dialled();
        bench.input(Input::TcpConnected {
            conn,
            local: addr(1),
            remote: addr(2),
        });
        (bench, conn)
    }

    pub(super) fn established(settings: PeerSettings) -> (Bench, ConnId) {
        let (mut bench, conn) = Bench::connected(settings);
        bench.input(Input::Open {
            conn,
            open: peer_open(),
        });
        bench.input(Input::Keepalive { conn });
        assert_eq!(bench.peer.state(), State::Established);
        (bench, conn)
    }

    /// Feeds one input and returns what came out, joined.
    pub(super) fn input(&mut self, input: Input) -> String {
        let from = self.outputs.len();
        self.peer.handle(self.now, input, &mut self.outputs);
        let new = self.outputs[from..].iter().map(summary);
        new.filter(|line| line != "state")
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub(super) fn accept(&mut self) -> (ConnId, String) {
        let conn = self.peer.next_incoming();
        (
            conn,
            self.input(Input::TcpAccepted {
                conn,
                local: addr(1),
                remote: addr(2),
            }),
        )
    }

    /// The connection last asked for.
    pub(super) fn dialled(&self) -> ConnId {
        let asked = self.outputs.iter().rev().find_map(|output| match output {
            Output::Connect { conn } => Some(*conn),
            _ => None,
        });
        asked.expect("the peer dialled")
    }

    /// Lets time pass, ticking at every deadline, and returns what came out with the offset of each line in seconds.
    pub(super) fn pass(&mut self, span: Duration) -> Vec<(f64, String)> {
        let (start, end) = (self.now, self.now + span);
        let mut lines = Vec::new();
        while let Some(deadline) = self
            .peer
            .next_deadline()
            .filter(|deadline| *deadline <= end)
        {
            self.now = deadline.max(self.now);
            let line = self.input(Input::Tick);
            lines.push(((self.now - start).as_secs_f64(), line));
        }
        self.now = end;
        lines
    }
}
