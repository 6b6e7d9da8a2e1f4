//! `bgpd.toml`: the same specs as the cluster's resources, without what only a cluster has.
//!
//! | table | is |
//! |---|---|
//! | `[bgp]` | a `BGPConfig`'s spec; `asNumber` and `routerId` are required here |
//! | `[bmp.NAME]` | an entry of its `bmp`, which is refused in `[bgp]` |
//! | `[peers.NAME]` | a `BGPPeer`'s; `nodeSelector` is refused |
//! | `[policies.NAME]` | a `BGPRoutePolicy`'s |
//! | `[router]` | [`RouterConfig`] |
//!
//! Each table is read and judged by itself, so that no mistake hides another.

use std::collections::BTreeMap;
use std::path::Path;

use bgp_core::policy::{ImportContext, PolicySet, RouteSource, attributes_of, compile};
use ipnet::IpNet;
use roadbed_api::document::{self, DocumentError, DocumentErrors, Node, Place, unknown_field};
use roadbed_api::kinds::{
    BUILTIN_POLICIES, BgpAnnouncement, BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec,
    BmpStationSpec, DEFAULT_BGP_PORT, NodeMesh,
};
use roadbed_api::{Metadata, Problems, Resource, Spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{
    Router, aggregates, clashes, contradictions, med_rules, multipath, seed, sessions, toml,
};
use crate::speaker::{LocalRoute, SpeakerConfig, SpeakerOptions};

/// Longest file that is read, bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Most problems that are reported.
const MAX_PROBLEMS: usize = 100;

/// Tables of the file.
const TABLES: [&str; 5] = ["bgp", "bmp", "peers", "policies", "router"];

/// What a router has beside its peers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RouterConfig {
    /// Prefixes to originate.
    #[serde(default)]
    networks: Vec<IpNet>,
    /// The same, with attributes.
    #[serde(default)]
    announcements: Vec<BgpAnnouncement>,
    /// Install learned routes in the kernel's main table as protocol 82; default true.
    #[serde(default = "yes")]
    install_routes: bool,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            announcements: Vec::new(),
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
    /// Everything that is wrong with what it says; one line each.
    #[error(transparent)]
    Wrong(DocumentErrors),
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
/// When it cannot be read or used; everything that is wrong together.
pub fn load(path: &Path) -> Result<Resolved, ConfigError> {
    let name = path.display().to_string();
    let text = read(path).map_err(|source| ConfigError::Read {
        path: name.clone(),
        source,
    })?;
    parse(&text, &name).map_err(ConfigError::Wrong)
}

/// The text of a file.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "has {length} bytes, more than the {MAX_BYTES} of any configuration"
        )));
    }
    std::fs::read_to_string(path)
}

/// Checks the text of a file.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn parse(text: &str, name: &str) -> Result<Resolved, DocumentErrors> {
    let mut errors = Errors {
        origin: name,
        found: DocumentErrors::new(),
    };
    let resolved = match toml::parse(text) {
        Ok(root) => resolve(&root, &mut errors),
        Err(faults) => {
            for (place, message) in faults {
                errors.add(place, String::new(), message);
            }
            None
        }
    };
    match resolved {
        Some(resolved) if errors.found.is_empty() => Ok(resolved),
        _ => Err(errors.in_order()),
    }
}

/// What is wrong with the file so far.
struct Errors<'a> {
    origin: &'a str,
    found: DocumentErrors,
}

