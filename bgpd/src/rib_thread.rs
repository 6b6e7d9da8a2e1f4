//! The RIB's own OS thread: takes events in batches, works in slices, hands out what is to be done.
//!
//! Never waits for a session or for the kernel task: sessions get what they permitted, the kernel task what fits into
//! its queue; the rest is conflated here, one entry per prefix and per next hop.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp_core::rib::{
    Cursor, Event, FamilyCounters, FibChange, NoSession, OutMessage, Output, PathView, PeerDown,
    PeerUp, Rib, RibConfig, RoutePage, RouteQuery, SessionId, Source, TableId,
};
use bgp_wire::NextHop;
use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::bmp::{Ending, Feed, Monitored, Question};

#[cfg(test)]
mod tests;

/// Events that may wait for the thread.
const QUEUE: usize = 64;
/// How long events are taken before work is done in between.
const SLICE: Duration = Duration::from_millis(2);
/// FIB changes per message to the kernel task.
const FIB_BATCH: usize = 2048;
/// Messages that may wait for the kernel task.
const FIB_QUEUE: usize = 4;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum RibMessage {
    /// An event for the RIB.
    Event(Event),
    /// A session is Established; its UPDATEs go to this queue, whose length the session's permits bound.
    Up(
        Box<PeerUp>,
        mpsc::UnboundedSender<OutMessage>,
        Arc<Monitored>,
    ),
    /// How a session ended; its PeerDown follows.
    Ended(SessionId, Ending),
    /// What a BMP station asks.
    Monitoring(Question),
    /// The kernel task has room again.
    KernelReady,
    /// What is known of a table.
    Paths(Option<IpNet>, oneshot::Sender<Vec<PathView>>),
    /// A page of routes.
    Look(
        Box<RouteQuery>,
        Cursor,
        oneshot::Sender<Result<RoutePage, NoSession>>,
    ),
    /// Peers that routes may come from.
    Sources(oneshot::Sender<Vec<Source>>),
    /// Counts of sessions, in this order.
    Counters(
        Vec<SessionId>,
        oneshot::Sender<Vec<[Option<FamilyCounters>; 2]>>,
    ),
    /// To be answered when all that follows from earlier messages was handed to the route writer. Answers of the
    /// next-hop tracker that came of it count as later messages.
    Barrier(oneshot::Sender<()>),
    /// The thread does nothing for so long.
    #[cfg(test)]
    Pause(Duration),
}

/// What the kernel task is told.
#[derive(Debug, Default)]
pub(crate) struct KernelBatch {
    /// Addresses of peers whose sessions ended: with them their paths go, one after the other.
    pub(crate) lost: Vec<IpAddr>,
    /// That is behind: `routes` are the last of it.
    pub(crate) lost_are_gone: bool,
    pub(crate) routes: Vec<FibChange>,
    pub(crate) next_hops: Vec<(NextHop, bool)>,
    /// To be answered when all of it is done.
    pub(crate) barriers: Vec<oneshot::Sender<()>>,
}

/// The RIB thread has ended, which it does when the speaker shuts down.
#[derive(Debug, Error)]
#[error("the RIB thread has ended")]
pub struct RibClosed;

/// Speaks to the RIB thread.
#[derive(Clone, Debug)]
pub(crate) struct RibHandle {
    sender: mpsc::Sender<RibMessage>,
}

impl RibHandle {
    /// Speaks to whoever reads the other end.
    #[cfg(test)]
    pub(crate) fn to(sender: mpsc::Sender<RibMessage>) -> Self {
        Self { sender }
    }

    pub(crate) fn sender(&self) -> &mpsc::Sender<RibMessage> {
        &self.sender
    }

    pub(crate) async fn event(&self, event: Event) -> Result<(), RibClosed> {
        self.sender
            .send(RibMessage::Event(event))
            .await
            .map_err(|_| RibClosed)
    }

    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> RibMessage,
    ) -> Result<T, RibClosed> {
        let (reply, answer) = oneshot::channel();
        self.sender
            .send(question(reply))
            .await
            .map_err(|_| RibClosed)?;
        answer.await.map_err(|_| RibClosed)
    }
}

/// Starts the thread. It ends when all handles are gone.
pub(crate) fn start(
    config: RibConfig,
) -> std::io::Result<(RibHandle, mpsc::Receiver<KernelBatch>)> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (kernel, kernel_queue) = mpsc::channel(FIB_QUEUE);
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("rib".into())
        .spawn(move || {
            let thread = RibThread {
                rib: Rib::new(config),
                started: Instant::now(),
                sessions: HashMap::new(),
                feed: Feed::default(),
                kernel,
                routes: HashMap::new(),
                next_hops: HashMap::new(),
                barriers: Vec::new(),
                addresses: HashMap::new(),
                lost: Vec::new(),
                losing: false,
            };
            thread.run(receiver, &runtime);
        })?;
    Ok((RibHandle { sender }, kernel_queue))
}

struct RibThread {
    rib: Rib,
    started: Instant,
    sessions: HashMap<SessionId, mpsc::UnboundedSender<OutMessage>>,
    /// What BMP stations hear.
    feed: Feed,
    kernel: mpsc::Sender<KernelBatch>,
    /// Not handed to the kernel task yet: the latest word on each prefix.
    routes: HashMap<IpNet, FibChange>,
    /// Not handed over yet: whether to track each next hop.
    next_hops: HashMap<NextHop, bool>,
    barriers: Vec<oneshot::Sender<()>>,
    /// Where each session goes.
    addresses: HashMap<SessionId, IpAddr>,
    /// Of sessions that ended with all their paths, not handed over yet.
    lost: Vec<IpAddr>,
    /// The kernel task was told of some, and not yet that their paths are gone.
    losing: bool,
}

