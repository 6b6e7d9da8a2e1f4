//! The plan against a store: read, check everything, then write one object after the other.
//!
//! A store has no transaction over objects. So all checks come before the first write, and each write is a
//! compare-and-swap that is decided anew when somebody else was faster.

use roadbed_api::{Kind, Object};
use roadbed_store::{Labels, Store, StoreError};

use crate::error::CtlError;
use crate::manifests::Found;
use crate::plan::{self, Change};

/// How often a lost compare-and-swap is tried again.
const TRIES: usize = 8;

/// Puts the resources into the store, or says what that would do. `report` hears of each as soon as it is done.
///
/// # Errors
/// [`CtlError::Refused`] before anything is written, [`CtlError::Incomplete`] for those that could not be.
pub async fn apply(
    store: &dyn Store,
    wanted: &[Found],
    dry_run: bool,
    report: &mut dyn FnMut(&Object, Change),
) -> Result<(), CtlError> {
    let stored = related(store, wanted).await?;
    let objections = plan::objections(wanted, &stored);
    if !objections.is_empty() {
        return Err(CtlError::Refused(objections));
    }
    let mut failures = Vec::new();
    for found in wanted {
        let object = &found.object;
        if dry_run {
            let namesake = stored
                .iter()
                .find(|s| s.kind == object.kind && s.metadata.name == object.metadata.name);
            report(object, plan::change(namesake, object));
            continue;
        }
        match put(store, object).await {
            Ok(change) => report(object, change),
            Err(PutError::Store(error)) if error.is_away() => return Err(error.into()),
            Err(error) => failures.push(format!("{}: {error}", found.origin)),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CtlError::Incomplete(failures))
    }
}

/// Stored objects of the kinds at hand.
async fn related(store: &dyn Store, wanted: &[Found]) -> Result<Vec<Object>, StoreError> {
    let mut stored = Vec::new();
    for kind in Kind::ALL {
        if wanted.iter().any(|f| f.object.kind == kind) {
            stored.extend(store.list(kind, &Labels::new()).await?.objects);
        }
    }
    Ok(stored)
}

#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Immutable(String),
    #[error("{0} is being changed by others again and again: try once more")]
    Contended(String),
}

async fn put(store: &dyn Store, wanted: &Object) -> Result<Change, PutError> {
    for _ in 0..TRIES {
        let stored = store.get(wanted.kind, &wanted.metadata.name).await?;
        let change = plan::change(stored.as_ref(), wanted);
        let result = match (&stored, change) {
            (_, Change::Unchanged) => return Ok(change),
            (Some(stored), _) => {
                // Somebody may have created it since the checks.
                if let Some(problem) = plan::immutable(stored, wanted).into_iter().next() {
                    return Err(PutError::Immutable(problem));
                }
                store.update(plan::merged(stored, wanted)).await
            }
            (None, _) => store.create(wanted.clone()).await,
        };
        match result {
            Ok(_) => return Ok(change),
            Err(
                StoreError::Conflict { .. }
                | StoreError::AlreadyExists { .. }
                | StoreError::NotFound { .. },
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(PutError::Contended(plan::object_name(wanted)))
}
