//! Speakers and the connections between them.

use std::time::{Duration, Instant};

use bgp_wire::{MessageType, Notification, Open, RouteRefresh, refresh_subtype};

use super::*;
use crate::fsm::{self, ConnId, Input, Message, Peer, PeerSettings};

/// UPDATEs under way to a session.
const PERMITS: u32 = 6;

struct Speaker {
    rib: Rib,
    peers: BTreeMap<usize, Peering>,
    origins: BTreeSet<IpNet>,
    /// A slice of RIB work is in flight.
    working: bool,
}

struct Peering {
    fsm: Peer,
    up: Option<(ConnId, SessionId, DecodeContext)>,
}

/// A TCP connection; index 0 is who dialled.
struct Pipe {
    ends: [usize; 2],
    ids: [Option<ConnId>; 2],
    closed: [bool; 2],
    last: [Instant; 2],
    /// Nothing gets through any more, or only that it is over.
    silent: bool,
    reset: bool,
}

enum Item {
    Syn,
    Connected,
    Data(Vec<u8>),
    Fin,
}

enum Due {
    Arrival { pipe: usize, to: usize, item: Item },
    Work(usize),
}

pub(super) struct Network {
    now: Instant,
    start: Instant,
    dice: Dice,
    speakers: Vec<Speaker>,
    pipes: Vec<Pipe>,
    cut: BTreeSet<(usize, usize)>,
    flight: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    sessions: u64,
}

impl Network {
    pub(super) fn new(speakers: usize, links: &[(usize, usize)], dice: Dice) -> Self {
        let now = Instant::now();
        let mut network = Network {
            now,
            start: now,
            dice,
            speakers: Vec::new(),
            pipes: Vec::new(),
            cut: BTreeSet::new(),
            flight: BTreeMap::new(),
            sequence: 0,
            sessions: 0,
        };
        for at in 0..speakers {
            let neighbors = links
                .iter()
                .flat_map(|&(a, b)| [(a, b), (b, a)])
                .filter(|(a, _)| *a == at)
                .map(|(_, b)| b);
            let peers: Vec<usize> = neighbors.collect();
            let speaker = network.boot(at, &peers);
            network.speakers.push(speaker);
        }
        for at in 0..speakers {
            network.begin(at);
        }
        network
    }

    fn boot(&mut self, at: usize, peers: &[usize]) -> Speaker {
        let peering = |peer: usize, seed: u64| {
            let families = Family::ALL.to_vec();
            let settings = PeerSettings {
                hold_time: 9,
                ..PeerSettings::new(asn(at), asn(peer), bgp_id(at), families)
            };
            Peering {
                fsm: Peer::new(settings, self.now, seed),
                up: None,
            }
        };
        let seed = self.dice.below(u64::MAX);
        Speaker {
            rib: Rib::new(RibConfig {
                local_as: asn(at),
                router_id: bgp_id(at),
                cluster_id: bgp_id(at),
                seed,
                assume_next_hops: true,
            }),
            peers: peers
                .iter()
                .map(|peer| (*peer, peering(*peer, seed ^ *peer as u64)))
                .collect(),
            origins: BTreeSet::new(),
            working: false,
        }
    }

    fn begin(&mut self, at: usize) {
        for peer in self.neighbors(at) {
            self.input(at, peer, Input::ManualStart);
        }
    }

    fn neighbors(&self, at: usize) -> Vec<usize> {
        self.speakers[at].peers.keys().copied().collect()
    }

    // What goes wrong, and what is asked for.

    /// Both ends of the link's connections learn that these are over; what is under way is lost.
    pub(super) fn reset(&mut self, link: (usize, usize)) {
        for pipe in self.pipes_of(link) {
            self.pipes[pipe].reset = true;
            for to in 0..2 {
                self.launch(pipe, to, Item::Fin);
            }
        }
    }

    /// Nothing gets through; nobody is told.
    pub(super) fn cut(&mut self, link: (usize, usize)) {
        self.cut.insert(link);
        for pipe in self.pipes_of(link) {
            self.pipes[pipe].silent = true;
        }
    }

    /// What was cut off meanwhile is answered with a reset.
    pub(super) fn heal(&mut self, link: (usize, usize)) {
        self.cut.remove(&link);
        for pipe in self.pipes_of(link) {
            if std::mem::take(&mut self.pipes[pipe].silent) {
                self.pipes[pipe].reset = true;
                for to in 0..2 {
                    self.launch(pipe, to, Item::Fin);
                }
            }
        }
    }

