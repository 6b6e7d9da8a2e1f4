//! From the best path to what a group announces: export policy, attribute transform, one encoding for all members.

use bgp_wire::{EncodedUpdate, Family, NextHop, Nlri, PathAttributes};
use bytes::Bytes;
use hashbrown::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::ring::Audience;
use super::{Group, Position};
use crate::policy::RouteSource;
use crate::rib::attrs::AttrTable;
use crate::rib::ids::{AttrId, NextHopId, PeerId, PrefixId};
use crate::rib::nexthops::NextHopTable;
use crate::rib::peers::Peers;
use crate::rib::table::Path;
use crate::rib::update::DEFAULT_LOCAL_PREF;
use crate::rib::{OutMessage, Output, Rib, TableIndex};

/// What the export of a path depends on beside its group.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ExportInput {
    attrs: AttrId,
    source: RouteSource,
    /// Learned over iBGP.
    from_ibgp: bool,
}

/// Changes of one round, to be encoded.
#[derive(Default)]
struct Round {
    reach: Vec<(AttrId, PeerId, PrefixId)>,
    /// Withdrawn from all but the former source.
    unreach: Vec<(PeerId, PrefixId)>,
    /// Withdrawn from this member alone, which became the source.
    taken: Vec<(PeerId, PrefixId)>,
    /// No longer announced: references to give back.
    released: Vec<AttrId>,
}

impl Rib {
    /// Brings the groups of a table (or one of them) up to date with the best paths of these prefixes.
    pub(in crate::rib) fn announce_changes(
        &mut self,
        table: TableIndex,
        ids: &[PrefixId],
        only: Option<usize>,
        out: &mut Vec<Output>,
    ) {
        let state = &self.tables[table];
        let mut released = Vec::new();
        for (index, slot) in self.groups.slots.iter_mut().enumerate() {
            let Some(group) = slot else { continue };
            if group.key.table != state.key || only.is_some_and(|only| only != index) {
                continue;
            }
            let mut memo: HashMap<ExportInput, AttrId> = HashMap::new();
            let mut round = Round::default();
            group.version += 1;
            for &id in ids {
                let best = state.table.get(id).and_then(|entry| entry.best_path());
                let (attrs, source) = match best {
                    Some(path) => {
                        let input = ExportInput {
                            attrs: path.attrs,
                            source: path.flags.source(),
                            from_ibgp: is_ibgp(path, &self.peers),
                        };
                        let attrs = *memo.entry(input).or_insert_with(|| {
                            group.export(input, &mut self.attrs, &mut self.next_hops)
                        });
                        (attrs, path.peer)
                    }
                    None => (AttrId::NONE, PeerId::LOCAL),
                };
                group.change(id, attrs, source, &mut self.attrs, &mut round);
            }
            released.append(&mut round.released);
            released.extend(memo.into_values().filter(|attrs| *attrs != AttrId::NONE));
            let in_ring = group.members.iter().any(|m| match &m.position {
                Position::Ring(_) => true,
                Position::Walk(walk) => walk.ring_position().is_some(),
            });
            if in_ring {
                let prefix = |id: PrefixId| {
                    state.table.get(id).map(|e| Nlri {
                        path_id: 0,
                        prefix: e.prefix,
                    })
                };
                group.encode(round, prefix, &self.attrs, &self.next_hops);
            }
        }
        for attrs in released {
            self.release(attrs, out);
        }
    }
}

fn is_ibgp(path: &Path, peers: &Peers) -> bool {
    peers.get(path.peer).is_some_and(|p| !p.up.ebgp())
}

impl Group {
    /// The attributes with which a path is announced to this group, one reference added; [`AttrId::NONE`]: not at all.
    fn export(
        &self,
        input: ExportInput,
        attrs: &mut AttrTable,
        next_hops: &mut NextHopTable,
    ) -> AttrId {
        let set = attrs.get(input.attrs);
        let hot = set.attributes.hot();
        let learned = input.source == RouteSource::Learned;
        if self.key.export.export(input.source).is_err()
            || hot.no_advertise
            || (self.key.ebgp && (hot.no_export || hot.no_export_subconfed))
            // What one iBGP peer said is not told to another (RFC 4271 §9.2).
            || (!self.key.ebgp && input.from_ibgp)
        {
            return AttrId::NONE;
        }
        let next_hop = if self.key.ebgp || !learned {
            NextHopId::SELF
        } else {
            set.next_hop
        };
        let attributes = self.transform(&set.attributes, learned);
        let (id, new) = attrs.intern(&attributes, next_hop);
        if new && next_hop != NextHopId::SELF {
            next_hops.retain(next_hop);
        }
        id
    }

    /// RFC 4271 §5: what changes in the attributes on the way to an external or internal peer.
    fn transform(&self, attributes: &PathAttributes, learned: bool) -> PathAttributes {
        let mut editor = attributes.edit();
        editor.drop_unknown_nontransitive();
        editor.mark_unknown_partial();
        if self.key.ebgp {
            editor.prepend_as(self.key.local_as, 1);
            editor.set_local_pref(None);
            if learned {
                // A MED is for the neighbouring AS alone (§5.1.4).
                editor.set_med(None);
            }
            editor.set_originator_id(None);
            editor.remove(bgp_wire::attr_type::CLUSTER_LIST);
        } else if attributes.hot().local_pref.is_none() {
            editor.set_local_pref(Some(DEFAULT_LOCAL_PREF));
        }
        editor.build()
    }

