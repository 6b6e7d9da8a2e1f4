//! From bytes to what the FSM and the RIB are told.

use bgp_core::fsm::{ConnId, Input};
use bgp_core::rib::Event;
use bgp_wire::{MessageType, Notification, Open, RouteRefresh, Verdict};

use super::conn::Conn;
use super::routes::{self, Received, Translated};
use super::{Session, TO_RIB};
use crate::rib_thread::RibMessage;

/// UPDATEs decoded per message to the RIB, and prefixes in them: about a millisecond of its work.
const UPDATES_PER_EVENT: usize = 64;
const PREFIXES_PER_EVENT: usize = 4096;

/// What one message to the RIB will hold.
#[derive(Default)]
struct Batch {
    received: Vec<Received>,
    prefixes: usize,
}

impl Batch {
    fn extend(&mut self, received: Vec<Received>) {
        self.prefixes += received.iter().map(Received::prefixes).sum::<usize>();
        self.received.extend(received);
    }

    fn is_full(&self) -> bool {
        self.received.len() >= UPDATES_PER_EVENT || self.prefixes >= PREFIXES_PER_EVENT
    }
}

impl Session {
    /// Whether bytes may be read from the socket.
    pub(super) fn may_read(&self, i: usize) -> bool {
        self.may_decode(i) && self.conns[i].as_ref().is_some_and(|conn| !conn.has_ended())
    }

    /// Whether the RIB has room for what messages say, and is ready to hear it.
    fn may_decode(&self, i: usize) -> bool {
        let Some(conn) = &self.conns[i] else {
            return false;
        };
        self.to_rib.len() < TO_RIB && self.starting.as_ref().is_none_or(|s| s.conn != conn.id)
    }

    /// Goes on with what was left when the RIB had no room, and with what came before a broken connection broke.
    pub(super) fn resume(&mut self) {
        for i in 0..2 {
            if self.may_decode(i) && self.conns[i].as_ref().is_some_and(Conn::is_waiting) {
                self.read(i);
            }
        }
    }

    pub(super) fn read(&mut self, i: usize) {
        if let Some(conn) = &mut self.conns[i] {
            conn.fill();
            self.decode(i);
        }
    }

    /// Takes whole messages from the read buffer while the RIB has room for what they say. The end of the connection
    /// comes after all of them: what was said before it still counts, a NOTIFICATION above all.
    fn decode(&mut self, i: usize) {
        let mut batch = Batch::default();
        let mut ended = None;
        while self.may_decode(i) {
            let Some(conn) = &mut self.conns[i] else {
                break;
            };
            let id = conn.id;
            match conn.next_message() {
                Ok(Some((kind, body))) => {
                    self.message(id, kind, &body, &mut batch);
                    if batch.is_full() {
                        self.flush_batch(&mut batch);
                    }
                }
                Ok(None) => {
                    ended = conn.end().map(|reason| (id, reason.to_owned()));
                    break;
                }
                Err(error) => {
                    tracing::warn!(peer = %self.config.name, reason = error.reason, "malformed message");
                    self.flush_batch(&mut batch);
                    self.input(Input::DecodeError {
                        conn: id,
                        notification: error.notification,
                    });
                    break;
                }
            }
        }
        self.flush_batch(&mut batch);
        if let Some((conn, reason)) = ended {
            self.input(Input::TcpClosed { conn, reason });
            self.conns[i].take_if(|c| c.id == conn);
        }
    }

    fn message(&mut self, conn: ConnId, kind: MessageType, body: &[u8], batch: &mut Batch) {
        let decoded = match kind {
            MessageType::Open => Open::decode(body).map(|open| Input::Open {
                conn,
                open: Box::new(open),
            }),
            MessageType::Keepalive => Ok(Input::Keepalive { conn }),
            MessageType::Notification => Ok(Input::Notification {
                conn,
                notification: Notification::decode(body),
            }),
            MessageType::RouteRefresh => {
                RouteRefresh::decode(body).map(|refresh| Input::RouteRefresh { conn, refresh })
            }
            MessageType::Update => Ok(self.update(conn, body, batch)),
        };
        let input = decoded.unwrap_or_else(|error| Input::DecodeError {
            conn,
            notification: error.notification,
        });
        if !matches!(input, Input::Update { .. }) {
            // Keeps the order of what the RIB is told.
            self.flush_batch(batch);
        }
        self.input(input);
    }

    fn update(&mut self, conn: ConnId, body: &[u8], batch: &mut Batch) -> Input {
        let Some(up) = self.up.as_ref().filter(|up| up.conn == conn) else {
            // Out of order: the FSM knows what to say to that.
            return Input::Update { conn };
        };
        let update = bgp_wire::decode_update(body, &up.negotiated.decode_context());
        let negotiated = &up.negotiated;
        let enforced = self.config.enforce_first_as && negotiated.ebgp;
        let fits = !enforced || routes::begins_with(&update, negotiated.peer_as);
        for fault in update
            .faults
            .iter()
            .chain((!fits).then_some(&routes::FIRST_AS))
        {
            let label = routes::fault_label(fault);
            tracing::warn!(peer = %self.config.name, fault = %label, "UPDATE with a fault");
            *self.faults.entry(label).or_insert(0) += 1;
        }
        match routes::translate(&update, &up.own, fits) {
            Translated::Routes(received) => {
                if update.verdict == Verdict::TreatAsWithdraw {
                    let prefixes = received.iter().map(Received::prefixes).sum();
                    up.monitored.treated.count(prefixes);
                }
                batch.extend(received);
                Input::Update { conn }
            }
            Translated::Reset(notification) => Input::DecodeError { conn, notification },
        }
    }

    fn flush_batch(&mut self, batch: &mut Batch) {
        let Some(session) = self.up.as_ref().map(|up| up.session) else {
            *batch = Batch::default();
            return;
        };
        if !batch.received.is_empty() {
            self.counting.touch();
        }
        let mut updates = Vec::new();
        for received in std::mem::take(batch).received {
            match received {
                Received::Update(update) => updates.push(update),
                Received::EndOfRib(family) => {
                    if !updates.is_empty() {
                        let before = std::mem::take(&mut updates);
                        self.to_rib
                            .push_back(RibMessage::Event(Event::Update(session, before)));
                    }
                    self.to_rib
                        .push_back(RibMessage::Event(Event::EndOfRib(session, family)));
                }
            }
        }
        if !updates.is_empty() {
            self.to_rib
                .push_back(RibMessage::Event(Event::Update(session, updates)));
        }
    }
}
