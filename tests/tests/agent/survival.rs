//! What an agent that dies leaves standing, and what it finds again: kernel, ledger, store.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::ensure;
use roadbed_tests::monitor::{Monitor, kernel};
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;

use crate::{N1, SOON, check_contains, connected, status_shows};

fn pods(site: &Site, prefix: &str, count: usize) -> Vec<Pod> {
    (0..count)
        .map(|i| Pod::start(site, N1, &format!("{prefix}{i}")).unwrap())
        .collect()
}

/// Asserts that no address is given twice and the agent knows exactly these pods.
fn check_distinct(site: &Site, pods: &[Pod]) {
    let all: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "given twice: {all:?}");
    let mut known = site.attachments(N1).unwrap();
    known.sort_by(|a, b| a.key.cmp(&b.key));
    let mut expected: Vec<&Pod> = pods.iter().collect();
    expected.sort_by_key(|pod| pod.key());
    assert_eq!(known.len(), expected.len());
    for (known, pod) in known.iter().zip(expected) {
        assert_eq!(known.key, pod.key());
        let mut addresses = known.addresses.clone();
        addresses.sort();
        assert_eq!(addresses, pod.addresses);
    }
}

/// Pings the pods' addresses from the router above the node.
fn reachable_from_outside(site: &Site, pods: &[Pod]) {
    for pod in pods {
        for address in &pod.addresses {
            site.until(
                SOON,
                format!("{} is reached from outside", pod.name),
                || site.run("r1", &format!("ping -n -c 1 -W 1 {address}")),
            )
            .unwrap();
        }
    }
}

/// Pings the pods' addresses from their node.
fn reachable_from_node(site: &Site, pods: &[Pod]) {
    for pod in pods {
        for address in &pod.addresses {
            site.run(N1, &format!("ping -n -c 1 -W 5 {address}"))
                .unwrap();
        }
    }
}

#[test]
fn a_ledger_lost_with_the_run_directory_is_rebuilt_from_the_kernel() {
    let bench = connected();
    let site = &bench.site;
    let mut all = pods(site, "before", 5);
    let gone = all.remove(2);
    gone.del(site).unwrap();
    let before = site.attachments(N1).unwrap();
    bench.kill(N1).unwrap();
    std::fs::remove_dir_all(site.path(N1, "/run/roadbed").unwrap()).unwrap();
    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    let after = site.attachments(N1).unwrap();
    let facts = |list: &[roadbed_api::agent::Attachment]| -> Vec<_> {
        let fact = |a: &roadbed_api::agent::Attachment| {
            let mut addresses = a.addresses.clone();
            addresses.sort();
            (
                a.key.clone(),
                addresses,
                a.host_ifname.clone(),
                a.host_ifindex,
                a.state,
            )
        };
        list.iter().map(fact).collect()
    };
    assert_eq!(facts(&after), facts(&before));
    all.extend(pods(site, "after", 5));
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
    // What was rebuilt is released like any other, and can be wired again.
    for pod in &all {
        pod.del(site).unwrap();
    }
    check_distinct(site, &[]);
    assert!(
        site.ipam(N1)
            .unwrap()
            .blocks
            .iter()
            .all(|block| block.in_use == 0)
    );
}

#[test]
fn what_a_killed_agent_left_is_adopted_and_only_what_is_stale_is_swept() {
    const STALE: &str = "198.51.100.0/24";
    const FOREIGN: &str = "203.0.113.0/24";
    let bench = connected();
    let site = &bench.site;
    let all = pods(site, "web", 2);
    reachable_from_outside(site, &all);
    // Not ours: never touched.
    site.run(
        N1,
        &format!("ip route add unreachable {FOREIGN} proto static"),
    )
    .unwrap();
    let before = kernel(site, N1);
    let monitor = Monitor::start(site, N1);
    bench.kill(N1).unwrap();
    assert_eq!(kernel(site, N1), before);
    assert_eq!(monitor.lines(), Vec::<String>::new());
    site.run(N1, &format!("ip route add unreachable {STALE} proto 82"))
        .unwrap();
    bench.start(N1).unwrap();
    site.until(SOON, "what is stale has been swept", || {
        let routes = site.run(N1, "ip route show")?;
        ensure!(!routes.contains(STALE), "{routes}");
        Ok(())
    })
    .unwrap();
    // Once one is swept, so would be all.
    assert_eq!(kernel(site, N1), before);
    let lines = monitor.lines();
    let others: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("Deleted") && !line.contains(STALE))
        .collect();
    assert_eq!(others, Vec::<&String>::new());
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
}

