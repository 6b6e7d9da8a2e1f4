//! Errors of the API server, as a store tells them.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use kube::core::Status;
use roadbed_api::resource::ObjectError;
use roadbed_api::{Kind, Problems};
use roadbed_store::{ConflictCause, StoreError};

/// Longest time for one answer. A server that was stopped accepts connections and never answers.
const ANSWER: Duration = Duration::from_secs(15);

/// The error and all its causes, each once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", ANSWER.as_secs())]
struct Silent;

/// The API server is there, and says no for a reason that may pass.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

/// The failure of a request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server answered, and this is not what was asked for.
    Status(Box<Status>),
    /// A list that was to come as a stream did not say where it ends.
    Unmarked,
    /// There is no usable answer.
    Away(Box<dyn Error + Send + Sync>),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status),
            other => Self::Away(Said(chain(&other)).into()),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => f.write_str(&said(status)),
            Self::Unmarked => f.write_str("the end of a streamed list did not come"),
            Self::Away(error) => write!(f, "{error}"),
        }
    }
}

/// The answer, if it comes in time.
pub(crate) async fn answer<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Away(Silent.into())),
    }
}

impl Failure {
    /// The server no longer has the changes since the version that was named.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Status(status) if is_expired(status))
    }

    /// A server that does not know the parameter leaves the mark away.
    pub(crate) fn is_unmarked(&self) -> bool {
        matches!(self, Self::Unmarked)
    }

    /// The server does not take what it was asked; another way of asking may do.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.code, 400 | 422))
    }

    /// A write lost against another, or did not fit what is stored.
    pub(crate) fn may_be_conflict(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.code, 404 | 409 | 422))
    }

    /// The failure of a request about objects of a kind, or about the one with that name.
    pub(crate) fn of(self, home: &str, kind: Kind, name: Option<&str>) -> StoreError {
        let away = |source: Box<dyn Error + Send + Sync>| StoreError::Unavailable {
            home: home.to_owned(),
            source,
        };
        let status = match self {
            Self::Away(source) => return away(source),
            Self::Unmarked => return away(Said(self.to_string()).into()),
            Self::Status(status) => status,
        };
        let named = |name: Option<&str>| name.unwrap_or_default().to_owned();
        match (status.code, status.reason.as_str()) {
            (404, _) if name.is_some() && has_name(&status) => StoreError::NotFound {
                kind,
                name: named(name),
            },
            (404, _) => away(
                Said(format!(
                    "it does not know {kind}: apply the CRDs of {}",
                    roadbed_api::names::API_VERSION
                ))
                .into(),
            ),
            (409, "AlreadyExists") => StoreError::AlreadyExists {
                kind,
                name: named(name),
            },
            (409, _) if name.is_some() => StoreError::Conflict {
                kind,
                name: named(name),
                cause: ConflictCause::Changed,
            },
            (400 | 422, _) if name.is_some() => StoreError::Invalid(ObjectError::Invalid {
                kind,
                name: named(name),
                problems: problems(&status),
            }),
            (403, _) => StoreError::Refused {
                home: home.to_owned(),
                reason: said(&status),
            },
            _ if is_expired(&status) => StoreError::Compacted { kind },
            _ => away(Said(said(&status)).into()),
        }
    }
}

/// The server speaks of one object, rather than of a kind that it does not know.
fn has_name(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|d| !d.name.is_empty())
}

pub(crate) fn is_expired(status: &Status) -> bool {
    status.code == 410 || matches!(status.reason.as_str(), "Expired" | "Gone")
}

/// The server's words, with what its code means to an operator.
pub(crate) fn said(status: &Status) -> String {
    let text = match status.message.trim() {
        "" => format!("HTTP {}", status.code),
        message => message.to_owned(),
    };
    match status.code {
        401 => format!("it does not accept our credentials: {text}"),
        _ => text,
    }
}

/// The server's findings, each with its field.
fn problems(status: &Status) -> Problems {
    let mut problems = Problems::new();
    let causes = status.details.iter().flat_map(|d| &d.causes);
    for cause in causes {
        let field = match cause.field.as_str() {
            // The server names the object itself so.
            "" | "<nil>" => "object".to_owned(),
            field => field.to_owned(),
        };
        problems.add(field, cause.message.clone());
    }
    if problems.is_empty() {
        problems.add("object", said(status));
    }
    problems
}
