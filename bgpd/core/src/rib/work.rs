//! Work that is too long for one event: cursors over the tables, the queue of changed prefixes, delivery. Each call
//! does a bounded slice, so that the thread gets back to its events within about 2 ms.

use bgp_wire::{Family, NextHop};

use super::ids::{AttrId, NextHopId, PeerId, PrefixId, SessionId};
use super::nexthops::NextHopState;
use super::table::PathFlags;
use super::update::slot;
use super::{Event, FibChange, Output, PeerDown, PeerUp, Rib, TableKey};
use crate::policy::{Chain, ImportContext};

/// Prefixes that one slice looks at: about 1 ms at 200 ns each.
const SLICE: u32 = 4096;

/// What a cursor does with each prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Removes every path of a peer, then the peer.
    PurgePeer(PeerId),
    /// Removes the paths of a peer that its last refresh did not confirm.
    SweepStale(PeerId),
    /// Chooses the best path anew: next hops changed.
    Reselect,
    /// Asks the import policy anew, for one peer or all.
    Reimport(Option<PeerId>),
    /// Fills a new update group.
    Populate(usize),
}

/// A cursor: a task over some tables, and how far it is.
#[derive(Debug)]
pub(super) struct Work {
    task: Task,
    tables: Vec<TableKey>,
    next: u32,
}

