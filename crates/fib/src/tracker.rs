//! Next-hop resolution (RFC 4271 §9.1.2.1) as a pure table: foreign routes of the main table, links, tracked next hops.
//!
//! Never looks at routes of our own protocol: a next hop that is only reachable through what BGP installed would make
//! BGP depend on itself. Fed by the writer with dumps and monitor events; gives the changes of tracked states.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::codec::{Hop, KernelRoute};
use crate::route::{NextHop, RouteKey};

/// What to resolve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NextHopKey {
    /// The next hop as BGP received it.
    pub addr: IpAddr,
    /// The interface it must be reached over; required for a link-local address.
    pub ifindex: Option<u32>,
}

/// Where a next hop lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NextHopState {
    /// A foreign route over a live link leads there.
    Resolved {
        /// Outgoing interface.
        ifindex: u32,
        /// The router on the way, or `None` if the next hop is on the link itself.
        gateway: Option<IpAddr>,
        /// Tie-break "interior cost": 0 on the link itself, else the metric of the route that leads there.
        igp_cost: u32,
    },
    /// No route, a route that rejects, or only over links that are down.
    Unresolved,
}

impl NextHopState {
    /// The next hop to write into a kernel route for a path whose BGP next hop is `addr`.
    pub fn forwarding(&self, addr: IpAddr, weight: u16) -> Option<NextHop> {
        match *self {
            NextHopState::Resolved {
                ifindex, gateway, ..
            } => Some(NextHop {
                gateway: gateway.unwrap_or(addr),
                ifindex: Some(ifindex),
                weight,
            }),
            NextHopState::Unresolved => None,
        }
    }
}

/// A link as far as forwarding cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// Administratively up.
    pub(crate) up: bool,
    /// Has carrier.
    pub(crate) carrier: bool,
}

impl Link {
    pub(crate) fn alive(&self) -> bool {
        self.up && self.carrier
    }
}

#[derive(Debug)]
struct Tracked {
    references: u32,
    state: NextHopState,
}

/// Foreign routes, links and tracked next hops.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    v4: PrefixMap<Ipv4Net, Vec<KernelRoute>>,
    v6: PrefixMap<Ipv6Net, Vec<KernelRoute>>,
    links: HashMap<u32, Link>,
    tracked: BTreeMap<NextHopKey, Tracked>,
}

/// Most next hops tracked at a time: far above the peers of one node, and a bound on what a peer can make us hold.
pub(crate) const MAX_TRACKED: usize = 65_536;

impl Tracker {
    /// Counts a reference to a next hop; `None` if the table is full.
    pub(crate) fn track(&mut self, key: NextHopKey) -> Option<NextHopState> {
        if let Some(entry) = self.tracked.get_mut(&key) {
            entry.references = entry.references.saturating_add(1);
            return Some(entry.state);
        }
        if self.tracked.len() >= MAX_TRACKED {
            return None;
        }
        let state = self.resolve(key);
        self.tracked.insert(
            key,
            Tracked {
                references: 1,
                state,
            },
        );
        Some(state)
    }

    /// Drops a reference.
    pub(crate) fn untrack(&mut self, key: NextHopKey) {
        if let Some(entry) = self.tracked.get_mut(&key) {
            entry.references -= 1;
            if entry.references == 0 {
                self.tracked.remove(&key);
            }
        }
    }

    /// The state last computed for a tracked next hop.
    pub(crate) fn state(&self, key: &NextHopKey) -> Option<NextHopState> {
        self.tracked.get(key).map(|entry| entry.state)
    }

    /// Replaces all foreign routes by a dump.
    pub(crate) fn load_routes(&mut self, dump: impl IntoIterator<Item = KernelRoute>) {
        self.v4.clear();
        self.v6.clear();
        for route in dump {
            self.insert(route);
        }
    }

