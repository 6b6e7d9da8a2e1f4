//! The local API: HTTP/1.1 and JSON on the agent's unix socket. `roadbed_api::agent` describes it.

mod reports;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use roadbed_api::agent::{
    ATTACHMENTS, ApiError, AttachmentDetail, AttachmentKey, AttachmentList, CONVERGED,
    CommitRequest, ErrorCode, IPAM, IpamReport, NodeStatus, Probe, READYZ, ROUTES, Released,
    Reservation, ReserveRequest, RouteReport, STATUS,
};
use roadbed_bgpd::api::{Failure, nothing_there};
use roadbed_fib::FibHandle;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::net::unix::UCred;
use tokio::sync::watch;

use crate::attach::Attachments;
use crate::bgp::Bgp;
use crate::blocks::Blocks;
use crate::config::AgentConfig;
use crate::ledger::LedgerHandle;
use crate::sync::Known;

/// Largest request, bytes: a reservation is a few hundred.
const MAX_BODY: usize = 64 << 10;

/// What the handlers work with.
pub struct App {
    /// Settings of the node.
    pub config: AgentConfig,
    /// When the agent started.
    pub started: Instant,
    /// `/converged` has passed once.
    pub converged: AtomicBool,
    /// Whether the table against forged sources stands.
    pub antispoof: watch::Receiver<crate::antispoof::Verdict>,
    /// ADD and DEL.
    pub attachments: Attachments,
    /// Blocks of the node.
    pub blocks: Blocks,
    /// Addresses in use.
    pub ledger: LedgerHandle,
    /// The speaker.
    pub bgp: Bgp,
    /// Kernel routes.
    pub fib: FibHandle,
    /// Resources and store.
    pub known: watch::Receiver<Known>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
struct Caller(Option<UCred>);

impl Connected<axum::serve::IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, UnixListener>) -> Self {
        Caller(stream.io().peer_cred().ok())
    }
}

/// A JSON body whose faults are told in the API's own shape.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(Failure(ApiError::new(
                ErrorCode::Invalid,
                body_problem(&rejection),
            ))),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> String {
    format!("request body: {}", rejection.body_text())
}

type Shared = State<Arc<App>>;

/// Serves until the future that shuts it down is ready.
///
/// # Errors
/// When the socket fails.
pub async fn serve(
    listener: UnixListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let changes = Router::new()
        .route(ATTACHMENTS, post(reserve))
        .route(
            "/v1/attachments/{network}/{container}/{ifname}/commit",
            post(commit),
        )
        .route(
            "/v1/attachments/{network}/{container}/{ifname}",
            delete(release),
        )
        .layer(middleware::from_fn(root_only));
    let bgp = roadbed_bgpd::api::router(&app.config.node, app.bgp.asking.clone());
    let router = Router::new()
        .route(ATTACHMENTS, get(attachments))
        .route(
            "/v1/attachments/{network}/{container}/{ifname}",
            get(attachment),
        )
        .route(STATUS, get(status))
        .route(IPAM, get(ipam))
        .route(ROUTES, get(routes))
        .route(READYZ, get(readyz))
        .route(CONVERGED, get(converged))
        .merge(changes)
        .merge(bgp)
        .fallback(nothing_there)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app);
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<Caller>(),
    )
    .with_graceful_shutdown(shutdown)
    .await
}

/// Reading is for whoever may open the socket; changing is for root.
async fn root_only(
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if caller.0.is_some_and(|cred| cred.uid() == 0) {
        return next.run(request).await;
    }
    Failure(ApiError::new(
        ErrorCode::Forbidden,
        "only root may change attachments",
    ))
    .into_response()
}

/// Does work on attachments to its end, also when the caller does not live to hear of it: nothing is left half done.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Json<T>, Failure> {
    let done = tokio::spawn(work).await;
    let done = done.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(Json(done?))
}

async fn reserve(
    State(app): Shared,
    Body(request): Body<ReserveRequest>,
) -> Result<Json<Reservation>, Failure> {
    to_the_end(async move { app.attachments.reserve(request).await }).await
}

async fn commit(
    State(app): Shared,
    Path(parts): Path<(String, String, String)>,
    Body(request): Body<CommitRequest>,
) -> Result<Json<roadbed_api::agent::Attachment>, Failure> {
    let key = key(parts)?;
    to_the_end(async move { app.attachments.commit(key, request).await }).await
}

async fn release(
    State(app): Shared,
    Path(parts): Path<(String, String, String)>,
) -> Result<Json<Released>, Failure> {
    let key = key(parts)?;
    to_the_end(async move { app.attachments.release(key).await }).await
}

fn key(
    (network, container_id, ifname): (String, String, String),
) -> Result<AttachmentKey, Failure> {
    let key = AttachmentKey {
        network,
        container_id,
        ifname,
    };
    match key.problem() {
        None => Ok(key),
        Some(problem) => Err(Failure(ApiError::new(ErrorCode::Invalid, problem))),
    }
}

async fn attachment(
    State(app): Shared,
    Path(parts): Path<(String, String, String)>,
) -> Result<Json<AttachmentDetail>, Failure> {
    Ok(Json(app.attachments.detail(key(parts)?).await?))
}

async fn attachments(State(app): Shared) -> Result<Json<AttachmentList>, Failure> {
    Ok(Json(app.attachments.list().await))
}

async fn status(State(app): Shared) -> Json<NodeStatus> {
    Json(reports::status(&app).await)
}

async fn ipam(State(app): Shared) -> Result<Json<IpamReport>, Failure> {
    Ok(Json(reports::ipam(&app).await?))
}

async fn routes(State(app): Shared) -> Result<Json<RouteReport>, Failure> {
    Ok(Json(reports::routes(&app).await?))
}

async fn readyz(State(app): Shared) -> Response {
    probe(app.blocks.view().waiting_for())
}

async fn converged(State(app): Shared) -> Response {
    probe(reports::convergence(&app).await)
}

fn probe(waiting_for: Vec<String>) -> Response {
    let ok = waiting_for.is_empty();
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Probe { ok, waiting_for })).into_response()
}
