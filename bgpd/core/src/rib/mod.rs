//! The RIB: Adj-RIB-In, Loc-RIB and Adj-RIB-Out of one speaker, owned by one thread.
//!
//! Owns: all paths, their interned attributes, next-hop state, the best path of every prefix, and what every update
//! group has announced. Never does: I/O, waiting, reading a clock. The driver feeds [`Event`]s with [`Rib::handle`],
//! calls [`Rib::work`] until it says that nothing is left, and carries out the [`Output`]s.
//!
//! ```text
//!  Event::Update ─► update.rs ─► table.rs: paths ─► best.rs ─► dirty prefixes
//!  Event::NextHop, PeerDown, Policy ─► work.rs: cursors over the tables ─┘   │
//!                        Output::Fib ◄── work.rs: drain ◄────────────────────┤
//!  Output::Send ◄─ groups/: export once, encode once, ring or walk per peer ◄┘
//! ```

mod add_path;
mod adj_out;
mod aggregate;
mod attrs;
pub mod best;
#[cfg(test)]
mod check;
mod forward;
mod groups;
mod ids;
mod import;
mod index;
mod monitor;
mod nexthops;
mod originate;
mod pages;
mod peers;
mod queue;
mod relation;
mod table;
mod update;
mod view;
mod work;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp_wire::{EncodeContext, Family, NextHop, Nlri, PathAttributes};
use bytes::Bytes;
use hashbrown::HashMap;
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::policy::{Chain, ImportContext};

pub use add_path::PathSelection;
pub use adj_out::{
    Cursor, NoSession, NotSent, Received, Rejection, RouteDetail, RoutePage, RouteQuery, Sent,
    Side, Source,
};
pub use aggregate::Aggregate;
pub use best::multipath::Multipath;
pub use ids::{PeerId, SessionId, TableId};
pub use monitor::{
    ImportCounters, MonitorPage, MonitoredPath, Overrun, ReaderId, Statistics, WalkCursor,
};
pub use nexthops::NextHopState;
pub use originate::Originated;
pub use relation::{DefaultOriginate, Migration, NextHopMode, Relation};
pub use table::MAX_PATHS_OF_PEER;
pub use view::{FamilyCounters, PathView, RibSummary};

use aggregate::Aggregates;
use attrs::AttrTable;
use groups::Groups;
use ids::{AttrId, PrefixId};
use monitor::ChangeLog;
use nexthops::NextHopTable;
use peers::Peers;
use queue::PrefixQueue;
use table::Table;
use work::Work;

/// What the RIB must know of the speaker.
#[derive(Clone, Debug)]
pub struct RibConfig {
    /// Our AS, for loop detection of peers without an AS of their own towards us.
    pub local_as: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our cluster, as a route reflector (RFC 4456 §7); usually our BGP Identifier.
    pub cluster_id: Ipv4Addr,
    /// Keys the hashes over what peers choose.
    pub seed: u64,
    /// Take every next hop for reachable: a speaker without a view of the kernel.
    pub assume_next_hops: bool,
}

/// How MULTI_EXIT_DISC is compared (RFC 4271 §9.1.2.2 c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MedRules {
    /// Between paths of all neighbouring ASes, not only within one.
    pub always_compare: bool,
    /// A path without one has the worst, not the best.
    pub missing_is_worst: bool,
}

impl MedRules {
    fn missing(self) -> u32 {
        if self.missing_is_worst { u32::MAX } else { 0 }
    }
}

/// A session that became Established.
#[derive(Clone, Debug)]
pub struct PeerUp {
    /// Never used before.
    pub session: SessionId,
    /// Name of the peer, for views.
    pub name: Arc<str>,
    /// The table that its routes go to.
    pub table: TableId,
    /// The peer's AS.
    pub remote_as: u32,
    /// Our AS towards it.
    pub local_as: u32,
    /// The peer's BGP Identifier.
    pub bgp_id: Ipv4Addr,
    /// The peer's address.
    pub address: IpAddr,
    /// Negotiated families, in [`Family::ALL`] order.
    pub families: [bool; 2],
    /// Our own address as a next hop towards this peer, per family; a family without one is received, not sent.
    pub next_hop_self: [Option<NextHop>; 2],
    /// How UPDATEs to this peer are written.
    pub encode: EncodeContext,
    /// Import policy.
    pub import: Chain,
    /// Export policy.
    pub export: Chain,
    /// What the peer is to us beyond that.
    pub relation: Relation,
}

