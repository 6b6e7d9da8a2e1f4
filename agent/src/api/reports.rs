//! What the agent shows: put together from its parts at the moment of the question.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{
    ApiError, BlockReport, Count, ErrorCode, IpamReport, NodeStatus, PeerReport, PoolReport,
    RouteOrigin, RouteReport, RouteRow,
};
use roadbed_api::{Condition, Timestamp};
use roadbed_bgpd::{PathView, RouteSource};
use roadbed_fib::{InstalledRoute, NextHop, RouteKind, RouteState, Source};

use super::App;
use crate::bgp;
use crate::sync::Known;

/// When nodes count as converged whatever their peers do.
const CONVERGENCE_DEADLINE: Duration = Duration::from_secs(60);

pub(super) async fn status(app: &App) -> NodeStatus {
    let identity = app.bgp.asking.identity().await;
    let known = app.known.borrow().clone();
    let antispoof = app.antispoof.borrow().clone();
    let view = app.blocks.view();
    let waiting = view.waiting_for();
    let mut conditions = vec![
        condition(
            "Ready",
            waiting.is_empty(),
            "BlocksConfirmed",
            "WaitingForBlocks",
            &waiting.join(", "),
        ),
        condition(
            "StoreReachable",
            known.store.reachable,
            "Reachable",
            "Unreachable",
            known.store.last_error.as_deref().unwrap_or_default(),
        ),
        condition(
            "SpeakerRunning",
            identity.options.is_some() && identity.problem.is_none(),
            "Running",
            "Problem",
            identity.problem.as_deref().unwrap_or_default(),
        ),
        condition(
            "AntiSpoofing",
            antispoof.is_ok(),
            "RulesStand",
            "NoRules",
            antispoof.as_ref().err().map_or("", String::as_str),
        ),
    ];
    let findings = known.resources.iter().flat_map(|r| r.problems());
    let left_out = findings.collect::<Vec<_>>().join("; ");
    let plan = view
        .problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let problems = [plan, left_out];
    let problems: Vec<&String> = problems.iter().filter(|p| !p.is_empty()).collect();
    if !problems.is_empty() {
        let message = problems.into_iter().cloned().collect::<Vec<_>>().join("; ");
        conditions.push(condition(
            "ResourcesValid",
            false,
            "Valid",
            "Problem",
            &message,
        ));
    }
    conditions.extend(mesh_condition(
        app,
        &known,
        identity.options.as_ref().map(|o| o.local_as),
    ));
    NodeStatus {
        node: app.config.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: app.started.elapsed().as_secs(),
        as_number: identity.options.as_ref().map_or(0, |o| o.local_as),
        router_id: identity.options.map(|o| o.router_id),
        node_addresses: known.identity.addresses.clone(),
        store: Some(known.store),
        conditions,
        peers: app.bgp.asking.peers().await,
    }
}

/// The condition of the node mesh, where there is one or should be: it reaches every node.
fn mesh_condition(app: &App, known: &Known, local_as: Option<u32>) -> Option<Condition> {
    let resources = known.resources.as_ref()?;
    let local_as = local_as?;
    let (_, problems) = bgp::mesh(&app.config.node, &known.identity, resources, local_as);
    let in_force = resources.cluster().in_force();
    if !in_force && problems.is_empty() {
        return None;
    }
    let complete = problems.is_empty();
    let message = problems.join("; ");
    Some(condition(
        "NodeMesh", complete, "Complete", "Problem", &message,
    ))
}

fn condition(kind: &str, holds: bool, yes: &str, no: &str, message: &str) -> Condition {
    Condition {
        r#type: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: if holds { yes } else { no }.to_owned(),
        message: if holds {
            String::new()
        } else {
            message.to_owned()
        },
        last_transition_time: Timestamp::default(),
    }
}

/// What convergence waits for; empty once every peer sent End-of-RIB, there is no peer, or time is up.
pub(super) async fn convergence(app: &App) -> Vec<String> {
    if app.converged.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let waiting_for = waits_for(app).await;
    // Once through, a node stays so: a peer that goes later is no reason to keep pods away.
    app.converged
        .fetch_or(waiting_for.is_empty(), Ordering::Relaxed);
    waiting_for
}

