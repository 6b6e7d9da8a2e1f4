//! What a peer is to us beyond its AS number, and what that does to routes from it and to it: reflection (RFC 4456), roles
//! (RFC 9234), graceful shutdown (RFC 8326), AS migration (RFC 7705), AS_SET (RFC 9774), and the rewrites that operators
//! ask for.
//!
//! Pure functions over attributes; the RIB calls them once per attribute set, never per route.

use std::net::Ipv4Addr;

use bgp_wire::{AttributeEditor, PathAttributes, community};

use super::PathSelection;
use crate::negotiation::Role;
use crate::otc;

/// AS numbers that are nobody's (RFC 6996): 64512–65534 and 4200000000–4294967294.
const PRIVATE: [std::ops::RangeInclusive<u32>; 2] = [64512..=65534, 4_200_000_000..=4_294_967_294];

/// Which next hop learned routes carry to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHopMode {
    /// Our own towards eBGP, the received one towards iBGP (RFC 4271 §5.1.3).
    #[default]
    Auto,
    /// Our own, but for what is reflected (RFC 4456 §10).
    Own,
    /// The received one.
    Keep,
}

/// The session still has our former AS: what AS_PATHs say of that (RFC 7705 §3). For eBGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Migration {
    /// The AS that we are in.
    pub real_as: u32,
    /// Leaves the former AS out of what is received: others see the peer directly behind us.
    pub no_prepend: bool,
    /// Leaves our AS out of what is sent: the peer sees the former AS alone.
    pub replace_as: bool,
}

/// When a peer is sent a default route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultOriginate {
    /// Always.
    Always,
    /// While there is a best path to a default route here.
    IfPresent,
}

/// What is configured or negotiated of a peer, as far as routes are concerned. The default is a plain peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Relation {
    /// An iBGP peer that we reflect to and from (RFC 4456).
    pub reflector_client: bool,
    /// Next hop of learned routes.
    pub next_hop: NextHopMode,
    /// Replaces the peer's AS by ours in the AS_PATH that it is sent.
    pub as_override: bool,
    /// How often our own AS may be in a received AS_PATH.
    pub allow_own_as: u8,
    /// Removes private AS numbers from the AS_PATH that the peer is sent.
    pub remove_private_as: bool,
    /// What the peer is to us (RFC 9234), as negotiated.
    pub role: Option<Role>,
    /// The peer understands BoRR and EoRR (RFC 7313).
    pub enhanced_refresh: bool,
    /// The AS of the session is not ours any more.
    pub migration: Option<Migration>,
    /// The session is about to be taken down: routes from the peer and routes to it become the last resort (RFC 8326).
    pub graceful_shutdown: bool,
    /// Whether the peer is sent a default route of ours, whatever the export policy says, in the order of
    /// [`bgp_wire::Family::ALL`].
    pub default_originate: [Option<DefaultOriginate>; 2],
    /// Which paths the peer is sent where ADD-PATH is negotiated (RFC 7911), in the order of [`bgp_wire::Family::ALL`].
    pub add_path: [PathSelection; 2],
}

/// The part of a relation that changes what is sent: peers that differ in it are in different update groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outbound {
    pub(super) reflector_client: bool,
    pub(super) next_hop: NextHopMode,
    /// The AS to replace.
    as_override: Option<u32>,
    remove_private_as: bool,
    role: Option<Role>,
    /// The AS to put behind the session's.
    real_as: Option<u32>,
    graceful_shutdown: bool,
    pub(super) default_originate: [Option<DefaultOriginate>; 2],
}

/// What becomes of received attributes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// As they are.
    Same,
    /// Changed before the import policy.
    Changed(PathAttributes),
    /// Kept out of the choice: a leak.
    Leak,
    /// As if withdrawn: they must not be used at all.
    Refused,
}

