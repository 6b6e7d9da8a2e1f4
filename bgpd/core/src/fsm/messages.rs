//! What the peer says, per phase of the connection that it says it on.

use std::time::Instant;

use bgp_wire::{
    Family, Notification, Open, RouteRefresh, cease, code, fsm_error, open_error, refresh_subtype,
};

use super::collision::{Speaker, Verdict, patience, resolve};
use super::conn::Phase;
use super::event::{ConnId, DownReason, Message, Output};
use super::lifecycle::Next;
use super::peer::Peer;
use crate::negotiation::{Negotiated, negotiate};

/// The peer refuses a connection, not us.
pub(super) fn is_not_now(notification: &Notification) -> bool {
    notification.code == code::CEASE
        && matches!(
            notification.subcode,
            cease::CONNECTION_REJECTED | cease::CONNECTION_COLLISION_RESOLUTION
        )
}

/// The peer does not know us by the AS number of our OPEN.
fn is_bad_peer_as(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (code::OPEN_MESSAGE, open_error::BAD_PEER_AS)
}

impl Peer {
    pub(super) fn open(&mut self, now: Instant, id: ConnId, open: &Open, out: &mut Vec<Output>) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        self.counters.opens_in += 1;
        if phase > Phase::OpenSent {
            self.unexpected(now, id, "OPEN", out);
            return;
        }
        let negotiated = match negotiate(&self.settings, open) {
            Ok(negotiated) => negotiated,
            Err(error) => {
                let notification = Some(error.notification());
                self.fail(
                    now,
                    id,
                    notification,
                    DownReason::OpenRejected(error),
                    Next::Damp,
                    out,
                );
                return;
            }
        };
        if self.loses_collision(now, id, &negotiated, out) {
            return;
        }
        if phase == Phase::DelayOpen {
            self.send_open(now, id, out);
        }
        self.send(id, Message::Keepalive, out);
        if let Some(conn) = self.conn_mut(id) {
            conn.phase = Phase::OpenConfirm;
            conn.negotiated = Some(Box::new(negotiated));
            conn.heard(now);
        }
        self.rearm_keepalive(now, id);
    }

    /// Resolves a collision with the other connection, if there is one; true when this one was closed.
    fn loses_collision(
        &mut self,
        now: Instant,
        id: ConnId,
        negotiated: &Negotiated,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(other) = &self.conns[id.initiator.other() as usize] else {
            return false;
        };
        let silence = now.saturating_duration_since(other.last_message);
        let silent = silence > patience(negotiated.hold_time);
        let us = Speaker {
            id: self.settings.local_id,
            asn: self.settings.local_as,
        };
        let peer = Speaker {
            id: negotiated.peer_id,
            asn: negotiated.peer_as,
        };
        let loser = match resolve(us, peer, id.initiator, other.phase, silent) {
            Verdict::KeepBoth => return false,
            Verdict::CloseThis => id.initiator,
            Verdict::CloseOther => id.initiator.other(),
        };
        self.drop_quietly(loser, Some(cease::CONNECTION_COLLISION_RESOLUTION), out);
        loser == id.initiator
    }

    pub(super) fn keepalive(&mut self, now: Instant, id: ConnId, out: &mut Vec<Output>) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        self.counters.keepalives_in += 1;
        match phase {
            Phase::OpenConfirm => self.establish(now, id, out),
            Phase::Established => self.heard(now, id),
            _ => self.unexpected(now, id, "KEEPALIVE", out),
        }
    }

    fn establish(&mut self, now: Instant, id: ConnId, out: &mut Vec<Output>) {
        let other = id.initiator.other();
        self.drop_quietly(other, Some(cease::CONNECTION_COLLISION_RESOLUTION), out);
        let Some(conn) = self.conn_mut(id) else {
            return;
        };
        conn.phase = Phase::Established;
        conn.heard(now);
        if let (Some((local, remote)), Some(negotiated)) = (conn.ends, conn.negotiated.clone()) {
            out.push(Output::Established {
                conn: id,
                local,
                remote,
                negotiated,
            });
        }
        self.established_at = Some(now);
        self.unfit = false;
        self.counters.established += 1;
        self.write_progress(now, id);
    }

    pub(super) fn update(&mut self, now: Instant, id: ConnId, out: &mut Vec<Output>) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        self.counters.updates_in += 1;
        if phase == Phase::Established {
            self.heard(now, id);
        } else {
            self.unexpected(now, id, "UPDATE", out);
        }
    }

    pub(super) fn route_refresh(
        &mut self,
        now: Instant,
        id: ConnId,
        refresh: RouteRefresh,
        out: &mut Vec<Output>,
    ) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        self.counters.refreshes_in += 1;
        if phase != Phase::Established {
            self.unexpected(now, id, "ROUTE-REFRESH", out);
            return;
        }
        self.heard(now, id);
        let (afi, safi) = refresh.family_raw;
        let Some((family, negotiated)) = Family::from_afi_safi(afi, safi).zip(self.negotiated(id))
        else {
            return;
        };
        // RFC 2918 §4: about a family that was not agreed on, or without our offer, it means nothing.
        if !negotiated.families.contains(&family) || !self.settings.route_refresh {
            return;
        }
        match refresh.subtype {
            refresh_subtype::REQUEST => out.push(Output::RouteRefreshRequested { family }),
            refresh_subtype::BEGIN if negotiated.enhanced_route_refresh => {
                out.push(Output::RefreshBegin { family });
            }
            refresh_subtype::END if negotiated.enhanced_route_refresh => {
                out.push(Output::RefreshEnd { family });
            }
            _ => {}
        }
    }

    /// Never answered with a NOTIFICATION of our own (RFC 4271 §6.4), although §8.2.2 lists event 25 in OpenSent
    /// among those that are.
    pub(super) fn notification(
        &mut self,
        now: Instant,
        id: ConnId,
        notification: Notification,
        out: &mut Vec<Output>,
    ) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        self.counters.notifications_in += 1;
        if phase < Phase::Established && is_bad_peer_as(&notification) {
            self.settings.swap_local_as();
        }
        // "Not now" before the session is up. Two peers that both answered it with a pause, in which they refuse
        // connections, would keep refusing each other in turn; so the one that was told goes on listening.
        let not_now = phase < Phase::Established && is_not_now(&notification);
        let next = if not_now { Next::Listen } else { Next::Damp };
        self.fail(
            now,
            id,
            None,
            DownReason::NotificationReceived(notification),
            next,
            out,
        );
    }

    pub(super) fn decode_error(
        &mut self,
        now: Instant,
        id: ConnId,
        notification: Notification,
        out: &mut Vec<Output>,
    ) {
        if self.phase(id).is_some() {
            let reason = DownReason::DecodeError(notification.clone());
            self.fail(now, id, Some(notification), reason, Next::Damp, out);
        }
    }

    /// RFC 6608.
    fn unexpected(
        &mut self,
        now: Instant,
        id: ConnId,
        message: &'static str,
        out: &mut Vec<Output>,
    ) {
        let Some(phase) = self.phase(id) else {
            return;
        };
        let subcode = match phase {
            Phase::Connecting | Phase::DelayOpen => fsm_error::UNSPECIFIED,
            Phase::OpenSent => fsm_error::IN_OPEN_SENT,
            Phase::OpenConfirm => fsm_error::IN_OPEN_CONFIRM,
            Phase::Established => fsm_error::IN_ESTABLISHED,
        };
        let state = phase.state();
        let reason = DownReason::UnexpectedMessage { message, state };
        self.fail(
            now,
            id,
            Some(Notification::fsm(subcode)),
            reason,
            Next::Damp,
            out,
        );
    }

    fn heard(&mut self, now: Instant, id: ConnId) {
        if let Some(conn) = self.conn_mut(id) {
            conn.heard(now);
        }
    }
}
