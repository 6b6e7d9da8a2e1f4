//! One task per peer: its sockets, its timers, its [`fsm::Peer`], its share of the RIB.
//!
//! The task reads from the socket only while the RIB takes its events, and never waits for anything but its select: so
//! timers fire and keepalives leave on time while the RIB is busy. Bytes that wait unread count as life.

mod agreed;
mod conn;
mod limits;
mod monitored;
mod receive;
mod report;
mod routes;
mod send;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bgp_core::fsm::{ConnId, DownReason, Initiator, Input, Output, Peer, State};
use bgp_core::negotiation::Negotiated;
use bgp_core::rib::{Event, OutMessage, PeerDown, PeerUp, SessionId, TableId};
use bgp_wire::{Family, NextHop, Notification, cease};
use roadbed_api::agent::{BgpPeer, PeerReport};
use roadbed_fib::{FibHandle, LocalLink};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::bmp::{Ending, Monitored};
use crate::rib_thread::{RibHandle, RibMessage};
use crate::speaker::PeerConfig;
use agreed::{own_next_hops, with_negotiated};
use conn::Conn;
use limits::{Counting, Due};
use wait::{dialled, from_rib, local_link, readable, sleep_until, writable};

pub use limits::Limits;

/// Messages for the RIB that may wait here before the task stops reading from its socket.
const TO_RIB: usize = 4;
/// Octets of UPDATEs that the RIB may have under way to this session, and one message more: small messages must be many,
/// or the session waits for the RIB again and again.
const PERMITS: u32 = 128 << 10;
/// Connections that may be saying goodbye at a time; beyond that they are cut off.
const CLOSING: usize = 8;

/// What a session is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Changed settings; the FSM decides whether that needs a reset.
    Settings(Box<PeerConfig>),
    /// What is known of the peer, and its session if one is up.
    Report(oneshot::Sender<(BgpPeer, Option<SessionId>)>),
    /// End with Cease, Administrative Shutdown, and these words (RFC 9003).
    Stop(String),
    /// End with Cease, Peer De-configured (RFC 4486).
    Remove,
}

/// What a session works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) rib: RibHandle,
    pub(crate) fib: FibHandle,
    pub(crate) session_ids: Arc<AtomicU64>,
}

/// The session that is up.
struct Up {
    conn: ConnId,
    session: SessionId,
    negotiated: Box<Negotiated>,
    /// UPDATEs from the RIB.
    queue: mpsc::UnboundedReceiver<OutMessage>,
    /// Our own next hop, per family.
    next_hops: [Option<NextHop>; 2],
    /// Our own addresses on the link, whatever routes are sent with.
    own: [Option<NextHop>; 2],
    /// Octets of UPDATEs written since the last permit.
    to_permit: u32,
    monitored: Arc<Monitored>,
    /// The NOTIFICATION that we sent.
    last_words: Option<Notification>,
}

/// A session on its way up: our own addresses on its link are being looked up.
struct Starting {
    conn: ConnId,
    local: SocketAddr,
    remote: SocketAddr,
    negotiated: Box<Negotiated>,
    link: AbortOnDropHandle<Option<LocalLink>>,
}

pub(crate) struct Session {
    config: PeerConfig,
    context: Context,
    fsm: Peer,
    /// By initiator: local, remote.
    conns: [Option<Conn>; 2],
    /// Has had its place taken by a newer connection, about which the FSM is being asked: empty at any other time.
    displaced: Option<Conn>,
    /// Connections on their last words.
    closing: JoinSet<()>,
    dialling: Option<(ConnId, AbortOnDropHandle<std::io::Result<TcpStream>>)>,
    starting: Option<Starting>,
    up: Option<Up>,
    to_rib: VecDeque<RibMessage>,
    faults: BTreeMap<String, u64>,
    updates_sent: u64,
    /// Why the last attempt failed, as logged.
    last_failure: Option<String>,
    /// No more connections will come from the listener.
    deaf: bool,
    stopping: bool,
    counting: Counting,
    /// Ends with the last of its connections, of which it has had one.
    ephemeral: bool,
    had_connection: bool,
}

