//! What a standalone router shows besides: its status, and its routes beside the kernel's.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::routing::get;
use axum::{Json, Router};
use roadbed_api::agent::{
    ApiError, ErrorCode, NodeStatus, Probe, READYZ, ROUTES, RouteReport, STATUS,
};
use roadbed_api::{Condition, Timestamp};
use roadbed_fib::FibHandle;
use tokio::net::UnixListener;

use super::{Failure, bgp_rows};
use crate::ask::Asking;

/// A standalone router.
#[derive(Clone)]
pub struct Standalone {
    /// The host's name.
    pub node: Arc<str>,
    /// When it started.
    pub started: Instant,
    /// Its speaker.
    pub asking: Asking,
    /// Its kernel routes.
    pub fib: FibHandle,
}

/// Serves for as long as it is polled.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: UnixListener, router: Standalone) -> std::io::Result<()> {
    let bgp = super::router(&router.node, router.asking.clone());
    let all = Router::new()
        .route(STATUS, get(status))
        .route(ROUTES, get(routes))
        .route(READYZ, get(readyz))
        .merge(bgp)
        .fallback(nothing_there)
        .with_state(router);
    axum::serve(listener, all).await
}

async fn status(State(router): State<Standalone>) -> Json<NodeStatus> {
    let identity = router.asking.identity().await;
    let problem = identity.problem;
    let in_force = Condition {
        r#type: "ConfigurationInForce".to_owned(),
        status: if problem.is_none() { "True" } else { "False" }.to_owned(),
        reason: if problem.is_none() {
            "Applied"
        } else {
            "Refused"
        }
        .to_owned(),
        message: problem.unwrap_or_default(),
        last_transition_time: Timestamp::default(),
    };
    let options = identity.options;
    Json(NodeStatus {
        node: router.node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: router.started.elapsed().as_secs(),
        as_number: options.as_ref().map_or(0, |options| options.local_as),
        router_id: options.map(|options| options.router_id),
        node_addresses: Vec::new(),
        store: None,
        conditions: vec![in_force],
        peers: router.asking.peers().await,
    })
}

async fn routes(State(router): State<Standalone>) -> Result<Json<RouteReport>, Failure> {
    let installed = router.fib.dump().await;
    let installed = installed.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
    let mut routes = bgp_rows(&router.asking.paths().await, &installed);
    routes.sort_by_key(|row| (row.prefix, !row.best, row.origin));
    Ok(Json(RouteReport {
        node: router.node.to_string(),
        routes,
    }))
}

async fn nothing_there(request: Request) -> Failure {
    let Failure(mut error) = super::nothing_there(request).await;
    error
        .message
        .push_str(": a standalone router has no pods and no pools");
    Failure(error)
}

/// It listens and has its peers before it can be asked.
async fn readyz() -> Json<Probe> {
    super::livez().await
}