    /// The speaker forgets everything but its configuration; its peers may or may not be told.
    pub(super) fn restart(&mut self, at: usize) {
        let told = self.dice.below(2) == 0;
        for pipe in 0..self.pipes.len() {
            let Some(end) = self.pipes[pipe].ends.iter().position(|end| *end == at) else {
                continue;
            };
            if !std::mem::replace(&mut self.pipes[pipe].closed[end], true) && told {
                self.launch(pipe, 1 - end, Item::Fin);
            }
        }
        let peers = self.neighbors(at);
        let origins = std::mem::take(&mut self.speakers[at].origins);
        self.speakers[at] = self.boot(at, &peers);
        self.begin(at);
        for prefix in origins {
            self.toggle(at, prefix);
        }
    }

    /// One end asks the other to send all again.
    pub(super) fn refresh(&mut self, (at, peer): (usize, usize)) {
        if let Some((conn, ..)) = self.speakers[at].peers[&peer].up {
            for family in Family::ALL {
                let mut bytes = Vec::new();
                RouteRefresh::new(family, refresh_subtype::REQUEST).encode(&mut bytes);
                self.send(at, peer, conn, bytes);
            }
        }
    }

    /// Originates a prefix, or no longer.
    pub(super) fn toggle(&mut self, at: usize, prefix: IpNet) {
        let origins = &mut self.speakers[at].origins;
        let source = if origins.remove(&prefix) {
            None
        } else {
            origins.insert(prefix);
            Some(RouteSource::Static)
        };
        self.rib(at, Event::Local(T, vec![(prefix, source)]));
    }

    // What came of it.

    pub(super) fn origins(&self) -> Vec<BTreeSet<IpNet>> {
        self.speakers.iter().map(|s| s.origins.clone()).collect()
    }

    pub(super) fn loc_rib(&self, at: usize) -> LocRib {
        let best = self.paths(at, |path| matches!(path.verdict, Verdict::Best(_)));
        best.map(|(prefix, path, from)| (prefix, (path, from)))
            .collect()
    }

    /// The Adj-RIB-In of `at` from a peer.
    pub(super) fn received(&self, at: usize, peer: usize) -> BTreeMap<IpNet, Vec<u32>> {
        let name = format!("p{peer}");
        let of_peer = self.paths(at, move |path| path.peer.as_deref() == Some(name.as_str()));
        of_peer.map(|(prefix, path, _)| (prefix, path)).collect()
    }

    fn paths(
        &self,
        at: usize,
        wanted: impl Fn(&PathView) -> bool + 'static,
    ) -> impl Iterator<Item = (IpNet, Vec<u32>, usize)> {
        let paths = self.speakers[at].rib.paths(T, None).into_iter();
        paths.filter(move |path| wanted(path)).map(move |path| {
            let asns = path.as_path.split_whitespace().map(|a| a.parse().unwrap());
            let from = path.peer.map_or(at, |name| name[1..].parse().unwrap());
            (path.prefix, asns.collect(), from)
        })
    }

    // Time.

    pub(super) fn run_ms(&mut self, span: u64) {
        let end = self.now + Duration::from_millis(span);
        loop {
            let fsms = self.speakers.iter().flat_map(|s| s.peers.values());
            let deadline = fsms.filter_map(|p| p.fsm.next_deadline()).min();
            let due = self.flight.keys().next().map(|(at, _)| *at);
            let Some(next) = due
                .into_iter()
                .chain(deadline)
                .min()
                .filter(|at| *at <= end)
            else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if due == Some(next)
                && let Some((_, due)) = self.flight.pop_first()
            {
                match due {
                    Due::Arrival { pipe, to, item } => self.arrive(pipe, to, item),
                    Due::Work(at) => self.work(at),
                }
                continue;
            }
            for at in 0..self.speakers.len() {
                for peer in self.neighbors(at) {
                    let fsm = &self.speakers[at].peers[&peer].fsm;
                    if fsm.next_deadline().is_some_and(|at| at <= self.now) {
                        self.input(at, peer, Input::Tick);
                    }
                }
            }
        }
    }

    // Connections.

    fn pipes_of(&self, (a, b): (usize, usize)) -> Vec<usize> {
        let of_link = |pipe: &Pipe| pipe.ends == [a, b] || pipe.ends == [b, a];
        (0..self.pipes.len())
            .filter(|i| of_link(&self.pipes[*i]))
            .collect()
    }

