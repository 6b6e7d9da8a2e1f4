//! The agent's API over its unix socket: blocking, no runtime.
//!
//! Owns: one HTTP/1.1 exchange per connection, or several one after the other ([`KeptClient`]), with a deadline over each and a
//! bound on the answer. Never: caches, or reads a byte more than the bound, whatever the other side
//! sends. The plugin and `roadbedctl` share it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod client;
mod deadline;
mod error;
mod http;
mod kept;
mod lines;

pub use client::{AgentClient, DEFAULT_MAX_BODY, DEFAULT_TIMEOUT};
pub use error::ClientError;
pub use http::{MAX_HEAD, ResponseHead, parse_response};
pub use kept::KeptClient;
pub use lines::{Lines, MAX_LINE};
