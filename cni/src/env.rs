//! The `CNI_*` environment: which command, for which attachment. All problems are reported together.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, PodRef};
use roadbed_hostnet::MacAddr;

use crate::error::CniError;

/// Longest value taken from the environment, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Wire a container.
    Add,
    /// Unwire it.
    Del,
    /// Is it still wired?
    Check,
    /// Could ADD be served?
    Status,
    /// Release what the runtime no longer knows.
    Gc,
    /// Which spec versions?
    Version,
}

impl Command {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Status,
        Self::Gc,
        Self::Version,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    fn of_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The validated environment. Values that the command does not use are not looked at: podman calls VERSION with dummies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty unless ADD, DEL, CHECK.
    pub container_id: String,
    /// `CNI_IFNAME`; empty unless ADD, DEL, CHECK.
    pub ifname: String,
    /// `CNI_NETNS`; always there for ADD and CHECK, never looked at otherwise.
    pub netns: PathBuf,
    /// The pod named by `CNI_ARGS`.
    pub pod: Option<PodRef>,
    /// `MAC` of `CNI_ARGS`: how podman asks for one, where Kubernetes has the capability `mac`.
    pub mac: Option<MacAddr>,
    /// `IP` of `CNI_ARGS`: the address that podman asks for, where Kubernetes has the capability `ips`.
    pub ip: Option<IpAddr>,
    /// `CNI_PATH`: where an IPAM plugin may be.
    pub path: Vec<PathBuf>,
}

