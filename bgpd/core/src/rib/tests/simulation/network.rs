//! Time, connections between speakers, and what is done to both.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bgp_wire::{MessageType, Notification, Open, RouteRefresh, refresh_subtype};

use super::plan::{Action, Goodbye, PREFIXES, Policy, Topology, net};
use super::speaker::{Speaker, Up, own_next_hop};
use super::*;
use crate::fsm::{self, ConnId, Input, Message};

/// UPDATEs under way to a session.
const PERMITS: u32 = 6;

/// A TCP connection; index 0 is who dialled.
struct Pipe {
    ends: [usize; 2],
    ids: [Option<ConnId>; 2],
    closed: [bool; 2],
    last: [Instant; 2],
    /// On its way to an end, held back by a cut.
    held: [VecDeque<Item>; 2],
    /// Only the word gets through that it is over.
    reset: bool,
    /// Nothing ever gets through again.
    dead: bool,
}

#[derive(Clone)]
enum Item {
    Syn,
    Connected,
    /// A message; whether it is one of those that the RIB has permits for.
    Data(Vec<u8>, bool),
    Fin,
}

enum Due {
    Arrival {
        pipe: usize,
        to: usize,
        item: Item,
    },
    /// What was held back comes through.
    Flush(usize, usize),
    Work(usize),
    Tick(usize, usize),
    /// The kernel of a speaker, in its so many-th life, has found these next hops.
    Resolved(usize, u64, Vec<NextHop>),
}

pub(super) struct Network<'a> {
    pub(super) topology: &'a Topology,
    pub(super) speakers: Vec<Speaker>,
    now: Instant,
    start: Instant,
    dice: Dice,
    pipes: Vec<Pipe>,
    /// An open connection by the name that one end has for it.
    open: HashMap<(usize, usize, ConnId), (usize, usize)>,
    /// From and to.
    cut: BTreeSet<(usize, usize)>,
    flight: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    sessions: u64,
    digest: u64,
}

impl<'a> Network<'a> {
    pub(super) fn new(topology: &'a Topology, mut dice: Dice) -> Self {
        let now = Instant::now();
        let speakers = (0..topology.speakers())
            .map(|id| {
                let seed = dice.below(u64::MAX);
                Speaker::new(id, topology, &BTreeMap::new(), 0, (seed, now))
            })
            .collect();
        let mut network = Network {
            topology,
            speakers,
            now,
            start: now,
            dice,
            pipes: Vec::new(),
            open: HashMap::new(),
            cut: BTreeSet::new(),
            flight: BTreeMap::new(),
            sequence: 0,
            sessions: 0,
            digest: 0,
        };
        for at in 0..topology.speakers() {
            network.begin(at);
        }
        network
    }

    pub(super) fn origins(&self) -> Vec<BTreeSet<IpNet>> {
        self.speakers.iter().map(|s| s.origins.clone()).collect()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    // What goes wrong, and what is asked for.

    pub(super) fn act(&mut self, action: Action) {
        let topology = self.topology;
        let ends = |link: usize| topology.links[link].ends;
        match action {
            Action::Wait(ms) => self.run_ms(ms),
            Action::Toggle(at, n) => self.toggle(at, net(n)),
            Action::Churn(at) => {
                for _ in 0..40 {
                    let n = self.dice.below(PREFIXES.into()) as u32;
                    self.toggle(at, net(n));
                    let pause = self.dice.below(40);
                    self.run_ms(pause);
                }
            }
            Action::Reset(link) => self.reset(ends(link)),
            Action::Cut(link, directions) => self.cut(ends(link), directions),
            Action::Partition(below) => {
                let parted = topology.links.iter().map(|link| link.ends);
                for ends in parted.filter(|e| e.iter().filter(|end| **end < below).count() == 1) {
                    self.cut(ends, [true; 2]);
                }
            }
            Action::Heal(link) => self.heal(ends(link)),
            Action::HealWithReset(link) => {
                self.heal(ends(link));
                self.reset(ends(link));
            }
            Action::Restart(at, goodbye) => self.restart(at, goodbye),
            Action::Refresh(link, first) => {
                let [at, peer] = in_order(ends(link), first);
                self.refresh(at, peer);
            }
            Action::Lose(link, first) => {
                let [at, peer] = in_order(ends(link), first);
                self.up_mut(at, peer, |up| up.loses_next = true);
            }
            Action::Policies(link, first, import, export) => {
                let [at, peer] = in_order(ends(link), first);
                self.set_policies(at, peer, [import, export]);
            }
            Action::Settings(link, first) => {
                let [at, peer] = in_order(ends(link), first);
                let mut settings = self.speakers[at].peers[&peer].fsm.settings().clone();
                settings.hold_time = if settings.hold_time == 9 { 6 } else { 9 };
                self.input(at, peer, Input::SettingsChanged(Box::new(settings)));
            }
            Action::NextHops(at) => self.lose_next_hops(at),
        }
    }

    pub(super) fn heal_all(&mut self) {
        for link in &self.topology.links {
            self.heal(link.ends);
        }
    }

    /// Both ends of the link's connections learn that these are over; what is under way is lost.
    fn reset(&mut self, ends: [usize; 2]) {
        for pipe in self.pipes_of(ends) {
            self.pipes[pipe].reset = true;
            for to in 0..2 {
                self.pipes[pipe].held[to].clear();
                self.launch(pipe, to, Item::Fin);
            }
        }
    }

    fn cut(&mut self, [a, b]: [usize; 2], [there, back]: [bool; 2]) {
        self.cut.extend(there.then_some((a, b)));
        self.cut.extend(back.then_some((b, a)));
    }

    /// What TCP has kept sending comes through.
    fn heal(&mut self, [a, b]: [usize; 2]) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        for pipe in self.pipes_of([a, b]) {
            for to in 0..2 {
                let delay = Duration::from_millis(self.dice.below(1_000));
                self.schedule(self.now + delay, Due::Flush(pipe, to));
            }
        }
    }