    /// Replaces all links by a dump; returns those that changed.
    pub(crate) fn load_links(&mut self, dump: HashMap<u32, Link>) -> BTreeSet<u32> {
        let indexes: BTreeSet<u32> = dump.keys().chain(self.links.keys()).copied().collect();
        let changed = indexes
            .into_iter()
            .filter(|index| dump.get(index) != self.links.get(index))
            .collect();
        self.links = dump;
        changed
    }

    /// A foreign route appeared, in place of those with its key if `replace`.
    pub(crate) fn add_route(&mut self, route: KernelRoute, replace: bool) {
        if replace {
            let metric = route.metric;
            self.retain(route.prefix, |other| other.metric != metric);
        }
        self.insert(route);
    }

    /// A foreign route went. `false` if it was unknown, or one hop of a multipath route: only a dump tells the truth then.
    pub(crate) fn remove_route(&mut self, route: &KernelRoute) -> bool {
        let mut removed = false;
        self.retain(route.prefix, |other| {
            let same = !removed
                && other.metric == route.metric
                && other.protocol == route.protocol
                && other.hops == route.hops;
            removed |= same;
            !same
        });
        removed
    }

    /// A link appeared or changed; returns whether anything that matters did.
    ///
    /// When it went down the kernel drops the routes over it, IPv4 ones without a notification, so they go here too.
    pub(crate) fn set_link(&mut self, index: u32, link: Option<Link>) -> bool {
        let went_down = !link.as_ref().is_some_and(|link| link.up);
        let before = match link {
            Some(ref link) => self.links.insert(index, link.clone()),
            None => self.links.remove(&index),
        };
        if before == link {
            return false;
        }
        if went_down && before.is_some_and(|link| link.up) {
            let gone = |route: &KernelRoute| {
                !route.hops.is_empty() && route.hops.iter().all(|hop| hop.ifindex == Some(index))
            };
            for routes in self.v4.values_mut().chain(self.v6.values_mut()) {
                routes.retain(|route| !gone(route));
            }
            self.v4.retain(|_, routes| !routes.is_empty());
            self.v6.retain(|_, routes| !routes.is_empty());
        }
        true
    }

    /// The link with this index.
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Whether a foreign route goes through this next-hop object.
    pub(crate) fn uses_next_hop(&self, id: u32) -> bool {
        let routes = self.v4.values().chain(self.v6.values()).flatten();
        routes
            .into_iter()
            .any(|route| route.next_hop_id == Some(id))
    }

    /// Protocol of a foreign route under a key, if one is known.
    pub(crate) fn holder(&self, key: &RouteKey) -> Option<u8> {
        self.routes(key.prefix)?
            .iter()
            .find(|route| route.metric == key.metric)
            .map(|route| route.protocol)
    }

    /// Resolves anew the tracked next hops that `prefix` covers (all if `None`); returns those whose state changed.
    pub(crate) fn refresh(&mut self, prefix: Option<IpNet>) -> Vec<NextHopKey> {
        let concerned = |key: &NextHopKey| prefix.is_none_or(|prefix| prefix.contains(&key.addr));
        let states: Vec<_> = self
            .tracked
            .keys()
            .filter(|key| concerned(key))
            .map(|key| (*key, self.resolve(*key)))
            .collect();
        let mut changed = Vec::new();
        for (key, state) in states {
            if let Some(entry) = self.tracked.get_mut(&key)
                && entry.state != state
            {
                entry.state = state;
                changed.push(key);
            }
        }
        changed
    }

