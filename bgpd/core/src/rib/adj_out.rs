//! Looking in, page by page: every path with the reason why it is or is not best, what a peer sent (rejected paths
//! too), and what it is sent, with the reason where it is not.
//!
//! Reads only. A page is bounded, and nothing is formatted here: attributes are shared with the RIB. The RIB moves on
//! between two pages; each prefix is told as it is at its own page.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp_wire::{Family, NextHop, PathAttributes};
use ipnet::IpNet;

use super::add_path::Ranking;
use super::best::{Ineligible, Verdict};
use super::groups::{Arrival, Leaving, Outlet};
use super::ids::{AttrId, NextHopId, PeerId, PrefixId};
use super::nexthops::NextHopState;
use super::table::{Entry, Path, PathFlags};
use super::update::slot;
use super::{PathSelection, Rib, TableId, TableState};
use crate::policy::{AttributeView, DecidedBy, Direction, RejectReason, RouteSource};

/// Prefixes that one page looks at, at most.
const PAGE_PREFIXES: u32 = if cfg!(test) { 4 } else { 4096 };
/// Paths after which a page ends; the last prefix is told whole.
const PAGE_PATHS: usize = if cfg!(test) { 6 } else { 2048 };

/// Which paths are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteQuery {
    /// Of which table.
    pub table: TableId,
    /// Only prefixes inside this one or around it.
    pub near: Option<IpNet>,
    /// Whose.
    pub side: Side,
}

/// A side of the RIB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// All paths.
    #[default]
    All,
    /// Adj-RIB-In of the peer of this name, rejected paths included.
    Received(Arc<str>),
    /// Adj-RIB-Out of the peer of this name. With [`RouteQuery::near`] also what it is not sent, and why.
    Advertised(Arc<str>),
}

/// Where the next page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    family: usize,
    next: u32,
}

/// Some paths, those of one prefix together.
#[derive(Clone, Debug)]
pub struct RoutePage {
    /// Prefixes in no order.
    pub routes: Vec<RouteDetail>,
    /// `None`: this was the last page.
    pub next: Option<Cursor>,
}

/// One path, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDetail {
    /// Destination.
    pub prefix: IpNet,
    /// The peer, by its place among [`Rib::sources`]; [`PeerId::LOCAL`]: the speaker itself.
    pub peer_id: PeerId,
    /// Name of the peer; `None` for a local route.
    pub peer: Option<Arc<str>>,
    /// Where it comes from.
    pub source: RouteSource,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
    /// Attributes after the import policy.
    pub attributes: PathAttributes,
    /// As received, where that was changed on the way in.
    pub received: Option<Received>,
    /// `None`: the speaker itself.
    pub next_hop: Option<NextHop>,
    /// Whether the next hop resolves.
    pub next_hop_state: NextHopState,
    /// What became of it in the choice of the best path.
    pub verdict: Verdict,
    /// Why the import policy rejects it, and who says so.
    pub rejected: Option<(RejectReason, DecidedBy)>,
    /// Left over from an ended session, or not repeated by the refresh under way.
    pub stale: bool,
    /// Seconds since it was received.
    pub age: u32,
    /// What the peer is sent, for [`Side::Advertised`] alone.
    pub sent: Option<Result<Sent, NotSent>>,
}

/// A route as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Attributes as received.
    pub attributes: PathAttributes,
    /// Next hop as received.
    pub next_hop: Option<NextHop>,
}

/// A route as a peer is sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Attributes as sent.
    pub attributes: PathAttributes,
    /// `None`: our own address on that session.
    pub next_hop: Option<NextHop>,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
}