impl PeerUp {
    fn ebgp(&self) -> bool {
        self.remote_as != self.local_as
    }
}

/// What happens to a peer's paths when its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDown {
    /// They go at once.
    Purge,
    /// They stay as stale until this second of the driver's clock (RFC 4724 §4.2).
    Retain {
        /// Seconds of the driver's clock.
        until: u32,
    },
}

/// What one UPDATE says about one family.
#[derive(Clone, Debug)]
pub struct FamilyUpdate {
    /// Which family.
    pub family: Family,
    /// Withdrawn routes.
    pub withdrawn: Vec<Nlri>,
    /// Announced routes, with `attributes`.
    pub announced: Vec<Nlri>,
    /// Attributes and next hop of `announced`; `None` when nothing is announced.
    pub attributes: Option<(PathAttributes, NextHop)>,
}

/// What the RIB is told. The first four of them come from sessions.
#[derive(Debug)]
pub enum Event {
    /// A session is Established.
    PeerUp(Box<PeerUp>),
    /// A session ended.
    PeerDown(SessionId, PeerDown),
    /// A decoded UPDATE.
    Update(SessionId, Vec<FamilyUpdate>),
    /// The session can take this many more octets of messages; the last message may go beyond.
    Permit(SessionId, u32),
    /// The peer has sent all it has (RFC 4724 §2).
    EndOfRib(SessionId, Family),
    /// The peer asks for all we announce (RFC 2918).
    RefreshRequest(SessionId, Family),
    /// The peer begins to send all it has again (RFC 7313 §4).
    RefreshBegin(SessionId, Family),
    /// It is through: what it did not repeat is gone.
    RefreshEnd(SessionId, Family),
    /// Answers of the next-hop tracker.
    NextHops(Vec<(NextHop, NextHopState)>),
    /// Originate or withdraw (`None`) local routes.
    Local(TableId, Vec<(IpNet, Option<Originated>)>),
    /// Aggregate exactly these prefixes, from now on.
    Aggregates(TableId, Vec<Aggregate>),
    /// What the import policy `default` measures against.
    ImportContext(ImportContext),
    /// Whether learned best paths go to the kernel ([`Output::Fib`]). When that comes on, all of them are told again.
    Install(bool),
    /// Our cluster, as a route reflector, from now on (RFC 4456 §7).
    ClusterId(Ipv4Addr),
    /// How MEDs are compared from now on.
    MedRules(MedRules),
    /// Which paths share the traffic of a prefix from now on.
    Multipath(Multipath),
    /// Policies of a session, changed without a reset.
    Policies(SessionId, Chain, Chain, Relation),
    /// Time passes: retained paths may be due.
    Tick,
}

/// An encoded UPDATE on its way to one or many peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutMessage {
    /// The message; shared by all peers of an update group.
    pub bytes: Bytes,
    /// Offset and length of the next hop, when the session must put its own address there.
    pub next_hop_at: Option<(usize, usize)>,
}

/// A route for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibChange {
    /// Which table.
    pub table: TableId,
    /// Destination.
    pub prefix: IpNet,
    /// Next hops of the best path and of those that share with it, no two alike; empty: no learned best path, remove
    /// what was there.
    pub next_hops: SmallVec<[Forward; 1]>,
    /// An aggregate of ours is best: what nothing inside it leads to goes nowhere (RFC 4271 §9.2.2.2 leaves loops to
    /// whoever announces more than he reaches).
    pub discard: bool,
}

/// One of the ways that packets to a prefix are shared out to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// The next hop as BGP has it, yet to be resolved.
    pub next_hop: NextHop,
    /// Share among several, 1 to 256.
    pub weight: u16,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to a session, in this order.
    Send(SessionId, OutMessage),
    /// Install or remove.
    Fib(FibChange),
    /// Tell the state of this next hop now and whenever it changes.
    Track(NextHop),
    /// No longer.
    Untrack(NextHop),
}

/// A table with its queues of changed prefixes.
struct TableState {
    key: TableKey,
    table: Table,
    /// Another best path.
    dirty: PrefixQueue,
    /// The best path is the same, but others changed: for those who are sent several.
    other_paths: PrefixQueue,
    /// How many prefixes have a best path.
    chosen: u64,
    /// Lost their last path, oldest first: to be forgotten when they are many and no peer's walk may still have to
    /// withdraw them. Some may have one again. Each at most once.
    empty: VecDeque<PrefixId>,
    aggregates: Aggregates,
}

type TableKey = (TableId, Family);

