//! The peers' side of all sessions: connects, exchanges OPENs, then moves bytes. One thread reads for all peers, one more
//! writes for all; nothing here limits how fast the daemon may be.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bgp_wire::{Capability, Open, encode_keepalive};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::poller::{For, Poller};
use crate::scene::{Scene, running};
use crate::sink::{Known, Sink};
use crate::workload::{DAEMON, Workload};

/// The BGP port.
pub(crate) const PORT: u16 = 179;
/// Seconds; longer than any run, so that nobody's keepalives matter.
pub(crate) const HOLD_TIME: u16 = 240;
/// Bytes per read.
const READ: usize = 256 << 10;
/// Bytes per write.
const WRITE: usize = 128 << 10;
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that wait for the daemon's OPEN at a time: below every daemon's listen backlog, beyond which the kernel
/// drops SYNs and the clock would measure its seconds of backoff.
const KNOCKING: usize = 3;
/// After this a silent daemon is not waited for before others dial.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long nothing may arrive before a result counts as final.
const QUIET: Duration = Duration::from_millis(300);

/// What each peer has to write: pieces, in order.
pub(crate) type Load = Vec<Vec<Arc<Vec<u8>>>>;

/// All peers of one run.
pub(crate) struct Peers {
    workload: Arc<Workload>,
    streams: Vec<Option<TcpStream>>,
    /// Our OPEN is out.
    greeted: Vec<bool>,
    /// Our KEEPALIVE is out.
    answered: Vec<bool>,
    /// Established on both sides.
    confirmed: Vec<bool>,
    /// How many of them are.
    up: usize,
    /// Of a session without connection: not to be dialled before; else when it was dialled.
    retry_at: Vec<Instant>,
    /// Sessions without connection, in the order in which they are dialled.
    to_dial: VecDeque<usize>,
    /// Sessions that were dialled last.
    knocking: Vec<usize>,
    poller: Poller,
    ready: Vec<usize>,
    sinks: Vec<Sink>,
    known: Known,
    scratch: Vec<u8>,
}

impl Peers {
    pub(crate) fn new(workload: &Arc<Workload>) -> Result<Self> {
        let n = workload.peers;
        Ok(Self {
            workload: Arc::clone(workload),
            streams: (0..n).map(|_| None).collect(),
            greeted: vec![false; n],
            answered: vec![false; n],
            confirmed: vec![false; n],
            up: 0,
            retry_at: vec![Instant::now(); n],
            to_dial: (0..n).collect(),
            knocking: Vec::new(),
            poller: Poller::new()?,
            ready: Vec::new(),
            sinks: (0..n).map(|peer| Sink::new(peer, workload)).collect(),
            known: Known::default(),
            scratch: vec![0; READ],
        })
    }

    /// From now on every peer must have what `wanted` says.
    pub(crate) fn expect(&mut self, wanted: Vec<u16>) {
        let wanted = Arc::new(wanted);
        for sink in &mut self.sinks {
            sink.expect(Arc::clone(&wanted));
        }
    }

    fn complete(&self) -> bool {
        self.sinks.iter().all(Sink::is_complete)
    }

    /// Brings all sessions up; each peer writes its part of `load` as soon as its own is. Returns when all are up and,
    /// with a load, when everybody has everything; the time is that since the first connection attempt.
    pub(crate) fn establish(
        &mut self,
        scene: &Scene,
        load: Option<&Load>,
        limit: Duration,
    ) -> Result<Duration> {
        // Sockets keep the namespace that they were opened in: only dialling has to happen there.
        scene.at_peers(|| self.establish_here(load, limit))?
    }

