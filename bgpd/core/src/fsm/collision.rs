//! Which of two connections to one peer stays (RFC 4271 §6.8, RFC 6286 §2.3).
//!
//! The connection that the speaker with the higher BGP Identifier opened stays; both sides compute the same. The RFC
//! compares when an OPEN arrives while the other connection is in OpenConfirm, and allows the same for OpenSent. Both
//! are needed, with one exception, so that two of these speakers never lose an Established session to a collision:
//!
//! - A connection *we* opened, in OpenSent, with us the higher: the peer's kernel took it and our OPEN is under way,
//!   so it is certain to win. The other one must not be confirmed with a KEEPALIVE, or the peer could establish it
//!   just before it closes it.
//! - A connection *the peer* opened, in OpenSent, with the peer the higher: the peer may have dropped it meanwhile
//!   (it stops dialling once another connection is confirmed). Both stay until its OPEN proves that it lives.
//!
//! The first case has an end. An OPEN on a connection that the peer opened proves that the peer lives; a connection of
//! ours on which it has not said a word for [`patience`] is then half-open, and would refuse every attempt of the peer
//! for the half minute that an OPEN may take. It loses, whatever the identifiers. The peer counts on it only if a
//! round trip takes longer than that: it sends its OPEN when it takes the connection, at the latest when ours arrives.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::conn::Phase;
use super::event::Initiator;

/// Longest [`patience`]. Far above any round trip, and not long for an operator who waits for a session.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long our own connection may be silent after our OPEN while another one proves that the peer lives. `hold_time`
/// is what that other one agreed on, zero for none: whoever wants a dead session found sooner wants this sooner too.
pub(crate) fn patience(hold_time: Duration) -> Duration {
    if hold_time.is_zero() {
        LONGEST_PATIENCE
    } else {
        LONGEST_PATIENCE.min(hold_time / 3)
    }
}

/// A speaker, for the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Speaker {
    // Field order is the order of comparison: the AS number breaks ties (RFC 6286).
    pub(crate) id: Ipv4Addr,
    pub(crate) asn: u32,
}

/// Verdict on the connection that just received an OPEN, and on the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    KeepBoth,
    CloseThis,
    CloseOther,
}

/// `this` is who opened the connection that just received an OPEN; `other` is the phase of the other connection, and
/// `silent` whether nothing came on that one for [`patience`].
pub(crate) fn resolve(
    us: Speaker,
    peer: Speaker,
    this: Initiator,
    other: Phase,
    silent: bool,
) -> Verdict {
    let winner = if us > peer {
        Initiator::Local
    } else {
        Initiator::Remote
    };
    match other {
        Phase::Established => Verdict::CloseThis,
        Phase::OpenConfirm | Phase::OpenSent if winner == this => Verdict::CloseOther,
        Phase::OpenConfirm => Verdict::CloseThis,
        Phase::OpenSent if winner == Initiator::Local && silent => Verdict::CloseOther,
        Phase::OpenSent if winner == Initiator::Local => Verdict::CloseThis,
        Phase::OpenSent => Verdict::KeepBoth,
        // No OPEN on it yet. Once this one is confirmed our own attempt is given up; the peer's may still carry an
        // OPEN that it counts on.
        Phase::DelayOpen | Phase::Connecting if this == Initiator::Remote => Verdict::CloseOther,
        Phase::DelayOpen | Phase::Connecting => Verdict::KeepBoth,
    }
}
