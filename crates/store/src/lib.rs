//! Where resources live: one trait, several homes (memory, SQLite; Kubernetes in the crate `roadbed-kube`).
//!
//! Owns: objects, their revisions, the order of their changes. Never does: decide what a resource means beyond
//! its own validation, cache, retry a lost compare-and-swap.
//!
//! - [`store`]: the trait [`Store`], listings, watches
//! - [`error`]: what can go wrong; [`StoreError::is_away`] tells "not there" from "refused"
//! - [`config`]: which home, [`open`] and [`open_or_create`]
//! - [`memory`]: for tests and for a machine that keeps nothing
//! - `sqlite`: one file that several processes of one machine share
//! - `rules`: what every home answers to a write; pure
//! - `conformance` (feature `conformance`): what every home must do, as one suite

pub mod config;
pub mod error;
pub mod memory;
mod rules;
mod sqlite;
pub mod store;
mod watch;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use config::{KubernetesConfig, StoreConfig, open, open_or_create};
pub use error::{ConflictCause, StoreError};
pub use memory::MemoryStore;
pub use store::{Labels, Listing, ResumePoint, Store, WatchEvent, WatchStream};
