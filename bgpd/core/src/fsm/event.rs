//! The FSM's vocabulary: states, what goes in, what comes out.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bgp_wire::{Family, Notification, Open, RouteRefresh, encode_keepalive};
use thiserror::Error;

use super::settings::PeerSettings;
use crate::negotiation::{Negotiated, OpenError};

/// The states of RFC 4271 §8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Stopped, or pausing after a failure: connections are refused.
    Idle,
    /// A connection to the peer is being made.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The OPENs agree; waiting for the first KEEPALIVE.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl State {
    /// The RFC's name, for logs, metrics and the CLI.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Connect => "Connect",
            State::Active => "Active",
            State::OpenSent => "OpenSent",
            State::OpenConfirm => "OpenConfirm",
            State::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who opened a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// We dialled.
    Local,
    /// The peer dialled.
    Remote,
}

impl Initiator {
    pub(crate) fn other(self) -> Initiator {
        match self {
            Initiator::Local => Initiator::Remote,
            Initiator::Remote => Initiator::Local,
        }
    }
}

/// Names one TCP connection of a peer for as long as the peer exists. Late events of a connection that is gone carry
/// an id that the FSM no longer knows, and are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) initiator: Initiator,
    pub(crate) generation: u64,
}

impl ConnId {
    /// Who opened the connection.
    pub fn initiator(self) -> Initiator {
        self.initiator
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.initiator {
            Initiator::Local => "outgoing",
            Initiator::Remote => "incoming",
        };
        write!(f, "{direction}#{}", self.generation)
    }
}

/// What happened. `rfc::EVENTS` maps the events of RFC 4271 §8.1 to these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bring the session up and keep it up.
    ManualStart,
    /// Take the session down until the next [`Input::ManualStart`].
    ManualStop {
        /// Words for the other operator (RFC 9003); empty for none.
        message: String,
    },
    /// Take the session down for a reason of our own, then try again.
    AutomaticStop {
        /// What the peer is told, usually a Cease (maximum prefixes, administrative reset, BFD down).
        notification: Notification,
        /// Pause before the next attempt; `None` is the damped pause of any other failure.
        restart_after: Option<Duration>,
    },
    /// New settings. What they do to a running session is for `settings_change` to say.
    SettingsChanged(Box<PeerSettings>),
    /// The connection asked for with [`Output::Connect`] is up.
    TcpConnected {
        /// As in the output.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// The peer connected. `conn` is fresh from `Peer::next_incoming`.
    TcpAccepted {
        /// The new connection.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// The connection asked for with [`Output::Connect`] could not be made.
    TcpFailed {
        /// As in the output.
        conn: ConnId,
        /// The system's words.
        reason: String,
    },
    /// A connection ended: end of file or an error.
    TcpClosed {
        /// Which one.
        conn: ConnId,
        /// The system's words.
        reason: String,
    },
    /// An OPEN that decoded.
    Open {
        /// Where from.
        conn: ConnId,
        /// The message.
        open: Box<Open>,
    },
    /// A KEEPALIVE.
    Keepalive {
        /// Where from.
        conn: ConnId,
    },
    /// An UPDATE whose verdict lets the session live. Its content goes to the RIB, past the FSM.
    Update {
        /// Where from.
        conn: ConnId,
    },
    /// A ROUTE-REFRESH.
    RouteRefresh {
        /// Where from.
        conn: ConnId,
        /// The message.
        refresh: RouteRefresh,
    },
    /// A NOTIFICATION.
    Notification {
        /// Where from.
        conn: ConnId,
        /// The message.
        notification: Notification,
    },
    /// Bytes that must end the connection: a bad header, a bad OPEN, an UPDATE with the verdict session-reset.
    DecodeError {
        /// Where from.
        conn: ConnId,
        /// What to tell the peer.
        notification: Notification,
    },
    /// The socket holds bytes that nobody has read yet. To be sent before a [`Input::Tick`], so that a peer does not
    /// die of our own slowness; see `Peer::handle`.
    BytesWaiting {
        /// Which connection.
        conn: ConnId,
    },
    /// The socket took bytes, of whatever message (RFC 9687).
    WriteProgress {
        /// Which connection.
        conn: ConnId,
    },
    /// A whole UPDATE was written, which stands for a KEEPALIVE (RFC 4271 §4.4).
    UpdateSent {
        /// Which connection.
        conn: ConnId,
    },
    /// A deadline passed.
    Tick,
}

/// A message that the FSM itself sends. All others are the RIB's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Sent once per connection.
    Open(Box<Open>),
    /// Confirms the OPEN, then proves life.
    Keepalive,
    /// The last message on a connection.
    Notification(Notification),
}