    /// Records a change and notes what has to be said of it.
    fn change(
        &mut self,
        id: PrefixId,
        attrs: AttrId,
        source: PeerId,
        table: &mut AttrTable,
        round: &mut Round,
    ) {
        let before = self.get(id);
        if (before.attrs, attrs) == (AttrId::NONE, AttrId::NONE)
            || (before.attrs == attrs && before.source == source)
        {
            return;
        }
        if attrs != AttrId::NONE {
            table.retain(attrs);
        }
        self.set(id, attrs, source);
        if attrs == AttrId::NONE {
            round.unreach.push((before.source, id));
        } else {
            round.reach.push((attrs, source, id));
            if before.attrs != AttrId::NONE && before.source != source && self.has(source) {
                round.taken.push((source, id));
            }
        }
        if before.attrs != AttrId::NONE {
            round.released.push(before.attrs);
        }
    }

    fn encode(
        &mut self,
        mut round: Round,
        nlri: impl Fn(PrefixId) -> Option<Nlri>,
        attrs: &AttrTable,
        next_hops: &NextHopTable,
    ) {
        let collect =
            |ids: &[PrefixId]| -> Vec<Nlri> { ids.iter().filter_map(|id| nlri(*id)).collect() };
        // Withdraws first: they make room where the receiver counts prefixes.
        for (mut withdrawn, only) in [(round.unreach, false), (round.taken, true)] {
            withdrawn.sort_unstable();
            for run in withdrawn.chunk_by(|a, b| a.0 == b.0) {
                let ids: Vec<PrefixId> = run.iter().map(|(_, id)| *id).collect();
                let audience = if only {
                    Audience::Only(run[0].0)
                } else {
                    Audience::AllBut(run[0].0)
                };
                for message in self.encode_unreach(&collect(&ids)) {
                    self.ring.push(message, audience, self.version);
                }
            }
        }
        round.reach.sort_unstable();
        for run in round.reach.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let ids: Vec<PrefixId> = run.iter().map(|(_, _, id)| *id).collect();
            for message in self.encode_reach(run[0].0, &collect(&ids), attrs, next_hops) {
                self.ring
                    .push(message, Audience::AllBut(run[0].1), self.version);
            }
        }
    }

    pub(super) fn encode_unreach(&self, nlri: &[Nlri]) -> Vec<OutMessage> {
        let mut encoded = Vec::new();
        bgp_wire::encode_unreach(self.key.table.1, nlri, &self.key.encode, &mut encoded);
        encoded.into_iter().map(|e| out_message(e, false)).collect()
    }

    /// UPDATEs that announce `nlri`; withdraws of them when the attributes do not fit into a message, so that nobody
    /// keeps what is no longer true.
    pub(super) fn encode_reach(
        &self,
        attrs: AttrId,
        nlri: &[Nlri],
        table: &AttrTable,
        next_hops: &NextHopTable,
    ) -> Vec<OutMessage> {
        let set = table.get(attrs);
        let learned = (set.next_hop != NextHopId::SELF)
            .then(|| next_hops.next_hop(set.next_hop))
            .and_then(beyond_its_link);
        let own = learned.is_none();
        let next_hop = learned.unwrap_or_else(|| self.placeholder());
        let mut encoded = Vec::new();
        let family = self.key.table.1;
        match bgp_wire::encode_reach(
            family,
            &set.attributes,
            &next_hop,
            nlri,
            &self.key.encode,
            &mut encoded,
        ) {
            Ok(()) => encoded.into_iter().map(|e| out_message(e, own)).collect(),
            Err(_) => self.encode_unreach(nlri),
        }
    }

    /// Stands where each session puts its own address.
    fn placeholder(&self) -> NextHop {
        match (self.key.table.1, self.key.next_hop_len) {
            (Family::Ipv4Unicast, 4) => NextHop::V4(Ipv4Addr::UNSPECIFIED),
            _ => NextHop::V6 {
                global: Ipv6Addr::UNSPECIFIED,
                link_local: None,
            },
        }
    }
}

/// A learned next hop as it is passed on: a link-local address means nothing beyond its link (RFC 2545 §3). `None` when
/// that was all it had.
fn beyond_its_link(next_hop: NextHop) -> Option<NextHop> {
    match next_hop {
        NextHop::V4(_) => Some(next_hop),
        NextHop::V6 { global, .. } if global.is_unspecified() || global.is_unicast_link_local() => {
            None
        }
        NextHop::V6 { global, .. } => Some(NextHop::V6 {
            global,
            link_local: None,
        }),
    }
}

fn out_message(encoded: EncodedUpdate, own_next_hop: bool) -> OutMessage {
    OutMessage {
        bytes: Bytes::from(encoded.bytes),
        next_hop_at: encoded.next_hop_at.filter(|_| own_next_hop),
    }
}
