//! What a path becomes on its way to the peers of a group, or why it cannot go: all but policy and prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_wire::{Family, Hot, NextHop, PathAttributes};
use roadbed_api::kinds::NextHopChange;

use super::GroupKey;
use crate::policy::{AttributeView, Changed, RouteSource};
use crate::rib::adj_out::NotSent;
use crate::rib::peers::Peer;
use crate::rib::relation::{self, NextHopMode};
use crate::rib::update::DEFAULT_LOCAL_PREF;

/// Where a path comes from, as far as iBGP's rules care.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::rib) enum Arrival {
    /// Ourselves, or an external peer.
    Outside,
    /// An internal peer: whether it is a client of ours, and its BGP Identifier.
    Inside { client: bool, bgp_id: Ipv4Addr },
}

impl Arrival {
    pub(in crate::rib) fn peer(peer: Option<&Peer>) -> Arrival {
        match peer {
            Some(peer) if !peer.up.ebgp() => Arrival::Inside {
                client: peer.up.relation.reflector_client,
                bgp_id: peer.up.bgp_id,
            },
            _ => Arrival::Outside,
        }
    }
}

/// The next hop with which a path leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hop {
    /// The address that each session puts in.
    Own,
    /// The one that it came with.
    Received(NextHop),
    /// One that a policy names.
    Named(NextHop),
}

impl GroupKey {
    /// What no policy can allow: well-known communities (RFC 1997), and what one internal peer said told to another
    /// (RFC 4271 §9.2) unless one of the two is a client of ours (RFC 4456 §6).
    pub(super) fn may_go(&self, hot: &Hot, from: Arrival) -> Result<(), NotSent> {
        let forbids = [
            ("NO_ADVERTISE", hot.no_advertise),
            ("NO_EXPORT", self.ebgp && hot.no_export),
            ("NO_EXPORT_SUBCONFED", self.ebgp && hot.no_export_subconfed),
        ];
        if let Some((name, _)) = forbids.iter().find(|(_, forbids)| *forbids) {
            return Err(NotSent::Community(name));
        }
        match from {
            Arrival::Inside { client, .. }
                if !self.ebgp && !client && !self.outbound.reflector_client =>
            {
                Err(NotSent::IbgpToIbgp)
            }
            _ => Ok(()),
        }
    }

    /// RFC 4271 §5: what changes in the attributes on the way to an external or internal peer, after policy.
    pub(super) fn send_as(
        &self,
        route: &AttributeView<'_>,
        source: RouteSource,
        from: Arrival,
        changed: &Changed,
        cluster_id: Ipv4Addr,
    ) -> Result<(PathAttributes, Hop), NotSent> {
        let learned = source == RouteSource::Learned;
        let hop = self.hop(route.next_hop, learned, from, changed.next_hop)?;
        let foreign = learned && route.attributes.hot().as_path_len > 0;
        let attributes = changed.attributes.as_ref().unwrap_or(route.attributes);
        let mut editor = attributes.edit();
        editor.drop_unknown_nontransitive();
        editor.mark_unknown_partial();
        if self.ebgp {
            let outbound = &self.outbound;
            outbound.leave_as(attributes, self.local_as, &mut editor);
            editor.set_local_pref(None);
            // A neighbouring AS's MED is for us alone (§5.1.4). What our AS or a policy says is for this neighbour.
            if foreign && !changed.sets_med {
                editor.set_med(None);
            }
            editor.set_originator_id(None);
            editor.remove(bgp_wire::attr_type::CLUSTER_LIST);
            if !outbound.otc(attributes, self.local_as, &mut editor) {
                return Err(NotSent::Role);
            }
        } else {
            if attributes.hot().local_pref.is_none() {
                editor.set_local_pref(Some(DEFAULT_LOCAL_PREF));
            }
            if let Arrival::Inside { bgp_id, .. } = from {
                relation::reflect(attributes, bgp_id, cluster_id, &mut editor);
            }
        }
        self.outbound.drain(self.ebgp, &mut editor);
        let next_hop = match hop {
            Hop::Own => self.placeholder(),
            Hop::Received(next_hop) | Hop::Named(next_hop) => next_hop,
        };
        let attributes = editor.build();
        match bgp_wire::has_room(self.table.1, &attributes, &next_hop, &self.encode) {
            true => Ok((attributes, hop)),
            false => Err(NotSent::TooLong(self.encode.max_len)),
        }
    }

    /// A received next hop that the peers cannot read gives way to ours, unless it is to be kept or the route is reflected:
    /// IPv4 routes have an IPv6 one only where the peer takes it (RFC 8950).
    fn hop(
        &self,
        received: Option<NextHop>,
        learned: bool,
        from: Arrival,
        change: Option<NextHopChange>,
    ) -> Result<Hop, NotSent> {
        if let Some(NextHopChange::Address(address)) = change
            && let Some(named) = self.named(address)
        {
            return Ok(Hop::Named(named));
        }
        let inside = matches!(from, Arrival::Inside { .. });
        let keep = match (change, self.outbound.next_hop) {
            (Some(NextHopChange::Own), _) => false,
            (Some(NextHopChange::Keep), _) | (_, NextHopMode::Keep) => learned,
            (_, NextHopMode::Own) => inside && !self.ebgp,
            (_, NextHopMode::Auto) => learned && !self.ebgp,
        };
        let Some(received) = received.filter(|_| keep).and_then(beyond_its_link) else {
            return Ok(Hop::Own);
        };
        let kept_on_purpose = match change {
            Some(NextHopChange::Keep) => true,
            _ => self.outbound.next_hop == NextHopMode::Keep,
        };
        match self.reads(received) {
            true => Ok(Hop::Received(received)),
            false if kept_on_purpose || inside => Err(NotSent::NextHop(received)),
            false => Ok(Hop::Own),
        }
    }

    /// An address that a policy names; one of the other family is not for these routes.
    fn named(&self, address: IpAddr) -> Option<NextHop> {
        let next_hop = match address {
            IpAddr::V4(v4) => NextHop::V4(v4),
            IpAddr::V6(global) => NextHop::V6 {
                global,
                link_local: None,
            },
        };
        let next_hop = beyond_its_link(next_hop)?;
        self.reads(next_hop).then_some(next_hop)
    }

    fn reads(&self, next_hop: NextHop) -> bool {
        match (self.table.1, next_hop) {
            (Family::Ipv4Unicast, NextHop::V6 { .. }) => self.encode.extended_next_hop,
            (Family::Ipv6Unicast, NextHop::V4(_)) => false,
            _ => true,
        }
    }

    /// Stands where each session puts its own address.
    pub(super) fn placeholder(&self) -> NextHop {
        match (self.table.1, self.next_hop_len) {
            (Family::Ipv4Unicast, 4) => NextHop::V4(Ipv4Addr::UNSPECIFIED),
            (_, len) => NextHop::V6 {
                global: Ipv6Addr::UNSPECIFIED,
                link_local: (len == 32).then_some(Ipv6Addr::UNSPECIFIED),
            },
        }
    }
}

/// A learned next hop as it is passed on: a link-local address means nothing beyond its link (RFC 2545 §3). `None` when
/// that was all it had.
pub(super) fn beyond_its_link(next_hop: NextHop) -> Option<NextHop> {
    match next_hop {
        NextHop::V4(_) => Some(next_hop),
        NextHop::V6 { global, .. } if global.is_unspecified() || global.is_unicast_link_local() => {
            None
        }
        NextHop::V6 { global, .. } => Some(NextHop::V6 {
            global,
            link_local: None,
        }),
    }
}