impl Message {
    /// Appends the message with its header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Open(open) => open.encode(out),
            Message::Keepalive => encode_keepalive(out),
            Message::Notification(notification) => notification.encode(out),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial; answer with [`Input::TcpConnected`] or [`Input::TcpFailed`].
    Connect {
        /// Name of the attempt and, if it works out, of the connection.
        conn: ConnId,
    },
    /// Send ahead of all queued UPDATEs.
    Send {
        /// Where to.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// Write out what [`Output::Send`] gave, drop queued UPDATEs, close; or give up dialling. May name a connection
    /// that is gone already. Nothing more is said to this connection.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// The session is up: tell the RIB, then send all routes.
    Established {
        /// The connection that carries it.
        conn: ConnId,
        /// Our end, the next hop to announce.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
        /// What both sides agreed on.
        negotiated: Box<Negotiated>,
    },
    /// The session that [`Output::Established`] announced is over.
    Down {
        /// Why.
        reason: DownReason,
        /// Whether its routes are to be kept as stale ones; never as long as graceful restart is not negotiated.
        retain: bool,
    },
    /// A connection ended before it became a session. For the log; the loser of a collision is not mentioned.
    AttemptFailed {
        /// Which connection.
        conn: ConnId,
        /// Why.
        reason: DownReason,
    },
    /// The peer wants all routes of a family again.
    RouteRefreshRequested {
        /// A negotiated family.
        family: Family,
    },
    /// The peer starts to send all its routes of a family again (RFC 7313 BoRR).
    RefreshBegin {
        /// A negotiated family.
        family: Family,
    },
    /// It has sent them: what it did not repeat is gone (RFC 7313 EoRR).
    RefreshEnd {
        /// A negotiated family.
        family: Family,
    },
    /// The peer's state, as an operator sees it, is another one than before this input.
    StateChanged {
        /// Before.
        from: State,
        /// After.
        to: State,
    },
}

/// Why a session or an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DownReason {
    /// RFC event 2.
    #[error("stopped by the operator")]
    ManualStop,
    /// RFC event 8.
    #[error("stopped: {0}")]
    AutomaticStop(Notification),
    /// The OPEN has to change; names the settings.
    #[error("settings changed: {}", .0.join(", "))]
    SettingsChanged(Vec<&'static str>),
    /// RFC event 10.
    #[error("hold timer expired: nothing was heard from the peer")]
    HoldTimerExpired,
    /// RFC 9687.
    #[error("send hold timer expired: the peer has stopped reading")]
    SendHoldTimerExpired,
    /// Our configuration and the peer's OPEN do not fit.
    #[error("{0}")]
    OpenRejected(OpenError),
    /// The peer sent something malformed.
    #[error("malformed message, sent {0}")]
    DecodeError(Notification),
    /// The peer sent something out of order.
    #[error("unexpected {message} in state {state}")]
    UnexpectedMessage {
        /// Name of the message type.
        message: &'static str,
        /// State of its connection.
        state: State,
    },
    /// The peer says why.
    #[error("the peer sent {0}")]
    NotificationReceived(Notification),
    /// The connection ended without a word.
    #[error("connection closed: {0}")]
    TcpClosed(String),
    /// No connection could be made.
    #[error("connecting failed: {0}")]
    TcpFailed(String),
    /// The attempt to connect took longer than the ConnectRetryTimer.
    #[error("connecting timed out")]
    ConnectTimeout,
}

impl DownReason {
    /// A short fixed name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            DownReason::ManualStop => "manual_stop",
            DownReason::AutomaticStop(_) => "automatic_stop",
            DownReason::SettingsChanged(_) => "settings_changed",
            DownReason::HoldTimerExpired => "hold_timer",
            DownReason::SendHoldTimerExpired => "send_hold_timer",
            DownReason::OpenRejected(_) => "open_rejected",
            DownReason::DecodeError(_) => "decode_error",
            DownReason::UnexpectedMessage { .. } => "unexpected_message",
            DownReason::NotificationReceived(_) => "notification_received",
            DownReason::TcpClosed(_) => "tcp_closed",
            DownReason::TcpFailed(_) => "tcp_failed",
            DownReason::ConnectTimeout => "connect_timeout",
        }
    }
}
