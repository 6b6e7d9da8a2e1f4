//! From the API's specs to the speaker's settings, and the file of the standalone speaker.

mod listen_range;
mod relation;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_core::fsm::PeerSettings;
use bgp_core::max_prefix::{Action, MaxPrefix};
use bgp_core::policy::{Builtin, Chain, ImportContext, PolicySet, RouteSource, compile};
use bgp_wire::Family;
use ipnet::IpNet;
use roadbed_api::kinds::{
    AddressFamily, BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, DEFAULT_BGP_PORT, LimitAction,
    PrefixLimits,
};
use roadbed_api::{Metadata, Problems, Resource, Spec};
use serde::Deserialize;
use thiserror::Error;

use crate::speaker::{LocalRoute, PeerConfig, SpeakerConfig, SpeakerOptions};
use crate::transport::{Transport, Ttl};
pub use listen_range::ListenRange;

/// `bgpd.toml`: the same specs as the cluster's resources, without what only a cluster has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileConfig {
    /// As `BGPConfig`; `asNumber` and `routerId` are required here.
    pub bgp: BgpConfigSpec,
    /// As `BGPPeer`, by name; `nodeSelector` is refused.
    #[serde(default)]
    pub peers: BTreeMap<String, BgpPeerSpec>,
    /// As `BGPRoutePolicy`, by name.
    #[serde(default)]
    pub policies: BTreeMap<String, BgpRoutePolicySpec>,
    /// Where peers without an address of their own may connect from, by name.
    #[serde(default)]
    pub listen_ranges: BTreeMap<String, ListenRange>,
    /// What is originated and where learned routes go.
    #[serde(default)]
    pub router: RouterConfig,
}

/// What a router has beside its peers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterConfig {
    /// Prefixes to originate.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// Install learned routes in the kernel's main table as protocol 82; default true.
    #[serde(default = "yes")]
    pub install_routes: bool,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            install_routes: true,
        }
    }
}

fn yes() -> bool {
    true
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML, an unknown field, a wrong type: with line and column.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// The parser's finding.
        source: Box<toml::de::Error>,
    },
    /// Every wrong value, with its path.
    #[error("{path}: {problems}")]
    Invalid {
        /// The file.
        path: String,
        /// The findings.
        problems: Problems,
    },
}

/// A valid file, resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// For the start.
    pub options: SpeakerOptions,
    /// For the running speaker.
    pub config: SpeakerConfig,
    /// What to originate.
    pub local: Vec<LocalRoute>,
}

/// Reads and checks a file.
///
/// # Errors
/// When it cannot be read or used; all wrong values together.
pub fn load(path: &std::path::Path) -> Result<Resolved, ConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: name.clone(),
        source,
    })?;
    parse(&text, &name)
}

/// Checks the text of a file.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Resolved, ConfigError> {
    let file: FileConfig = toml::from_str(text).map_err(|mut source| {
        // It quotes the line.
        source.set_input(Some(&without_passwords(text)));
        ConfigError::Parse {
            path: name.to_owned(),
            source: Box::new(source),
        }
    })?;
    let mut problems = Problems::new();
    file.bgp.validate("bgp", &mut problems);
    let policies = declared(&file.policies, &mut problems);
    for (peer, spec) in &file.peers {
        spec.validate(&format!("peers.{peer}"), &mut problems);
        if let Some(node_as) = file.bgp.as_number {
            relation::validate(spec, node_as, &format!("peers.{peer}"), &mut problems);
        }
        unknown_policies(spec, &policies, &format!("peers.{peer}"), &mut problems);
        if spec.node_selector.is_some() {
            problems.add(
                format!("peers.{peer}.nodeSelector"),
                "is for clusters: this file configures one router; remove it",
            );
        }
        let same =
            |other: &(&String, &BgpPeerSpec)| other.0 < peer && other.1.address == spec.address;
        if let Some((other, _)) = file.peers.iter().find(same) {
            problems.add(
                format!("peers.{peer}.address"),
                format!(
                    "{} is the address of peer \"{other}\" too: one session per address",
                    spec.address
                ),
            );
        }
    }
    listen_range::validate(&file, &mut problems);
    for (i, prefix) in file.router.networks.iter().enumerate() {
        if *prefix != prefix.trunc() {
            problems.add(
                format!("router.networks[{i}]"),
                format!("{prefix} has host bits set: write {}", prefix.trunc()),
            );
        }
    }
    if file.bgp.as_number.is_none() {
        problems.add("bgp.asNumber", "is missing: a router needs its own AS");
    }
    if file.bgp.router_id.is_none() {
        problems.add(
            "bgp.routerId",
            "is missing: a router needs a BGP Identifier, usually its IPv4 loopback",
        );
    }
    let (Some(local_as), Some(router_id), true) =
        (file.bgp.as_number, file.bgp.router_id, problems.is_empty())
    else {
        return Err(ConfigError::Invalid {
            path: name.to_owned(),
            problems,
        });
    };
    let router = Router {
        local_as,
        router_id,
        policies: &policies,
    };
    Ok(Resolved {
        options: SpeakerOptions {
            local_as,
            router_id,
            cluster_id: file.bgp.cluster_id.unwrap_or(router_id),
            listen_port: file.bgp.listen_port.unwrap_or(DEFAULT_BGP_PORT),
            seed: seed(),
        },
        config: SpeakerConfig {
            peers: file
                .peers
                .iter()
                .map(|(name, spec)| (name.clone(), peer_config(name, spec, &router)))
                .collect(),
            ranges: file
                .listen_ranges
                .iter()
                .map(|(name, range)| (name.clone(), range.resolve(name, &router)))
                .collect(),
            import: ImportContext {
                pools: Vec::new(),
                node_prefixes: file.bgp.node_prefixes.clone(),
                accept_default_route: file.bgp.accept_default_route,
            },
            prefsrc: [None, None],
            install_routes: file.router.install_routes,
        },
        local: file
            .router
            .networks
            .iter()
            .map(|prefix| LocalRoute {
                prefix: *prefix,
                source: RouteSource::Static,
            })
            .collect(),
    })
}