enum Wake {
    Command(Option<Command>),
    Accepted(Option<TcpStream>),
    Dialled(std::io::Result<TcpStream>),
    Link(Option<LocalLink>),
    Readable(usize),
    Writable(usize),
    FromRib(Option<OutMessage>),
    RibHasRoom(bool),
    Counting(Due),
    Deadline,
}

impl Session {
    pub(crate) fn new(config: PeerConfig, context: Context) -> Self {
        let seed = context.session_ids.fetch_add(1, Ordering::Relaxed)
            ^ u64::from(std::process::id()) << 32;
        let fsm = Peer::new(config.settings.clone(), Instant::now(), seed);
        Self {
            config,
            context,
            fsm,
            conns: [None, None],
            displaced: None,
            closing: JoinSet::new(),
            dialling: None,
            starting: None,
            up: None,
            to_rib: VecDeque::new(),
            faults: BTreeMap::new(),
            updates_sent: 0,
            last_failure: None,
            deaf: false,
            stopping: false,
            counting: Counting::default(),
            ephemeral: false,
            had_connection: false,
        }
    }

    /// A session that ends by itself once its connection is gone and the pause after that is over.
    pub(crate) fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Runs until told to stop, and through with it.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut accepted: mpsc::Receiver<TcpStream>,
    ) {
        if self.config.shutdown.is_none() {
            self.input(Input::ManualStart);
        }
        while !((self.stopping || self.is_over()) && self.to_rib.is_empty()) {
            let deadline = self.fsm.next_deadline();
            let wake = {
                let may_read = [self.may_read(0), self.may_read(1)];
                let has_output = [self.has_output(0), self.has_output(1)];
                let may_send = self
                    .up
                    .as_ref()
                    .is_some_and(|up| !has_output[slot(up.conn)]);
                let (conns, to_rib) = (&self.conns, self.context.rib.sender());
                let waiting = !self.to_rib.is_empty();
                let may_ask = self.to_rib.len() < TO_RIB;
                tokio::select! {
                    biased;
                    () = sleep_until(deadline) => Wake::Deadline,
                    command = commands.recv(), if !self.stopping => Wake::Command(command),
                    room = to_rib.reserve(), if waiting => Wake::RibHasRoom(match room {
                        Ok(room) => match self.to_rib.pop_front() {
                            Some(message) => { room.send(message); true }
                            None => true,
                        },
                        Err(_) => false,
                    }),
                    stream = accepted.recv(), if !self.stopping && !self.deaf => Wake::Accepted(stream),
                    stream = dialled(&mut self.dialling) => Wake::Dialled(stream),
                    link = local_link(&mut self.starting) => Wake::Link(link),
                    () = writable(&conns[0]), if has_output[0] => Wake::Writable(0),
                    () = writable(&conns[1]), if has_output[1] => Wake::Writable(1),
                    () = readable(&conns[0]), if may_read[0] => Wake::Readable(0),
                    () = readable(&conns[1]), if may_read[1] => Wake::Readable(1),
                    due = self.counting.wake(may_ask) => Wake::Counting(due),
                    message = from_rib(&mut self.up), if may_send => Wake::FromRib(message),
                }
            };
            self.wake(wake);
            self.resume();
        }
        while self.closing.join_next().await.is_some() {}
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Command(Some(command)) => self.command(command),
            Wake::Command(None) => self.stop(""),
            Wake::Accepted(Some(stream)) => self.accepted(stream),
            Wake::Accepted(None) => self.deaf = true,
            Wake::Dialled(result) => self.dialled(result),
            Wake::Link(link) => self.start_session(link),
            Wake::Readable(i) => {
                self.read(i);
                // A peer that never stops talking must not keep us from talking.
                self.send_updates(None);
            }
            Wake::Writable(i) => self.write(i),
            Wake::FromRib(Some(message)) => {
                self.send_updates(Some(&message));
                self.counting.touch();
            }
            Wake::Counting(due) => self.counting(due),
            Wake::FromRib(None) => {}
            Wake::RibHasRoom(true) => {}
            // The RIB thread ends after the sessions; without it there is nothing to say.
            Wake::RibHasRoom(false) => self.to_rib.clear(),
            Wake::Deadline => {
                for i in 0..2 {
                    if let Some(conn) = &self.conns[i]
                        && conn.has_unread()
                    {
                        let conn = conn.id;
                        self.input(Input::BytesWaiting { conn });
                    }
                }
                self.input(Input::Tick);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Settings(config) => {
                let of = |c: &PeerConfig| (c.import.clone(), c.export.clone(), c.relation.clone());
                let policies_changed = of(&config) != of(&self.config);
                let transport_changed = config.transport != self.config.transport;
                let limits_changed = config.limits != self.config.limits;
                let was_wanted = self.config.shutdown.is_none();
                self.config = *config;
                if transport_changed {
                    self.change_transport();
                }
                if limits_changed {
                    self.change_limits();
                }
                if policies_changed && let Some(up) = &self.up {
                    let (import, export, relation) = of(&self.config);
                    let relation = with_negotiated(relation, &up.negotiated);
                    let event = Event::Policies(up.session, import, export, relation);
                    self.to_rib.push_back(RibMessage::Event(event));
                }
                if let (Some(message), true) = (self.config.shutdown.clone(), was_wanted) {
                    self.input(Input::ManualStop { message });
                }
                self.input(Input::SettingsChanged(Box::new(
                    self.config.settings.clone(),
                )));
                if self.config.shutdown.is_none() && !was_wanted {
                    self.input(Input::ManualStart);
                }
            }
            // Who asked may have gone.
            Command::Report(reply) => {
                drop(reply.send((self.peer(), self.up.as_ref().map(|up| up.session))))
            }
            Command::Stop(message) => self.stop(&message),
            Command::Remove => {
                self.input(Input::AutomaticStop {
                    notification: Notification::cease(cease::PEER_DECONFIGURED),
                    restart_after: None,
                });
                self.stop("");
            }
        }
    }

    /// Peers whose operators change a key within a Hold Time of each other keep their session.
    fn change_transport(&self) {
        for conn in self.conns.iter().flatten() {
            if let Err(error) = conn.apply(&self.config.transport) {
                tracing::error!(peer = %self.config.name, %error, "connection keeps its old TTL and key");
            }
        }
    }

    /// An ephemeral session whose connection is gone, and the pause that its end asked for; one that is not wanted has
    /// no other end.
    fn is_over(&self) -> bool {
        self.ephemeral
            && self.had_connection
            && self.conns.iter().all(Option::is_none)
            && (self.fsm.state() == State::Active || self.config.shutdown.is_some())
    }

    fn stop(&mut self, message: &str) {
        self.input(Input::ManualStop {
            message: message.to_owned(),
        });
        self.stopping = true;
    }

    /// Feeds the FSM and does what it says.
    fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.fsm.handle(Instant::now(), input, &mut outputs);
        for output in outputs {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        let name = &self.config.name;
        match output {
            Output::Connect { conn } => {
                let remote = SocketAddr::new(self.config.address, self.config.port);
                let (source, transport) = (self.config.source_address, &self.config.transport);
                let task = tokio::spawn(conn::connect(remote, source, transport.clone()));
                self.dialling = Some((conn, AbortOnDropHandle::new(task)));
            }
            Output::Send { conn, message } => {
                self.note(conn, &message);
                if let Some(found) = self.conn_mut(conn) {
                    message.encode(found.urgent());
                    self.write_to(conn);
                }
            }
            Output::Close { conn } => {
                if self.dialling.as_ref().is_some_and(|(id, _)| *id == conn) {
                    self.dialling = None;
                }
                let place = &mut self.conns[slot(conn)];
                let found = place.take_if(|c| c.id == conn);
                if let Some(found) = found.or_else(|| self.displaced.take_if(|c| c.id == conn)) {
                    while self.closing.try_join_next().is_some() {}
                    if self.closing.len() < CLOSING
                        && let Some(goodbye) = found.close()
                    {
                        self.closing.spawn(goodbye);
                    }
                }
            }
            Output::Established {
                conn,
                local,
                remote,
                negotiated,
            } => {
                tracing::info!(peer = %name, peer_as = negotiated.peer_as, %remote, hold_time_s = negotiated.hold_time.as_secs(), "session established");
                if let Some(found) = self.conn_mut(conn) {
                    found.max_receive = negotiated.max_receive;
                }
                let fib = self.context.fib.clone();
                let link =
                    tokio::spawn(
                        async move { fib.local_addresses(local.ip()).await.ok().flatten() },
                    );
                self.starting = Some(Starting {
                    conn,
                    local,
                    remote,
                    negotiated,
                    link: AbortOnDropHandle::new(link),
                });
            }
            Output::Down { reason, retain: _ } => {
                tracing::warn!(peer = %name, %reason, "session down");
                self.starting = None;
                self.counting.forget();
                if let Some(up) = self.up.take() {
                    let ending = Ending::new(&reason, up.last_words);
                    self.to_rib.push_back(RibMessage::Ended(up.session, ending));
                    self.to_rib.push_back(RibMessage::Event(Event::PeerDown(
                        up.session,
                        PeerDown::Purge,
                    )));
                }
            }
            Output::AttemptFailed { conn, reason } => self.attempt_failed(conn, &reason),
            Output::RouteRefreshRequested { family } => {
                self.tell_rib(|session| Event::RefreshRequest(session, family))
            }
            Output::RefreshBegin { family } => {
                self.tell_rib(|session| Event::RefreshBegin(session, family))
            }
            Output::RefreshEnd { family } => {
                self.tell_rib(|session| Event::RefreshEnd(session, family))
            }
            Output::StateChanged { from, to } => {
                tracing::debug!(peer = %name, %from, fsm_state = %to, "state changed");
            }
        }
    }

    /// An attempt that fails as the one before did is no news; what a connection refused says, least of all.
    fn attempt_failed(&mut self, conn: ConnId, reason: &DownReason) {
        let name = &self.config.name;
        let said = reason.to_string();
        let quiet = matches!(
            reason,
            DownReason::TcpFailed(_) | DownReason::ConnectTimeout
        );
        if quiet || self.last_failure.as_ref() == Some(&said) {
            tracing::debug!(peer = %name, %conn, %reason, "session did not come up");
        } else {
            tracing::warn!(peer = %name, %conn, %reason, "session did not come up");
            self.last_failure = Some(said);
        }
    }

    fn tell_rib(&mut self, event: impl FnOnce(SessionId) -> Event) {
        if let Some(up) = &self.up {
            self.to_rib.push_back(RibMessage::Event(event(up.session)));
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        let id = self.fsm.next_incoming();
        match Conn::new(id, stream, &self.config.transport) {
            Ok(conn) => self.adopt(conn, Initiator::Remote),
            Err(error) => {
                tracing::warn!(peer = %self.config.name, %error, "connection of the peer cannot be used");
            }
        }
    }

    fn dialled(&mut self, result: std::io::Result<TcpStream>) {
        let Some((id, _)) = self.dialling.take() else {
            return;
        };
        match result.and_then(|stream| Conn::new(id, stream, &self.config.transport)) {
            Ok(conn) => self.adopt(conn, Initiator::Local),
            Err(error) => self.input(Input::TcpFailed {
                conn: id,
                reason: error.to_string(),
            }),
        }
    }

    /// Gives a connection its place and asks the FSM, which closes one of two that want the same: the newer, when the
    /// earlier is an Established session (RFC 4271 §6.8), else the earlier.
    fn adopt(&mut self, conn: Conn, initiator: Initiator) {
        let (id, local, remote) = (conn.id, conn.local, conn.remote);
        self.had_connection = true;
        let place = slot(id);
        self.displaced = self.conns[place].take();
        self.conns[place] = Some(conn);
        self.input(match initiator {
            Initiator::Local => Input::TcpConnected {
                conn: id,
                local,
                remote,
            },
            Initiator::Remote => Input::TcpAccepted {
                conn: id,
                local,
                remote,
            },
        });
        if let Some(earlier) = self.displaced.take()
            && self.conns[place].is_none()
        {
            self.conns[place] = Some(earlier);
        }
    }

    /// Our own addresses on the link are known: the RIB learns of the session, and reading goes on.
    fn start_session(&mut self, link: Option<LocalLink>) {
        let Some(starting) = self.starting.take() else {
            return;
        };
        let Starting {
            conn,
            local,
            remote,
            negotiated,
            ..
        } = starting;
        let session = SessionId(self.context.session_ids.fetch_add(1, Ordering::Relaxed));
        let ends = (local.ip(), remote.ip());
        let next_hops = own_next_hops(ends, link.as_ref(), negotiated.extended_next_hop);
        for family in &negotiated.families {
            if next_hops[*family as usize].is_none() {
                tracing::warn!(
                    peer = %self.config.name, afi_safi = %family, local = %local.ip(),
                    "no address of this family on the session's link: routes of it are received, not announced"
                );
            }
        }
        let (sender, queue) = mpsc::unbounded_channel();
        let up = PeerUp {
            session,
            name: self.config.name.clone(),
            table: TableId::default(),
            remote_as: negotiated.peer_as,
            local_as: negotiated.local_as,
            bgp_id: negotiated.peer_id,
            address: remote.ip(),
            families: Family::ALL.map(|f| negotiated.families.contains(&f)),
            next_hop_self: next_hops,
            encode: negotiated.encode_context(),
            import: self.config.import.clone(),
            export: self.config.export.clone(),
            relation: with_negotiated(self.config.relation.clone(), &negotiated),
        };
        let monitored = Arc::new(self.monitored(&up, (local, remote), conn, &negotiated));
        let up = RibMessage::Up(Box::new(up), sender, monitored.clone());
        self.to_rib.push_back(up);
        self.to_rib
            .push_back(RibMessage::Event(Event::Permit(session, PERMITS)));
        self.counting.start(&self.config.limits);
        self.up = Some(Up {
            conn,
            session,
            negotiated,
            queue,
            next_hops,
            own: own_next_hops(ends, link.as_ref(), false),
            to_permit: 0,
            monitored,
            last_words: None,
        });
    }

    fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let [local, remote] = &mut self.conns;
        [local, remote, &mut self.displaced]
            .into_iter()
            .flatten()
            .find(|conn| conn.id == id)
    }

    fn report(&self) -> PeerReport {
        let negotiated = self.fsm.session().map(|(_, negotiated)| negotiated);
        PeerReport {
            name: self.config.name.to_string(),
            address: self.config.address.to_string(),
            as_number: negotiated
                .map(|n| n.peer_as)
                .or(self.config.settings.remote.asn())
                .unwrap_or(0),
            local_as_number: negotiated.map_or(self.config.settings.local_as, |n| n.local_as),
            state: self.fsm.state().name().to_owned(),
            state_seconds: self.fsm.since().elapsed().as_secs(),
            peer_router_id: negotiated.map(|n| n.peer_id),
            hold_time_seconds: negotiated.and_then(|n| u16::try_from(n.hold_time.as_secs()).ok()),
            families: BTreeMap::new(),
            established_count: self.fsm.counters().established,
            last_error: self.fsm.last_error().map(|e| e.reason.to_string()),
            update_faults: self.faults.clone(),
            warnings: self.warnings(),
        }
    }
}

fn slot(id: ConnId) -> usize {
    match id.initiator() {
        Initiator::Local => 0,
        Initiator::Remote => 1,
    }
}
