//! What a node's kernel does while an agent is away: every change as it happens, and everything that forwards.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;

use crate::site::Site;

const SOON: Duration = Duration::from_secs(20);

/// `ip monitor` on a node, line by line.
pub struct Monitor {
    node: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    /// Starts it and proves that it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(site: &Site, node: &str) -> Self {
        let argv = ["ip", "monitor", "link", "address", "route"];
        let mut child = site
            .lab()
            .command(node, &argv)
            .unwrap()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&lines);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let monitor = Self {
            node: node.to_owned(),
            child,
            lines,
        };
        monitor.sees_a_change(site);
        monitor
    }

    /// Changes something until it is seen, so that silence means that nothing was to be seen.
    fn sees_a_change(&self, site: &Site) {
        site.until(SOON, "the monitor sees", || {
            for what in ["add", "del"] {
                site.run(
                    &self.node,
                    &format!("ip address {what} 192.0.2.99/32 dev lo"),
                )?;
            }
            let lines = self.lines();
            let seen = |deleted: bool| {
                let one = |line: &&String| line.contains("Deleted") == deleted;
                lines
                    .iter()
                    .filter(one)
                    .any(|line| line.contains("192.0.2.99"))
            };
            ensure!(seen(false) && seen(true), "{lines:?}");
            Ok(())
        })
        .unwrap();
        // The last of what the change caused.
        std::thread::sleep(Duration::from_millis(300));
        self.lines.lock().unwrap().clear();
    }

    /// What it has seen since it was started.
    ///
    /// # Panics
    /// When its reader did.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Everything that forwards on the node.
///
/// # Panics
/// When the node is dead.
#[must_use]
pub fn kernel(site: &Site, node: &str) -> BTreeMap<&'static str, String> {
    [
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip -o address",
        "ip -o link",
        "ip neighbour show nud permanent",
    ]
    .into_iter()
    .map(|line| (line, site.run(node, line).unwrap()))
    .collect()
}
