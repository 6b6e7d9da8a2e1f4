//! Links and outside namespace names, through the `ip` program: a lab is small, and `ip` knows every corner of `/run/netns`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::{LabError, Tried};
use crate::topology::Topology;

/// Where `ip netns` keeps its names.
pub(crate) const NAMES: &str = "/run/netns";

/// The path of an outside name.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// Gives the network namespace of `pid` an outside name.
pub(crate) fn name(name: &str, pid: i32) -> Result<(), LabError> {
    ip(&["netns", "attach", name, &pid.to_string()], "").map(drop)
}

/// Takes an outside name away; no such name is no error.
pub(crate) fn unname(name: &str) -> Result<(), LabError> {
    if path(name).exists() {
        ip(&["netns", "del", name], "")?;
    }
    Ok(())
}

/// Makes all veth pairs, each end directly in its node, and brings every interface up.
pub(crate) fn connect(
    topology: &Topology,
    outside: impl Fn(&str) -> String,
) -> Result<(), LabError> {
    let mut pairs = String::new();
    for link in &topology.links {
        let [a, b] = &link.ends;
        let mtu = link.mtu;
        pairs += &format!(
            "link add name {} mtu {mtu} netns {} type veth peer name {} mtu {mtu} netns {}\n",
            a.interface,
            outside(&a.node),
            b.interface,
            outside(&b.node)
        );
    }
    ip(&["-batch", "-"], &pairs)?;
    for node in &topology.nodes {
        let mut ups = "link set dev lo up\n".to_owned();
        for end in topology.links.iter().flat_map(|link| &link.ends) {
            if end.node == node.name {
                ups += &format!("link set dev {} up\n", end.interface);
            }
        }
        ip(&["-n", &outside(&node.name), "-batch", "-"], &ups)?;
    }
    Ok(())
}

/// The addresses of a namespace, as `interface address/length`, without loopback's and link-local ones.
pub(crate) fn addresses(name: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Interface {
        #[serde(default)]
        ifname: String,
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        #[serde(default)]
        local: String,
        #[serde(default)]
        prefixlen: u8,
        #[serde(default)]
        scope: String,
    }
    let Ok(text) = ip(&["-n", name, "-j", "address"], "") else {
        return Vec::new();
    };
    let interfaces: Vec<Interface> = serde_json::from_str(&text).unwrap_or_default();
    interfaces
        .iter()
        .flat_map(|interface| {
            interface
                .addr_info
                .iter()
                .filter(|address| address.scope == "global")
                .map(|a| format!("{} {}/{}", interface.ifname, a.local, a.prefixlen))
        })
        .collect()
}

fn ip(args: &[&str], input: &str) -> Result<String, LabError> {
    let command = || format!("ip {}", args.join(" "));
    let mut child = Command::new("ip")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .tried(|| format!("start `{}` (package iproute2)", command()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that stopped reading has an error to tell, below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().tried(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Ip {
        command: command(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
