//! What stands where the daemon stands, and does nothing: reads and drops what peers send, and writes, prepared
//! beforehand, what an ideal daemon would send them. Its time is the share of generator, kernel and sink in every result.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bgp_wire::{HEADER_LEN, encode_keepalive};

use crate::poller::{For, Poller};
use crate::scene::{Scene, running};
use crate::session::{Load, PORT, open, write_all};
use crate::workload::{DAEMON, DAEMON_AS, Workload};

/// Never longer than this, whatever happens to the peers.
const LIMIT: Duration = Duration::from_secs(120);

/// Between two looks at whether to go on.
const PATIENCE: Duration = Duration::from_millis(20);

/// A running one.
pub(crate) struct Null {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Null {
    /// Plays `parts`: each as soon as the first byte has come that is beyond its number, which counts UPDATEs only.
    pub(crate) fn start(
        scene: &Scene,
        workload: &Arc<Workload>,
        parts: Vec<(usize, Load)>,
    ) -> Result<Self> {
        let listener = scene.at_daemon(|| TcpListener::bind((DAEMON, PORT)))??;
        let stop = Arc::new(AtomicBool::new(false));
        let (workload, stopped) = (Arc::clone(workload), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&listener, &workload, &parts, &stopped));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, and says what went wrong inside.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => anyhow::bail!("the null daemon panicked"),
        }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(
    listener: &TcpListener,
    workload: &Workload,
    parts: &[(usize, Load)],
    stop: &AtomicBool,
) -> Result<()> {
    let started = Instant::now();
    let go_on = || {
        ensure!(started.elapsed() < LIMIT, "not finished within {LIMIT:?}");
        running()?;
        Ok(!stop.load(Ordering::Relaxed))
    };
    listener.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(listener, 0, For::Reading)?;
    let mut ready = Vec::new();
    let mut streams: Vec<Option<TcpStream>> = (0..workload.peers).map(|_| None).collect();
    while streams.iter().any(Option::is_none) {
        if !go_on()? {
            return Ok(());
        }
        match listener.accept() {
            Ok((stream, from)) => {
                let IpAddr::V4(from) = from.ip() else {
                    continue;
                };
                let peer = workload.peer_at(from).context("a stranger connected")?;
                streams[peer] = Some(greet(stream)?);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poller.wait(PATIENCE, &mut ready)?;
            }
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
    let mut streams: Vec<TcpStream> = streams.into_iter().flatten().collect();
    let mut writers = Vec::new();
    for stream in &streams {
        writers.push(stream.try_clone()?);
    }
    let updates = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (beyond, load) in parts {
                while updates.load(Ordering::Relaxed) <= *beyond {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                write_all(&mut writers, load, stop)?;
            }
            Ok(())
        });
        let result = drain(&mut streams, workload, &updates, &go_on);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        match writer.join() {
            Ok(written) => result.and(written),
            Err(_) => anyhow::bail!("the writer panicked"),
        }
    })
}

fn greet(mut stream: TcpStream) -> Result<TcpStream> {
    let mut bytes = Vec::new();
    open(DAEMON_AS, DAEMON).encode(&mut bytes);
    encode_keepalive(&mut bytes);
    stream.set_nodelay(true)?;
    stream.write_all(&bytes)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads and drops everything; `updates` counts the bytes after all greetings.
fn drain(
    streams: &mut [TcpStream],
    workload: &Workload,
    updates: &AtomicUsize,
    go_on: &impl Fn() -> Result<bool>,
) -> Result<()> {
    let mut scratch = vec![0; 256 << 10];
    let mut greeting = Vec::new();
    open(workload.peer_as(0), DAEMON).encode(&mut greeting);
    let greeting = greeting.len() + HEADER_LEN;
    let mut poller = Poller::new()?;
    for (peer, stream) in streams.iter().enumerate() {
        poller.add(stream, peer, For::Reading)?;
    }
    let mut received = vec![0usize; streams.len()];
    let (mut all, mut greeted) = (0, 0);
    let mut ready = Vec::new();
    while go_on()? {
        poller.wait(PATIENCE, &mut ready)?;
        for &peer in &ready {
            match streams[peer].read(&mut scratch) {
                Ok(n) if n > 0 => {
                    greeted += usize::from(received[peer] < greeting);
                    received[peer] += n;
                    greeted -= usize::from(received[peer] < greeting);
                    all += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peers are gone: the run is over.
                _ => poller.forget(&streams[peer])?,
            }
        }
        if greeted == streams.len() {
            updates.store(all - greeting * streams.len(), Ordering::Relaxed);
        }
    }
    Ok(())
}
