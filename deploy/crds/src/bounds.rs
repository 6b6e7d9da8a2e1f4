//! Bounds that the API server asks for, to estimate what the rules cost: our own validation has none there. All are far
//! beyond what anybody writes.

use roadbed_api::Kind;

/// A place, a keyword of its schema, and the bound.
type Bound = (&'static str, &'static str, u32);

/// Longest name of an object in Kubernetes.
const NAME: u32 = 253;

/// The bounds of a kind.
pub(crate) fn bounds(kind: Kind) -> &'static [Bound] {
    match kind {
        Kind::IPPool | Kind::BGPRoutePolicy => &[],
        Kind::IPBlock => &[
            ("spec.pool", "maxLength", NAME),
            ("spec.owner.node", "maxLength", NAME),
        ],
        Kind::BGPPeer => &[
            ("spec.families", "maxItems", 16),
            ("spec.importPolicies", "maxItems", 1000),
            ("spec.importPolicies[]", "maxLength", NAME),
            ("spec.exportPolicies", "maxItems", 1000),
            ("spec.exportPolicies[]", "maxLength", NAME),
        ],
        Kind::BGPConfig => &[
            ("spec.nodePrefixes", "maxItems", 1000),
            ("spec.bmp", "maxProperties", 100),
        ],
    }
}