    /// An open connection by the name that one end has for it.
    fn pipe(&self, at: usize, peer: usize, conn: ConnId) -> Option<(usize, usize)> {
        (0..self.pipes.len()).rev().find_map(|i| {
            let pipe = &self.pipes[i];
            let end = (0..2).find(|end| pipe.ends[*end] == at && pipe.ends[1 - end] == peer)?;
            (pipe.ids[end] == Some(conn) && !pipe.closed[end]).then_some((i, end))
        })
    }

    fn launch(&mut self, pipe: usize, to: usize, item: Item) {
        let delay = Duration::from_micros(100 + self.dice.below(40_000));
        let at = (self.now + delay).max(self.pipes[pipe].last[to]);
        self.pipes[pipe].last[to] = at;
        self.schedule(at, Due::Arrival { pipe, to, item });
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.flight.insert((at, self.sequence), due);
    }

    fn send(&mut self, at: usize, peer: usize, conn: ConnId, bytes: Vec<u8>) {
        if let Some((pipe, end)) = self.pipe(at, peer, conn) {
            self.launch(pipe, 1 - end, Item::Data(bytes));
            self.input(at, peer, Input::WriteProgress { conn });
        }
    }

    fn arrive(&mut self, index: usize, to: usize, item: Item) {
        let pipe = &self.pipes[index];
        let (at, peer) = (pipe.ends[to], pipe.ends[1 - to]);
        let link = (at.min(peer), at.max(peer));
        let lost = pipe.silent || (pipe.reset && !matches!(item, Item::Fin));
        if lost || self.cut.contains(&link) {
            return;
        }
        if pipe.closed[to] {
            // Nobody is there any more.
            if matches!(item, Item::Data(_)) {
                self.launch(index, 1 - to, Item::Fin);
            }
            return;
        }
        let end = |speaker: usize| (IpAddr::from(bgp_id(speaker)), 179).into();
        let (local, remote) = (end(at), end(peer));
        match (item, pipe.ids[to]) {
            (Item::Syn, _) => {
                let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
                    return;
                };
                let conn = peering.fsm.next_incoming();
                self.pipes[index].ids[to] = Some(conn);
                self.launch(index, 1 - to, Item::Connected);
                self.input(
                    at,
                    peer,
                    Input::TcpAccepted {
                        conn,
                        local,
                        remote,
                    },
                );
            }
            (Item::Connected, Some(conn)) => {
                self.input(
                    at,
                    peer,
                    Input::TcpConnected {
                        conn,
                        local,
                        remote,
                    },
                );
            }
            (Item::Data(bytes), Some(conn)) => self.message(at, peer, conn, &bytes, (index, to)),
            (Item::Fin, Some(conn)) => {
                let reason = "end of file".into();
                self.input(at, peer, Input::TcpClosed { conn, reason });
            }
            (_, None) => {}
        }
    }

    fn message(
        &mut self,
        at: usize,
        peer: usize,
        conn: ConnId,
        bytes: &[u8],
        (pipe, to): (usize, usize),
    ) {
        let message = frame(bytes, bytes.len()).unwrap().unwrap();
        let input = match message.kind {
            MessageType::Open => Input::Open {
                conn,
                open: Box::new(Open::decode(message.body).unwrap()),
            },
            MessageType::Keepalive => Input::Keepalive { conn },
            MessageType::Notification => Input::Notification {
                conn,
                notification: Notification::decode(message.body),
            },
            MessageType::RouteRefresh => Input::RouteRefresh {
                conn,
                refresh: RouteRefresh::decode(message.body).unwrap(),
            },
            MessageType::Update => {
                let up = self.speakers[at].peers[&peer].up;
                if let Some((_, session, context)) = up.filter(|(up, ..)| *up == conn) {
                    self.rib(at, Event::Update(session, families(message.body, &context)));
                }
                // The sender may send another one.
                let sender = self.pipes[pipe].ids[1 - to];
                let up = self.speakers[peer].peers[&at].up;
                if let Some((conn, session, _)) = up
                    && sender == Some(conn)
                {
                    self.rib(peer, Event::Permit(session, 1));
                }
                Input::Update { conn }
            }
        };
        self.input(at, peer, input);
    }

    // Speakers.

    fn input(&mut self, at: usize, peer: usize, input: Input) {
        let mut outputs = Vec::new();
        let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
            return;
        };
        peering.fsm.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.output(at, peer, output);
        }
    }

    fn output(&mut self, at: usize, peer: usize, output: fsm::Output) {
        match output {
            fsm::Output::Connect { conn } => {
                self.pipes.push(Pipe {
                    ends: [at, peer],
                    ids: [Some(conn), None],
                    closed: [false; 2],
                    last: [self.now; 2],
                    silent: false,
                    reset: false,
                });
                self.launch(self.pipes.len() - 1, 1, Item::Syn);
            }
            fsm::Output::Send { conn, message } => {
                let mut bytes = Vec::new();
                Message::encode(&message, &mut bytes);
                self.send(at, peer, conn, bytes);
            }
            fsm::Output::Close { conn } => {
                if let Some((pipe, end)) = self.pipe(at, peer, conn) {
                    self.pipes[pipe].closed[end] = true;
                    self.launch(pipe, 1 - end, Item::Fin);
                }
            }
            fsm::Output::Established {
                conn, negotiated, ..
            } => {
                self.sessions += 1;
                let session = SessionId(self.sessions);
                let up = PeerUp {
                    name: format!("p{peer}").into(),
                    local_as: negotiated.local_as,
                    bgp_id: negotiated.peer_id,
                    address: bgp_id(peer).into(),
                    encode: negotiated.encode_context(),
                    ..super::up(self.sessions, negotiated.peer_as)
                };
                if let Some(peering) = self.speakers[at].peers.get_mut(&peer) {
                    peering.up = Some((conn, session, negotiated.decode_context()));
                }
                self.rib(at, Event::PeerUp(Box::new(up)));
                self.rib(at, Event::Permit(session, PERMITS));
            }
            fsm::Output::Down { .. } => {
                let peering = self.speakers[at].peers.get_mut(&peer);
                if let Some((_, session, _)) = peering.and_then(|p| p.up.take()) {
                    self.rib(at, Event::PeerDown(session, PeerDown::Purge));
                }
            }
            fsm::Output::RouteRefreshRequested { family } => {
                if let Some((_, session, _)) = self.speakers[at].peers[&peer].up {
                    self.rib(at, Event::RefreshRequest(session, family));
                }
            }
            _ => {}
        }
    }

    /// Tells a RIB something; what follows comes a little later, slice by slice.
    fn rib(&mut self, at: usize, event: Event) {
        let seconds = (self.now - self.start).as_secs() as u32;
        let mut out = Vec::new();
        self.speakers[at].rib.handle(seconds, event, &mut out);
        self.carry_out(at, out);
        if !std::mem::replace(&mut self.speakers[at].working, true) {
            let delay = Duration::from_micros(self.dice.below(3_000));
            self.schedule(self.now + delay, Due::Work(at));
        }
    }

    fn work(&mut self, at: usize) {
        let mut out = Vec::new();
        let speaker = &mut self.speakers[at];
        speaker.working = speaker.rib.work(&mut out);
        speaker.rib.check();
        if speaker.working {
            let delay = Duration::from_micros(self.dice.below(3_000));
            self.schedule(self.now + delay, Due::Work(at));
        }
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        for output in out {
            let Output::Send(session, message) = output else {
                continue;
            };
            let peers = &self.speakers[at].peers;
            let up = peers.iter().find_map(|(peer, p)| {
                p.up.filter(|(_, s, _)| *s == session)
                    .map(|(conn, ..)| (*peer, conn))
            });
            let Some((peer, conn)) = up else { continue };
            let mut bytes = message.bytes.to_vec();
            if let Some((offset, len)) = message.next_hop_at {
                let own = [10, 255, 0, 1 + at as u8].repeat(4);
                bytes[offset..offset + len].copy_from_slice(&own[..len]);
            }
            self.send(at, peer, conn, bytes);
            self.input(at, peer, Input::UpdateSent { conn });
        }
    }
}

/// What an UPDATE says about each family.
fn families(body: &[u8], context: &DecodeContext) -> Vec<FamilyUpdate> {
    let update = decode_update(body, context);
    assert_eq!(update.faults.len(), 0, "{:?}", update.faults);
    let mp_withdrawn = update.mp_unreach.iter().flat_map(|n| n.iter());
    let classic = (update.announced, update.next_hop.map(NextHop::V4));
    let mp = update
        .mp_reach
        .iter()
        .map(|mp| (mp.nlri, Some(mp.next_hop)));
    let mut families = vec![];
    for nlri in update.withdrawn.iter().chain(mp_withdrawn) {
        families.push(FamilyUpdate {
            family: Family::of(&nlri.prefix),
            withdrawn: vec![nlri],
            announced: vec![],
            attributes: None,
        });
    }
    for (nlri, next_hop) in mp.chain([classic]) {
        families.extend(next_hop.map(|next_hop| FamilyUpdate {
            family: nlri.family(),
            withdrawn: vec![],
            announced: nlri.iter().collect(),
            attributes: update.attributes.clone().zip(Some(next_hop)),
        }));
    }
    families
}
