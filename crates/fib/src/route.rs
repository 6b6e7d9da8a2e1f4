//! Vocabulary: what a source wants in the kernel, and what became of it. No I/O.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::{SmallVec, smallvec};

/// A list that nearly always has one element.
pub type SmallList<T> = SmallVec<[T; 1]>;

/// Who wants a route.
///
/// The kernel keeps one route of ours per prefix *and metric*. When two sources want the same prefix with the same
/// metric, the lowest in this order wins and the other one waits, to take over when the first withdraws. Routes of one
/// prefix with different metrics coexist, and the kernel forwards by the lowest metric.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Source {
    /// A pod attached to this node: its address is behind a local interface.
    Pod,
    /// A block owned by this node: an `unreachable` route with [`crate::WORST_METRIC`].
    Block,
    /// A path that BGP selected.
    Bgp,
}

impl Source {
    /// All sources, best first.
    pub const ALL: [Source; 3] = [Source::Pod, Source::Block, Source::Bgp];
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Pod => "pod",
            Source::Block => "block",
            Source::Bgp => "bgp",
        })
    }
}

/// One way to a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NextHop {
    /// The router to hand packets to; an IPv6 gateway is allowed for an IPv4 prefix (RFC 8950).
    pub gateway: IpAddr,
    /// Outgoing interface. `None` lets the kernel choose; required for a link-local gateway.
    pub ifindex: Option<u32>,
    /// Share of traffic among several next hops, 1–256 (0 counts as 1). Ignored for a single next hop.
    pub weight: u16,
}

impl NextHop {
    /// The weight as the kernel takes it.
    pub(crate) fn share(&self) -> u16 {
        self.weight.clamp(1, MAX_WEIGHT)
    }
}

/// The highest weight that every kernel with next-hop groups takes.
const MAX_WEIGHT: u16 = 256;

/// What a route does with packets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteKind {
    /// Through one or more routers. One is a plain route, which survives loss of carrier as `linkdown`. Several are a
    /// next-hop group that all routes with the same next hops share; a plain multipath route where a next hop leaves its
    /// interface open, or where no link of theirs is alive.
    Via(SmallList<NextHop>),
    /// Directly on an interface (scope link in IPv4).
    Device {
        /// Index of the interface.
        ifindex: u32,
    },
    /// Dropped with ICMP unreachable.
    Unreachable,
}

impl RouteKind {
    /// A route with one next hop.
    pub fn via(gateway: IpAddr, ifindex: Option<u32>) -> Self {
        RouteKind::Via(smallvec![NextHop {
            gateway,
            ifindex,
            weight: 1
        }])
    }
}

/// A route as it should be in the kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSpec {
    /// Destination; host bits are ignored.
    pub prefix: IpNet,
    /// What happens to packets.
    pub kind: RouteKind,
    /// Source address of packets that this host originates (`RTA_PREFSRC`).
    pub prefsrc: Option<IpAddr>,
    /// Kernel priority: lower wins. In IPv6 the kernel stores 0 as 1024, so 0 and 1024 are one key there.
    pub metric: u32,
}

/// Identity of a route of ours within the table, as the kernel sees it (TOS is always 0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RouteKey {
    /// Destination without host bits.
    pub prefix: IpNet,
    /// Priority as the kernel stores it.
    pub metric: u32,
}

/// `IP6_RT_PRIO_USER`: what the kernel makes of an IPv6 metric of 0.
const IPV6_DEFAULT_METRIC: u32 = 1024;

impl RouteKey {
    /// The key of a prefix and a metric, normalised as the kernel does.
    pub fn new(prefix: IpNet, metric: u32) -> Self {
        let metric = match prefix {
            IpNet::V6(_) if metric == 0 => IPV6_DEFAULT_METRIC,
            _ => metric,
        };
        RouteKey {
            prefix: prefix.trunc(),
            metric,
        }
    }
}

impl RouteSpec {
    /// The kernel's identity of this route.
    pub fn key(&self) -> RouteKey {
        RouteKey::new(self.prefix, self.metric)
    }
}

impl RouteKind {
    /// Whether `kernel`, read back from the kernel, is this. An interface that is left open here matches any.
    pub(crate) fn satisfied_by(&self, kernel: &RouteKind) -> bool {
        match (self, kernel) {
            (RouteKind::Via(want), RouteKind::Via(have)) => same_next_hops(want, have),
            (want, have) => want == have,
        }
    }
}

fn same_next_hops(want: &[NextHop], have: &[NextHop]) -> bool {
    if want.len() != have.len() {
        return false;
    }
    let single = want.len() == 1;
    let mut left: SmallList<&NextHop> = have.iter().collect();
    // Sorted so that hops which name their interface take their exact match before open ones take what is left.
    let mut want: SmallList<&NextHop> = want.iter().collect();
    want.sort_by_key(|hop| hop.ifindex.is_none());
    want.iter().all(|hop| {
        let found = left.iter().position(|have| {
            have.gateway == hop.gateway
                && (hop.ifindex.is_none() || hop.ifindex == have.ifindex)
                && (single || have.weight == hop.share())
        });
        found.map(|at| left.swap_remove(at)).is_some()
    })
}

/// What a source has to say about a prefix: it holds at most one route per prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteChange {
    /// Who says it.
    pub source: Source,
    /// Destination.
    pub prefix: IpNet,
    /// The route wanted from now on (its own `prefix` field is ignored in favour of [`RouteChange::prefix`]), or `None` to withdraw.
    pub route: Option<RouteSpec>,
}

impl RouteChange {
    /// The source wants this route.
    pub fn want(source: Source, route: RouteSpec) -> Self {
        RouteChange {
            source,
            prefix: route.prefix,
            route: Some(route),
        }
    }

    /// The source no longer wants a route to this prefix.
    pub fn withdraw(source: Source, prefix: IpNet) -> Self {
        RouteChange {
            source,
            prefix,
            route: None,
        }
    }
}

/// What became of a batch of changes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ApplyReport {
    /// Operations the kernel carried out.
    pub written: usize,
    /// Routes that needed nothing: the kernel had it so already, or a better source holds the key.
    pub unchanged: usize,
    /// Routes that are not as wanted, with the reason. They are retried when links or foreign routes change, and at each audit.
    pub failed: Vec<RouteFailure>,
}

impl ApplyReport {
    /// Whether the kernel is as the batch wanted it.
    pub fn is_ok(&self) -> bool {
        self.failed.is_empty()
    }
}

/// A route that the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("route {prefix} metric {metric}: {reason}")]
pub struct RouteFailure {
    /// Destination.
    pub prefix: IpNet,
    /// Priority.
    pub metric: u32,
    /// The kernel's words (extended ack where it gave one), or who holds the key.
    pub reason: String,
}

/// A route of ours and its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstalledRoute {
    /// Identity in the kernel.
    pub key: RouteKey,
    /// The source whose route this is; `None` while stale.
    pub source: Option<Source>,
    /// The wanted route, or for a stale one what the kernel has (`None` if it has attributes that we do not write).
    pub route: Option<RouteSpec>,
    /// What we believe about the kernel.
    pub state: RouteState,
}

/// What we believe about a route in the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteState {
    /// In the kernel as wanted.
    Installed,
    /// Adopted at start, in the kernel, and not yet confirmed by a source.
    Stale,
    /// Not in the kernel as wanted.
    Failed(String),
}
