//! The four calls of CRI (`runtime.v1`, k8s.io/cri-api) that a sandbox takes, over gRPC: `curl` speaks HTTP/2, the few
//! fields of the messages are written by hand. Debian has no `crictl`.

use std::io::Write;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use roadbed_tests::site::Site;

use crate::N1;

/// Where the tests' containerd listens, on the node.
pub(crate) const SOCKET: &str = "/tmp/containerd/containerd.sock";

/// A pod sandbox.
pub(crate) struct Sandbox {
    /// What containerd calls it, and the CNI container ID.
    pub(crate) id: String,
}

impl Sandbox {
    /// `RunPodSandbox`: a pod of this name in the namespace `default`; its UID is `uid-NAME`.
    pub(crate) fn run(site: &Site, name: &str) -> Result<Self> {
        let uid = format!("uid-{name}");
        let metadata = [text(1, name), text(2, &uid), text(3, "default")].concat();
        let config = [bytes(1, &metadata), text(2, name)].concat();
        let answer = call(site, "RunPodSandbox", &bytes(1, &config))?;
        let id = field(&answer, 1).context("no pod_sandbox_id")?;
        Ok(Self {
            id: String::from_utf8(id.to_vec())?,
        })
    }

    /// Addresses of `PodSandboxStatus`.
    pub(crate) fn addresses(&self, site: &Site) -> Result<Vec<IpAddr>> {
        let answer = call(site, "PodSandboxStatus", &text(1, &self.id))?;
        let status = field(&answer, 1).context("no status")?;
        let network = field(status, 5).context("no network")?;
        let ip = |message, number| -> Result<IpAddr> {
            let text = field(message, number).context("no ip")?;
            Ok(std::str::from_utf8(text)?.parse()?)
        };
        let mut addresses = vec![ip(network, 1)?];
        if let Some(additional) = field(network, 2) {
            addresses.push(ip(additional, 1)?);
        }
        Ok(addresses)
    }

    /// `StopPodSandbox`: the network goes.
    pub(crate) fn stop(&self, site: &Site) -> Result<()> {
        call(site, "StopPodSandbox", &text(1, &self.id)).map(drop)
    }

    /// `RemovePodSandbox`.
    pub(crate) fn remove(&self, site: &Site) -> Result<()> {
        call(site, "RemovePodSandbox", &text(1, &self.id)).map(drop)
    }
}

/// Whether containerd says that its runtime and the network are ready.
pub(crate) fn ready(site: &Site) -> Result<()> {
    let answer = call(site, "Status", &[])?;
    // RuntimeStatus has a list of {type = 1, status = 2}; a condition that is false has no field 2.
    let status = field(&answer, 1).context("no status")?;
    let conditions: Vec<&[u8]> = fields(status)
        .filter(|(n, _)| *n == 1)
        .map(|f| f.1)
        .collect();
    for condition in conditions {
        let name = String::from_utf8_lossy(field(condition, 1).unwrap_or_default());
        ensure!(condition.ends_with(&[0x10, 1]), "{name} is false");
    }
    Ok(())
}

/// One unary call: a length-prefixed message each way, the status in the trailers.
fn call(site: &Site, method: &str, message: &[u8]) -> Result<Vec<u8>> {
    let url = format!("http://localhost/runtime.v1.RuntimeService/{method}");
    let argv = [
        "curl",
        "-sS",
        "--max-time",
        "60",
        "--http2-prior-knowledge",
        "--unix-socket",
        SOCKET,
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        "-D",
        "/dev/stderr",
        "--data-binary",
        "@-",
        &url,
    ];
    let mut child = site
        .lab()
        .command(N1, &argv)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len())?.to_be_bytes());
    framed.extend(message);
    child.stdin.take().context("piped")?.write_all(&framed)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("grpc-status: 0"), "{method}: {said}");
    let answer = output.stdout.get(5..).context("no message")?;
    Ok(answer.to_vec())
}

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    // Fields of this file's messages: numbers below 16, contents of less than 128 bytes or little more.
    let mut field = vec![number << 3 | 2];
    let mut rest = content.len();
    while rest >= 0x80 {
        field.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    field.push(rest as u8);
    field.extend(content);
    field
}

fn text(number: u8, content: &str) -> Vec<u8> {
    bytes(number, content.as_bytes())
}

/// The length-delimited fields of a message; numbers below 16.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = take(&mut message)?;
            let value = take(&mut message)?;
            if tag & 7 == 2 {
                let (content, rest) = message.split_at_checked(usize::try_from(value).ok()?)?;
                message = rest;
                return Some(((tag >> 3) as u8, content));
            }
        }
    })
}

fn field(message: &[u8], number: u8) -> Option<&[u8]> {
    fields(message)
        .find(|(found, _)| *found == number)
        .map(|(_, content)| content)
}

/// A base-128 varint.
fn take(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
