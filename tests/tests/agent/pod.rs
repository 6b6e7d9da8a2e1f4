//! `roadbedctl pod`: one pod's interface as ledger and kernel have it, and what is wrong with it.

use anyhow::ensure;
use roadbed_api::agent::AttachmentDetail;
use roadbed_tests::pod::Pod;

use crate::{N1, SOON, check_contains, connected, fails};

#[test]
fn a_pod_is_shown_at_length_with_what_is_wrong() {
    let bench = connected();
    let site = &bench.site;
    let pod = Pod::start(site, N1, "web").unwrap();
    let other = Pod::start(site, N1, "other").unwrap();
    let dev = pod.host_ifname();
    let address = pod.address(false).unwrap().to_string();
    pod.exec(site, &["ping", "-n", "-c", "3", "-i", "0.2", "10.255.0.11"])
        .unwrap();
    for name in ["web", "demo/web", dev.as_str(), address.as_str()] {
        let text = site.run(N1, &format!("roadbedctl pod {name}")).unwrap();
        check_contains(
            &text,
            &["demo/web", "pods/web/eth0", &dev, &address, "permanent"],
        );
        assert!(!text.contains(&other.host_ifname()), "{text}");
    }
    let read = || -> AttachmentDetail {
        let text = site
            .output(N1, &["roadbedctl", "pod", "web", "-o", "json"])
            .unwrap();
        let mut all: Vec<AttachmentDetail> = serde_json::from_slice(&text.stdout).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    };
    let detail = read();
    assert_eq!(detail.problems, [] as [String; 0]);
    assert!(
        detail.from_pod.packets >= 3 && detail.to_pod.octets >= 3 * 64,
        "{detail:?}"
    );
    assert_eq!(detail.peer.unwrap().name, "eth0");
    assert_eq!((detail.routes.len(), detail.neighbours.len()), (2, 2));

    // Without an agent's mending: what its listener does not hear of is another address in the pod.
    let words = ["ip", "link", "set", "eth0", "address", "02:00:00:00:0b:ad"];
    pod.exec(site, &words).unwrap();
    pod.exec(site, &["ip", "link", "set", "eth0", "mtu", "1400"])
        .unwrap();
    let text = fails(site, &["roadbedctl", "pod", "web"]);
    check_contains(
        &text,
        &[
            "the pod's end has 02:00:00:00:0b:ad",
            "MTU 1400 in the pod",
            "problems found: 3",
        ],
    );
    pod.exec(site, &["ip", "link", "set", "eth0", "down"])
        .unwrap();
    assert!(read().problems.iter().any(|p| p == "the pod's end is down"));
    site.run(N1, &format!("ip link del {dev}")).unwrap();
    let gone = fails(site, &["roadbedctl", "pod", "web"]);
    assert!(
        gone.contains("no link has the alias roadbed:1:pods/web/eth0")
            || gone.contains("no attachment"),
        "{gone}"
    );
    let nobody = fails(site, &["roadbedctl", "pod", "nobody"]);
    check_contains(
        &nobody,
        &["no attachment of this node is called \"nobody\""],
    );
}

/// The smallest of the links that lead out; a network configuration may say otherwise (`cni/tests/add.rs`).
#[test]
fn a_pods_mtu_is_that_of_the_way_out() {
    let bench = connected();
    let site = &bench.site;
    let mtu_of = |name: &str| {
        let pod = Pod::start(site, N1, name).unwrap();
        let link = pod.exec(site, &["ip", "-o", "link", "show", "eth0"]);
        let host = site.run(N1, &format!("ip -o link show {}", pod.host_ifname()));
        pod.del(site).unwrap();
        [link.unwrap(), host.unwrap()].map(|link| {
            let mut words = link.split_whitespace().skip_while(|word| *word != "mtu");
            words.nth(1).unwrap().to_owned()
        })
    };
    // As labs have it.
    assert_eq!(mtu_of("before"), ["9500", "9500"]);
    site.run(N1, "ip link set eth1 mtu 1400").unwrap();
    let mut tries = 0;
    site.until(SOON, "new pods follow", || {
        tries += 1;
        let found = mtu_of(&format!("after{tries}"));
        ensure!(found == ["1400", "1400"], "{found:?}");
        Ok(())
    })
    .unwrap();
}
