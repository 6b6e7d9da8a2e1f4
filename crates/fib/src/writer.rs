//! The driver: one task that owns shadow, tracker and request socket. Reads, writes, sleeps; [`Ledger`] and
//! [`Tracker`] decide.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::codec::{self, KernelRoute};
use crate::handle::{FibError, FibEvent, FibOptions};
use crate::local::{self, LocalLink};
use crate::monitor::{self, Event};
use crate::netlink::{Answer, EEXIST, ESRCH, Netlink};
use crate::plan::{Believed, Ledger, Op};
use crate::route::{ApplyReport, InstalledRoute, RouteChange, RouteFailure, RouteKey, Source};
use crate::tracker::{NextHopKey, NextHopState, Tracker};

/// Batches of monitor events that may wait; beyond that the kernel's socket buffer fills, and overruns.
const MONITOR_BATCHES: usize = 64;
/// An audit or retry waits at least this many times the length of the one before it, so that repair takes a bounded
/// share of the task's time.
const REPAIR_SPACING: u32 = 4;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Apply {
        changes: Vec<RouteChange>,
        reply: Option<oneshot::Sender<ApplyReport>>,
    },
    FinishAdoption {
        source: Source,
        reply: oneshot::Sender<()>,
    },
    Dump {
        reply: oneshot::Sender<Vec<InstalledRoute>>,
    },
    Audit {
        reply: oneshot::Sender<()>,
    },
    Resolve {
        key: NextHopKey,
        reply: oneshot::Sender<NextHopState>,
    },
    Track {
        key: NextHopKey,
        reply: oneshot::Sender<Option<NextHopState>>,
    },
    Untrack {
        key: NextHopKey,
    },
    LocalAddresses {
        local: IpAddr,
        reply: oneshot::Sender<io::Result<Option<LocalLink>>>,
    },
}

/// The task's state.
pub(crate) struct Writer {
    options: FibOptions,
    netlink: Netlink,
    own_port: Arc<AtomicU32>,
    monitor_events: mpsc::Receiver<Vec<Event>>,
    monitor: JoinHandle<()>,
    ledger: Ledger,
    tracker: Tracker,
    /// Next full comparison of our routes with the kernel.
    audit_at: Instant,
    /// The audit is also to read foreign routes and links anew.
    resync: bool,
    /// Next attempt at what failed.
    retry_at: Option<Instant>,
    /// No audit and no retry before this time.
    not_before: Instant,
    events: mpsc::Sender<Vec<FibEvent>>,
    dirty_next_hops: BTreeSet<NextHopKey>,
    dirty_links: BTreeSet<u32>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

impl Writer {
    /// Opens both sockets, adopts our routes, reads foreign routes and links.
    pub(crate) async fn start(
        options: FibOptions,
        events: mpsc::Sender<Vec<FibEvent>>,
    ) -> Result<Self, FibError> {
        let open = |source| FibError::Netlink {
            action: "open a socket",
            source,
        };
        let netlink = Netlink::open(options.table, options.protocol).map_err(open)?;
        // Subscribed before the first dump, so that nothing falls between the two.
        let socket = monitor::open().map_err(open)?;
        let own_port = Arc::new(AtomicU32::new(netlink.port));
        let (monitor_tx, monitor_events) = mpsc::channel(MONITOR_BATCHES);
        let monitor = tokio::spawn(monitor::run(socket, Arc::clone(&own_port), monitor_tx));
        let now = Instant::now();
        let mut writer = Writer {
            ledger: Ledger::new(options.sources.iter().copied()),
            audit_at: now + options.audit_interval,
            options,
            netlink,
            own_port,
            monitor_events,
            monitor,
            tracker: Tracker::default(),
            resync: false,
            retry_at: None,
            not_before: now,
            events,
            dirty_next_hops: BTreeSet::new(),
            dirty_links: BTreeSet::new(),
        };
        let read = |source| FibError::Netlink {
            action: "read routes",
            source,
        };
        writer.read_foreign().await.map_err(read)?;
        writer.dirty_links.clear();
        let adopted = writer
            .netlink
            .dump_routes(writer.options.protocol)
            .await
            .map_err(read)?;
        let adopted = writer.ledger.observe(adopted.iter().map(believed)).len();
        tracing::info!(
            adopted,
            table = writer.options.table,
            "adopted kernel routes as stale"
        );
        // With no source to wait for, a sweep is due at once.
        writer.reconcile_all_unfinished().await;
        Ok(writer)
    }