    /// The speaker forgets everything but its configuration, and what it originates.
    fn restart(&mut self, at: usize, goodbye: Goodbye) {
        for pipe in 0..self.pipes.len() {
            let Some(end) = self.pipes[pipe].ends.iter().position(|end| *end == at) else {
                continue;
            };
            self.pipes[pipe].dead |= matches!(goodbye, Goodbye::Nothing);
            let was_open = !std::mem::replace(&mut self.pipes[pipe].closed[end], true);
            if was_open && matches!(goodbye, Goodbye::Closes) {
                self.launch(pipe, 1 - end, Item::Fin);
            }
        }
        self.open.retain(|(end, ..), _| *end != at);
        let before = &self.speakers[at];
        let policies = before.peers.iter();
        let policies = policies.map(|(peer, p)| (*peer, p.policies)).collect();
        let (boot, origins) = (before.boot + 1, before.origins.clone());
        let seed = self.dice.below(u64::MAX);
        self.speakers[at] = Speaker::new(at, self.topology, &policies, boot, (seed, self.now));
        self.begin(at);
        for prefix in origins {
            self.toggle(at, prefix);
        }
    }

    fn begin(&mut self, at: usize) {
        let peers: Vec<usize> = self.speakers[at].peers.keys().copied().collect();
        for peer in peers {
            self.input(at, peer, Input::ManualStart);
        }
    }

    fn refresh(&mut self, at: usize, peer: usize) {
        let Some(conn) = self.speakers[at].up(peer).map(|up| up.conn) else {
            return;
        };
        for family in Family::ALL {
            let mut bytes = Vec::new();
            RouteRefresh::new(family, refresh_subtype::REQUEST).encode(&mut bytes);
            self.send(at, peer, conn, Item::Data(bytes, false));
        }
    }

    /// Originates a prefix, or no longer.
    fn toggle(&mut self, at: usize, prefix: IpNet) {
        let origins = &mut self.speakers[at].origins;
        let source = if origins.remove(&prefix) {
            None
        } else {
            origins.insert(prefix);
            Some(RouteSource::Static.into())
        };
        self.rib(at, Event::Local(T, vec![(prefix, source)]));
    }