impl Errors<'_> {
    /// What was found, in the order of the text and bounded.
    fn in_order(mut self) -> DocumentErrors {
        self.found.sort();
        if self.found.len() > MAX_PROBLEMS {
            self.found.truncate(MAX_PROBLEMS);
            self.found.push(DocumentError {
                origin: self.origin.to_owned(),
                document: 0,
                line: None,
                column: None,
                object: None,
                path: String::new(),
                message: "further problems are not shown".to_owned(),
            });
        }
        self.found
    }

    fn add(&mut self, place: Place, path: String, message: String) {
        self.found.push(DocumentError {
            origin: self.origin.to_owned(),
            document: 1,
            line: Some(place.line),
            column: Some(place.column),
            object: None,
            path,
            message,
        });
    }

    /// A table that may be absent; `None` when it was reported.
    fn table<T: DeserializeOwned + Default>(&mut self, root: &Node, name: &str) -> Option<T> {
        match root.get(name) {
            Some(node) => self.read(node, name),
            None => Some(T::default()),
        }
    }

    fn read<T: DeserializeOwned>(&mut self, node: &Node, path: &str) -> Option<T> {
        document::read(node, path, &mut |found| {
            self.add(found.place, found.path, found.message);
        })
    }

    /// The tables of `[name.NAME]` that could be read, and the names of the others.
    fn named<T: DeserializeOwned>(
        &mut self,
        root: &Node,
        name: &str,
    ) -> (BTreeMap<String, T>, Vec<String>) {
        let (mut read, mut unread) = (BTreeMap::new(), Vec::new());
        let Some(node) = root.get(name) else {
            return (read, unread);
        };
        let Some(entries) = node.entries() else {
            let message = format!("is {}: expected tables [{name}.NAME]", node.described());
            self.add(node.place, name.to_owned(), message);
            return (read, unread);
        };
        for entry in entries {
            let path = format!("{name}.{}", document::shown(&entry.key));
            match self.read(&entry.value, &path) {
                Some(spec) => drop(read.insert(entry.key.clone(), spec)),
                None => unread.push(entry.key.clone()),
            }
        }
        (read, unread)
    }
}

fn resolve(root: &Node, errors: &mut Errors<'_>) -> Option<Resolved> {
    for entry in root.entries().unwrap_or_default() {
        if !TABLES.contains(&entry.key.as_str()) {
            let message = unknown_field(&entry.key, &TABLES);
            errors.add(entry.place, document::shown(&entry.key), message);
        }
    }
    let bgp: Option<BgpConfigSpec> = errors.table(root, "bgp");
    let router: Option<RouterConfig> = errors.table(root, "router");
    let (policies, unread) = errors.named::<BgpRoutePolicySpec>(root, "policies");
    let (peers, _) = errors.named::<BgpPeerSpec>(root, "peers");
    let (stations, _) = errors.named::<BmpStationSpec>(root, "bmp");

    let mut problems = Problems::new();
    if let Some(bgp) = &bgp {
        bgp.validate("bgp", &mut problems);
        if bgp.as_number.is_none() {
            problems.add("bgp.asNumber", "is missing: a router needs its own AS");
        }
        if !bgp.bmp.is_empty() {
            problems.add("bgp.bmp", "is for clusters: write tables [bmp.NAME]");
        }
        if bgp.node_mesh != NodeMesh::Auto {
            problems.add(
                "bgp.nodeMesh",
                "is for Kubernetes clusters: write tables [peers.NAME]",
            );
        }
        if bgp.router_id.is_none() {
            problems.add(
                "bgp.routerId",
                "is missing: a router needs a BGP Identifier, usually its IPv4 loopback",
            );
        }
    }
    for (i, prefix) in router.iter().flat_map(|r| &r.networks).enumerate() {
        if *prefix != prefix.trunc() {
            problems.add(
                format!("router.networks[{i}]"),
                format!("{prefix} has host bits set: write {}", prefix.trunc()),
            );
        }
    }
    if let Some(router) = &router {
        let path = "router.announcements";
        BgpAnnouncement::validate_all(&router.announcements, path, &mut problems);
        let twice = |route: &BgpAnnouncement| router.networks.contains(&route.prefix);
        for (i, route) in router.announcements.iter().enumerate() {
            if twice(route) {
                problems.add(
                    format!("{path}[{i}].prefix"),
                    format!("{} is in networks too: keep one", route.prefix),
                );
            }
        }
    }
    for (name, station) in &stations {
        station.validate(&format!("bmp.{name}"), &mut problems);
    }
    let policies = declared(policies, unread, &mut problems);
    let local_as = bgp.as_ref().and_then(|bgp| bgp.as_number);
    judge_peers(&peers, local_as, &policies, &mut problems);
    for problem in problems.iter() {
        let (path, message) = (problem.path.clone(), problem.message.clone());
        errors.add(root.place_of(&path), path, message);
    }

    let (bgp, networks) = (bgp?, router?);
    let options = SpeakerOptions {
        local_as: bgp.as_number?,
        router_id: bgp.router_id?,
        cluster_id: bgp.cluster_id.or(bgp.router_id)?,
        listen_port: bgp.listen_port.unwrap_or(DEFAULT_BGP_PORT),
        seed: seed(),
    };
    let router = Router {
        local_as: options.local_as,
        router_id: options.router_id,
        policies: &policies,
        graceful_shutdown: bgp.graceful_shutdown,
    };
    let all = peers.iter().map(|(name, spec)| (name.as_str(), spec));
    let (peers, ranges) = sessions(all, &router);
    Some(Resolved {
        options,
        config: SpeakerConfig {
            peers,
            ranges,
            med: med_rules(&bgp),
            multipath: multipath(&bgp),
            aggregates: aggregates(&bgp),
            import: ImportContext {
                pools: Vec::new(),
                node_prefixes: bgp.node_prefixes,
                accept_default_route: bgp.accept_default_route,
            },
            prefsrc: [None, None],
            install_routes: networks.install_routes,
            stations: stations
                .iter()
                .map(|(name, station)| (name.clone(), station.into()))
                .collect(),
        },
        local: originated(networks),
    })
}

