//! What a peer's spec says of reflection, rewrites, roles and moves.

use bgp_core::fsm::PeerSettings;
use bgp_core::negotiation::Role;
use bgp_core::rib::{DefaultOriginate, Migration, NextHopMode, Relation};
use roadbed_api::Problems;
use roadbed_api::kinds::{
    AddressFamily, BgpPeerSpec, BgpRole, DefaultOriginate as WhenDefault, NextHopPolicy, PeerAs,
};

use super::Router;

/// The relation of a peer; its role and what else the OPENs decide is filled in when they agree.
pub(super) fn relation(spec: &BgpPeerSpec, router: &Router<'_>) -> Relation {
    let families = [AddressFamily::Ipv4Unicast, AddressFamily::Ipv6Unicast];
    Relation {
        reflector_client: spec.route_reflector_client,
        next_hop: match spec.next_hop {
            NextHopPolicy::Auto => NextHopMode::Auto,
            NextHopPolicy::Own => NextHopMode::Own,
            NextHopPolicy::Keep => NextHopMode::Keep,
        },
        as_override: spec.as_override,
        allow_own_as: spec.allowed_own_as,
        remove_private_as: spec.remove_private_as,
        migration: spec.as_migration.map(|migration| Migration {
            real_as: router.local_as,
            no_prepend: migration.no_prepend,
            replace_as: migration.replace_as,
        }),
        graceful_shutdown: spec.graceful_shutdown || router.graceful_shutdown,
        default_originate: families.map(|family| {
            let when = spec.default_originate.get(&family)?;
            Some(match when {
                WhenDefault::Always => DefaultOriginate::Always,
                WhenDefault::IfPresent => DefaultOriginate::IfPresent,
            })
        }),
        add_path: super::add_path::selection(spec),
        ..Relation::default()
    }
}

/// Puts our role into what the OPEN says.
pub(super) fn set_role(spec: &BgpPeerSpec, settings: &mut PeerSettings) {
    settings.role = spec.role.map(|role| match role {
        BgpRole::Provider => Role::Provider,
        BgpRole::RouteServer => Role::RouteServer,
        BgpRole::RouteServerClient => Role::RouteServerClient,
        BgpRole::Customer => Role::Customer,
        BgpRole::Peer => Role::Peer,
    });
    settings.role_strict = spec.role_strict;
}

/// What contradicts the kind of session, which only the node's AS tells.
pub(super) fn validate(spec: &BgpPeerSpec, node_as: u32, path: &str, problems: &mut Problems) {
    let ebgp = spec
        .as_number
        .is_ebgp(spec.local_as_number.unwrap_or(node_as));
    let mut only = |field: &str, set: bool, on_ebgp: bool, kind: &str| {
        if set && ebgp != on_ebgp {
            problems.add(
                format!("{path}.{field}"),
                format!(
                    "is for {kind}, and AS {} makes this peer the other kind: remove it",
                    spec.as_number
                ),
            );
        }
    };
    only(
        "routeReflectorClient",
        spec.route_reflector_client,
        false,
        "iBGP",
    );
    only("asOverride", spec.as_override, true, "eBGP");
    only("removePrivateAs", spec.remove_private_as, true, "eBGP");
    only("role", spec.role.is_some(), true, "eBGP");
    let migration = spec.as_migration;
    only("asMigration", migration.is_some(), true, "eBGP");
    only(
        "enforceFirstAs",
        spec.enforce_first_as == Some(true),
        true,
        "eBGP",
    );
    if migration.is_some() && spec.local_as_number == Some(node_as) {
        problems.add(
            format!("{path}.asMigration"),
            format!("localAsNumber {node_as} is our AS: set it to the former one"),
        );
    }
    if migration.is_some_and(|m| m.dual_as) && spec.as_number == PeerAs::Number(node_as) {
        problems.add(
            format!("{path}.asMigration.dualAs"),
            format!("would make peers of one AS, {node_as}, of an eBGP session: remove it"),
        );
    }
}
