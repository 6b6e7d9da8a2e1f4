//! Update groups: peers that are sent the same routes share one Adj-RIB-Out, one export and one encoding.
//!
//! Owns: per group what is announced (by NLRI id, with the version of its last change), the ring of encoded messages,
//! and where each member is. A member is *in the ring* (it takes encoded messages as they come) or on a *walk* over
//! what is announced: at its start, after a ROUTE-REFRESH, and when it fell so far behind that the ring moved on.
//!
//! An NLRI id is a prefix; in groups with ADD-PATH it is one path of a prefix ([`path_ids`]), and nothing else differs.
//!
//! A peer is never sent a route that it is itself the source of; where the best path moves to a member, that member
//! gets an explicit withdraw of what it had. Property (tests): group output equals per-peer output.

#[cfg(test)]
mod check;
mod export;
mod leaving;
mod offer;
mod path_ids;
mod ring;
mod sent;
mod walk;

use bgp_wire::{EncodeContext, Family};
use ipnet::IpNet;

use super::add_path::{Depth, PathSelection};
use super::ids::{AttrId, NlriId, PeerId, PrefixId};
use super::pages::Pages;
use super::peers::Peers;
use super::relation::{DefaultOriginate, Outbound};
use super::update::slot;
use super::{Output, PeerUp, Rib, TableKey};
use crate::policy::Chain;

pub(super) use export::Whom;
pub(super) use leaving::Arrival;
pub(super) use sent::{Leaving, Outlet};

use path_ids::PathIds;
use ring::Ring;
use walk::{Owed, Walk};

/// Peers with equal keys are sent equal bytes, but for the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupKey {
    table: TableKey,
    ebgp: bool,
    local_as: u32,
    export: Chain,
    encode: EncodeContext,
    outbound: Outbound,
    /// With ADD-PATH: which paths. `None`: the best one, without an identifier.
    paths: Option<PathSelection>,
    /// The kind of next hop that members put in: patched at a recorded offset, so only its size matters here.
    next_hop_len: usize,
}

impl GroupKey {
    /// Whether the peers are sent a default route of ours in place of the best path to this prefix.
    fn own_default(&self, prefix: &IpNet) -> Option<DefaultOriginate> {
        self.outbound.default_originate[slot(self.table.1)].filter(|_| prefix.prefix_len() == 0)
    }
}

/// What a group has announced for one NLRI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// The round in which it last changed; 0: never announced.
    version: u64,
    /// Attributes as sent; [`AttrId::NONE`]: withdrawn.
    attrs: AttrId,
    /// Whose path it is; not sent there.
    source: PeerId,
}

impl Announced {
    const NEVER: Announced = Announced {
        version: 0,
        attrs: AttrId::NONE,
        source: PeerId::LOCAL,
    };
}

enum Position {
    /// Sequence number of the next message in the ring.
    Ring(u64),
    Walk(Walk),
}

struct Member {
    peer: PeerId,
    position: Position,
}

struct Group {
    key: GroupKey,
    announced: Pages<Announced>,
    /// Number of the last round that changed something.
    version: u64,
    ring: Ring,
    members: Vec<Member>,
    /// The first cursor over the table is through.
    populated: bool,
    /// The member whose walk goes on first.
    turn: usize,
    /// NLRI announced, and of those how many from each source, by the index of its id.
    count: u64,
    by_source: Vec<u64>,
}

/// All update groups of a RIB.
#[derive(Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    /// Of tables that some group announces with ADD-PATH.
    path_ids: Vec<(TableKey, PathIds)>,
}

impl Groups {
    /// Puts a peer into its group of a family; the group's index when it is new and wants to be filled.
    /// A peer without a next hop of its own for the family is sent nothing.
    pub(super) fn join(&mut self, up: &PeerUp, peer: PeerId, family: Family) -> Option<usize> {
        self.join_with(up, peer, family, Walk::initial())
    }

    /// As [`Groups::join`], for a peer that was sent other routes before: it is withdrawn what the new group lacks, and gets
    /// what it was [owed](Groups::owed).
    pub(super) fn rejoin(
        &mut self,
        up: &PeerUp,
        peer: PeerId,
        family: Family,
        owed: Owed,
    ) -> Option<usize> {
        self.join_with(up, peer, family, Walk::everything(owed))
    }

    /// What a peer still waits for of the end of the walk that it is on.
    pub(super) fn owed(&self, peer: PeerId, family: Family) -> Owed {
        let groups = self.slots.iter().flatten();
        let members = groups
            .filter(|group| group.key.table.1 == family)
            .flat_map(|group| &group.members);
        members
            .filter(|member| member.peer == peer)
            .find_map(|member| match &member.position {
                Position::Walk(walk) => Some(walk.owed),
                Position::Ring(_) => None,
            })
            .unwrap_or_default()
    }

