//! Why a command did not do its work; each message says what to do.

use std::path::PathBuf;

use roadbed_api::Kind;
use roadbed_api::document::DocumentErrors;
use roadbed_client::ClientError;
use roadbed_store::StoreError;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens on the agent's socket.
    #[error(
        "no agent answers at {} ({reason}): is roadbed-agent (or roadbed-bgpd) running on this node? Another run directory: --run-dir",
        path.display()
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What the connection attempt said.
        reason: String,
    },
    /// The agent is there and the request failed.
    #[error(transparent)]
    Agent(ClientError),
    /// The store is away or refused.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A manifest cannot be read from where it is.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Manifests are wrong; nothing was done.
    #[error("{0}")]
    Manifests(DocumentErrors),
    /// Manifests do not fit together or do not fit what is stored; nothing was done.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// Some objects were written, these not.
    #[error("{}", .0.join("\n"))]
    Incomplete(Vec<String>),
    /// There is no such object.
    #[error("{kind}/{name} is not in {home}")]
    NotFound {
        /// The kind asked for.
        kind: Kind,
        /// The name asked for.
        name: String,
        /// The store.
        home: String,
    },
    /// The answer shows what is wrong.
    #[error("problems found: {0}")]
    Ailing(usize),
    /// Nothing matches.
    #[error("{0}")]
    Nothing(String),
    /// The answer cannot be shown.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl CtlError {
    /// The exit code: 2 for a wrong command line, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            CtlError::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl From<ClientError> for CtlError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotRunning { path, source } => CtlError::NoAgent {
                path,
                reason: plain(&source),
            },
            other => CtlError::Agent(other),
        }
    }
}

/// An I/O error in lower case and without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
