//! Realises containerlab topology files in network namespaces, so that labs run where there is no Docker.
//!
//! A file goes through [`Topology::load`] (pure but for reading it), then [`Lab::up`] makes one process tree per node:
//! own network, mount, pid, uts and ipc namespaces, and a root whose writes die with the node. What containerlab would
//! pull as an image is a program of this machine ([`images`]).

mod control;
mod enter;
mod error;
pub mod images;
mod init;
mod lab;
mod netdev;
mod plan;
mod problem;
mod process;
mod rootfs;
mod spec;
mod state;
mod topology;
mod words;
mod yaml;

pub use control::{Program, Status};
pub use error::LabError;
pub use init::hidden;
pub use lab::{BASE_DIR, Lab, NodeView, Options, Progress};
pub use problem::Problem;
pub use topology::{
    Bind, DEFAULT_MTU, Endpoint, Link, MAX_FILE, MAX_LINKS, MAX_NODES, Node, Topology,
    TopologyError,
};
