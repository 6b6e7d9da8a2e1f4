//! One configured peer: the public face of the FSM and its dispatch. The handlers are in `lifecycle` (start, stop,
//! TCP, failures, timers) and `messages` (what the peer says).

use std::net::SocketAddr;
use std::time::Instant;

use super::conn::{Conn, Phase};
use super::event::{ConnId, DownReason, Initiator, Input, Message, Output, State};
use super::settings::PeerSettings;
use super::timer::{Jitter, Timer, Timers};
use crate::negotiation::Negotiated;

/// What happened so far, for status and metrics. All counters only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions that reached Established.
    pub established: u64,
    /// Sessions that left Established.
    pub dropped: u64,
    /// Connections dialled.
    pub dialled: u64,
    /// Connections of the peer that were taken.
    pub accepted: u64,
    /// Connections of the peer that were refused at once.
    pub refused: u64,
    /// Connections that ended before Established, collisions not counted.
    pub failed: u64,
    /// Connections closed because another one to the same peer was better.
    pub collisions: u64,
    /// OPENs received.
    pub opens_in: u64,
    /// OPENs sent.
    pub opens_out: u64,
    /// UPDATEs received.
    pub updates_in: u64,
    /// KEEPALIVEs received.
    pub keepalives_in: u64,
    /// KEEPALIVEs sent.
    pub keepalives_out: u64,
    /// ROUTE-REFRESHes received.
    pub refreshes_in: u64,
    /// NOTIFICATIONs received.
    pub notifications_in: u64,
    /// NOTIFICATIONs sent.
    pub notifications_out: u64,
    /// Times that unread bytes kept a session alive: above zero means that this machine reads too slowly.
    pub unread_extensions: u64,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Instant,
    /// What.
    pub reason: DownReason,
}

/// The FSM of one configured peer, with up to one connection in each direction until a collision is resolved.
///
/// It never reads a clock, waits or fails: [`Peer::handle`] is total.
#[derive(Debug)]
pub struct Peer {
    pub(super) settings: PeerSettings,
    /// Between ManualStart and ManualStop.
    pub(super) started: bool,
    /// By [`Initiator`]: ours, the peer's.
    pub(super) conns: [Option<Conn>; 2],
    pub(super) last_dialled: u64,
    pub(super) last_incoming: u64,
    pub(super) last_accepted: u64,
    /// ConnectRetry and IdleHold; the others belong to a connection.
    pub(super) timers: Timers,
    pub(super) jitter: Jitter,
    /// Failures in a row, the exponent of the pause (the RFC's ConnectRetryCounter).
    pub(super) failures: u32,
    pub(super) established_at: Option<Instant>,
    pub(super) counters: Counters,
    state: State,
    since: Instant,
    pub(super) last_error: Option<LastError>,
    /// The last error says what does not fit in the settings of the two ends, and neither a session nor other
    /// settings came since.
    pub(super) unfit: bool,
}

impl Peer {
    /// A stopped peer. `seed` feeds the jitter of its timers and should differ between peers.
    pub fn new(settings: PeerSettings, now: Instant, seed: u64) -> Peer {
        Peer {
            settings,
            started: false,
            conns: [None, None],
            last_dialled: 0,
            last_incoming: 0,
            last_accepted: 0,
            timers: Timers::default(),
            jitter: Jitter::new(seed),
            failures: 0,
            established_at: None,
            counters: Counters::default(),
            state: State::Idle,
            since: now,
            last_error: None,
            unfit: false,
        }
    }

    /// Names a connection that the peer opened, for [`Input::TcpAccepted`].
    pub fn next_incoming(&mut self) -> ConnId {
        self.last_incoming += 1;
        ConnId {
            initiator: Initiator::Remote,
            generation: self.last_incoming,
        }
    }

