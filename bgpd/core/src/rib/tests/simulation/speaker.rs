//! One speaker: a RIB, an FSM per peer, a kernel; and what each peer has said, written down by the plainest means.

use std::time::Instant;

use bgp_wire::MessageType;

use super::plan::{Link, Policy, Topology};
use super::*;
use crate::fsm::{AddPath, ConnId, Peer, PeerSettings};

pub(super) struct Speaker {
    pub(super) id: usize,
    pub(super) rib: Rib,
    pub(super) peers: BTreeMap<usize, Peering>,
    pub(super) origins: BTreeSet<IpNet>,
    /// The kernel's learned routes.
    pub(super) fib: BTreeMap<IpNet, NextHop>,
    pub(super) tracked: BTreeSet<NextHop>,
    /// Counts restarts.
    pub(super) boot: u64,
    /// A slice of RIB work is in flight.
    pub(super) working: bool,
}

/// What a speaker has of a peer.
pub(super) struct Peering {
    pub(super) fsm: Peer,
    pub(super) relation: Relation,
    /// Import and export.
    pub(super) policies: [Policy; 2],
    pub(super) up: Option<Up>,
    /// When the FSM is to be woken; nothing is said about later.
    pub(super) wake: Option<Instant>,
}

/// A session.
pub(super) struct Up {
    pub(super) conn: ConnId,
    pub(super) decode: DecodeContext,
    /// What the RIB was told of it.
    pub(super) told: PeerUp,
    /// The Adj-RIB-In, as it should be.
    pub(super) heard: Routes,
    /// Of these, what the refresh under way has not repeated (RFC 7313).
    pub(super) stale: BTreeSet<(IpNet, u32)>,
    /// The next UPDATE is lost on us.
    pub(super) loses_next: bool,
}

impl Up {
    /// What an UPDATE says; it is written down.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<FamilyUpdate> {
        let updates = hear(bytes, &self.decode);
        remember(&mut self.heard, &updates);
        for nlri in updates.iter().flat_map(|u| &u.announced) {
            self.stale.remove(&(nlri.prefix, nlri.path_id));
        }
        updates
    }

    pub(super) fn refresh_begins(&mut self, family: Family) {
        let known = self.heard.keys().copied();
        self.stale
            .extend(known.filter(|(prefix, _)| Family::of(prefix) == family));
    }

    pub(super) fn refresh_ends(&mut self, family: Family) {
        for key in std::mem::take(&mut self.stale) {
            if Family::of(&key.0) == family {
                self.heard.remove(&key);
            } else {
                self.stale.insert(key);
            }
        }
    }
}

impl Speaker {
    /// A speaker that has just started, with what outlives a restart.
    pub(super) fn new(
        id: usize,
        topology: &Topology,
        policies: &BTreeMap<usize, [Policy; 2]>,
        boot: u64,
        (seed, now): (u64, Instant),
    ) -> Self {
        let peering = |link: &Link, peer: usize| {
            let mut families = vec![Family::Ipv4Unicast];
            families.extend(link.v6.then_some(Family::Ipv6Unicast));
            let (local, remote) = (topology.asn[id], topology.asn[peer]);
            let settings = PeerSettings {
                hold_time: 9,
                connect_retry: std::time::Duration::from_secs(5),
                idle_hold_max: std::time::Duration::from_secs(4),
                passive: link.passive && link.ends[0] == id,
                add_path: [AddPath {
                    send: link.add_path.is_some(),
                    receive: link.add_path.is_some(),
                }; 2],
                ..PeerSettings::new(local, remote, bgp_id(id), families)
            };
            Peering {
                fsm: Peer::new(settings, now, seed ^ peer as u64),
                relation: Relation {
                    reflector_client: link.reflects && link.ends[0] == id,
                    add_path: [PathSelection::Best(link.add_path.unwrap_or(1)); 2],
                    next_hop: match topology.next_hop_self[id] && local == remote {
                        true => NextHopMode::Own,
                        false => NextHopMode::Auto,
                    },
                    ..Relation::default()
                },
                policies: policies.get(&peer).copied().unwrap_or([Policy::All; 2]),
                up: None,
                wake: None,
            }
        };
        Self {
            id,
            rib: Rib::new(RibConfig {
                local_as: topology.asn[id],
                router_id: bgp_id(id),
                cluster_id: bgp_id(id),
                seed,
                assume_next_hops: false,
            }),
            peers: topology
                .links_of(id)
                .map(|(link, peer)| (peer, peering(link, peer)))
                .collect(),
            origins: BTreeSet::new(),
            fib: BTreeMap::new(),
            tracked: BTreeSet::new(),
            boot,
            working: false,
        }
    }

