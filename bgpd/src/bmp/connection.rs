//! One connection to a collector: what is there, then what changes, and numbers now and then.
//!
//! Holds the messages of one page at a time. While the collector does not take them nothing is fetched: what it misses
//! meanwhile is the RIB's to keep or to give up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bgp_core::rib::{MonitorPage, Overrun, ReaderId, SessionId, WalkCursor};
use bgp_wire::Family;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::feed::{Heard, Monitored, Question};
use super::messages::{Outbox, Telling};
use super::station::Status;
use super::{Farewell, StationConfig};
use crate::rib_thread::{RibClosed, RibHandle, RibMessage};

/// Events that may wait for a station.
const EVENTS: usize = 1024;
/// A collector that takes nothing for this long is cut off.
const STALL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Octets of messages after which they are written.
const WRITE_AT: usize = 64 << 10;
/// Sessions per question for numbers.
const STATISTICS: usize = 256;

/// No two readers of a process have the same.
static READERS: AtomicU32 = AtomicU32::new(0);

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum Ended {
    #[error("closed by the collector")]
    Closed,
    #[error("the collector took nothing for {} s", STALL.as_secs())]
    Stalled,
    #[error("the collector is too slow: {0}")]
    Overrun(#[from] Overrun),
    #[error("the collector is too slow: sessions come and go faster than it reads")]
    Deaf,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Rib(#[from] RibClosed),
}

pub(super) struct Connection<'a> {
    stream: TcpStream,
    config: &'a StationConfig,
    rib: &'a RibHandle,
    status: &'a watch::Sender<Status>,
    reader: ReaderId,
    heard: mpsc::Receiver<Heard>,
    outbox: Outbox,
    /// Of `outbox`, octets that are out.
    written: usize,
    /// Sessions that the collector knows to be up.
    sessions: BTreeMap<SessionId, Arc<Monitored>>,
    /// Sessions that were up at the beginning: End-of-RIB follows the walk.
    walked: Vec<SessionId>,
    walk: Option<WalkCursor>,
    /// There may be changes to ask for.
    changes: bool,
    /// To be told when the changes before them are.
    ends: Vec<(SessionId, Family)>,
    /// When the next numbers are due.
    statistics: Option<Instant>,
}

impl<'a> Connection<'a> {
    pub(super) async fn begin(
        stream: TcpStream,
        config: &'a StationConfig,
        rib: &'a RibHandle,
        status: &'a watch::Sender<Status>,
    ) -> Result<Self, Ended> {
        let reader = ReaderId(READERS.fetch_add(1, Ordering::Relaxed));
        let (to, heard) = mpsc::channel(EVENTS);
        let ask = |reply| RibMessage::Monitoring(Question::Attach(reader, to, reply));
        let sessions: BTreeMap<_, _> = rib
            .ask(ask)
            .await?
            .into_iter()
            .map(|session| (session.session, session))
            .collect();
        let every = config.statistics;
        let statistics = (!every.is_zero()).then(|| Instant::now() + every);
        Ok(Self {
            stream,
            config,
            rib,
            status,
            reader,
            heard,
            outbox: Outbox::default(),
            written: 0,
            walked: sessions.keys().copied().collect(),
            sessions,
            walk: Some(WalkCursor::default()),
            changes: false,
            ends: Vec::new(),
            statistics,
        })
    }

    /// The first message, before all others.
    pub(super) fn initiate(&mut self, sys_name: &str) {
        self.outbox.initiation(sys_name);
    }

    /// Whether the collector was told all there is.
    pub(super) fn is_synced(&self) -> bool {
        self.walk.is_none()
    }

    /// Tells the collector all there is and all that comes. May be dropped at any time and followed by
    /// [`Connection::end`].
    pub(super) async fn run(&mut self) -> Ended {
        let Err(ended) = self.tell_all().await;
        ended
    }

    async fn tell_all(&mut self) -> Result<std::convert::Infallible, Ended> {
        for session in self.walked.clone() {
            if let Some(session) = self.sessions.get(&session) {
                self.outbox.peer_up(session);
            }
            self.flush(WRITE_AT).await?;
        }
        loop {
            self.hear()?;
            if self.statistics.is_some_and(|due| due <= Instant::now()) {
                self.tell_statistics().await?;
            }
            if self.changes || !self.ends.is_empty() {
                self.ask_changes().await?;
            } else if let Some(cursor) = self.walk {
                self.ask_walk(cursor).await?;
            }
            self.flush(0).await?;
            if self.walk.is_none() && !self.changes && self.ends.is_empty() {
                self.wait().await?;
            }
        }
    }

    /// Says the last words: what has happened until now, then Termination.
    pub(super) async fn end(&mut self, farewell: &Farewell) -> Result<(), Ended> {
        // By the time of the answer, the RIB thread has heard all that sessions said before.
        self.ask_changes().await?;
        self.outbox.termination(farewell.reason, &farewell.text);
        self.flush(0).await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Takes the events that are there.
    fn hear(&mut self) -> Result<(), Ended> {
        loop {
            match self.heard.try_recv() {
                Ok(heard) => self.take(heard),
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(Ended::Deaf),
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Up(session) => {
                self.outbox.peer_up(&session);
                self.sessions.insert(session.session, session);
            }
            Heard::Down(session, ending, at) => {
                if let Some(session) = self.sessions.remove(&session) {
                    self.outbox.peer_down(&session, &ending, at);
                }
            }
            Heard::EndOfRib(session, family) => self.ends.push((session, family)),
            Heard::Changes => self.changes = true,
        }
    }

    async fn ask_changes(&mut self) -> Result<(), Ended> {
        // Those that come meanwhile may come after changes that the answer lacks.
        let due = self.ends.len();
        let reader = self.reader;
        let ask = |reply| RibMessage::Monitoring(Question::Changes(reader, reply));
        let (page, more) = self.rib.ask(ask).await??;
        self.changes = more;
        self.page(&page, Telling::Changes)?;
        if !more {
            for (session, family) in self.ends.drain(..due).collect::<Vec<_>>() {
                self.end_of_rib(session, family);
            }
        }
        Ok(())
    }

    async fn ask_walk(&mut self, cursor: WalkCursor) -> Result<(), Ended> {
        let ask = |reply| RibMessage::Monitoring(Question::Walk(cursor, reply));
        let (page, next) = self.rib.ask(ask).await?;
        self.page(&page, Telling::Walk)?;
        self.walk = next;
        if next.is_none() {
            for session in std::mem::take(&mut self.walked) {
                for family in Family::ALL {
                    self.end_of_rib(session, family);
                }
            }
            self.status.send_modify(|status| status.enter("synced"));
        }
        Ok(())
    }

    /// Tells the paths of sessions that the collector knows. One that it does not is over: it has heard of all that began
    /// before the page was made.
    fn page(&mut self, page: &MonitorPage, telling: Telling) -> Result<(), Ended> {
        self.hear()?;
        let mut by_session: BTreeMap<SessionId, Vec<_>> = BTreeMap::new();
        for path in &page.paths {
            by_session
                .entry(path.session)
                .or_default()
                .push(path.clone());
        }
        let (which, now) = (self.config.route_monitoring, SystemTime::now());
        for (session, paths) in by_session {
            if let Some(session) = self.sessions.get(&session) {
                self.outbox
                    .paths(session, page, &paths, which, telling, now);
            }
        }
        Ok(())
    }

    fn end_of_rib(&mut self, session: SessionId, family: Family) {
        if let Some(session) = self.sessions.get(&session)
            && session.families[family as usize]
        {
            let (which, now) = (self.config.route_monitoring, SystemTime::now());
            self.outbox.end_of_rib(session, family, which, now);
        }
    }

    /// Waits for something to tell.
    async fn wait(&mut self) -> Result<(), Ended> {
        tokio::select! {
            heard = self.heard.recv() => match heard {
                Some(heard) => self.take(heard),
                None => return Err(Ended::Deaf),
            },
            () = until(self.statistics) => {}
            readable = self.stream.readable() => {
                readable?;
                // A collector has nothing to say (RFC 7854 §3.2): what it says is not read but for its end.
                match self.stream.try_read(&mut [0; 4096]) {
                    Ok(0) => return Err(Ended::Closed),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn tell_statistics(&mut self) -> Result<(), Ended> {
        self.statistics = Some(Instant::now() + self.config.statistics);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for some in sessions.chunks(STATISTICS) {
            let ask = |reply| RibMessage::Monitoring(Question::Statistics(some.to_vec(), reply));
            let answers = self.rib.ask(ask).await?;
            let now = SystemTime::now();
            for (session, answer) in some.iter().zip(answers) {
                if let (Some(session), Some(stats)) = (self.sessions.get(session), answer) {
                    self.outbox.statistics(session, &stats, now);
                }
            }
            self.flush(WRITE_AT).await?;
        }
        Ok(())
    }

    /// Writes all messages, when they are more than `least` octets. When it is dropped in between, the next call goes on
    /// where it was.
    async fn flush(&mut self, least: usize) -> Result<(), Ended> {
        if self.outbox.bytes.len() <= least {
            return Ok(());
        }
        while self.written < self.outbox.bytes.len() {
            let write = self.stream.write(&self.outbox.bytes[self.written..]);
            match tokio::time::timeout(STALL, write).await {
                Ok(Ok(0)) => return Err(Ended::Closed),
                Ok(Ok(n)) => self.written += n,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Ended::Stalled),
            }
        }
        let (messages, octets) = (self.outbox.messages, self.written as u64);
        self.status.send_modify(|status| {
            status.messages += messages;
            status.octets += octets;
        });
        self.outbox = Outbox::default();
        self.written = 0;
        Ok(())
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
