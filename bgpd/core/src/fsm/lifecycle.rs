//! Start, stop, TCP events, timers, and what a failure costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bgp_wire::{Notification, cease, code};

use super::conn::{Conn, Phase};
use super::event::{ConnId, DownReason, Initiator, Message, Output};
use super::messages::is_not_now;
use super::peer::{LastError, Peer};
use super::settings::{Change, PeerSettings, settings_change};
use super::timer::Timer;
use crate::negotiation::{keepalive_interval, local_open};

/// A session that lasted this long clears the record of failures before it.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Least SendHoldTime by default (RFC 9687 §3).
const SEND_HOLD_MIN: Duration = Duration::from_secs(480);

/// Floor under configured pauses: a pause of zero would make the driver spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Ceiling over all of them: points in time are computed from it, and those end somewhere.
const LONGEST_PAUSE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What follows when the last connection of a peer is gone.
pub(super) enum Next {
    /// Idle for the damped pause.
    Damp,
    /// Idle for this long, without a mark on the record.
    Pause(Duration),
    /// Keep listening, dial again at the ConnectRetryTimer.
    Listen,
}

fn bounded(pause: Duration) -> Duration {
    pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

impl Peer {
    pub(super) fn manual_start(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.started {
            return;
        }
        self.started = true;
        self.failures = 0;
        self.dial(now, out);
    }

    pub(super) fn manual_stop(&mut self, _now: Instant, message: &str, out: &mut Vec<Output>) {
        if !self.started {
            return;
        }
        self.started = false;
        self.failures = 0;
        self.timers.disarm(Timer::IdleHold);
        let notification = if message.is_empty() {
            Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN)
        } else {
            Notification::administrative_shutdown(message)
        };
        for initiator in [Initiator::Local, Initiator::Remote] {
            self.end(initiator, Some(&notification), DownReason::ManualStop, out);
        }
    }

    pub(super) fn automatic_stop(
        &mut self,
        now: Instant,
        notification: Notification,
        restart_after: Option<Duration>,
        out: &mut Vec<Output>,
    ) {
        let pausing = self.timers.is_armed(Timer::IdleHold);
        // The pause is not made longer by one more reason for it, but may be ended early.
        if !self.started || (pausing && restart_after.is_none()) {
            return;
        }
        let reason = DownReason::AutomaticStop(notification.clone());
        self.note_error(now, &reason);
        for initiator in [Initiator::Local, Initiator::Remote] {
            self.end(initiator, Some(&notification), reason.clone(), out);
        }
        self.continue_with(now, restart_after.map_or(Next::Damp, Next::Pause));
    }

    pub(super) fn change_settings(
        &mut self,
        now: Instant,
        mut settings: PeerSettings,
        out: &mut Vec<Output>,
    ) {
        if settings.is_swapped(&self.settings) {
            // The peer has taught us which of the two it knows.
            settings.swap_local_as();
        }
        let change = settings_change(&self.settings, &settings);
        self.settings = settings;
        match change {
            Change::None => {}
            Change::Live => self.apply_live(now, out),
            Change::Reset(names) => {
                self.reset_opened(now, &names, out);
                // What failed before may be what was just corrected: do not let it wait.
                self.failures = 0;
                self.unfit = false;
                if self.timers.is_armed(Timer::IdleHold) {
                    self.continue_with(now, Next::Pause(self.settings.idle_hold_min));
                }
                self.apply_live(now, out);
            }
        }
    }

    /// Ends the connections on which the old OPEN was sent.
    fn reset_opened(&mut self, now: Instant, names: &[&'static str], out: &mut Vec<Output>) {
        let notification = Notification::cease(cease::OTHER_CONFIGURATION_CHANGE);
        let mut ended = false;
        for initiator in [Initiator::Local, Initiator::Remote] {
            if self
                .phase_of(initiator)
                .is_some_and(|phase| phase >= Phase::OpenSent)
            {
                let reason = DownReason::SettingsChanged(names.to_vec());
                self.end(initiator, Some(&notification), reason, out);
                ended = true;
            }
        }
        if ended && self.conns.iter().all(Option::is_none) {
            self.continue_with(now, Next::Pause(self.settings.idle_hold_min));
        }
    }

    fn apply_live(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.settings.passive && self.phase_of(Initiator::Local) == Some(Phase::Connecting) {
            self.drop_quietly(Initiator::Local, None, out);
        }
        let mut changed = Vec::new();
        for conn in self.conns.iter_mut().flatten() {
            if let Some(negotiated) = &mut conn.negotiated {
                let keepalive = keepalive_interval(&self.settings, negotiated.hold_time);
                if negotiated.keepalive != keepalive {
                    negotiated.keepalive = keepalive;
                    changed.push(conn.id);
                }
            }
        }
        for conn in changed {
            self.rearm_keepalive(now, conn);
        }
        // A shorter pause between attempts counts from now on; `settle` arms it.
        self.timers.disarm(Timer::ConnectRetry);
    }

    pub(super) fn tcp_connected(
        &mut self,
        now: Instant,
        id: ConnId,
        ends: (SocketAddr, SocketAddr),
        out: &mut Vec<Output>,
    ) {
        match self.conn_mut(id) {
            Some(conn) if conn.phase == Phase::Connecting => {
                conn.ends = Some(ends);
                self.begin(now, id, out);
            }
            Some(_) => {}
            // Given up before the kernel was done: the socket must not stay.
            None => out.push(Output::Close { conn: id }),
        }
    }

    pub(super) fn tcp_accepted(
        &mut self,
        now: Instant,
        id: ConnId,
        ends: (SocketAddr, SocketAddr),
        out: &mut Vec<Output>,
    ) {
        if self.conn(id).is_some() {
            return;
        }
        let fresh = id.initiator == Initiator::Remote
            && id.generation > self.last_accepted
            && id.generation <= self.last_incoming;
        if !fresh {
            out.push(Output::Close { conn: id });
            return;
        }
        self.last_accepted = id.generation;
        let refusal = if !self.started || self.timers.is_armed(Timer::IdleHold) {
            Some(cease::CONNECTION_REJECTED)
        } else if self.session().is_some() {
            // RFC 4271 §6.8: a session that works is not given up for a connection that may be a half-open leftover
            // or a probe. A peer that rebooted without a word waits for our hold timer; what lets a new connection
            // replace the session is graceful restart (RFC 4724 §4.2), which is not negotiated here.
            Some(cease::CONNECTION_COLLISION_RESOLUTION)
        } else {
            None
        };
        if let Some(subcode) = refusal {
            self.counters.refused += 1;
            self.send(id, Message::Notification(Notification::cease(subcode)), out);
            out.push(Output::Close { conn: id });
            return;
        }
        // A peer that dials again has given up on its earlier connection, whatever TCP still says about that one.
        self.drop_quietly(
            Initiator::Remote,
            Some(cease::CONNECTION_COLLISION_RESOLUTION),
            out,
        );
        self.counters.accepted += 1;
        self.conns[Initiator::Remote as usize] = Some(Conn::new(id, Some(ends), now));
        self.begin(now, id, out);
    }

    /// TCP is up: send the OPEN, or hold it back.
    fn begin(&mut self, now: Instant, id: ConnId, out: &mut Vec<Output>) {
        let delay_open = self.settings.delay_open;
        match (self.conn_mut(id), delay_open) {
            (Some(conn), Some(delay)) => {
                conn.phase = Phase::DelayOpen;
                conn.timers
                    .arm(Timer::DelayOpen, now + delay.min(LONGEST_PAUSE));
            }
            (Some(_), None) => self.send_open(now, id, out),
            (None, _) => {}
        }
    }

    pub(super) fn send_open(&mut self, now: Instant, id: ConnId, out: &mut Vec<Output>) {
        let open = Box::new(local_open(&self.settings));
        self.send(id, Message::Open(open), out);
        if let Some(conn) = self.conn_mut(id) {
            conn.phase = Phase::OpenSent;
            conn.timers.disarm(Timer::DelayOpen);
            conn.heard(now);
        }
    }

    pub(super) fn tcp_ended(
        &mut self,
        now: Instant,
        id: ConnId,
        reason: DownReason,
        out: &mut Vec<Output>,
    ) {
        let next = match self.conn(id).map(|conn| conn.phase) {
            Some(Phase::OpenConfirm | Phase::Established) => Next::Damp,
            // In Connect without a DelayOpenTimer the RFC goes to Idle. That would refuse the peer's own attempt, at
            // the moment when the peer boots; Active keeps listening, and the ConnectRetryTimer is pause enough.
            Some(_) => Next::Listen,
            None => return,
        };
        self.fail(now, id, None, reason, next, out);
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        for initiator in [Initiator::Local, Initiator::Remote] {
            while let Some((id, timer)) = self.conns[initiator as usize]
                .as_mut()
                .and_then(|conn| Some((conn.id, conn.timers.take_due(now)?)))
            {
                self.conn_timer(now, id, timer, out);
            }
        }
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::ConnectRetry => self.connect_retry(now, out),
                Timer::IdleHold => self.dial(now, out),
                Timer::SendHold | Timer::Hold | Timer::DelayOpen | Timer::Keepalive => {}
            }
        }
    }

    fn conn_timer(&mut self, now: Instant, id: ConnId, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Hold => {
                let notification = Notification::hold_timer_expired();
                self.fail(
                    now,
                    id,
                    Some(notification),
                    DownReason::HoldTimerExpired,
                    Next::Damp,
                    out,
                );
            }
            // No NOTIFICATION: what cannot be written cannot carry one either.
            Timer::SendHold => {
                self.fail(
                    now,
                    id,
                    None,
                    DownReason::SendHoldTimerExpired,
                    Next::Damp,
                    out,
                );
            }
            Timer::DelayOpen => self.send_open(now, id, out),
            Timer::Keepalive => {
                self.send(id, Message::Keepalive, out);
                self.rearm_keepalive(now, id);
            }
            Timer::ConnectRetry | Timer::IdleHold => {}
        }
    }

    fn connect_retry(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Some(conn) = self.conns[Initiator::Local as usize].take() {
            out.push(Output::Close { conn: conn.id });
            self.note_failure(now, conn.id, DownReason::ConnectTimeout, out);
        }
        self.dial(now, out);
    }

    /// Starts an attempt, unless settings forbid it or an attempt is running.
    fn dial(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.settings.passive || self.conns[Initiator::Local as usize].is_some() {
            return;
        }
        self.last_dialled += 1;
        let id = ConnId {
            initiator: Initiator::Local,
            generation: self.last_dialled,
        };
        self.conns[Initiator::Local as usize] = Some(Conn::new(id, None, now));
        self.counters.dialled += 1;
        self.arm_connect_retry(now);
        out.push(Output::Connect { conn: id });
    }

    pub(super) fn arm_connect_retry(&mut self, now: Instant) {
        let pause = self.jitter.apply(bounded(self.settings.connect_retry));
        self.timers.arm(Timer::ConnectRetry, now + pause);
    }

    pub(super) fn rearm_keepalive(&mut self, now: Instant, id: ConnId) {
        let interval = self
            .negotiated(id)
            .map_or(Duration::ZERO, |negotiated| negotiated.keepalive);
        let jittered = self.jitter.apply(interval);
        if let Some(conn) = self.conn_mut(id) {
            if interval.is_zero() {
                conn.timers.disarm(Timer::Keepalive);
            } else {
                conn.timers.arm(Timer::Keepalive, now + jittered);
            }
        }
    }

    /// (Re)starts the SendHoldTimer of an Established session; off when the Hold Time is zero (RFC 9687 §3).
    pub(super) fn write_progress(&mut self, now: Instant, id: ConnId) {
        let configured = self.settings.send_hold_time;
        if let Some(conn) = self
            .conn_mut(id)
            .filter(|conn| conn.phase == Phase::Established)
        {
            let hold_time = conn
                .negotiated
                .as_ref()
                .map_or(Duration::ZERO, |negotiated| negotiated.hold_time);
            if !hold_time.is_zero() {
                let send_hold = configured
                    .unwrap_or(SEND_HOLD_MIN.max(hold_time * 2))
                    .clamp(hold_time, LONGEST_PAUSE);
                conn.timers.arm(Timer::SendHold, now + send_hold);
            }
        }
    }

    /// Ends a connection for a fault. Only the loss of the last connection moves the peer: while another one is
    /// alive, or being made, a fault on this one says little about the peer.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        id: ConnId,
        notification: Option<Notification>,
        reason: DownReason,
        next: Next,
        out: &mut Vec<Output>,
    ) {
        let stable = self
            .established_at
            .is_some_and(|at| now.saturating_duration_since(at) >= STABLE_AFTER);
        if self
            .conn(id)
            .is_some_and(|conn| conn.phase == Phase::Established)
            && stable
        {
            self.failures = 0;
        }
        self.note_error(now, &reason);
        self.end(id.initiator, notification.as_ref(), reason, out);
        if self.conns.iter().all(Option::is_none) {
            self.continue_with(now, next);
        }
    }

    fn continue_with(&mut self, now: Instant, next: Next) {
        let pause = match next {
            Next::Listen => return,
            Next::Pause(pause) => pause,
            Next::Damp => {
                let longest = self.settings.idle_hold_max;
                let pause = self
                    .settings
                    .idle_hold_min
                    .saturating_mul(1 << self.failures.min(16))
                    .min(longest);
                self.failures = self.failures.saturating_add(1);
                self.jitter.apply(bounded(pause))
            }
        };
        // It may be due at this very tick.
        self.timers.disarm(Timer::ConnectRetry);
        self.timers.arm(Timer::IdleHold, now + bounded(pause));
    }

    /// Takes a connection away and says so: to the peer as far as TCP is up, to the RIB if it carried the session.
    fn end(
        &mut self,
        initiator: Initiator,
        notification: Option<&Notification>,
        reason: DownReason,
        out: &mut Vec<Output>,
    ) {
        let Some(conn) = self.conns[initiator as usize].take() else {
            return;
        };
        if let Some(notification) = notification.filter(|_| conn.phase > Phase::Connecting) {
            self.send(conn.id, Message::Notification(notification.clone()), out);
        }
        out.push(Output::Close { conn: conn.id });
        if conn.phase == Phase::Established {
            self.established_at = None;
            self.counters.dropped += 1;
            out.push(Output::Down {
                reason,
                retain: false,
            });
        } else if !matches!(reason, DownReason::ManualStop) {
            self.counters.failed += 1;
            out.push(Output::AttemptFailed {
                conn: conn.id,
                reason,
            });
        }
    }

    /// Keeps what went wrong for status, see [`Peer::last_error`].
    fn note_error(&mut self, now: Instant, reason: &DownReason) {
        let (refused, unfit) = match reason {
            DownReason::OpenRejected(_) => (false, true),
            DownReason::NotificationReceived(notification) => (
                is_not_now(notification),
                notification.code == code::OPEN_MESSAGE,
            ),
            _ => (false, false),
        };
        if refused && self.unfit {
            return;
        }
        self.unfit = unfit;
        self.last_error = Some(LastError {
            at: now,
            reason: reason.clone(),
        });
    }

    fn note_failure(
        &mut self,
        now: Instant,
        conn: ConnId,
        reason: DownReason,
        out: &mut Vec<Output>,
    ) {
        self.counters.failed += 1;
        self.note_error(now, &reason);
        out.push(Output::AttemptFailed { conn, reason });
    }

    /// Closes a connection that another one made superfluous.
    pub(super) fn drop_quietly(
        &mut self,
        initiator: Initiator,
        subcode: Option<u8>,
        out: &mut Vec<Output>,
    ) {
        let Some(conn) = self.conns[initiator as usize].take() else {
            return;
        };
        if let Some(subcode) = subcode.filter(|_| conn.phase > Phase::Connecting) {
            self.counters.collisions += 1;
            self.send(
                conn.id,
                Message::Notification(Notification::cease(subcode)),
                out,
            );
        }
        out.push(Output::Close { conn: conn.id });
    }

    pub(super) fn phase_of(&self, initiator: Initiator) -> Option<Phase> {
        self.conns[initiator as usize]
            .as_ref()
            .map(|conn| conn.phase)
    }
}