/// Compiles the file's policies; what is wrong with them is reported under `policies.NAME`.
fn declared(specs: &BTreeMap<String, BgpRoutePolicySpec>, problems: &mut Problems) -> PolicySet {
    let resources: Vec<Resource<BgpRoutePolicySpec>> = specs
        .iter()
        .map(|(name, spec)| Resource::new(Metadata::named(name), spec.clone()))
        .collect();
    compile(&resources).unwrap_or_else(|found| {
        for problem in found.iter() {
            let path = problem.path.replacen("BGPRoutePolicy/", "policies.", 1);
            problems.add(path.replacen(".spec.", ".", 1), problem.message.clone());
        }
        PolicySet::default()
    })
}

/// The same text, byte for byte in the same places, with what follows a key `password` on its line blotted out.
fn without_passwords(text: &str) -> String {
    const KEY: &str = "password";
    let mut hidden = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let shown = line.find(KEY).map_or(line.len(), |at| at + KEY.len());
        hidden.push_str(&line[..shown]);
        for c in line[shown..].chars() {
            match c {
                ' ' | '=' | '\r' | '\n' => hidden.push(c),
                _ => (0..c.len_utf8()).for_each(|_| hidden.push('*')),
            }
        }
    }
    hidden
}

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
}

/// A peer's settings from its spec. The spec is valid: see [`Spec::validate`].
pub fn peer_config(name: &str, spec: &BgpPeerSpec, router: &Router<'_>) -> PeerConfig {
    let local_as = spec.local_as_number.unwrap_or(router.local_as);
    let families = spec
        .families
        .iter()
        .map(|family| match family {
            AddressFamily::Ipv4Unicast => Family::Ipv4Unicast,
            AddressFamily::Ipv6Unicast => Family::Ipv6Unicast,
        })
        .collect();
    let mut settings = PeerSettings::new(local_as, spec.as_number, router.router_id, families);
    if let Some(hold) = spec.hold_time_seconds {
        settings.hold_time = hold;
    }
    settings.keepalive = spec.keepalive_time_seconds;
    if let Some(retry) = spec.connect_retry_seconds {
        settings.connect_retry = Duration::from_secs(retry.into());
    }
    settings.passive = spec.passive;
    relation::set_role(spec, &mut settings);
    let ebgp = spec.as_number != local_as;
    PeerConfig {
        name: name.into(),
        address: spec.address,
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
        relation: relation::relation(spec),
    }
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
/// nothing pass: [`unknown_policies`] reports it.
fn chain(names: &[String], ebgp: bool, policies: &PolicySet) -> Chain {
    match (names, ebgp) {
        ([], true) => Chain::new(&[Builtin::Default]),
        ([], false) => Chain::new(&[Builtin::AcceptAll]),
        _ => policies.chain(names).unwrap_or_else(|_| Chain::new(&[])),
    }
}

/// Reports names in `importPolicies` and `exportPolicies` that are neither declared nor built in.
pub fn unknown_policies(
    spec: &BgpPeerSpec,
    policies: &PolicySet,
    path: &str,
    problems: &mut Problems,
) {
    for (field, names) in [
        ("importPolicies", &spec.import_policies),
        ("exportPolicies", &spec.export_policies),
    ] {
        for (i, name) in names.iter().enumerate() {
            if let Err(unknown) = policies.chain(&[name]) {
                problems.add(format!("{path}.{field}[{i}]"), unknown.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = r#"
        [bgp]
        asNumber = 65001
        routerId = "10.255.0.1"

        [peers.tor]
        address = "192.0.2.1"
        asNumber = 65101
        holdTimeSeconds = 9

        [router]
        networks = ["10.1.0.0/24"]
    "#;

    fn check(from: &str, to: &str, expected: &[&str]) {
        let text = VALID.replace(from, to);
        assert!(
            from.is_empty() || text != VALID,
            "{from} is not in the text"
        );
        let error = parse(&text, "bgpd.toml").unwrap_err().to_string();
        for expected in expected {
            assert!(error.contains(expected), "{error}\nlacks {expected}");
        }
    }

    #[test]
    fn a_valid_file() {
        let resolved = parse(VALID, "bgpd.toml").unwrap();
        assert_eq!(
            (resolved.options.local_as, resolved.options.listen_port),
            (65001, 179)
        );
        let peer = &resolved.config.peers["tor"];
        assert_eq!((peer.settings.hold_time, peer.port), (9, 179));
        assert_eq!(peer.import, Chain::new(&[Builtin::Default]));
        assert!(resolved.config.install_routes);
    }

    #[test]
    fn policies_relations_and_roles() {
        let text = VALID.replace(
            "[router]",
            "importPolicies = [\"from-tor\", \"default\"]\nrole = \"customer\"\nnextHop = \"self\"\nasOverride = true\n
            [policies.from-tor]\nrules = [{match = {communities = [\"65000:1\"]}, action = \"reject\"}]\ndefaultAction = \"next\"\n[router]",
        );
        let resolved = parse(&text, "bgpd.toml").unwrap();
        let peer = &resolved.config.peers["tor"];
        assert!(peer.import.is_declared() && peer.relation.as_override);
        assert!(peer.settings.role.is_some());
        let check = |more: &str, expected: &str| {
            let error = parse(
                &VALID.replace("[router]", &format!("{more}\n[router]")),
                "f",
            )
            .unwrap_err();
            assert!(
                error.to_string().contains(expected),
                "{error}\nlacks {expected}"
            );
        };
        check(
            "routeReflectorClient = true",
            "peers.tor.routeReflectorClient: is for iBGP",
        );
        check("roleStrict = true", "peers.tor.roleStrict");
        check("allowedOwnAs = 11", "peers.tor.allowedOwnAs");
        check(
            "[policies.p]\nrules = [{action = \"accept\"}, {action = \"reject\"}]",
            "policies.p.rules[1]",
        );
    }

    #[test]
    fn no_error_quotes_a_password() {
        for wrong in [
            "password = 4711",
            "password = \"4711",
            "password = [\"4711\"]",
            "passwords = \"4711é\"",
            "\"password\" = '4711' 5",
        ] {
            let text = VALID.replace("holdTimeSeconds = 9", wrong);
            let error = parse(&text, "bgpd.toml").unwrap_err().to_string();
            assert!(
                error.contains("line 9") && !error.contains("4711"),
                "{wrong}: {error}"
            );
        }
        let resolved = parse(
            &VALID.replace("holdTimeSeconds = 9", "password = \"4711\""),
            "bgpd.toml",
        );
        assert!(!format!("{:?}", resolved.unwrap()).contains("4711"));
    }

    #[test]
    fn wrong_files_name_the_field() {
        check(
            "holdTimeSeconds",
            "holdTime",
            &[
                "bgpd.toml",
                "line 9",
                "unknown field `holdTime`",
                "holdTimeSeconds",
            ],
        );
        check(
            "holdTimeSeconds = 9",
            "holdTimeSeconds = \"9\"",
            &["line 9", "invalid type: string \"9\""],
        );
        check(
            "holdTimeSeconds = 9",
            "holdTimeSeconds = 2",
            &["peers.tor.holdTimeSeconds: 2 is refused by RFC 4271"],
        );
        check(
            "holdTimeSeconds = 9",
            "nodeSelector = {}",
            &["peers.tor.nodeSelector: is for clusters"],
        );
        check("asNumber = 65001", "", &["bgp.asNumber: is missing"]);
        check(
            "asNumber = 65101",
            "asNumber = 0",
            &["peers.tor.asNumber: AS 0 is reserved"],
        );
        check(
            "10.1.0.0/24",
            "10.1.0.1/24",
            &["router.networks[0]: 10.1.0.1/24 has host bits set: write 10.1.0.0/24"],
        );
        check(
            "[router]",
            "[peers.b]\naddress = \"192.0.2.1\"\nasNumber = 1\n[router]",
            &["peers.tor.address", "peer \"b\""],
        );
        check(
            "holdTimeSeconds = 9",
            "importPolicies = [\"gold\"]\nport = 0",
            &[
                "peers.tor.port: 0 is not a TCP port",
                "peers.tor.importPolicies[0]: there is no route policy \"gold\"",
            ],
        );
    }
}
