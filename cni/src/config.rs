//! The network configuration on stdin. Unknown keys pass, as the spec demands; of the keys we use, every problem is named
//! by its key, all together. A command looks only at the keys it needs: a wrong `mtu` must not keep a pod from DEL.

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::AttachmentKey;
use roadbed_api::names;
use roadbed_hostnet::MacAddr;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::env::{Command, parse_address};
use crate::error::CniError;
use crate::ipam::Ipam;
use crate::version::CniVersion;

/// Largest configuration taken, in bytes.
pub(crate) const MAX_STDIN: usize = 1024 * 1024;
/// A socket path holds 107 bytes.
const MAX_RUN_DIR: usize = 107 - "/agent.sock".len();
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const MAX_WAIT_SECONDS: u64 = 120;
/// Bytes; the lower end is what IPv6 needs (RFC 8200 §5).
const MTU_RANGE: std::ops::RangeInclusive<u64> = 1280..=65535;

/// The configuration, validated for one command.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConf {
    /// `cniVersion`.
    pub version: CniVersion,
    /// `name`: the network.
    pub name: String,
    /// `runDir`: where the agent's socket is.
    pub run_dir: PathBuf,
    /// `mtu`, bytes (ADD).
    pub mtu: Option<u32>,
    /// `waitSeconds`: how long ADD waits for an agent that is away.
    pub wait: Duration,
    /// `runtimeConfig.mac` (ADD).
    pub mac: Option<MacAddr>,
    /// `runtimeConfig.ips` (ADD); empty when an IPAM plugin chooses.
    pub ips: Vec<IpAddr>,
    /// `ipam`, unless addresses are the agent's.
    pub ipam: Option<Ipam>,
    /// `prevResult` (CHECK).
    pub prev_result: Option<PrevResult>,
    /// `cni.dev/valid-attachments` (GC): container ID and interface name.
    pub valid_attachments: Vec<(String, String)>,
}

/// What CHECK needs of an earlier result; other keys pass.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PrevResult {
    /// Interfaces of the whole chain.
    #[serde(default)]
    pub interfaces: Vec<PrevInterface>,
    /// Addresses of the whole chain.
    #[serde(default)]
    pub ips: Vec<PrevIp>,
}

/// An interface of an earlier result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PrevInterface {
    /// Name.
    pub name: String,
    /// Ethernet address, if the plugin gave one.
    #[serde(default)]
    pub mac: String,
    /// MTU in bytes; told since 1.1.0.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Namespace path; empty for the host's.
    #[serde(default)]
    pub sandbox: String,
}

/// An address of an earlier result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PrevIp {
    /// Address and prefix length.
    pub address: IpNet,
    /// Its gateway.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Index into the interfaces.
    #[serde(default)]
    pub interface: Option<usize>,
}

impl PrevResult {
    /// The addresses on `ifname` inside `netns`; those that name no interface count as ours.
    pub(crate) fn ips_of<'a>(
        &'a self,
        ifname: &'a str,
        netns: &'a str,
    ) -> impl Iterator<Item = &'a PrevIp> {
        self.ips.iter().filter(move |ip| match ip.interface {
            None => true,
            Some(index) => self
                .interfaces
                .get(index)
                .is_some_and(|i| i.name == ifname && i.sandbox == netns),
        })
    }
}

/// Parses what arrived on stdin as each command would; for tests and fuzzing. Never panics, whatever the bytes.
pub fn parse_stdin(bytes: &[u8]) -> Vec<Result<NetConf, CniError>> {
    Command::ALL
        .into_iter()
        .map(|command| NetConf::parse(bytes, command))
        .collect()
}

/// Reads stdin to its end, up to the bound.
pub(crate) fn read_stdin(stdin: impl Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_STDIN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(CniError::Stdin)?;
    if bytes.len() > MAX_STDIN {
        return Err(CniError::Config(vec![format!(
            "more than {MAX_STDIN} bytes on stdin"
        )]));
    }
    Ok(bytes)
}

/// The version to answer in, from input that may be anything.
pub(crate) fn peek_version(bytes: &[u8]) -> Option<CniVersion> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    CniVersion::parse(value.get("cniVersion")?.as_str()?)
}

