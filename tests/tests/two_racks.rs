//! The lab two-racks: the demo's promises one by one, a crash under running pods, and the demo program itself. Needs root
//! and Debian's frr, iproute2, iputils-ping and traceroute.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "two_racks/crash.rs"]
mod crash;
#[path = "two_racks/demo.rs"]
mod demo;

use roadbed_tests::bench::{Bench, Files};
use roadbed_tests::pod::Pod;
use roadbed_tests::two_racks::leftovers::{self, Machine, Traces};
use roadbed_tests::two_racks::{self, reach, tables, trace};

/// The lab with its sessions, and two pods per node.
fn with_pods() -> (Bench, Vec<Pod>) {
    let bench = Files::two_racks().unwrap().up().unwrap();
    two_racks::settle(&bench.site).unwrap();
    let pods = two_racks::start_pods(&bench.site).unwrap();
    (bench, pods)
}

#[test]
fn every_promise_of_the_demo_holds() {
    let before = Machine::look().unwrap();
    let (bench, pods) = with_pods();
    let site = &bench.site;
    reach::pods_to_pods(site, &pods).unwrap();
    reach::nodes_and_pods(site, &pods).unwrap();
    trace::across_racks(site, &pods).unwrap();
    tables::spine(site).unwrap();
    tables::kernels(site, &pods).unwrap();
    // Each check is one that can fail.
    assert!(tables::kernels(site, &pods[1..]).is_err());
    assert!(leftovers::of_pods(site, &pods).is_err());
    site.run("n3", "ip netns exec n3-a ip link set eth0 down")
        .unwrap();
    assert!(reach::pods_to_pods(site, &pods).is_err());
    site.run("n3", "ip netns exec n3-a ip link set eth0 up")
        .unwrap();

    two_racks::stop_pods(site, &pods).unwrap();
    leftovers::of_pods(site, &pods).unwrap();
    tables::kernels(site, &[]).unwrap();
    tables::spine(site).unwrap();
    let traces = Traces::of(site, before).unwrap();
    assert!(traces.look_once().is_err());
    drop(bench);
    traces.gone().unwrap();
}
