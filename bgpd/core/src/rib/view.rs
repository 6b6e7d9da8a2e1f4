//! Looking in: every path with the reason why it is or is not best, and counts.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bgp_wire::{Family, NextHop};
use ipnet::IpNet;

use super::best::Verdict;
use super::ids::{NextHopId, PeerId, SessionId};
use super::table::Entry;
use super::update::slot;
use super::{Rib, TableId};
use crate::policy::{RejectReason, RouteSource};

/// One path of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    /// Destination.
    pub prefix: IpNet,
    /// Name of the peer; `None` for a local route.
    pub peer: Option<Arc<str>>,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
    /// Where it comes from.
    pub source: RouteSource,
    /// `None`: the speaker itself.
    pub next_hop: Option<NextHop>,
    /// AS_PATH in words, empty for a local route.
    pub as_path: String,
    /// BGP Identifier of the peer.
    pub bgp_id: Option<Ipv4Addr>,
    /// What became of it in the choice of the best path.
    pub verdict: Verdict,
    /// Why the import policy rejects it.
    pub rejected: Option<RejectReason>,
    /// Left over from an ended session, or not repeated by the refresh under way.
    pub stale: bool,
    /// Seconds of the driver's clock.
    pub received: u32,
}

/// Counts of one family of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyCounters {
    /// Paths in the Adj-RIB-In.
    pub received: u64,
    /// Of these, let in.
    pub accepted: u64,
    /// Prefixes in the Adj-RIB-Out; with ADD-PATH, paths.
    pub advertised: u64,
    /// Paths that were not taken, since their prefix has as many of the peer as are kept; since the session began.
    pub refused: u64,
    /// The peer sent End-of-RIB.
    pub end_of_rib: bool,
}

/// Sizes of the whole RIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RibSummary {
    /// Prefixes with a path.
    pub prefixes: u64,
    /// Paths.
    pub paths: u64,
    /// Distinct attribute sets.
    pub attribute_sets: usize,
    /// Update groups.
    pub groups: usize,
}

impl Rib {
    /// Every path of a table, ordered by prefix, best first; `only` picks one prefix.
    pub fn paths(&self, table: TableId, only: Option<&IpNet>) -> Vec<PathView> {
        let mut views = Vec::new();
        for state in self.tables.iter().filter(|state| state.key.0 == table) {
            let entries: Box<dyn Iterator<Item = &Entry>> = match only {
                Some(only) => Box::new(
                    state
                        .table
                        .find(&only.trunc())
                        .and_then(|id| state.table.get(id))
                        .into_iter(),
                ),
                None => Box::new(state.table.iter()),
            };
            for entry in entries.filter(|entry| !entry.paths.is_empty()) {
                let verdicts = self.verdicts(entry);
                for (path, verdict) in entry.paths.iter().zip(verdicts) {
                    let set = self.attrs.get(path.attrs);
                    let peer = self.peers.get(path.peer);
                    let import =
                        peer.and_then(|p| p.up.import.import(&self.context, &entry.prefix).err());
                    views.push(PathView {
                        prefix: entry.prefix,
                        peer: peer.map(|p| p.up.name.clone()),
                        path_id: path.path_id,
                        source: path.flags.source(),
                        next_hop: (set.next_hop != NextHopId::SELF)
                            .then(|| self.next_hops.next_hop(set.next_hop)),
                        as_path: set.attributes.as_path().to_string(),
                        bgp_id: peer.map(|p| p.up.bgp_id),
                        verdict,
                        rejected: import,
                        stale: peer.is_some_and(|p| {
                            !p.alive || p.refresh[slot(state.key.1)].epoch != path.flags.epoch()
                        }),
                        received: path.time,
                    });
                }
            }
        }
        views.sort_by(|a, b| {
            let key = |p: &PathView| (p.prefix, !matches!(p.verdict, Verdict::Best(_)));
            let order = key(a).cmp(&key(b));
            order.then_with(|| (&a.peer, a.path_id).cmp(&(&b.peer, b.path_id)))
        });
        views
    }

    /// Counts of a session, in [`Family::ALL`] order; `None` for a family that was not negotiated.
    pub fn counters(&self, session: SessionId) -> [Option<FamilyCounters>; 2] {
        let Some(id) = self.peers.by_session(session) else {
            return [None; 2];
        };
        let Some(peer) = self.peers.get(id) else {
            return [None; 2];
        };
        Family::ALL.map(|family| {
            let i = slot(family);
            peer.up.families[i].then(|| FamilyCounters {
                received: peer.received[i],
                accepted: peer.accepted[i],
                advertised: self.groups.advertised(id, family),
                refused: peer.refused[i],
                end_of_rib: peer.end_of_rib[i],
            })
        })
    }

    /// Sizes of the whole RIB.
    pub fn summary(&self) -> RibSummary {
        let entries = self.tables.iter().flat_map(|s| s.table.iter());
        let (mut prefixes, mut paths) = (0, 0);
        for entry in entries.filter(|e| !e.paths.is_empty()) {
            prefixes += 1;
            paths += entry.paths.len() as u64;
        }
        RibSummary {
            prefixes,
            paths,
            attribute_sets: self.attrs.len(),
            groups: self.groups.len(),
        }
    }

    /// Peers that have paths or a session.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.ids()
    }
}