impl NetConf {
    /// Parses and validates what `command` needs.
    pub fn parse(bytes: &[u8], command: Command) -> Result<Self, CniError> {
        let mut keys = Keys {
            object: parse_object(bytes)?,
            problems: Vec::new(),
        };
        let version = version_for(keys.string("cniVersion").as_deref(), command)?;
        let mut conf = Self {
            version,
            name: keys.string("name").unwrap_or_default(),
            run_dir: keys.run_dir(),
            mtu: None,
            wait: DEFAULT_WAIT,
            mac: None,
            ips: Vec::new(),
            ipam: keys.ipam(bytes, command),
            prev_result: None,
            valid_attachments: Vec::new(),
        };
        keys.check_name(&conf.name);
        match command {
            Command::Add => {
                keys.string("type");
                conf.mtu = keys.mtu();
                conf.wait = keys.wait();
                conf.mac = keys.mac();
                conf.ips = keys.ips();
                keys.refuse_prev_result();
                if conf.ipam.is_some() && !conf.ips.is_empty() {
                    // It is told by the same key.
                    conf.ips.clear();
                }
            }
            Command::Check => conf.prev_result = keys.prev_result(),
            Command::Gc => conf.valid_attachments = keys.valid_attachments(),
            Command::Del | Command::Status | Command::Version => {}
        }
        if keys.problems.is_empty() {
            Ok(conf)
        } else {
            Err(CniError::Config(keys.problems))
        }
    }
}

pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, CniError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(CniError::NotJson("there is nothing on stdin".into()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(CniError::NotJson(format!("it is {}", kind(&other)))),
        Err(error) => Err(CniError::NotJson(error.to_string())),
    }
}

fn version_for(text: Option<&str>, command: Command) -> Result<CniVersion, CniError> {
    let supported = CniVersion::ALL.map(CniVersion::as_str).join(", ");
    let Some(text) = text else {
        return Err(CniError::Version(format!(
            "cniVersion is missing; supported: {supported}"
        )));
    };
    let Some(version) = CniVersion::parse(text) else {
        let shown: String = text.chars().take(32).collect();
        return Err(CniError::Version(format!(
            "cniVersion {shown:?} is not supported; supported: {supported}"
        )));
    };
    let since = match command {
        Command::Check => CniVersion::V0_4_0,
        Command::Status | Command::Gc => CniVersion::V1_1_0,
        Command::Add | Command::Del | Command::Version => CniVersion::V0_3_1,
    };
    if version < since {
        return Err(CniError::Version(format!(
            "cniVersion {version} does not know this command; it came with {since}"
        )));
    }
    Ok(version)
}

struct Keys {
    object: Map<String, Value>,
    problems: Vec<String>,
}

impl Keys {
    /// The value of `key`, absent and null being the same.
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn wrong(&mut self, key: &str, expected: &str, found: &str) {
        self.problem(format!("{key} must be {expected}, not {found}"));
    }

