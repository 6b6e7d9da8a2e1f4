//! Node-local settings: file, then `ROADBED_*` environment, then flags. Read once; nothing below `main` reads them again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use roadbed_api::Problems;
use roadbed_api::names::{DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, SOCKET_NAME};
use roadbed_store::StoreConfig;
use serde::Deserialize;
use thiserror::Error;

use crate::cni::CniConfig;

/// Longest path of a unix socket, bytes (`sun_path` less its NUL).
const SOCKET_PATH_MAX: usize = 107;
/// Settings that the environment may give as `ROADBED_<KEY>`, `__` for a level down. Other variables of that shape are
/// somebody else's: Kubernetes makes `ROADBED_SERVICE_HOST` of a Service named `roadbed`.
const KEYS: [&str; 12] = [
    "NODE",
    "LABELS__",
    "AS_NUMBER",
    "ROUTER_ID",
    "NODE_ADDRESSES",
    "RUN_DIR",
    "STATE_DIR",
    "STORE__",
    "API_SERVER",
    "MTU",
    "COOL_DOWN_SECONDS",
    "CNI__",
];
/// The variable of the node's name.
const NODE: &str = "ROADBED_NODE";
/// Smallest MTU that carries IPv6 (RFC 8200 §5).
const MTU_MIN: u32 = 1280;

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The node's name; a DNS subdomain.
    pub node: String,
    /// The node's labels, which pools and peers select by; `kubernetes.io/hostname` is added. In a Kubernetes cluster
    /// they are added to those of the Node, and count before them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The node's AS; absent: that of its Node, else of the `BGPConfig`.
    #[serde(default)]
    pub as_number: Option<u32>,
    /// BGP Identifier; absent: the first IPv4 address of the node.
    #[serde(default)]
    pub router_id: Option<Ipv4Addr>,
    /// Loopback addresses of the node: announced, and source of what it sends to pods. Absent: the `InternalIP`s of the
    /// Node in a Kubernetes cluster, which are announced only inside a declared node prefix.
    #[serde(default)]
    pub node_addresses: Vec<IpAddr>,
    /// Socket, lock, ledger. At most one agent per directory.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// What must outlive a reboot: the snapshot.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where resources live.
    pub store: StoreConfig,
    /// URL of the API server, as `store.api_server`; what `ROADBED_API_SERVER` sets.
    #[serde(default)]
    pub api_server: Option<String>,
    /// MTU of pod interfaces, bytes; absent: the smallest of the node's links.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Seconds that a released address is kept back; default 30.
    #[serde(default = "default_cool_down")]
    pub cool_down_seconds: u64,
    /// Plugin and network configuration.
    #[serde(default)]
    pub cni: CniConfig,
}

fn default_run_dir() -> PathBuf {
    DEFAULT_RUN_DIR.into()
}

fn default_state_dir() -> PathBuf {
    DEFAULT_STATE_DIR.into()
}

fn default_cool_down() -> u64 {
    30
}

/// The settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not readable, not TOML, an unknown or missing field, a wrong type.
    #[error("{path}: {source}")]
    Load {
        /// The file.
        path: String,
        /// What the loader says.
        source: Box<config::ConfigError>,
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

/// What flags override.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--node`
    pub node: Option<String>,
    /// `--run-dir`
    pub run_dir: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
}

impl AgentConfig {
    /// Loads and checks; `environment` are all variables, of which `ROADBED_<KEY>` (`__` for a level down) count.
    ///
    /// # Errors
    /// When it cannot be loaded, or all wrong values together.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let settings = environment.into_iter().filter(|(key, _)| is_setting(key));
        // A name as it stands: `525400e1` would be read as a number.
        let (names, settings): (Vec<_>, Vec<_>) = settings.partition(|(key, _)| key == NODE);
        let node = overrides
            .node
            .clone()
            .or_else(|| names.into_iter().next().map(|(_, name)| name));
        let environment = config::Environment::with_prefix("ROADBED")
            .prefix_separator("_")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("node_addresses")
            .with_list_parse_key("cni.chain")
            .try_parsing(true)
            .source(Some(settings.into_iter().collect()));
        let text = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let loaded = config::Config::builder()
            .add_source(config::File::from(path).format(config::FileFormat::Toml))
            .add_source(environment)
            .set_override_option("node", node)
            .and_then(|b| b.set_override_option("run_dir", text(&overrides.run_dir)))
            .and_then(|b| b.set_override_option("state_dir", text(&overrides.state_dir)))
            .and_then(|b| b.build())
            .and_then(config::Config::try_deserialize::<AgentConfig>);
        let mut config = loaded.map_err(|source| ConfigError::Load {
            path: name.clone(),
            source: Box::new(source),
        })?;
        if let StoreConfig::Kubernetes(kubernetes) = &mut config.store {
            // The environment's word counts more than the file's.
            let url = config.api_server.take();
            kubernetes.api_server = url.or(kubernetes.api_server.take());
        }
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid {
                path: name,
                problems,
            });
        }
        if !matches!(config.store, StoreConfig::Kubernetes(_)) {
            config
                .labels
                .entry("kubernetes.io/hostname".into())
                .or_insert_with(|| config.node.clone());
        }
        Ok(config)
    }

    fn problems(&self) -> Problems {
        let mut problems = Problems::new();
        let mut name = Problems::new();
        roadbed_api::Metadata::named(&self.node).validate(&mut name);
        for problem in name.iter() {
            problems.add("node", problem.message.clone());
        }
        let socket = self.run_dir.join(SOCKET_NAME);
        let len = socket.as_os_str().len();
        if len > SOCKET_PATH_MAX {
            problems.add(
                "run_dir",
                format!("{} has {len} bytes, a socket's path at most {SOCKET_PATH_MAX}: use a shorter directory", socket.display()),
            );
        }
        self.cni.validate(&mut problems);
        if self.api_server.is_some() {
            problems.add(
                "api_server",
                "is of a cluster: set store.kind = \"kubernetes\", or leave ROADBED_API_SERVER away",
            );
        }
        for (field, path) in [("run_dir", &self.run_dir), ("state_dir", &self.state_dir)] {
            if !path.is_absolute() {
                problems.add(field, format!("{} is not an absolute path", path.display()));
            }
        }
        if let Some(mtu) = self.mtu.filter(|mtu| !(MTU_MIN..=65535).contains(mtu)) {
            problems.add(
                "mtu",
                format!("{mtu} is out of range: {MTU_MIN} (RFC 8200) to 65535"),
            );
        }
        for (i, address) in self.node_addresses.iter().enumerate() {
            if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
                problems.add(
                    format!("node_addresses[{i}]"),
                    format!("{address} cannot be reached from elsewhere"),
                );
            }
        }
        if matches!(self.as_number, Some(0 | 23456 | u32::MAX)) {
            problems.add(
                "as_number",
                "is reserved: use 1 to 4294967294, not 23456 (AS_TRANS)",
            );
        }
        problems
    }
}

