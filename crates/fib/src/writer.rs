//! The driver: one task that owns shadow, tracker and request socket. Reads, writes, sleeps; [`Ledger`] and
//! [`Tracker`] decide.

mod reconcile;

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

use crate::NEXT_HOP_IDS;
use crate::codec::{self, KernelRoute};
use crate::handle::{FibError, FibEvent, FibOptions};
use crate::local::{self, LocalLink};
use crate::monitor::{self, Event};
use crate::netlink::Netlink;
use crate::plan::{Believed, Ledger};
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
    Covering {
        addr: IpAddr,
        reply: oneshot::Sender<Option<u8>>,
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
    /// Links that lost or found their carrier: what is shared out over them is to be planned anew.
    shifted: BTreeSet<u32>,
    /// Routes that a shrunken group was left to become plain ones from then on.
    settle_at: Instant,
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
        let audit_at = now + options.audit_interval;
        let mut writer = Writer {
            ledger: Ledger::new(options.sources.iter().copied()),
            audit_at,
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
            shifted: BTreeSet::new(),
            settle_at: audit_at,
        };
        let read = |source| FibError::Netlink {
            action: "read routes",
            source,
        };
        writer.read_foreign().await.map_err(read)?;
        writer.dirty_links.clear();
        writer.shifted.clear();
        let next_hops = writer.netlink.dump_next_hops().await.map_err(read)?;
        let protocol = writer.options.protocol;
        writer.ledger.adopt_next_hops(&next_hops, protocol);
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
            self.reconcile(&keys, false).await;
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
                Some(batch) = self.monitor_events.recv() => {
                    self.note(batch);
                    self.shift().await;
                }
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
                let written = self.reconcile(&keys, false).await;
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
                if self.ledger.adoption_finished() {
                    let swept = self.reconcile(&keys, false).await;
                    if swept > 0 {
                        tracing::info!(swept, "swept stale routes");
                    }
                }
                let _ = reply.send(());
            }
            Command::Dump { reply } => drop(reply.send(self.ledger.dump())),
            Command::Audit { reply } => {
                self.settle_at = Instant::now();
                self.audit().await;
                let _ = reply.send(());
            }
            Command::Resolve { key, reply } => drop(reply.send(self.tracker.resolve(key))),
            Command::Covering { addr, reply } => drop(reply.send(self.tracker.covering(addr))),
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

    async fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.audit_at {
            self.audit().await;
        } else if self.retry_at.is_some_and(|retry| now >= retry) {
            self.retry_at = None;
            let failed = self.ledger.failed().clone();
            self.reconcile(&failed, false).await;
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
        let next_hops = self.netlink.dump_next_hops().await?;
        let found = self.netlink.dump_routes(self.options.protocol).await?;
        let protocol = self.options.protocol;
        let mut touched = self.ledger.observe_next_hops(&next_hops, protocol);
        touched.append(&mut self.ledger.observe(found.iter().map(believed)));
        let at_leisure = Instant::now() >= self.settle_at;
        if at_leisure {
            self.settle_at = Instant::now() + self.options.audit_interval;
            touched.append(&mut self.ledger.through_one());
        }
        let repaired = self.reconcile(&touched, at_leisure).await;
        // Links that changed unheard of.
        self.shift().await;
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
        let changed = self.tracker.load_links(links);
        self.shifted.extend(&changed);
        self.dirty_links.extend(changed);
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
                        self.shifted.insert(index);
                        self.dirty_next_hops.extend(self.tracker.refresh(None));
                        // A link that goes takes routes with it, silently in IPv4; one that comes may take what failed.
                        if alive {
                            self.schedule_retry()
                        } else {
                            self.schedule_audit()
                        }
                    }
                }
                Event::NextHop(object) => {
                    // Somebody else made or unmade what bears our ids.
                    if NEXT_HOP_IDS.contains(&object.id) {
                        self.schedule_audit();
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