impl Relation {
    pub(super) fn outbound(&self, ebgp: bool, remote_as: u32) -> Outbound {
        Outbound {
            reflector_client: self.reflector_client && !ebgp,
            next_hop: self.next_hop,
            as_override: (self.as_override && ebgp).then_some(remote_as),
            remove_private_as: self.remove_private_as && ebgp,
            role: self.role.filter(|_| ebgp),
            real_as: self
                .migration
                .filter(|migration| ebgp && !migration.replace_as)
                .map(|migration| migration.real_as),
            graceful_shutdown: self.graceful_shutdown,
            default_originate: self.default_originate,
        }
    }

    /// Judges attributes from this peer, in AS `remote_as`; `local_as` is ours towards it.
    pub(super) fn receive(
        &self,
        attributes: &PathAttributes,
        local_as: u32,
        remote_as: u32,
    ) -> Received {
        let hot = attributes.hot();
        if hot.has_as_set {
            // RFC 9774 §3: an AS_SET makes the UPDATE one to treat as withdraw, whoever sends it.
            return Received::Refused;
        }
        if local_as == remote_as {
            return Received::Same;
        }
        let mut editor = None;
        match otc::on_import(attributes, self.role, remote_as) {
            otc::Verdict::Leak => return Received::Leak,
            otc::Verdict::Keep => {}
            verdict => {
                verdict.apply(editor.get_or_insert_with(|| attributes.edit()));
            }
        }
        if self.migration.is_some_and(|m| !m.no_prepend) {
            editor
                .get_or_insert_with(|| attributes.edit())
                .prepend_as(local_as, 1);
        }
        if hot.graceful_shutdown || self.graceful_shutdown {
            // RFC 8326 §4: the least wanted of all, so that traffic moves before the session goes.
            editor
                .get_or_insert_with(|| attributes.edit())
                .set_local_pref(Some(0));
        }
        editor.map_or(Received::Same, |editor| Received::Changed(editor.build()))
    }
}

impl Outbound {
    /// Rewrites the AS_PATH for an external peer and puts our own AS in front of it.
    pub(super) fn leave_as(
        &self,
        attributes: &PathAttributes,
        local_as: u32,
        editor: &mut AttributeEditor,
    ) {
        self.rewrite_as_path(attributes, local_as, editor);
        if let Some(real_as) = self.real_as {
            editor.prepend_as(real_as, 1);
        }
        editor.prepend_as(local_as, 1);
    }

    /// Makes what is sent the last resort of a peer that is about to lose us (RFC 8326 §4).
    pub(super) fn drain(&self, ebgp: bool, editor: &mut AttributeEditor) {
        if !self.graceful_shutdown {
            return;
        }
        editor.add_community(community::GRACEFUL_SHUTDOWN);
        if !ebgp {
            editor.set_local_pref(Some(0));
        }
    }

    fn rewrite_as_path(
        &self,
        attributes: &PathAttributes,
        local_as: u32,
        editor: &mut AttributeEditor,
    ) {
        if self.as_override.is_none() && !self.remove_private_as {
            return;
        }
        let path: Vec<u32> = attributes
            .as_path()
            .asns()
            .filter(|asn| {
                !self.remove_private_as || !PRIVATE.iter().any(|range| range.contains(asn))
            })
            .map(|asn| {
                if Some(asn) == self.as_override {
                    local_as
                } else {
                    asn
                }
            })
            .collect();
        editor.set_as_path_sequence(&path);
    }

    /// Applies the role's rule to what is about to be sent; false when it must not be.
    pub(super) fn otc(
        &self,
        attributes: &PathAttributes,
        local_as: u32,
        editor: &mut AttributeEditor,
    ) -> bool {
        otc::on_export(attributes, self.role, local_as).apply(editor)
    }
}

/// Marks a route as reflected (RFC 4456 §8): who brought it into the AS, and that it passed us.
pub(super) fn reflect(
    attributes: &PathAttributes,
    originator: Ipv4Addr,
    cluster_id: Ipv4Addr,
    editor: &mut AttributeEditor,
) {
    if attributes.hot().originator_id.is_none() {
        editor.set_originator_id(Some(originator));
    }
    editor.prepend_cluster_id(cluster_id);
}
