//! The lab `labs/two-racks` and what must be true of it: the demo and the tests check the same things with the same code.
//!
//! - this module: who is who, bringing the lab up to where pods can be started
//! - [`reach`]: pings and TCP transfers between pods and nodes
//! - [`trace`]: the way of a packet across racks
//! - [`tables`]: the spine's BGP table, the nodes' kernel routes
//! - [`leftovers`]: that nothing remains of pods and of the lab
//! - [`story`]: the demo's telling
//!
//! A check returns what it found in a few words, or an error that says what was expected and what is there instead.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::pod::Pod;
use crate::site::Site;

pub mod leftovers;
pub mod reach;
pub mod story;
pub mod tables;
pub mod trace;

/// The topology file inside the lab's directory.
pub const FILE: &str = "two-racks.clab.yml";
/// Pods on each node.
pub const PODS_PER_NODE: usize = 2;

/// One node of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// The switch above it.
    pub tor: &'static str,
    /// Its loopbacks, IPv4 first.
    pub loopbacks: [&'static str; 2],
}

/// The nodes, two in rack 1, one in rack 2.
pub const NODES: [Node; 3] = [
    Node {
        name: "n1",
        tor: "tor1",
        loopbacks: ["10.255.0.11", "fd00:255::11"],
    },
    Node {
        name: "n2",
        tor: "tor1",
        loopbacks: ["10.255.0.12", "fd00:255::12"],
    },
    Node {
        name: "n3",
        tor: "tor2",
        loopbacks: ["10.255.0.21", "fd00:255::21"],
    },
];

/// Whose address is whose; the ends of links as the topology numbers them.
const ADDRESSES: [(&str, &str); 26] = [
    ("spine", "10.255.0.1"),
    ("spine", "fd00:255::1"),
    ("spine", "172.31.0.0"),
    ("spine", "fd00:31::1"),
    ("spine", "172.31.0.2"),
    ("spine", "fd00:31:0:1::1"),
    ("tor1", "10.255.0.2"),
    ("tor1", "fd00:255::2"),
    ("tor1", "172.31.0.1"),
    ("tor1", "fd00:31::2"),
    ("tor1", "172.31.0.4"),
    ("tor1", "fd00:31:0:2::1"),
    ("tor1", "172.31.0.6"),
    ("tor1", "fd00:31:0:3::1"),
    ("tor2", "10.255.0.3"),
    ("tor2", "fd00:255::3"),
    ("tor2", "172.31.0.3"),
    ("tor2", "fd00:31:0:1::2"),
    ("tor2", "172.31.0.8"),
    ("tor2", "fd00:31:0:4::1"),
    ("n1", "10.255.0.11"),
    ("n1", "fd00:255::11"),
    ("n2", "10.255.0.12"),
    ("n2", "fd00:255::12"),
    ("n3", "10.255.0.21"),
    ("n3", "fd00:255::21"),
];

impl Node {
    /// Its loopback of one family.
    #[must_use]
    pub fn loopback(&self, v6: bool) -> IpAddr {
        self.loopbacks[usize::from(v6)]
            .parse()
            .expect("the table above holds addresses")
    }
}

/// The device or pod that has `address`.
#[must_use]
pub fn owner(address: IpAddr, pods: &[Pod]) -> Option<String> {
    let device = ADDRESSES
        .iter()
        .find(|(_, a)| a.parse() == Ok(address))
        .map(|(device, _)| (*device).to_owned());
    device.or_else(|| {
        let pod = pods.iter().find(|pod| pod.addresses.contains(&address));
        pod.map(|pod| pod.name.clone())
    })
}

/// Brings a lab that is up to where pods can be started: resources in the store, blocks confirmed, sessions
/// Established, every route where it belongs.
///
/// # Errors
/// The first step that failed.
pub fn settle(site: &Site) -> Result<()> {
    site.apply("n1")?;
    for node in &NODES {
        site.ready(node.name)?;
        site.established(node.name)?;
    }
    tables::converged(site)?;
    Ok(())
}

/// Starts two pods on each node.
///
/// # Errors
/// When a namespace or the plugin fails.
pub fn start_pods(site: &Site) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for node in &NODES {
        for letter in ["a", "b"].into_iter().take(PODS_PER_NODE) {
            pods.push(Pod::start(
                site,
                node.name,
                &format!("{}-{letter}", node.name),
            )?);
        }
    }
    Ok(pods)
}

/// DEL of every pod, and the end of their namespaces.
///
/// # Errors
/// When the plugin fails.
pub fn stop_pods(site: &Site, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        pod.del(site)?;
        pod.unmake(site)?;
    }
    Ok(())
}

/// A pod of this name.
pub(crate) fn pod_named<'a>(pods: &'a [Pod], name: &str) -> Result<&'a Pod> {
    let found = pods.iter().find(|pod| pod.name == name);
    found.with_context(|| format!("there is no pod {name}"))
}
