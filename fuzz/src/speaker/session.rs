//! A speaker with three peers under arbitrary sequences of messages, connections, timers and settings.
//!
//! What comes in passes framing, decoding and the FSM as it does in the daemon; UPDATEs of running sessions go on to the
//! RIB, and what the RIB sends is read the way the peer would. After every step: the FSM and its driver agree on what
//! is up, messages stay within what was negotiated and permitted, and the RIB holds no more than what was announced to
//! it. In the end every peer knows exactly what the RIB counts as announced, and nothing is left when all are gone.
//!
//! An input is a list of steps; each is an octet that chooses, an octet that names the peer, and what the step asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bgp_core::fsm::{AddPath, ConnId, Initiator, Input, Output as Said, Peer, PeerSettings};
use bgp_core::negotiation::Negotiated;
use bgp_core::policy::{Builtin, Chain};
use bgp_core::rib::{
    Event, FamilyUpdate, Output, PeerDown, PeerUp, Relation, Rib, RibConfig, SessionId, TableId,
};
use bgp_wire::{
    DecodeContext, Family, MAX_MESSAGE_LEN, MessageType, NextHop, Nlri, Notification, Open,
    RouteRefresh, Verdict, decode_update, frame,
};
use ipnet::IpNet;

use super::routes::{Routes, receive, translate};
use crate::wire::Octets;

const PEERS: usize = 3;
pub(super) const LOCAL_AS: u32 = 65000;
/// Two external peers and an internal one.
pub(super) const ASNS: [u32; PEERS] = [65001, 65002, LOCAL_AS];
pub(super) const TABLE: TableId = TableId(0);
pub(super) const ADD_PATH: AddPath = AddPath {
    send: true,
    receive: true,
};
/// Bounds the time of one input.
pub(super) const MAX_STEPS: usize = 400;

/// How far an input got.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reached {
    /// Sessions that came up.
    pub sessions: u64,
    /// Routes that peers announced, and that were not refused.
    pub learnt: usize,
    /// Routes that peers were sent and did not have.
    pub passed_on: usize,
}

/// Runs one input.
pub fn run(input: &[u8]) -> Reached {
    let mut world = World::new();
    let mut u = Octets::new(input);
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        world.step(&mut u);
        world.check();
    }
    let reached = world.reached;
    world.finish();
    reached
}

/// An established session.
pub(super) struct Up {
    pub(super) conn: ConnId,
    pub(super) session: SessionId,
    pub(super) negotiated: Box<Negotiated>,
    /// Messages that the RIB may still send.
    pub(super) permits: i64,
    /// What the peer has been told.
    pub(super) told: Routes,
    /// What it told us; the flag: not repeated since the last BoRR.
    pub(super) tells: BTreeMap<(Family, Nlri), bool>,
}

/// A peer, with what its driver knows.
pub(super) struct Side {
    pub(super) peer: Peer,
    /// Connections over which bytes can come.
    pub(super) open: BTreeSet<Key>,
    pub(super) conns: Vec<ConnId>,
    pub(super) dialled: Option<ConnId>,
    pub(super) up: Option<Up>,
    pub(super) said: Vec<Said>,
}

/// Connections in an order, which their ids do not have.
pub(super) type Key = (bool, String);

pub(super) fn key(conn: ConnId) -> Key {
    (conn.initiator() == Initiator::Local, conn.to_string())
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) sides: [Side; PEERS],
    pub(super) rib: Rib,
    pub(super) locals: BTreeSet<IpNet>,
    pub(super) fib: BTreeSet<IpNet>,
    pub(super) tracked: BTreeSet<NextHop>,
    pub(super) reached: Reached,
}

pub(super) fn settings(index: usize) -> PeerSettings {
    let families = Family::ALL.to_vec();
    PeerSettings::new(LOCAL_AS, ASNS[index], Ipv4Addr::new(10, 0, 0, 1), families)
}

/// The other end of the session, which agrees to whatever we offer.
pub(super) fn mirrored(index: usize) -> PeerSettings {
    let id = Ipv4Addr::new(10, 0, 1, index as u8);
    let mut settings = PeerSettings::new(ASNS[index], LOCAL_AS, id, Family::ALL.to_vec());
    settings.add_path = Family::ALL.map(|_| ADD_PATH);
    settings.extended_next_hop = true;
    settings
}

pub(super) fn address(index: usize) -> SocketAddr {
    ([192, 0, 2, 10 + index as u8], 179).into()
}

pub(super) fn prefix(n: u8) -> IpNet {
    let text = match n % 8 {
        n @ 0..=4 => format!("10.{n}.0.0/16"),
        n => format!("2001:db8:{n}::/48"),
    };
    text.parse().expect("a prefix")
}