    async fn reconcile_all_unfinished(&mut self) {
        if self.ledger.adoption_finished() {
            let keys = self
                .ledger
                .dump()
                .into_iter()
                .map(|route| route.key)
                .collect();
            self.reconcile(&keys).await;
        }
    }

    /// Serves until all handles are gone.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let events = self.events.clone();
        loop {
            let due = self
                .retry_at
                .map_or(self.audit_at, |retry| retry.min(self.audit_at));
            let pending = !self.dirty_next_hops.is_empty() || !self.dirty_links.is_empty();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.serve(command).await,
                    None => return,
                },
                Some(batch) = self.monitor_events.recv() => self.note(batch),
                () = tokio::time::sleep_until(due) => self.tick().await,
                Ok(permit) = events.reserve(), if pending => {
                    let mut batch = Vec::new();
                    take_events(&mut self.dirty_next_hops, &mut self.dirty_links, &self.tracker, &mut batch);
                    permit.send(batch);
                }
            }
        }
    }

    async fn serve(&mut self, command: Command) {
        // A reply that nobody waits for any more is no fault, hence the ignored results.
        match command {
            Command::Apply { changes, reply } => {
                let keys = self.ledger.apply(changes);
                let written = self.reconcile(&keys).await;
                if let Some(reply) = reply {
                    let failed: Vec<_> = keys.iter().filter_map(|key| self.failure(key)).collect();
                    let unchanged = keys.len().saturating_sub(written + failed.len());
                    let _ = reply.send(ApplyReport {
                        written,
                        unchanged,
                        failed,
                    });
                }
            }
            Command::FinishAdoption { source, reply } => {
                let keys = self.ledger.finish(source);
                if !keys.is_empty() {
                    let swept = self.reconcile(&keys).await;
                    tracing::info!(swept, "swept stale routes");
                }
                let _ = reply.send(());
            }
            Command::Dump { reply } => drop(reply.send(self.ledger.dump())),
            Command::Audit { reply } => {
                self.audit().await;
                let _ = reply.send(());
            }
            Command::Resolve { key, reply } => drop(reply.send(self.tracker.resolve(key))),
            Command::Track { key, reply } => drop(reply.send(self.tracker.track(key))),
            Command::Untrack { key } => self.tracker.untrack(key),
            Command::LocalAddresses { local, reply } => {
                let found = self.netlink.dump_addresses().await.map(|addresses| {
                    let mut link = local::find(&addresses, local)?;
                    link.name = self
                        .tracker
                        .link(link.ifindex)
                        .map(|link| link.name.clone())
                        .unwrap_or_default();
                    Some(link)
                });
                let _ = reply.send(found);
            }
        }
    }

    fn failure(&self, key: &RouteKey) -> Option<RouteFailure> {
        let reason = self.ledger.failure(key)?.to_owned();
        Some(RouteFailure {
            prefix: key.prefix,
            metric: key.metric,
            reason,
        })
    }

    /// Brings keys to their desired state; returns how many operations the kernel carried out.
    async fn reconcile(&mut self, keys: &BTreeSet<RouteKey>) -> usize {
        let mut ops = self.ledger.plan(keys);
        // Replacing would hit whichever route holds the key, so a foreign holder is looked for first.
        // The kernel has no conditional replace: one that took the key microseconds ago, unheard of yet, would be hit.
        ops.retain(|op| match op {
            Op::Replace(_) => match self.tracker.holder(&op.key()) {
                Some(protocol) => {
                    self.ledger
                        .done(op.clone(), Err(foreign_holder(Some(protocol))));
                    false
                }
                None => true,
            },
            Op::Add(_) | Op::Delete(_) => true,
        });
        let answers = self.netlink.write(&ops).await;
        let mut written = 0;
        let mut lost = false;
        let mut ours_after_all = BTreeSet::new();
        for (op, answer) in ops.into_iter().zip(answers) {
            lost |= answer.is_none();
            let (result, held_by_us) = self.judge(&op, answer).await;
            if held_by_us {
                self.ledger.believe(op.key(), Believed::Odd);
                ours_after_all.insert(op.key());
                continue;
            }
            written += usize::from(result.is_ok());
            // Retries repeat a refusal; only news is worth a line.
            if let Err(reason) = &result
                && self.ledger.failure(&op.key()) != Some(reason)
            {
                let key = op.key();
                tracing::warn!(prefix = %key.prefix, metric = key.metric, reason, "kernel refused a route");
            }
            self.ledger.done(op, result);
        }
        if lost {
            self.schedule_audit();
        }
        if !ours_after_all.is_empty() {
            written += self.second_attempt(&ours_after_all).await;
        }
        written
    }

    /// Replaces routes of ours that the shadow did not know of. What fails now waits for the audit.
    async fn second_attempt(&mut self, keys: &BTreeSet<RouteKey>) -> usize {
        let ops = self.ledger.plan(keys);
        let answers = self.netlink.write(&ops).await;
        let mut written = 0;
        for (op, answer) in ops.into_iter().zip(answers) {
            let result = answer
                .unwrap_or_else(|| Err(no_answer()))
                .map_err(|refusal| refusal.reason);
            written += usize::from(result.is_ok());
            self.ledger.done(op, result);
        }
        written
    }

    /// The meaning of an answer, and whether the key turned out to be held by an unknown route of ours.
    async fn judge(&self, op: &Op, answer: Answer) -> (Result<(), String>, bool) {
        match answer {
            None => (Err(no_answer().reason), false),
            Some(Ok(())) => (Ok(()), false),
            Some(Err(refusal)) => match op {
                Op::Delete(_) if refusal.errno == ESRCH => (Ok(()), false),
                Op::Add(spec) if refusal.errno == EEXIST => {
                    let key = spec.key();
                    let holder = self.holder(&key).await;
                    (
                        Err(foreign_holder(holder)),
                        holder == Some(self.options.protocol),
                    )
                }
                _ => (Err(refusal.reason), false),
            },
        }
    }

    async fn holder(&self, key: &RouteKey) -> Option<u8> {
        if let Some(protocol) = self.tracker.holder(key) {
            return Some(protocol);
        }
        let found = self
            .netlink
            .lookup(key.prefix.network())
            .await
            .ok()
            .flatten()?;
        (found.key() == *key && found.table == self.options.table).then_some(found.protocol)
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.audit_at {
            self.audit().await;
        } else if self.retry_at.is_some_and(|retry| now >= retry) {
            self.retry_at = None;
            let failed = self.ledger.failed().clone();
            self.reconcile(&failed).await;
            self.space_from(now);
        }
    }

    /// Compares our routes with the kernel and repairs; reads foreign routes and links anew if events were lost.
    async fn audit(&mut self) {
        let started = Instant::now();
        self.retry_at = None;
        if let Err(error) = self.try_audit().await {
            tracing::error!(%error, "cannot read the kernel's routes; the next audit tries again");
            self.resync = true;
        }
        self.space_from(started);
        self.audit_at = Instant::now() + self.options.audit_interval.max(Duration::from_millis(1));
    }

    async fn try_audit(&mut self) -> io::Result<()> {
        if self.netlink.is_dead() {
            self.netlink = Netlink::open(self.options.table, self.options.protocol)?;
            self.own_port.store(self.netlink.port, Ordering::Relaxed);
        }
        if self.monitor.is_finished() {
            let socket = monitor::open()?;
            let (monitor_tx, monitor_events) = mpsc::channel(MONITOR_BATCHES);
            self.monitor =
                tokio::spawn(monitor::run(socket, Arc::clone(&self.own_port), monitor_tx));
            self.monitor_events = monitor_events;
            self.resync = true;
        }
        if std::mem::take(&mut self.resync) {
            self.read_foreign().await?;
        }
        let found = self.netlink.dump_routes(self.options.protocol).await?;
        let touched = self.ledger.observe(found.iter().map(believed));
        let repaired = self.reconcile(&touched).await;
        if repaired > 0 {
            tracing::info!(repaired, "repaired kernel routes");
        }
        Ok(())
    }

    async fn read_foreign(&mut self) -> io::Result<()> {
        let links: HashMap<_, _> = self
            .netlink
            .dump_links()
            .await?
            .iter()
            .map(codec::read_link)
            .collect();
        self.dirty_links.extend(self.tracker.load_links(links));
        let ours = self.options.protocol;
        let routes = self.netlink.dump_routes(0).await?;
        self.tracker
            .load_routes(routes.into_iter().filter(|route| route.protocol != ours));
        self.dirty_next_hops.extend(self.tracker.refresh(None));
        Ok(())
    }

    fn schedule_audit(&mut self) {
        let due = (Instant::now() + self.options.debounce).max(self.not_before);
        self.audit_at = self.audit_at.min(due);
    }

    fn schedule_retry(&mut self) {
        if !self.ledger.failed().is_empty() && self.retry_at.is_none() {
            self.retry_at = Some((Instant::now() + self.options.debounce).max(self.not_before));
        }
    }

    /// Repair work that began at `started` is over: leave time for other things.
    fn space_from(&mut self, started: Instant) {
        let now = Instant::now();
        self.not_before = now + (now - started) * REPAIR_SPACING;
    }

    fn schedule_resync(&mut self) {
        self.resync = true;
        self.schedule_audit();
    }

    fn note(&mut self, batch: Vec<Event>) {
        for event in batch {
            match event {
                Event::Overrun => self.schedule_resync(),
                Event::RouteAdded { route, replace } => self.note_route(route, Some(replace)),
                Event::RouteRemoved(route) => self.note_route(route, None),
                Event::Link { index, link } => {
                    let alive = link.as_ref().is_some_and(|link| link.alive());
                    if self.tracker.set_link(index, link) {
                        self.dirty_links.insert(index);
                        self.dirty_next_hops.extend(self.tracker.refresh(None));
                        // A link that goes takes routes with it, silently in IPv4; one that comes may take what failed.
                        if alive {
                            self.schedule_retry()
                        } else {
                            self.schedule_audit()
                        }
                    }
                }
                // IPv4 routes with this source address go, on older kernels silently; IPv6 ones silently lose it.
                Event::Address {
                    removed: true,
                    ipv4: true,
                } => self.schedule_resync(),
                Event::Address {
                    removed: true,
                    ipv4: false,
                } => self.schedule_audit(),
                Event::Address { removed: false, .. } => self.schedule_retry(),
            }
        }
    }

    /// `added`: `Some(replace)` for a new route, `None` for one that went.
    fn note_route(&mut self, route: KernelRoute, added: Option<bool>) {
        if route.table != self.options.table {
            return;
        }
        // The echoes of our own writes never come here: somebody else touched a route of ours, or used our mark.
        if route.protocol == self.options.protocol {
            self.schedule_audit();
            return;
        }
        let prefix: IpNet = route.prefix;
        let in_our_place = self.ledger.holds(&route.key());
        match added {
            // A multipath route arrives hop by hop or as a whole, depending on family and verb.
            Some(_) if route.hops.len() > 1 => self.schedule_resync(),
            Some(replace) => self.tracker.add_route(route, replace),
            None => {
                if !self.tracker.remove_route(&route) {
                    self.schedule_resync();
                }
            }
        }
        if in_our_place {
            self.schedule_audit();
        }
        self.schedule_retry();
        self.dirty_next_hops
            .extend(self.tracker.refresh(Some(prefix)));
    }
}

