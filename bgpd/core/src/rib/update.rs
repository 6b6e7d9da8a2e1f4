//! Paths in and out of the tables: what UPDATEs do, and the choice of the best path after each.

use bgp_wire::{Family, NextHop, Nlri, PathAttributes};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::add_path::{self, Depth, Ranking};
use super::best::{self, Candidate, Ineligible};
use super::ids::{AttrId, NextHopId, PeerId, PrefixId, SessionId, TableId};
use super::monitor::differs;
use super::nexthops::{NextHopState, NextHopTable};
use super::relation::Received;
use super::table::{Entry, Path, PathFlags};
use super::{FamilyUpdate, Output, Rib, TableIndex, TableKey};

/// LOCAL_PREF of a route that carries none (a common default; RFC 4271 leaves it open).
pub(super) const DEFAULT_LOCAL_PREF: u32 = 100;

/// Prefixes looked up together, or as many as one UPDATE has: few enough to be still in the cache when it is their turn.
const LOOKUPS: usize = 256;

/// Index of a family in per-family arrays.
pub(super) fn slot(family: Family) -> usize {
    match family {
        Family::Ipv4Unicast => 0,
        Family::Ipv6Unicast => 1,
    }
}

impl Rib {
    pub(super) fn update(
        &mut self,
        session: SessionId,
        families: &[FamilyUpdate],
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self
            .peers
            .by_session(session)
            .and_then(|id| Some((id, &self.peers.get(id)?.up)))
        else {
            return;
        };
        let (peer_id, table_id, negotiated) = (peer.0, peer.1.table, peer.1.families);
        let mut known = std::mem::take(&mut self.known);
        let mut left = families;
        while !left.is_empty() {
            let mut prefixes = 0;
            let together = left.iter().take_while(|update| {
                let room = prefixes < LOOKUPS;
                prefixes += update.withdrawn.len() + update.announced.len();
                room
            });
            let (batch, rest) = left.split_at(together.count());
            left = rest;
            self.look_up(table_id, batch, &mut known);
            let mut known = known.as_slice();
            for update in batch {
                let (withdrawn, announced);
                (withdrawn, known) = known.split_at(update.withdrawn.len());
                (announced, known) = known.split_at(update.announced.len());
                if !negotiated[slot(update.family)] {
                    continue;
                }
                let key = (table_id, update.family);
                if !withdrawn.is_empty()
                    && let Some(table) = self.find_table(key)
                {
                    self.withdraw_all(table, (&update.withdrawn, withdrawn), peer_id);
                }
                if let Some((attributes, next_hop)) = &update.attributes
                    && !announced.is_empty()
                {
                    let route = (attributes, *next_hop);
                    self.learn(key, peer_id, route, (&update.announced, announced), out);
                }
            }
        }
        self.known = known;
    }

    /// The ids of all prefixes of these updates, and their paths' attributes drawn near: lookups that do not wait for
    /// each other overlap their cache misses. Ids stay valid until the event is done, since a prefix is only forgotten
    /// between events; one that is not known yet may become so on the way.
    fn look_up(
        &mut self,
        table: TableId,
        updates: &[FamilyUpdate],
        known: &mut Vec<Option<PrefixId>>,
    ) {
        known.clear();
        for update in updates {
            for nlri in [&update.withdrawn, &update.announced] {
                if let Some(table) = self.find_table((table, update.family)) {
                    self.tables[table].table.draw_near(nlri);
                }
            }
        }
        for update in updates {
            for nlri in [&update.withdrawn, &update.announced] {
                match self.find_table((table, update.family)) {
                    Some(table) => self.tables[table].table.find_all(nlri, known),
                    None => known.resize(known.len() + nlri.len(), None),
                }
            }
        }
        let mut before = AttrId::NONE;
        let mut from = known.iter();
        for update in updates {
            let Some(table) = self.find_table((table, update.family)) else {
                return;
            };
            let table = &self.tables[table].table;
            for id in from
                .by_ref()
                .take(update.withdrawn.len() + update.announced.len())
            {
                if let Some(path) = id.and_then(|id| table.get(id)).and_then(|e| e.best_path())
                    && path.attrs != before
                {
                    before = path.attrs;
                    self.attrs.touch(path.attrs);
                }
            }
        }
    }

