//! Import: what relation and policy make of received attributes. Judged once per attribute set; a prefix only costs the
//! part of the policy that looks at prefixes.

use std::net::IpAddr;

use bgp_wire::{Family, NextHop, PathAttributes};
use ipnet::IpNet;
use roadbed_api::kinds::{NextHopChange, PolicySource};
use smallvec::SmallVec;

use super::ids::{AttrId, PeerId, PrefixId};
use super::monitor::differs;
use super::relation::Received;
use super::table::{Path, PathFlags};
use super::update::slot;
use super::{Output, Rib, TableIndex};
use crate::policy::{AttributeView, Chain, ChainVerdict, Changes, Direction};

/// One attribute set on its way in.
pub(super) struct Import {
    chain: Chain,
    /// After the peer's relation, before its policy.
    attributes: PathAttributes,
    next_hop: NextHop,
    family: Family,
    peer: PeerId,
    /// What the path keeps when the policy changes nothing; one reference is held.
    plain: AttrId,
    /// LOOP and LEAK, which no policy can undo.
    flags: PathFlags,
    /// `None`: the chain is built-in and needs no attributes.
    verdict: Option<ChainVerdict>,
    /// Sets that the policy made; one reference of each is held.
    changed: Vec<(Changes, AttrId)>,
}

impl Rib {
    /// Begins to judge a set that was received as `received`, after its relation has. To be ended with
    /// [`Rib::end_import`].
    pub(super) fn import_of(
        &mut self,
        peer_id: PeerId,
        (received, judged): (AttrId, Received),
        attributes: &PathAttributes,
        (family, next_hop): (Family, NextHop),
        out: &mut Vec<Output>,
    ) -> Import {
        let chain = self.peers.get(peer_id).map(|p| p.up.import.clone());
        let chain = chain.unwrap_or_else(|| Chain::new(&[]));
        let mut flags = PathFlags::default();
        flags.set(PathFlags::LOOP, self.is_loop(peer_id, attributes));
        flags.set(PathFlags::LEAK, judged == Received::Leak);
        let (attributes, plain) = match judged {
            Received::Changed(changed) => {
                let id = self.intern(&changed, next_hop, out);
                (changed, id)
            }
            Received::Same | Received::Leak | Received::Refused => {
                self.attrs.retain(received);
                (attributes.clone(), received)
            }
        };
        let mut import = Import {
            chain,
            attributes,
            next_hop,
            family,
            peer: peer_id,
            plain,
            flags,
            verdict: None,
            changed: Vec::new(),
        };
        if import.chain.is_declared() {
            import.verdict = Some(import.chain.attribute_part(&self.import_view(&import)));
        }
        import
    }

    fn import_view<'a>(&'a self, import: &'a Import) -> AttributeView<'a> {
        let up = self.peers.get(import.peer).map(|p| &p.up);
        AttributeView {
            attributes: &import.attributes,
            next_hop: Some(import.next_hop),
            peer: up.map(|up| &*up.name),
            source: PolicySource::Learned,
            family: import.family,
            local_as: up.map_or(self.config.local_as, |up| up.local_as),
        }
    }