pub(super) fn next_hop(family: Family, n: u8) -> NextHop {
    match family {
        Family::Ipv4Unicast => NextHop::V4([192, 0, 2, 10 + n % 4].into()),
        Family::Ipv6Unicast => NextHop::V6 {
            global: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 10 + u16::from(n % 4)].into(),
            link_local: None,
        },
    }
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        let side = |index: usize| Side {
            peer: Peer::new(settings(index), now, index as u64),
            open: BTreeSet::new(),
            conns: Vec::new(),
            dialled: None,
            up: None,
            said: Vec::new(),
        };
        let id = Ipv4Addr::new(10, 0, 0, 1);
        World {
            now,
            start: now,
            sides: [side(0), side(1), side(2)],
            rib: Rib::new(RibConfig {
                local_as: LOCAL_AS,
                router_id: id,
                cluster_id: id,
                seed: 1,
                assume_next_hops: false,
            }),
            locals: BTreeSet::new(),
            fib: BTreeSet::new(),
            tracked: BTreeSet::new(),
            reached: Reached::default(),
        }
    }

    /// One input to the FSM, and what follows from it.
    pub(super) fn input(&mut self, index: usize, input: Input) {
        let side = &mut self.sides[index];
        let mut said = std::mem::take(&mut side.said);
        side.peer.handle(self.now, input, &mut said);
        assert!(said.len() < 32, "a handful of outputs per input");
        for output in said.drain(..) {
            self.carry_out(index, output);
        }
        self.sides[index].said = said;
    }

    fn carry_out(&mut self, index: usize, output: Said) {
        let side = &mut self.sides[index];
        match output {
            Said::Connect { conn } => side.dialled = Some(conn),
            Said::Send { conn, message } => {
                assert!(
                    side.open.contains(&key(conn)),
                    "sent on a connection that is not open"
                );
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                let found = frame(&bytes, MAX_MESSAGE_LEN)
                    .expect("valid")
                    .expect("whole");
                assert_eq!(found.len, bytes.len());
            }
            Said::Close { conn } => {
                side.open.remove(&key(conn));
                side.conns.retain(|open| *open != conn);
                side.dialled = side.dialled.filter(|dialled| *dialled != conn);
            }
            Said::Established {
                conn, negotiated, ..
            } => self.established(index, conn, negotiated),
            Said::Down { .. } => {
                let up = side.up.take().expect("down after up");
                self.rib(Event::PeerDown(up.session, PeerDown::Purge));
            }
            Said::RouteRefreshRequested { family } => {
                self.tell_rib(index, |session| Event::RefreshRequest(session, family));
            }
            Said::RefreshBegin { family } => {
                if let Some(up) = &mut side.up {
                    let of_family = up.tells.iter_mut().filter(|((f, _), _)| *f == family);
                    of_family.for_each(|(_, stale)| *stale = true);
                }
                self.tell_rib(index, |session| Event::RefreshBegin(session, family));
            }
            Said::RefreshEnd { family } => {
                if let Some(up) = &mut side.up {
                    up.tells.retain(|(f, _), stale| *f != family || !*stale);
                }
                self.tell_rib(index, |session| Event::RefreshEnd(session, family));
            }
            Said::AttemptFailed { .. } | Said::StateChanged { .. } => {}
        }
    }

    fn established(&mut self, index: usize, conn: ConnId, negotiated: Box<Negotiated>) {
        self.reached.sessions += 1;
        let session = SessionId(self.reached.sessions);
        let up = PeerUp {
            session,
            name: format!("p{index}").into(),
            table: TABLE,
            remote_as: negotiated.peer_as,
            local_as: negotiated.local_as,
            bgp_id: negotiated.peer_id,
            address: address(index).ip(),
            families: Family::ALL.map(|family| negotiated.families.contains(&family)),
            next_hop_self: Family::ALL.map(|family| Some(next_hop(family, 3))),
            encode: negotiated.encode_context(),
            import: Chain::new(&[Builtin::AcceptAll]),
            export: Chain::new(&[Builtin::AcceptAll]),
            relation: Relation::default(),
        };
        let former = self.sides[index].up.replace(Up {
            conn,
            session,
            negotiated,
            permits: 0,
            told: Routes::new(),
            tells: BTreeMap::new(),
        });
        assert!(former.is_none(), "up twice");
        self.rib(Event::PeerUp(Box::new(up)));
    }

    /// Bytes over a connection, as the daemon reads them.
    pub(super) fn bytes(&mut self, index: usize, which: u8, mut bytes: &[u8]) {
        loop {
            let side = &self.sides[index];
            if side.conns.is_empty() {
                return;
            }
            let conn = side.conns[usize::from(which) % side.conns.len()];
            let max_len = side
                .peer
                .negotiated(conn)
                .map_or(MAX_MESSAGE_LEN, |n| n.max_receive);
            let input = match frame(bytes, max_len) {
                Ok(None) => return,
                Err(error) => Input::DecodeError {
                    conn,
                    notification: error.notification,
                },
                Ok(Some(found)) => {
                    bytes = &bytes[found.len..];
                    self.message(index, conn, found.kind, found.body)
                }
            };
            let over = matches!(input, Input::DecodeError { .. });
            self.input(index, input);
            if over {
                return;
            }
        }
    }

    fn message(&mut self, index: usize, conn: ConnId, kind: MessageType, body: &[u8]) -> Input {
        let wrong = |notification| Input::DecodeError { conn, notification };
        match kind {
            MessageType::Open => match Open::decode(body) {
                Ok(open) => Input::Open {
                    conn,
                    open: Box::new(open),
                },
                Err(error) => wrong(error.notification),
            },
            MessageType::Keepalive => Input::Keepalive { conn },
            MessageType::Notification => Input::Notification {
                conn,
                notification: Notification::decode(body),
            },
            MessageType::RouteRefresh => match RouteRefresh::decode(body) {
                Ok(refresh) => Input::RouteRefresh { conn, refresh },
                Err(error) => wrong(error.notification),
            },
            MessageType::Update => {
                let up = self.sides[index].up.as_ref().filter(|up| up.conn == conn);
                let Some(ctx) = up.map(|up| up.negotiated.decode_context()) else {
                    // The FSM says what that is.
                    return Input::Update { conn };
                };
                let update = decode_update(body, &ctx);
                match update.verdict {
                    Verdict::SessionReset(notification) => return wrong(notification),
                    Verdict::FamilyDisable(_) => return wrong(Notification::new(3, 9)),
                    _ => {}
                }
                match update.end_of_rib() {
                    Some(family) => {
                        self.tell_rib(index, |session| Event::EndOfRib(session, family));
                    }
                    None => self.learn(index, translate(&update)),
                }
                Input::Update { conn }
            }
        }
    }

    /// UPDATEs of a running session.
    fn learn(&mut self, index: usize, families: Vec<FamilyUpdate>) {
        let Some(up) = &mut self.sides[index].up else {
            return;
        };
        for update in &families {
            for nlri in &update.withdrawn {
                up.tells.remove(&(update.family, *nlri));
            }
            // RFC 9774: with an AS_SET it is a withdrawal, whoever sends it.
            let attributes = update.attributes.as_ref();
            let refused = attributes.is_some_and(|(a, _)| a.hot().has_as_set);
            for nlri in &update.announced {
                if refused {
                    up.tells.remove(&(update.family, *nlri));
                } else {
                    self.reached.learnt += 1;
                    up.tells.insert((update.family, *nlri), false);
                }
            }
        }
        self.tell_rib(index, |session| Event::Update(session, families));
    }

    /// An event about a session, if there is one.
    pub(super) fn tell_rib(&mut self, index: usize, event: impl FnOnce(SessionId) -> Event) {
        if let Some(up) = &self.sides[index].up {
            let event = event(up.session);
            self.rib(event);
        }
    }

    /// One event to the RIB, and all the work that follows.
    pub(super) fn rib(&mut self, event: Event) {
        let seconds = (self.now - self.start).as_secs() as u32;
        let mut out = Vec::new();
        self.rib.settle(seconds, event, &mut out);
        for output in out {
            match output {
                Output::Send(session, message) => {
                    let mut sides = self.sides.iter_mut().filter_map(|side| side.up.as_mut());
                    let up = sides.find(|up| up.session == session);
                    let up = up.expect("only running sessions are sent to");
                    assert!(up.permits > 0, "no more than permitted");
                    up.permits -= message.bytes.len() as i64;
                    let mut bytes = message.bytes.to_vec();
                    if let Some((at, len)) = message.next_hop_at {
                        let family = if len == 4 {
                            Family::Ipv4Unicast
                        } else {
                            Family::Ipv6Unicast
                        };
                        bytes[at..at + len].copy_from_slice(&next_hop(family, 3).octets().0[..len]);
                    }
                    let agreed = &up.negotiated;
                    let ctx = DecodeContext {
                        four_octet_as: agreed.four_octet_as,
                        ebgp: false,
                        add_path: agreed.add_path_send,
                        families: Family::ALL.map(|family| agreed.families.contains(&family)),
                        extended_next_hop: agreed.extended_next_hop,
                    };
                    let before = up.told.len();
                    receive(&mut up.told, &bytes, agreed.max_send, &ctx);
                    self.reached.passed_on += up.told.len().saturating_sub(before);
                }
                Output::Fib(change) => {
                    if change.next_hops.is_empty() {
                        self.fib.remove(&change.prefix);
                    } else {
                        self.fib.insert(change.prefix);
                    }
                }
                Output::Track(next_hop) => assert!(self.tracked.insert(next_hop), "tracked twice"),
                Output::Untrack(next_hop) => {
                    assert!(
                        self.tracked.remove(&next_hop),
                        "untracked without being tracked"
                    );
                }
            }
        }
    }
}