    /// Longest match wins; within it the lowest metric; within that the first hop over a live link. A dead longest match
    /// is not skipped for a shorter one, because the kernel does not skip it either.
    pub(crate) fn resolve(&self, key: NextHopKey) -> NextHopState {
        if let (IpAddr::V6(addr), Some(ifindex)) = (key.addr, key.ifindex)
            && addr.is_unicast_link_local()
        {
            return match self.alive(ifindex) {
                true => NextHopState::Resolved {
                    ifindex,
                    gateway: None,
                    igp_cost: 0,
                },
                false => NextHopState::Unresolved,
            };
        }
        if matches!(key.addr, IpAddr::V6(addr) if addr.is_unicast_link_local()) {
            return NextHopState::Unresolved;
        }
        let fits = |route: &&KernelRoute| {
            key.ifindex
                .is_none_or(|want| route.hops.iter().any(|hop| hop.ifindex == Some(want)))
        };
        let Some(routes) = self.longest_match(key.addr, fits) else {
            return NextHopState::Unresolved;
        };
        let best = routes.iter().filter(fits).map(|route| route.metric).min();
        let hop_is_usable = |hop: &&Hop| {
            hop.ifindex.is_some_and(|index| self.alive(index))
                && (key.ifindex.is_none() || hop.ifindex == key.ifindex)
        };
        let mut candidates = routes
            .iter()
            .filter(|route| Some(route.metric) == best && route.is_unicast());
        let found =
            candidates.find_map(|route| Some((route, route.hops.iter().find(hop_is_usable)?)));
        match found {
            Some((route, hop)) => NextHopState::Resolved {
                ifindex: hop.ifindex.unwrap_or_default(),
                gateway: hop.gateway,
                igp_cost: if hop.gateway.is_some() {
                    route.metric
                } else {
                    0
                },
            },
            None => NextHopState::Unresolved,
        }
    }

    fn alive(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(Link::alive)
    }

    /// Length of the most specific foreign prefix around an address.
    pub(crate) fn covering(&self, addr: IpAddr) -> Option<u8> {
        match addr {
            IpAddr::V4(addr) => {
                let around = self.v4.cover(&Ipv4Net::from(addr));
                let around = around.filter(|(_, routes)| !routes.is_empty());
                around.last().map(|(prefix, _)| prefix.prefix_len())
            }
            IpAddr::V6(addr) => {
                let around = self.v6.cover(&Ipv6Net::from(addr));
                let around = around.filter(|(_, routes)| !routes.is_empty());
                around.last().map(|(prefix, _)| prefix.prefix_len())
            }
        }
    }

    fn longest_match(
        &self,
        addr: IpAddr,
        fits: impl Fn(&&KernelRoute) -> bool,
    ) -> Option<&[KernelRoute]> {
        match addr {
            IpAddr::V4(addr) => self
                .v4
                .cover_values(&Ipv4Net::from(addr))
                .filter(|routes| routes.iter().any(|route| fits(&route)))
                .last(),
            IpAddr::V6(addr) => self
                .v6
                .cover_values(&Ipv6Net::from(addr))
                .filter(|routes| routes.iter().any(|route| fits(&route)))
                .last(),
        }
        .map(Vec::as_slice)
    }

    fn routes(&self, prefix: IpNet) -> Option<&Vec<KernelRoute>> {
        match prefix {
            IpNet::V4(prefix) => self.v4.get(&prefix),
            IpNet::V6(prefix) => self.v6.get(&prefix),
        }
    }

    fn insert(&mut self, route: KernelRoute) {
        let routes = match route.prefix {
            IpNet::V4(prefix) => self.v4.entry(prefix).or_default(),
            IpNet::V6(prefix) => self.v6.entry(prefix).or_default(),
        };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }

    fn retain(&mut self, prefix: IpNet, keep: impl FnMut(&KernelRoute) -> bool) {
        let routes = match prefix {
            IpNet::V4(prefix) => self.v4.get_mut(&prefix),
            IpNet::V6(prefix) => self.v6.get_mut(&prefix),
        };
        let Some(routes) = routes else { return };
        routes.retain(keep);
        if routes.is_empty() {
            match prefix {
                IpNet::V4(prefix) => self.v4.remove(&prefix).map(drop),
                IpNet::V6(prefix) => self.v6.remove(&prefix).map(drop),
            };
        }
    }
}
