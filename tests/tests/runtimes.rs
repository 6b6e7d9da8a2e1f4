//! Container runtimes of Debian on a node with Roadbed: podman through its CNI backend, containerd through `ctr` and
//! through CRI. The tests start, use and stop the runtimes themselves. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "runtimes/containerd.rs"]
mod containerd;
#[path = "runtimes/cri.rs"]
mod cri;
#[path = "runtimes/host.rs"]
mod host;
#[path = "runtimes/podman.rs"]
mod podman;

use std::time::Duration;

const N1: &str = "n1";
const SOON: Duration = Duration::from_secs(20);
