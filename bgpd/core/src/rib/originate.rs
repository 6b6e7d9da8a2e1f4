//! Routes of our own: those that the driver declares, and default routes for peers that ask for one.

use bgp_wire::{AttributeEditor, Family, Nlri, Origin};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ids::{AttrId, NextHopId, PeerId, TableId};
use super::table::PathFlags;
use super::{Output, Rib, TableKey};
use crate::policy::RouteSource;

/// Path identifiers tell local routes to one prefix apart; lower ones win.
mod path_id {
    /// Declared.
    pub(super) const DECLARED: u32 = 0;
    /// For peers that ask for it.
    pub(super) const ON_DEMAND: u32 = 2;
}

impl Rib {
    pub(super) fn local(
        &mut self,
        table: TableId,
        routes: &[(IpNet, Option<RouteSource>)],
        out: &mut Vec<Output>,
    ) {
        let attrs = self.own_attributes();
        for (prefix, source) in routes {
            let prefix = prefix.trunc();
            let index = self.table_of((table, Family::of(&prefix)));
            let nlri = Nlri {
                path_id: path_id::DECLARED,
                prefix,
            };
            match source {
                Some(source) => self.announce(
                    index,
                    (&nlri, None),
                    PeerId::LOCAL,
                    (attrs, attrs),
                    PathFlags::local(*source),
                    out,
                ),
                None => self.withdraw(index, &nlri, PeerId::LOCAL, out),
            }
        }
        self.release(attrs, out);
    }

    /// What a route of ours says, one reference added.
    fn own_attributes(&mut self) -> AttrId {
        let attributes = AttributeEditor::new(Origin::Igp).build();
        self.attrs.intern(&attributes, NextHopId::SELF).0
    }

    /// Brings the default routes that no choice takes to what update groups ask for, after peers came, changed or went.
    pub(super) fn check_defaults(&mut self, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.defaults_checked, true) {
            return;
        }
        let wanting = self.groups.wanting_default();
        let tables: Vec<TableKey> = self.tables.iter().map(|state| state.key).collect();
        for key in tables.into_iter().filter(|key| !wanting.contains(key)) {
            let table = self.table_of(key);
            self.withdraw(table, &default_route(key.1), PeerId::LOCAL, out);
        }
        for key in wanting {
            let table = self.table_of(key);
            let nlri = default_route(key.1);
            let known = self.tables[table].table.find(&nlri.prefix);
            let entry = known.and_then(|id| self.tables[table].table.get(id));
            if entry.is_some_and(|entry| entry.on_demand().is_some()) {
                continue;
            }
            let attrs = self.own_attributes();
            let mut flags = PathFlags::local(RouteSource::Static);
            flags.set(PathFlags::ON_DEMAND, true);
            self.announce(
                table,
                (&nlri, known),
                PeerId::LOCAL,
                (attrs, attrs),
                flags,
                out,
            );
            self.release(attrs, out);
        }
    }
}

fn default_route(family: Family) -> Nlri {
    Nlri {
        path_id: path_id::ON_DEMAND,
        prefix: match family {
            Family::Ipv4Unicast => IpNet::V4(Ipv4Net::default()),
            Family::Ipv6Unicast => IpNet::V6(Ipv6Net::default()),
        },
    }
}