impl RibThread {
    fn run(mut self, mut queue: mpsc::Receiver<RibMessage>, runtime: &tokio::runtime::Handle) {
        let mut out = Vec::new();
        let (mut more, mut longest) = (false, Duration::ZERO);
        loop {
            let mut idle = !more && queue.is_empty();
            if idle {
                idle = !self.rib.tidy(&mut out);
                self.dispatch(&mut out, more);
            }
            let first = idle.then(|| self.wait(&mut queue, runtime));
            let begun = Instant::now();
            match first {
                Some(Wait::Message(message)) => self.take(message, &mut out),
                Some(Wait::Deadline) => self.rib.handle(self.now(), Event::Tick, &mut out),
                Some(Wait::Closed) => return,
                None => {}
            }
            while begun.elapsed() < SLICE {
                match queue.try_recv() {
                    Ok(message) => self.take(message, &mut out),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            more = self.rib.work(&mut out);
            self.dispatch(&mut out, more);
            self.feed.attend(&mut self.rib);
            let took = begun.elapsed();
            if took > longest {
                longest = took;
                tracing::debug!(micros = took.as_micros(), "longest slice of the RIB so far");
            }
        }
    }

    fn wait(
        &self,
        queue: &mut mpsc::Receiver<RibMessage>,
        runtime: &tokio::runtime::Handle,
    ) -> Wait {
        let message = match self.rib.next_deadline() {
            None => queue.blocking_recv(),
            Some(deadline) => {
                let left =
                    Duration::from_secs(u64::from(deadline.saturating_sub(self.now()).max(1)));
                match runtime.block_on(async { tokio::time::timeout(left, queue.recv()).await }) {
                    Ok(message) => message,
                    Err(_) => return Wait::Deadline,
                }
            }
        };
        message.map_or(Wait::Closed, Wait::Message)
    }

    /// Seconds since the start; the RIB's clock.
    fn now(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn take(&mut self, message: RibMessage, out: &mut Vec<Output>) {
        let now = self.now();
        match message {
            RibMessage::Event(event) => {
                if let Event::PeerDown(session, how) = &event {
                    self.sessions.remove(session);
                    let address = self.addresses.remove(session);
                    self.lost
                        .extend(address.filter(|_| *how == PeerDown::Purge));
                }
                if let Event::EndOfRib(session, family) = &event {
                    self.feed.end_of_rib(*session, *family);
                }
                self.rib.handle(now, event, out);
            }
            RibMessage::Ended(session, how) => self.feed.ended(session, how),
            RibMessage::Monitoring(question) => self.feed.answer(&mut self.rib, now, question),
            RibMessage::Up(up, queue, monitored) => {
                self.feed.up(monitored);
                self.sessions.insert(up.session, queue);
                self.addresses.insert(up.session, up.address);
                self.rib.handle(now, Event::PeerUp(up), out);
            }
            RibMessage::KernelReady => {}
            // Who asked may have gone; then nobody needs the answer.
            RibMessage::Paths(only, reply) => {
                drop(reply.send(self.rib.paths(TableId::default(), only.as_ref())))
            }
            RibMessage::Look(query, cursor, reply) => {
                drop(reply.send(self.rib.look(now, &query, cursor)))
            }
            RibMessage::Sources(reply) => drop(reply.send(self.rib.sources())),
            RibMessage::Counters(sessions, reply) => {
                let counters = sessions.iter().map(|s| self.rib.counters(*s)).collect();
                drop(reply.send(counters));
            }
            RibMessage::Barrier(reply) => self.barriers.push(reply),
            #[cfg(test)]
            RibMessage::Pause(time) => std::thread::sleep(time),
        }
    }

    /// `more`: there is work that may change what the kernel is to be told.
    fn dispatch(&mut self, out: &mut Vec<Output>, more: bool) {
        for output in out.drain(..) {
            match output {
                Output::Send(session, message) => {
                    if let Some(queue) = self.sessions.get(&session) {
                        // The session may have ended; its PeerDown is on the way.
                        drop(queue.send(message));
                    }
                }
                Output::Fib(change) => {
                    self.routes.insert(change.prefix, change);
                }
                Output::Track(next_hop) => {
                    self.next_hops.insert(next_hop, true);
                }
                Output::Untrack(next_hop) => {
                    self.next_hops.insert(next_hop, false);
                }
            }
        }
        loop {
            let last = self.routes.len() <= FIB_BATCH;
            let through = last && !more;
            let barriers = through && !self.barriers.is_empty();
            let lost = !self.lost.is_empty() || through && self.losing;
            if self.routes.is_empty() && self.next_hops.is_empty() && !barriers && !lost {
                return;
            }
            let Ok(room) = self.kernel.try_reserve() else {
                return;
            };
            let routes = if last {
                std::mem::take(&mut self.routes).into_values().collect()
            } else {
                let prefixes: Vec<IpNet> = self.routes.keys().take(FIB_BATCH).copied().collect();
                prefixes
                    .iter()
                    .filter_map(|p| self.routes.remove(p))
                    .collect()
            };
            self.losing |= !self.lost.is_empty();
            room.send(KernelBatch {
                lost: std::mem::take(&mut self.lost),
                lost_are_gone: through && std::mem::take(&mut self.losing),
                routes,
                next_hops: self.next_hops.drain().collect(),
                barriers: match barriers {
                    true => std::mem::take(&mut self.barriers),
                    false => Vec::new(),
                },
            });
        }
    }
}

enum Wait {
    Message(RibMessage),
    Deadline,
    Closed,
}