async fn waits_for(app: &App) -> Vec<String> {
    if app.started.elapsed() >= CONVERGENCE_DEADLINE {
        return Vec::new();
    }
    if app.known.borrow().resources.is_none() {
        return vec!["resources from the store".into()];
    }
    if let Some(problem) = app.bgp.asking.identity().await.problem {
        return vec![problem];
    }
    let through = |peer: &PeerReport| {
        !peer.families.is_empty() && peer.families.values().all(|f| f.end_of_rib)
    };
    let peers = app.bgp.asking.peers().await;
    if peers.is_empty() || peers.iter().any(through) {
        return Vec::new();
    }
    vec!["End-of-RIB from a peer".into()]
}

pub(super) async fn ipam(app: &App) -> Result<IpamReport, ApiError> {
    let view = app.blocks.view();
    let cidrs = view.own.iter().map(|b| b.spec.cidr).collect();
    let usage = app.ledger.usage(cidrs).await;
    let resources = app.known.borrow().resources.clone();
    let slots: BTreeMap<&str, u128> = resources
        .iter()
        .flat_map(|r| &r.pools)
        .map(|p| (p.name(), p.spec.slots()))
        .collect();
    let mut blocks: Vec<BlockReport> = view
        .own
        .iter()
        .map(|block| {
            let usage = usage.get(&block.spec.cidr).copied().unwrap_or_default();
            BlockReport {
                cidr: block.spec.cidr,
                pool: block.spec.pool.clone(),
                state: block.spec.state,
                capacity: usage.capacity,
                in_use: usage.in_use,
                cooling: usage.cooling,
            }
        })
        .collect();
    blocks.sort_by_key(|b| b.cidr);
    Ok(IpamReport {
        node: app.config.node.clone(),
        pools: view
            .pools
            .iter()
            .map(|pool| PoolReport {
                name: pool.name.clone(),
                cidr: pool.cidr,
                block_size: pool.block_len,
                slots: Count(slots.get(pool.name.as_str()).copied().unwrap_or(0)),
                usable: pool.usable.is_ok(),
                reason: pool.usable.as_ref().err().map(ToString::to_string),
            })
            .collect(),
        blocks,
    })
}

pub(super) async fn routes(app: &App) -> Result<RouteReport, ApiError> {
    let installed = app
        .fib
        .dump()
        .await
        .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
    let links = crate::attach::link_names().await?;
    let kernel: BTreeMap<(IpNet, Source), &InstalledRoute> = installed
        .iter()
        .filter_map(|route| Some(((route.key.prefix, route.source?), route)))
        .collect();
    let mut rows: Vec<RouteRow> = installed
        .iter()
        .filter(|route| route.source == Some(Source::Pod))
        .map(|route| RouteRow {
            prefix: route.key.prefix,
            origin: RouteOrigin::Pod,
            peer: None,
            via: route.route.as_ref().and_then(|r| via(&r.kind, &links)),
            as_path: None,
            best: true,
            why: "a pod of this node".into(),
            installed: Some(is_installed(route)),
            install_error: install_error(route),
        })
        .collect();
    rows.extend(
        app.bgp
            .asking
            .paths()
            .await
            .iter()
            .map(|path| bgp_row(path, &kernel)),
    );
    rows.sort_by_key(|row| (row.prefix, !row.best, row.origin));
    Ok(RouteReport {
        node: app.config.node.clone(),
        routes: rows,
    })
}

fn bgp_row(path: &PathView, kernel: &BTreeMap<(IpNet, Source), &InstalledRoute>) -> RouteRow {
    let best = matches!(path.verdict, roadbed_bgpd::Verdict::Best(_));
    let (origin, source) = match path.source {
        RouteSource::OwnBlock => (RouteOrigin::Block, Some(Source::Block)),
        RouteSource::Node => (RouteOrigin::Node, None),
        RouteSource::Static => (RouteOrigin::Static, None),
        RouteSource::Learned => (RouteOrigin::Bgp, Some(Source::Bgp)),
    };
    let shares = matches!(path.verdict, roadbed_bgpd::Verdict::Shares(_));
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

fn is_installed(route: &InstalledRoute) -> bool {
    matches!(route.state, RouteState::Installed | RouteState::Stale)
}

fn install_error(route: &InstalledRoute) -> Option<String> {
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

fn via(kind: &RouteKind, links: &BTreeMap<u32, String>) -> Option<String> {
    match kind {
        RouteKind::Device { ifindex } => Some(match links.get(ifindex) {
            Some(name) => format!("dev {name}"),
            None => format!("dev index {ifindex}"),
        }),
        RouteKind::Via(hops) => Some(shared(hops)),
        RouteKind::Unreachable => None,
    }
}