/// Why a peer is not sent a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// Only the best path is sent.
    NotBest,
    /// Only this many paths are sent, the best ones (RFC 7911).
    NotAmongBest(u8),
    /// It may not be used, so nobody is sent it.
    Ineligible(Ineligible),
    /// The peer is where it comes from.
    Source,
    /// A well-known community forbids it (RFC 1997).
    Community(&'static str),
    /// The export policy rejects it.
    Rejected(RejectReason, DecidedBy),
    /// What one iBGP peer said is not told to another (RFC 4271 §9.2), unless one of them is a client of ours
    /// (RFC 4456).
    IbgpToIbgp,
    /// The peer's role forbids it: ONLY_TO_CUSTOMER (RFC 9234 §5).
    Role,
    /// This next hop is to be kept, or the route is reflected with it, and the peer does not take its kind (RFC 8950).
    NextHop(NextHop),
    /// With its attributes it does not fit a message of this many octets, the most that the peer takes (RFC 4271 §9.2,
    /// RFC 8654 §4).
    TooLong(usize),
    /// It is sent a default route of ours instead.
    OwnDefault,
    /// This aggregate is sent in its place.
    Suppressed(IpNet),
    /// The session has not negotiated the family, or we have no next hop of our own for it.
    NoOutlet,
    /// It is still to be worked out, or a rule of the session's forbids it.
    Other,
}

/// A source of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What paths refer to.
    pub peer_id: PeerId,
    /// Name of the peer.
    pub name: Arc<str>,
    /// Its BGP Identifier.
    pub bgp_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub remote_as: u32,
}

/// There is no session with the peer of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no session with {0} is Established: nothing is advertised to it")]
pub struct NoSession(pub Arc<str>);

/// A rejection in words: the reason, and the rule when there is one.
#[derive(Clone, Copy, Debug)]
pub struct Rejection<'a>(pub RejectReason, pub &'a DecidedBy);

impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (RejectReason::Denied, by) => write!(f, "{by}"),
            (reason, DecidedBy::Builtin(_)) => write!(f, "{reason}"),
            (reason, by) => write!(f, "{reason} ({by})"),
        }
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSent::NotBest => f.write_str("not the best path"),
            NotSent::NotAmongBest(count) => write!(f, "not among the {count} best paths"),
            NotSent::Ineligible(reason) => Verdict::Ineligible(*reason).fmt(f),
            NotSent::Source => f.write_str("split horizon: the peer is its source"),
            NotSent::Community(name) => write!(f, "well-known community {name}"),
            NotSent::Rejected(reason, by) => {
                write!(f, "rejected by export policy: {}", Rejection(*reason, by))
            }
            NotSent::IbgpToIbgp => f.write_str("learned over iBGP, and so is not told over iBGP"),
            NotSent::Role => f.write_str("ONLY_TO_CUSTOMER and the peer's role (RFC 9234)"),
            NotSent::NextHop(next_hop) => write!(
                f,
                "next hop {next_hop} is kept, and the peer takes none of its kind for this family \
                 (extendedNextHop on both sides, or another nextHop)"
            ),
            NotSent::TooLong(most) => write!(
                f,
                "its attributes do not fit the {most} octets of a message that the peer takes"
            ),
            NotSent::Suppressed(by) => write!(f, "suppressed by aggregate {by} (summaryOnly)"),
            NotSent::OwnDefault => f.write_str("defaultOriginate: our own is sent instead"),
            NotSent::NoOutlet => {
                f.write_str("family not negotiated, or no next hop of our own for it")
            }
            NotSent::Other => f.write_str("not announced by now"),
        }
    }
}

impl Rib {
    /// Peers that paths may come from.
    pub fn sources(&self) -> Vec<Source> {
        let source = |peer_id| {
            let up = &self.peers.get(peer_id)?.up;
            Some(Source {
                peer_id,
                name: up.name.clone(),
                bgp_id: up.bgp_id,
                address: up.address,
                remote_as: up.remote_as,
            })
        };
        self.peers.ids().filter_map(source).collect()
    }

