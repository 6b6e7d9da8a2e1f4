//! From the best path to what a group announces: export policy, attribute transform, one encoding for all members.

use bgp_wire::{EncodedUpdate, Nlri};
use bytes::Bytes;
use hashbrown::HashMap;
use ipnet::IpNet;
use std::net::Ipv4Addr;

use super::leaving::{Arrival, Hop, beyond_its_link};
use super::offer::{self, Route};
use super::path_ids::Naming;
use super::ring::Audience;
use super::{Group, GroupKey, Position};
use crate::policy::{AttributeView, ChainVerdict, Changed, Changes, Direction, RouteSource};
use crate::rib::attrs::AttrTable;
use crate::rib::ids::{AttrId, NextHopId, NlriId, PeerId, PrefixId};
use crate::rib::nexthops::NextHopTable;
use crate::rib::peers::Peers;
use crate::rib::table::{Entry, Path, Table};
use crate::rib::{OutMessage, Rib, TableIndex};

/// What the export of a path depends on beside its group and prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ExportInput {
    attrs: AttrId,
    source: RouteSource,
    from: Arrival,
    /// The peer, where the group's policy asks for peers.
    peer: PeerId,
    /// The peers asked for this route: no policy is in the way.
    asked_for: bool,
}

/// What a round remembers of one input.
struct Judged {
    /// `None`: the chain is built-in, and `plain` is all there is.
    verdict: Option<ChainVerdict>,
    /// Without changes by policy; [`AttrId::NONE`] when it may not be announced. One reference is held.
    plain: AttrId,
    /// With changes, likewise.
    changed: Vec<(Changes, AttrId)>,
}

/// All that a round remembers.
#[derive(Default)]
struct Memo {
    judged: Vec<Judged>,
    index: HashMap<ExportInput, usize>,
    /// What was asked last: neighbours mostly share their attributes.
    last: Option<(ExportInput, usize)>,
}

impl Memo {
    fn get(&mut self, input: ExportInput, judge: impl FnOnce() -> Judged) -> &mut Judged {
        let at = match self.last {
            Some((last, at)) if last == input => at,
            _ => *self.index.entry(input).or_insert_with(|| {
                self.judged.push(judge());
                self.judged.len() - 1
            }),
        };
        self.last = Some((input, at));
        &mut self.judged[at]
    }
}

/// Changes of one round, to be encoded.
#[derive(Default)]
struct Round {
    reach: Vec<(AttrId, PeerId, NlriId)>,
    /// Withdrawn from all but the former source.
    unreach: Vec<(PeerId, NlriId)>,
    /// Withdrawn from this member alone, which became the source.
    taken: Vec<(PeerId, NlriId)>,
    /// No longer announced: references to give back.
    released: Vec<AttrId>,
}

/// Groups of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rib) enum Whom {
    All,
    /// Those that are sent several paths of a prefix.
    WithAddPath,
    /// This one.
    Group(usize),
}

impl Whom {
    pub(super) fn includes(self, index: usize, key: &GroupKey) -> bool {
        match self {
            Whom::All => true,
            Whom::WithAddPath => key.paths.is_some(),
            Whom::Group(only) => only == index,
        }
    }
}

