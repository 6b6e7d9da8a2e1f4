//! BMP to collectors (RFC 7854): one task per configured station, which dials, tells what is there, and then what changes.
//!
//! ```text
//!  session task ──Up with both OPENs, Ended with its reason──► RIB thread: feed.rs
//!                                                                │ events (≤ 1024; beyond that the station is cut off)
//!  speaker ── stop ──► station.rs ──► connection.rs ◄────────────┘
//!                         │ dials, waits   │ one question at a time: a page of the walk, a page of changes, numbers
//!                         ▼                ▼
//!                      collector ◄── messages.rs: pages and events as BMP, written while the collector reads
//! ```
//! The RIB and the sessions never wait for a station. What a station has not fetched stays in the RIB's bounded log of
//! changes; one that is further behind is cut off, dials again and starts over. Without a station nothing is kept.

mod connection;
mod feed;
mod messages;
mod station;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use roadbed_api::agent::BmpStationReport;
use roadbed_api::kinds::{BmpStationSpec, RouteMonitoring};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::rib_thread::RibHandle;
use station::{Station, Status};

pub(crate) use feed::{Ending, Feed, Monitored, Question, Treated};

/// How long a station may take to say goodbye.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// One station, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationConfig {
    /// Where the collector listens.
    pub collector: SocketAddr,
    /// Our end.
    pub source_address: Option<IpAddr>,
    /// Pause after the first failure; doubled after each further one.
    pub connect_retry: Duration,
    /// Which side of the import policy is told.
    pub route_monitoring: RouteMonitoring,
    /// Time between two Statistics Reports; zero: none.
    pub statistics: Duration,
}

impl From<&BmpStationSpec> for StationConfig {
    fn from(spec: &BmpStationSpec) -> Self {
        Self {
            collector: SocketAddr::new(spec.address, spec.port()),
            source_address: spec.source_address,
            connect_retry: Duration::from_secs(spec.connect_retry_seconds().into()),
            route_monitoring: spec.route_monitoring,
            statistics: Duration::from_secs(spec.statistics_seconds().into()),
        }
    }
}

struct Running {
    config: StationConfig,
    stop: oneshot::Sender<Farewell>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

/// The last word to a collector.
#[derive(Debug)]
struct Farewell {
    reason: bgp_wire::bmp::TerminationReason,
    text: String,
}

/// The stations of a speaker. Dropping it ends their tasks without a word to the collectors; see [`Stations::stop`].
pub(crate) struct Stations {
    rib: RibHandle,
    running: BTreeMap<String, Running>,
}

impl Stations {
    pub(crate) fn new(rib: RibHandle) -> Self {
        Self {
            rib,
            running: BTreeMap::new(),
        }
    }

    /// Brings the stations to `wanted`. One whose settings change gets another connection. Never waits.
    pub(crate) fn configure(&mut self, wanted: BTreeMap<String, StationConfig>) {
        use bgp_wire::bmp::TerminationReason::{AdministrativelyClosed, PermanentlyClosed};
        let running = std::mem::take(&mut self.running);
        for (name, station) in running {
            match wanted.get(&name) {
                Some(config) if *config == station.config => {
                    self.running.insert(name, station);
                }
                config => {
                    tracing::info!(station = %name, "BMP station {}", if config.is_some() { "changed" } else { "removed" });
                    let reason = match config {
                        Some(_) => AdministrativelyClosed,
                        None => PermanentlyClosed,
                    };
                    // It ends by itself, soon; one that panicked has ended.
                    drop(station.stop.send(Farewell {
                        reason,
                        text: "no longer configured".into(),
                    }));
                }
            }
        }
        for (name, config) in wanted {
            if self.running.contains_key(&name) {
                continue;
            }
            tracing::info!(station = %name, collector = %config.collector, "BMP station added");
            let (stop, stopped) = oneshot::channel();
            let (status_out, status) = watch::channel(Status::default());
            let station = Station::new(
                name.as_str().into(),
                config.clone(),
                self.rib.clone(),
                status_out,
            );
            let running = Running {
                config,
                stop,
                status,
                task: tokio::spawn(station.run(stopped)),
            };
            self.running.insert(name, running);
        }
    }

    /// What is known of every station, in the order of their names.
    pub(crate) fn reports(&self) -> Vec<BmpStationReport> {
        let report = |(name, running): (&String, &Running)| {
            let status = running.status.borrow();
            BmpStationReport {
                name: name.clone(),
                collector: running.config.collector.to_string(),
                route_monitoring: running.config.route_monitoring,
                state: status.state.to_owned(),
                state_seconds: status.since.map_or(0, |at| at.elapsed().as_secs()),
                connected_count: status.connected,
                messages: status.messages,
                octets: status.octets,
                last_error: status.last_error.clone(),
            }
        };
        self.running.iter().map(report).collect()
    }

    /// Tells all collectors that it is over, and waits for that, a second at most.
    pub(crate) async fn stop(&mut self, words: &str) {
        let deadline = Instant::now() + STOP_DEADLINE;
        let mut tasks = Vec::new();
        for (_, running) in std::mem::take(&mut self.running) {
            drop(running.stop.send(Farewell {
                reason: bgp_wire::bmp::TerminationReason::AdministrativelyClosed,
                text: words.to_owned(),
            }));
            tasks.push(running.task);
        }
        for mut task in tasks {
            if tokio::time::timeout_at(deadline.into(), &mut task)
                .await
                .is_err()
            {
                task.abort();
            }
        }
    }
}

impl Drop for Stations {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
    }
}

/// What this router calls itself.
fn sys_name() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "roadbed".into(),
        name => name.into(),
    }
}
