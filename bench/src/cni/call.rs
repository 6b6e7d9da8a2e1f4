//! A plugin as a runtime calls it, and what a call costs.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::node::{Node, Pod};

/// Where Debian has its plugins.
const DEBIAN: &str = "/usr/lib/cni";

/// A plugin and its network configuration.
pub(crate) struct Plugin {
    /// For tables.
    pub(crate) name: &'static str,
    /// The program.
    pub(crate) program: PathBuf,
    conf: Vec<u8>,
}

/// What a call came to.
pub(crate) struct Called {
    /// From before the process was started until it had ended.
    pub(crate) took: Duration,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Called {
    /// Name of the link's end on the node, from ADD's result.
    pub(crate) fn host_ifname(&self) -> Result<String> {
        let result: Value = serde_json::from_slice(&self.stdout)?;
        let name = result["interfaces"][0]["name"].as_str();
        Ok(name.context("a result without interfaces")?.to_owned())
    }
}

impl Plugin {
    /// Ours, on the run's agent.
    pub(crate) fn roadbed(node: &Node) -> Self {
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "roadbed", "runDir": node.run_dir()});
        Self {
            name: "roadbed",
            program: node.bin_dir.join("roadbed"),
            conf: conf.to_string().into_bytes(),
        }
    }

    /// Debian's `ptp` with `host-local`. For IPv6 too it sleeps 50 ms at least until the kernel has checked the address;
    /// for IPv4 alone it is as fast as it can be, while ours does both.
    pub(crate) fn ptp(node: &Node, dual: bool) -> Self {
        let ranges = match dual {
            true => json!([[{"subnet": "10.200.0.0/16"}], [{"subnet": "fd00:200::/64"}]]),
            false => json!([[{"subnet": "10.200.0.0/16"}]]),
        };
        Self::debian(node, "ptp", &ranges, json!({}))
    }

    /// Debian's `bridge` with `host-local`.
    pub(crate) fn bridge(node: &Node) -> Self {
        let ranges = json!([[{"subnet": "10.201.0.0/16"}], [{"subnet": "fd00:201::/64"}]]);
        let bridge = json!({"bridge": "cni0", "isGateway": true});
        Self::debian(node, "bridge", &ranges, bridge)
    }

    fn debian(node: &Node, name: &'static str, ranges: &Value, more: Value) -> Self {
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": name, "type": name,
            "ipam": {"type": "host-local", "dataDir": node.dir.join("host-local"), "ranges": ranges},
        });
        if let (Some(conf), Some(more)) = (conf.as_object_mut(), more.as_object()) {
            conf.extend(more.clone());
        }
        Self {
            name,
            program: PathBuf::from(DEBIAN).join(name),
            conf: conf.to_string().into_bytes(),
        }
    }

    /// ADD; it must succeed.
    pub(crate) fn add(&self, pod: &Pod) -> Result<Called> {
        self.call("ADD", pod, &[])
    }

    /// DEL; it must succeed.
    pub(crate) fn del(&self, pod: &Pod) -> Result<Called> {
        self.call("DEL", pod, &[])
    }

    /// One call, started through `wrapper` if there is one.
    pub(crate) fn call(&self, command: &str, pod: &Pod, wrapper: &[String]) -> Result<Called> {
        let mut process = match wrapper {
            [] => Command::new(&self.program),
            [program, args @ ..] => {
                let mut process = Command::new(program);
                process.args(args).arg(&self.program);
                process
            }
        };
        process
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.name)
            .env("CNI_NETNS", &pod.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", DEBIAN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = process
            .spawn()
            .with_context(|| format!("start {:?}", self.program))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&self.conf)?;
        }
        let output = child.wait_with_output()?;
        let took = start.elapsed();
        ensure!(
            output.status.success(),
            "{} {command} of {}: {}{}",
            self.name,
            pod.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Called {
            took,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
