//! The speaker as its host sees it: start, configure, originate, look in, stop.

mod adoption;
mod options;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bgp_core::fsm::PeerSettings;
use bgp_core::policy::{Chain, ImportContext, PathAttributes, RouteSource};
use bgp_core::rib::{
    Aggregate, Event, MAX_PATHS_OF_PEER, MedRules, Multipath, Originated, PathView, Relation,
    RibConfig, TableId,
};
use ipnet::IpNet;
use roadbed_api::agent::{BgpPeer, BmpStationReport, FamilyCounts, PeerReport};
use roadbed_api::kinds::AddressFamily;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bmp::{StationConfig, Stations};
use crate::kernel::{KernelConfig, KernelTask};
use crate::listener::{self, ACCEPT_QUEUE, Admission, ListenError};
use crate::look::Looking;
use crate::range::{Range, RangeCommand, RangeConfig};
use crate::rib_thread::{self, RibClosed, RibHandle, RibMessage};
use crate::session::{Command, Context, Limits, Session};
use crate::transport::Transport;

pub use options::Remains;

use adoption::Adopting;

/// Commands that may wait for one session.
pub(crate) const COMMAND_QUEUE: usize = 8;
/// How long an answer to a question may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long sessions may take to say goodbye.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Who the speaker is. Another AS or Identifier is another speaker; see [`SpeakerOptions::is_same_speaker`].
#[derive(Clone, Debug)]
pub struct SpeakerOptions {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our cluster, as a route reflector.
    pub cluster_id: Ipv4Addr,
    /// Port to listen on; 0: do not listen.
    pub listen_port: u16,
    /// Keys hashes over what peers choose.
    pub seed: u64,
}

/// What can.
#[derive(Clone, Debug, Default)]
pub struct SpeakerConfig {
    /// By name.
    pub peers: BTreeMap<String, PeerConfig>,
    /// By name: where peers without an address of their own may connect from.
    pub ranges: BTreeMap<String, RangeConfig>,
    /// What the import policy `default` measures against.
    pub import: ImportContext,
    /// How MEDs are compared.
    pub med: MedRules,
    /// Which paths share traffic.
    pub multipath: Multipath,
    /// What is announced in place of, or beside, what is inside.
    pub aggregates: Vec<Aggregate>,
    /// Source addresses of learned routes in the kernel: the node's own, IPv4 and IPv6.
    pub prefsrc: [Option<IpAddr>; 2],
    /// Whether learned routes go to the kernel.
    pub install_routes: bool,
    /// By name: who is told about sessions and routes.
    pub stations: BTreeMap<String, StationConfig>,
}

/// One peer, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Name of the `BGPPeer`.
    pub name: Arc<str>,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's port.
    pub port: u16,
    /// Our end.
    pub source_address: Option<IpAddr>,
    /// What the FSM and the OPEN need.
    pub settings: PeerSettings,
    /// Import policy.
    pub import: Chain,
    /// Export policy.
    pub export: Chain,
    /// What the TCP connection is told.
    pub transport: Transport,
    /// Bounds on prefixes.
    pub limits: Limits,
    /// Whether paths must begin with the peer's AS (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// The session is not wanted, and the peer is told this (RFC 9003).
    pub shutdown: Option<String>,
    /// What the peer is to us beyond its AS; the role is negotiated.
    pub relation: Relation,
}

/// A route that this speaker originates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    /// Destination.
    pub prefix: IpNet,
    /// What it is, for export policies.
    pub source: RouteSource,
    /// What it says; `None`: no more than that it starts here.
    pub attributes: Option<PathAttributes>,
}

/// Everything that is to be originated; the speaker works out the difference.
pub type Origination = Vec<LocalRoute>;

/// The speaker cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No thread for the RIB.
    #[error("cannot start the RIB thread: {0}")]
    Thread(#[from] std::io::Error),
}

