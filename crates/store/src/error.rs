//! What a store can answer instead of an object.

use roadbed_api::Kind;
use roadbed_api::resource::ObjectError;

/// Why a store did not do what was asked. The message names the object and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{kind}/{name} does not exist")]
    NotFound {
        /// The kind asked for.
        kind: Kind,
        /// The name asked for.
        name: String,
    },
    /// A create found the name taken.
    #[error("{kind}/{name} exists already: read and update it, or choose another name")]
    AlreadyExists {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
    },
    /// A compare-and-swap lost.
    #[error("{kind}/{name} {cause}: read it again and decide anew")]
    Conflict {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// What does not match.
        cause: ConflictCause,
    },
    /// The object is not legal; it will not become legal by trying again.
    #[error(transparent)]
    Invalid(#[from] ObjectError),
    /// A write lacks what the store compares with.
    #[error("{kind}/{name} cannot be written: {field} is missing: read the object first")]
    Incomplete {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// The missing field.
        field: &'static str,
    },
    /// The changes since the resume point are gone.
    #[error(
        "changes of {kind} since that point are no longer kept: list again and watch from there"
    )]
    Compacted {
        /// The kind watched.
        kind: Kind,
    },
    /// The store is away: missing, locked, unreadable. It may come back; try again.
    #[error("store {home} is not available: {source}")]
    Unavailable {
        /// The store, as [`Store::home`](crate::Store::home) names it.
        home: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is there and cannot be used; somebody must do something.
    #[error("store {home} is refused: {reason}")]
    Refused {
        /// The store, as [`Store::home`](crate::Store::home) names it.
        home: String,
        /// Why, and what would help.
        reason: String,
    },
}

impl StoreError {
    /// Whether the store is away, so that trying again later can help.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// What did not match in a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictCause {
    /// The object was written since it was read.
    Changed,
    /// The object of that name is another one by now.
    Recreated,
}

impl std::fmt::Display for ConflictCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "was changed meanwhile (resourceVersion differs)",
            Self::Recreated => "was deleted and created anew meanwhile (uid differs)",
        })
    }
}
