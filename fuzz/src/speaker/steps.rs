//! What the steps of [`super::session`] do, and what must hold after each of them and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp_core::fsm::{ConnId, Initiator, Input, State};
use bgp_core::negotiation::local_open;
use bgp_core::policy::{Builtin, Chain, RouteSource};
use bgp_core::rib::{Event, NextHopState, Relation, RibSummary};
use bgp_wire::{
    AttributeEditor, Family, MessageType, Nlri, Origin, RouteRefresh, encode_end_of_rib,
    encode_keepalive, encode_reach, encode_unreach,
};

use super::session::{
    ADD_PATH, ASNS, MAX_STEPS, TABLE, World, address, key, mirrored, next_hop, prefix, settings,
};
use crate::wire::{Octets, recipe};

/// A message of this type.
fn message(kind: MessageType, body: &[u8]) -> Vec<u8> {
    let len = (19 + body.len()) as u16;
    [&[0xff; 16], &len.to_be_bytes()[..], &[kind.code()], body].concat()
}

impl World {
    pub(super) fn step(&mut self, u: &mut Octets<'_>) {
        let choice = u.below(29);
        let index = usize::from(u.octet()) % self.sides.len();
        match choice {
            0 => self.input(index, Input::ManualStart),
            1 => {
                let message = String::new();
                self.input(index, Input::ManualStop { message });
            }
            2 => self.accept(index),
            3 => self.dialled(index, u.flag()),
            4 => self.on_conn(index, u, |conn, _| Input::TcpClosed {
                conn,
                reason: String::new(),
            }),
            5 => self.tick(Duration::from_millis(u64::from(u.octet()) * 400)),
            6..=8 => self.bring_up(index),
            9 => self.bytes(index, u.octet(), &open_of(index)),
            10 => self.bytes(index, u.octet(), &keepalive()),
            11 | 12 => {
                let body = recipe::body(u, 1);
                self.bytes(index, 0, &message(MessageType::Update, &body));
            }
            13 => {
                let (which, kind, len) = (u.octet(), u.octet(), usize::from(u.octet() % 100));
                let body = u.slice(len);
                let len = 19 + body.len() as u8;
                let bytes = [&[0xff; 16][..], &[0, len, kind % 8], body].concat();
                self.bytes(index, which, &bytes);
            }
            14 => {
                let (which, len) = (u.octet(), usize::from(u.octet()));
                let bytes = u.slice(len);
                self.bytes(index, which, bytes);
            }
            15..=17 => self.announce(index, u),
            18 => self.withdraw(index, u),
            19 => self.refresh(index, u),
            20 => {
                let end = encode_end_of_rib(family(u.octet()));
                self.bytes(index, 0, &end.bytes);
            }
            21 => self.permit(index, u64::from(u.octet()) * 8),
            22 => self.rib(Event::Tick),
            23 => self.resolve(u),
            24 => self.originate(u.octet(), u.flag()),
            25 => self.policies(index, u.octet()),
            26 => self.change_settings(index, u),
            27 => self.on_conn(index, u, |conn, u| match u.below(4) {
                0 => Input::Notification {
                    conn,
                    notification: bgp_wire::Notification::new(u.octet(), u.octet()),
                },
                1 => Input::BytesWaiting { conn },
                2 => Input::WriteProgress { conn },
                _ => Input::UpdateSent { conn },
            }),
            _ => self.captured(index, u),
        }
    }

    fn accept(&mut self, index: usize) {
        let side = &mut self.sides[index];
        let conn = side.peer.next_incoming();
        side.open.insert(key(conn));
        side.conns.push(conn);
        let (local, remote) = (address(9), address(index));
        self.input(
            index,
            Input::TcpAccepted {
                conn,
                local,
                remote,
            },
        );
    }

    /// The connection that we dialled works out, or does not.
    fn dialled(&mut self, index: usize, works: bool) {
        let side = &mut self.sides[index];
        let Some(conn) = side.dialled.take() else {
            return;
        };
        if works {
            side.open.insert(key(conn));
            side.conns.push(conn);
            let (local, remote) = (address(9), address(index));
            self.input(
                index,
                Input::TcpConnected {
                    conn,
                    local,
                    remote,
                },
            );
        } else {
            let reason = String::new();
            self.input(index, Input::TcpFailed { conn, reason });
        }
    }