struct Running {
    config: PeerConfig,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

struct RunningRange {
    config: RangeConfig,
    commands: mpsc::Sender<RangeCommand>,
    accepted: mpsc::Sender<TcpStream>,
    task: JoinHandle<()>,
}

/// A running speaker. Dropping it aborts its tasks without a word to the peers; see [`Speaker::stop`].
pub struct Speaker {
    options: SpeakerOptions,
    context: Context,
    rib: RibHandle,
    peers: BTreeMap<String, Running>,
    ranges: BTreeMap<String, RunningRange>,
    stations: Stations,
    originated: HashMap<IpNet, Originated>,
    import: ImportContext,
    aggregates: Vec<Aggregate>,
    admission: watch::Sender<Admission>,
    kernel: watch::Sender<KernelConfig>,
    /// Until what an earlier run left in the kernel is swept.
    adopting: Option<Adopting>,
    listener: Option<AbortOnDropHandle<()>>,
    kernel_task: AbortOnDropHandle<KernelTask>,
    /// Ends the kernel task between two of its steps.
    kernel_stop: CancellationToken,
}

impl Speaker {
    /// Listens and starts the RIB, without peers. Must be called inside a tokio runtime. Routes that an earlier speaker left
    /// stay until the peers of this one have said what they have.
    ///
    /// # Errors
    /// When the port or a thread cannot be had; what was given comes back for another try.
    pub fn start(
        options: SpeakerOptions,
        remains: Remains,
    ) -> Result<Self, Box<(StartError, Remains)>> {
        let listener = match options.listen_port {
            0 => Ok(None),
            port => listener::bind(port).map(Some).map_err(StartError::from),
        };
        let started = listener.and_then(|listener| {
            let rib = rib_thread::start(RibConfig {
                local_as: options.local_as,
                router_id: options.router_id,
                cluster_id: options.cluster_id,
                seed: options.seed,
                assume_next_hops: false,
            })?;
            Ok((listener, rib))
        });
        let (listener, (rib, kernel_queue)) = match started {
            Ok(started) => started,
            Err(error) => return Err(Box::new((error, remains))),
        };
        let Remains {
            fib,
            events,
            routes,
        } = remains;
        let (kernel, kernel_config) = watch::channel(KernelConfig::default());
        let kernel_task = KernelTask::new(
            (fib.clone(), events),
            rib.clone(),
            kernel_queue,
            kernel_config,
            routes,
        );
        let kernel_stop = CancellationToken::new();
        let kernel_task = kernel_task.run(kernel_stop.clone());
        let (admission, admitted) = watch::channel(Admission::default());
        Ok(Self {
            adopting: Some(Adopting::new(fib.clone())),
            context: Context {
                rib: rib.clone(),
                fib,
                session_ids: Arc::new(AtomicU64::new(1)),
            },
            options,
            stations: Stations::new(rib.clone()),
            rib,
            peers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            originated: HashMap::new(),
            import: ImportContext::default(),
            aggregates: Vec::new(),
            admission,
            kernel,
            listener: listener.map(|listener| options::listen(listener, admitted)),
            kernel_task: AbortOnDropHandle::new(tokio::spawn(kernel_task)),
            kernel_stop,
        })
    }

    /// What the speaker was started with.
    pub fn options(&self) -> &SpeakerOptions {
        &self.options
    }

    /// Brings peers and policies to `config`. A peer is reset only when its address or its OPEN must change.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn configure(&mut self, config: SpeakerConfig) -> Result<(), RibClosed> {
        let kernel = KernelConfig {
            prefsrc: config.prefsrc,
            install: config.install_routes,
            adopted: self.adopting.is_none(),
            known: true,
        };
        let install = kernel.install;
        self.kernel.send_if_modified(|old| {
            let changed = *old != kernel;
            *old = kernel;
            changed
        });
        // After the kernel task knows, so that it keeps what the RIB tells again.
        self.rib.event(Event::Install(install)).await?;
        if self.import != config.import {
            self.import = config.import.clone();
            self.rib.event(Event::ImportContext(config.import)).await?;
        }
        // The RIB knows whether it makes a difference.
        self.rib.event(Event::MedRules(config.med)).await?;
        self.rib.event(Event::Multipath(config.multipath)).await?;
        if self.aggregates != config.aggregates {
            self.aggregates.clone_from(&config.aggregates);
            let aggregates = Event::Aggregates(TableId::default(), config.aggregates);
            self.rib.event(aggregates).await?;
        }
        let gone: Vec<String> = self
            .peers
            .iter()
            .filter(|(name, running)| {
                config
                    .peers
                    .get(*name)
                    .is_none_or(|new| moved(&running.config, new))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(running) = self.peers.remove(&name) {
                tracing::info!(peer = %name, "peer removed");
                drop(running.commands.send(Command::Remove).await);
            }
        }
        self.stations.configure(config.stations);
        self.configure_ranges(config.ranges).await;
        let mut peers = self.admission.borrow().peers.clone();
        peers.retain(|address, _| self.peers.values().any(|p| p.config.address == *address));
        for (name, new) in config.peers {
            match self.peers.get_mut(&name) {
                Some(running) if running.config == new => {}
                Some(running) => {
                    running.config = new.clone();
                    drop(
                        running
                            .commands
                            .send(Command::Settings(Box::new(new)))
                            .await,
                    );
                }
                None => {
                    tracing::info!(peer = %name, address = %new.address, peer_as = %new.settings.remote, "peer added");
                    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
                    let (accepted, accept_queue) = mpsc::channel(ACCEPT_QUEUE);
                    peers.insert(new.address, accepted);
                    let session = Session::new(new.clone(), self.context.clone());
                    let running = Running {
                        config: new,
                        commands,
                        task: tokio::spawn(session.run(command_queue, accept_queue)),
                    };
                    self.peers.insert(name, running);
                }
            }
        }
        self.admit(peers);
        Ok(())
    }

