//! Kubernetes as a home of resources, and the Nodes of its cluster. The only crate that names the crate `kube`.
//!
//! Owns: requests to an API server, what its answers mean, watches that outlive connections. Never does: decide what
//! a resource means, cache one, write an object that nobody asked it to write.
//!
//! - [`access`]: how to reach an API server; [`open_store`] for every kind of store
//! - [`store`]: [`KubeStore`], the [`Store`](roadbed_store::Store) over custom resources
//! - [`node`]: the Nodes, as small as Roadbed needs them
//! - [`event`]: Events about objects that Roadbed cannot use
//! - `follow`: lists and watches of any resource
//! - `wire`: objects as the API server writes them
//! - `failure`: what an error of the API server is to a store

pub mod access;
pub mod event;
mod failure;
mod follow;
pub mod node;
pub mod store;
mod wire;

pub use access::{Access, AccessError, open_store};
pub use event::Events;
pub use node::{Node, NodeChange, NodeStream, Nodes, Scope};
pub use store::KubeStore;