    /// Takes in what a peer announces with one attribute set. What depends on the attributes alone is done once.
    fn learn(
        &mut self,
        key: TableKey,
        peer_id: PeerId,
        (attributes, next_hop): (&PathAttributes, NextHop),
        announced: (&[Nlri], &[Option<PrefixId>]),
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.get(peer_id) else {
            return;
        };
        let up = &peer.up;
        let judged = up.relation.receive(attributes, up.local_as, up.remote_as);
        if judged == Received::Refused {
            if let Some(table) = self.find_table(key) {
                self.withdraw_all(table, announced, peer_id);
            }
            return;
        }
        let table = self.table_of(key);
        let received = self.intern(attributes, next_hop, out);
        let judged = (received, judged);
        let mut import = self.import_of(peer_id, judged, attributes, (key.1, next_hop), out);
        let (mut rejected, mut is_loop) = (0, false);
        for (nlri, known) in announced.0.iter().zip(announced.1) {
            let (attrs, flags) = self.let_in(&mut import, &nlri.prefix, out);
            rejected += u32::from(flags.has(PathFlags::FILTERED));
            is_loop |= flags.has(PathFlags::LOOP);
            let route = (received, attrs);
            self.announce(table, (nlri, *known), peer_id, route, flags);
        }
        self.count_import(peer_id, attributes, rejected, is_loop);
        self.end_import(import);
        self.attrs.release(received);
    }

    /// Our AS in the AS_PATH (RFC 4271 §9.1.2); our id as ORIGINATOR_ID or in CLUSTER_LIST (RFC 4456 §8).
    pub(super) fn is_loop(&self, peer: PeerId, attributes: &PathAttributes) -> bool {
        let Some(peer) = self.peers.get(peer) else {
            return false;
        };
        let path = attributes.as_path();
        let allowed = usize::from(peer.up.relation.allow_own_as);
        path.count(peer.up.local_as) > allowed
            || path.count(self.config.local_as) > allowed
            || attributes.hot().originator_id == Some(self.config.router_id)
            || attributes
                .cluster_list()
                .any(|id| id == self.config.cluster_id)
    }

    pub(super) fn announce(
        &mut self,
        table: TableIndex,
        (nlri, known): (&Nlri, Option<PrefixId>),
        peer_id: PeerId,
        (received, attrs): (AttrId, AttrId),
        mut flags: PathFlags,
    ) {
        let state = &mut self.tables[table];
        let family = slot(state.key.1);
        if let Some(peer) = self.peers.get(peer_id) {
            flags.set_epoch(peer.refresh[family].epoch);
        }
        let path = Path {
            received,
            attrs,
            path_id: nlri.path_id,
            time: self.now,
            peer: peer_id,
            flags,
        };
        let id = known.unwrap_or_else(|| state.table.id_of(&nlri.prefix));
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        let before = entry.best_path().copied();
        let old = match entry.position(peer_id, nlri.path_id) {
            Some(i) => Some(std::mem::replace(&mut entry.paths[i], path)),
            None if entry.is_full(peer_id) => {
                if let Some(peer) = self.peers.get_mut(peer_id) {
                    peer.refused[family] += 1;
                }
                return;
            }
            None => {
                entry.paths.push(path);
                None
            }
        };
        self.attrs.retain(received);
        self.attrs.retain(attrs);
        if peer_id != PeerId::LOCAL && old.is_none_or(|old| differs(&old, &path)) {
            self.changes.note(nlri.prefix, peer_id, nlri.path_id);
        }
        if let Some(peer) = self.peers.get_mut(peer_id) {
            peer.received[family] += u64::from(old.is_none());
            peer.accepted[family] -= u64::from(old.is_some_and(|p| p.flags.accepted()));
            peer.accepted[family] += u64::from(flags.accepted());
        }
        self.reselect(table, id, before, old.is_none());
        self.multipath_changed(table, id, before, old, Some(path));
        self.paths_changed(table, id);
        if let Some(old) = old {
            self.attrs.release(old.received);
            self.attrs.release(old.attrs);
        }
    }

    fn withdraw_all(
        &mut self,
        table: TableIndex,
        withdrawn: (&[Nlri], &[Option<PrefixId>]),
        peer: PeerId,
    ) {
        for (nlri, known) in withdrawn.0.iter().zip(withdrawn.1) {
            let table_of = &self.tables[table].table;
            // It may have become known on the way.
            let id = known.or_else(|| table_of.find(&nlri.prefix));
            let entry = id.and_then(|id| table_of.get(id));
            let path = entry.and_then(|entry| entry.position(peer, nlri.path_id));
            if let (Some(id), Some(i)) = (id, path) {
                self.remove_path(table, id, i);
            }
        }
    }

    pub(super) fn withdraw(&mut self, table: TableIndex, nlri: &Nlri, peer: PeerId) {
        let state = &self.tables[table];
        let found = state.table.find(&nlri.prefix).and_then(|id| {
            let entry = state.table.get(id)?;
            Some((id, entry.position(peer, nlri.path_id)?))
        });
        if let Some((id, i)) = found {
            self.remove_path(table, id, i);
        }
    }