    async fn configure_ranges(&mut self, mut wanted: BTreeMap<String, RangeConfig>) {
        let mut gone = Vec::new();
        self.ranges.retain(|name, running| {
            let keep = wanted.contains_key(name);
            if !keep {
                tracing::info!(range = %name, "listen range removed");
                gone.push(running.commands.clone());
            }
            keep
        });
        for commands in gone {
            // It has ended only if it panicked.
            commands.send(RangeCommand::End(None)).await.ok();
        }
        for (name, running) in &mut self.ranges {
            let Some(new) = wanted.remove(name) else {
                continue;
            };
            if running.config != new {
                running.config = new.clone();
                let settings = RangeCommand::Settings(Box::new(new));
                running.commands.send(settings).await.ok();
            }
        }
        for (name, config) in wanted {
            tracing::info!(range = %name, prefix = %config.prefix, peer_as = %config.template.settings.remote, "listen range added");
            let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
            let (accepted, accept_queue) = mpsc::channel(ACCEPT_QUEUE);
            let range = Range::new(config.clone(), self.context.clone());
            let running = RunningRange {
                config,
                commands,
                accepted,
                task: tokio::spawn(range.run(command_queue, accept_queue)),
            };
            self.ranges.insert(name, running);
        }
    }

    /// Tells the listener who may connect: these peers, and whoever is in a range.
    fn admit(&self, peers: HashMap<IpAddr, mpsc::Sender<TcpStream>>) {
        let of_peers = self.peers.values().map(|running| {
            let config = &running.config;
            (IpNet::from(config.address), &config.transport)
        });
        let of_ranges = self.ranges.values().map(|running| {
            let config = &running.config;
            (config.prefix, &config.template.transport)
        });
        let keys = of_peers
            .chain(of_ranges)
            .filter_map(|(prefix, transport)| Some((prefix, transport.password.clone()?)))
            .collect();
        let ranges = self
            .ranges
            .values()
            .map(|running| (running.config.prefix, running.accepted.clone()))
            .collect();
        self.admission.send_replace(Admission {
            peers,
            ranges,
            keys,
        });
    }

    /// Originates exactly these routes.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn originate(&mut self, routes: &[LocalRoute]) -> Result<(), RibClosed> {
        let route = |r: &LocalRoute| Originated {
            source: r.source,
            attributes: r.attributes.clone(),
        };
        let wanted: HashMap<IpNet, Originated> = routes
            .iter()
            .map(|r| (r.prefix.trunc(), route(r)))
            .collect();
        let gone = self
            .originated
            .keys()
            .filter(|p| !wanted.contains_key(*p))
            .map(|p| (*p, None));
        let new = wanted
            .iter()
            .filter(|(prefix, route)| self.originated.get(*prefix) != Some(route))
            .map(|(prefix, route)| (*prefix, Some(route.clone())));
        let changes: Vec<(IpNet, Option<Originated>)> = gone.chain(new).collect();
        if !changes.is_empty() {
            self.rib
                .event(Event::Local(TableId::default(), changes))
                .await?;
        }
        self.originated = wanted;
        Ok(())
    }