    fn on_conn(
        &mut self,
        index: usize,
        u: &mut Octets<'_>,
        input: impl FnOnce(ConnId, &mut Octets<'_>) -> Input,
    ) {
        let which = usize::from(u.octet());
        let side = &mut self.sides[index];
        if side.conns.is_empty() {
            return;
        }
        let conn = side.conns[which % side.conns.len()];
        let input = input(conn, u);
        if matches!(input, Input::TcpClosed { .. }) {
            side.open.remove(&key(conn));
            side.conns.retain(|open| *open != conn);
        }
        self.input(index, input);
    }

    /// Time passes for everybody, deadline by deadline.
    pub(super) fn tick(&mut self, span: Duration) {
        let end = self.now + span;
        let mut ticks = 0;
        loop {
            let deadlines = self
                .sides
                .iter()
                .filter_map(|side| side.peer.next_deadline());
            let Some(next) = deadlines.min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for index in 0..self.sides.len() {
                self.input(index, Input::Tick);
            }
            ticks += 1;
            assert!(ticks < 1000, "timers spin");
        }
        self.now = end;
    }

    /// What a well-behaved peer does until its session is up.
    fn bring_up(&mut self, index: usize) {
        self.input(index, Input::ManualStart);
        if self.sides[index].up.is_some() {
            return;
        }
        if self.sides[index].conns.is_empty() {
            self.accept(index);
        }
        self.bytes(index, 0, &open_of(index));
        self.bytes(index, 0, &keepalive());
        self.permit(index, 256);
    }

    /// A session as somebody else recorded it: settings that offer what the next octet says, a connection, then all
    /// messages that follow, each with its marker, and what the session waits for. Next hops resolve as they come, or
    /// not.
    fn captured(&mut self, index: usize, u: &mut Octets<'_>) {
        let offers = u.octet();
        let mut new = settings(index);
        if offers & 1 != 0 {
            new.add_path = Family::ALL.map(|_| ADD_PATH);
        }
        new.extended_next_hop = offers & 2 != 0;
        if offers & 4 != 0 {
            new.local_as = ASNS[index];
        }
        let message = String::new();
        self.input(index, Input::ManualStop { message });
        self.input(index, Input::SettingsChanged(Box::new(new)));
        self.input(index, Input::ManualStart);
        self.accept(index);
        for message in std::iter::from_fn(|| u.message()).take(MAX_STEPS) {
            self.bytes(index, 0, message);
            if message[18] == MessageType::Open.code() {
                self.bytes(index, 0, &keepalive());
                self.permit(index, 1 << 16);
            }
            if offers & 8 == 0 {
                self.resolve(&mut Octets::new(&[0x80, 1]));
            }
            self.check();
        }
    }

    fn announce(&mut self, index: usize, u: &mut Octets<'_>) {
        let Some(up) = &self.sides[index].up else {
            return;
        };
        let (first, shape) = (u.octet(), u.octet());
        let prefixes = [first, first.wrapping_add(shape & 1)].map(prefix);
        let family = Family::of(&prefixes[0]);
        let nlri = prefixes.into_iter().filter(|p| Family::of(p) == family);
        let nlri: Vec<Nlri> = nlri.map(Nlri::new).collect();
        let mut path = vec![ASNS[index]; usize::from(ASNS[index] != super::session::LOCAL_AS)];
        path.extend((0..shape >> 1 & 3).map(|n| 65100 + u32::from(n)));
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor
            .set_as_path_sequence(&path)
            .set_med((shape & 8 != 0).then_some(u32::from(shape)));
        if shape & 16 != 0 {
            editor.set_communities(&[0xffff_ff01 + u32::from(shape & 1)]);
        }
        let mut ctx = up.negotiated.encode_context();
        ctx.add_path = up.negotiated.add_path_receive;
        let hop = next_hop(family, shape >> 6);
        let mut messages = Vec::new();
        encode_reach(family, &editor.build(), &hop, &nlri, &ctx, &mut messages).expect("fits");
        for message in messages {
            self.bytes(index, 0, &message.bytes);
        }
    }

    fn withdraw(&mut self, index: usize, u: &mut Octets<'_>) {
        let Some(up) = &self.sides[index].up else {
            return;
        };
        let nlri = Nlri::new(prefix(u.octet()));
        let mut ctx = up.negotiated.encode_context();
        ctx.add_path = up.negotiated.add_path_receive;
        let mut messages = Vec::new();
        encode_unreach(Family::of(&nlri.prefix), &[nlri], &ctx, &mut messages);
        for message in messages {
            self.bytes(index, 0, &message.bytes);
        }
    }

    fn refresh(&mut self, index: usize, u: &mut Octets<'_>) {
        let mut bytes = Vec::new();
        RouteRefresh::new(family(u.octet()), u.below(4)).encode(&mut bytes);
        self.bytes(index, 0, &bytes);
    }

    fn permit(&mut self, index: usize, count: u64) {
        if let Some(up) = &mut self.sides[index].up {
            up.permits += count as i64;
        }
        self.tell_rib(index, |session| Event::Permit(session, count as u32));
    }

    fn resolve(&mut self, u: &mut Octets<'_>) {
        let (which, shape) = (u.octet(), u.octet());
        let hops = match which & 0x80 {
            0 => Family::ALL.map(|family| next_hop(family, which)).to_vec(),
            _ => self.tracked.iter().copied().collect(),
        };
        let state = match shape % 4 {
            0 => NextHopState::Unresolved,
            cost => NextHopState::Resolved {
                igp_cost: cost.into(),
            },
        };
        let hops = hops.into_iter().map(|hop| (hop, state));
        self.rib(Event::NextHops(hops.collect()));
    }

    fn originate(&mut self, n: u8, on: bool) {
        let prefix = prefix(n);
        if on {
            self.locals.insert(prefix);
        } else {
            self.locals.remove(&prefix);
        }
        let source = on.then(|| RouteSource::Static.into());
        self.rib(Event::Local(TABLE, vec![(prefix, source)]));
    }

    fn policies(&mut self, index: usize, shape: u8) {
        let chain = |bits: u8| {
            Chain::new(match bits % 4 {
                0 => &[Builtin::Default],
                1 => &[Builtin::RejectAll],
                _ => &[Builtin::AcceptAll],
            })
        };
        let relation = Relation {
            reflector_client: shape & 0x10 != 0,
            as_override: shape & 0x20 != 0,
            remove_private_as: shape & 0x40 != 0,
            graceful_shutdown: shape & 0x80 != 0,
            ..Relation::default()
        };
        let (import, export) = (chain(shape), chain(shape >> 2));
        self.tell_rib(index, |session| {
            Event::Policies(session, import, export, relation)
        });
    }

    fn change_settings(&mut self, index: usize, u: &mut Octets<'_>) {
        let shape = u.octet();
        let mut new = settings(index);
        new.hold_time = [90, 3, 0, 9][usize::from(shape & 3)];
        new.passive = shape & 4 != 0;
        new.delay_open = (shape & 8 != 0).then_some(Duration::from_secs(2));
        new.extended_message = shape & 16 != 0;
        if shape & 32 != 0 {
            new.families.reverse();
        }
        if shape & 64 != 0 {
            new.families.truncate(1);
        }
        self.input(index, Input::SettingsChanged(Box::new(new)));
    }

    /// What holds between two steps.
    pub(super) fn check(&self) {
        let mut paths = self.locals.len() as u64;
        for side in &self.sides {
            let up = side.up.as_ref();
            assert_eq!(
                side.peer.session().map(|(conn, _)| conn),
                up.map(|up| up.conn)
            );
            assert_eq!(side.peer.state() == State::Established, up.is_some());
            assert!(side.open.len() <= 2, "one connection in each direction");
            assert_eq!(side.open.len(), side.conns.len());
            let ours = |conn: &&ConnId| conn.initiator() == Initiator::Local;
            assert!(side.conns.iter().filter(ours).count() <= 1);
            let Some(up) = up else { continue };
            assert_eq!(
                side.open.len(),
                1,
                "a session tolerates no second connection"
            );
            paths += up.tells.len() as u64;
            let mut told: BTreeMap<Family, u64> = BTreeMap::new();
            for (family, _) in up.tells.keys() {
                *told.entry(*family).or_default() += 1;
            }
            for (family, counters) in Family::ALL.into_iter().zip(self.rib.counters(up.session)) {
                let wanted = up.negotiated.families.contains(&family);
                assert_eq!(counters.is_some(), wanted);
                let Some(counters) = counters else { continue };
                let expected = told.get(&family).copied().unwrap_or_default();
                assert_eq!(counters.received, expected, "what it announced, no more");
                assert!(counters.accepted <= counters.received);
            }
        }
        let RibSummary {
            prefixes,
            paths: held,
            attribute_sets,
            groups,
        } = self.rib.summary();
        assert_eq!(held, paths);
        assert!(prefixes <= paths);
        assert!(groups <= 2 * self.sides.len());
        // A set as received and as let in per path, and as sent per group and prefix.
        let most = 2 * held as usize + groups * (prefixes as usize + self.announced());
        assert!(
            attribute_sets <= most,
            "{attribute_sets} sets, {held} paths, {groups} groups"
        );
        assert!(self.fib.len() as u64 <= prefixes);
        assert!(self.tracked.len() <= attribute_sets);
    }

    fn announced(&self) -> usize {
        let ups = self.sides.iter().filter_map(|side| side.up.as_ref());
        ups.map(|up| up.told.len()).sum()
    }

    /// Everybody takes all there is, then all sessions end.
    pub(super) fn finish(mut self) {
        for index in 0..self.sides.len() {
            self.permit(index, 1 << 24);
        }
        for side in &self.sides {
            let Some(up) = &side.up else { continue };
            for (family, counters) in Family::ALL.into_iter().zip(self.rib.counters(up.session)) {
                let of_family = |nlri: &&Nlri| Family::of(&nlri.prefix) == family;
                let told = up.told.keys().filter(of_family).count() as u64;
                assert_eq!(counters.map_or(0, |c| c.advertised), told, "{family}");
            }
        }
        for index in 0..self.sides.len() {
            let message = String::new();
            self.input(index, Input::ManualStop { message });
            assert!(self.sides[index].up.is_none());
            assert!(
                self.sides[index].open.is_empty(),
                "a stopped peer has no connection"
            );
        }
        for n in 0..8 {
            self.originate(n, false);
        }
        assert_eq!(self.rib.summary(), RibSummary::default(), "nothing is left");
        assert!(self.fib.is_empty() && self.tracked.is_empty());
    }
}

fn family(n: u8) -> Family {
    Family::ALL[usize::from(n % 2)]
}

fn open_of(index: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    local_open(&mirrored(index)).encode(&mut bytes);
    bytes
}

fn keepalive() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_keepalive(&mut bytes);
    bytes
}
