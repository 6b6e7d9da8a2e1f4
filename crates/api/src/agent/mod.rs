//! Requests and answers on the agent's unix socket: HTTP/1.1, JSON, `<runDir>/agent.sock`.
//!
//! | path | what | answer |
//! |---|---|---|
//! | `POST /v1/attachments` | reserve ([`ReserveRequest`]) | [`Reservation`] |
//! | `POST /v1/attachments/{network}/{containerID}/{ifname}/commit` | commit ([`CommitRequest`]) | [`Attachment`] |
//! | `DELETE /v1/attachments/{network}/{containerID}/{ifname}` | unwire and release | [`Released`] |
//! | `GET` on the same path | beside what the kernel has | [`AttachmentDetail`] |
//! | `GET /v1/attachments` | all of this node | [`AttachmentList`] |
//! | `GET /v1/status` | the node and its peers | [`NodeStatus`] |
//! | `GET /v1/ipam` | pools, blocks, addresses | [`IpamReport`] |
//! | `GET /v1/routes` | what is in the RIB and in the kernel, and why | [`RouteReport`] |
//! | `GET /v1/bgp/peers` | BGP sessions at length | [`BgpPeers`] |
//! | `GET /v1/bgp/peers/{name}` | one of them | [`BgpPeer`] |
//! | `GET /v1/bgp/rib` | paths of the RIB, as [`RibQuery`] asks | NDJSON of [`BgpRoute`] |
//! | `GET /v1/bgp/bmp` | BMP stations | [`BmpStations`] |
//! | `GET /v1/bgp/dump` | the RIB as MRT (RFC 6396, TABLE_DUMP_V2) | octets |
//! | `GET /livez`, `/readyz`, `/converged` | probes | 200 or 503 with [`Probe`] |
//!
//! An error is a 4xx or 5xx with [`ApiError`]. Changes need root (peer credentials).

mod attachment;
mod bgp;
mod detail;
mod report;

use serde::{Deserialize, Serialize};

pub use attachment::{
    Attachment, AttachmentKey, AttachmentList, AttachmentState, CommitRequest, PodRef, Released,
    Reservation, ReserveRequest,
};
pub use bgp::{
    Advertised, BgpPeer, BgpPeers, BgpRoute, BgpSession, BmpStationReport, BmpStations,
    ConnectionCounts, MessageCounts, NextHopReport, ReceivedRoute, RibQuery, RouteAttributes,
    bgp_peer_path,
};
pub use detail::{AttachmentDetail, LinkReport, NeighbourReport, TrafficCounters};
pub use report::{
    BlockReport, Count, FamilyCounts, IpamReport, NodeStatus, PeerReport, PoolReport, Probe,
    RouteOrigin, RouteReport, RouteRow, StoreReport,
};

/// Path of the probe that only asks whether somebody is there.
pub const LIVEZ: &str = "/livez";
/// Path of the probe that asks whether pods can be wired.
pub const READYZ: &str = "/readyz";
/// Path of the probe that asks whether the routes of the peers are there.
pub const CONVERGED: &str = "/converged";
/// Path of the attachments.
pub const ATTACHMENTS: &str = "/v1/attachments";
/// Path of the node's status.
pub const STATUS: &str = "/v1/status";
/// Path of the IPAM report.
pub const IPAM: &str = "/v1/ipam";
/// Path of the route report.
pub const ROUTES: &str = "/v1/routes";

/// Path of the BGP sessions.
pub const BGP_PEERS: &str = "/v1/bgp/peers";
/// Path of the RIB.
pub const BGP_RIB: &str = "/v1/bgp/rib";
/// Path of the MRT dump.
pub const BGP_DUMP: &str = "/v1/bgp/dump";
/// Path of the BMP stations.
pub const BGP_BMP: &str = "/v1/bgp/bmp";

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: names the field or the object and says what to do.
    pub message: String,
}

impl ApiError {
    /// An error of this code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// What kind of refusal an [`ApiError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorCode {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// Another attachment or state is in the way.
    Conflict,
    /// No free address in any block, and no block to be had.
    PoolFull,
    /// The agent is starting or waits for a block: try again later.
    NotReady,
    /// The caller is not root.
    Forbidden,
    /// The kernel refused.
    Kernel,
    /// A fault of the agent itself.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that carries it.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorCode::Invalid => 400,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::Conflict => 409,
            ErrorCode::NotReady => 503,
            ErrorCode::PoolFull => 507,
            ErrorCode::Kernel | ErrorCode::Internal => 500,
        }
    }
}