    /// A page of paths, from `cursor` on. `now` is in seconds of the driver's clock.
    ///
    /// # Errors
    /// When what a peer is sent is asked for, and the peer has no session.
    pub fn look(
        &self,
        now: u32,
        query: &RouteQuery,
        cursor: Cursor,
    ) -> Result<RoutePage, NoSession> {
        let towards = match &query.side {
            Side::Advertised(name) => Some(self.by_name(name)?),
            Side::All | Side::Received(_) => None,
        };
        let mut routes = Vec::new();
        let mut left = PAGE_PREFIXES;
        let mut cursor = cursor;
        while let Some(family) = Family::ALL.get(cursor.family) {
            let Some(table) = self.find_table((query.table, *family)) else {
                cursor = cursor.next_family();
                continue;
            };
            let state = &self.tables[table];
            let outlet = towards.map(|peer| (peer, self.groups.towards(peer, state.key)));
            while cursor.next < state.table.end() {
                if left == 0 || routes.len() >= PAGE_PATHS {
                    return Ok(RoutePage {
                        routes,
                        next: Some(cursor),
                    });
                }
                left -= 1;
                let id = PrefixId(cursor.next);
                cursor.next += 1;
                if let Some(entry) = state.table.get(id)
                    && query.covers(&entry.prefix)
                {
                    let outlet = outlet.as_ref().map(|(_, outlet)| outlet.as_ref());
                    self.look_at(now, state, (id, entry), query, outlet, &mut routes);
                }
            }
            cursor = cursor.next_family();
        }
        Ok(RoutePage { routes, next: None })
    }

    fn by_name(&self, name: &Arc<str>) -> Result<PeerId, NoSession> {
        let alive = |id: &PeerId| {
            let peer = self.peers.get(*id);
            peer.is_some_and(|p| p.alive && p.up.name == *name)
        };
        self.peers
            .ids()
            .find(alive)
            .ok_or_else(|| NoSession(name.clone()))
    }

    fn look_at(
        &self,
        now: u32,
        state: &TableState,
        (id, entry): (PrefixId, &Entry),
        query: &RouteQuery,
        outlet: Option<Option<&Outlet<'_>>>,
        routes: &mut Vec<RouteDetail>,
    ) {
        let explained = query.near.is_some();
        if matches!(outlet, Some(None)) && !explained {
            return;
        }
        let selection = outlet.flatten().and_then(Outlet::paths);
        if let (Some(Some(outlet)), None, false) = (outlet, selection, explained)
            && entry
                .best_path()
                .and_then(|best| outlet.sent(id, best))
                .is_none()
        {
            return;
        }
        let ranking = selection
            .filter(|_| explained)
            .map(|selection| self.ranking(entry, selection.into()));
        let verdicts = self.verdicts(entry);
        let own = outlet
            .flatten()
            .is_some_and(|outlet| outlet.own_default(&entry.prefix));
        for (i, (path, verdict)) in entry.paths.iter().zip(verdicts).enumerate() {
            let peer = self.peers.get(path.peer).map(|p| &p.up.name);
            if let Side::Received(name) = &query.side
                && peer != Some(name)
            {
                continue;
            }
            let goes = match (own, selection) {
                (true, _) => path.flags.has(PathFlags::ON_DEMAND),
                (false, None) => entry.best.map(usize::from) == Some(i),
                (false, Some(selection)) => !explained || picks(selection, ranking.as_ref(), i),
            };
            let sent = outlet.flatten().filter(|_| goes || selection.is_some());
            let sent = match (outlet, sent.and_then(|outlet| outlet.sent(id, path))) {
                (None, _) => None,
                (Some(_), Some(sent)) => Some(Ok(self.sent(sent))),
                (Some(_), None) if !explained => continue,
                (Some(outlet), None) => Some(Err(match (outlet, selection) {
                    _ if !goes && own => NotSent::OwnDefault,
                    (_, None) if !goes => NotSent::NotBest,
                    (_, Some(selection)) if !goes => match (selection, verdict) {
                        (_, Verdict::Ineligible(reason)) => NotSent::Ineligible(reason),
                        (PathSelection::Best(count), _) => NotSent::NotAmongBest(count),
                        (PathSelection::All, _) => NotSent::Other,
                    },
                    (None, _) => NotSent::NoOutlet,
                    (Some(outlet), _) => match state.aggregates.suppress(&entry.prefix) {
                        Some(by) => NotSent::Suppressed(by),
                        None => outlet.why_not(&self.leaving(state, entry, path)),
                    },
                })),
            };
            let mut detail = self.detail(now, state, entry, path, verdict);
            detail.sent = sent;
            routes.push(detail);
        }
    }