    /// The attributes with which one prefix is kept, and what keeps it out. The reference of the result is the import's.
    pub(super) fn let_in(
        &mut self,
        import: &mut Import,
        prefix: &IpNet,
        out: &mut Vec<Output>,
    ) -> (AttrId, PathFlags) {
        let mut flags = import.flags;
        let Some(verdict) = &import.verdict else {
            let passes = import.chain.import(&self.context, prefix).is_ok();
            flags.set(PathFlags::FILTERED, !passes);
            return (import.plain, flags);
        };
        let direction = Direction::Import(&self.context);
        let finished = import.chain.finish(verdict, direction, prefix);
        flags.set(PathFlags::FILTERED, finished.result.is_err());
        if finished.changes.is_empty() || finished.result.is_err() {
            return (import.plain, flags);
        }
        let mut known = import.changed.iter();
        if let Some((_, attrs)) = known.find(|(changes, _)| *changes == finished.changes) {
            return (*attrs, flags);
        }
        let changed = import
            .chain
            .apply(&finished.changes, &self.import_view(import));
        let attributes = changed
            .attributes
            .unwrap_or_else(|| import.attributes.clone());
        let next_hop = match changed.next_hop {
            Some(NextHopChange::Address(address)) => {
                next_hop_of(address, import.family, import.next_hop)
            }
            Some(NextHopChange::Own | NextHopChange::Keep) | None => import.next_hop,
        };
        let attrs = self.intern(&attributes, next_hop, out);
        import.changed.push((finished.changes, attrs));
        (attrs, flags)
    }

    /// Gives the import's references back.
    pub(super) fn end_import(&mut self, import: Import) {
        self.attrs.release(import.plain);
        for (_, attrs) in import.changed {
            self.attrs.release(attrs);
        }
    }

    /// Asks the import policies anew for the paths of one prefix, of one peer or all.
    pub(super) fn reimport(
        &mut self,
        table: TableIndex,
        id: PrefixId,
        only: Option<PeerId>,
        out: &mut Vec<Output>,
    ) {
        let Some(entry) = self.tables[table].table.get(id) else {
            return;
        };
        let (before, prefix) = (entry.best_path().copied(), entry.prefix);
        let family = self.tables[table].key.1;
        let mut changed: SmallVec<[(Path, Path); 1]> = SmallVec::new();
        for i in 0..entry.paths.len() {
            let Some(path) = self.tables[table]
                .table
                .get(id)
                .and_then(|e| e.paths.get(i))
                .copied()
            else {
                continue;
            };
            if path.peer == PeerId::LOCAL || only.is_some_and(|only| only != path.peer) {
                continue;
            }
            let set = self.attrs.get(path.received);
            let (attributes, next_hop) = (
                set.attributes.clone(),
                self.next_hops.next_hop(set.next_hop),
            );
            let judged = self.peers.get(path.peer).map(|p| {
                let up = &p.up;
                up.relation.receive(&attributes, up.local_as, up.remote_as)
            });
            let received = (path.received, judged.unwrap_or(Received::Same));
            let mut import =
                self.import_of(path.peer, received, &attributes, (family, next_hop), out);
            let (attrs, mut flags) = self.let_in(&mut import, &prefix, out);
            self.attrs.retain(attrs);
            self.end_import(import);
            if let Some(kept) = self.tables[table]
                .table
                .get_mut(id)
                .and_then(|e| e.paths.get_mut(i))
            {
                flags.set_epoch(kept.flags.epoch());
                kept.attrs = attrs;
                kept.flags = flags;
                changed.push((path, *kept));
                if differs(&path, kept) {
                    self.changes.note(prefix, path.peer, path.path_id);
                }
                if let Some(peer) = self.peers.get_mut(path.peer) {
                    let accepted = &mut peer.accepted[slot(family)];
                    *accepted = *accepted + u64::from(kept.flags.accepted())
                        - u64::from(path.flags.accepted());
                }
            }
            self.attrs.release(path.attrs);
        }
        self.reselect(table, id, before, false);
        for (old, new) in changed {
            self.multipath_changed(table, id, before, Some(old), Some(new));
        }
        self.paths_changed(table, id);
    }
}

/// The address that a policy names, where routes of this family can have it; where not, what it would replace.
fn next_hop_of(address: IpAddr, family: Family, received: NextHop) -> NextHop {
    match (address, received) {
        (IpAddr::V4(v4), _) if family == Family::Ipv4Unicast => NextHop::V4(v4),
        (IpAddr::V6(global), NextHop::V6 { .. }) => NextHop::V6 {
            global,
            link_local: None,
        },
        _ => received,
    }
}
