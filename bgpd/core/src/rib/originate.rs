//! Routes of our own: those that the driver declares, and default routes for peers that ask for one.

use bgp_wire::{AttributeEditor, Family, Nlri, Origin, PathAttributes};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ids::{AttrId, NextHopId, PeerId, TableId};
use super::table::PathFlags;
use super::{Rib, TableIndex, TableKey};
use crate::policy::RouteSource;

/// A route that this speaker originates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originated {
    /// What it is, for export policies.
    pub source: RouteSource,
    /// What it says; `None`: ORIGIN IGP and an empty AS_PATH.
    pub attributes: Option<PathAttributes>,
}

impl From<RouteSource> for Originated {
    fn from(source: RouteSource) -> Self {
        Self {
            source,
            attributes: None,
        }
    }
}

/// Path identifiers tell local routes to one prefix apart; lower ones win.
pub(super) mod path_id {
    /// Declared.
    pub(in crate::rib) const DECLARED: u32 = 0;
    /// Made of others.
    pub(in crate::rib) const AGGREGATE: u32 = 1;
    /// For peers that ask for it.
    pub(in crate::rib) const ON_DEMAND: u32 = 2;
}

impl Rib {
    pub(super) fn local(&mut self, table: TableId, routes: &[(IpNet, Option<Originated>)]) {
        let plain = self.own_attributes();
        for (prefix, route) in routes {
            let prefix = prefix.trunc();
            let index = self.table_of((table, Family::of(&prefix)));
            let nlri = Nlri {
                path_id: path_id::DECLARED,
                prefix,
            };
            let Some(route) = route else {
                self.withdraw(index, &nlri, PeerId::LOCAL);
                continue;
            };
            let attrs = match &route.attributes {
                Some(attributes) => self.attrs.intern(attributes, NextHopId::SELF).0,
                None => {
                    self.attrs.retain(plain);
                    plain
                }
            };
            self.originate(index, &nlri, attrs, PathFlags::local(route.source));
        }
        self.attrs.release(plain);
    }

    /// Puts a route of ours into a table; takes the reference to what it says.
    pub(super) fn originate(
        &mut self,
        table: TableIndex,
        nlri: &Nlri,
        attrs: AttrId,
        flags: PathFlags,
    ) {
        let both = (attrs, attrs);
        self.announce(table, (nlri, None), PeerId::LOCAL, both, flags);
        self.attrs.release(attrs);
    }

    /// What a route of ours says, one reference added.
    fn own_attributes(&mut self) -> AttrId {
        let attributes = AttributeEditor::new(Origin::Igp).build();
        self.attrs.intern(&attributes, NextHopId::SELF).0
    }

    /// Brings the default routes that no choice takes to what update groups ask for, after peers came, changed or went.
    pub(super) fn check_defaults(&mut self) {
        if std::mem::replace(&mut self.defaults_checked, true) {
            return;
        }
        let wanting = self.groups.wanting_default();
        let tables: Vec<TableKey> = self.tables.iter().map(|state| state.key).collect();
        for key in tables.into_iter().filter(|key| !wanting.contains(key)) {
            let table = self.table_of(key);
            self.withdraw(table, &default_route(key.1), PeerId::LOCAL);
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
            self.originate(table, &nlri, attrs, flags);
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
