//! What a peer is sent, for those who look in. Reads only.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::leaving::Arrival;
use super::path_ids::{self, PathIds};
use super::{Group, Groups};
use crate::policy::{AttributeView, Direction, RouteSource};
use crate::rib::adj_out::NotSent;
use crate::rib::ids::{AttrId, PeerId, PrefixId};
use crate::rib::table::Path;
use crate::rib::{PathSelection, TableKey};

impl Groups {
    /// The group through which a peer is sent routes of a table.
    pub(in crate::rib) fn towards(&self, peer: PeerId, table: TableKey) -> Option<Outlet<'_>> {
        let mut groups = self.slots.iter().flatten();
        let group = groups.find(|g| g.key.table == table && g.has(peer))?;
        let mut path_ids = self.path_ids.iter();
        let path_ids = path_ids.find(|(key, _)| *key == table).map(|(_, ids)| ids);
        Some(Outlet {
            group,
            path_ids,
            peer,
        })
    }
}

/// The way from a table to one peer.
pub(in crate::rib) struct Outlet<'a> {
    group: &'a Group,
    path_ids: Option<&'a PathIds>,
    peer: PeerId,
}

/// A path on its way out.
pub(in crate::rib) struct Leaving<'a> {
    pub(in crate::rib) prefix: IpNet,
    pub(in crate::rib) route: AttributeView<'a>,
    pub(in crate::rib) source: PeerId,
    pub(in crate::rib) kind: RouteSource,
    pub(in crate::rib) from: Arrival,
    pub(in crate::rib) cluster_id: Ipv4Addr,
}

impl Outlet<'_> {
    /// With ADD-PATH: which paths the peer is sent. `None`: the best one.
    pub(in crate::rib) fn paths(&self) -> Option<PathSelection> {
        self.group.key.paths
    }

    /// Whether the peer is sent a default route of ours in place of the best path to this prefix.
    pub(in crate::rib) fn own_default(&self, prefix: &IpNet) -> bool {
        self.group.key.own_default(prefix).is_some()
    }

    /// The attributes with which the peer has been sent a path, or is about to be, and the path identifier: 0 without
    /// ADD-PATH, where `path` is the one that goes.
    pub(in crate::rib) fn sent(&self, prefix: PrefixId, path: &Path) -> Option<(AttrId, u32)> {
        let (id, path_id) = match self.paths() {
            None => (prefix.into(), 0),
            Some(_) => {
                let id = self.path_ids?.find(prefix, path)?;
                (id, path_ids::path_id(id))
            }
        };
        let announced = self.group.get(id);
        (announced.attrs != AttrId::NONE && announced.source != self.peer)
            .then_some((announced.attrs, path_id))
    }

    /// Why the peer is not sent this path, which its group picks.
    pub(in crate::rib) fn why_not(&self, leaving: &Leaving<'_>) -> NotSent {
        let key = &self.group.key;
        if leaving.source == self.peer {
            return NotSent::Source;
        }
        if let Err(why) = key.may_go(leaving.route.attributes.hot(), leaving.from) {
            return why;
        }
        let chain = &key.export;
        let route = AttributeView {
            local_as: key.local_as,
            ..leaving.route
        };
        let part = chain.attribute_part(&route);
        let finished = chain.finish(&part, Direction::Export, &leaving.prefix);
        if let Err(reason) = finished.result {
            return NotSent::Rejected(reason, chain.decided_by(&finished));
        }
        let changed = chain.apply(&finished.changes, &route);
        match key.send_as(
            &route,
            leaving.kind,
            leaving.from,
            &changed,
            leaving.cluster_id,
        ) {
            Ok(_) => NotSent::Other,
            Err(why) => why,
        }
    }
}
