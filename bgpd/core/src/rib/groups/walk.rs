//! Walks: a member is sent what is announced, in bounded chunks, from the table instead of from the ring.

use bgp_wire::{Nlri, RouteRefresh, refresh_subtype};
use bytes::Bytes;

use super::path_ids::Naming;
use super::{Announced, Position};
use crate::rib::ids::{AttrId, NlriId};
use crate::rib::{OutMessage, Output, Rib};

/// NLRI ids per chunk; its messages wait in the peer's backlog until the session takes them.
const CHUNK: u32 = if cfg!(test) { 3 } else { 2048 };
/// Chunks per slice of all groups together.
pub(super) const CHUNKS: u32 = 4;

/// What a walk sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WalkMode {
    /// All that is announced; the member has nothing yet.
    Initial,
    /// All that changed after this round, withdraws included.
    Since(u64),
    /// All that is announced, and the withdraws after this round.
    Refresh(u64),
    /// All that is announced, and a withdraw of everything else: the member was in another group.
    Everything,
}

/// What the end of a walk is waited for. Whatever takes a walk's place owes it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::rib) struct Owed {
    /// The first End-of-RIB of the session.
    end_of_rib: bool,
    /// The answer to a ROUTE-REFRESH: in frames (RFC 7313), or with an End-of-RIB behind it.
    refresh: bool,
}

impl Owed {
    /// To be said at the end of all, to a peer that knows frames or does not.
    fn last_words(self, family: bgp_wire::Family, frames: bool) -> Vec<OutMessage> {
        let mut words = Vec::new();
        if self.refresh && frames {
            words.push(refresh_mark(family, refresh_subtype::END));
        }
        if self.end_of_rib || (self.refresh && !frames) {
            words.push(end_of_rib(family));
        }
        words
    }
}

pub(super) struct Walk {
    mode: WalkMode,
    pub(super) owed: Owed,
    next: u32,
    /// Round, and end of the ring, when the walk began.
    began: Option<(u64, u64)>,
}

impl Walk {
    fn new(mode: WalkMode, owed: Owed) -> Self {
        Self {
            mode,
            owed,
            next: 0,
            began: None,
        }
    }

    /// Of a member that has nothing yet.
    pub(super) fn initial() -> Self {
        let owed = Owed {
            end_of_rib: true,
            refresh: false,
        };
        Self::new(WalkMode::Initial, owed)
    }

    /// Of a member that has all up to this round.
    pub(super) fn since(version: u64) -> Self {
        Self::new(WalkMode::Since(version), Owed::default())
    }

    /// Of a member that has all up to this round, and asks for all again (RFC 2918).
    pub(super) fn refresh(version: u64) -> Self {
        let owed = Owed {
            end_of_rib: false,
            refresh: true,
        };
        Self::new(WalkMode::Refresh(version), owed)
    }

    /// Of a member that was in another group, on a walk that owed this.
    pub(super) fn everything(owed: Owed) -> Self {
        Self::new(WalkMode::Everything, owed)
    }

    /// Where the member goes on in the ring after the walk, once that has begun.
    pub(super) fn ring_position(&self) -> Option<u64> {
        self.began.map(|(_, position)| position)
    }

    /// The walk to take instead when the member asks for all again.
    pub(super) fn refreshed(&self) -> Self {
        let mode = match (self.mode, self.began) {
            (WalkMode::Initial, Some((version, _))) | (WalkMode::Since(version), _) => {
                WalkMode::Refresh(version)
            }
            (mode, _) => mode,
        };
        let owed = Owed {
            // Who has nothing yet needs no second answer.
            refresh: mode != WalkMode::Initial,
            ..self.owed
        };
        Self::new(mode, owed)
    }

    fn wants(&self, announced: &Announced) -> Option<bool> {
        let reach = announced.attrs != AttrId::NONE;
        match self.mode {
            WalkMode::Initial => reach.then_some(true),
            WalkMode::Since(version) => (announced.version > version).then_some(reach),
            WalkMode::Refresh(version) => (reach || announced.version > version).then_some(reach),
            WalkMode::Everything => Some(reach),
        }
    }
}

