//! What the agent reports: node and peers, addresses, routes, attachments.

use std::fmt::Write as _;

use ipnet::IpNet;
use roadbed_api::agent::{
    Attachment, AttachmentState, BlockReport, NodeStatus, PeerReport, PoolReport, RouteOrigin,
    RouteRow,
};
use roadbed_api::kinds::AddressFamily;
use serde::Serialize;

use super::table::{Columns, clean, list, or_dash};
use super::{slots, span};

pub(super) const ESTABLISHED: &str = "Established";

/// The node, then its peers.
pub fn status(node: &NodeStatus, wide: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {}", clean(&value));
    };
    line("Node", node.node.clone());
    line("AS", node.as_number.to_string());
    line("Router ID", or_dash(node.router_id));
    line("Addresses", list(&node.node_addresses));
    if let Some(store) = &node.store {
        let reachable = match (store.reachable, store.from_snapshot) {
            (true, _) => "(reachable)",
            (false, false) => "(NOT reachable)",
            (false, true) => "(NOT reachable; working from the snapshot)",
        };
        line("Store", format!("{} {reachable}", store.home));
        if let (false, Some(error)) = (store.reachable, &store.last_error) {
            line("", error.clone());
        }
    }
    line(
        "Version",
        format!("{}, up {}", node.version, span(node.uptime_seconds)),
    );
    for (i, condition) in node.conditions.iter().enumerate() {
        let mut value = format!("{}={}", condition.r#type, condition.status);
        if !condition.message.is_empty() {
            let _ = write!(value, " ({}): {}", condition.reason, condition.message);
        }
        line(if i == 0 { "Conditions" } else { "" }, value);
    }
    text.push('\n');
    // A standalone router has its peers from its file.
    let without = match node.store {
        Some(_) => "No peers: this node speaks BGP with nobody (no BGPPeer selects it).",
        None => "No peers: this router speaks BGP with nobody (its file has no [peers.NAME]).",
    };
    text.push_str(&peers(&node.peers, without, wide));
    if !wide {
        for peer in &node.peers {
            if let (true, Some(error)) = (peer.state != ESTABLISHED, &peer.last_error) {
                let _ = writeln!(text, "{}: {}", clean(&peer.name), clean(error));
            }
        }
    }
    text
}

fn peers(peers: &[PeerReport], without: &str, wide: bool) -> String {
    let mut header = vec![
        "NAME",
        "ADDRESS",
        "AS",
        "STATE",
        "SINCE",
        "IPV4 IN/OUT",
        "IPV6 IN/OUT",
    ];
    if wide {
        header.extend([
            "LOCAL AS",
            "ROUTER ID",
            "HOLD",
            "UPS",
            "ACCEPTED",
            "UPDATE FAULTS",
            "LAST ERROR",
        ]);
    }
    let mut table = Columns::new(&header);
    for peer in peers {
        let counts = |family: AddressFamily| {
            let counts = peer.families.get(&family);
            or_dash(counts.map(|c| format!("{}/{}", c.received, c.advertised)))
        };
        let mut row = vec![
            peer.name.clone(),
            peer.address.clone(),
            peer.as_number.to_string(),
            peer.state.clone(),
            span(peer.state_seconds),
            counts(AddressFamily::Ipv4Unicast),
            counts(AddressFamily::Ipv6Unicast),
        ];
        if wide {
            let accepted = peer.families.values().map(|c| c.accepted);
            let faults = peer.update_faults.iter().map(|(k, v)| format!("{k}={v}"));
            row.extend([
                peer.local_as_number.to_string(),
                or_dash(peer.peer_router_id),
                or_dash(peer.hold_time_seconds.map(|s| format!("{s}s"))),
                peer.established_count.to_string(),
                list(accepted),
                list(faults),
                or_dash(peer.last_error.as_ref()),
            ]);
        }
        table.row(row);
    }
    table.text(without)
}

/// What `ipam show` shows; what was not asked for is absent.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamView {
    /// The node that answers.
    pub node: String,
    /// Pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<PoolReport>>,
    /// Blocks of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<BlockReport>>,
    /// Attachments of the node, with their addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<Attachment>>,
}

/// Pools, blocks, addresses in use; with a heading each when more than one is shown.
pub fn ipam(view: &IpamView, wide: bool) -> String {
    let mut sections = Vec::new();
    if let Some(pools) = &view.pools {
        sections.push(("Pools", pool_table(pools)));
    }
    if let Some(blocks) = &view.blocks {
        sections.push(("Blocks", block_table(blocks)));
    }
    if let Some(attachments) = &view.attachments {
        sections.push(("Addresses in use", address_table(attachments, wide)));
    }
    if let [(_, text)] = &mut sections[..] {
        return std::mem::take(text);
    }
    let sections: Vec<String> = sections
        .into_iter()
        .map(|(name, text)| format!("{name} ({})\n{text}", clean(&view.node)))
        .collect();
    sections.join("\n")
}