/// Index of [`Rib::tables`]; a table that came into being stays.
type TableIndex = usize;

/// See the module's documentation.
pub struct Rib {
    config: RibConfig,
    attrs: AttrTable,
    next_hops: NextHopTable,
    /// Few: looked up once per UPDATE, then by index.
    tables: Vec<TableState>,
    peers: Peers,
    groups: Groups,
    context: ImportContext,
    work: VecDeque<Work>,
    /// For those who follow what peers send.
    changes: ChangeLog,
    /// Peers retained after their session, with their deadline.
    retained: HashMap<PeerId, u32>,
    /// References of update groups that are gone, given back slice by slice.
    garbage: Vec<AttrId>,
    /// Whether learned best paths go to the kernel.
    install: bool,
    med: MedRules,
    multipath: Multipath,
    /// Default routes are there for exactly the groups that ask for one.
    defaults_checked: bool,
    now: u32,
    /// Room for the lookups of an event.
    known: Vec<Option<PrefixId>>,
}

impl Rib {
    /// An empty RIB.
    pub fn new(config: RibConfig) -> Self {
        let mut next_hops = NextHopTable::default();
        next_hops.reserve_self();
        Self {
            attrs: AttrTable::new(config.seed),
            next_hops,
            tables: Vec::new(),
            peers: Peers::default(),
            groups: Groups::default(),
            context: ImportContext::default(),
            work: VecDeque::new(),
            changes: ChangeLog::default(),
            retained: HashMap::new(),
            garbage: Vec::new(),
            install: true,
            med: MedRules::default(),
            multipath: Multipath::OFF,
            defaults_checked: true,
            now: 0,
            known: Vec::new(),
            config,
        }
    }

    /// Takes one event. `now` is in seconds of the driver's clock. What follows from it for other peers waits for
    /// [`Rib::work`].
    pub fn handle(&mut self, now: u32, event: Event, out: &mut Vec<Output>) {
        self.now = now;
        match event {
            Event::PeerUp(up) => self.peer_up(*up),
            Event::PeerDown(session, how) => self.peer_down(session, how),
            Event::Update(session, families) => self.update(session, &families, out),
            Event::Permit(session, count) => self.peers.permit(session, count),
            Event::EndOfRib(session, family) => self.end_of_rib(session, family),
            Event::RefreshRequest(session, family) => self.refresh_request(session, family),
            Event::RefreshBegin(session, family) => self.refresh_begin(session, family),
            Event::RefreshEnd(session, family) => self.refresh_end(session, family),
            Event::NextHops(states) => self.next_hops_changed(&states),
            Event::Local(table, routes) => self.local(table, &routes),
            Event::Aggregates(table, aggregates) => self.set_aggregates(table, aggregates),
            Event::ImportContext(context) => self.set_context(context),
            Event::Install(on) => self.set_install(on),
            Event::ClusterId(id) => self.set_cluster_id(id),
            Event::MedRules(rules) => self.set_med_rules(rules),
            Event::Multipath(rules) => self.set_multipath(rules),
            Event::Policies(session, import, export, relation) => {
                self.set_policies(session, (import, export, relation));
            }
            Event::Tick => {}
        }
        self.expire_retained();
        self.check_defaults();
    }

    /// When [`Event::Tick`] is due next, in seconds of the driver's clock.
    pub fn next_deadline(&self) -> Option<u32> {
        self.retained.values().min().copied()
    }

    fn find_table(&self, key: TableKey) -> Option<TableIndex> {
        self.tables.iter().position(|state| state.key == key)
    }

    /// The table of this key, made when it is new.
    fn table_of(&mut self, key: TableKey) -> TableIndex {
        self.find_table(key).unwrap_or_else(|| {
            self.tables.push(TableState {
                key,
                table: Table::new(self.config.seed),
                dirty: PrefixQueue::default(),
                other_paths: PrefixQueue::default(),
                chosen: 0,
                empty: VecDeque::new(),
                aggregates: Aggregates::default(),
            });
            self.tables.len() - 1
        })
    }
}

impl TableState {
    /// All groups and the kernel are to be told of a prefix.
    fn mark_dirty(&mut self, id: PrefixId) {
        self.dirty.push(id);
    }

    /// Puts a prefix that lost its last path into the list of empty ones, once.
    fn mark_empty(&mut self, id: PrefixId) {
        if let Some(entry) = self.table.get_mut(id)
            && !std::mem::replace(&mut entry.listed_empty, true)
        {
            self.empty.push_back(id);
        }
    }
}
