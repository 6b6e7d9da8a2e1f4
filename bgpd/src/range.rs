//! Peers that are known only by where they connect from: one task per listen range, which owns their sessions.
//!
//! A session comes with a connection from an address inside the range, and goes when the connection is gone and the
//! pause after that is over. Until then its address is refused, as that of any peer that has just failed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};

use crate::listener::ACCEPT_QUEUE;
use crate::session::{Command, Context, Session};
use crate::speaker::{COMMAND_QUEUE, PeerConfig};

/// At most one log line about a full range in this time.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// One listen range, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeConfig {
    /// Name of the `BGPPeer`.
    pub name: Arc<str>,
    /// Where peers may connect from.
    pub prefix: IpNet,
    /// Most sessions at a time.
    pub max_sessions: usize,
    /// What each peer is given, but for its name and address.
    pub template: PeerConfig,
}

impl RangeConfig {
    fn peer(&self, address: IpAddr) -> PeerConfig {
        PeerConfig {
            name: format!("{}/{address}", self.name).into(),
            address,
            ..self.template.clone()
        }
    }
}

/// What a range is told.
#[derive(Debug)]
pub(crate) enum RangeCommand {
    /// Changed settings, for the sessions that are there as well.
    Settings(Box<RangeConfig>),
    /// Where to reach the sessions.
    Sessions(oneshot::Sender<Vec<mpsc::Sender<Command>>>),
    /// End all sessions: with these words, or since the range is no longer configured.
    End(Option<String>),
}

struct Dynamic {
    task: Id,
    commands: mpsc::Sender<Command>,
    accepted: mpsc::Sender<TcpStream>,
}

pub(crate) struct Range {
    config: RangeConfig,
    context: Context,
    sessions: HashMap<IpAddr, Dynamic>,
    tasks: JoinSet<()>,
    last_log: Option<Instant>,
}

impl Range {
    pub(crate) fn new(config: RangeConfig, context: Context) -> Self {
        Self {
            config,
            context,
            sessions: HashMap::new(),
            tasks: JoinSet::new(),
            last_log: None,
        }
    }

    /// Runs until told to end, and until its sessions have. Waits for sessions only with commands, which they always
    /// take.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<RangeCommand>,
        mut accepted: mpsc::Receiver<TcpStream>,
    ) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    let task = ended.map_or_else(|error| error.id(), |(task, ())| task);
                    self.sessions.retain(|_, session| session.task != task);
                }
                command = commands.recv() => match command {
                    Some(RangeCommand::Settings(config)) => self.configure(*config).await,
                    // Who asked may have gone.
                    Some(RangeCommand::Sessions(reply)) => {
                        drop(reply.send(self.sessions.values().map(|s| s.commands.clone()).collect()));
                    }
                    Some(RangeCommand::End(words)) => {
                        for session in self.sessions.values() {
                            let end = words.clone().map_or(Command::Remove, Command::Stop);
                            session.commands.send(end).await.ok();
                        }
                        while self.tasks.join_next().await.is_some() {}
                        return;
                    }
                    None => return,
                },
                Some(stream) = accepted.recv() => self.accepted(stream),
            }
        }
    }

    async fn configure(&mut self, config: RangeConfig) {
        self.config = config;
        for (address, session) in &self.sessions {
            let command = match self.config.prefix.contains(address) {
                true => Command::Settings(Box::new(self.config.peer(*address))),
                false => Command::Remove,
            };
            session.commands.send(command).await.ok();
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        let Ok(remote) = stream.peer_addr() else {
            return;
        };
        let address = remote.ip().to_canonical();
        // The range may have changed since the listener looked.
        if !self.config.prefix.contains(&address) {
            return;
        }
        if let Some(session) = self.sessions.get(&address) {
            // A session that has not taken the last ones does not get more.
            drop(session.accepted.try_send(stream));
            return;
        }
        let (range, max_sessions) = (&self.config.name, self.config.max_sessions);
        if self.sessions.len() >= max_sessions {
            if self
                .last_log
                .is_none_or(|at| at.elapsed() >= FULL_LOG_INTERVAL)
            {
                self.last_log = Some(Instant::now());
                tracing::warn!(%range, %address, max_sessions, "closed a connection: the listen range is full");
            }
            return;
        }
        tracing::info!(%range, %address, "dynamic peer added");
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (accepted, accept_queue) = mpsc::channel(ACCEPT_QUEUE);
        // There is room: nobody else has it yet.
        drop(accepted.try_send(stream));
        let session = Session::new(self.config.peer(address), self.context.clone()).ephemeral();
        let task = self
            .tasks
            .spawn(session.run(command_queue, accept_queue))
            .id();
        let session = Dynamic {
            task,
            commands,
            accepted,
        };
        self.sessions.insert(address, session);
    }
}
