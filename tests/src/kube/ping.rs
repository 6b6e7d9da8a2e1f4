//! Packets that are counted while something happens.

use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Cluster;
use crate::wait::eventually;

/// Ten packets a second from a node, or from a pod on it, to an address.
#[derive(Debug)]
pub struct Ping {
    child: Child,
    pid: Pid,
    dir: TempDir,
    /// Who asks whom.
    what: String,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Packets sent.
    pub sent: u32,
    /// Those without an answer.
    pub lost: u32,
}

impl Ping {
    /// Starts on a node; `from` is the address of a pod there that sends, or the node does.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(cluster: &Cluster, node: &str, from: Option<&str>, to: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (out, pid) = (dir.path().join("out"), dir.path().join("pid"));
        let script = format!(
            "echo $$ >{}; exec ping -n -i 0.1 -W 1 {to} >{} 2>&1",
            pid.display(),
            out.display()
        );
        let inside = match from {
            Some(address) => format!("ip netns exec {} sh -c", netns_of(cluster, node, address)?),
            None => "sh -c".to_owned(),
        };
        let mut command = cluster.command_on(node, &inside);
        let child = command.arg(script).spawn()?;
        let pid = eventually(Duration::from_secs(10), "ping has started", || {
            let text = std::fs::read_to_string(&pid)?;
            let number: i32 = text.trim().parse().context("no pid yet")?;
            anyhow::Ok(Pid::from_raw(number))
        });
        let what = format!("{} → {to}", from.unwrap_or(node));
        let ping = Self {
            child,
            pid,
            dir,
            what,
        };
        eventually(
            Duration::from_secs(20),
            &format!("{}: first answer", ping.what),
            || {
                let text = ping.output()?;
                ensure!(text.contains("bytes from"), "{text}");
                Ok(())
            },
        );
        Ok(ping)
    }

    fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("out"))?)
    }

    /// Who asks whom.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Ends it, and tells.
    ///
    /// # Errors
    /// When it died before.
    pub fn stop(mut self) -> Result<Sent> {
        // The last packet is on its way.
        std::thread::sleep(Duration::from_millis(300));
        kill(self.pid, Signal::SIGINT)?;
        self.child.wait()?;
        let text = self.output()?;
        let summary = text
            .lines()
            .find(|l| l.contains("packets transmitted"))
            .context("no summary")?;
        let numbers: Vec<u32> = summary
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect();
        let [sent, received, ..] = numbers.as_slice() else {
            anyhow::bail!("{summary}");
        };
        Ok(Sent {
            sent: *sent,
            lost: sent - received,
        })
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may have ended this moment.
            kill(self.pid, Signal::SIGKILL).ok();
            self.child.wait().ok();
        }
    }
}

/// Name of the namespace of the pod with this address.
///
/// # Errors
/// When there is none.
pub fn netns_of(cluster: &Cluster, node: &str, address: &str) -> Result<String> {
    let script = format!(
        "for n in $(ls /run/netns); do ip netns exec $n ip -o address | grep -qF ' {address}/' && echo $n; done; true"
    );
    let found = cluster.drive(&["node-exec", node, "sh", "-c", &script])?;
    let name = found
        .lines()
        .next()
        .with_context(|| format!("{node}: no pod has {address}"))?;
    Ok(name.to_owned())
}