    /// Takes out path `i` of a prefix and chooses anew.
    fn remove_path(&mut self, table: TableIndex, id: PrefixId, i: usize) {
        let state = &mut self.tables[table];
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        if entry.paths.len() == 1 {
            return self.remove_last_path(table, id);
        }
        let before = entry.best_path().copied();
        let path = entry.paths.swap_remove(i);
        self.removed(table, id, before, &[path]);
    }

    /// Takes out the only path of a prefix: there is nothing left to choose from, and nobody to share with.
    fn remove_last_path(&mut self, table: TableIndex, id: PrefixId) {
        let state = &mut self.tables[table];
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        let Some(path) = entry.paths.pop() else {
            return;
        };
        let (prefix, was_best) = (entry.prefix, entry.best.take().is_some());
        let family = slot(state.key.1);
        if !std::mem::replace(&mut entry.listed_empty, true) {
            state.empty.push_back(id);
        }
        if was_best {
            state.chosen -= 1;
            state.mark_dirty(id);
        }
        self.forget_path(family, prefix, &path);
        if was_best {
            self.share_changed(table, id);
        }
        self.paths_changed(table, id);
        self.attrs.release(path.received);
        self.attrs.release(path.attrs);
    }

    /// A path that is gone counts no more.
    fn forget_path(&mut self, family: usize, prefix: IpNet, path: &Path) {
        if let Some(peer) = self.peers.get_mut(path.peer) {
            peer.received[family] -= 1;
            peer.accepted[family] -= u64::from(path.flags.accepted());
            if peer.alive {
                self.changes.note(prefix, path.peer, path.path_id);
            }
        }
    }

    /// Takes out all these paths of a prefix and chooses anew, once.
    pub(super) fn remove_paths(
        &mut self,
        table: TableIndex,
        id: PrefixId,
        wanted: impl Fn(&Path) -> bool,
    ) {
        let Some(entry) = self.tables[table].table.get_mut(id) else {
            return;
        };
        let before = entry.best_path().copied();
        let mut paths: SmallVec<[Path; 1]> = SmallVec::new();
        entry.paths.retain(|path| {
            let gone = wanted(path);
            if gone {
                paths.push(*path);
            }
            !gone
        });
        if !paths.is_empty() {
            self.removed(table, id, before, &paths);
        }
    }

    fn removed(&mut self, table: TableIndex, id: PrefixId, before: Option<Path>, paths: &[Path]) {
        let state = &mut self.tables[table];
        let Some(entry) = state.table.get(id) else {
            return;
        };
        let prefix = entry.prefix;
        if entry.paths.is_empty() {
            state.mark_empty(id);
        }
        let family = slot(state.key.1);
        for path in paths {
            self.forget_path(family, prefix, path);
        }
        self.reselect(table, id, before, false);
        for path in paths {
            self.multipath_changed(table, id, before, Some(*path), None);
        }
        self.paths_changed(table, id);
        for path in paths {
            self.attrs.release(path.received);
            self.attrs.release(path.attrs);
        }
    }

    /// Chooses the best path of a prefix; puts it into the queue when that is another one than `before`. `joined`: all
    /// that changed is that the last path is new.
    pub(super) fn reselect(
        &mut self,
        table: TableIndex,
        id: PrefixId,
        before: Option<Path>,
        joined: bool,
    ) {
        let Some(entry) = self.tables[table].table.get(id) else {
            return;
        };
        let best = self.choose(entry, joined);
        let state = &mut self.tables[table];
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        entry.best = best;
        state.chosen += u64::from(best.is_some());
        state.chosen -= u64::from(before.is_some());
        let identity = |p: &Path| (p.peer, p.path_id, p.attrs, p.flags.source());
        if before.as_ref().map(identity) != entry.best_path().map(identity) {
            state.mark_dirty(id);
            self.share_changed(table, id);
        }
    }

    /// Tells those who are sent several paths of a prefix that one of them is another one, unless all will be told.
    pub(super) fn paths_changed(&mut self, table: TableIndex, id: PrefixId) {
        let state = &mut self.tables[table];
        if self.groups.take_paths(state.key) && !state.dirty.contains(id) {
            state.other_paths.push(id);
        }
    }

    /// The places of a prefix's paths that somebody is sent, best first.
    pub(super) fn ranking(&self, entry: &Entry, depth: Depth) -> Ranking {
        // A choice that is still to be made anew, since a next hop changed, tells of a single path as of the best one.
        match (entry.paths.as_slice(), entry.best) {
            (_, None) => return Ranking::new(),
            ([_], Some(only)) => return Ranking::from_slice(&[only]),
            _ => {}
        }
        if depth.best > 0 {
            return add_path::rank(&self.candidates(entry), depth);
        }
        let all = (0u16..).zip(&entry.paths);
        all.filter(|(_, path)| self.ineligible(path).is_none())
            .map(|(i, _)| i)
            .collect()
    }

