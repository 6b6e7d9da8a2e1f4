//! Looking into the speaker: sessions, routes with their reasons, what a peer sent and is sent, the RIB as MRT.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use roadbed_api::agent::{BgpPeer, BgpRoute, NextHopReport};
use roadbed_tests::bench::{Bench, PEER};
use roadbed_tests::site::Site;
use serde::Deserialize;

use crate::{N1, SOON, check_contains, fails, files};

#[derive(Deserialize)]
struct Routes {
    routes: Vec<BgpRoute>,
}

/// The node with its block, and a router that announces a range of the pool, which is let in, and its own address,
/// which is not.
fn up() -> Bench {
    let files = files();
    let path = files.dir().join("bgpd.toml");
    let router = std::fs::read_to_string(path).unwrap();
    let networks = r#"networks = ["10.244.200.0/26", "#;
    let changed = router.replace("networks = [", networks);
    assert_ne!(router, changed);
    files.write("bgpd.toml", &changed).unwrap();
    let bench = files.up().unwrap();
    bench.site.apply(N1).unwrap();
    bench.site.ready(N1).unwrap();
    bench.site.established(N1).unwrap();
    bench
        .site
        .until(SOON, "routes have been exchanged", || {
            let routes = routes(&bench.site, "rib")?;
            let best = |prefix: &str| {
                routes
                    .iter()
                    .any(|r| r.best && r.prefix.to_string() == prefix)
            };
            ensure!(best("10.244.200.0/26"), "{routes:?}");
            let blocks = routes.iter().filter(|r| r.peer.is_none() && r.best);
            ensure!(blocks.count() >= 4, "{routes:?}");
            let sent = &self::routes(&bench.site, "rib --advertised r1")?;
            ensure!(sent.len() >= 4, "{sent:?}");
            Ok(())
        })
        .unwrap();
    bench
}

fn routes(site: &Site, what: &str) -> Result<Vec<BgpRoute>> {
    let text = site.run(N1, &format!("roadbedctl bgp {what} -o json"))?;
    Ok(serde_json::from_str::<Routes>(&text)?.routes)
}

fn only(site: &Site, what: &str) -> BgpRoute {
    let mut found = routes(site, what).unwrap();
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    found.remove(0)
}

#[test]
fn sessions_and_routes_are_shown_with_their_reasons() {
    let bench = up();
    let site = &bench.site;
    let text = site.run(N1, "roadbedctl bgp peers").unwrap();
    check_contains(&text, &["r1", "172.31.0.0", "Established"]);
    let text = site.run(N1, "roadbedctl bgp peer r1").unwrap();
    check_contains(
        &text,
        &[
            "Established, up",
            "hold 9s",
            "four-octet AS 65101",
            "End-of-RIB received",
        ],
    );
    let peer: BgpPeer =
        serde_json::from_str(&site.run(N1, "roadbedctl bgp peer r1 -o json").unwrap()).unwrap();
    let messages = peer.messages["UPDATE"];
    assert!(messages.received >= 1 && messages.sent >= 1, "{messages:?}");
    assert_eq!(peer.report.update_faults.len(), 0);
    check_contains(
        &fails(site, &["roadbedctl", "bgp", "peer", "r9"]),
        &["no BGP peer", "\"r9\"", "there are: r1"],
    );

    let route = only(site, "routes 10.244.200.0/26 --received r1");
    assert!(
        route.best && route.rejected.is_none() && !route.stale,
        "{route:?}"
    );
    assert_eq!(route.attributes.as_path, "65101");
    assert_eq!(
        route.next_hop_state,
        NextHopReport::Resolved { igp_cost: 0 }
    );
    let route = only(site, "routes 10.255.0.1 --received r1");
    assert_eq!(
        route.rejected.as_deref(),
        Some("outside every pool and node prefix")
    );
    let text = site
        .run(N1, "roadbedctl bgp routes 10.255.0.1 -o wide")
        .unwrap();
    check_contains(
        &text,
        &["rejected by import policy (outside every pool and node prefix)"],
    );

    let why = |prefix: &str| {
        let route = only(site, &format!("routes {prefix} --advertised r1"));
        route.advertised.unwrap().why_not.unwrap_or_default()
    };
    assert_eq!(
        why("10.244.200.0/26"),
        "split horizon: the peer is its source"
    );
    assert_eq!(why("10.255.0.1"), "not the best path");
    assert_eq!(why("10.255.0.11"), "");
    let sent = routes(site, "rib --advertised r1").unwrap();
    for route in &sent {
        let attributes = route
            .advertised
            .as_ref()
            .unwrap()
            .attributes
            .as_ref()
            .unwrap();
        assert_eq!(
            (attributes.as_path.as_str(), attributes.local_pref),
            ("65111", None)
        );
    }
    // The other end has exactly these.
    let advertised = site.status(N1).unwrap().peers[0]
        .families
        .values()
        .map(|f| f.advertised)
        .sum::<u64>();
    assert_eq!(sent.len() as u64, advertised);
    check_contains(
        &fails(site, &["roadbedctl", "bgp", "routes", "203.0.113.0/24"]),
        &["no route inside or around 203.0.113.0/24"],
    );
}