impl Rib {
    /// Brings groups of a table up to date with the paths of these prefixes.
    pub(in crate::rib) fn announce_changes(
        &mut self,
        table: TableIndex,
        ids: &[PrefixId],
        whom: Whom,
    ) {
        let state = &self.tables[table];
        let depth = self.groups.depth(state.key, whom);
        let mut offers = depth.map_or_else(Vec::new, |depth| self.offers(state, ids, depth));
        let mut path_ids = self.groups.path_ids.iter_mut();
        let mut path_ids = path_ids
            .find(|(key, _)| *key == state.key)
            .map(|(_, ids)| ids);
        if let Some(path_ids) = &mut path_ids {
            offer::place(&mut offers, path_ids);
        }
        let mut released = Vec::new();
        for (index, slot) in self.groups.slots.iter_mut().enumerate() {
            let Some(group) = slot else { continue };
            if group.key.table != state.key || !whom.includes(index, &group.key) {
                continue;
            }
            let mut memo = Memo::default();
            let mut round = Round::default();
            group.version += 1;
            if group.key.paths.is_none() {
                draw_near(group, &state.table, &self.attrs, ids);
            }
            let mut exporter = Exporter {
                group,
                attrs: &mut self.attrs,
                next_hops: &mut self.next_hops,
                peers: &self.peers,
                cluster_id: self.config.cluster_id,
            };
            if exporter.group.key.paths.is_some() {
                let key = exporter.group.key.clone();
                for (id, route) in offers.iter().flat_map(|(_, offer)| offer.routes(&key)) {
                    exporter.tell(id, route, &mut memo, &mut round);
                }
            } else {
                let sent = |entry: &&Entry| state.aggregates.suppress(&entry.prefix).is_none();
                for &id in ids {
                    let entry = state.table.get(id).filter(sent);
                    let route = entry.and_then(|e| exporter.group.key.best(e));
                    exporter.tell(id.into(), route, &mut memo, &mut round);
                }
            }
            released.append(&mut round.released);
            for judged in memo.judged {
                let changed = judged.changed.into_iter().map(|(_, attrs)| attrs);
                let all = changed.chain([judged.plain]);
                released.extend(all.filter(|attrs| *attrs != AttrId::NONE));
            }
            let in_ring = group.members.iter().any(|m| match &m.position {
                Position::Ring(_) => true,
                Position::Walk(walk) => walk.ring_position().is_some(),
            });
            if in_ring {
                let naming = Naming {
                    table: &state.table,
                    paths: path_ids.as_deref().filter(|_| group.key.paths.is_some()),
                };
                group.encode(round, naming, &self.attrs, &self.next_hops);
            }
        }
        for attrs in released {
            self.attrs.release(attrs);
        }
    }
}

/// Draws what a round is about to read into the cache: loads that do not wait for each other are waited for at once.
fn draw_near(group: &Group, table: &Table, attrs: &AttrTable, ids: &[PrefixId]) {
    let (mut newest, mut last) = (0, AttrId::NONE);
    for &id in ids {
        newest = group.get(id.into()).version.max(newest);
        if let Some(path) = table.get(id).and_then(Entry::best_path)
            && path.attrs != last
        {
            last = path.attrs;
            attrs.touch(last);
        }
    }
    std::hint::black_box(newest);
}

/// Exports paths to one group during a round.
struct Exporter<'a> {
    group: &'a mut Group,
    attrs: &'a mut AttrTable,
    next_hops: &'a mut NextHopTable,
    peers: &'a Peers,
    cluster_id: Ipv4Addr,
}