    fn sent(&self, (attrs, path_id): (AttrId, u32)) -> Sent {
        let set = self.attrs.get(attrs);
        Sent {
            attributes: set.attributes.clone(),
            next_hop: self.next_hop_of(set.next_hop),
            path_id,
        }
    }

    fn next_hop_of(&self, id: NextHopId) -> Option<NextHop> {
        (id != NextHopId::SELF).then(|| self.next_hops.next_hop(id))
    }

    fn leaving<'a>(&'a self, state: &TableState, entry: &Entry, path: &Path) -> Leaving<'a> {
        let peer = self.peers.get(path.peer);
        Leaving {
            prefix: entry.prefix,
            route: self.route_view(state, path, path.attrs),
            source: path.peer,
            kind: path.flags.source(),
            from: Arrival::peer(peer),
            cluster_id: self.config.cluster_id,
        }
    }

    fn route_view<'a>(
        &'a self,
        state: &TableState,
        path: &Path,
        attrs: AttrId,
    ) -> AttributeView<'a> {
        let set = self.attrs.get(attrs);
        let peer = self.peers.get(path.peer);
        AttributeView {
            attributes: &set.attributes,
            next_hop: self.next_hop_of(set.next_hop),
            peer: peer.map(|p| &*p.up.name),
            source: path.flags.source().into(),
            family: state.key.1,
            local_as: peer.map_or(self.config.local_as, |p| p.up.local_as),
        }
    }

    fn detail(
        &self,
        now: u32,
        state: &TableState,
        entry: &Entry,
        path: &Path,
        verdict: Verdict,
    ) -> RouteDetail {
        let set = self.attrs.get(path.attrs);
        let peer = self.peers.get(path.peer);
        let rejected = peer
            .filter(|_| path.flags.has(PathFlags::FILTERED))
            .and_then(|peer| {
                let chain = &peer.up.import;
                // What is rejected is kept as it was before the policy.
                let part = chain.attribute_part(&self.route_view(state, path, path.attrs));
                let finished = chain.finish(&part, Direction::Import(&self.context), &entry.prefix);
                let reason = finished.result.err()?;
                Some((reason, chain.decided_by(&finished)))
            });
        RouteDetail {
            prefix: entry.prefix,
            peer_id: path.peer,
            peer: peer.map(|p| p.up.name.clone()),
            source: path.flags.source(),
            path_id: path.path_id,
            attributes: set.attributes.clone(),
            received: (path.received != path.attrs).then(|| {
                let set = self.attrs.get(path.received);
                Received {
                    attributes: set.attributes.clone(),
                    next_hop: self.next_hop_of(set.next_hop),
                }
            }),
            next_hop: self.next_hop_of(set.next_hop),
            next_hop_state: self.next_hops.state(set.next_hop),
            verdict,
            rejected,
            stale: peer.is_some_and(|p| {
                !p.alive || p.refresh[slot(state.key.1)].epoch != path.flags.epoch()
            }),
            age: now.saturating_sub(path.time),
            sent: None,
        }
    }
}

/// Whether path `i` is one of those that a selection picks.
fn picks(selection: PathSelection, ranking: Option<&Ranking>, i: usize) -> bool {
    let ranked = (0u16..).zip(ranking.into_iter().flatten());
    let mut picked = ranked.filter(|(rank, _)| selection.takes(*rank));
    picked.any(|(_, place)| usize::from(*place) == i)
}

impl RouteQuery {
    fn covers(&self, prefix: &IpNet) -> bool {
        self.near
            .is_none_or(|near| near.contains(prefix) || prefix.contains(&near))
    }
}

impl Cursor {
    fn next_family(self) -> Self {
        Self {
            family: self.family + 1,
            next: 0,
        }
    }
}