    fn establish_here(&mut self, load: Option<&Load>, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            running()?;
            ensure!(
                started.elapsed() < limit,
                "{} of {} sessions are up, {} routes missing after {limit:?}",
                self.up,
                self.streams.len(),
                self.sinks.iter().map(Sink::missing).sum::<usize>()
            );
            self.dial()?;
            self.wait(Duration::from_millis(5))?;
            for place in 0..self.ready.len() {
                self.advance(self.ready[place], load)?;
            }
            if self.up == self.streams.len() && (load.is_none() || self.complete()) {
                return Ok(started.elapsed());
            }
        }
    }

    /// Whether a connection attempt is under way that the daemon may still be about to answer.
    fn is_knocking(&self, peer: usize, now: Instant) -> bool {
        self.streams[peer].is_some()
            && self.sinks[peer].opens == 0
            && now.duration_since(self.retry_at[peer]) < PATIENCE
    }

    fn dial(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut knocking = std::mem::take(&mut self.knocking);
        knocking.retain(|peer| self.is_knocking(*peer, now));
        self.knocking = knocking;
        while self.knocking.len() < KNOCKING
            && let Some(&peer) = self.to_dial.front()
            && now >= self.retry_at[peer]
        {
            self.to_dial.pop_front();
            self.knocking.push(peer);
            self.retry_at[peer] = now;
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            socket.bind(&SocketAddr::from((Workload::address(peer), 0)).into())?;
            match socket.connect(&SocketAddr::V4(SocketAddrV4::new(DAEMON, PORT)).into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
                Err(error) => return Err(error).context("cannot connect"),
            }
            self.poller.add(&socket, peer, For::Both)?;
            self.streams[peer] = Some(socket.into());
        }
        Ok(())
    }

    /// The next step of a session that is not up, if it is due.
    fn advance(&mut self, peer: usize, load: Option<&Load>) -> Result<()> {
        if self.confirmed[peer] {
            return Ok(());
        }
        let Some(stream) = &mut self.streams[peer] else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        if !self.greeted[peer] {
            if stream.peer_addr().is_err() {
                return Ok(());
            }
            open(self.workload.peer_as(peer), Workload::address(peer)).encode(&mut bytes);
            self.greeted[peer] = true;
            self.poller.change(&*stream, peer, For::Reading)?;
        }
        if self.sinks[peer].opens > 0 && !self.answered[peer] {
            encode_keepalive(&mut bytes);
            self.answered[peer] = true;
        }
        if self.answered[peer] && self.sinks[peer].keepalives > 0 {
            self.confirmed[peer] = true;
            self.up += 1;
            for piece in load.map(|load| load[peer].as_slice()).unwrap_or_default() {
                bytes.extend_from_slice(piece);
            }
        }
        // What is written here is far smaller than any socket buffer.
        match stream.write_all(&bytes) {
            Ok(()) => Ok(()),
            Err(error) if !self.confirmed[peer] => {
                self.again(peer);
                drop(error);
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("cannot write for peer {peer}")),
        }
    }

    fn again(&mut self, peer: usize) {
        self.streams[peer] = None;
        self.greeted[peer] = false;
        self.answered[peer] = false;
        self.sinks[peer].restart();
        self.retry_at[peer] = Instant::now() + RETRY;
        self.to_dial.push_back(peer);
    }

    /// Reads what arrives within `limit`, at most once per peer. True: something did.
    fn wait(&mut self, limit: Duration) -> Result<bool> {
        self.poller.wait(limit, &mut self.ready)?;
        for place in 0..self.ready.len() {
            self.read(self.ready[place])?;
        }
        Ok(!self.ready.is_empty())
    }

    fn read(&mut self, peer: usize) -> Result<()> {
        let Some(stream) = &mut self.streams[peer] else {
            return Ok(());
        };
        match stream.read(&mut self.scratch) {
            Ok(n) if n > 0 => self.sinks[peer]
                .feed(&self.scratch[..n], &mut self.known)
                .with_context(|| format!("peer {peer}")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            // A daemon that has just started may refuse, or turn away who comes too early.
            _ if !self.confirmed[peer] => {
                self.again(peer);
                Ok(())
            }
            Ok(_) => bail!("peer {peer}: the daemon closed the session"),
            Err(error) => Err(error).with_context(|| format!("peer {peer}")),
        }
    }

    /// Reads until nothing has arrived for a while: what the daemons say after they are Established, and whatever
    /// would still change a result.
    pub(crate) fn settle(&mut self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        while self.wait(QUIET)? {
            running()?;
            ensure!(started.elapsed() < limit, "no quiet within {limit:?}");
        }
        Ok(())
    }

    /// Fails when somebody has not what must be there.
    pub(crate) fn check(&self) -> Result<()> {
        for (peer, sink) in self.sinks.iter().enumerate() {
            ensure!(
                sink.is_complete(),
                "peer {peer} was complete, and then was not: {} prefixes",
                sink.missing()
            );
        }
        Ok(())
    }

    /// Writes `load` and reads until everybody has what is expected. The clock runs from the first byte written.
    pub(crate) fn run(&mut self, load: &Load, limit: Duration) -> Result<Duration> {
        let mut writers = Vec::new();
        for stream in &self.streams {
            let stream = stream.as_ref().context("a session that is not up")?;
            writers.push(stream.try_clone()?);
        }
        let written = AtomicBool::new(false);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let started = Instant::now();
            let writer = scope.spawn(|| {
                let result = write_all(&mut writers, load, &stop);
                written.store(true, Ordering::Release);
                result
            });
            let result = loop {
                let complete = self.complete();
                if complete && written.load(Ordering::Acquire) {
                    break Ok(started.elapsed());
                }
                let patience = if complete { 1 } else { 20 };
                let step = running().and_then(|()| {
                    let late = started.elapsed() > limit;
                    let missing: usize = self.sinks.iter().map(Sink::missing).sum();
                    ensure!(!late, "{missing} routes are missing after {limit:?}");
                    self.wait(Duration::from_millis(patience))
                });
                if let Err(error) = step {
                    break Err(error);
                }
            };
            stop.store(true, Ordering::Relaxed);
            let written = writer.join();
            ensure!(written.is_ok(), "the writer panicked");
            let elapsed = result?;
            written.unwrap_or(Ok(()))?;
            Ok(elapsed)
        })
    }
}

