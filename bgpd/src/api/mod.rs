//! What a speaker shows over HTTP on a unix socket: the part that the agent and the standalone router share. Paths, questions
//! and answers are `roadbed_api::agent`'s.

mod look;
mod shown;
mod standalone;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use roadbed_api::agent::{
    ApiError, BGP_BMP, BGP_DUMP, BGP_PEERS, BGP_RIB, ErrorCode, LIVEZ, Probe,
};

pub use shown::Shown;
pub use standalone::Standalone;

use crate::ask::Asking;

/// A speaker and the node that it runs on.
#[derive(Clone, Debug)]
struct Node {
    name: Arc<str>,
    asking: Asking,
}

/// Sessions, routes, stations, dumps, and whether anybody is there at all.
pub fn router<S: Clone + Send + Sync + 'static>(node: &str, asking: Asking) -> Router<S> {
    let name = node.into();
    Router::new()
        .route(BGP_PEERS, get(look::peers))
        .route("/v1/bgp/peers/{name}", get(look::peer))
        .route(BGP_RIB, get(look::rib))
        .route(BGP_DUMP, get(look::dump))
        .route(BGP_BMP, get(look::stations))
        .route(LIVEZ, get(livez))
        .with_state(Node { name, asking })
}

/// An error on its way out.
#[derive(Debug)]
pub struct Failure(pub ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

async fn livez() -> Json<Probe> {
    Json(Probe {
        ok: true,
        waiting_for: Vec::new(),
    })
}

/// What is asked for is not there.
pub async fn nothing_there(request: Request) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    let said = format!("{method} {path} is not part of this API");
    Failure(ApiError::new(ErrorCode::NotFound, said))
}