fn pool_table(pools: &[PoolReport]) -> String {
    let mut table = Columns::new(&["NAME", "CIDR", "BLOCK SIZE", "SLOTS", "USABLE"]);
    for pool in pools {
        let usable = match (&pool.reason, pool.usable) {
            (_, true) => "yes".to_owned(),
            (Some(reason), false) => format!("no: {reason}"),
            (None, false) => "no".to_owned(),
        };
        table.row([
            pool.name.clone(),
            pool.cidr.to_string(),
            format!("/{}", pool.block_size),
            slots(pool.slots.0),
            usable,
        ]);
    }
    table.text("No pools: create an IPPool (roadbedctl apply).")
}

fn block_table(blocks: &[BlockReport]) -> String {
    let mut table = Columns::new(&["CIDR", "POOL", "STATE", "IN USE", "COOLING"]);
    for block in blocks {
        table.row([
            block.cidr.to_string(),
            block.pool.clone(),
            format!("{:?}", block.state),
            format!("{}/{}", block.in_use, block.capacity),
            block.cooling.to_string(),
        ]);
    }
    table.text("No blocks: this node has none yet.")
}

/// Namespace and name of the pod behind an attachment, when known.
fn pod(attachment: &Attachment) -> Option<String> {
    let pod = attachment.pod.as_ref()?;
    (!pod.name.is_empty()).then(|| format!("{}/{}", pod.namespace, pod.name))
}

/// The beginning of a container ID, as runtimes show it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn address_table(attachments: &[Attachment], wide: bool) -> String {
    let mut rows: Vec<_> = attachments
        .iter()
        .flat_map(|a| a.addresses.iter().map(move |address| (*address, a)))
        .collect();
    rows.sort_by_key(|(address, _)| *address);
    let mut table = Columns::new(&["ADDRESS", "POD", "ATTACHMENT", "HOST VETH"]);
    for (address, a) in rows {
        let id = if wide {
            &a.key.container_id
        } else {
            short(&a.key.container_id)
        };
        table.row([
            address.to_string(),
            or_dash(pod(a)),
            format!("{}/{id}/{}", a.key.network, a.key.ifname),
            a.host_ifname.clone(),
        ]);
    }
    table.text("No addresses in use.")
}

/// Attachments, one row each.
pub fn attachments(attachments: &[Attachment], wide: bool) -> String {
    let mut header = vec![
        "POD",
        "ADDRESSES",
        "NETWORK",
        "CONTAINER",
        "IFNAME",
        "HOST VETH",
        "STATE",
    ];
    if wide {
        header.extend(["HOST IFINDEX", "POD UID"]);
    }
    let mut table = Columns::new(&header);
    for a in attachments {
        let id = if wide {
            &a.key.container_id
        } else {
            short(&a.key.container_id)
        };
        let mut row = vec![
            or_dash(pod(a)),
            list(&a.addresses),
            a.key.network.clone(),
            id.to_owned(),
            a.key.ifname.clone(),
            a.host_ifname.clone(),
            match a.state {
                AttachmentState::Wiring => "wiring".to_owned(),
                AttachmentState::Committed => "committed".to_owned(),
            },
        ];
        if wide {
            row.extend([
                or_dash(a.host_ifindex),
                or_dash(a.pod.as_ref().and_then(|p| p.uid.as_ref())),
            ]);
        }
        table.row(row);
    }
    table.text("No attachments: no pod of this node is wired by Roadbed.")
}

/// Routes; `wide` says why.
pub fn routes(rows: &[RouteRow], wide: bool) -> String {
    let mut header = vec![
        "PREFIX",
        "ORIGIN",
        "VIA",
        "PEER",
        "AS PATH",
        "BEST",
        "INSTALLED",
    ];
    if wide {
        header.push("WHY");
    }
    let mut table = Columns::new(&header);
    let mut before: Option<IpNet> = None;
    for route in rows {
        // Further paths of a prefix stand below its best one.
        let prefix = match before == Some(route.prefix) {
            true => " ".to_owned(),
            false => route.prefix.to_string(),
        };
        before = Some(route.prefix);
        let mut row = vec![
            prefix,
            origin(route.origin).to_owned(),
            or_dash(route.via.as_ref()),
            or_dash(route.peer.as_ref()),
            or_dash(route.as_path.as_ref()),
            if route.best { "yes" } else { "no" }.to_owned(),
            or_dash(route.installed.map(|i| if i { "yes" } else { "NO" })),
        ];
        if wide {
            let mut why = route.why.clone();
            if let Some(error) = &route.install_error {
                let _ = write!(why, "; not in the kernel: {error}");
            }
            row.push(why);
        }
        table.row(row);
    }
    let mut text = table.text("No routes.");
    if !wide {
        for route in rows {
            if let Some(error) = &route.install_error {
                let _ = writeln!(
                    text,
                    "{}: not in the kernel: {}",
                    route.prefix,
                    clean(error)
                );
            }
        }
    }
    text
}

pub(super) fn origin(origin: RouteOrigin) -> &'static str {
    match origin {
        RouteOrigin::Pod => "pod",
        RouteOrigin::Block => "block",
        RouteOrigin::Node => "node",
        RouteOrigin::Static => "static",
        RouteOrigin::Bgp => "bgp",
    }
}
