//! The plugin against a real agent, both as a runtime and an operator start them. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "cni/chain.rs"]
mod chain;
#[path = "cni/check.rs"]
mod check;
#[path = "cni/chosen.rs"]
mod chosen;
#[path = "cni/identity.rs"]
mod identity;
#[path = "cni/kill.rs"]
mod kill;
#[path = "cni/restarts.rs"]
mod restarts;
#[path = "cni/spec.rs"]
mod spec;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use roadbed_tests::bench::{Bench, Files};
use roadbed_tests::pod::{Call, Pod, network, plugin};
use roadbed_tests::site::Site;
use serde_json::{Value, json};

const N1: &str = "n1";
const SOON: Duration = Duration::from_secs(15);

/// Links, routes and attachments of pods on the node: what a failed call must not add to.
fn wired(site: &Site) -> (usize, usize, usize) {
    let links = site.run(N1, "ip -o link").unwrap();
    let mut routes = site.run(N1, "ip -4 route show proto 82").unwrap();
    routes += &site.run(N1, "ip -6 route show proto 82").unwrap();
    (
        links.lines().filter(|line| line.contains(": rb")).count(),
        routes
            .lines()
            .filter(|line| line.contains(" dev rb"))
            .count(),
        site.attachments(N1).unwrap().len(),
    )
}

fn in_use(site: &Site) -> u64 {
    let blocks = site.ipam(N1).unwrap().blocks;
    blocks.iter().map(|block| block.in_use).sum()
}

/// Asserts that a call fails with this code and these parts of the message, and leaves nothing.
fn check_refused(site: &Site, call: &Call, code: u64, parts: &[&str]) {
    let (found, message) = plugin(site, N1, call).unwrap().error().unwrap();
    assert_eq!(found, code, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
}

#[test]
fn a_pod_comes_is_reached_and_goes() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut pod = Pod::new(N1, "web");
    pod.make(site).unwrap();
    let first = pod.add(site).unwrap();
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(wired(site), (1, 2, 1));

    // The result says what the kernel has.
    let own = site
        .run(N1, &format!("ip -j link show {}", pod.host_ifname()))
        .unwrap();
    let own: Value = serde_json::from_str(&own).unwrap();
    assert_eq!(own[0]["address"], first["interfaces"][0]["mac"]);
    assert_eq!(own[0]["ifalias"], "roadbed:1:pods/web/eth0");
    assert_eq!(first["interfaces"][1]["sandbox"], "/run/netns/web");
    let inside: Value = serde_json::from_str(
        &pod.exec(site, &["ip", "-j", "address", "show", "eth0"])
            .unwrap(),
    )
    .unwrap();
    assert_eq!(inside[0]["address"], first["interfaces"][1]["mac"]);
    for address in &pod.addresses {
        assert!(
            inside.to_string().contains(&format!("\"{address}\"")),
            "{inside}"
        );
    }

    // A repeated ADD is the first one's answer and changes nothing.
    let again = pod.add(site).unwrap();
    assert_eq!(again, first);
    assert_eq!(wired(site), (1, 2, 1));
    assert_eq!(in_use(site), 2);

    // Pod → host → pod, over its own addresses.
    for (address, loopback) in pod
        .addresses
        .clone()
        .into_iter()
        .zip(["10.255.0.11", "fd00:255::11"])
    {
        pod.exec(site, &["ping", "-n", "-c", "1", "-W", "2", loopback])
            .unwrap();
        site.run(N1, &format!("ping -n -c 1 -W 2 {address}"))
            .unwrap();
        let to_pod = site.run(N1, &format!("ip -o route get {address}")).unwrap();
        assert!(to_pod.contains(&format!("src {loopback}")), "{to_pod}");
        let to_host = pod
            .exec(site, &["ip", "-o", "route", "get", loopback])
            .unwrap();
        assert!(to_host.contains(&format!("src {address}")), "{to_host}");
    }

    let check = Call {
        stdin: with(&[("prevResult", first.clone())]),
        ..pod.call("CHECK")
    };
    assert!(plugin(site, N1, &check).unwrap().ok);
    assert!(plugin(site, N1, &pod.call("STATUS")).unwrap().ok);

    // DEL twice, and once for what never was.
    pod.del(site).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
    assert_eq!(in_use(site), 0);
    pod.del(site).unwrap();
    Pod::new(N1, "never").del(site).unwrap();
    let (code, _) = plugin(site, N1, &check).unwrap().error().unwrap();
    assert_ne!(code, 0);
}

/// The network configuration with further keys.
fn with(more: &[(&str, Value)]) -> Vec<u8> {
    let mut conf = network();
    for (key, value) in more {
        conf[*key] = value.clone();
    }
    conf.to_string().into_bytes()
}

