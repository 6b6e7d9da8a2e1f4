//! What the speaker shows: sessions, routes, the RIB as MRT. Answers of any length are streams that ask the RIB for the
//! next page when the reader has taken the one before.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use roadbed_api::agent::{ApiError, BgpPeer, BgpPeers, BgpRoute, BmpStations, ErrorCode, RibQuery};

use super::{Failure, Node};
use crate::{Looking, RibClosed, RouteQuery, Side};

pub(super) async fn peers(State(node): State<Node>) -> Json<BgpPeers> {
    Json(BgpPeers {
        node: node.name.to_string(),
        peers: node.asking.peers_at_length().await,
    })
}

pub(super) async fn stations(State(node): State<Node>) -> Json<BmpStations> {
    Json(BmpStations {
        node: node.name.to_string(),
        stations: node.asking.stations().await,
    })
}

pub(super) async fn peer(
    State(node): State<Node>,
    Path(name): Path<String>,
) -> Result<Json<BgpPeer>, Failure> {
    Ok(Json(named(&node, &name).await?))
}

async fn named(node: &Node, name: &str) -> Result<BgpPeer, ApiError> {
    let peers = node.asking.peers_at_length().await;
    let known: Vec<String> = peers.iter().map(|p| p.report.name.clone()).collect();
    let found = peers.into_iter().find(|p| p.report.name == name);
    found.ok_or_else(|| {
        let known = match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        };
        ApiError::new(
            ErrorCode::NotFound,
            format!(
                "no BGP peer of this node is called \"{}\"; there are: {known}",
                name.escape_debug()
            ),
        )
    })
}

async fn looking(node: &Node) -> Result<Looking, ApiError> {
    node.asking.look().await.ok_or_else(|| {
        ApiError::new(
            ErrorCode::NotReady,
            "the speaker does not run: roadbedctl status says why",
        )
    })
}

pub(super) async fn rib(
    State(node): State<Node>,
    query: Result<Query<RibQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let invalid = |message: String| ApiError::new(ErrorCode::Invalid, message);
    let Query(query) = query.map_err(|e| invalid(e.body_text()))?;
    let side = match (query.received, query.advertised) {
        (None, None) => Side::All,
        (Some(name), None) => {
            named(&node, &name).await?;
            Side::Received(name.into())
        }
        (None, Some(name)) => {
            named(&node, &name).await?;
            Side::Advertised(name.into())
        }
        (Some(_), Some(_)) => {
            return Err(invalid("received and advertised exclude each other".into()).into());
        }
    };
    let query = RouteQuery {
        near: query.prefix.map(|p| p.trunc()),
        side,
        ..RouteQuery::default()
    };
    let routes = looking(&node).await?.routes(query).await.map_err(closed)?;
    let routes = routes.map_err(|e| ApiError::new(ErrorCode::Conflict, e.to_string()))?;
    let lines = stream::try_unfold(routes, async |mut routes| {
        let page = routes.next().await?;
        Ok::<_, RibClosed>(page.map(|page| (lines(&page), routes)))
    });
    Ok(streamed("application/x-ndjson", lines))
}

pub(super) async fn dump(State(node): State<Node>) -> Result<Response, Failure> {
    let dump = looking(&node).await?.dump().await.map_err(closed)?;
    let records = stream::try_unfold(dump, async |mut dump| {
        let records = dump.next().await?;
        Ok::<_, RibClosed>(records.map(|records| (Bytes::from(records), dump)))
    });
    Ok(streamed("application/octet-stream", records))
}

fn lines(routes: &[BgpRoute]) -> Bytes {
    let mut lines = Vec::new();
    for route in routes {
        // A route is strings, numbers and lists of them: that cannot fail, and a Vec takes everything.
        if serde_json::to_writer(&mut lines, route).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}

fn streamed(
    kind: &'static str,
    stream: impl Stream<Item = Result<Bytes, RibClosed>> + Send + 'static,
) -> Response {
    ([(CONTENT_TYPE, kind)], Body::from_stream(stream)).into_response()
}

fn closed(error: RibClosed) -> Failure {
    Failure(ApiError::new(ErrorCode::Internal, error.to_string()))
}
