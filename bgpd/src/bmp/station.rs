//! One station: dials its collector, again and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use super::connection::{Connection, Ended};
use super::{Farewell, STOP_DEADLINE, StationConfig, sys_name};
use crate::rib_thread::RibHandle;

/// How long a collector may take to accept.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Silence after which, and intervals at which, the collector's TCP is asked whether it is there.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// How long its TCP may leave octets or probes unanswered.
const VANISHED: Duration = Duration::from_secs(60);
/// Longest pause between two attempts (RFC 7854 §3.2), unless the first one is longer.
const MAX_RETRY: Duration = Duration::from_secs(720);

/// What is known of a station.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: &'static str,
    pub(super) since: Option<Instant>,
    /// Connections so far.
    pub(super) connected: u64,
    /// Written to the socket.
    pub(super) messages: u64,
    pub(super) octets: u64,
    pub(super) last_error: Option<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            state: "connecting",
            since: None,
            connected: 0,
            messages: 0,
            octets: 0,
            last_error: None,
        }
    }
}

impl Status {
    pub(super) fn enter(&mut self, state: &'static str) {
        self.state = state;
        self.since = Some(Instant::now());
    }
}

pub(super) struct Station {
    name: Arc<str>,
    config: StationConfig,
    rib: RibHandle,
    status: watch::Sender<Status>,
    sys_name: Arc<str>,
    /// The failure before, as logged.
    last_failure: Option<String>,
}

impl Station {
    pub(super) fn new(
        name: Arc<str>,
        config: StationConfig,
        rib: RibHandle,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            name,
            config,
            rib,
            status,
            sys_name: sys_name(),
            last_failure: None,
        }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<Farewell>) {
        let mut pause = self.config.connect_retry;
        loop {
            self.status.send_modify(|s| s.enter("connecting"));
            let dialled = tokio::select! {
                biased;
                _ = &mut stop => return,
                dialled = tokio::time::timeout(CONNECT_DEADLINE, connect(&self.config)) => dialled,
            };
            let failure = match dialled {
                Ok(Ok(stream)) => {
                    let (synced, ended) = self.connected(stream, &mut stop).await;
                    if synced {
                        pause = self.config.connect_retry;
                        self.last_failure = None;
                    }
                    match ended {
                        Some(Ended::Rib(_)) | None => return,
                        Some(ended) => ended.to_string(),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "connecting timed out".to_owned(),
            };
            self.failed(failure, pause);
            tokio::select! {
                biased;
                _ = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(MAX_RETRY.max(self.config.connect_retry));
        }
    }

    /// Whether the collector was told all there is, and what ended that; `None`: it was told to stop.
    async fn connected(
        &mut self,
        stream: TcpStream,
        stop: &mut oneshot::Receiver<Farewell>,
    ) -> (bool, Option<Ended>) {
        tracing::info!(station = %self.name, collector = %self.config.collector, "BMP station connected");
        self.status.send_modify(|status| {
            status.enter("sending");
            status.connected += 1;
        });
        let begun = Connection::begin(stream, &self.config, &self.rib, &self.status);
        let mut connection = match begun.await {
            Ok(connection) => connection,
            Err(error) => return (false, Some(error)),
        };
        connection.initiate(&self.sys_name);
        let ended = tokio::select! {
            biased;
            farewell = &mut *stop => Err(farewell),
            ended = connection.run() => Ok(ended),
        };
        let synced = connection.is_synced();
        match ended {
            Ok(ended) => (synced, Some(ended)),
            Err(farewell) => {
                if let Ok(farewell) = farewell {
                    // The collector finds out either way.
                    let goodbye = connection.end(&farewell);
                    tokio::time::timeout(STOP_DEADLINE, goodbye).await.ok();
                }
                (synced, None)
            }
        }
    }

    /// An attempt that fails as the one before did is no news.
    fn failed(&mut self, failure: String, pause: Duration) {
        let (station, collector) = (&self.name, self.config.collector);
        let retry_s = pause.as_secs();
        if self.last_failure.as_ref() == Some(&failure) {
            tracing::debug!(%station, %collector, reason = %failure, retry_s, "BMP station without its collector");
        } else {
            tracing::warn!(%station, %collector, reason = %failure, retry_s, "BMP station without its collector");
        }
        self.status.send_modify(|status| {
            status.enter("waiting");
            status.last_error = Some(failure.clone());
        });
        self.last_failure = Some(failure);
    }
}

async fn connect(config: &StationConfig) -> std::io::Result<TcpStream> {
    let socket = match config.collector.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    // A collector that vanishes without a word is missed within a minute or so, also while there is nothing to tell.
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_AFTER);
    SockRef::from(&socket).set_tcp_keepalive(&probes)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(VANISHED))?;
    if let Some(source) = config.source_address {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(config.collector).await
}