fn originated(router: RouterConfig) -> Vec<LocalRoute> {
    let plain = router.networks.into_iter().map(|prefix| (prefix, None));
    let declared = router.announcements.into_iter();
    let declared = declared.map(|route| (route.prefix, attributes_of(&route.set)));
    let all = plain
        .chain(declared)
        .map(|(prefix, attributes)| LocalRoute {
            prefix,
            source: RouteSource::Static,
            attributes,
        });
    all.collect()
}

fn judge_peers(
    peers: &BTreeMap<String, BgpPeerSpec>,
    local_as: Option<u32>,
    policies: &PolicySet,
    problems: &mut Problems,
) {
    for (name, spec) in peers {
        let path = format!("peers.{name}");
        spec.validate(&path, problems);
        contradictions(spec, local_as, policies, &path, problems);
        if spec.node_selector.is_some() {
            problems.add(
                format!("{path}.nodeSelector"),
                "is for clusters: this file configures one router; remove it",
            );
        }
    }
    let all: Vec<_> = peers.iter().map(|(n, spec)| (n.as_str(), spec)).collect();
    for clash in clashes(&all) {
        problems.add(
            format!("peers.{}.{}", clash.peer, clash.field),
            clash.message,
        );
    }
}

/// Compiles the file's policies; what is wrong with them is reported under `policies.NAME`, and they are there under
/// their names all the same.
fn declared(
    specs: BTreeMap<String, BgpRoutePolicySpec>,
    unread: Vec<String>,
    problems: &mut Problems,
) -> PolicySet {
    let empty = |name| Resource::new(Metadata::named(name), BgpRoutePolicySpec::default());
    let names: Vec<String> = specs.keys().chain(&unread).cloned().collect();
    let resources: Vec<Resource<BgpRoutePolicySpec>> = specs
        .into_iter()
        .map(|(name, spec)| Resource::new(Metadata::named(name), spec))
        .chain(unread.into_iter().map(empty))
        .collect();
    compile(&resources).unwrap_or_else(|found| {
        for problem in found.iter() {
            let path = problem.path.replacen("BGPRoutePolicy/", "policies.", 1);
            let path = path.replacen(".spec.", ".", 1);
            let path = path.strip_suffix(".metadata.name").unwrap_or(&path);
            problems.add(path, problem.message.clone());
        }
        let others = names
            .into_iter()
            .filter(|name| !BUILTIN_POLICIES.contains(&name.as_str()));
        compile(&others.map(empty).collect::<Vec<_>>()).unwrap_or_default()
    })
}