impl Exporter<'_> {
    /// What an NLRI stands for now: a path, or nothing.
    fn tell(&mut self, id: NlriId, route: Option<Route<'_>>, memo: &mut Memo, round: &mut Round) {
        let (attrs, source) = match route {
            Some((prefix, path, source)) => {
                let input = self.input(path);
                let judged = memo.get(input, || self.judge(input));
                (self.finish(judged, input, prefix), source)
            }
            None => (AttrId::NONE, PeerId::LOCAL),
        };
        self.group.change(id, attrs, source, self.attrs, round);
    }

    fn input(&self, path: &Path) -> ExportInput {
        let peer = self.peers.get(path.peer);
        let declared = self.group.key.export.is_declared();
        ExportInput {
            attrs: path.attrs,
            source: path.flags.source(),
            from: Arrival::peer(peer),
            peer: if declared { path.peer } else { PeerId::LOCAL },
            asked_for: path.is_on_demand(),
        }
    }

    /// All that the prefix has no part in.
    fn judge(&mut self, input: ExportInput) -> Judged {
        let chain = &self.group.key.export;
        let verdict = (chain.is_declared() && !input.asked_for)
            .then(|| chain.attribute_part(&self.view(input)));
        let passes = verdict.is_some() || input.asked_for || chain.export(input.source).is_ok();
        let plain = if passes && self.may_go(input) {
            self.send_as(input, &Changed::default())
        } else {
            AttrId::NONE
        };
        Judged {
            verdict,
            plain,
            changed: Vec::new(),
        }
    }

    /// The attributes with which one prefix is announced; [`AttrId::NONE`]: not at all. The reference is `judged`'s.
    fn finish(&mut self, judged: &mut Judged, input: ExportInput, prefix: &IpNet) -> AttrId {
        let Some(verdict) = &judged.verdict else {
            return judged.plain;
        };
        let finished = self
            .group
            .key
            .export
            .finish(verdict, Direction::Export, prefix);
        if finished.result.is_err() {
            return AttrId::NONE;
        }
        if finished.changes.is_empty() || !self.may_go(input) {
            return judged.plain;
        }
        if let Some((_, attrs)) = judged
            .changed
            .iter()
            .find(|(changes, _)| *changes == finished.changes)
        {
            return *attrs;
        }
        let changed = self
            .group
            .key
            .export
            .apply(&finished.changes, &self.view(input));
        let attrs = self.send_as(input, &changed);
        judged.changed.push((finished.changes, attrs));
        attrs
    }

    fn view(&self, input: ExportInput) -> AttributeView<'_> {
        let set = self.attrs.get(input.attrs);
        let own = set.next_hop == NextHopId::SELF;
        AttributeView {
            attributes: &set.attributes,
            next_hop: (!own).then(|| self.next_hops.next_hop(set.next_hop)),
            peer: self.peers.get(input.peer).map(|p| &*p.up.name),
            source: input.source.into(),
            family: self.group.key.table.1,
            local_as: self.group.key.local_as,
        }
    }

    /// What no policy can allow.
    fn may_go(&self, input: ExportInput) -> bool {
        let hot = self.attrs.get(input.attrs).attributes.hot();
        self.group.key.may_go(hot, input.from).is_ok()
    }

    /// The set that goes out, with one reference; [`AttrId::NONE`] when it cannot.
    fn send_as(&mut self, input: ExportInput, changed: &Changed) -> AttrId {
        let key = &self.group.key;
        let view = self.view(input);
        let leaves = key.send_as(&view, input.source, input.from, changed, self.cluster_id);
        let Ok((attributes, hop)) = leaves else {
            return AttrId::NONE;
        };
        let named = match hop {
            Hop::Named(next_hop) => Some(self.next_hops.intern_untracked(next_hop)),
            _ => None,
        };
        let next_hop = match hop {
            Hop::Received(_) => self.attrs.get(input.attrs).next_hop,
            _ => named.unwrap_or(NextHopId::SELF),
        };
        let (id, new) = self.attrs.intern(&attributes, next_hop);
        if new && next_hop != NextHopId::SELF {
            self.next_hops.retain(next_hop);
        }
        if let Some(named) = named {
            // Held by the set now.
            let _ = self.next_hops.release(named);
        }
        id
    }
}

impl Group {
    /// Records a change and notes what has to be said of it.
    fn change(
        &mut self,
        id: NlriId,
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
        self.set(id, attrs, source, before);
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
        naming: Naming<'_>,
        attrs: &AttrTable,
        next_hops: &NextHopTable,
    ) {
        let mut together: Vec<Nlri> = Vec::new();
        // Withdraws first: they make room where the receiver counts prefixes.
        for (mut withdrawn, only) in [(round.unreach, false), (round.taken, true)] {
            withdrawn.sort_unstable();
            for run in withdrawn.chunk_by(|a, b| a.0 == b.0) {
                together.clear();
                together.extend(run.iter().filter_map(|(_, id)| naming.nlri(*id)));
                let audience = if only {
                    Audience::Only(run[0].0)
                } else {
                    Audience::AllBut(run[0].0)
                };
                for message in self.encode_unreach(&together) {
                    self.ring.push(message, audience, self.version);
                }
            }
        }
        round.reach.sort_unstable();
        for run in round.reach.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            together.clear();
            together.extend(run.iter().filter_map(|(_, _, id)| naming.nlri(*id)));
            for message in self.encode_reach(run[0].0, &together, attrs, next_hops) {
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

    /// UPDATEs that announce `nlri`. What cannot be encoded is not announced in the first place ([`super::leaving`]); if it were,
    /// withdraws see to it that nobody keeps what is no longer true.
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
        let next_hop = learned.unwrap_or_else(|| self.key.placeholder());
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
            Err(error) => {
                debug_assert!(false, "{error}");
                self.encode_unreach(nlri)
            }
        }
    }
}

fn out_message(encoded: EncodedUpdate, own_next_hop: bool) -> OutMessage {
    OutMessage {
        bytes: Bytes::from(encoded.bytes),
        next_hop_at: encoded.next_hop_at.filter(|_| own_next_hop),
    }
}
