//! Work that is too long for one event: cursors over the tables, the queue of changed prefixes, delivery. Each call
//! does a bounded slice, so that the thread gets back to its events within about 2 ms.

use std::net::Ipv4Addr;
use std::ops::Range;

use bgp_wire::{Family, NextHop};

use super::groups::Whom;
use super::ids::{PeerId, PrefixId, SessionId};
use super::nexthops::NextHopState;
use super::table::Path;
use super::update::slot;
use super::{Event, MedRules, Output, PeerDown, PeerUp, Relation, Rib, TableIndex, TableKey};
use crate::policy::{Chain, ImportContext};

/// Prefixes that one slice looks at: about 1 ms at 200 ns each. In tests so few that every cursor takes many slices.
const SLICE: u32 = if cfg!(test) { 4 } else { 4096 };

/// Prefixes without paths that a table keeps, at the least; a quarter of all when that is more. What went comes back,
/// mostly, and finds its place.
const MAX_EMPTY: usize = if cfg!(test) { 2 } else { 4096 };

/// What a cursor does with each prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Removes every path of a peer, then the peer.
    PurgePeer(PeerId),
    /// Removes the paths of a peer and family that its last refresh did not confirm.
    SweepStale(PeerId, Family),
    /// Chooses the best path anew: next hops or the rules changed.
    Reselect,
    /// Asks the import policy anew, for one peer or all.
    Reimport(Option<PeerId>),
    /// Asks anew to whom these paths may go, and as what.
    Reexport(Whose),
    /// Fills a new update group of a table.
    Populate(usize, TableKey),
    /// Tells the kernel all best paths.
    Install,
    /// Counts what each prefix of a table contributes to new aggregates.
    Aggregate(TableKey),
}

/// Paths by where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Peer(PeerId),
    /// Of every internal peer.
    Internal,
}

/// A cursor: a task over some tables, and how far it is.
#[derive(Debug)]
pub(super) struct Work {
    task: Task,
    /// Tables not done yet; `None` before the start, so that none is missed which came into being meanwhile.
    tables: Option<Vec<TableIndex>>,
    next: u32,
}

impl Rib {
    pub(super) fn peer_up(&mut self, up: PeerUp) {
        let Some(id) = self.peers.add(up) else { return };
        self.defaults_checked = false;
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let mut new_groups = Vec::new();
        for family in Family::ALL {
            if peer.up.families[slot(family)]
                && let Some(new_group) = self.groups.join(&peer.up, id, family)
            {
                new_groups.push((new_group, (peer.up.table, family)));
            }
        }
        for (group, table) in new_groups {
            self.queue(Task::Populate(group, table));
        }
    }

    pub(super) fn peer_down(&mut self, session: SessionId, how: PeerDown) {
        let Some(id) = self.peers.end_session(session) else {
            return;
        };
        self.leave_groups(id);
        self.groups.retire_path_ids();
        match how {
            PeerDown::Purge => self.purge(id),
            PeerDown::Retain { until } => {
                self.retained.insert(id, until);
            }
        }
    }

    fn leave_groups(&mut self, id: PeerId) {
        self.defaults_checked = false;
        let gone = self.groups.leave(id, &mut self.garbage);
        // Another group may take the place of one that is gone.
        self.work
            .retain(|work| !matches!(work.task, Task::Populate(group, _) if gone.contains(&group)));
    }

    fn purge(&mut self, id: PeerId) {
        self.retained.remove(&id);
        self.queue(Task::PurgePeer(id));
    }

