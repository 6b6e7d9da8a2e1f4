//! Everything that can go wrong, and the one place where it becomes a CNI error code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use roadbed_api::agent::ErrorCode;
use roadbed_client::ClientError;
use roadbed_hostnet::NetlinkError;

use crate::version::CniVersion;

/// A failed invocation. `Display` is the `msg` of the error object.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// `cniVersion` is one we do not speak, or too old for the command.
    #[error("{0}")]
    Version(String),
    /// The `CNI_*` environment is incomplete or illegal; all problems.
    #[error("{}", .0.join("; "))]
    Env(Vec<String>),
    /// `CNI_NETNS` does not name the pod's network namespace.
    #[error("CNI_NETNS: {0}")]
    NetNs(#[source] NetlinkError),
    /// `CNI_NETNS` is the namespace the plugin runs in.
    #[error("CNI_NETNS: {} is the host's own network namespace, not a pod's; nothing was changed", .0.display())]
    HostNetNs(PathBuf),
    /// stdin could not be read.
    #[error("reading the network configuration from stdin: {0}")]
    Stdin(#[source] io::Error),
    /// stdin is not a JSON object.
    #[error("the network configuration on stdin is not a JSON object: {0}")]
    NotJson(String),
    /// The network configuration is wrong; all problems.
    #[error("network configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The agent did not answer before the deadline.
    #[error("{source} (waited {} s; the runtime will try again)", waited.as_secs())]
    AgentAway {
        /// The last attempt's error, which names the socket.
        #[source]
        source: Box<ClientError>,
        /// How long we tried.
        waited: Duration,
    },
    /// The agent refused, or its answer made no sense.
    #[error("{0}")]
    Agent(#[source] Box<ClientError>),
    /// The agent's reservation cannot be wired.
    #[error(
        "roadbed-agent's reservation cannot be used: {0}; are agent and plugin of the same version?"
    )]
    Reservation(String),
    /// The IPAM plugin failed.
    #[error("IPAM plugin {kind}: {message}")]
    Ipam {
        /// `ipam.type`.
        kind: String,
        /// Its error code; 0 when it gave none.
        code: u32,
        /// Its words, or ours about it.
        message: String,
    },
    /// The kernel refused part of the wiring.
    #[error("wiring the pod: {0}")]
    Wire(#[from] NetlinkError),
    /// CHECK found differences; all of them.
    #[error("the attachment is not as it was made: {}", .0.join("; "))]
    Check(Vec<String>),
    /// STATUS: no ADD could be served now.
    #[error("{0}")]
    NotAvailable(String),
    /// GC could not release everything; all failures.
    #[error("not everything could be released: {}", .0.join("; "))]
    Gc(Vec<String>),
}

impl CniError {
    /// The code of CNI spec 1.1.0, section 5, "Error"; 100 and up are ours.
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Env(_) | Self::NetNs(_) | Self::HostNetNs(_) => 4,
            Self::Stdin(_) => 5,
            Self::NotJson(_) => 6,
            Self::Config(_) => 7,
            Self::AgentAway { .. } => 11,
            Self::NotAvailable(_) => 50,
            Self::Wire(_) => 100,
            Self::Agent(error) => match error.api().map(|api| api.code) {
                Some(ErrorCode::NotReady) => 11,
                Some(ErrorCode::PoolFull) => 101,
                Some(ErrorCode::Invalid) => 102,
                Some(ErrorCode::Conflict) => 103,
                Some(ErrorCode::Kernel) => 104,
                Some(ErrorCode::Forbidden) => 106,
                Some(ErrorCode::NotFound | ErrorCode::Internal) => 105,
                None if error.is_away() => 11,
                None => 105,
            },
            Self::Reservation(_) => 105,
            Self::Ipam { code: 0, .. } => 107,
            Self::Ipam { code, .. } => *code,
            Self::Check(_) => 110,
            Self::Gc(_) => 111,
        }
    }

    /// The error object for stdout.
    pub fn to_json(&self, version: CniVersion) -> String {
        let object = serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code(),
            "msg": self.to_string(),
        });
        format!("{object}\n")
    }
}

impl From<ClientError> for CniError {
    fn from(error: ClientError) -> Self {
        Self::Agent(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use roadbed_api::agent::ApiError;

    use super::*;

    #[test]
    fn the_agents_refusals_keep_their_words_and_get_a_code() {
        let check = |code, expected| {
            let error = ApiError::new(code, "pool pods-v4 is full: add a pool");
            let error = CniError::from(ClientError::Api {
                status: code.http_status(),
                error,
            });
            assert_eq!(error.code(), expected, "{code:?}");
            assert!(
                error
                    .to_string()
                    .contains("pool pods-v4 is full: add a pool"),
                "{error}"
            );
        };
        check(ErrorCode::NotReady, 11);
        check(ErrorCode::PoolFull, 101);
        check(ErrorCode::Invalid, 102);
        check(ErrorCode::Conflict, 103);
        check(ErrorCode::Kernel, 104);
        check(ErrorCode::Internal, 105);
        check(ErrorCode::Forbidden, 106);
        assert_eq!(CniError::from(ClientError::Protocol("x")).code(), 105);
        assert_eq!(
            CniError::from(ClientError::Closed { path: "/x".into() }).code(),
            11
        );
    }

    #[test]
    fn the_error_object_has_the_specs_fields() {
        let json = CniError::Env(vec!["CNI_NETNS is missing".into()]).to_json(CniVersion::V1_0_0);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"cniVersion": "1.0.0", "code": 4, "msg": "CNI_NETNS is missing"})
        );
    }
}