#[test]
fn what_is_wrong_is_named_and_leaves_nothing() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pod = Pod::new(N1, "web");
    pod.make(site).unwrap();
    let add = pod.call("ADD");

    let nowhere = Call {
        netns: "/run/netns/nowhere".into(),
        ..add.clone()
    };
    check_refused(site, &nowhere, 4, &["CNI_NETNS", "/run/netns/nowhere"]);
    let no_namespace = Call {
        netns: "/etc/hostname".into(),
        ..add.clone()
    };
    check_refused(
        site,
        &no_namespace,
        4,
        &["CNI_NETNS", "/etc/hostname", "not a namespace"],
    );
    let host = Call {
        netns: "/proc/1/ns/net".into(),
        ..add.clone()
    };
    check_refused(site, &host, 4, &["CNI_NETNS", "host's own"]);
    for garbage in [
        &b""[..],
        b"\xff\xfe\x00garbage",
        b"[1, 2]",
        b"{\"cniVersion\": \"1.1.0\"",
    ] {
        let call = Call {
            stdin: garbage.to_vec(),
            ..add.clone()
        };
        check_refused(site, &call, 6, &["stdin", "not a JSON object"]);
    }
    let wrong = Call {
        stdin: with(&[("mtu", json!(10)), ("runDir", json!("relative"))]),
        ..add.clone()
    };
    check_refused(site, &wrong, 7, &["mtu", "runDir"]);
    let bad_name = Call {
        container_id: "../web".into(),
        ..add.clone()
    };
    check_refused(site, &bad_name, 4, &["CNI_CONTAINERID"]);

    assert_eq!(wired(site), (0, 0, 0));
    assert_eq!(in_use(site), 0);
    let inside = pod.exec(site, &["ip", "-o", "link"]).unwrap();
    assert_eq!(inside.lines().count(), 1, "{inside}");
    // The same pod is none the worse for it.
    assert!(plugin(site, N1, &add).unwrap().ok);
}

#[test]
fn without_an_agent_add_waits_and_del_does_not_need_it() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let stays = Pod::start(site, N1, "stays").unwrap();
    let goes = Pod::start(site, N1, "goes").unwrap();
    bench.kill(N1).unwrap();

    let late = Pod::new(N1, "late");
    late.make(site).unwrap();
    let add = Call {
        stdin: with(&[("waitSeconds", json!(0))]),
        ..late.call("ADD")
    };
    let before = site.run(N1, "ip -o link").unwrap();
    check_refused(
        site,
        &add,
        11,
        &["/run/roadbed/agent.sock", "roadbed-agent"],
    );
    assert_eq!(site.run(N1, "ip -o link").unwrap(), before);
    // STATUS allows for an upgrade, and no more than that.
    let status = || plugin(site, N1, &late.call("STATUS")).unwrap();
    assert!(status().ok);
    let mark = site.path(N1, "/run/roadbed/ready").unwrap();
    let last: u64 = std::fs::read_to_string(&mark)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    std::fs::write(&mark, (last - 80).to_string()).unwrap();
    let (code, message) = status().error().unwrap();
    assert_eq!(code, 50, "{message}");
    std::fs::remove_file(&mark).unwrap();
    let (code, message) = status().error().unwrap();
    assert_eq!(code, 50, "{message}");

    // DEL unwires by itself and leaves a note.
    goes.del(site).unwrap();
    let links = site.run(N1, "ip -o link").unwrap();
    assert!(!links.contains(&goes.host_ifname()), "{links}");
    assert!(links.contains(&stays.host_ifname()), "{links}");
    let notes = site.path(N1, "/run/roadbed/notes").unwrap();
    let count = || std::fs::read_dir(&notes).unwrap().count();
    assert_eq!(count(), 1);
    goes.del(site).unwrap();
    assert_eq!(count(), 1);

    // ADD that waits is served by the agent that comes.
    let waiting = std::thread::scope(|scope| {
        let call = Call {
            stdin: with(&[("waitSeconds", json!(20))]),
            ..late.call("ADD")
        };
        let waiting = scope.spawn(move || plugin(site, N1, &call).unwrap());
        bench.start(N1).unwrap();
        waiting.join().unwrap()
    });
    assert!(waiting.ok, "{}{}", waiting.stdout, waiting.stderr);
    site.until(SOON, "the note is taken up", || {
        anyhow::ensure!(count() == 0, "{} notes", count());
        Ok(())
    })
    .unwrap();
    let names: Vec<String> = site
        .attachments(N1)
        .unwrap()
        .into_iter()
        .map(|a| a.key.container_id)
        .collect();
    assert_eq!(names, ["late", "stays"]);
    assert_eq!(in_use(site), 4);
    assert_eq!(wired(site), (2, 4, 2));
}

