//! Route leaks prevented by roles: the rules of RFC 9234 §5 for ONLY_TO_CUSTOMER (OTC).
//!
//! Owns the decisions, as pure functions of what the peer is to us. Never keeps a route: the RIB marks what leaked as
//! ineligible, keeps the attribute that was attached, and does not announce what may not go.
//!
//! Both apply to eBGP sessions with a role ([`crate::negotiation::Negotiated::peer_role`]) and to IPv4 and IPv6
//! unicast. Route policies run before the export rules and cannot undo them: RFC 9234 §5 lets no configuration change
//! the attribute.

use bgp_wire::{AttributeEditor, PathAttributes};

use crate::negotiation::Role;

/// What becomes of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Keep,
    /// It goes on with OTC set to this AS number.
    Attach(u32),
    /// It does not go on: ineligible where it came in, not announced where it would go out.
    Leak,
}

impl Verdict {
    /// Puts the attribute in, where the verdict says so; false when the route does not go on.
    pub fn apply(self, editor: &mut AttributeEditor) -> bool {
        match self {
            Verdict::Keep => true,
            Verdict::Attach(asn) => {
                editor.set_only_to_customer(Some(asn));
                true
            }
            Verdict::Leak => false,
        }
    }
}

/// Judges a route received from a peer in AS `peer_as` that is `peer_role` to us; before import policy.
pub fn on_import(attributes: &PathAttributes, peer_role: Option<Role>, peer_as: u32) -> Verdict {
    let otc = attributes.only_to_customer();
    match (peer_role, otc) {
        (None, _) => Verdict::Keep,
        (Some(Role::Customer | Role::RouteServerClient), Some(_)) => Verdict::Leak,
        (Some(Role::Customer | Role::RouteServerClient), None) => Verdict::Keep,
        (Some(Role::Peer), Some(asn)) if asn != peer_as => Verdict::Leak,
        (Some(Role::Peer | Role::Provider | Role::RouteServer), Some(_)) => Verdict::Keep,
        (Some(Role::Peer | Role::Provider | Role::RouteServer), None) => Verdict::Attach(peer_as),
    }
}

/// Judges a route that would go to a peer that is `peer_role` to us; after export policy. `local_as` is our AS number
/// on that session, and `attributes` are those that [`on_import`] left.
pub fn on_export(attributes: &PathAttributes, peer_role: Option<Role>, local_as: u32) -> Verdict {
    let otc = attributes.only_to_customer();
    match (peer_role, otc) {
        (None, _) => Verdict::Keep,
        (Some(Role::Provider | Role::Peer | Role::RouteServer), Some(_)) => Verdict::Leak,
        (Some(Role::Customer | Role::Peer | Role::RouteServerClient), None) => {
            Verdict::Attach(local_as)
        }
        (Some(Role::Provider | Role::RouteServer), None)
        | (Some(Role::Customer | Role::RouteServerClient), Some(_)) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgp_wire::Origin;

    const US: u32 = 65001;
    const PEER: u32 = 65002;
    const OTHER: u32 = 65003;

    fn route(otc: Option<u32>) -> PathAttributes {
        AttributeEditor::new(Origin::Igp)
            .set_only_to_customer(otc)
            .build()
    }

    fn check_import(peer_role: Option<Role>, otc: Option<u32>, expected: Verdict) {
        let found = on_import(&route(otc), peer_role, PEER);
        assert_eq!(found, expected, "from {peer_role:?} with {otc:?}");
    }

    fn check_export(peer_role: Option<Role>, otc: Option<u32>, expected: Verdict) {
        let found = on_export(&route(otc), peer_role, US);
        assert_eq!(found, expected, "to {peer_role:?} with {otc:?}");
    }

    /// RFC 9234 §5, ingress.
    #[test]
    fn routes_that_come_in() {
        for role in [Role::Customer, Role::RouteServerClient] {
            check_import(Some(role), None, Verdict::Keep);
            check_import(Some(role), Some(PEER), Verdict::Leak);
            check_import(Some(role), Some(OTHER), Verdict::Leak);
        }
        check_import(Some(Role::Peer), None, Verdict::Attach(PEER));
        check_import(Some(Role::Peer), Some(PEER), Verdict::Keep);
        check_import(Some(Role::Peer), Some(OTHER), Verdict::Leak);
        for role in [Role::Provider, Role::RouteServer] {
            check_import(Some(role), None, Verdict::Attach(PEER));
            check_import(Some(role), Some(PEER), Verdict::Keep);
            check_import(Some(role), Some(OTHER), Verdict::Keep);
        }
        check_import(None, None, Verdict::Keep);
        check_import(None, Some(OTHER), Verdict::Keep);
    }

    /// RFC 9234 §5, egress.
    #[test]
    fn routes_that_go_out() {
        for role in [Role::Customer, Role::RouteServerClient] {
            check_export(Some(role), None, Verdict::Attach(US));
            check_export(Some(role), Some(OTHER), Verdict::Keep);
        }
        check_export(Some(Role::Peer), None, Verdict::Attach(US));
        check_export(Some(Role::Peer), Some(US), Verdict::Leak);
        for role in [Role::Provider, Role::RouteServer] {
            check_export(Some(role), None, Verdict::Keep);
            check_export(Some(role), Some(OTHER), Verdict::Leak);
        }
        check_export(None, None, Verdict::Keep);
        check_export(None, Some(OTHER), Verdict::Keep);
    }

    /// What the RFC is for: over any two sessions, only routes of customers reach providers and peers.
    #[test]
    fn no_way_through_us_is_a_leak() {
        for from in Role::ALL {
            for to in Role::ALL {
                let mut editor = AttributeEditor::from(&route(None));
                assert!(on_import(&route(None), Some(from), PEER).apply(&mut editor));
                let passes = on_export(&editor.build(), Some(to), US).apply(&mut editor);
                let downhill = matches!(to, Role::Customer | Role::RouteServerClient);
                let from_below = matches!(from, Role::Customer | Role::RouteServerClient);
                assert_eq!(passes, downhill || from_below, "{from:?} to {to:?}");
                let kept = editor.build().only_to_customer();
                match (passes, from_below, to) {
                    (true, false, _) => assert_eq!(kept, Some(PEER), "never overwritten"),
                    (true, true, Role::Provider | Role::RouteServer) => assert_eq!(kept, None),
                    (true, true, _) => assert_eq!(kept, Some(US), "{from:?} to {to:?}"),
                    (false, ..) => {}
                }
            }
        }
    }

    /// What we send a neighbour that plays the counterpart is never taken for a leak there.
    #[test]
    fn two_speakers_with_matching_roles_agree() {
        for peer_role in Role::ALL {
            for otc in [None, Some(OTHER)] {
                let mut editor = AttributeEditor::from(&route(otc));
                if on_export(&route(otc), Some(peer_role), US).apply(&mut editor) {
                    let ours = peer_role.counterpart();
                    let judged = on_import(&editor.build(), Some(ours), US);
                    assert_ne!(judged, Verdict::Leak, "{peer_role:?}, {otc:?}");
                }
            }
        }
    }
}
