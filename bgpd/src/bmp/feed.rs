//! The RIB thread's side: which sessions there are, and which stations are to hear of them.
//!
//! Owns the facts about each session that a collector must know and the RIB need not. Never waits for a station: one that
//! does not take its events is dropped, and finds out when it has taken the last of them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use bgp_core::fsm::DownReason;
use bgp_core::rib::{MonitorPage, Overrun, ReaderId, Rib, SessionId, Statistics, WalkCursor};
use bgp_wire::{Family, Notification};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// A session that is up, as collectors know it.
#[derive(Debug)]
pub(crate) struct Monitored {
    pub(crate) session: SessionId,
    /// For the log.
    pub(crate) peer: Arc<str>,
    pub(crate) peer_as: u32,
    pub(crate) bgp_id: Ipv4Addr,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The OPEN that was sent, header included.
    pub(crate) sent_open: Bytes,
    /// The OPEN that was received, header included.
    pub(crate) received_open: Bytes,
    /// In [`Family::ALL`] order: negotiated.
    pub(crate) families: [bool; 2],
    /// In [`Family::ALL`] order: the peer's UPDATEs carry path identifiers.
    pub(crate) add_path: [bool; 2],
    /// Longest message of the peer, octets.
    pub(crate) max_len: usize,
    pub(crate) since: SystemTime,
    pub(crate) treated: Treated,
}

/// What was treated as a withdrawal (RFC 7606) since the session began.
#[derive(Debug, Default)]
pub(crate) struct Treated {
    updates: AtomicU32,
    prefixes: AtomicU32,
}

impl Treated {
    pub(crate) fn count(&self, prefixes: usize) {
        let prefixes = u32::try_from(prefixes).unwrap_or(u32::MAX);
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.prefixes.fetch_add(prefixes, Ordering::Relaxed);
    }

    /// UPDATEs and prefixes.
    pub(crate) fn get(&self) -> (u32, u32) {
        (
            self.updates.load(Ordering::Relaxed),
            self.prefixes.load(Ordering::Relaxed),
        )
    }
}

/// How a session ended, in the terms of RFC 7854 §4.9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    LocalNotification(Notification),
    /// An event of RFC 4271 §8.1; 0 when none fits.
    LocalEvent(u16),
    RemoteNotification(Notification),
    RemoteClose,
}

impl Ending {
    /// `last_words`: the NOTIFICATION that we sent.
    pub(crate) fn new(reason: &DownReason, last_words: Option<Notification>) -> Self {
        match (reason, last_words) {
            (DownReason::NotificationReceived(theirs), _) => {
                Ending::RemoteNotification(theirs.clone())
            }
            (DownReason::TcpClosed(_), _) => Ending::RemoteClose,
            (_, Some(ours)) => Ending::LocalNotification(ours),
            (DownReason::ManualStop, None) => Ending::LocalEvent(2),
            (DownReason::AutomaticStop(_) | DownReason::SettingsChanged(_), None) => {
                Ending::LocalEvent(8)
            }
            (DownReason::HoldTimerExpired, None) => Ending::LocalEvent(10),
            // RFC 9687 §3.1.
            (DownReason::SendHoldTimerExpired, None) => Ending::LocalEvent(29),
            (_, None) => Ending::LocalEvent(0),
        }
    }
}

/// What a station hears without asking.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Up(Arc<Monitored>),
    Down(SessionId, Ending, SystemTime),
    /// The peer has sent all it has; what it sent is in the changes.
    EndOfRib(SessionId, Family),
    /// There are changes to ask for.
    Changes,
}

/// What a station asks.
#[derive(Debug)]
pub(crate) enum Question {
    /// To hear of sessions and changes from now on; the answer is the sessions that are up. Ends when the receiver goes.
    Attach(
        ReaderId,
        mpsc::Sender<Heard>,
        oneshot::Sender<Vec<Arc<Monitored>>>,
    ),
    Walk(
        WalkCursor,
        oneshot::Sender<(MonitorPage, Option<WalkCursor>)>,
    ),
    /// Also whether there are more.
    Changes(
        ReaderId,
        oneshot::Sender<Result<(MonitorPage, bool), Overrun>>,
    ),
    Statistics(Vec<SessionId>, oneshot::Sender<Vec<Option<Statistics>>>),
}

struct Listener {
    reader: ReaderId,
    to: mpsc::Sender<Heard>,
    /// Has been told of changes, and has not read them to their end.
    told: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Feed {
    sessions: BTreeMap<SessionId, Arc<Monitored>>,
    listeners: Vec<Listener>,
}

impl Feed {
    pub(crate) fn up(&mut self, session: Arc<Monitored>) {
        self.tell(&Heard::Up(session.clone()));
        self.sessions.insert(session.session, session);
    }

    pub(crate) fn ended(&mut self, session: SessionId, how: Ending) {
        if self.sessions.remove(&session).is_some() {
            self.tell(&Heard::Down(session, how, SystemTime::now()));
        }
    }

    pub(crate) fn end_of_rib(&mut self, session: SessionId, family: Family) {
        self.tell(&Heard::EndOfRib(session, family));
    }

    /// Who asked may have gone; then nobody needs the answer.
    pub(crate) fn answer(&mut self, rib: &mut Rib, now: u32, question: Question) {
        match question {
            Question::Attach(reader, to, reply) => {
                rib.begin_reading(reader);
                self.listeners.push(Listener {
                    reader,
                    to,
                    told: false,
                });
                drop(reply.send(self.sessions.values().cloned().collect()));
            }
            Question::Walk(cursor, reply) => drop(reply.send(rib.walk(now, cursor))),
            Question::Changes(reader, reply) => {
                let answer = rib.changes(now, reader);
                if let Some(listener) = self.listeners.iter_mut().find(|l| l.reader == reader) {
                    listener.told = matches!(answer, Ok((_, true)));
                }
                drop(reply.send(answer));
            }
            Question::Statistics(sessions, reply) => {
                let answer = sessions.iter().map(|s| rib.statistics(*s)).collect();
                drop(reply.send(answer));
            }
        }
    }

    /// To be called now and then: tells of changes, forgets who has gone.
    pub(crate) fn attend(&mut self, rib: &mut Rib) {
        self.listeners.retain_mut(|listener| {
            if !listener.told && rib.has_changes(listener.reader) {
                listener.told = true;
                if listener.to.try_send(Heard::Changes).is_err() {
                    rib.end_reading(listener.reader);
                    return false;
                }
            }
            let there = !listener.to.is_closed();
            if !there {
                rib.end_reading(listener.reader);
            }
            there
        });
    }

    /// Who has no room any more is dropped by closing its channel.
    fn tell(&mut self, heard: &Heard) {
        for listener in &mut self.listeners {
            if listener.to.try_send(heard.clone()).is_err() {
                listener.to = mpsc::channel(1).0;
            }
        }
    }
}
