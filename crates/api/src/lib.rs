//! Resource kinds, their validation, and the types of the agent's local API.
//!
//! Owns: what a resource looks like (`apiVersion: roadbed.dev/v1alpha1`), which values are legal, names that
//! several programs must agree on. Never does: I/O, time, randomness.
//!
//! - [`kinds`]: `IPPool`, `IPBlock`, `BGPRoutePolicy`, `BGPPeer`, `BGPConfig`
//! - [`resource`]: metadata and the typed / untyped envelope
//! - [`agent`]: requests and answers on the agent's unix socket
//! - [`names`]: interface names, alias mark, gateways, protocol number, default paths
//! - [`problem`]: every finding of a validation, with the path of the field
//! - `document` (feature `document`): files as people write them, with everything that is wrong in them
//! - `manifest` (feature `yaml`): YAML documents as people write them
//! - `schema` (feature `schema`): JSON Schema of the kinds, for the CRDs of Kubernetes

pub mod agent;
#[cfg(feature = "document")]
pub mod document;
pub mod kinds;
#[cfg(feature = "yaml")]
pub mod manifest;
pub mod names;
pub mod problem;
pub mod resource;
#[cfg(feature = "schema")]
mod schema;
pub mod selector;

pub use kinds::{BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, IpBlockSpec, IpPoolSpec, Kind};
pub use problem::{Problem, Problems};
pub use resource::{Condition, Metadata, Object, Resource, Spec, Timestamp};
pub use selector::LabelSelector;