    fn join_with(
        &mut self,
        up: &PeerUp,
        peer: PeerId,
        family: Family,
        walk: Walk,
    ) -> Option<usize> {
        let next_hop = up.next_hop_self[slot(family)]?;
        let key = GroupKey {
            table: (up.table, family),
            ebgp: up.ebgp(),
            local_as: up.local_as,
            export: up.export.clone(),
            encode: up.encode,
            outbound: up.relation.outbound(up.ebgp(), up.remote_as),
            next_hop_len: next_hop.octets().1,
            paths: up.encode.add_path[slot(family)].then(|| up.relation.add_path[slot(family)]),
        };
        let table = key.table;
        if key.paths.is_some() && self.path_ids.iter().all(|(key, _)| *key != table) {
            self.path_ids.push((table, PathIds::default()));
        }
        let member = Member {
            peer,
            position: Position::Walk(walk),
        };
        if let Some(group) = self.slots.iter_mut().flatten().find(|g| g.key == key) {
            group.members.push(member);
            return None;
        }
        let group = Group {
            key,
            announced: Pages::default(),
            version: 0,
            ring: Ring::default(),
            members: vec![member],
            populated: false,
            turn: 0,
            count: 0,
            by_source: Vec::new(),
        };
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[index] = Some(group);
        Some(index)
    }

