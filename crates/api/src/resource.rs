//! Metadata and the envelope of a resource: typed ([`Resource`]) and as a store keeps it ([`Object`]).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kinds::Kind;
use crate::names::API_VERSION;
use crate::problem::Problems;

/// A moment as RFC 3339 in UTC with microseconds (`2026-11-21T03:24:04.123456Z`): fixed width, so that
/// the order of the text is the order in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub String);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every resource carries beside its spec. `uid`, `resourceVersion` and `creationTimestamp` are set
/// by the store; people write `name` and `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among the resources of its kind; a DNS subdomain (RFC 1123), at most 253 characters.
    pub name: String,
    /// Free labels for selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for tools; Roadbed reads none of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Tells a deleted and recreated object from the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Opaque; compared for equality only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// When the store first saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
}

impl Metadata {
    /// Metadata with a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Checks the name.
    pub fn validate(&self, problems: &mut Problems) {
        if !is_dns_subdomain(&self.name) {
            problems.add(
                "metadata.name",
                format!(
                    "\"{}\" is not a valid name: use lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters",
                    self.name.escape_default()
                ),
            );
        }
    }
}

fn is_dns_subdomain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            let bytes = label.as_bytes();
            bytes.first().copied().is_some_and(ok)
                && bytes.last().copied().is_some_and(ok)
                && bytes.iter().all(|&c| ok(c) || c == b'-')
        })
}

/// One aspect of an object's state, in the shape of Kubernetes' `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Condition {
    /// Positive polarity where possible: `Ready`, `Allocatable`; `Overlaps` for pools.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["True", "False", "Unknown"])))]
    pub status: String,
    /// One CamelCase word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// The spec of one kind.
pub trait Spec: Serialize + DeserializeOwned + Clone + PartialEq {
    /// The kind that has this spec.
    const KIND: Kind;
    /// What is observed about it.
    type Status: Serialize + DeserializeOwned + Clone + Default + PartialEq;

    /// Adds every problem of this spec; `path` is the field that holds it (`spec`).
    fn validate(&self, path: &str, problems: &mut Problems);
}

/// A resource with a typed spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<S: Spec> {
    /// Name, labels and what the store adds.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// What is observed; written separately from the spec.
    pub status: S::Status,
}

impl<S: Spec> Resource<S> {
    /// A new resource with a default status.
    pub fn new(metadata: Metadata, spec: S) -> Self {
        Self {
            metadata,
            spec,
            status: S::Status::default(),
        }
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The resource as a store keeps it.
    pub fn to_object(&self) -> Object {
        Object {
            kind: S::KIND,
            metadata: self.metadata.clone(),
            spec: serde_json::to_value(&self.spec).unwrap_or(Value::Null),
            status: match serde_json::to_value(&self.status) {
                Ok(Value::Object(map)) if map.is_empty() => None,
                Ok(value) => Some(value),
                Err(_) => None,
            },
        }
    }
}

/// A resource as a store keeps it: spec and status untyped.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which kind it is.
    pub kind: Kind,
    /// Name, labels and what the store adds.
    pub metadata: Metadata,
    /// The spec as JSON.
    pub spec: Value,
    /// The status as JSON, when there is one.
    pub status: Option<Value>,
}

/// The object is not what its kind says.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The kind asked for is not the object's.
    #[error("{name} is a {found}, not a {expected}")]
    Kind {
        /// The object's name.
        name: String,
        /// Its kind.
        found: Kind,
        /// The kind asked for.
        expected: Kind,
    },
    /// The spec or status does not have the kind's shape.
    #[error("{kind}/{name}: {part}: {source}")]
    Shape {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// `spec` or `status`.
        part: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The shape is right, the values are not.
    #[error("{kind}/{name}: {problems}")]
    Invalid {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// Every finding.
        problems: Problems,
    },
}

impl Object {
    /// The typed resource.
    ///
    /// # Errors
    /// When the kind differs or spec or status do not have the kind's shape. Values are not validated.
    pub fn typed<S: Spec>(&self) -> Result<Resource<S>, ObjectError> {
        if self.kind != S::KIND {
            return Err(ObjectError::Kind {
                name: self.metadata.name.clone(),
                found: self.kind,
                expected: S::KIND,
            });
        }
        let shape = |part, source| ObjectError::Shape {
            kind: self.kind,
            name: self.metadata.name.clone(),
            part,
            source,
        };
        Ok(Resource {
            metadata: self.metadata.clone(),
            spec: S::deserialize(&self.spec).map_err(|e| shape("spec", e))?,
            status: match &self.status {
                Some(status) => S::Status::deserialize(status).map_err(|e| shape("status", e))?,
                None => S::Status::default(),
            },
        })
    }

    /// Checks shape and values of metadata and spec.
    ///
    /// # Errors
    /// The wrong shape, or all wrong values together.
    pub fn validate(&self) -> Result<(), ObjectError> {
        let mut problems = Problems::new();
        self.metadata.validate(&mut problems);
        self.kind.validate_spec(self, &mut problems)?;
        problems
            .into_result()
            .map_err(|problems| ObjectError::Invalid {
                kind: self.kind,
                name: self.metadata.name.clone(),
                problems,
            })
    }

    /// The whole document, as `kubectl get -o json` would show it.
    pub fn to_document(&self) -> Value {
        let mut document = serde_json::json!({
            "apiVersion": API_VERSION,
            "kind": self.kind.as_str(),
            "metadata": self.metadata,
            "spec": self.spec,
        });
        if let (Some(status), Some(map)) = (&self.status, document.as_object_mut()) {
            map.insert("status".to_owned(), status.clone());
        }
        document
    }
}