    /// Takes one input and appends what is to be done, in order.
    ///
    /// Timers only fire on [`Input::Tick`]. A driver that reads from a socket first, and sends
    /// [`Input::BytesWaiting`] for what it could not read yet, therefore never lets the hold timer kill a peer whose
    /// messages are already here. Unread bytes extend the hold timer for at most ten Hold Times after the last whole
    /// message, so a peer that trickles bytes does not live for ever.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::ManualStart => self.manual_start(now, out),
            Input::ManualStop { message } => self.manual_stop(now, &message, out),
            Input::AutomaticStop {
                notification,
                restart_after,
            } => {
                self.automatic_stop(now, notification, restart_after, out);
            }
            Input::SettingsChanged(settings) => self.change_settings(now, *settings, out),
            Input::TcpConnected {
                conn,
                local,
                remote,
            } => {
                self.tcp_connected(now, conn, (local, remote), out);
            }
            Input::TcpAccepted {
                conn,
                local,
                remote,
            } => {
                self.tcp_accepted(now, conn, (local, remote), out);
            }
            Input::TcpFailed { conn, reason } => {
                self.tcp_ended(now, conn, DownReason::TcpFailed(reason), out);
            }
            Input::TcpClosed { conn, reason } => {
                self.tcp_ended(now, conn, DownReason::TcpClosed(reason), out);
            }
            Input::Open { conn, open } => self.open(now, conn, &open, out),
            Input::Keepalive { conn } => self.keepalive(now, conn, out),
            Input::Update { conn } => self.update(now, conn, out),
            Input::RouteRefresh { conn, refresh } => self.route_refresh(now, conn, refresh, out),
            Input::Notification { conn, notification } => {
                self.notification(now, conn, notification, out);
            }
            Input::DecodeError { conn, notification } => {
                self.decode_error(now, conn, notification, out);
            }
            Input::BytesWaiting { conn } => {
                if self
                    .conn_mut(conn)
                    .is_some_and(|conn| conn.bytes_waiting(now))
                {
                    self.counters.unread_extensions += 1;
                }
            }
            Input::WriteProgress { conn } => self.write_progress(now, conn),
            Input::UpdateSent { conn } => self.rearm_keepalive(now, conn),
            Input::Tick => self.tick(now, out),
        }
        self.settle(now, out);
    }

    /// When [`Input::Tick`] is due next; `None` while no timer runs.
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_conns = self
            .conns
            .iter()
            .flatten()
            .filter_map(|conn| conn.timers.earliest());
        of_conns.chain(self.timers.earliest()).min()
    }

    /// The state as an operator sees it: that of the connection that got furthest.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when the peer is in [`Peer::state`].
    pub fn since(&self) -> Instant {
        self.since
    }

    /// False after [`Input::ManualStop`] and before the first [`Input::ManualStart`].
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The settings in force.
    pub fn settings(&self) -> &PeerSettings {
        &self.settings
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Why the last session or attempt failed; survives the next success. A peer that refuses a connection does not
    /// replace what does not fit in the OPENs: two peers that reject each other's OPEN also refuse each other's
    /// connections during their pauses.
    pub fn last_error(&self) -> Option<&LastError> {
        self.last_error.as_ref()
    }

    /// The running session, if there is one.
    pub fn session(&self) -> Option<(ConnId, &Negotiated)> {
        let conn = self
            .conns
            .iter()
            .flatten()
            .find(|conn| conn.phase == Phase::Established)?;
        Some((conn.id, conn.negotiated.as_deref()?))
    }

    /// Both ends of the connection that got furthest: ours, the peer's.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.conns
            .iter()
            .flatten()
            .max_by_key(|conn| conn.phase)?
            .ends
    }

    /// What was agreed on a connection; present from OpenConfirm on. Decoding an UPDATE needs it.
    pub fn negotiated(&self, conn: ConnId) -> Option<&Negotiated> {
        self.conn(conn)?.negotiated.as_deref()
    }

    pub(super) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns[id.initiator as usize]
            .as_ref()
            .filter(|conn| conn.id == id)
    }

    pub(super) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns[id.initiator as usize]
            .as_mut()
            .filter(|conn| conn.id == id)
    }

    /// The phase of a connection over which bytes can come.
    pub(super) fn phase(&self, id: ConnId) -> Option<Phase> {
        self.conn(id)
            .map(|conn| conn.phase)
            .filter(|phase| *phase > Phase::Connecting)
    }

    pub(super) fn send(&mut self, conn: ConnId, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Open(_) => self.counters.opens_out += 1,
            Message::Keepalive => self.counters.keepalives_out += 1,
            Message::Notification(_) => self.counters.notifications_out += 1,
        }
        out.push(Output::Send { conn, message });
    }

    fn current_state(&self) -> State {
        let ours = &self.conns[Initiator::Local as usize];
        let furthest = self.conns.iter().flatten().map(|conn| conn.phase).max();
        match furthest {
            // With our OPEN held back, the RFC stays in the state in which the connection came up.
            Some(Phase::DelayOpen) if ours.is_none() => State::Active,
            Some(phase) => phase.state(),
            None if !self.started || self.timers.is_armed(Timer::IdleHold) => State::Idle,
            None => State::Active,
        }
    }

    /// Restores what holds between two inputs: the ConnectRetryTimer runs exactly while dialling could help, and a
    /// change of state is reported.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        let may_dial = self.started
            && !self.settings.passive
            && !self.timers.is_armed(Timer::IdleHold)
            && self.conns[Initiator::Local as usize]
                .as_ref()
                .is_none_or(|conn| conn.phase == Phase::Connecting)
            && self
                .conns
                .iter()
                .flatten()
                .all(|conn| conn.phase < Phase::OpenConfirm);
        if !may_dial {
            self.timers.disarm(Timer::ConnectRetry);
        } else if !self.timers.is_armed(Timer::ConnectRetry) {
            self.arm_connect_retry(now);
        }
        let state = self.current_state();
        if state != self.state {
            out.push(Output::StateChanged {
                from: self.state,
                to: state,
            });
            self.state = state;
            self.since = now;
        }
    }
}
