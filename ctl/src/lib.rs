//! `roadbedctl`: status and operations, from a node or from anywhere.
//!
//! Owns: the command line, what is printed, the checks between manifests and the store before anything is written.
//! Never does: touch the kernel, talk to anything but the agent's socket and the store.
//!
//! - [`cli`]: commands and options
//! - [`run()`]: from arguments to an exit code
//! - [`manifests`]: files, directories and standard input to resources
//! - [`bgp`]: the other `bgp` commands, from the agent
//! - [`policy`]: `bgp policy test`; pure
//! - [`router_file`]: the policies of a standalone router's file
//! - [`plan`]: what an apply would do; pure
//! - [`apply`]: the plan against a store
//! - [`resources`]: `get` and `delete`
//! - [`store`]: which store a command works on
//! - [`render`]: reports and resources as text

pub mod apply;
pub mod bgp;
pub mod cli;
pub mod error;
pub mod manifests;
pub mod plan;
pub mod policy;
pub mod render;
pub mod resources;
pub mod router_file;
pub mod run;
pub mod store;

pub use error::CtlError;
pub use run::run;
