//! From the API's specs to the speaker's settings: one peer here, several in `peers`, the file of the standalone
//! speaker in `file`, and when it changes in `watch`.

mod add_path;
mod file;
mod peers;
mod relation;
mod toml;
mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bgp_core::fsm::{PeerSettings, RemoteAs};
use bgp_core::max_prefix::{Action, MaxPrefix};
use bgp_core::policy::{Builtin, Chain, PolicySet};
use bgp_core::rib::{Aggregate, MedRules, Multipath};
use bgp_wire::Family;
use roadbed_api::kinds::{
    AddressFamily, BgpConfigSpec, BgpPeerSpec, BgpRole, DEFAULT_BGP_PORT, DEFAULT_MAX_PATHS,
    LimitAction, LinkBandwidth, PeerAs, PrefixLimits,
};

pub use file::{ConfigError, Resolved, load, parse};
pub use peers::{Clash, clashes, contradictions, sessions};
pub use watch::Watch;

use crate::speaker::PeerConfig;
use crate::transport::{Transport, Ttl};

/// A key for hashes that peers cannot guess.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's keys are random per process and reach us only through a hash.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Who speaks to the peers, and which policies there are.
#[derive(Clone, Copy, Debug)]
pub struct Router<'a> {
    /// Our AS, for peers without one of their own towards us.
    pub local_as: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Declared route policies.
    pub policies: &'a PolicySet,
    /// The whole speaker is about to go (RFC 8326).
    pub graceful_shutdown: bool,
}

/// The settings of the peer at `address` from its spec, which is valid: see [`Spec::validate`](roadbed_api::Spec).
fn peer_config(name: &str, address: IpAddr, spec: &BgpPeerSpec, router: &Router<'_>) -> PeerConfig {
    let local_as = spec.local_as_number.unwrap_or(router.local_as);
    let families = spec
        .families
        .iter()
        .map(|family| match family {
            AddressFamily::Ipv4Unicast => Family::Ipv4Unicast,
            AddressFamily::Ipv6Unicast => Family::Ipv6Unicast,
        })
        .collect();
    let remote = match spec.as_number {
        PeerAs::Number(asn) => RemoteAs::Asn(asn),
        PeerAs::External => RemoteAs::External,
        PeerAs::Internal => RemoteAs::Internal,
    };
    let mut settings = PeerSettings::new(local_as, remote, router.router_id, families);
    if let Some(hold) = spec.hold_time_seconds {
        settings.hold_time = hold;
    }
    settings.keepalive = spec.keepalive_time_seconds;
    if let Some(retry) = spec.connect_retry_seconds {
        settings.connect_retry = Duration::from_secs(retry.into());
    }
    settings.passive = spec.passive || spec.listen_range.is_some();
    settings.extended_next_hop = spec.extended_next_hop;
    settings.other_local_as = spec
        .as_migration
        .filter(|migration| migration.dual_as)
        .map(|_| router.local_as);
    relation::set_role(spec, &mut settings);
    add_path::offer(spec, &mut settings);
    let ebgp = spec.as_number.is_ebgp(local_as);
    PeerConfig {
        name: name.into(),
        address,
        port: spec.port.unwrap_or(DEFAULT_BGP_PORT),
        source_address: spec.source_address,
        settings,
        import: chain(&spec.import_policies, ebgp, router.policies),
        export: chain(&spec.export_policies, ebgp, router.policies),
        transport: Transport {
            password: spec.password.clone(),
            ttl: Ttl::new(spec.ttl_security_hops, spec.multihop_ttl, ebgp),
        },
        limits: [limits(&spec.max_prefixes), limits(&spec.max_prefixes_out)],
        // A route server leaves its own AS out of the path (RFC 7947 §2.2.2.1).
        enforce_first_as: spec
            .enforce_first_as
            .unwrap_or(spec.role != Some(BgpRole::RouteServerClient)),
        shutdown: spec.shutdown.clone(),
        relation: relation::relation(spec, router),
    }
}

/// How MEDs are compared.
pub fn med_rules(bgp: &BgpConfigSpec) -> MedRules {
    MedRules {
        always_compare: bgp.always_compare_med,
        missing_is_worst: bgp.missing_med_as_worst,
    }
}

/// Which paths share traffic.
pub fn multipath(bgp: &BgpConfigSpec) -> Multipath {
    Multipath {
        max_paths: bgp.max_paths.unwrap_or(DEFAULT_MAX_PATHS),
        max_paths_ibgp: bgp.max_paths_ibgp.unwrap_or(DEFAULT_MAX_PATHS),
        as_path_relax: bgp.multipath_as_path_relax,
        link_bandwidth: bgp.link_bandwidth == LinkBandwidth::Use,
    }
}

/// What is aggregated.
pub fn aggregates(bgp: &BgpConfigSpec) -> Vec<Aggregate> {
    let aggregates = bgp.aggregates.iter().map(|aggregate| Aggregate {
        prefix: aggregate.prefix,
        summary_only: aggregate.summary_only,
    });
    aggregates.collect()
}

/// In the order of [`Family::ALL`].
fn limits(limits: &PrefixLimits) -> [Option<MaxPrefix>; 2] {
    [AddressFamily::Ipv4Unicast, AddressFamily::Ipv6Unicast].map(|family| {
        let limit = limits.get(&family)?;
        let restart = limit.restart_seconds;
        Some(MaxPrefix {
            limit: usize::try_from(limit.limit).unwrap_or(usize::MAX),
            warn_percent: limit.warn_at_percent(),
            action: match limit.action {
                LimitAction::Warn => Action::Warn,
                LimitAction::Idle => Action::Idle {
                    restart_after: restart.map(|seconds| Duration::from_secs(seconds.into())),
                },
            },
        })
    })
}

/// The chain of these names; without any, RFC 8212 towards eBGP, everything towards iBGP. A name that does not exist lets
/// nothing pass: [`contradictions`] reports it.
fn chain(names: &[String], ebgp: bool, policies: &PolicySet) -> Chain {
    match (names, ebgp) {
        ([], true) => Chain::new(&[Builtin::Default]),
        ([], false) => Chain::new(&[Builtin::AcceptAll]),
        _ => policies.chain(names).unwrap_or_else(|_| Chain::new(&[])),
    }
}

#[cfg(test)]
mod tests;