/// The OPEN of either side.
pub(crate) fn open(asn: u32, address: Ipv4Addr) -> Open {
    Open {
        my_as: asn,
        my_as_2octet: Open::two_octet(asn),
        hold_time: HOLD_TIME,
        bgp_id: address,
        capabilities: vec![
            Capability::MultiProtocol { afi: 1, safi: 1 },
            Capability::RouteRefresh,
            Capability::FourOctetAs(asn),
        ],
    }
}

/// Writes all of `load`, a piece of every stream in turn, as the streams take it.
pub(crate) fn write_all(streams: &mut [TcpStream], load: &Load, stop: &AtomicBool) -> Result<()> {
    let mut poller = Poller::new()?;
    let mut watched = vec![false; streams.len()];
    // Per stream: piece, and offset in it.
    let mut at = vec![(0usize, 0usize); streams.len()];
    let mut left = load.iter().filter(|pieces| !pieces.is_empty()).count();
    let mut ready: Vec<usize> = (0..streams.len()).collect();
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let mut writable = Vec::new();
        for peer in ready {
            let (piece, offset) = &mut at[peer];
            let Some(bytes) = load[peer].get(*piece) else {
                continue;
            };
            let end = bytes.len().min(*offset + WRITE);
            match streams[peer].write(&bytes[*offset..end]) {
                Ok(n) => {
                    *offset += n;
                    if *offset == bytes.len() {
                        (*piece, *offset) = (*piece + 1, 0);
                    }
                    if *piece < load[peer].len() {
                        writable.push(peer);
                        continue;
                    }
                    left -= 1;
                    if watched[peer] {
                        poller.forget(&streams[peer])?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut watched[peer], true) {
                        poller.add(&streams[peer], peer, For::Writing)?;
                    }
                }
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        ready = writable;
        if ready.is_empty() && left > 0 {
            poller.wait(Duration::from_millis(20), &mut ready)?;
        }
    }
    Ok(())
}
