//! The peers that paths come from and go to.

use hashbrown::HashMap;

use super::ids::{PeerId, SessionId};
use super::monitor::ImportCounters;
use super::{OutMessage, Output, PeerUp};
use std::collections::VecDeque;

/// One source of paths: a session, or what is left of one.
pub(crate) struct Peer {
    pub(crate) up: PeerUp,
    /// False once the session ended; the id stays until its last path is gone.
    pub(crate) alive: bool,
    /// Octets that the session can still take; less than none when the last message went beyond.
    permits: i64,
    /// Encoded for this peer alone (walks, End-of-RIB), not sent yet.
    pub(crate) backlog: VecDeque<OutMessage>,
    /// Paths per family: received, and let in.
    pub(crate) received: [u64; 2],
    pub(crate) accepted: [u64; 2],
    /// Announced, but of a prefix with more paths than are kept; since the session began.
    pub(crate) refused: [u64; 2],
    pub(crate) end_of_rib: [bool; 2],
    pub(crate) import_counters: ImportCounters,
    /// Per family.
    pub(crate) refresh: [Refresh; 2],
}

/// Where the refreshes of a peer's routes are (RFC 7313). Epochs count them, modulo 256.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refresh {
    /// The epoch that paths received now belong to.
    pub(crate) epoch: u8,
    /// The last refresh that was through: paths of epochs before it are to go.
    confirmed: u8,
    /// What `confirmed` was when the sweep under way began.
    sweeping: u8,
    /// No path is of an epoch before this one: the last sweep is through.
    swept: u8,
}

impl Refresh {
    /// A refresh begins. Without sweeps in between, epochs would meet their own past: then the refresh joins the one
    /// before, which a peer gets that begins refreshes without ever being through with one.
    pub(crate) fn begin(&mut self) {
        if self.epoch.wrapping_sub(self.swept) < u8::MAX {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// The refresh is through; a sweep is to follow.
    pub(crate) fn end(&mut self) {
        self.confirmed = self.epoch;
    }

    pub(crate) fn begin_sweep(&mut self) {
        self.sweeping = self.confirmed;
    }

    /// Whether the sweep under way takes paths of this epoch.
    pub(crate) fn is_swept(&self, epoch: u8) -> bool {
        self.epoch.wrapping_sub(epoch) > self.epoch.wrapping_sub(self.sweeping)
    }

    pub(crate) fn end_sweep(&mut self) {
        self.swept = self.sweeping;
    }
}

impl Peer {
    pub(crate) fn can_send(&self) -> bool {
        self.permits > 0
    }

    pub(crate) fn send(&mut self, message: OutMessage, out: &mut Vec<Output>) {
        self.permits -= cost(&message);
        out.push(Output::Send(self.up.session, message));
    }

    /// Sends from the backlog while the session takes it; whether the backlog is empty then.
    pub(crate) fn flush_backlog(&mut self, out: &mut Vec<Output>) -> bool {
        while self.permits > 0 {
            let Some(message) = self.backlog.pop_front() else {
                break;
            };
            self.send(message, out);
        }
        self.backlog.is_empty()
    }
}

/// What a message takes from the permits: its octets; in tests each counts as one.
fn cost(message: &OutMessage) -> i64 {
    if cfg!(test) {
        1
    } else {
        message.bytes.len() as i64
    }
}

#[derive(Default)]
pub(crate) struct Peers {
    /// Index 0 stands for local routes and stays empty.
    slots: Vec<Option<Peer>>,
    sessions: HashMap<SessionId, PeerId>,
}

impl Peers {
    /// A new peer for a session; `None` when 65,535 are held, or the session is known.
    pub(crate) fn add(&mut self, up: PeerUp) -> Option<PeerId> {
        if self.sessions.contains_key(&up.session) {
            return None;
        }
        if self.slots.is_empty() {
            self.slots.push(None);
        }
        let free = (1..self.slots.len()).find(|&i| self.slots[i].is_none());
        let index = free.unwrap_or(self.slots.len());
        let id = PeerId(u16::try_from(index).ok()?);
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.sessions.insert(up.session, id);
        self.slots[index] = Some(Peer {
            up,
            alive: true,
            permits: 0,
            backlog: VecDeque::new(),
            received: [0; 2],
            accepted: [0; 2],
            refused: [0; 2],
            end_of_rib: [false; 2],
            import_counters: ImportCounters::default(),
            refresh: [Refresh::default(); 2],
        });
        Some(id)
    }

    pub(crate) fn by_session(&self, session: SessionId) -> Option<PeerId> {
        self.sessions.get(&session).copied()
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slots.get(id.index()).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(id.index()).and_then(Option::as_mut)
    }

    pub(crate) fn permit(&mut self, session: SessionId, count: u32) {
        if let Some(peer) = self.by_session(session).and_then(|id| self.get_mut(id)) {
            peer.permits = peer.permits.saturating_add(count.into());
        }
    }

    /// The session is over; the peer stays for its paths.
    pub(crate) fn end_session(&mut self, session: SessionId) -> Option<PeerId> {
        let id = self.sessions.remove(&session)?;
        let peer = self.get_mut(id)?;
        peer.alive = false;
        peer.backlog = VecDeque::new();
        Some(id)
    }

    /// The last path is gone.
    pub(crate) fn remove(&mut self, id: PeerId) {
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = None;
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        (0u16..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.is_some())
            .map(|(i, _)| PeerId(i))
    }
}
