//! CustomResourceDefinitions of Kubernetes, made from the resource kinds of `roadbed-api`.
//!
//! Owns: the files in `deploy/manifests/crds` (`make crds` writes them), and which of our own validations the API server
//! repeats. Never does: talk to a cluster, or decide what is legal: that is `crates/api`.
//!
//! Kubernetes 1.32 is the oldest that takes them: older ones take the comparison of two CIDRs for boundless.
//!
//! ```text
//! doc comments, types, serde, bounds (crates/api) ──schemars──► structural ──┐
//!                                 bounds of the cost estimate ──► bounds ────┼─► definition ──► YAML
//!                                           words of validation ──► rules ───┘
//! ```
//!
//! - [`definition`](definition()): one CustomResourceDefinition
//! - [`rules`]: what the API server refuses beyond types and ranges, in CEL
//! - [`examples`]: for each rule an object that it refuses; for each kind one that is accepted

mod bounds;
mod definition;
pub mod examples;
mod path;
pub mod rules;
mod structural;

#[cfg(test)]
mod tests;

pub use definition::{definition, file_name, to_yaml};
pub use path::PathError;
pub use structural::NotStructural;

/// A CustomResourceDefinition cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A schema says what Kubernetes has no word for.
    #[error(transparent)]
    Schema(#[from] NotStructural),
    /// A rule or a bound is about a field that is not there.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The YAML emitter refused.
    #[error("cannot be written as YAML: {0}")]
    Yaml(String),
}