#[test]
fn an_agent_whose_run_directory_is_deleted_ends_and_says_why() {
    let bench = connected();
    let site = &bench.site;
    let mut all = pods(site, "before", 2);
    std::fs::remove_dir_all(site.path(N1, "/run/roadbed").unwrap()).unwrap();
    site.until(SOON, "the agent has ended", || {
        let programs = site.lab().status(N1)?.programs;
        ensure!(programs.iter().all(|p| p.pid.is_none()), "{programs:?}");
        Ok(())
    })
    .unwrap();
    check_contains(&site.agent_log(N1), &["somebody deleted /run/roadbed"]);
    reachable_from_node(site, &all);
    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    all.extend(pods(site, "after", 2));
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
}

#[test]
fn a_damaged_ledger_is_rebuilt_as_well() {
    let bench = connected();
    let site = &bench.site;
    let mut all = pods(site, "before", 3);
    bench.kill(N1).unwrap();
    let dir = site.path(N1, "/run/roadbed").unwrap();
    for entry in std::fs::read_dir(&dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ledger.db") {
            std::fs::write(entry.path(), b"this is no database, whatever its name says").unwrap();
        }
    }
    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    all.extend(pods(site, "after", 3));
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
}

#[test]
fn without_the_store_a_killed_agent_comes_back_whole() {
    let bench = connected();
    let site = &bench.site;
    let mut all = pods(site, "before", 2);
    let blocks = site.ipam(N1).unwrap().blocks;
    bench.kill(N1).unwrap();
    let store = site.store();
    let away = store.with_extension("away");
    let parts = || -> Vec<String> {
        let names = std::fs::read_dir(store.parent().unwrap())
            .unwrap()
            .flatten();
        names
            .map(|n| n.file_name().to_string_lossy().into_owned())
            .collect()
    };
    // SQLite's companions belong to the file.
    for name in parts() {
        let path = store.with_file_name(&name);
        std::fs::rename(
            &path,
            path.with_file_name(name.replace("store.db", "store.away")),
        )
        .unwrap();
    }
    assert!(away.exists() && !store.exists());
    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    let status = site.status(N1).unwrap();
    assert!(
        status
            .store
            .as_ref()
            .is_some_and(|s| !s.reachable && s.from_snapshot),
        "{:?}",
        status.store
    );
    status_shows(
        site,
        &["NOT reachable; working from the snapshot", "store.db"],
    );
    assert!(!store.exists(), "an agent must not make a store");
    let restarted = site.ipam(N1).unwrap().blocks;
    assert_eq!(restarted.len(), blocks.len());

    all.extend(pods(site, "away", 2));
    check_distinct(site, &all);
    reachable_from_outside(site, &all);

    for name in parts() {
        let path = store.with_file_name(&name);
        std::fs::rename(
            &path,
            path.with_file_name(name.replace("store.away", "store.db")),
        )
        .unwrap();
    }
    site.until(SOON, "the store is reachable again", || {
        let store = site.status(N1)?.store.unwrap_or_default();
        ensure!(store.reachable && !store.from_snapshot, "{store:?}");
        Ok(())
    })
    .unwrap();
    check_distinct(site, &all);
    let now: Vec<_> = site
        .ipam(N1)
        .unwrap()
        .blocks
        .into_iter()
        .map(|b| b.cidr)
        .collect();
    assert_eq!(now, blocks.into_iter().map(|b| b.cidr).collect::<Vec<_>>());
    // The session did not notice.
    assert_eq!(site.status(N1).unwrap().peers[0].established_count, 1);
    for pod in &all {
        pod.del(site).unwrap();
    }
    check_distinct(site, &[]);
}

#[test]
fn a_store_that_goes_under_a_running_agent_stops_nothing() {
    let bench = connected();
    let site = &bench.site;
    let store = site.store();
    let away = store.with_extension("away");
    std::fs::rename(&store, &away).unwrap();
    status_shows(site, &["NOT reachable"]);
    let all = pods(site, "away", 2);
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
    std::fs::rename(&away, &store).unwrap();
    site.until(SOON, "the store is reachable again", || {
        let status = site.status(N1)?;
        ensure!(
            status.store.as_ref().is_some_and(|s| s.reachable),
            "{:?}",
            status.store
        );
        Ok(())
    })
    .unwrap();
    let text = site.run(N1, "roadbedctl status").unwrap();
    check_contains(&text, &["(reachable)", "Established"]);
}

#[test]
fn a_stopped_agent_leaves_pods_and_routes_and_says_goodbye() {
    let bench = connected();
    let site = &bench.site;
    let all = pods(site, "web", 2);
    let routes = |site: &Site| {
        let v4 = site.run(N1, "ip -4 route show proto 82").unwrap();
        v4 + &site.run(N1, "ip -6 route show proto 82").unwrap()
    };
    let before = routes(site);
    site.lab().restart_main(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    site.until(SOON, "routes are as they were", || {
        let now = routes(site);
        ensure!(now == before, "{now}\nbefore:\n{before}");
        Ok(())
    })
    .unwrap();
    check_contains(&site.agent_log(N1), &["agent stopped"]);
    check_distinct(site, &all);
    reachable_from_outside(site, &all);
}
