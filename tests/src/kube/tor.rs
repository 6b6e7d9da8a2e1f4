//! Top-of-rack routers on the network of the bed's nodes: FRR in a namespace.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::frr::Frr;
use crate::netns::{Ns, run};
use crate::wait::eventually;

/// A router with the addresses 10.200.0.(100 + n) and fd00:10:200::(100 + n), AS 65100 + n.
#[derive(Debug)]
pub struct Tor {
    /// Its namespace.
    pub ns: Ns,
    frr: Frr,
    _dir: TempDir,
}

impl Tor {
    /// Starts router `n`, which takes sessions from nodes of AS 64512 and speaks with the router `other`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(n: u8, other: u8) -> Result<Self> {
        let ns = Ns::new(&format!("tor{n}"))?;
        let (port, number) = (format!("kttor{n}"), 100 + u32::from(n));
        run(Command::new("ip").args([
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            ns.name(),
        ]))?;
        run(Command::new("ip").args(["link", "set", &port, "master", "kt0", "up"]))?;
        ns.run(&format!("ip address add 10.200.0.{number}/24 dev eth0"))?;
        ns.run(&format!(
            "ip address add fd00:10:200::{number}/64 dev eth0 nodad"
        ))?;
        // Its link-local address counts at once, and it is a router.
        for setting in [
            "net.ipv6.conf.eth0.accept_dad=0",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.ip_forward=1",
        ] {
            ns.run(&format!("sysctl -qw {setting}"))?;
        }
        ns.run("ip link set eth0 up")?;
        let dir = tempfile::tempdir()?;
        let (number_of_other, asn, as_of_other) = (
            100 + u32::from(other),
            65100 + u32::from(n),
            65100 + u32::from(other),
        );
        let config = format!(
            "router bgp {asn}
 bgp router-id 10.200.0.{number}
 no bgp ebgp-requires-policy
 neighbor nodes peer-group
 neighbor nodes remote-as 64512
 neighbor nodes timers 3 9
 bgp listen range 10.200.0.0/26 peer-group nodes
 bgp listen range fd00:10:200::/122 peer-group nodes
 neighbor 10.200.0.{number_of_other} remote-as {as_of_other}
 neighbor fd00:10:200::{number_of_other} remote-as {as_of_other}
 address-family ipv4 unicast
  no neighbor fd00:10:200::{number_of_other} activate
 exit-address-family
 address-family ipv6 unicast
  neighbor nodes activate
  neighbor fd00:10:200::{number_of_other} activate
 exit-address-family
"
        );
        let frr = Frr::start(&ns, dir.path(), &config)?;
        Ok(Self { ns, frr, _dir: dir })
    }

    /// Waits until the kernel of the router holds these prefixes, and no other of the pools.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn await_blocks(&self, expected: &[String]) {
        let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        eventually(
            Duration::from_secs(30),
            "the ToR's kernel holds the blocks",
            || {
                let table = self.ns.run("ip route show proto bgp")?
                    + &self.ns.run("ip -6 route show proto bgp")?;
                let mut found: Vec<&str> = table
                    .lines()
                    .filter(|line| line.contains("via "))
                    .filter_map(|line| line.split_whitespace().next())
                    .collect();
                found.sort_unstable();
                ensure!(
                    found == expected,
                    "{found:?}, expected {expected:?}\n{table}"
                );
                Ok(())
            },
        );
    }

    /// One command of `vtysh`.
    ///
    /// # Errors
    /// When FRR does not answer.
    pub fn cli(&self, line: &str) -> Result<String> {
        self.frr.cli(line)
    }
}
