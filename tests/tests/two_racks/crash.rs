//! `kill -9` of an agent under pods: the kernel is as it was, and the next agent takes over what it finds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;
use roadbed_tests::two_racks::{reach, tables};

use crate::with_pods;

const SOON: Duration = Duration::from_secs(20);
const N1: &str = "n1";

/// `ip monitor` on a node, line by line.
struct Monitor {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    fn start(site: &Site) -> Self {
        let argv = ["ip", "monitor", "link", "address", "route"];
        let mut child = site
            .lab()
            .command(N1, &argv)
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
        let monitor = Self { child, lines };
        monitor.sees_a_change(site);
        monitor
    }

    /// Changes something until it is seen, so that silence means that nothing was to be seen.
    fn sees_a_change(&self, site: &Site) {
        site.until(SOON, "the monitor sees", || {
            for what in ["add", "del"] {
                site.run(N1, &format!("ip address {what} 192.0.2.99/32 dev lo"))?;
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

    fn lines(&self) -> Vec<String> {
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
fn kernel(site: &Site) -> BTreeMap<&'static str, String> {
    [
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip -o address",
        "ip -o link",
        "ip neighbour show nud permanent",
    ]
    .into_iter()
    .map(|line| (line, site.run(N1, line).unwrap()))
    .collect()
}

/// A pod that pings another 20 times a second, to its end; how many answers of how many.
fn ping(site: &Site, from: &Pod, to: &Pod, count: u32, v6: bool) -> Child {
    let target = to.address(v6).unwrap().to_string();
    let count = count.to_string();
    let argv = [
        "ip", "netns", "exec", &from.name, "ping", "-n", "-q", "-i", "0.05", "-c", &count, &target,
    ];
    site.lab().spawn(&from.node, &argv).unwrap()
}

#[test]
fn a_killed_agent_changes_nothing_and_the_next_one_adopts_everything() {
    let (bench, mut pods) = with_pods();
    let site = &bench.site;
    let before = kernel(site);
    let attachments = site.attachments(N1).unwrap();
    let monitor = Monitor::start(site);
    let pings = [false, true].map(|v6| ping(site, &pods[0], &pods[1], 160, v6));

    bench.kill(N1).unwrap();
    // Its switch notices; the node itself does not.
    site.until(SOON, "the switch has noticed", || {
        let text = site.exec("tor1", &["vtysh", "-c", "show bgp summary json"])?;
        let summary: serde_json::Value = serde_json::from_str(&text)?;
        let state = &summary["ipv4Unicast"]["peers"]["172.31.0.5"]["state"];
        ensure!(state != "Established", "{state}");
        Ok(())
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(kernel(site), before);
    assert_eq!(monitor.lines(), Vec::<String>::new());

    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    tables::converged_with(site, &pods).unwrap();
    let lines = monitor.lines();
    assert!(
        !lines.iter().any(|line| line.contains("Deleted")),
        "{lines:#?}"
    );
    assert_eq!(site.attachments(N1).unwrap(), attachments);
    assert_eq!(kernel(site), before);
    for child in pings {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("160 packets transmitted, 160 received"),
            "{text}"
        );
    }

    // Old pods and new ones, everywhere.
    pods.push(Pod::start(site, N1, "n1-c").unwrap());
    reach::pods_to_pods(site, &pods).unwrap();
    drop(monitor);
    for pod in &pods {
        pod.del(site).unwrap();
    }
    tables::converged(site).unwrap();
}
