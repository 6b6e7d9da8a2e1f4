//! What must come out, by the plainest means: every speaker looks at every link again and again until nothing changes.
//!
//! Shortest AS_PATH, eBGP over iBGP, lowest BGP Identifier of who brought it into the AS, shortest CLUSTER_LIST, lowest
//! address: each step away from the origin makes a route worse by this order, so the outcome is unique whatever the order
//! of events was. That is why the simulated policies never make a route better.

use super::plan::{Link, Policy, Topology};
use super::*;

/// The best path of a speaker, or one on its way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: Vec<u32>,
    /// Who it was learned from; the speaker itself when it is the origin.
    pub(super) from: usize,
    /// The speaker that is its next hop.
    pub(super) hop: usize,
    ebgp: bool,
    pub(super) originator: Option<usize>,
    pub(super) clusters: Vec<usize>,
}

pub(super) type LocRib = BTreeMap<IpNet, Route>;

impl Route {
    pub(super) fn own(at: usize) -> Self {
        Self {
            path: vec![],
            from: at,
            hop: at,
            ebgp: false,
            originator: None,
            clusters: vec![],
        }
    }

    pub(super) fn rank(&self, at: usize) -> impl Ord {
        (
            self.from != at,
            self.path.len(),
            !self.ebgp,
            bgp_id(self.originator.unwrap_or(self.from)),
            self.clusters.len(),
            bgp_id(self.from),
        )
    }
}

/// What a network must come to.
pub(super) struct Oracle<'a> {
    pub(super) topology: &'a Topology,
    /// Import and export of an end of a link towards the other.
    pub(super) policies: &'a dyn Fn(usize, usize) -> [Policy; 2],
    pub(super) origins: &'a [BTreeSet<IpNet>],
}

impl Oracle<'_> {
    pub(super) fn loc_ribs(&self) -> Vec<LocRib> {
        let speakers = 0..self.topology.speakers();
        let mut ribs: Vec<LocRib> = vec![LocRib::new(); speakers.len()];
        loop {
            let next: Vec<LocRib> = speakers.clone().map(|at| self.choose(at, &ribs)).collect();
            if next == ribs {
                return ribs;
            }
            ribs = next;
        }
    }

    fn choose(&self, at: usize, ribs: &[LocRib]) -> LocRib {
        let mut rib = LocRib::new();
        for (link, peer) in self.topology.links_of(at) {
            for (prefix, route) in self.announced(link, peer, at, &ribs[peer]) {
                if !self.is_usable(at, &prefix, &route) {
                    continue;
                }
                let old = rib.get(&prefix);
                if old.is_none_or(|old| route.rank(at) < old.rank(at)) {
                    rib.insert(prefix, route);
                }
            }
        }
        let own = self.origins[at].iter();
        rib.extend(own.map(|prefix| (*prefix, Route::own(at))));
        rib
    }

    /// A path as it was heard, as far as it counts.
    pub(super) fn heard(
        &self,
        (from, to): (usize, usize),
        (attributes, next_hop): &(PathAttributes, NextHop),
    ) -> Route {
        let id = |id: Ipv4Addr| usize::from(id.octets()[3]) - 1;
        Route {
            path: attributes.as_path().asns().collect(),
            from,
            hop: speaker_of(*next_hop),
            ebgp: !self.topology.is_ibgp(from, to),
            originator: attributes.hot().originator_id.map(id),
            clusters: attributes.cluster_list().map(id).collect(),
        }
    }

    /// Whether a path may be used at all.
    pub(super) fn is_usable(&self, at: usize, prefix: &IpNet, route: &Route) -> bool {
        let [import, _] = (self.policies)(at, route.from);
        let passed = route.path.contains(&self.topology.asn[at])
            || route.originator == Some(at)
            || route.clusters.contains(&at);
        !passed && import.passes(prefix, false)
    }

    /// What `a` announces to `b`.
    pub(super) fn announced(&self, link: &Link, a: usize, b: usize, rib: &LocRib) -> LocRib {
        let routes = rib.iter();
        let passing = routes.filter_map(|(p, r)| Some((*p, self.passed_on(link, a, b, p, r)?)));
        passing.collect()
    }

    /// What `a` makes of a path for `b`.
    pub(super) fn passed_on(
        &self,
        link: &Link,
        a: usize,
        b: usize,
        prefix: &IpNet,
        route: &Route,
    ) -> Option<Route> {
        let ibgp = self.topology.is_ibgp(a, b);
        let [_, export] = (self.policies)(a, b);
        let family = link.v6 || matches!(prefix, IpNet::V4(_));
        let own = route.from == a;
        let inside = ibgp && !own && !route.ebgp;
        let reflected = self.is_client(a, route.from) || self.is_client(a, b);
        let may_go =
            family && route.from != b && export.passes(prefix, own) && (!inside || reflected);
        may_go.then(|| self.sent(a, ibgp, export, prefix, route))
    }

    fn sent(&self, a: usize, ibgp: bool, export: Policy, prefix: &IpNet, route: &Route) -> Route {
        if !ibgp {
            let in_front = vec![self.topology.asn[a]; 1 + export.prepends(prefix)];
            return Route {
                path: [in_front, route.path.clone()].concat(),
                from: a,
                hop: a,
                ebgp: true,
                originator: None,
                clusters: vec![],
            };
        }
        let reflected = route.from != a && !route.ebgp;
        let mut sent = Route {
            from: a,
            ebgp: false,
            ..route.clone()
        };
        if reflected {
            sent.originator = sent.originator.or(Some(route.from));
            sent.clusters.insert(0, a);
        } else if self.topology.next_hop_self[a] {
            sent.hop = a;
        }
        sent
    }

    fn is_client(&self, reflector: usize, client: usize) -> bool {
        let mut links = self.topology.links.iter();
        links.any(|link| link.reflects && link.ends == [reflector, client])
    }
}
