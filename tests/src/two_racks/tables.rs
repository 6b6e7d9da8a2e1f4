//! What the routing tables hold: the spine's BGP table, the kernel routes of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use roadbed_api::kinds::BlockState;
use roadbed_api::names::ROUTE_PROTOCOL;
use serde_json::Value;

use super::{NODES, Node};
use crate::pod::Pod;
use crate::site::Site;

/// How long routes may take through three ASes.
const CONVERGENCE: Duration = Duration::from_secs(20);

/// Confirmed blocks of each node, in the order of [`NODES`], as the agents say.
///
/// # Errors
/// When an agent does not answer.
pub fn blocks(site: &Site) -> Result<Vec<BTreeSet<IpNet>>> {
    let of = |node: &Node| -> Result<BTreeSet<IpNet>> {
        let report = site.ipam(node.name)?;
        let confirmed = report
            .blocks
            .iter()
            .filter(|block| block.state == BlockState::Confirmed);
        Ok(confirmed.map(|block| block.cidr).collect())
    };
    NODES.iter().map(of).collect()
}

/// Waits until the spine's table and the kernels of all nodes hold what they must, no pods being there.
///
/// # Errors
/// With the difference that stays.
pub fn converged(site: &Site) -> Result<String> {
    converged_with(site, &[])
}

/// As [`converged`], with these pods.
///
/// # Errors
/// With the difference that stays.
pub fn converged_with(site: &Site, pods: &[Pod]) -> Result<String> {
    site.until(CONVERGENCE, "all tables are complete", || {
        let spine = spine(site)?;
        kernels(site, pods)?;
        Ok(spine)
    })
}

/// The spine's BGP table holds exactly the confirmed blocks of both families and the three loopbacks.
///
/// # Errors
/// With what is missing and what should not be there.
pub fn spine(site: &Site) -> Result<String> {
    let blocks: BTreeSet<IpNet> = blocks(site)?.into_iter().flatten().collect();
    let loopbacks = NODES
        .iter()
        .flat_map(|node| [node.loopback(false), node.loopback(true)])
        .map(IpNet::from);
    let expected: BTreeSet<IpNet> = blocks.iter().copied().chain(loopbacks).collect();
    let mut found = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let command = format!("show bgp {family} unicast json");
        let text = site.exec("spine", &["vtysh", "-c", &command])?;
        let table: Value = serde_json::from_str(&text).context("vtysh's JSON")?;
        let routes = table["routes"]
            .as_object()
            .context("a table without routes")?;
        for prefix in routes.keys() {
            found.insert(prefix.parse::<IpNet>()?);
        }
    }
    same("the spine's BGP table", &expected, &found)?;
    Ok(format!(
        "exactly {} blocks and {} loopback addresses",
        blocks.len(),
        2 * NODES.len()
    ))
}

/// The protocol-82 routes of every node are exactly: own blocks unreachable, own pods on their links, everything
/// elsewhere over the uplink; all but the first with the loopback as source.
///
/// # Errors
/// With the first node's difference.
pub fn kernels(site: &Site, pods: &[Pod]) -> Result<String> {
    let blocks = blocks(site)?;
    let mut count = 0;
    for (index, node) in NODES.iter().enumerate() {
        let mut expected = BTreeMap::new();
        for (other, blocks) in NODES.iter().zip(&blocks) {
            let own = other.name == node.name;
            let way = if own { "unreachable" } else { "eth1" };
            for block in blocks {
                let source = (!own).then(|| node.loopback(is_v6(block)));
                expected.insert(*block, route(way, source));
            }
            if !own {
                for v6 in [false, true] {
                    let way = route("eth1", Some(node.loopback(v6)));
                    expected.insert(IpNet::from(other.loopback(v6)), way);
                }
            }
        }
        for pod in pods.iter().filter(|pod| pod.node == NODES[index].name) {
            for address in &pod.addresses {
                let way = route(&pod.host_ifname(), Some(node.loopback(address.is_ipv6())));
                expected.insert(IpNet::from(*address), way);
            }
        }
        let found = kernel(site, node.name)?;
        let text = |routes: &BTreeMap<IpNet, String>| -> BTreeSet<String> {
            routes.iter().map(|(p, way)| format!("{p} {way}")).collect()
        };
        let what = format!("the protocol-{ROUTE_PROTOCOL} routes of {}", node.name);
        same(&what, &text(&expected), &text(&found))?;
        count += found.len();
    }
    Ok(format!(
        "{count} routes on {} nodes, all of protocol {ROUTE_PROTOCOL}",
        NODES.len()
    ))
}

/// The protocol-82 routes of a node: where they lead, with which source.
///
/// # Errors
/// When `ip` fails.
pub fn kernel(site: &Site, node: &str) -> Result<BTreeMap<IpNet, String>> {
    let mut routes = BTreeMap::new();
    for family in ["-4", "-6"] {
        let proto = ROUTE_PROTOCOL.to_string();
        let argv = [
            "ip", "-j", family, "route", "show", "table", "all", "proto", &proto,
        ];
        let list: Vec<Value> = serde_json::from_str(&site.exec(node, &argv)?)?;
        for entry in list {
            let dst = entry["dst"].as_str().context("a route without dst")?;
            let prefix = match dst.parse::<IpNet>() {
                Ok(prefix) => prefix,
                Err(_) => IpNet::from(dst.parse::<IpAddr>().with_context(|| dst.to_owned())?),
            };
            let way = match entry["type"].as_str() {
                Some(kind) if kind != "unicast" => kind,
                _ => entry["dev"].as_str().unwrap_or("?"),
            };
            let source = entry["prefsrc"].as_str().and_then(|s| s.parse().ok());
            routes.insert(prefix, route(way, source));
        }
    }
    Ok(routes)
}

fn route(way: &str, source: Option<IpAddr>) -> String {
    match source {
        Some(source) => format!("{way} src {source}"),
        None => way.to_owned(),
    }
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// Two sets that must be equal.
fn same<T: Ord + ToString>(what: &str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Result<()> {
    let list = |set: Vec<&T>| {
        set.iter()
            .map(|t| t.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let missing = list(expected.difference(found).collect());
    let extra = list(found.difference(expected).collect());
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "{what}: missing [{missing}], not expected [{extra}]"
    );
    Ok(())
}
