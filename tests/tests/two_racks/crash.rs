//! `kill -9` of an agent under pods: the kernel is as it was, and the next agent takes over what it finds.

use std::process::Child;
use std::time::Duration;

use anyhow::ensure;
use roadbed_tests::monitor::{Monitor, kernel};
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;
use roadbed_tests::two_racks::{reach, tables};

use crate::with_pods;

const SOON: Duration = Duration::from_secs(20);
const N1: &str = "n1";

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
    let before = kernel(site, N1);
    let attachments = site.attachments(N1).unwrap();
    let monitor = Monitor::start(site, N1);
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
    assert_eq!(kernel(site, N1), before);
    assert_eq!(monitor.lines(), Vec::<String>::new());

    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    tables::converged_with(site, &pods).unwrap();
    for child in pings {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("160 packets transmitted, 160 received"),
            "{text}"
        );
    }
    let lines = monitor.lines();
    let deleted: Vec<&String> = lines.iter().filter(|l| l.contains("Deleted")).collect();
    assert_eq!(deleted, Vec::<&String>::new());
    assert_eq!(site.attachments(N1).unwrap(), attachments);
    assert_eq!(kernel(site, N1), before);

    // Old pods and new ones, everywhere.
    pods.push(Pod::start(site, N1, "n1-c").unwrap());
    reach::pods_to_pods(site, &pods).unwrap();
    drop(monitor);
    for pod in &pods {
        pod.del(site).unwrap();
    }
    tables::converged(site).unwrap();
}