    pub(super) fn expire_retained(&mut self) {
        if self.retained.is_empty() {
            return;
        }
        let now = self.now;
        let due: Vec<PeerId> = self
            .retained
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.purge(id);
        }
    }

    pub(super) fn end_of_rib(&mut self, session: SessionId, family: Family) {
        let Some(id) = self.peers.by_session(session) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.end_of_rib[slot(family)] = true;
        let through = (0..2).all(|i| peer.end_of_rib[i] || !peer.up.families[i]);
        if !through {
            return;
        }
        // What an earlier session of this peer left behind is superseded now (RFC 4724 §4.2).
        let name = peer.up.name.clone();
        let earlier: Vec<PeerId> = self
            .retained
            .keys()
            .copied()
            .filter(|id| self.peers.get(*id).is_some_and(|p| p.up.name == name))
            .collect();
        for id in earlier {
            self.purge(id);
        }
    }

    pub(super) fn refresh_request(&mut self, session: SessionId, family: Family) {
        if let Some(id) = self.peers.by_session(session) {
            self.groups.send_all(id, family);
        }
    }

    pub(super) fn refresh_begin(&mut self, session: SessionId, family: Family) {
        let id = self.peers.by_session(session);
        if let Some(peer) = id.and_then(|id| self.peers.get_mut(id)) {
            peer.refresh[slot(family)].begin();
        }
    }

    pub(super) fn refresh_end(&mut self, session: SessionId, family: Family) {
        let Some(id) = self.peers.by_session(session) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(id) {
            peer.refresh[slot(family)].end();
            self.queue(Task::SweepStale(id, family));
        }
    }

    pub(super) fn next_hops_changed(&mut self, states: &[(NextHop, NextHopState)]) {
        let mut changed = false;
        for (next_hop, state) in states {
            changed |= self.next_hops.set_state(next_hop, *state);
        }
        if changed {
            self.queue(Task::Reselect);
        }
    }

    pub(super) fn set_context(&mut self, context: ImportContext) {
        if self.context != context {
            self.context = context;
            self.queue(Task::Reimport(None));
        }
    }

    /// Loops are others then, and what is reflected says another cluster.
    pub(super) fn set_cluster_id(&mut self, id: Ipv4Addr) {
        if std::mem::replace(&mut self.config.cluster_id, id) == id {
            return;
        }
        self.queue(Task::Reimport(None));
        self.queue(Task::Reexport(Whose::Internal));
    }

    pub(super) fn set_install(&mut self, on: bool) {
        let before = std::mem::replace(&mut self.install, on);
        if on && !before {
            self.tell_kernel_all();
        }
    }

    /// Has the kernel told all again, if it is told at all.
    pub(super) fn tell_kernel_all(&mut self) {
        if self.install {
            self.queue(Task::Install);
        }
    }

    pub(super) fn set_med_rules(&mut self, rules: MedRules) {
        if std::mem::replace(&mut self.med, rules) != rules {
            self.queue(Task::Reselect);
            // Who shares with the best path may change though that stays.
            self.tell_kernel_all();
        }
    }

    pub(super) fn set_policies(
        &mut self,
        session: SessionId,
        (import, export, relation): (Chain, Chain, Relation),
    ) {
        let Some(id) = self.peers.by_session(session) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let former = peer.up.clone();
        peer.up.import = import;
        peer.up.export = export;
        peer.up.relation = relation;
        let outbound = |up: &PeerUp| up.relation.outbound(up.ebgp(), up.remote_as);
        let reflects = peer.up.relation.reflector_client;
        let regroup = peer.up.export != former.export
            || outbound(&peer.up) != outbound(&former)
            || peer.up.relation.add_path != former.relation.add_path;
        if peer.up.import != former.import || peer.up.relation != former.relation {
            self.queue(Task::Reimport(Some(id)));
        }
        if reflects != former.relation.reflector_client {
            // The paths stay what they are, so choosing anew would tell nobody.
            self.queue(Task::Reexport(Whose::Peer(id)));
        }
        if !regroup {
            return;
        }
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        // What is sent in another way is sent by another group.
        let up = peer.up.clone();
        let owed = Family::ALL.map(|family| self.groups.owed(id, family));
        self.leave_groups(id);
        for (family, owed) in Family::ALL.into_iter().zip(owed) {
            if up.families[slot(family)]
                && let Some(new_group) = self.groups.rejoin(&up, id, family, owed)
            {
                self.queue(Task::Populate(new_group, (up.table, family)));
            }
        }
    }

    /// Begins to count for the aggregates of a table, or begins again.
    pub(super) fn count_shares(&mut self, key: TableKey) {
        self.work.retain(|work| work.task != Task::Aggregate(key));
        self.queue(Task::Aggregate(key));
    }

    fn queue(&mut self, task: Task) {
        // A cursor that has not started yet sees all there is to see.
        if self
            .work
            .iter()
            .any(|w| w.task == task && w.tables.is_none())
        {
            return;
        }
        self.work.push_back(Work {
            task,
            tables: None,
            next: 0,
        });
    }

    /// Does one slice. True when more can be done now; false when all is done, but for [`Rib::tidy`], or waits for permits.
    pub fn work(&mut self, out: &mut Vec<Output>) -> bool {
        if let Some(mut work) = self.work.pop_front()
            && self.slice(&mut work, out)
        {
            self.work.push_front(work);
        }
        self.settle_aggregates();
        let mut more = !self.work.is_empty();
        for table in 0..self.tables.len() {
            more |= self.drain(table, out);
        }
        for attrs in self
            .garbage
            .split_off(self.garbage.len().saturating_sub(SLICE as usize))
        {
            self.attrs.release(attrs);
        }
        more |= !self.garbage.is_empty();
        // As with prefixes: each new set buries two.
        let at_least = 2 * std::mem::take(&mut self.attrs.made);
        self.bury(at_least, out);
        more | self.deliver(out)
    }

    /// Handles an event and does all work that follows, without slices: for tests and simulations.
    pub fn settle(&mut self, now: u32, event: Event, out: &mut Vec<Output>) {
        self.handle(now, event, out);
        while self.work(out) || self.tidy(out) {}
    }

    /// One slice of a cursor; whether it has more to do.
    fn slice(&mut self, work: &mut Work, out: &mut Vec<Output>) -> bool {
        let mut tables = match work.tables.take() {
            Some(tables) => tables,
            None => self.begin(work.task),
        };
        if let Some(&table) = tables.last() {
            let end = self.tables[table].table.end();
            let stop = work.next.saturating_add(SLICE).min(end);
            self.visit_range(work.task, table, work.next..stop, out);
            work.next = stop;
            if stop >= end {
                tables.pop();
                work.next = 0;
            }
        }
        if tables.is_empty() {
            self.finish(work.task);
            return false;
        }
        work.tables = Some(tables);
        true
    }

    /// The tables that a task goes over.
    fn begin(&mut self, task: Task) -> Vec<TableIndex> {
        if task == Task::Reselect {
            self.next_hops.begin_round();
        }
        if let Task::SweepStale(peer, family) = task
            && let Some(peer) = self.peers.get_mut(peer)
        {
            peer.refresh[slot(family)].begin_sweep();
        }
        let all = self.tables.iter().enumerate();
        all.filter(|(_, state)| match task {
            Task::SweepStale(_, family) => state.key.1 == family,
            Task::Populate(_, key) | Task::Aggregate(key) => state.key == key,
            Task::PurgePeer(_)
            | Task::Reselect
            | Task::Reimport(_)
            | Task::Reexport(_)
            | Task::Install => true,
        })
        .map(|(index, _)| index)
        .collect()
    }

    fn finish(&mut self, task: Task) {
        match task {
            Task::PurgePeer(peer) => self.peers.remove(peer),
            Task::Populate(group, _) => self.groups.populated(group),
            Task::Aggregate(key) => self.all_counted(key),
            Task::SweepStale(peer, family) => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.refresh[slot(family)].end_sweep();
                }
            }
            Task::Reselect | Task::Reimport(_) | Task::Reexport(_) | Task::Install => {}
        }
    }

    fn visit_range(
        &mut self,
        task: Task,
        table: TableIndex,
        range: Range<u32>,
        out: &mut Vec<Output>,
    ) {
        match task {
            Task::Populate(group, _) => {
                let ids: Vec<PrefixId> = range.map(PrefixId).collect();
                self.announce_changes(table, &ids, Whom::Group(group));
            }
            Task::Install => {
                for id in range.map(PrefixId) {
                    self.tell_kernel(table, id, out);
                }
            }
            task => {
                for id in range.map(PrefixId) {
                    self.visit(task, table, id, out);
                }
            }
        }
    }

    fn visit(&mut self, task: Task, table: TableIndex, id: PrefixId, out: &mut Vec<Output>) {
        let Some(entry) = self.tables[table].table.get(id) else {
            return;
        };
        match task {
            Task::PurgePeer(peer) => {
                self.remove_paths(table, id, |p| p.peer == peer);
            }
            Task::SweepStale(peer, family) => {
                let Some(refresh) = self.peers.get(peer).map(|p| p.refresh[slot(family)]) else {
                    return;
                };
                let swept = |p: &Path| p.peer == peer && refresh.is_swept(p.flags.epoch());
                self.remove_paths(table, id, swept);
            }
            Task::Reselect => {
                let (before, several) = (entry.best_path().copied(), entry.paths.len() > 1);
                self.reselect(table, id, before, false);
                self.multipath_may_have_changed(table, id, before);
                if several {
                    // Of a single path the best one tells all.
                    self.paths_changed(table, id);
                }
            }
            Task::Aggregate(_) => self.count_anew(table, id),
            Task::Reimport(only) => self.reimport(table, id, only, out),
            Task::Reexport(whose) => {
                let concerned = |path: &Path| match whose {
                    Whose::Peer(peer) => path.peer == peer,
                    Whose::Internal => self.peers.get(path.peer).is_some_and(|p| !p.up.ebgp()),
                };
                if entry.best_path().is_some_and(concerned) {
                    self.tables[table].mark_dirty(id);
                } else if entry.paths.iter().any(concerned) {
                    self.paths_changed(table, id);
                }
            }
            Task::Populate(..) | Task::Install => {}
        }
    }

    /// Takes changed prefixes from the queues: to the kernel and to every update group. Whether more are left.
    fn drain(&mut self, table: TableIndex, out: &mut Vec<Output>) -> bool {
        let state = &mut self.tables[table];
        let (slice, paths) = (SLICE as usize, &state.table);
        let several = self.groups.take_paths(state.key);
        // Where each path counts, a prefix with many of them is as much work as many prefixes.
        let cost = |id: PrefixId| match several {
            true => paths.get(id).map_or(1, |e| e.paths.len().max(1)),
            false => 1,
        };
        let ids = state.dirty.take(slice, cost);
        let others = state.other_paths.take(slice, cost);
        if !ids.is_empty() {
            if self.install {
                for &id in &ids {
                    self.tell_kernel(table, id, out);
                }
            }
            self.announce_changes(table, &ids, Whom::All);
        }
        if !others.is_empty() {
            self.announce_changes(table, &others, Whom::WithAddPath);
        }
        let state = &mut self.tables[table];
        if !state.dirty.is_empty() || !state.other_paths.is_empty() {
            return true;
        }
        let more = self.groups.free_path_ids(state.key, slice);
        // Each new prefix clears away two that are gone: there are never more for long than there have been at once.
        let at_least = 2 * std::mem::take(&mut state.table.made);
        if at_least > 0 {
            self.forget_empty(table, at_least);
        }
        more
    }

    /// What can wait until nothing else is to be done: frees some attribute sets that nothing refers to, forgets some
    /// prefixes without paths. Whether there are more.
    pub fn tidy(&mut self, out: &mut Vec<Output>) -> bool {
        let slice = SLICE as usize;
        self.bury(slice, out) || (0..self.tables.len()).any(|table| self.forget_empty(table, slice))
    }

    /// Forgets up to `max` prefixes, those that have been without paths for longest, when there are too many; whether
    /// there are more.
    fn forget_empty(&mut self, table: TableIndex, max: usize) -> bool {
        let state = &mut self.tables[table];
        let spare = MAX_EMPTY.max(state.table.len() / 4);
        let too_many = state.empty.len().saturating_sub(spare);
        if too_many == 0 || self.groups.any_behind(state.key) {
            return false;
        }
        for id in state.empty.drain(..too_many.min(max)) {
            let Some(entry) = state.table.get_mut(id) else {
                continue;
            };
            entry.listed_empty = false;
            if entry.paths.is_empty() {
                state.table.remove(id);
                self.groups.forget(state.key, id);
            }
        }
        too_many > max
    }
}
