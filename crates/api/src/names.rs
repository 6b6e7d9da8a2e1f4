//! Names and numbers that several programs must agree on.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::agent::AttachmentKey;

/// API group of every resource.
pub const API_GROUP: &str = "roadbed.dev";
/// Version of every resource in that group.
pub const API_GROUP_VERSION: &str = "v1alpha1";
/// `apiVersion` of every resource.
pub const API_VERSION: &str = "roadbed.dev/v1alpha1";
/// Routing protocol number of every route that Roadbed installs (`ip route show proto 82`).
pub const ROUTE_PROTOCOL: u8 = 82;
/// Where a daemon keeps its socket and its lock, and the agent its ledger, unless told otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/roadbed";
/// Where the agent keeps what must outlive a reboot, unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/roadbed";
/// The agent's socket inside its run directory.
pub const SOCKET_NAME: &str = "agent.sock";
/// A standalone router's: another one, so that the plugin never takes it for the agent.
pub const ROUTER_SOCKET_NAME: &str = "router.sock";
/// Host-wide settings for the plugin to apply, inside the run directory: a JSON map of name to value.
pub const SYSCTLS_NAME: &str = "sysctls.json";
/// When the agent was last ready, inside the run directory: seconds since boot (`CLOCK_BOOTTIME`) as decimal text, written
/// anew every [`READY_EVERY_SECONDS`] while it is. Nobody removes it; the run directory does not outlive a boot.
pub const READY_NAME: &str = "ready";
/// Seconds between two writings of [`READY_NAME`].
pub const READY_EVERY_SECONDS: u64 = 10;
/// Notes that the plugin leaves about attachments it unwired while the agent was away, inside the run directory.
pub const NOTES_DIR: &str = "notes";
/// IPv4 gateway of every pod; answered for by a static neighbour entry, configured on no interface.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// IPv6 gateway of every pod; as its IPv4 fellow, it is answered for by a static neighbour entry alone.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Prefix of host interfaces.
pub const HOST_IFNAME_PREFIX: &str = "rb";
/// nftables table of the `inet` family that holds anti-spoofing.
pub const NFT_TABLE: &str = "roadbed";
/// Comment of that table: its mark. One of another comment is somebody else's.
pub const NFT_COMMENT: &str = "roadbed:1";
/// Label or annotation of a Kubernetes Node: the node's AS. The annotation counts when both are there.
pub const AS_NUMBER_KEY: &str = "roadbed.dev/as-number";
/// AS of the nodes of a Kubernetes cluster in which nobody chose one: the first private AS (RFC 6996).
pub const DEFAULT_CLUSTER_AS: u32 = 64512;
/// Label on blocks, so that an agent watches only its own.
pub const NODE_LABEL: &str = "roadbed.dev/node";

const ALIAS_MARK: &str = "roadbed:1:";

/// Name of the host end of an attachment's veth: `rb` and 12 hex digits of a hash of the key (14 bytes).
pub fn host_ifname(key: &AttachmentKey) -> String {
    format!(
        "{HOST_IFNAME_PREFIX}{:012x}",
        key_hash(key) & 0xffff_ffff_ffff
    )
}

/// Locally administered MAC of an attachment's end: `side` 0 is the host's, 1 the pod's. Chosen by us and put into
/// the creating message, since udev rewrites a MAC left to chance.
pub fn attachment_mac(key: &AttachmentKey, side: u8) -> [u8; 6] {
    let hash = key_hash(key).to_be_bytes();
    [
        0x0e | ((side & 1) << 4),
        hash[1],
        hash[2],
        hash[3],
        hash[4],
        hash[5],
    ]
}

/// FNV-1a over the key's parts: stable over versions and machines, which `std`'s hasher does not promise.
fn key_hash(key: &AttachmentKey) -> u64 {
    let parts = [&key.network, &key.container_id, &key.ifname];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// The mark on a host veth: `roadbed:1:<network>/<containerID>/<ifname>`.
pub fn ifalias(key: &AttachmentKey) -> String {
    format!(
        "{ALIAS_MARK}{}/{}/{}",
        key.network, key.container_id, key.ifname
    )
}

/// The attachment that an alias marks; `None` when the alias is not ours in every part.
pub fn parse_ifalias(alias: &str) -> Option<AttachmentKey> {
    let mut parts = alias.strip_prefix(ALIAS_MARK)?.split('/');
    let key = AttachmentKey {
        network: parts.next()?.to_owned(),
        container_id: parts.next()?.to_owned(),
        ifname: parts.next()?.to_owned(),
    };
    (parts.next().is_none() && key.problem().is_none()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_round_trip_and_refusals() {
        let key = AttachmentKey {
            network: "pods".into(),
            container_id: "c0ffee".into(),
            ifname: "eth0".into(),
        };
        assert_eq!(ifalias(&key), "roadbed:1:pods/c0ffee/eth0");
        assert_eq!(parse_ifalias(&ifalias(&key)), Some(key.clone()));
        for bad in [
            "",
            "roadbed:2:pods/c0ffee/eth0",
            "roadbed:1:pods/c0ffee",
            "roadbed:1:pods/c0ffee/eth0/x",
            "roadbed:1://eth0",
        ] {
            assert_eq!(parse_ifalias(bad), None, "{bad}");
        }
        let name = host_ifname(&key);
        assert!(name.len() == 14 && name.starts_with("rb"), "{name}");
        assert_eq!(
            attachment_mac(&key, 0)[0] & 0x03,
            0x02,
            "locally administered, unicast"
        );
        assert_eq!(
            attachment_mac(&key, 1)[0] & 0x03,
            0x02,
            "locally administered, unicast"
        );
        assert_ne!(attachment_mac(&key, 0), attachment_mac(&key, 1));
    }
}
