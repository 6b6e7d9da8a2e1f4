//! Attachments: one interface of one container in one network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// What the CNI spec tells attachments apart by (section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentKey {
    /// Name of the network configuration.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`: the interface inside the pod.
    pub ifname: String,
}

impl AttachmentKey {
    /// What is wrong with the key, naming the part; `None` when it is legal.
    ///
    /// Network and container ID are letters, digits, `_`, `.`, `-`, starting with a letter or digit, at most 128 and
    /// 96 characters (the alias that marks the host veth holds 255); the interface name follows the kernel's rules.
    pub fn problem(&self) -> Option<String> {
        let word = |what: &str, value: &str, max: usize| {
            let ok = !value.is_empty()
                && value.len() <= max
                && value.as_bytes()[0].is_ascii_alphanumeric()
                && value
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
            (!ok).then(|| {
                let shown: String = value.chars().take(max).flat_map(char::escape_default).collect();
                format!(
                    "{what} \"{shown}\" is not legal: 1 to {max} letters, digits, '_', '.', '-', starting with a letter or digit"
                )
            })
        };
        word("network name", &self.network, 128)
            .or_else(|| word("container ID", &self.container_id, 96))
            .or_else(|| {
                let name = &self.ifname;
                let ok = (1..=15).contains(&name.len())
                    && name != "."
                    && name != ".."
                    && name.bytes().all(|c| c.is_ascii_graphic() && c != b'/' && c != b':');
                (!ok).then(|| {
                    let shown: String = name.chars().take(32).flat_map(char::escape_default).collect();
                    format!("interface name \"{shown}\" is not legal: 1 to 15 characters without space, '/' or ':'")
                })
            })
    }

    /// Path of the attachment on the agent's socket. Every part is legal in a path once [`Self::problem`] is `None`
    /// but for interface names with `%`, `?` or `#`, which are escaped.
    pub fn path(&self) -> String {
        let mut ifname = String::with_capacity(self.ifname.len());
        for c in self.ifname.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => ifname.push(c),
                _ => ifname.push_str(&format!("%{:02X}", c as u32 & 0xff)),
            }
        }
        format!(
            "{}/{}/{}/{}",
            super::ATTACHMENTS,
            self.network,
            self.container_id,
            ifname
        )
    }
}

/// The pod behind an attachment, when the runtime says (`CNI_ARGS`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`.
    #[serde(default)]
    pub namespace: String,
    /// `K8S_POD_NAME`.
    #[serde(default)]
    pub name: String,
    /// `K8S_POD_UID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Asks for addresses and names; the first of ADD's two phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReserveRequest {
    /// Which attachment.
    pub key: AttachmentKey,
    /// `CNI_NETNS`, for the log only.
    pub netns: String,
    /// Tells the namespace from a later one under the same container ID.
    pub netns_cookie: String,
    /// The pod, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// MTU from the network configuration, bytes; absent: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// MAC that the runtime asks for (capability `mac`), `aa:bb:cc:dd:ee:ff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Addresses that are chosen already, one per family at most: by the runtime's user (capability `ips`), who gets the
    /// other family as usual, or by an IPAM plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// `addresses` are an IPAM plugin's: these and no others, inside a block of this node or not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

impl ReserveRequest {
    /// What is wrong with the request, naming the part; `None` when it is legal.
    pub fn problem(&self) -> Option<String> {
        let usable = |ip: &IpAddr| {
            let narrow = match ip {
                IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            !narrow && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
        };
        let same = |v4: bool| {
            self.addresses
                .iter()
                .filter(|ip| ip.is_ipv4() == v4)
                .count()
        };
        self.key.problem().or_else(|| {
            if let Some(ip) = self.addresses.iter().find(|ip| !usable(ip)) {
                Some(format!("address {ip} cannot be a pod's"))
            } else if same(true) > 1 || same(false) > 1 {
                Some(format!(
                    "addresses {:?}: at most one per family",
                    self.addresses
                ))
            } else if self.foreign && self.addresses.is_empty() {
                Some("the IPAM plugin gave no address".into())
            } else {
                None
            }
        })
    }
}

/// Where an attachment is between its two phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttachmentState {
    /// Reserved; the plugin is at work. Expires.
    Wiring,
    /// Wired: host route and neighbours are in the kernel.
    Committed,
}

/// What the plugin is to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Which attachment.
    pub key: AttachmentKey,
    /// `Committed` when this very namespace is wired already (a repeated ADD).
    pub state: AttachmentState,
    /// The pod's addresses, one per family at most: /32 and /128.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Name of the host end.
    pub host_ifname: String,
    /// Alias that marks the host end as ours.
    pub host_alias: String,
    /// MAC of the host end.
    pub host_mac: String,
    /// MAC of the pod's end.
    pub pod_mac: String,
    /// IPv4 gateway of the pod.
    pub gateway_v4: Ipv4Addr,
    /// IPv6 gateway of the pod.
    pub gateway_v6: Ipv6Addr,
}

/// Says that the pod side stands; the second of ADD's two phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitRequest {
    /// Namespace that was wired; must be the reservation's.
    pub netns_cookie: String,
    /// Interface index of the host end.
    pub host_ifindex: u32,
    /// MAC of the pod's end, for the host's neighbour entries.
    pub pod_mac: String,
}

/// An attachment as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Which attachment.
    pub key: AttachmentKey,
    /// Where it is between its phases.
    pub state: AttachmentState,
    /// The pod, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Name of the host end.
    pub host_ifname: String,
    /// Interface index of the host end, once committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ifindex: Option<u32>,
}

/// Answer to `GET /v1/attachments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentList {
    /// In the order of their keys.
    pub attachments: Vec<Attachment>,
}

/// Answer to a DELETE: true also when there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// Whether there was an attachment.
    pub existed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |network: &str, id: &str, ifname: &str, expected: Option<&str>| {
            let key = AttachmentKey {
                network: network.into(),
                container_id: id.into(),
                ifname: ifname.into(),
            };
            match (key.problem(), expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{key:?}: {found:?}, expected {expected:?}"),
            }
        };
        check("pods", "abc-1_2.3", "eth0", None);
        check("", "abc", "eth0", Some("network name"));
        check("pods", "-abc", "eth0", Some("container ID"));
        check("pods", "a/b", "eth0", Some("container ID"));
        check("pods", &"a".repeat(97), "eth0", Some("container ID"));
        check("pods", "abc", "eth0123456789abc", Some("interface name"));
        check("pods", "abc", "eth/0", Some("interface name"));
        check("pods", "abc", "..", Some("interface name"));
    }
}
