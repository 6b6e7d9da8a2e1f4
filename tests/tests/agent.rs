//! The agent as an operator meets it: wrong input named, crashes survived, the store away. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "agent/confined.rs"]
mod confined;
#[path = "agent/deleting.rs"]
mod deleting;
#[path = "agent/host_ends.rs"]
mod host_ends;
#[path = "agent/installing.rs"]
mod installing;
#[path = "agent/looking.rs"]
mod looking;
#[path = "agent/pod.rs"]
mod pod;
#[path = "agent/ranges.rs"]
mod ranges;
#[path = "agent/refusals.rs"]
mod refusals;
#[path = "agent/spoofing.rs"]
mod spoofing;
#[path = "agent/survival.rs"]
mod survival;

use std::time::Duration;

use anyhow::ensure;
use roadbed_tests::bench::{Bench, Files};
use roadbed_tests::site::Site;

const N1: &str = "n1";
const SOON: Duration = Duration::from_secs(20);

fn files() -> Files {
    Files::solo([("10.244.0.0/16", 26), ("fd00:244::/48", 122)]).unwrap()
}

/// The agent with its session, and its router with the node's loopback.
fn connected() -> Bench {
    let bench = Bench::solo().unwrap();
    bench.site.established(N1).unwrap();
    bench
}

/// Runs a command on the node that must fail; its whole output.
#[track_caller]
fn fails(site: &Site, argv: &[&str]) -> String {
    let output = site.output(N1, argv).unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.status.success(), "{argv:?} succeeded: {text}");
    text
}

#[track_caller]
fn check_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
}

/// Waits until `roadbedctl status` on the node shows all of these.
#[track_caller]
fn status_shows(site: &Site, parts: &[&str]) {
    site.until(SOON, "roadbedctl status tells", || {
        let text = site.run(N1, "roadbedctl status")?;
        let missing = parts.iter().find(|part| !text.contains(**part));
        ensure!(missing.is_none(), "{text}\nlacks {missing:?}");
        Ok(())
    })
    .unwrap();
}
