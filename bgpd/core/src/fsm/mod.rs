//! The FSM of RFC 4271 §8, without I/O: one [`Peer`] per configured peer, both connections of a collision included.
//!
//! Owns session state, timers and counters. Never touches a socket, a clock or a route: a driver turns sockets and
//! time into [`Input`]s and carries out the [`Output`]s.
//!
//! ```text
//!            Input                                  Output
//! driver ───────────────> Peer::handle(now, ..) ───────────────> driver ──> sockets
//!    ^                          │                                   └─────> RIB (Established, Down, refresh)
//!    └── Peer::next_deadline <──┘
//! ```
//!
//! # Where this differs from RFC 4271
//! - The state is that of the connection that got furthest. A fault on one connection moves the peer only when no
//!   other connection is there.
//! - A failed TCP connect goes to Active, not Idle: the peer's own attempt must find us listening.
//! - The ConnectRetryTimer keeps running while the only connection is one that the peer opened and sent no OPEN on,
//!   so a half-open leftover cannot hold the peer down for the half minute that an OPEN may take.
//! - A NOTIFICATION is never answered. Cease with Connection Rejected or Collision Resolution before Established
//!   leads to Active.
//! - OpenConfirm keeps a hold timer even when the Hold Time is zero.
//! - Any whole message restarts the hold timer, ROUTE-REFRESH included; unread bytes do for a bounded time.
//! - Collisions are also resolved against OpenSent, see `collision`. A connection of ours on which the peer says
//!   nothing loses to one on which it does after ten seconds, or a third of a shorter Hold Time, whatever the
//!   identifiers.
//! - Idle ends by itself: the pause after a failure doubles from `idle_hold_min` to `idle_hold_max` and starts over
//!   after a session of a minute.

mod collision;
mod conn;
mod event;
mod lifecycle;
mod messages;
mod peer;
pub mod rfc;
mod settings;
mod timer;

pub use event::{ConnId, DownReason, Initiator, Input, Message, Output, State};
pub use peer::{Counters, LastError, Peer};
pub use settings::{AddPath, Change, PeerSettings, RemoteAs, SettingsProblem, settings_change};
pub use timer::Timer;

#[cfg(test)]
mod tests;