impl Rib {
    /// A chunk for walking members that have sent their last one, in turn, as far as `budget` goes. Whether more can be
    /// done now.
    pub(super) fn walk_slice(
        &mut self,
        index: usize,
        budget: &mut u32,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(Some(group)) = self.groups.slots.get_mut(index) else {
            return false;
        };
        if !group.populated {
            return false;
        }
        let Some(state) = self.tables.iter().find(|s| s.key == group.key.table) else {
            // An empty table is not there yet: its walk is over at once.
            return self.end_of_empty_walks(index, out);
        };
        let mut path_ids = self.groups.path_ids.iter();
        let naming = Naming {
            table: &state.table,
            paths: match group.key.paths {
                None => None,
                Some(_) => path_ids
                    .find(|(key, _)| *key == state.key)
                    .map(|(_, ids)| ids),
            },
        };
        let end = naming.end();
        let mut more = false;
        let members = group.members.len();
        let first = group.turn;
        for m in (0..members).map(|i| (first + i) % members) {
            let member = &mut group.members[m];
            let id = member.peer;
            let Position::Walk(walk) = &mut member.position else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            if !peer.flush_backlog(out) || !peer.can_send() {
                continue;
            }
            if *budget == 0 {
                group.turn = m;
                return true;
            }
            *budget -= 1;
            let began = walk.began.is_none();
            let (began_version, ring_position) =
                *walk.began.get_or_insert((group.version, group.ring.end()));
            let stop = walk.next.saturating_add(CHUNK).min(end);
            let (mut reach, mut unreach) = (Vec::new(), Vec::new());
            for nlri_id in (walk.next..stop).map(NlriId) {
                let announced = group
                    .announced
                    .get(nlri_id.index())
                    .copied()
                    .unwrap_or(Announced::NEVER);
                let Some(nlri) = naming.nlri(nlri_id) else {
                    continue;
                };
                match walk.wants(&announced) {
                    Some(true) if announced.source != id => reach.push((announced.attrs, nlri)),
                    Some(true) if walk.mode == WalkMode::Initial => {}
                    Some(_) => unreach.push(nlri),
                    None => {}
                }
            }
            walk.next = stop;
            let (owed, done) = (walk.owed, stop >= end);
            if done {
                member.position = if group.ring.start() <= ring_position {
                    Position::Ring(ring_position)
                } else {
                    Position::Walk(Walk::since(began_version))
                };
            }
            let family = group.key.table.1;
            let frames = peer.up.relation.enhanced_refresh;
            let mut messages = Vec::new();
            if began && owed.refresh && frames {
                messages.push(refresh_mark(family, refresh_subtype::BEGIN));
            }
            messages.extend(group.encode_unreach(&unreach));
            reach.sort_unstable_by_key(|(attrs, _)| *attrs);
            for run in reach.chunk_by(|a, b| a.0 == b.0) {
                let nlri: Vec<Nlri> = run.iter().map(|(_, nlri)| *nlri).collect();
                messages.extend(group.encode_reach(run[0].0, &nlri, &self.attrs, &self.next_hops));
            }
            if done {
                messages.extend(owed.last_words(family, frames));
            }
            peer.backlog.extend(messages);
            more |= peer.flush_backlog(out) && peer.can_send();
        }
        more
    }

    fn end_of_empty_walks(&mut self, index: usize, out: &mut Vec<Output>) -> bool {
        let Some(Some(group)) = self.groups.slots.get_mut(index) else {
            return false;
        };
        for member in &mut group.members {
            if let (Position::Walk(walk), Some(peer)) =
                (&member.position, self.peers.get_mut(member.peer))
            {
                let family = group.key.table.1;
                let frames = peer.up.relation.enhanced_refresh;
                if walk.owed.refresh && frames {
                    let begin = refresh_mark(family, refresh_subtype::BEGIN);
                    peer.backlog.push_back(begin);
                }
                peer.backlog.extend(walk.owed.last_words(family, frames));
                member.position = Position::Ring(group.ring.end());
                peer.flush_backlog(out);
            }
        }
        false
    }
}

/// BoRR or EoRR (RFC 7313 §4): around all that answers a ROUTE-REFRESH.
fn refresh_mark(family: bgp_wire::Family, subtype: u8) -> OutMessage {
    let mut bytes = Vec::new();
    let refresh = RouteRefresh {
        family_raw: (family.afi(), family.safi()),
        subtype,
    };
    refresh.encode(&mut bytes);
    OutMessage {
        bytes: Bytes::from(bytes),
        next_hop_at: None,
    }
}

fn end_of_rib(family: bgp_wire::Family) -> OutMessage {
    OutMessage {
        bytes: Bytes::from(bgp_wire::encode_end_of_rib(family).bytes),
        next_hop_at: None,
    }
}