    fn choose(&self, entry: &Entry, joined: bool) -> Option<u16> {
        // MAX_PATHS keeps the index inside u16.
        let index = |i: usize| u16::try_from(i).ok();
        match (entry.paths.as_slice(), entry.best_path()) {
            ([], _) => None,
            ([only], _) => self.ineligible(only).is_none().then_some(0),
            ([others @ .., new], Some(best)) if joined => {
                match best::is_better(&self.candidate(new), &self.candidate(best)) {
                    Some(true) => index(others.len()),
                    Some(false) => entry.best,
                    None => best::select(&self.candidates(entry)).and_then(index),
                }
            }
            _ => best::select(&self.candidates(entry)).and_then(index),
        }
    }

    pub(super) fn candidates(&self, entry: &Entry) -> SmallVec<[Candidate; 4]> {
        entry
            .paths
            .iter()
            .map(|path| self.candidate(path))
            .collect()
    }

    /// Why a path may not be used, if it may not.
    fn ineligible(&self, path: &Path) -> Option<Ineligible> {
        if path.flags.has(PathFlags::LOOP) {
            return Some(Ineligible::Loop);
        }
        if path.flags.has(PathFlags::ON_DEMAND) {
            return Some(Ineligible::OnDemand);
        }
        if path.flags.has(PathFlags::LEAK) {
            return Some(Ineligible::Leak);
        }
        if path.flags.has(PathFlags::FILTERED) {
            return Some(Ineligible::Filtered);
        }
        match self.next_hops.state(self.attrs.get(path.attrs).next_hop) {
            NextHopState::Resolved { .. } => None,
            NextHopState::Pending | NextHopState::Unresolved => {
                Some(Ineligible::NextHopUnreachable)
            }
        }
    }

    fn candidate(&self, path: &Path) -> Candidate {
        let set = self.attrs.get(path.attrs);
        let hot = set.attributes.hot();
        let peer = self.peers.get(path.peer);
        let igp_cost = match self.next_hops.state(set.next_hop) {
            NextHopState::Resolved { igp_cost } => igp_cost,
            NextHopState::Pending | NextHopState::Unresolved => 0,
        };
        let bgp_id = hot
            .originator_id
            .unwrap_or_else(|| peer.map_or(self.config.router_id, |p| p.up.bgp_id));
        Candidate {
            ineligible: self.ineligible(path),
            local: path.peer == PeerId::LOCAL,
            local_pref: hot.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            as_path_len: hot.as_path_len,
            origin: hot.origin as u8,
            med: hot.med.unwrap_or(self.med.missing()),
            neighbor_as: hot.neighbor_as.filter(|_| !self.med.always_compare),
            ebgp: peer.is_some_and(|p| p.up.ebgp()),
            igp_cost,
            bgp_id: bgp_id.into(),
            cluster_list_len: hot.cluster_list_len,
            peer_address: peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |p| p.up.address),
            path_id: path.path_id,
        }
    }

    /// The id of attributes with a next hop, one reference added; a new next hop is tracked.
    pub(super) fn intern(
        &mut self,
        attributes: &PathAttributes,
        next_hop: NextHop,
        out: &mut Vec<Output>,
    ) -> AttrId {
        let initial = if self.config.assume_next_hops {
            NextHopState::Resolved { igp_cost: 0 }
        } else {
            NextHopState::Pending
        };
        let (next_hop_id, new) = self.next_hops.intern(next_hop, initial);
        if new && !self.config.assume_next_hops {
            out.push(Output::Track(next_hop));
        }
        let (attrs, new) = self.attrs.intern(attributes, next_hop_id);
        if !new {
            // The set holds one: this was not the last.
            let _ = self.next_hops.release(next_hop_id);
        }
        attrs
    }

    /// Frees up to `max` attribute sets that nothing refers to any more; whether there are more.
    pub(super) fn bury(&mut self, max: usize, out: &mut Vec<Output>) -> bool {
        let (next_hops, track) = (&mut self.next_hops, !self.config.assume_next_hops);
        self.attrs
            .bury(max, |id| release_next_hop(next_hops, id, track, out))
    }
}

fn release_next_hop(
    next_hops: &mut NextHopTable,
    id: NextHopId,
    track: bool,
    out: &mut Vec<Output>,
) {
    if id == NextHopId::SELF {
        return;
    }
    if let Some(next_hop) = next_hops.release(id)
        && track
    {
        out.push(Output::Untrack(next_hop));
    }
}
