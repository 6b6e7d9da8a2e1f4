//! What every home answers to a write. Pure: the existing object, the request and the next revision come in, the
//! object to store goes out.

use jiff::{SignedDuration, Timestamp as Moment};
use roadbed_api::{Kind, Object, Timestamp};
use serde_json::Value;

use crate::error::{ConflictCause, StoreError};

/// A write, the same for every home.
#[derive(Debug)]
pub(crate) enum Request {
    Create(Object),
    Update(Object),
    UpdateStatus {
        kind: Kind,
        name: String,
        uid: String,
        status: Value,
    },
    Delete {
        kind: Kind,
        name: String,
        uid: String,
        resource_version: String,
    },
}

/// What a home does with a write.
#[derive(Debug)]
pub(crate) enum Write {
    /// The object stays as it is.
    Nothing(Object),
    /// This state replaces the one before.
    Put(Object),
    /// The object goes; this is its last state.
    Delete(Object),
}

impl Request {
    /// Which object is written.
    pub(crate) fn target(&self) -> (Kind, &str) {
        match self {
            Self::Create(object) | Self::Update(object) => (object.kind, &object.metadata.name),
            Self::UpdateStatus { kind, name, .. } | Self::Delete { kind, name, .. } => {
                (*kind, name)
            }
        }
    }

    /// The answer: `revision` is what the object gets if it changes, `clock` the last time given to an object.
    pub(crate) fn decide(
        self,
        existing: Option<&Object>,
        revision: i64,
        clock: &mut Option<Moment>,
        now: Moment,
    ) -> Result<Write, StoreError> {
        let (existing, next) = match self {
            Self::Create(object) => {
                let time = birth_time(*clock, now);
                let object = create(existing, object, time, revision)?;
                *clock = Some(time);
                return Ok(Write::Put(object));
            }
            Self::Update(object) => update(existing, object)?,
            Self::UpdateStatus {
                kind,
                name,
                uid,
                status,
            } => {
                let existing = fence(existing, kind, &name, &uid, None)?;
                kind.check_status(&name, &status)?;
                let mut next = existing.clone();
                next.status = Some(status);
                (existing, next)
            }
            Self::Delete {
                kind,
                name,
                uid,
                resource_version,
            } => {
                let gone = fence(existing, kind, &name, &uid, Some(&resource_version))?;
                return Ok(Write::Delete(gone.clone()));
            }
        };
        Ok(if next == *existing {
            Write::Nothing(next)
        } else {
            let mut next = next;
            next.metadata.resource_version = Some(revision.to_string());
            Write::Put(next)
        })
    }
}

/// A time after `last`: the order of creation decides between overlapping pools, so no two objects of a store may
/// share a microsecond, and a clock that was set back must not reorder them.
fn birth_time(last: Option<Moment>, now: Moment) -> Moment {
    match last {
        Some(last) if now.as_microsecond() <= last.as_microsecond() => last
            .saturating_add(SignedDuration::from_micros(1))
            .unwrap_or(now),
        _ => now,
    }
}

fn create(
    existing: Option<&Object>,
    mut object: Object,
    time: Moment,
    revision: i64,
) -> Result<Object, StoreError> {
    object.validate()?;
    if existing.is_some() {
        return Err(StoreError::AlreadyExists {
            kind: object.kind,
            name: object.metadata.name,
        });
    }
    object.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    object.metadata.resource_version = Some(revision.to_string());
    object.metadata.creation_timestamp = Some(Timestamp(format!("{time:.6}")));
    object.status = None;
    Ok(object)
}

fn update(existing: Option<&Object>, object: Object) -> Result<(&Object, Object), StoreError> {
    object.validate()?;
    let incomplete = |field| StoreError::Incomplete {
        kind: object.kind,
        name: object.metadata.name.clone(),
        field,
    };
    let uid = object.metadata.uid.as_deref();
    let read = object.metadata.resource_version.as_deref();
    let existing = fence(
        existing,
        object.kind,
        &object.metadata.name,
        uid.ok_or_else(|| incomplete("metadata.uid"))?,
        Some(read.ok_or_else(|| incomplete("metadata.resourceVersion"))?),
    )?;
    let mut next = existing.clone();
    next.metadata.labels = object.metadata.labels;
    next.metadata.annotations = object.metadata.annotations;
    next.spec = object.spec;
    Ok((existing, next))
}

/// The existing object, when it is the one that the caller means.
fn fence<'a>(
    existing: Option<&'a Object>,
    kind: Kind,
    name: &str,
    uid: &str,
    resource_version: Option<&str>,
) -> Result<&'a Object, StoreError> {
    let Some(existing) = existing else {
        return Err(StoreError::NotFound {
            kind,
            name: name.to_owned(),
        });
    };
    let conflict = |cause| StoreError::Conflict {
        kind,
        name: name.to_owned(),
        cause,
    };
    if existing.metadata.uid.as_deref() != Some(uid) {
        return Err(conflict(ConflictCause::Recreated));
    }
    if resource_version.is_some()
        && existing.metadata.resource_version.as_deref() != resource_version
    {
        return Err(conflict(ConflictCause::Changed));
    }
    Ok(existing)
}