impl Env {
    /// Reads the variables through `var` (the process's, or a test's).
    pub fn read(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, CniError> {
        let mut reader = Reader {
            var,
            problems: Vec::new(),
        };
        let Some(command) = reader.command() else {
            return Err(CniError::Env(reader.problems));
        };
        let mut env = Self {
            command,
            container_id: String::new(),
            ifname: String::new(),
            netns: PathBuf::new(),
            pod: None,
            mac: None,
            ip: None,
            path: Vec::new(),
        };
        if command != Command::Version {
            let path = reader.optional("CNI_PATH");
            env.path = path
                .split(':')
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
                .collect();
        }
        if command.of_attachment() {
            env.container_id = reader.required("CNI_CONTAINERID", command);
            env.ifname = reader.required("CNI_IFNAME", command);
            reader.check_part("CNI_CONTAINERID", &env.container_id, |key, value| {
                key.container_id = value
            });
            reader.check_part("CNI_IFNAME", &env.ifname, |key, value| key.ifname = value);
        }
        if matches!(command, Command::Add | Command::Check) {
            env.netns = reader.required("CNI_NETNS", command).into();
            if !env.netns.as_os_str().is_empty() && !env.netns.is_absolute() {
                reader
                    .problems
                    .push(format!("CNI_NETNS {:?} is not an absolute path", env.netns));
            }
        }
        if command == Command::Add {
            reader.args(&mut env);
        }
        if reader.problems.is_empty() {
            Ok(env)
        } else {
            Err(CniError::Env(reader.problems))
        }
    }

    /// The attachment in `network`.
    pub fn key(&self, network: &str) -> AttachmentKey {
        AttachmentKey {
            network: network.to_owned(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// An address that a runtime asks for; some give it with the length of its network.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    let net = || text.parse::<IpNet>().map(|net| net.addr());
    text.parse().or_else(|_| net()).ok()
}

struct Reader<F> {
    var: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    /// Empty and absent are the same, as runtimes treat them.
    fn optional(&mut self, name: &str) -> String {
        let value = (self.var)(name).unwrap_or_default();
        if value.len() > MAX_VALUE {
            self.problems
                .push(format!("{name} is longer than {MAX_VALUE} bytes"));
            return String::new();
        }
        value.into_string().unwrap_or_else(|value| {
            self.problems.push(format!("{name} {value:?} is not UTF-8"));
            String::new()
        })
    }

    fn required(&mut self, name: &str, command: Command) -> String {
        let before = self.problems.len();
        let value = self.optional(name);
        if value.is_empty() && self.problems.len() == before {
            self.problems
                .push(format!("{name} is missing; {} needs it", command.name()));
        }
        value
    }

    fn command(&mut self) -> Option<Command> {
        let name = self.optional("CNI_COMMAND");
        let command = Command::ALL
            .into_iter()
            .find(|command| command.name() == name);
        if command.is_none() && self.problems.is_empty() {
            let known = Command::ALL.map(Command::name).join(", ");
            let shown: String = name.chars().take(32).collect();
            self.problems.push(match shown.as_str() {
                "" => format!("CNI_COMMAND is missing; one of {known} (this program is run by a container runtime)"),
                _ => format!("CNI_COMMAND {shown:?} is unknown; one of {known}"),
            });
        }
        command
    }

    /// Lets the API's own rule judge one part of the key, the others being legal.
    fn check_part(&mut self, name: &str, value: &str, set: impl Fn(&mut AttachmentKey, String)) {
        let mut key = AttachmentKey {
            network: "n".into(),
            container_id: "c".into(),
            ifname: "i".into(),
        };
        set(&mut key, value.to_owned());
        if !value.is_empty() {
            self.problems
                .extend(key.problem().map(|problem| format!("{name}: {problem}")));
        }
    }

    /// `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`. A key we do not know is an error unless `IgnoreUnknown` is set.
    fn args(&mut self, env: &mut Env) {
        let args = self.optional("CNI_ARGS");
        let mut pod = PodRef::default();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in args.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                let shown: String = pair.chars().take(64).collect();
                self.problems
                    .push(format!("CNI_ARGS: {shown:?} is not KEY=VALUE"));
                continue;
            };
            match key {
                "IgnoreUnknown" => {
                    ignore_unknown = matches!(value, "1" | "true" | "TRUE" | "True" | "t" | "T")
                }
                "K8S_POD_NAMESPACE" => pod.namespace = value.to_owned(),
                "K8S_POD_NAME" => pod.name = value.to_owned(),
                "K8S_POD_UID" => pod.uid = Some(value.to_owned()).filter(|uid| !uid.is_empty()),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "MAC" => match value.parse::<MacAddr>() {
                    Ok(mac) if mac.0[0] & 1 == 0 => env.mac = Some(mac),
                    Ok(mac) => self
                        .problems
                        .push(format!("CNI_ARGS: MAC {mac} is a multicast address")),
                    Err(error) => self.problems.push(format!("CNI_ARGS: MAC: {error}")),
                },
                "IP" => match parse_address(value) {
                    Some(ip) => env.ip = Some(ip),
                    None => {
                        let shown: String = value.chars().take(64).collect();
                        self.problems
                            .push(format!("CNI_ARGS: IP {shown:?} is no address"));
                    }
                },
                _ => unknown.push(key.chars().take(64).collect::<String>()),
            }
        }
        if !ignore_unknown && !unknown.is_empty() {
            self.problems.push(format!(
                "CNI_ARGS: unknown {} (IgnoreUnknown=1 lets them pass)",
                unknown.join(", ")
            ));
        }
        env.pod = (pod != PodRef::default()).then_some(pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Env, CniError> {
        Env::read(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    fn check_refused(vars: &[(&str, &str)], expected: &[&str]) {
        let error = read(vars).unwrap_err();
        assert_eq!(error.code(), 4);
        for part in expected {
            assert!(
                error.to_string().contains(part),
                "{error}: expected {part:?}"
            );
        }
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_NETNS", "/run/netns/pod"),
        ("CNI_IFNAME", "eth0"),
    ];

    fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        changes.iter().chain(&ADD).copied().collect()
    }

    #[test]
    fn a_whole_add() {
        let env = read(&with(&[(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;X=y=z",
        )]))
        .unwrap();
        assert_eq!(env.command, Command::Add);
        assert_eq!(env.key("pods").path(), "/v1/attachments/pods/c0ffee/eth0");
        assert_eq!(
            env.pod,
            Some(PodRef {
                namespace: "ns".into(),
                name: "web-0".into(),
                uid: None
            })
        );
    }

    #[test]
    fn what_podman_asks_for() {
        let args = "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=02:11:22:33:44:55;IP=10.244.0.9";
        let env = read(&with(&[("CNI_ARGS", args)])).unwrap();
        assert_eq!(env.mac, Some(MacAddr([2, 0x11, 0x22, 0x33, 0x44, 0x55])));
        assert_eq!(env.ip, "10.244.0.9".parse().ok());
        check_refused(
            &with(&[("CNI_ARGS", "IP=here;MAC=01:00:5e:00:00:01")]),
            &["IP \"here\" is no address", "multicast"],
        );
    }

    #[test]
    fn everything_missing_is_reported_together() {
        check_refused(
            &[("CNI_COMMAND", "ADD")],
            &[
                "CNI_CONTAINERID is missing; ADD needs it",
                "CNI_NETNS is missing",
                "CNI_IFNAME is missing",
            ],
        );
        check_refused(
            &[("CNI_COMMAND", "CHECK")],
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        );
        check_refused(&[], &["CNI_COMMAND is missing"]);
        check_refused(
            &[("CNI_COMMAND", "add")],
            &["\"add\" is unknown", "ADD, DEL, CHECK"],
        );
    }

    #[test]
    fn illegal_values_are_named() {
        check_refused(
            &with(&[("CNI_ARGS", "MAC=01:00:5e:00:00:01")]),
            &["CNI_ARGS: MAC 01:00:5e:00:00:01 is a multicast address"],
        );
        check_refused(
            &with(&[
                ("CNI_CONTAINERID", "../x"),
                ("CNI_IFNAME", "eth/0"),
                ("CNI_NETNS", "run/netns/x"),
            ]),
            &[
                "CNI_CONTAINERID: container ID",
                "CNI_IFNAME: interface name",
                "CNI_NETNS \"run/netns/x\" is not an absolute",
            ],
        );
        check_refused(
            &with(&[("CNI_IFNAME", "sixteen-letters-")]),
            &["CNI_IFNAME"],
        );
        check_refused(
            &with(&[("CNI_ARGS", "X=1;nonsense")]),
            &["unknown X", "\"nonsense\" is not KEY=VALUE"],
        );
    }

    #[test]
    fn del_needs_no_namespace_and_the_rest_need_nothing() {
        let del = read(&[
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", ""),
        ]);
        assert_eq!(del.unwrap().netns, PathBuf::new());
        for command in ["STATUS", "GC", "VERSION"] {
            let dummies = [
                ("CNI_COMMAND", command),
                ("CNI_NETNS", "dummy"),
                ("CNI_IFNAME", "dummy/"),
            ];
            assert!(read(&dummies).is_ok(), "{command}");
        }
    }

    #[test]
    fn values_that_are_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let error = Env::read(|name| match name {
            "CNI_CONTAINERID" => Some(OsString::from_vec(vec![0xff])),
            _ => ADD
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into()),
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("CNI_CONTAINERID \"\\xFF\" is not UTF-8")
        );
    }
}