fn is_setting(variable: &str) -> bool {
    let Some(name) = variable.strip_prefix("ROADBED_") else {
        return false;
    };
    KEYS.iter().any(|key| match key.strip_suffix("__") {
        Some(_) => name.starts_with(key),
        None => name == *key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AgentConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let overrides = Overrides {
            run_dir: text.contains("override").then(|| "/run/other".into()),
            ..Overrides::default()
        };
        let environment = text
            .contains("environment")
            .then_some(("ROADBED_STORE__PATH".into(), "/y/store.db".into()));
        AgentConfig::load(&path, environment, &overrides).map_err(|e| e.to_string())
    }

    const VALID: &str = "node = \"n1\"\nnode_addresses = [\"10.255.0.11\", \"fd00:255::11\"]\n[store]\nkind = \"sqlite\"\npath = \"/x/store.db\"\n";

    #[test]
    fn defaults_and_overrides() {
        let config = load(VALID).unwrap();
        assert_eq!(config.run_dir, Path::new("/run/roadbed"));
        assert_eq!(config.labels["kubernetes.io/hostname"], "n1");
        assert_eq!(
            load(&format!("# override\n{VALID}")).unwrap().run_dir,
            Path::new("/run/other")
        );
    }

    #[test]
    fn names_that_look_like_numbers_stay_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, VALID.replace("node = \"n1\"\n", "")).unwrap();
        for name in ["00163e123456", "525400e1", "007", "1.50", "true"] {
            let environment = [(NODE.to_owned(), name.to_owned())];
            let config = AgentConfig::load(&path, environment, &Overrides::default()).unwrap();
            assert_eq!(config.node, name);
        }
    }

    #[test]
    fn other_variables_are_not_ours() {
        let check = |variable: &str, expected: bool| {
            assert_eq!(is_setting(variable), expected, "{variable}")
        };
        check("ROADBED_NODE", true);
        check("ROADBED_STORE__PATH", true);
        check("ROADBED_LABELS__RACK", true);
        check("ROADBED_STORE", false);
        check("ROADBED_SERVICE_HOST", false);
        check("ROADBED_NODE_PORT", false);
        check("NODE", false);
    }

    #[test]
    fn wrong_files_name_the_field() {
        let check = |from: &str, to: &str, expected: &[&str]| {
            let error = load(&VALID.replace(from, to)).unwrap_err();
            for expected in expected {
                assert!(error.contains(expected), "{error}\nlacks {expected}");
            }
        };
        check("node = ", "nodee = ", &["agent.toml", "nodee"]);
        check("\"n1\"", "\"N 1\"", &["node: ", "not a valid name"]);
        check(
            "10.255.0.11",
            "0.0.0.0",
            &["node_addresses[0]: 0.0.0.0 cannot be reached"],
        );
        check(
            "[store]",
            "mtu = 100\nrun_dir = \"run\"\n[store]",
            &[
                "run_dir: run is not an absolute path",
                "mtu: 100 is out of range",
            ],
        );
        check("sqlite", "oracle", &["oracle"]);
        check(
            "[store]",
            "[cni]\nbin_dir = \"bin\"\nconf_dir = \"\"\nnetwork = \"a/b\"\nchain = [\"roadbed\", \"../x\"]\n[store]",
            &[
                "cni.bin_dir: bin is not an absolute path",
                "cni.conf_dir:  is not an absolute path",
                "cni.network: ",
                "cni.chain[0]: \"roadbed\" comes first by itself",
                "cni.chain[1]: \"../x\" is not the name of a plugin",
            ],
        );
        let long = format!("run_dir = \"/{}\"\n[store]", "x".repeat(120));
        check("[store]", &long, &["run_dir", "at most 107"]);
    }
}