fn believed(route: &KernelRoute) -> (RouteKey, Believed) {
    (route.key(), route.believed())
}

fn no_answer() -> crate::netlink::Refusal {
    crate::netlink::Refusal {
        errno: 0,
        reason: "the kernel's answer was lost; the next audit will tell".into(),
    }
}

fn foreign_holder(protocol: Option<u8>) -> String {
    let name = match protocol {
        Some(2) => " (kernel)",
        Some(3) => " (boot)",
        Some(4) => " (static)",
        Some(9) => " (ra)",
        Some(11) => " (zebra)",
        Some(12) => " (bird)",
        Some(16) => " (dhcp)",
        Some(186) => " (bgp)",
        _ => "",
    };
    match protocol {
        Some(protocol) => format!(
            "a route of protocol {protocol}{name} holds this prefix and metric; it is not ours to replace"
        ),
        None => "a route without our mark holds this prefix and metric; it is not ours to replace"
            .into(),
    }
}

/// Turns what changed into events with the state of now.
fn take_events(
    next_hops: &mut BTreeSet<NextHopKey>,
    links: &mut BTreeSet<u32>,
    tracker: &Tracker,
    batch: &mut Vec<FibEvent>,
) {
    for key in std::mem::take(next_hops) {
        batch.extend(
            tracker
                .state(&key)
                .map(|state| FibEvent::NextHopChanged { key, state }),
        );
    }
    for ifindex in std::mem::take(links) {
        let link = tracker.link(ifindex);
        let name = link.map(|link| link.name.clone()).unwrap_or_default();
        batch.push(FibEvent::LinkChanged {
            ifindex,
            name,
            alive: link.is_some_and(|link| link.alive()),
        });
    }
}