#[test]
fn bgpdump_reads_the_rib() {
    let bench = up();
    let site = &bench.site;
    let said = site.run(N1, "roadbedctl bgp dump /tmp/rib.mrt").unwrap();
    check_contains(&said, &["/tmp/rib.mrt: ", " octets"]);
    let file = site.path(N1, "/tmp/rib.mrt").unwrap();
    let output = Command::new("bgpdump")
        .arg("-m")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    check_contains(
        &text,
        &["|172.31.0.0|65101|10.244.200.0/26|65101|IGP|172.31.0.0|"],
    );
    assert!(
        !text.contains("10.255.0.1/32"),
        "rejected routes are not in it:\n{text}"
    );
    let dumped = text.lines().filter_map(|line| line.split('|').nth(5));
    let dumped: BTreeSet<IpNet> = dumped.map(|prefix| prefix.parse().unwrap()).collect();
    let rib = routes(site, "rib").unwrap();
    let let_in = rib.iter().filter(|r| r.rejected.is_none());
    let expected: BTreeSet<IpNet> = let_in.map(|r| r.prefix).collect();
    assert_eq!(dumped, expected, "{text}");
    // What cannot be written leaves nothing behind, and nothing changed.
    let before = std::fs::read(&file).unwrap();
    fails(site, &["roadbedctl", "bgp", "dump", "/tmp/none/rib.mrt"]);
    fails(
        site,
        &[
            "roadbedctl",
            "--run-dir",
            "/run/none",
            "bgp",
            "dump",
            "/tmp/rib.mrt",
        ],
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let left = site.run(N1, "ls /tmp").unwrap();
    assert!(!left.contains(".tmp"), "{left}");
}

#[test]
fn stations_of_the_cluster_are_shown_with_what_ails_them() {
    let files = files();
    let station = "apiVersion: roadbed.dev/v1alpha1\nkind: BGPConfig\nmetadata: {name: default}\n\
                   spec: {bmp: {noc: {address: 172.31.0.0, routeMonitoring: both}}}\n";
    files.write("resources/bgp.yaml", station).unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    site.apply(N1).unwrap();
    site.established(N1).unwrap();
    // Nobody listens there.
    site.until(SOON, "the station is shown", || {
        let text = site.run(N1, "roadbedctl bgp bmp -o wide")?;
        let row = ["noc", "172.31.0.0:11019", "both", "waiting", "refused"];
        let missing = row.iter().find(|part| !text.contains(**part));
        ensure!(missing.is_none(), "{text}\nlacks {missing:?}");
        Ok(())
    })
    .unwrap();
    let gone = station.replace("noc: {address: 172.31.0.0, routeMonitoring: both}", "");
    bench.files().write("resources/bgp.yaml", &gone).unwrap();
    site.apply(N1).unwrap();
    site.until(SOON, "the station is gone", || {
        let text = site.run(N1, "roadbedctl bgp bmp")?;
        ensure!(text.contains("No BMP stations"), "{text}");
        Ok(())
    })
    .unwrap();
}

/// Prefixes that the router above has from the node.
fn at_the_router(site: &Site) -> Result<BTreeSet<String>> {
    let text = site.run("r1", "roadbedctl bgp rib --received n1 -o json")?;
    let routes = serde_json::from_str::<Routes>(&text)?.routes;
    Ok(routes
        .iter()
        .map(|route| route.prefix.to_string())
        .collect())
}

/// What is announced by where it comes from: the blocks of the node, or its addresses.
#[test]
fn policies_pick_blocks_or_node_addresses() {
    let bench = up();
    let site = &bench.site;
    let nodes = BTreeSet::from(["10.255.0.11/32", "fd00:255::11/128"].map(str::to_owned));
    let blocks = site
        .until(SOON, "the router has all", || {
            let all = at_the_router(site)?;
            let blocks: BTreeSet<String> = all.difference(&nodes).cloned().collect();
            ensure!(all.is_superset(&nodes) && blocks.len() >= 2, "{all:?}");
            Ok(blocks)
        })
        .unwrap();
    for (source, expected) in [
        ("ownBlock", &blocks),
        ("node", &nodes),
        ("static", &BTreeSet::new()),
    ] {
        let policy = format!(
            "apiVersion: roadbed.dev/v1alpha1\nkind: BGPRoutePolicy\nmetadata: {{name: only}}\n\
             spec: {{rules: [{{match: {{sources: [{source}]}}, action: accept}}]}}\n"
        );
        let peer = PEER.replace("spec: {", "spec: {exportPolicies: [only], ");
        bench.files().write("resources/only.yaml", &policy).unwrap();
        bench.files().write("resources/peer.yaml", &peer).unwrap();
        site.apply(N1).unwrap();
        site.until(SOON, "the router has these alone", || {
            let found = at_the_router(site)?;
            ensure!(found == *expected, "{source}: {found:?}");
            Ok(())
        })
        .unwrap();
    }
}

/// Another AS of the cluster takes other sessions; the agent goes on, and the node's routes stay meanwhile.
#[test]
fn another_as_of_the_cluster_takes_other_sessions() {
    let files = files();
    files
        .replace("agent.toml", "as_number = 65111\n", "")
        .unwrap();
    files
        .replace("bgpd.toml", "asNumber = 65111", "asNumber = \"external\"")
        .unwrap();
    files
        .replace(
            "bgpd.toml",
            "networks = [",
            "networks = [\"10.244.200.0/26\", ",
        )
        .unwrap();
    let bgp = |asn: u32| {
        format!(
            "apiVersion: roadbed.dev/v1alpha1\nkind: BGPConfig\nmetadata: {{name: default}}\nspec: {{asNumber: {asn}}}\n"
        )
    };
    files.write("resources/bgp.yaml", &bgp(65111)).unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    site.apply(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    let learned = || -> Result<()> {
        let kernel = site.run(N1, "ip route show proto 82 10.244.200.0/26")?;
        ensure!(kernel.contains("via 172.31.0.0"), "{kernel}");
        Ok(())
    };
    let paths = || -> Result<BTreeSet<String>> {
        let text = site.run("r1", "roadbedctl bgp rib --received n1 -o json")?;
        let routes = serde_json::from_str::<Routes>(&text)?.routes;
        Ok(routes
            .into_iter()
            .map(|route| route.attributes.as_path)
            .collect())
    };
    site.until(SOON, "the route is learned", learned).unwrap();
    assert_eq!(site.status(N1).unwrap().as_number, 65111);
    // Every moment of the change is looked at, as far as looking goes.
    let mut kept = true;
    bench
        .files()
        .write("resources/bgp.yaml", &bgp(65112))
        .unwrap();
    site.apply(N1).unwrap();
    site.until(SOON, "the router hears the other AS", || {
        kept &= learned().is_ok();
        let paths = paths()?;
        ensure!(paths == BTreeSet::from(["65112".to_owned()]), "{paths:?}");
        Ok(())
    })
    .unwrap();
    assert!(kept, "the route went meanwhile");
    assert_eq!(site.status(N1).unwrap().as_number, 65112);
    let starts = site.agent_log(N1).matches("agent started").count();
    assert_eq!(starts, 1, "the same agent");
    learned().unwrap();
}