    fn set_policies(&mut self, at: usize, peer: usize, policies: [Policy; 2]) {
        let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
            return;
        };
        peering.policies = policies;
        if let Some(up) = &mut peering.up {
            let [import, export] = policies.map(Policy::chain);
            (up.told.import, up.told.export) = (import.clone(), export.clone());
            let (session, relation) = (up.told.session, up.told.relation.clone());
            self.rib(at, Event::Policies(session, import, export, relation));
        }
    }

    fn lose_next_hops(&mut self, at: usize) {
        let speaker = &self.speakers[at];
        let lost: Vec<NextHop> = speaker.tracked.iter().copied().collect();
        let boot = speaker.boot;
        let states = lost.iter().map(|n| (*n, NextHopState::Unresolved));
        self.rib(at, Event::NextHops(states.collect()));
        let delay = Duration::from_millis(self.dice.below(3_000));
        self.schedule(self.now + delay, Due::Resolved(at, boot, lost));
    }

    // Time.

    pub(super) fn run_ms(&mut self, span: u64) {
        let end = self.now + Duration::from_millis(span);
        while let Some(first) = self
            .flight
            .first_entry()
            .filter(|first| first.key().0 <= end)
        {
            let ((at, _), due) = first.remove_entry();
            self.now = self.now.max(at);
            match due {
                Due::Arrival { pipe, to, item } => self.arrive(pipe, to, item),
                Due::Flush(pipe, to) => self.flush(pipe, to),
                Due::Work(at) => self.work(at),
                Due::Tick(at, peer) => self.tick(at, peer),
                Due::Resolved(at, boot, next_hops) => self.resolved(at, boot, &next_hops),
            }
        }
        self.now = end;
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.flight.insert((at, self.sequence), due);
    }

    fn tick(&mut self, at: usize, peer: usize) {
        let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
            return;
        };
        peering.wake.take_if(|wake| *wake <= self.now);
        if peering.fsm.next_deadline().is_some_and(|at| at <= self.now) {
            self.input(at, peer, Input::Tick);
        } else {
            self.set_alarm(at, peer);
        }
    }

    /// The FSM is to be woken when it wants to be.
    fn set_alarm(&mut self, at: usize, peer: usize) {
        let peering = self.speakers[at].peers.get_mut(&peer);
        let Some((peering, deadline)) = peering.and_then(|p| {
            let deadline = p.fsm.next_deadline()?;
            Some((p, deadline))
        }) else {
            return;
        };
        if peering.wake.is_none_or(|wake| deadline < wake) {
            peering.wake = Some(deadline);
            self.schedule(deadline.max(self.now), Due::Tick(at, peer));
        }
    }

    // Connections.

    fn pipes_of(&self, [a, b]: [usize; 2]) -> Vec<usize> {
        let of_link = |pipe: &Pipe| pipe.ends == [a, b] || pipe.ends == [b, a];
        (0..self.pipes.len())
            .filter(|i| of_link(&self.pipes[*i]))
            .collect()
    }

    fn launch(&mut self, pipe: usize, to: usize, item: Item) {
        let mut delay = Duration::from_micros(100 + self.dice.below(40_000));
        if self.dice.one_in(50) {
            // Lost, and sent again; what follows waits for it.
            delay += Duration::from_millis(200 + self.dice.below(2_000));
        }
        let at = (self.now + delay).max(self.pipes[pipe].last[to]);
        self.pipes[pipe].last[to] = at;
        self.schedule(at, Due::Arrival { pipe, to, item });
    }

    fn send(&mut self, at: usize, peer: usize, conn: ConnId, item: Item) {
        if let Some(&(pipe, end)) = self.open.get(&(at, peer, conn)) {
            self.launch(pipe, 1 - end, item);
            self.input(at, peer, Input::WriteProgress { conn });
        }
    }

    fn is_cut(&self, pipe: usize, to: usize) -> bool {
        let ends = self.pipes[pipe].ends;
        self.cut.contains(&(ends[1 - to], ends[to]))
    }

    fn arrive(&mut self, pipe: usize, to: usize, item: Item) {
        if self.is_cut(pipe, to) || !self.pipes[pipe].held[to].is_empty() {
            self.pipes[pipe].held[to].push_back(item);
        } else {
            self.take(pipe, to, item);
        }
    }

    fn flush(&mut self, pipe: usize, to: usize) {
        while !self.is_cut(pipe, to)
            && let Some(item) = self.pipes[pipe].held[to].pop_front()
        {
            self.take(pipe, to, item);
        }
    }

    fn take(&mut self, index: usize, to: usize, item: Item) {
        let pipe = &self.pipes[index];
        let (at, peer) = (pipe.ends[to], pipe.ends[1 - to]);
        if pipe.dead || (pipe.reset && !matches!(item, Item::Fin)) {
            return;
        }
        self.note(at, peer, &item);
        if self.pipes[index].closed[to] {
            // Nobody is there any more.
            if !matches!(item, Item::Fin) {
                self.launch(index, 1 - to, Item::Fin);
            }
            return;
        }
        let end = |speaker: usize| (IpAddr::from(bgp_id(speaker)), 179).into();
        let (local, remote) = (end(at), end(peer));
        match (item, self.pipes[index].ids[to]) {
            (Item::Syn, _) => {
                let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
                    return;
                };
                let conn = peering.fsm.next_incoming();
                self.pipes[index].ids[to] = Some(conn);
                self.open.insert((at, peer, conn), (index, to));
                self.launch(index, 1 - to, Item::Connected);
                let accepted = Input::TcpAccepted {
                    conn,
                    local,
                    remote,
                };
                self.input(at, peer, accepted);
            }
            (Item::Connected, Some(conn)) => {
                let connected = Input::TcpConnected {
                    conn,
                    local,
                    remote,
                };
                self.input(at, peer, connected);
            }
            (Item::Data(bytes, permitted), Some(conn)) => {
                if permitted {
                    self.permit(peer, at, self.pipes[index].ids[1 - to]);
                }
                self.message(at, peer, conn, &bytes);
            }
            (Item::Fin, Some(conn)) => {
                let reason = "end of file".into();
                self.input(at, peer, Input::TcpClosed { conn, reason });
            }
            (_, None) => {}
        }
    }

    fn note(&mut self, at: usize, peer: usize, item: &Item) {
        let (kind, bytes): (u8, &[u8]) = match item {
            Item::Syn => (0, &[]),
            Item::Connected => (1, &[]),
            Item::Data(bytes, _) => (2, bytes),
            Item::Fin => (3, &[]),
        };
        let micros = (self.now - self.start).as_micros() as u64;
        let head = [micros, at as u64, peer as u64, kind.into()];
        for word in head.into_iter().chain(bytes.iter().map(|b| u64::from(*b))) {
            self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn message(&mut self, at: usize, peer: usize, conn: ConnId, bytes: &[u8]) {
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
                let peering = self.speakers[at].peers.get_mut(&peer);
                let up = peering.and_then(|p| p.up.as_mut());
                if let Some(up) = up.filter(|up| up.conn == conn) {
                    if std::mem::take(&mut up.loses_next) {
                        self.refresh(at, peer);
                    } else {
                        let updates = up.hear(bytes);
                        let session = up.told.session;
                        let looping = self.speakers[at].looping(&updates);
                        self.rib(at, Event::Update(session, updates));
                        self.speakers[at].check_unused(&looping, peer);
                    }
                }
                Input::Update { conn }
            }
        };
        self.input(at, peer, input);
    }

    /// A message has come out at the other end: another one may be sent.
    fn permit(&mut self, sender: usize, receiver: usize, conn: Option<ConnId>) {
        let up = self.speakers[sender].up(receiver);
        if let Some(up) = up.filter(|up| Some(up.conn) == conn) {
            let session = up.told.session;
            self.rib(sender, Event::Permit(session, 1));
        }
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
        self.set_alarm(at, peer);
    }

    fn output(&mut self, at: usize, peer: usize, output: fsm::Output) {
        match output {
            fsm::Output::Connect { conn } => {
                self.open.insert((at, peer, conn), (self.pipes.len(), 0));
                self.pipes.push(Pipe {
                    ends: [at, peer],
                    ids: [Some(conn), None],
                    closed: [false; 2],
                    last: [self.now; 2],
                    held: [VecDeque::new(), VecDeque::new()],
                    reset: false,
                    dead: false,
                });
                self.launch(self.pipes.len() - 1, 1, Item::Syn);
            }
            fsm::Output::Send { conn, message } => {
                let mut bytes = Vec::new();
                Message::encode(&message, &mut bytes);
                self.send(at, peer, conn, Item::Data(bytes, false));
            }
            fsm::Output::Close { conn } => {
                if let Some((pipe, end)) = self.open.remove(&(at, peer, conn)) {
                    self.pipes[pipe].closed[end] = true;
                    self.launch(pipe, 1 - end, Item::Fin);
                }
            }
            fsm::Output::Established {
                conn, negotiated, ..
            } => self.established(at, peer, conn, &negotiated),
            fsm::Output::Down { .. } => {
                let peering = self.speakers[at].peers.get_mut(&peer);
                if let Some(up) = peering.and_then(|p| p.up.take()) {
                    self.rib(at, Event::PeerDown(up.told.session, PeerDown::Purge));
                }
            }
            fsm::Output::RouteRefreshRequested { family } => {
                self.tell(at, peer, |session| Event::RefreshRequest(session, family));
            }
            fsm::Output::RefreshBegin { family } => {
                self.up_mut(at, peer, |up| up.refresh_begins(family));
                self.tell(at, peer, |session| Event::RefreshBegin(session, family));
            }
            fsm::Output::RefreshEnd { family } => {
                self.up_mut(at, peer, |up| up.refresh_ends(family));
                self.tell(at, peer, |session| Event::RefreshEnd(session, family));
            }
            fsm::Output::AttemptFailed { .. } | fsm::Output::StateChanged { .. } => {}
        }
    }

    fn established(
        &mut self,
        at: usize,
        peer: usize,
        conn: ConnId,
        negotiated: &crate::negotiation::Negotiated,
    ) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let Some(peering) = self.speakers[at].peers.get_mut(&peer) else {
            return;
        };
        let [import, export] = peering.policies.map(Policy::chain);
        let told = PeerUp {
            name: format!("p{peer}").into(),
            local_as: negotiated.local_as,
            bgp_id: negotiated.peer_id,
            address: bgp_id(peer).into(),
            families: Family::ALL.map(|family| negotiated.families.contains(&family)),
            next_hop_self: [true, false].map(|v4| Some(own_next_hop(at, v4))),
            encode: negotiated.encode_context(),
            import,
            export,
            relation: Relation {
                enhanced_refresh: negotiated.enhanced_route_refresh,
                ..peering.relation.clone()
            },
            ..super::up(self.sessions, negotiated.peer_as)
        };
        peering.up = Some(Up {
            conn,
            decode: negotiated.decode_context(),
            told: told.clone(),
            heard: Routes::new(),
            stale: BTreeSet::new(),
            loses_next: false,
        });
        self.rib(at, Event::PeerUp(Box::new(told)));
        self.rib(at, Event::Permit(session, PERMITS));
    }

    fn up_mut(&mut self, at: usize, peer: usize, change: impl FnOnce(&mut Up)) {
        let peering = self.speakers[at].peers.get_mut(&peer);
        if let Some(up) = peering.and_then(|p| p.up.as_mut()) {
            change(up);
        }
    }

    fn tell(&mut self, at: usize, peer: usize, event: impl FnOnce(SessionId) -> Event) {
        if let Some(session) = self.speakers[at].up(peer).map(|up| up.told.session) {
            self.rib(at, event(session));
        }
    }

    fn resolved(&mut self, at: usize, boot: u64, next_hops: &[NextHop]) {
        if self.speakers[at].boot == boot {
            let states = next_hops
                .iter()
                .map(|n| (*n, NextHopState::Resolved { igp_cost: 0 }));
            self.rib(at, Event::NextHops(states.collect()));
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
        speaker.working = speaker.rib.work(&mut out) || speaker.rib.tidy(&mut out);
        if self.dice.one_in(8) {
            speaker.rib.check();
        }
        if speaker.working {
            let delay = Duration::from_micros(self.dice.below(3_000));
            self.schedule(self.now + delay, Due::Work(at));
        }
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        let mut tracked = Vec::new();
        for output in out {
            let speaker = &mut self.speakers[at];
            match output {
                Output::Send(session, message) => {
                    let Some(peer) = speaker.peer_of(session) else {
                        continue;
                    };
                    let Some(conn) = speaker.up(peer).map(|up| up.conn) else {
                        continue;
                    };
                    let bytes = speaker.on_the_wire(&message);
                    self.send(at, peer, conn, Item::Data(bytes, true));
                    self.input(at, peer, Input::UpdateSent { conn });
                }
                Output::Fib(change) => {
                    match change.next_hops.first() {
                        Some(best) => speaker.fib.insert(change.prefix, best.next_hop),
                        None => speaker.fib.remove(&change.prefix),
                    };
                }
                Output::Track(next_hop) => {
                    assert!(speaker.tracked.insert(next_hop), "tracked twice");
                    tracked.push(next_hop);
                }
                Output::Untrack(next_hop) => {
                    assert!(speaker.tracked.remove(&next_hop), "untracked twice");
                }
            }
        }
        if !tracked.is_empty() {
            let (boot, delay) = (self.speakers[at].boot, self.dice.below(200));
            let at_time = self.now + Duration::from_millis(delay);
            self.schedule(at_time, Due::Resolved(at, boot, tracked));
        }
    }
}

fn in_order([a, b]: [usize; 2], first: bool) -> [usize; 2] {
    if first { [a, b] } else { [b, a] }
}