impl Rib {
    pub(super) fn peer_up(&mut self, up: PeerUp) {
        let Some(id) = self.peers.add(up) else { return };
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
            self.populate(group, table);
        }
    }

    pub(super) fn peer_down(&mut self, session: SessionId, how: PeerDown) {
        let Some(id) = self.peers.end_session(session) else {
            return;
        };
        let announced = self.groups.leave(id);
        self.release_later(announced);
        match how {
            PeerDown::Purge => self.purge(id),
            PeerDown::Retain { until } => {
                self.retained.insert(id, until);
            }
        }
    }

    fn purge(&mut self, id: PeerId) {
        self.retained.remove(&id);
        self.queue(Task::PurgePeer(id), |_| true);
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

    pub(super) fn mark_stale(&mut self, session: SessionId, family: Family) {
        let Some(id) = self.peers.by_session(session) else {
            return;
        };
        // A sweep still under way compares with the parity that is about to flip: finish it first.
        while let Some(i) = self
            .work
            .iter()
            .position(|w| w.task == Task::SweepStale(id))
        {
            let Some(mut work) = self.work.remove(i) else {
                break;
            };
            let mut ignored = Vec::new();
            while self.slice(&mut work, &mut ignored) {}
            self.deferred.append(&mut ignored);
        }
        if let Some(peer) = self.peers.get_mut(id) {
            peer.epoch[slot(family)] ^= true;
        }
    }

    pub(super) fn sweep_stale(&mut self, session: SessionId, family: Family) {
        if let Some(id) = self.peers.by_session(session) {
            self.queue(Task::SweepStale(id), |key| key.1 == family);
        }
    }

    pub(super) fn next_hops_changed(&mut self, states: &[(NextHop, NextHopState)]) {
        let mut changed = false;
        for (next_hop, state) in states {
            changed |= self.next_hops.set_state(next_hop, *state);
        }
        if changed {
            self.queue(Task::Reselect, |_| true);
        }
    }

    pub(super) fn set_context(&mut self, context: ImportContext) {
        if self.context != context {
            self.context = context;
            self.queue(Task::Reimport(None), |_| true);
        }
    }

    pub(super) fn set_policies(&mut self, session: SessionId, import: Chain, export: Chain) {
        let Some(id) = self.peers.by_session(session) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.up.import != import {
            peer.up.import = import;
            self.queue(Task::Reimport(Some(id)), |_| true);
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.up.export == export {
            return;
        }
        peer.up.export = export;
        // Another export policy is another group.
        let up = peer.up.clone();
        let announced = self.groups.leave(id);
        self.release_later(announced);
        for family in Family::ALL {
            if up.families[slot(family)]
                && let Some(new_group) = self.groups.rejoin(&up, id, family)
            {
                self.populate(new_group, (up.table, family));
            }
        }
    }

    fn populate(&mut self, group: usize, table: TableKey) {
        self.work.push_back(Work {
            task: Task::Populate(group),
            tables: vec![table],
            next: 0,
        });
    }

    /// Gives references back; what that means for the tracker goes out with the next slice.
    pub(super) fn release_later(&mut self, attrs: Vec<AttrId>) {
        let mut out = std::mem::take(&mut self.deferred);
        for attrs in attrs {
            self.release(attrs, &mut out);
        }
        self.deferred = out;
    }

    fn queue(&mut self, task: Task, wanted: impl Fn(&TableKey) -> bool) {
        // A cursor that has not started yet sees all there is to see.
        if self.work.iter().any(|w| w.task == task && w.next == 0)
            && !matches!(task, Task::SweepStale(_))
        {
            return;
        }
        let tables = self.tables.keys().copied().filter(wanted).collect();
        self.work.push_back(Work {
            task,
            tables,
            next: 0,
        });
    }

    /// Does one slice. True when more can be done now; false when all is done or waits for permits.
    pub fn work(&mut self, out: &mut Vec<Output>) -> bool {
        out.append(&mut self.deferred);
        if let Some(mut work) = self.work.pop_front()
            && self.slice(&mut work, out)
        {
            self.work.push_front(work);
        }
        let mut more = !self.work.is_empty();
        let keys: Vec<TableKey> = self.tables.keys().copied().collect();
        for key in keys {
            more |= self.drain(key, out);
        }
        more | self.deliver(out)
    }

    /// Handles an event and does all work that follows, without slices: for tests and simulations.
    pub fn settle(&mut self, now: u32, event: Event, out: &mut Vec<Output>) {
        self.handle(now, event, out);
        while self.work(out) {}
    }

    /// One slice of a cursor; whether it has more to do.
    fn slice(&mut self, work: &mut Work, out: &mut Vec<Output>) -> bool {
        let Some(&key) = work.tables.last() else {
            self.finish(work.task);
            return false;
        };
        let end = self.tables.get(&key).map_or(0, |s| s.table.end());
        let stop = work.next.saturating_add(SLICE).min(end);
        match work.task {
            Task::Populate(group) => {
                let ids: Vec<PrefixId> = (work.next..stop).map(PrefixId).collect();
                self.announce_changes(key, &ids, Some(group));
            }
            task => {
                for id in (work.next..stop).map(PrefixId) {
                    self.visit(task, key, id, out);
                }
            }
        }
        work.next = stop;
        if stop >= end {
            work.tables.pop();
            work.next = 0;
        }
        if work.tables.is_empty() {
            self.finish(work.task);
            return false;
        }
        true
    }

    fn finish(&mut self, task: Task) {
        match task {
            Task::PurgePeer(peer) => self.peers.remove(peer),
            Task::Populate(group) => self.groups.populated(group),
            Task::SweepStale(_) | Task::Reselect | Task::Reimport(_) => {}
        }
    }

    fn visit(&mut self, task: Task, key: TableKey, id: PrefixId, out: &mut Vec<Output>) {
        let Some(entry) = self.tables.get(&key).and_then(|s| s.table.get(id)) else {
            return;
        };
        match task {
            Task::PurgePeer(peer) => {
                while let Some(i) = self.find_path(key, id, |p| p.peer == peer) {
                    self.remove_path(key, id, i, out);
                }
            }
            Task::SweepStale(peer) => {
                let epoch = self.peers.get(peer).is_some_and(|p| p.epoch[slot(key.1)]);
                while let Some(i) = self.find_path(key, id, |p| {
                    p.peer == peer && p.flags.has(PathFlags::EPOCH) != epoch
                }) {
                    self.remove_path(key, id, i, out);
                }
            }
            Task::Reselect => {
                let before = entry.best_path().copied();
                self.reselect(key, id, before);
            }
            Task::Reimport(only) => self.reimport(key, id, only),
            Task::Populate(_) => {}
        }
    }

    fn find_path(
        &self,
        key: TableKey,
        id: PrefixId,
        wanted: impl Fn(&super::table::Path) -> bool,
    ) -> Option<usize> {
        let entry = self.tables.get(&key)?.table.get(id)?;
        entry.paths.iter().position(wanted)
    }

    fn reimport(&mut self, key: TableKey, id: PrefixId, only: Option<PeerId>) {
        let Some(entry) = self.tables.get_mut(&key).and_then(|s| s.table.get_mut(id)) else {
            return;
        };
        let before = entry.best_path().copied();
        let prefix = entry.prefix;
        for path in &mut entry.paths {
            if only.is_some_and(|only| only != path.peer) {
                continue;
            }
            let Some(peer) = self.peers.get_mut(path.peer) else {
                continue;
            };
            let was = path.flags.accepted();
            let filtered = peer.up.import.import(&self.context, &prefix).is_err();
            path.flags.set(PathFlags::FILTERED, filtered);
            let family = slot(key.1);
            peer.accepted[family] =
                peer.accepted[family] + u64::from(path.flags.accepted()) - u64::from(was);
        }
        self.reselect(key, id, before);
    }

    /// Takes changed prefixes from the queue: to the kernel and to every update group. Whether more are left.
    fn drain(&mut self, key: TableKey, out: &mut Vec<Output>) -> bool {
        let Some(state) = self.tables.get_mut(&key) else {
            return false;
        };
        let ids = state.take_dirty(SLICE as usize);
        if !ids.is_empty() {
            for &id in &ids {
                let Some(entry) = state.table.get(id) else {
                    continue;
                };
                let next_hop = entry
                    .best_path()
                    .map(|path| self.attrs.get(path.attrs).next_hop)
                    .filter(|next_hop| *next_hop != NextHopId::SELF)
                    .map(|next_hop| self.next_hops.next_hop(next_hop));
                out.push(Output::Fib(FibChange {
                    table: key.0,
                    prefix: entry.prefix,
                    next_hop,
                }));
            }
            self.announce_changes(key, &ids, None);
        }
        let Some(state) = self.tables.get_mut(&key) else {
            return false;
        };
        let more = !state.dirty.is_empty();
        if !more && !state.empty.is_empty() && !self.groups.any_behind(key) {
            for id in std::mem::take(&mut state.empty) {
                if state.table.get(id).is_some_and(|e| e.paths.is_empty()) {
                    state.table.remove(id);
                    self.groups.forget(key, id);
                }
            }
        }
        more
    }
}
