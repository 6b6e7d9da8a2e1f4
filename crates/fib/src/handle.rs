//! The public face: start, the handle that everybody clones, and the stream of events.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::local::LocalLink;
use crate::route::{ApplyReport, InstalledRoute, RouteChange, Source};
use crate::tracker::{MAX_TRACKED, NextHopKey, NextHopState};
use crate::writer::{Command, Writer};
use crate::{MAIN_TABLE, PROTOCOL};

/// Commands that may wait for the writer; senders wait beyond that.
const COMMANDS: usize = 64;
/// Event batches that may wait for their reader; beyond that they coalesce per next hop and link.
const EVENT_BATCHES: usize = 16;

/// How the writer runs.
#[derive(Clone, Debug)]
pub struct FibOptions {
    /// Kernel routing table.
    pub table: u32,
    /// Protocol number of our routes.
    pub protocol: u8,
    /// Time between audits that nothing else triggers.
    pub audit_interval: Duration,
    /// How long events are collected before an audit or a retry answers them.
    pub debounce: Duration,
    /// The sources that must call [`FibHandle::finish_adoption`] before stale routes are swept.
    pub sources: Vec<Source>,
}

impl Default for FibOptions {
    /// Main table, protocol 82, an audit each minute, 75 ms debounce, all sources.
    fn default() -> Self {
        FibOptions {
            table: MAIN_TABLE,
            protocol: PROTOCOL,
            audit_interval: Duration::from_secs(60),
            debounce: Duration::from_millis(75),
            sources: Source::ALL.to_vec(),
        }
    }
}

/// Why a call to the writer failed as a whole. A refused route is no such error: see [`ApplyReport`].
#[derive(Debug, thiserror::Error)]
pub enum FibError {
    /// A netlink socket could not be opened or read.
    #[error("cannot {action} over netlink")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The writer task ended.
    #[error("the route writer has stopped")]
    Stopped,
    /// Too many next hops are tracked.
    #[error("more than {MAX_TRACKED} next hops are tracked")]
    TooManyNextHops,
}

/// Something that changed in the kernel and matters to BGP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FibEvent {
    /// A tracked next hop resolves differently.
    NextHopChanged {
        /// The tracked key.
        key: NextHopKey,
        /// Its state now; states in between may be left out.
        state: NextHopState,
    },
    /// A link appeared, changed, or went.
    LinkChanged {
        /// Index of the interface.
        ifindex: u32,
        /// Its name; empty if it went.
        name: String,
        /// Whether it is up and has carrier.
        alive: bool,
    },
}

/// Namespace of [`Fib::start`].
#[derive(Debug)]
pub struct Fib;

impl Fib {
    /// Adopts what is ours in the kernel and starts the writer, in the network namespace of the calling thread.
    ///
    /// Everything adopted stays untouched until a source wants it otherwise, or all sources have finished adoption. The
    /// writer ends when the last handle is dropped; routes stay.
    pub async fn start(options: FibOptions) -> Result<(FibHandle, FibEvents), FibError> {
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (event_queue, events) = mpsc::channel(EVENT_BATCHES);
        let writer = Writer::start(options, event_queue).await?;
        tokio::spawn(writer.run(command_queue));
        Ok((FibHandle { commands }, FibEvents { events }))
    }
}

/// Speaks to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FibHandle {
    commands: mpsc::Sender<Command>,
}

impl FibHandle {
    /// Changes routes; resolves when the kernel has answered for every one of them.
    pub async fn apply(&self, changes: Vec<RouteChange>) -> Result<ApplyReport, FibError> {
        self.ask(|reply| Command::Apply {
            changes,
            reply: Some(reply),
        })
        .await
    }

    /// Changes routes without waiting for the kernel; waits for room in the queue. Failures are logged, retried, and
    /// shown by [`FibHandle::dump`].
    pub async fn apply_and_forget(&self, changes: Vec<RouteChange>) -> Result<(), FibError> {
        self.send(Command::Apply {
            changes,
            reply: None,
        })
        .await
    }

    /// Like [`FibHandle::apply_and_forget`], but gives the changes back at once if the queue has no room (or the writer stopped).
    pub fn try_apply_nowait(&self, changes: Vec<RouteChange>) -> Result<(), Vec<RouteChange>> {
        self.commands
            .try_send(Command::Apply {
                changes,
                reply: None,
            })
            .map_err(|error| match error.into_inner() {
                Command::Apply { changes, .. } => changes,
                _ => Vec::new(),
            })
    }

    /// This source has applied all that it wants. When the last one says so, what nobody confirmed is swept; resolves after that.
    pub async fn finish_adoption(&self, source: Source) -> Result<(), FibError> {
        self.ask(|reply| Command::FinishAdoption { source, reply })
            .await
    }

    /// Every route of ours and its state, ordered by prefix.
    pub async fn dump(&self) -> Result<Vec<InstalledRoute>, FibError> {
        self.ask(|reply| Command::Dump { reply }).await
    }

    /// Reads the kernel now and repairs differences.
    pub async fn audit(&self) -> Result<(), FibError> {
        self.ask(|reply| Command::Audit { reply }).await
    }

    /// Where a next hop lies, once.
    pub async fn resolve(&self, key: NextHopKey) -> Result<NextHopState, FibError> {
        self.ask(|reply| Command::Resolve { key, reply }).await
    }

    /// Length of the most specific foreign prefix around an address: that by which it is reached.
    pub async fn covering(&self, addr: IpAddr) -> Result<Option<u8>, FibError> {
        self.ask(|reply| Command::Covering { addr, reply }).await
    }

    /// Where a next hop lies, now; later changes come as [`FibEvent::NextHopChanged`] until as many
    /// [`FibHandle::untrack`] as `track` were called.
    pub async fn track(&self, key: NextHopKey) -> Result<NextHopState, FibError> {
        self.ask(|reply| Command::Track { key, reply })
            .await?
            .ok_or(FibError::TooManyNextHops)
    }

    /// Ends one [`FibHandle::track`].
    pub async fn untrack(&self, key: NextHopKey) -> Result<(), FibError> {
        self.send(Command::Untrack { key }).await
    }

    /// The link that carries `local` and its addresses of both families; `None` if no link does.
    pub async fn local_addresses(&self, local: IpAddr) -> Result<Option<LocalLink>, FibError> {
        self.ask(|reply| Command::LocalAddresses { local, reply })
            .await?
            .map_err(|source| FibError::Netlink {
                action: "read addresses",
                source,
            })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, FibError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| FibError::Stopped)
    }

    async fn send(&self, command: Command) -> Result<(), FibError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| FibError::Stopped)
    }
}

/// Events in batches. A slow reader loses no final state: changes coalesce while it is away.
#[derive(Debug)]
pub struct FibEvents {
    events: mpsc::Receiver<Vec<FibEvent>>,
}

impl FibEvents {
    /// The next batch; `None` when the writer ended.
    pub async fn next(&mut self) -> Option<Vec<FibEvent>> {
        self.events.recv().await
    }
}
