//! Why a request got no good answer, and what to do about it.

use std::io;
use std::path::PathBuf;

use roadbed_api::agent::ApiError;

/// A failed request. Messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "is roadbed-agent running on this node? looked at {}: {source}; start it, or point runDir at the directory it uses",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the connection attempt said.
        #[source]
        source: io::Error,
    },
    /// The caller may not use the socket.
    #[error("no permission to use {}; run as root", path.display())]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The path cannot name a socket.
    #[error("{} cannot be a socket path (at most 107 bytes, no NUL); choose a shorter runDir", path.display())]
    SocketPath {
        /// The path as given.
        path: PathBuf,
    },
    /// The agent did not answer in time.
    #[error("roadbed-agent at {} did not answer within {} ms; see its log", path.display(), millis)]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The time it had.
        millis: u128,
    },
    /// The connection ended in the middle of an answer: the agent stopped or crashed.
    #[error("roadbed-agent at {} closed the connection before it had answered; is it restarting?", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The agent refused, and said why.
    #[error("roadbed-agent: {error} (HTTP {status})")]
    Api {
        /// HTTP status.
        status: u16,
        /// The agent's words.
        #[source]
        error: ApiError,
    },
    /// The agent refused without saying why: most likely not a Roadbed agent, or one of another version.
    #[error(
        "roadbed-agent answered {path} with HTTP {status}; are agent and client of the same version?"
    )]
    Status {
        /// HTTP status.
        status: u16,
        /// The path of the request.
        path: String,
    },
    /// The answer is not what the API promises.
    #[error(
        "roadbed-agent's answer to {path} cannot be read: {source}; are agent and client of the same version?"
    )]
    Json {
        /// The path of the request.
        path: String,
        /// What was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is not HTTP/1.1 as we speak it.
    #[error(
        "the answer on the agent's socket is not HTTP/1.1: {0}; does something else listen there?"
    )]
    Protocol(&'static str),
    /// The answer is larger than the caller takes.
    #[error("the answer is larger than {limit} bytes; ask for less")]
    TooLarge {
        /// The bound that was hit.
        limit: usize,
    },
    /// The request cannot be sent as it is.
    #[error("request path {0:?} is not plain ASCII without spaces")]
    BadRequestPath(String),
    /// The socket failed otherwise.
    #[error("talking to roadbed-agent at {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl ClientError {
    /// The agent is away (not running, silent, or gone in mid-answer), as opposed to there and refusing.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. } | Self::Timeout { .. } | Self::Closed { .. }
        )
    }

    /// The agent's refusal, if that is what this is.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api { error, .. } => Some(error),
            _ => None,
        }
    }
}