    /// Takes a peer out of all its groups; those that are gone with their last member. What they had announced goes to
    /// `released`.
    #[must_use]
    pub(super) fn leave(&mut self, peer: PeerId, released: &mut Vec<AttrId>) -> Vec<usize> {
        let mut gone = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(group) = slot else { continue };
            group.members.retain(|m| m.peer != peer);
            if group.members.is_empty() {
                let held = group.announced.iter().map(|a| a.attrs);
                released.extend(held.filter(|attrs| *attrs != AttrId::NONE));
                *slot = None;
                gone.push(index);
            }
        }
        gone
    }

    /// Forgets the path identifiers of tables that no group announces with ADD-PATH any more. Not while a member is
    /// between two groups, which it takes its identifiers along to.
    pub(super) fn retire_path_ids(&mut self) {
        let groups = &self.slots;
        self.path_ids.retain(|(table, _)| {
            let mut groups = groups.iter().flatten();
            groups.any(|g| g.key.table == *table && g.key.paths.is_some())
        });
    }

    /// How far down the ranking of a table's paths its groups with ADD-PATH look; `None` without such groups.
    pub(super) fn depth(&self, table: TableKey, whom: Whom) -> Option<Depth> {
        if self.path_ids.is_empty() {
            return None;
        }
        (0..)
            .zip(&self.slots)
            .filter_map(|(index, group)| Some((index, group.as_ref()?)))
            .filter(|(index, group)| group.key.table == table && whom.includes(*index, &group.key))
            .filter_map(|(_, group)| group.key.paths)
            .map(Depth::from)
            .reduce(Depth::or)
    }

    /// Whether each path of a table counts, and not only the best of each prefix.
    pub(super) fn take_paths(&self, table: TableKey) -> bool {
        self.path_ids.iter().any(|(key, _)| *key == table)
    }

    /// The first cursor over the table is through: walks may begin.
    pub(super) fn populated(&mut self, index: usize) {
        if let Some(Some(group)) = self.slots.get_mut(index) {
            group.populated = true;
        }
    }

    /// Sends all of a family again (RFC 2918).
    pub(super) fn send_all(&mut self, peer: PeerId, family: Family) {
        for group in self
            .slots
            .iter_mut()
            .flatten()
            .filter(|g| g.key.table.1 == family)
        {
            for member in group.members.iter_mut().filter(|m| m.peer == peer) {
                let walk = match &member.position {
                    Position::Ring(position) => {
                        Walk::refresh(group.ring.version_at(*position, group.version))
                    }
                    Position::Walk(walk) => walk.refreshed(),
                };
                member.position = Position::Walk(walk);
            }
        }
    }

    /// Whether some member of this table may still have to be told of prefixes that have no path any more. One that
    /// has messages in the ring counts: it loses them when the ring moves on or when it asks for a refresh.
    pub(super) fn any_behind(&self, table: TableKey) -> bool {
        self.slots
            .iter()
            .flatten()
            .filter(|g| g.key.table == table)
            .any(Group::any_behind)
    }

    /// Frees path identifiers whose path is gone, up to `max` of them, unless a member may still have to be told. Whether
    /// more are left.
    pub(super) fn free_path_ids(&mut self, table: TableKey, max: usize) -> bool {
        let Some((_, ids)) = self.path_ids.iter_mut().find(|(key, _)| *key == table) else {
            return false;
        };
        let mut groups = self.slots.iter().flatten();
        if groups.any(|g| g.key.table == table && g.key.paths.is_some() && g.any_behind()) {
            return false;
        }
        let (freed, more) = ids.free_vacated(max);
        self.forget_paths(table, &freed);
        more
    }

    /// Path identifiers are about to be used for paths of another prefix.
    fn forget_paths(&mut self, table: TableKey, ids: &[NlriId]) {
        let groups = self.slots.iter_mut().flatten();
        for group in groups.filter(|g| g.key.table == table && g.key.paths.is_some()) {
            ids.iter().for_each(|id| group.forget(*id));
        }
    }

    /// A prefix id is about to be used for another prefix.
    pub(super) fn forget(&mut self, table: TableKey, id: PrefixId) {
        let groups = self.slots.iter_mut().flatten();
        for group in groups.filter(|g| g.key.table == table && g.key.paths.is_none()) {
            group.forget(id.into());
        }
        let ids = self.path_ids.iter_mut().find(|(key, _)| *key == table);
        if let Some((_, ids)) = ids {
            let freed = ids.forget(id);
            self.forget_paths(table, &freed);
        }
    }

    /// NLRI of a family that a peer has been sent, or is about to be: prefixes, with ADD-PATH their paths.
    pub(super) fn advertised(&self, peer: PeerId, family: Family) -> u64 {
        self.slots
            .iter()
            .flatten()
            .filter(|g| g.key.table.1 == family && g.members.iter().any(|m| m.peer == peer))
            .map(|g| g.count - g.by_source.get(peer.index()).copied().unwrap_or(0))
            .sum()
    }

    /// The tables that some group wants a default route of ours in.
    pub(super) fn wanting_default(&self) -> Vec<TableKey> {
        let groups = self.slots.iter().flatten();
        let wanting = groups.filter(|g| {
            let family = slot(g.key.table.1);
            g.key.outbound.default_originate[family].is_some()
        });
        let mut keys: Vec<TableKey> = wanting.map(|g| g.key.table).collect();
        keys.dedup();
        keys
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

impl Group {
    fn has(&self, peer: PeerId) -> bool {
        self.members.iter().any(|m| m.peer == peer)
    }

    fn any_behind(&self) -> bool {
        self.members.iter().any(|m| match m.position {
            Position::Ring(position) => position < self.ring.end(),
            Position::Walk(_) => true,
        })
    }

    fn forget(&mut self, id: NlriId) {
        if let Some(announced) = self.announced.get_mut(id.index()) {
            debug_assert_eq!(
                announced.attrs,
                AttrId::NONE,
                "what has no path is not announced"
            );
            *announced = Announced::NEVER;
        }
    }

    fn get(&self, id: NlriId) -> Announced {
        self.announced
            .get(id.index())
            .copied()
            .unwrap_or(Announced::NEVER)
    }

    /// Records what is announced for an NLRI from now on, in place of `before`.
    fn set(&mut self, id: NlriId, attrs: AttrId, source: PeerId, before: Announced) {
        while self.announced.len() <= id.index() {
            self.announced.push(Announced::NEVER);
        }
        self.announced[id.index()] = Announced {
            version: self.version,
            attrs,
            source,
        };
        if before.attrs != AttrId::NONE {
            self.count -= 1;
            self.by_source[before.source.index()] -= 1;
        }
        if attrs != AttrId::NONE {
            let source = source.index();
            if self.by_source.len() <= source {
                self.by_source.resize(source + 1, 0);
            }
            self.count += 1;
            self.by_source[source] += 1;
        }
    }
}

impl Rib {
    /// Sends what the members can take; whether more can be done now.
    pub(super) fn deliver(&mut self, out: &mut Vec<Output>) -> bool {
        let mut more = false;
        let mut budget = walk::CHUNKS;
        for index in 0..self.groups.slots.len() {
            more |= self.walk_slice(index, &mut budget, out);
            if let Some(Some(group)) = self.groups.slots.get_mut(index) {
                group.deliver_ring(&mut self.peers, out);
            }
        }
        more
    }
}

impl Group {
    fn deliver_ring(&mut self, peers: &mut Peers, out: &mut Vec<Output>) {
        for member in &mut self.members {
            let Some(peer) = peers.get_mut(member.peer) else {
                continue;
            };
            let flushed = peer.flush_backlog(out);
            let Position::Ring(position) = &mut member.position else {
                continue;
            };
            while flushed && peer.can_send() {
                let Some(entry) = self.ring.get(*position) else {
                    break;
                };
                if entry.is_for(member.peer) {
                    peer.send(entry.message.clone(), out);
                }
                *position += 1;
            }
        }
        if let Some(cut) = self.ring.cut() {
            for member in &mut self.members {
                if let Position::Ring(position) = member.position
                    && position < cut
                {
                    let since = self.ring.version_at(position, self.version);
                    member.position = Position::Walk(Walk::since(since));
                }
            }
            self.ring.drop_before(cut);
        }
        let needed = self.members.iter().filter_map(|m| match &m.position {
            Position::Ring(position) => Some(*position),
            Position::Walk(walk) => walk.ring_position(),
        });
        self.ring
            .drop_before(needed.min().unwrap_or(self.ring.end()));
    }
}