#[test]
fn a_full_pool_says_so_and_a_pod_that_goes_makes_room() {
    let files = Files::solo([("10.99.0.0/30", 30), ("fd00:99::/126", 126)]).unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    site.apply(N1).unwrap();
    site.ready(N1).unwrap();
    let pods: Vec<Pod> = (0..4)
        .map(|i| Pod::start(site, N1, &format!("p{i}")).unwrap())
        .collect();
    let full = wired(site);
    assert_eq!(full, (4, 8, 4));

    let mut late = Pod::new(N1, "late");
    late.make(site).unwrap();
    check_refused(
        site,
        &late.call("ADD"),
        101,
        &[
            "no free IPv4 address",
            "IPPool pods-v4",
            "4 in use",
            "apply",
        ],
    );
    assert_eq!(wired(site), full);
    assert_eq!(in_use(site), 8);
    let inside = late.exec(site, &["ip", "-o", "link"]).unwrap();
    assert_eq!(inside.lines().count(), 1, "{inside}");
    let status = site.run(N1, "roadbedctl status").unwrap();
    assert!(status.contains("pods-v4"), "{status}");

    pods[2].del(site).unwrap();
    late.add(site).unwrap();
    assert_eq!(late.addresses, pods[2].addresses);
    assert_eq!(wired(site), full);
    site.run(N1, &format!("ping -n -c 1 -W 2 {}", late.addresses[0]))
        .unwrap();
}

#[test]
fn a_new_namespace_under_an_old_container_id_is_wired_anew() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut pod = Pod::start(site, N1, "web").unwrap();
    // The namespace goes without DEL, as after a crash of the runtime, and its link with it.
    pod.unmake(site).unwrap();
    pod.make(site).unwrap();
    pod.add(site).unwrap();
    assert_eq!(wired(site), (1, 2, 1));
    assert_eq!(in_use(site), 2);
    for address in &pod.addresses {
        site.run(N1, &format!("ping -n -c 1 -W 2 {address}"))
            .unwrap();
    }
}

#[test]
fn a_namespace_that_goes_without_del_gives_its_addresses_back() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pod = Pod::start(site, N1, "web").unwrap();
    pod.unmake(site).unwrap();
    site.until(SOON, "the agent has seen it go", || {
        anyhow::ensure!(wired(site) == (0, 0, 0), "{:?}", wired(site));
        anyhow::ensure!(in_use(site) == 0, "{} in use", in_use(site));
        Ok(())
    })
    .unwrap();
    // The runtime's late DEL is no error.
    pod.del(site).unwrap();
}

#[test]
fn gc_releases_what_the_runtime_does_not_list() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let kept = Pod::start(site, N1, "kept").unwrap();
    Pod::start(site, N1, "lost").unwrap();
    let valid = json!([{"containerID": kept.name, "ifname": "eth0"}]);
    let gc = Call {
        stdin: with(&[("cni.dev/valid-attachments", valid)]),
        ..kept.call("GC")
    };
    let run = plugin(site, N1, &gc).unwrap();
    assert!(run.ok, "{}", run.stdout);
    assert_eq!(wired(site), (1, 2, 1));
    assert_eq!(in_use(site), 2);
}

#[test]
fn many_at_once_get_addresses_of_their_own_and_leave_nothing() {
    const PODS: usize = 24;
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut pods: Vec<Pod> = (0..PODS).map(|i| Pod::new(N1, &format!("p{i}"))).collect();
    for pod in &pods {
        pod.make(site).unwrap();
    }
    std::thread::scope(|scope| {
        for pod in &mut pods {
            scope.spawn(move || pod.add(site).unwrap());
        }
    });
    let distinct: BTreeSet<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!(distinct.len(), 2 * PODS);
    assert_eq!(wired(site), (PODS, 2 * PODS, PODS));
    // Half of them go while others come.
    let (stay, go) = pods.split_at(PODS / 2);
    let mut come: Vec<Pod> = (0..PODS / 2)
        .map(|i| Pod::new(N1, &format!("c{i}")))
        .collect();
    for pod in &come {
        pod.make(site).unwrap();
    }
    std::thread::scope(|scope| {
        for pod in go {
            scope.spawn(move || pod.del(site).unwrap());
        }
        for pod in &mut come {
            scope.spawn(move || pod.add(site).unwrap());
        }
    });
    let there = || stay.iter().chain(&come);
    let distinct: BTreeSet<IpAddr> = there().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!(distinct.len(), 2 * PODS);
    assert_eq!(wired(site), (PODS, 2 * PODS, PODS));
    for pod in there() {
        let ping = format!("ping -n -c 1 -W 2 {}", pod.addresses[0]);
        site.run(N1, &ping).unwrap();
    }
    std::thread::scope(|scope| {
        for pod in there() {
            scope.spawn(move || pod.del(site).unwrap());
        }
    });
    assert_eq!(wired(site), (0, 0, 0));
    assert_eq!(in_use(site), 0);
}
