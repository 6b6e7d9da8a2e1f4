//! One TCP connection of a peer: how far it got, its timers, what was agreed on it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::event::{ConnId, State};
use super::timer::{Timer, Timers};
use crate::negotiation::Negotiated;

/// How long a peer may take to send its OPEN. RFC 4271 §8.2.2 suggests four minutes and leaves it open. While one of our
/// own connections waits, no other is dialled: two ends that each hold a silent one would stay apart for that long.
/// Above the round trips that a TCP connection survives, and an OPEN that is held back comes once ours is there.
pub(crate) const OPEN_HOLD_TIME: Duration = Duration::from_secs(30);

/// Unread bytes may stand for a message for this many Hold Times since the last whole one. Enough for any pause of
/// ours, and the end for a peer that trickles one byte at a time.
pub(crate) const UNREAD_HOLD_TIMES: u32 = 10;

/// How far a connection got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Being dialled; not a connection yet.
    Connecting,
    /// Up; our OPEN is held back (DelayOpenTimer).
    DelayOpen,
    OpenSent,
    OpenConfirm,
    Established,
}

impl Phase {
    /// The RFC's state of a session that is carried by such a connection.
    pub(crate) fn state(self) -> State {
        match self {
            Phase::Connecting | Phase::DelayOpen => State::Connect,
            Phase::OpenSent => State::OpenSent,
            Phase::OpenConfirm => State::OpenConfirm,
            Phase::Established => State::Established,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) phase: Phase,
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    pub(crate) timers: Timers,
    /// Present from OpenConfirm on.
    pub(crate) negotiated: Option<Box<Negotiated>>,
    /// When the last whole message came.
    pub(crate) last_message: Instant,
}

impl Conn {
    pub(crate) fn new(id: ConnId, ends: Option<(SocketAddr, SocketAddr)>, now: Instant) -> Conn {
        Conn {
            id,
            phase: Phase::Connecting,
            ends,
            timers: Timers::default(),
            negotiated: None,
            last_message: now,
        }
    }

    /// The Hold Time in force, zero when there is none. Until the first KEEPALIVE there always is one: a peer that
    /// negotiated zero must not be able to stay in OpenConfirm for ever.
    fn hold_time(&self) -> Duration {
        let negotiated = self
            .negotiated
            .as_ref()
            .map(|negotiated| negotiated.hold_time);
        match (self.phase, negotiated) {
            (Phase::Established, Some(hold_time)) => hold_time,
            (_, Some(hold_time)) if !hold_time.is_zero() => hold_time,
            _ => OPEN_HOLD_TIME,
        }
    }

    /// A whole message arrived, of whatever type; the RFC names KEEPALIVE and UPDATE, and any other proves life too.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_message = now;
        let hold_time = self.hold_time();
        if hold_time.is_zero() {
            self.timers.disarm(Timer::Hold);
        } else {
            self.timers.arm(Timer::Hold, now + hold_time);
        }
    }

    /// Bytes wait in the socket. Returns whether they counted as life. They do not before the OPENs agree:
    /// half a minute is long enough.
    pub(crate) fn bytes_waiting(&mut self, now: Instant) -> bool {
        let limit = self.last_message + self.hold_time() * UNREAD_HOLD_TIMES;
        let counts =
            self.phase >= Phase::OpenConfirm && self.timers.is_armed(Timer::Hold) && now < limit;
        if counts {
            self.timers
                .arm(Timer::Hold, limit.min(now + self.hold_time()));
        }
        counts
    }
}