    /// Every path of the RIB, or those of one prefix, with the reason why each is or is not best.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn paths(&self, only: Option<IpNet>) -> Result<Vec<PathView>, RibClosed> {
        self.rib.ask(|reply| RibMessage::Paths(only, reply)).await
    }

    /// Looks into the RIB; goes on to work beside the speaker.
    pub fn looking(&self) -> Looking {
        let options = &self.options;
        Looking::new(self.rib.clone(), options.local_as, options.router_id)
    }

    /// What is known of every BMP station, in the order of their names.
    pub fn stations(&self) -> Vec<BmpStationReport> {
        self.stations.reports()
    }

    /// What is known of every peer in short; see [`Speaker::peers`].
    pub async fn reports(&self) -> Vec<PeerReport> {
        let peers = self.peers().await;
        peers.into_iter().map(|peer| peer.report).collect()
    }

    /// What is known of every peer, in the order of their names, dynamic ones last. Takes two seconds at most: who has not answered
    /// by then is left out.
    pub async fn peers(&self) -> Vec<BgpPeer> {
        let deadline = tokio::time::Instant::now() + ANSWER_DEADLINE;
        let mut sessions: Vec<_> = self.peers.values().map(|p| p.commands.clone()).collect();
        for range in self.ranges.values() {
            let (reply, answer) = oneshot::channel();
            let asked = range.commands.try_send(RangeCommand::Sessions(reply));
            if asked.is_ok()
                && let Ok(Ok(dynamic)) = tokio::time::timeout_at(deadline, answer).await
            {
                sessions.extend(dynamic);
            }
        }
        let asked: Vec<_> = sessions
            .iter()
            .filter_map(|session| {
                let (reply, answer) = oneshot::channel();
                session.try_send(Command::Report(reply)).ok()?;
                Some(answer)
            })
            .collect();
        let (mut reports, mut sessions) = (Vec::new(), Vec::new());
        for answer in asked {
            if let Ok(Ok((report, session))) = tokio::time::timeout_at(deadline, answer).await {
                sessions.extend(session.map(|session| (reports.len(), session)));
                reports.push(report);
            }
        }
        let ids = sessions.iter().map(|(_, session)| *session).collect();
        let counters = self.rib.ask(|reply| RibMessage::Counters(ids, reply));
        let counters = match tokio::time::timeout_at(deadline, counters).await {
            Ok(Ok(counters)) => counters,
            Ok(Err(_)) | Err(_) => return reports,
        };
        for ((at, _), counters) in sessions.into_iter().zip(counters) {
            let families = [AddressFamily::Ipv4Unicast, AddressFamily::Ipv6Unicast];
            for (family, counters) in families.into_iter().zip(counters) {
                let Some(counters) = counters else { continue };
                if counters.refused > 0 {
                    reports[at].report.warnings.push(format!(
                        "{family}: {} paths not taken: their prefix had {MAX_PATHS_OF_PEER} of this peer",
                        counters.refused
                    ));
                }
                reports[at].report.families.insert(
                    family,
                    FamilyCounts {
                        received: counters.received,
                        accepted: counters.accepted,
                        advertised: counters.advertised,
                        end_of_rib: counters.end_of_rib,
                    },
                );
            }
        }
        reports
    }

    /// Says goodbye to all peers (Cease, Administrative Shutdown; RFC 9003) and ends. Kernel routes stay.
    pub async fn stop(mut self, message: &str) {
        // Before the sessions end, or their routes would be withdrawn with them.
        self.kernel_task.abort();
        // An abort is the only way that it ends here.
        (&mut self.kernel_task).await.ok();
        self.say_goodbye(message).await;
    }

    async fn say_goodbye(&mut self, message: &str) {
        let all = async {
            for running in self.peers.values() {
                let stop = Command::Stop(message.to_owned());
                running.commands.send(stop).await.ok();
            }
            for running in self.ranges.values() {
                let stop = RangeCommand::End(Some(message.to_owned()));
                running.commands.send(stop).await.ok();
            }
            for running in self.ranges.values_mut() {
                (&mut running.task).await.ok();
            }
            for running in self.peers.values_mut() {
                // A session that panicked has nothing left to say.
                (&mut running.task).await.ok();
            }
        };
        if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        // After the sessions, so that collectors hear how they ended.
        self.stations.stop(message).await;
        if let Some(listener) = self.listener.take() {
            options::close(listener).await;
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        for running in self.peers.values() {
            running.task.abort();
        }
        // Their sessions end with them.
        for running in self.ranges.values() {
            running.task.abort();
        }
    }
}

/// Whether the change means another TCP connection.
fn moved(old: &PeerConfig, new: &PeerConfig) -> bool {
    (old.address, old.port, old.source_address) != (new.address, new.port, new.source_address)
}
