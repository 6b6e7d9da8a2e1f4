//! What the kernel is told: where packets to a prefix go by way of learned routes.
//!
//! Owns nothing. The best path alone goes to peers; here those that share the traffic with it come in
//! ([`best::multipath`]). A prefix is told again when its best path changes, or a path that shares or could share.

use bgp_wire::{Hot, attr_type};
use smallvec::SmallVec;

use super::aggregate::is_aggregate;
use super::best::multipath::{self, Multipath, Traits};
use super::best::{self, Verdict};
use super::ids::{NextHopId, PeerId, PrefixId};
use super::table::{Entry, Path};
use super::update::DEFAULT_LOCAL_PREF;
use super::{FibChange, Forward, Output, Rib, TableIndex};

impl Rib {
    /// Other paths share from now on.
    pub(super) fn set_multipath(&mut self, rules: Multipath) {
        if std::mem::replace(&mut self.multipath, rules) != rules {
            self.tell_kernel_all();
        }
    }

    /// Where packets to a prefix go, or that they go nowhere by way of a learned route.
    pub(super) fn tell_kernel(&self, table: TableIndex, id: PrefixId, out: &mut Vec<Output>) {
        let state = &self.tables[table];
        let Some(entry) = state.table.get(id) else {
            return;
        };
        out.push(Output::Fib(FibChange {
            table: state.key.0,
            prefix: entry.prefix,
            next_hops: self.next_hops_of(entry),
            discard: entry.best_path().is_some_and(is_aggregate),
        }));
    }

    fn next_hops_of(&self, entry: &Entry) -> SmallVec<[Forward; 1]> {
        let Some(best) = entry.best_path() else {
            return SmallVec::new();
        };
        let next_hop = self.attrs.get(best.attrs).next_hop;
        if next_hop == NextHopId::SELF {
            return SmallVec::new();
        }
        let mut may_share = entry.paths.iter().filter(|path| self.may_share(path, best));
        if self.multipath.is_off() || may_share.nth(1).is_none() {
            let next_hop = self.next_hops.next_hop(next_hop);
            return SmallVec::from_buf([Forward {
                next_hop,
                weight: 1,
            }]);
        }
        let shared = multipath::select(&self.candidates(entry), &self.multipath, |i| {
            self.traits(&entry.paths[i])
        });
        let paths = || shared.iter().map(|i| &entry.paths[usize::from(*i)]);
        let bandwidth = |path: &Path| {
            let communities = self.attrs.get(path.attrs).attributes.ext_communities();
            multipath::link_bandwidth(communities).filter(|_| self.multipath.link_bandwidth)
        };
        let bandwidths: SmallVec<[Option<f32>; 4]> = paths().map(bandwidth).collect();
        let forward = |(path, weight): (&Path, u16)| Forward {
            next_hop: self.next_hops.next_hop(self.attrs.get(path.attrs).next_hop),
            weight,
        };
        paths()
            .zip(multipath::weights(&bandwidths))
            .map(forward)
            .collect()
    }

    /// What became of each path of a prefix.
    pub(super) fn verdicts(&self, entry: &Entry) -> Vec<Verdict> {
        let candidates = self.candidates(entry);
        if self.multipath.is_off() {
            return best::explain(&candidates);
        }
        multipath::explain_shared(&candidates, &self.multipath, |i| {
            self.traits(&entry.paths[i])
        })
    }

    fn traits(&self, path: &Path) -> Traits<'_> {
        let set = self.attrs.get(path.attrs);
        Traits {
            as_path: set
                .attributes
                .raw(attr_type::AS_PATH)
                .map_or(&[], |(_, value)| value),
            next_hop: set.next_hop.0,
        }
    }

    /// Whether `path` can be, or can keep others from being, among those that share with `best`. Cheap, and true too often
    /// rather than too seldom: a path has a say in MED (RFC 4271 §9.1.2.2 c) even if it is dropped later.
    fn may_share(&self, path: &Path, best: &Path) -> bool {
        if path.peer == PeerId::LOCAL || best.peer == PeerId::LOCAL || !path.flags.accepted() {
            return false;
        }
        let hot = |path: &Path| self.attrs.get(path.attrs).attributes.hot();
        let (path, best) = (hot(path), hot(best));
        let before_med = |hot: &Hot| {
            let local_pref = hot.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
            (local_pref, hot.as_path_len, hot.origin)
        };
        let any_neighbor = self.multipath.as_path_relax || self.med.always_compare;
        before_med(path) == before_med(best)
            && (any_neighbor || path.neighbor_as == best.neighbor_as)
    }

    /// A path of a prefix changed, came (`old` is `None`) or went (`new` is `None`); `before` was the best one. Has the
    /// kernel told again if the change may concern those that share.
    pub(super) fn multipath_changed(
        &mut self,
        table: TableIndex,
        id: PrefixId,
        before: Option<Path>,
        old: Option<Path>,
        new: Option<Path>,
    ) {
        if !self.install || self.multipath.is_off() {
            return;
        }
        let Some(entry) = self.tables[table].table.get(id) else {
            return;
        };
        let alone = entry.paths.len() + usize::from(new.is_none()) < 2;
        let says = |path: &Path| (path.attrs, path.flags.accepted());
        if alone || old.as_ref().map(says) == new.as_ref().map(says) {
            return;
        }
        let after = entry.best_path().filter(|best| before != Some(**best));
        let best = [before.as_ref(), after];
        let concerns = |path: &Path| {
            let mut best = best.iter().flatten();
            best.any(|best| self.may_share(path, best))
        };
        if old.iter().chain(&new).any(concerns) {
            self.tables[table].mark_dirty(id);
        }
    }

    /// Next hops changed: has the kernel told again where that may concern those that share.
    pub(super) fn multipath_may_have_changed(
        &mut self,
        table: TableIndex,
        id: PrefixId,
        before: Option<Path>,
    ) {
        if !self.install || self.multipath.is_off() {
            return;
        }
        let Some(entry) = self.tables[table].table.get(id) else {
            return;
        };
        let best = [before.as_ref(), entry.best_path()];
        let concerns = |path: &&Path| {
            let next_hop = self.attrs.get(path.attrs).next_hop;
            let mut best = best.iter().flatten();
            self.next_hops.has_moved(next_hop) && best.any(|best| self.may_share(path, best))
        };
        if entry.paths.len() > 1 && entry.paths.iter().any(|path| concerns(&path)) {
            self.tables[table].mark_dirty(id);
        }
    }
}
