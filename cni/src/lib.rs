//! The CNI plugin: read, reserve, wire, commit; undo on failure. CNI spec 0.3.1 to 1.1.0.
//!
//! Owns: the pod's end of an attachment and the creation of its veth. Never: chooses an address, adds a host route, or
//! keeps state; what must be remembered is the agent's ([`roadbed_client`]), and what must be undone is found again by
//! the alias on the host link. Lives for milliseconds, so no async runtime and no command line parser.
//!
//! ```text
//! runtime ─ env + stdin ─▶ env, config ─▶ add ── reserve ─▶ agent
//!                                          │ ◀─ addresses, names, MACs
//!                                          ├─ wire: veth, pod side          (undo: delete the link, release)
//!                                          ├─── commit ─▶ agent: neighbours, host routes
//!                                          └─ result ─▶ stdout
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod add;
mod agent;
mod check;
mod compare;
mod config;
mod del;
mod env;
mod error;
mod gc;
mod ipam;
mod log;
mod notes;
mod pod;
mod result;
mod run;
mod status;
mod sysctls;
mod version;
mod wire;

pub use config::{NetConf, PrevResult, parse_stdin};
pub use env::{Command, Env};
pub use error::CniError;
pub use ipam::Ipam;
pub use result::{CniResult, Interface, IpConfig, RouteConfig};
pub use run::{Outcome, run};
pub use version::CniVersion;
pub use wire::parse_reservation;
