//! What a standalone router shows besides: its status.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::routing::get;
use axum::{Json, Router};
use roadbed_api::agent::{NodeStatus, STATUS};
use roadbed_api::{Condition, Timestamp};
use tokio::net::UnixListener;

use super::Failure;
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
}

/// Serves for as long as it is polled.
///
/// # Errors
/// When the socket fails.
pub(super) async fn serve(listener: UnixListener, router: Standalone) -> std::io::Result<()> {
    let bgp = super::router(&router.node, router.asking.clone());
    let all = Router::new()
        .route(STATUS, get(status))
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

async fn nothing_there(request: Request) -> Failure {
    let Failure(mut error) = super::nothing_there(request).await;
    error
        .message
        .push_str(": a standalone router has bgp and status");
    Failure(error)
}
