//! Routes of the RIB beside what the kernel has of them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use roadbed_api::agent::{RouteOrigin, RouteRow};
use roadbed_fib::{InstalledRoute, NextHop, RouteKind, RouteState, Source};

use crate::{PathView, RouteSource, Verdict};

/// A row for each path.
pub fn bgp_rows(paths: &[PathView], installed: &[InstalledRoute]) -> Vec<RouteRow> {
    let kernel: BTreeMap<(IpNet, Source), &InstalledRoute> = installed
        .iter()
        .filter_map(|route| Some(((route.key.prefix, route.source?), route)))
        .collect();
    paths.iter().map(|path| bgp_row(path, &kernel)).collect()
}

fn bgp_row(path: &PathView, kernel: &BTreeMap<(IpNet, Source), &InstalledRoute>) -> RouteRow {
    let best = matches!(path.verdict, Verdict::Best(_));
    let (origin, source) = match path.source {
        RouteSource::OwnBlock => (RouteOrigin::Block, Some(Source::Block)),
        RouteSource::Node => (RouteOrigin::Node, None),
        RouteSource::Static => (RouteOrigin::Static, None),
        RouteSource::Learned => (RouteOrigin::Bgp, Some(Source::Bgp)),
    };
    let shares = matches!(path.verdict, Verdict::Shares(_));
    let route = source
        .filter(|_| best || shares)
        .map(|source| kernel.get(&(path.prefix, source)).copied());
    let mut why = path.verdict.to_string();
    if let Some(rejected) = path.rejected {
        why = format!("{why} ({rejected})");
    }
    // The best path stands for all that it shares with.
    let several =
        route
            .flatten()
            .filter(|_| best)
            .and_then(|route| match &route.route.as_ref()?.kind {
                RouteKind::Via(hops) if hops.len() > 1 => Some(shared(hops)),
                _ => None,
            });
    RouteRow {
        prefix: path.prefix,
        origin,
        peer: path.peer.as_ref().map(ToString::to_string),
        via: several.or_else(|| path.next_hop.map(|next_hop| next_hop.to_string())),
        as_path: path.peer.is_some().then(|| path.as_path.clone()),
        best,
        why,
        installed: route.map(|route| route.is_some_and(is_installed)),
        install_error: route.flatten().and_then(install_error),
    }
}

/// Whether the kernel has it.
pub fn is_installed(route: &InstalledRoute) -> bool {
    matches!(route.state, RouteState::Installed | RouteState::Stale)
}

/// Why it has not.
pub fn install_error(route: &InstalledRoute) -> Option<String> {
    match &route.state {
        RouteState::Failed(reason) => Some(reason.clone()),
        RouteState::Installed | RouteState::Stale => None,
    }
}

/// Next hops as the kernel shares packets out to them, with their weights where these differ.
fn shared(hops: &[NextHop]) -> String {
    let even = hops.iter().all(|hop| hop.weight == hops[0].weight);
    let text = |hop: &NextHop| match even {
        true => hop.gateway.to_string(),
        false => format!("{} weight {}", hop.gateway, hop.weight.max(1)),
    };
    let hops: Vec<String> = hops.iter().map(text).collect();
    hops.join(", ")
}

/// Where it leads; `links` are names by interface index.
pub fn via(kind: &RouteKind, links: &BTreeMap<u32, String>) -> Option<String> {
    match kind {
        RouteKind::Device { ifindex } => Some(match links.get(ifindex) {
            Some(name) => format!("dev {name}"),
            None => format!("dev index {ifindex}"),
        }),
        RouteKind::Via(hops) => Some(shared(hops)),
        RouteKind::Unreachable => None,
    }
}