    pub(super) fn up(&self, peer: usize) -> Option<&Up> {
        self.peers[&peer].up.as_ref()
    }

    /// Whose session that is.
    pub(super) fn peer_of(&self, session: SessionId) -> Option<usize> {
        let mut peers = self.peers.iter();
        peers.find_map(|(peer, peering)| {
            let up = peering.up.as_ref()?;
            (up.told.session == session).then_some(*peer)
        })
    }

    /// What of an UPDATE has passed us before.
    pub(super) fn looping(&self, updates: &[FamilyUpdate]) -> Vec<Nlri> {
        let passed = |attributes: &PathAttributes| {
            attributes
                .as_path()
                .asns()
                .any(|asn| asn == self.rib.config.local_as)
                || attributes.hot().originator_id == Some(bgp_id(self.id))
                || attributes.cluster_list().any(|id| id == bgp_id(self.id))
        };
        let looping = updates.iter().filter(|update| {
            let attributes = update.attributes.as_ref();
            attributes.is_some_and(|(attributes, _)| passed(attributes))
        });
        looping
            .flat_map(|update| update.announced.iter().copied())
            .collect()
    }

    /// These of a peer's routes are kept, and not used.
    pub(super) fn check_unused(&self, routes: &[Nlri], peer: usize) {
        let name = format!("p{peer}");
        for Nlri { prefix, path_id } in routes {
            let mut paths = self.rib.paths(T, Some(prefix)).into_iter();
            let path = paths.find(|path| {
                path.peer.as_deref() == Some(name.as_str()) && path.path_id == *path_id
            });
            let verdict = path.map(|path| path.verdict);
            assert_eq!(
                verdict,
                Some(Verdict::Ineligible(Ineligible::Loop)),
                "{prefix} from {peer} has passed {} before",
                self.id
            );
        }
    }

    /// The bytes of a message, with our own address where the RIB leaves room for it.
    pub(super) fn on_the_wire(&self, message: &OutMessage) -> Vec<u8> {
        let mut bytes = message.bytes.to_vec();
        if let Some((offset, len)) = message.next_hop_at {
            let own = own_next_hop(self.id, len == 4).octets().0;
            bytes[offset..offset + len].copy_from_slice(&own[..len]);
        }
        bytes
    }
}

/// A speaker's address as a next hop: the fourth octet names it in both families.
pub(super) fn own_next_hop(id: usize, v4: bool) -> NextHop {
    let id = bgp_id(id);
    if v4 {
        return NextHop::V4(id);
    }
    let global = std::net::Ipv6Addr::from(u128::from(u32::from(id)) << 96 | 1);
    NextHop::V6 {
        global,
        link_local: None,
    }
}

/// What an UPDATE says of each family, in the order in which it counts; nothing for another message.
pub(super) fn hear(bytes: &[u8], context: &DecodeContext) -> Vec<FamilyUpdate> {
    let message = frame(bytes, bytes.len()).unwrap().unwrap();
    if message.kind != MessageType::Update {
        return vec![];
    }
    let update = decode_update(message.body, context);
    assert_eq!(update.faults.len(), 0, "{:?}", update.faults);
    let mp_withdrawn = update.mp_unreach.iter().flat_map(|n| n.iter());
    let classic = (update.announced, update.next_hop.map(NextHop::V4));
    let mp = update
        .mp_reach
        .iter()
        .map(|mp| (mp.nlri, Some(mp.next_hop)));
    let mut families = vec![];
    for nlri in update.withdrawn.iter().chain(mp_withdrawn) {
        families.push(FamilyUpdate {
            family: Family::of(&nlri.prefix),
            withdrawn: vec![nlri],
            announced: vec![],
            attributes: None,
        });
    }
    for (nlri, next_hop) in mp.chain([classic]) {
        families.extend(next_hop.map(|next_hop| FamilyUpdate {
            family: nlri.family(),
            withdrawn: vec![],
            announced: nlri.iter().collect(),
            attributes: update.attributes.clone().zip(Some(next_hop)),
        }));
    }
    families
}

/// Writes down what an UPDATE says.
pub(super) fn remember(routes: &mut Routes, updates: &[FamilyUpdate]) {
    for update in updates {
        for nlri in &update.withdrawn {
            routes.remove(&(nlri.prefix, nlri.path_id));
        }
        for nlri in &update.announced {
            let route = update.attributes.clone().expect("attributes of a route");
            routes.insert((nlri.prefix, nlri.path_id), route);
        }
    }
}