    fn string(&mut self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => {
                let found = kind(other);
                self.wrong(key, "a string", found);
                None
            }
        }
    }

    fn integer(&mut self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        match value.as_u64() {
            Some(number) => Some(number),
            None => {
                let found = if value.is_number() {
                    value.to_string()
                } else {
                    kind(value).to_owned()
                };
                self.wrong(key, "a whole number, not negative", &found);
                None
            }
        }
    }

    fn check_name(&mut self, name: &str) {
        if self.get("name").is_none() {
            return self.problem("name is missing");
        }
        let key = AttachmentKey {
            network: name.to_owned(),
            container_id: "c".into(),
            ifname: "i".into(),
        };
        let illegal = key.problem().filter(|_| self.object["name"].is_string());
        self.problems
            .extend(illegal.map(|problem| format!("name: {problem}")));
    }

    fn run_dir(&mut self) -> PathBuf {
        let Some(text) = self.string("runDir") else {
            return names::DEFAULT_RUN_DIR.into();
        };
        let path = PathBuf::from(&text);
        if !path.is_absolute() || text.contains('\0') {
            self.problem(format!("runDir {text:?} is not an absolute path"));
        } else if text.len() > MAX_RUN_DIR {
            self.problem(format!(
                "runDir is longer than {MAX_RUN_DIR} bytes, so the socket in it could not be opened"
            ));
        }
        path
    }

    /// 0 means "not set", as in other plugins.
    fn mtu(&mut self) -> Option<u32> {
        let mtu = self.integer("mtu").filter(|mtu| *mtu != 0)?;
        if !MTU_RANGE.contains(&mtu) {
            self.problem(format!(
                "mtu {mtu} is out of range; {} to {} bytes",
                MTU_RANGE.start(),
                MTU_RANGE.end()
            ));
        }
        u32::try_from(mtu).ok()
    }

    fn wait(&mut self) -> Duration {
        let Some(seconds) = self.integer("waitSeconds") else {
            return DEFAULT_WAIT;
        };
        if seconds > MAX_WAIT_SECONDS {
            self.problem(format!(
                "waitSeconds {seconds} is out of range; 0 to {MAX_WAIT_SECONDS}"
            ));
        }
        Duration::from_secs(seconds)
    }

    fn runtime_config(&mut self, key: &str) -> Option<Value> {
        match self.get("runtimeConfig")? {
            Value::Object(object) => object.get(key).filter(|value| !value.is_null()).cloned(),
            other => {
                let found = kind(other);
                let named = "runtimeConfig must be an object";
                if !self
                    .problems
                    .iter()
                    .any(|problem| problem.starts_with(named))
                {
                    self.problem(format!("{named}, not {found}"));
                }
                None
            }
        }
    }

    fn mac(&mut self) -> Option<MacAddr> {
        let value = self.runtime_config("mac")?;
        let Some(text) = value.as_str() else {
            self.wrong("runtimeConfig.mac", "a string", kind(&value));
            return None;
        };
        match text.parse::<MacAddr>() {
            _ if text.is_empty() => None,
            Ok(mac) if mac.0[0] & 1 == 1 => {
                self.problem(format!("runtimeConfig.mac {mac} is a multicast address"));
                None
            }
            Ok(mac) => Some(mac),
            Err(error) => {
                self.problem(format!("runtimeConfig.mac: {error}"));
                None
            }
        }
    }

    /// Addresses that the runtime's user chose: one per family at most.
    fn ips(&mut self) -> Vec<IpAddr> {
        let Some(value) = self.runtime_config("ips") else {
            return Vec::new();
        };
        let texts: Option<Vec<&str>> = value
            .as_array()
            .and_then(|ips| ips.iter().map(Value::as_str).collect());
        let ips: Option<Vec<IpAddr>> =
            texts.and_then(|texts| texts.into_iter().map(parse_address).collect());
        let Some(ips) = ips else {
            self.problem("runtimeConfig.ips must be a list of addresses");
            return Vec::new();
        };
        if [true, false]
            .iter()
            .any(|v4| ips.iter().filter(|ip| ip.is_ipv4() == *v4).count() > 1)
        {
            self.problem("runtimeConfig.ips has several addresses of one family; a pod has one");
        }
        ips
    }

    /// The IPAM plugin, unless addresses are the agent's business: `ipam` is absent, empty or names us.
    /// What is wrong with it does not keep a pod from DEL: no ADD can have succeeded with it.
    fn ipam(&mut self, input: &[u8], command: Command) -> Option<Ipam> {
        let before = self.problems.len();
        let ipam = self.ipam_of(input);
        if command == Command::Del {
            self.problems.truncate(before);
        }
        ipam
    }

    fn ipam_of(&mut self, input: &[u8]) -> Option<Ipam> {
        let kind = match self.get("ipam")? {
            Value::Object(ipam) => ipam.get("type").cloned().unwrap_or_default(),
            other => {
                let found = kind(other);
                self.wrong("ipam", "an object", found);
                return None;
            }
        };
        match kind {
            Value::Null => None,
            Value::String(kind) if kind.is_empty() || kind == "roadbed" => None,
            Value::String(kind) if kind.contains('/') || kind.starts_with('.') => {
                self.problem(format!("ipam.type {kind:?} is not a plugin's file name"));
                None
            }
            Value::String(kind) => Some(Ipam {
                kind,
                input: input.to_vec(),
            }),
            other => {
                self.wrong("ipam.type", "a string", self::kind(&other));
                None
            }
        }
    }

    fn refuse_prev_result(&mut self) {
        if self.get("prevResult").is_some() {
            self.problem("prevResult is set: roadbed makes the interface, so it must be first in its plugin list");
        }
    }

    fn prev_result(&mut self) -> Option<PrevResult> {
        let Some(value) = self.get("prevResult").cloned() else {
            self.problem("prevResult is missing; CHECK compares with it");
            return None;
        };
        serde_json::from_value(value)
            .map_err(|error| self.problem(format!("prevResult: {error}")))
            .ok()
    }

    fn valid_attachments(&mut self) -> Vec<(String, String)> {
        const KEY: &str = "cni.dev/valid-attachments";
        #[derive(Deserialize)]
        struct Valid {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        // A runtime written in Go says null for "none"; a missing key is no statement at all and must not delete.
        let value = match self.object.get(KEY) {
            None => {
                self.problem(format!("{KEY} is missing; GC would release everything"));
                return Vec::new();
            }
            Some(Value::Null) => return Vec::new(),
            Some(value) => value.clone(),
        };
        match serde_json::from_value::<Vec<Valid>>(value) {
            Ok(valid) => valid
                .into_iter()
                .map(|v| (v.container_id, v.ifname))
                .collect(),
            Err(error) => {
                self.problem(format!("{KEY}: {error}"));
                Vec::new()
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
