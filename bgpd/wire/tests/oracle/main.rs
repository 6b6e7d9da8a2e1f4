//! Two other decoders as differential oracles: on valid messages their views and ours must agree. They only ever run in
//! a child process.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a broken invariant should stop there"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the oracles run in a child process under a deadline"
)]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod bgpkit;
mod child;
mod generator;
mod zettabgp;

/// Not a test of its own: what `child::run_child` runs.
#[test]
fn child() {
    if let Ok(role) = std::env::var(child::ROLE) {
        zettabgp::run(&role);
        bgpkit::run(&role);
    }
}
