//! The recipes of docs/bgp.md, run as they stand there.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{Pair, SOON};

const DOC: &str = include_str!("../../../docs/bgp.md");

/// The blocks of a language below a heading.
#[track_caller]
fn blocks(heading: &str, language: &str) -> Vec<&'static str> {
    let (_, rest) = DOC.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let parts = section.split(&fence).skip(1);
    let found: Vec<_> = parts
        .map(|part| part.split("```").next().unwrap())
        .collect();
    assert!(!found.is_empty(), "{heading} has no block of {language}");
    found
}

/// Loopbacks on both sides, and the ways to them.
fn with_loopbacks(ours: &str, theirs: &str) -> Pair {
    let pair = Pair::new();
    pair.us.add_address("lo", &format!("{ours}/32")).unwrap();
    pair.peer
        .add_address("lo", &format!("{theirs}/32"))
        .unwrap();
    pair.us
        .run(&format!("ip route add {theirs} via 10.99.0.2"))
        .unwrap();
    pair.peer
        .run(&format!("ip route add {ours} via 10.99.0.1"))
        .unwrap();
    pair
}

fn speaker(pair: &Pair, file: &str) -> Bgpd {
    Bgpd::start(&pair.us, pair.dir(), file).unwrap()
}

#[track_caller]
fn learns(pair: &Pair, prefix: &str, via: &str) {
    eventually(SOON, &format!("{prefix} is learned"), || {
        let found = routes(&pair.us, PROTOCOL).map_err(|e| e.to_string())?;
        let right = found.get(prefix).is_some_and(|found| found == via);
        right.then_some(()).ok_or(format!("{found:?}"))
    });
}

#[test]
fn an_ibgp_mesh() {
    let heading = "An iBGP mesh";
    let pair = with_loopbacks("10.255.0.1", "10.255.0.2");
    let bird = Bird::start(&pair.peer, pair.dir(), blocks(heading, "bird")[0]).unwrap();
    let _speaker = speaker(&pair, blocks(heading, "toml")[0]);
    learns(&pair, "10.2.0.0/24", "via 10.99.0.2 dev eth0");
    eventually(SOON, "BIRD has our network", || {
        bird.shows("show route all 10.1.0.0/24", &["BGP.next_hop: 10.255.0.1"])
    });
}

#[test]
fn a_route_reflector_and_a_client_on_frr() {
    let heading = "Route reflectors";
    let pair = with_loopbacks("10.255.0.1", "10.255.1.7");
    // FRR's network statement wants the route to be there.
    pair.peer.run("ip route add blackhole 10.7.0.0/24").unwrap();
    let _frr = Frr::start(&pair.peer, pair.dir(), blocks(heading, "frr")[0]).unwrap();
    let mut speaker = speaker(&pair, blocks(heading, "toml")[0]);
    eventually(SOON, "the client's network is in the RIB", || {
        speaker.process().alive()?;
        let said = speaker.ctl("bgp routes 10.7.0.0/24")?;
        anyhow::ensure!(said.contains("clients/10.255.1.7"), "{said}");
        Ok(())
    });
    throughout(Duration::from_secs(1), "installRoutes = false", || {
        let kernel = routes(&pair.us, PROTOCOL).map_err(|e| e.to_string())?;
        kernel.is_empty().then_some(()).ok_or(format!("{kernel:?}"))
    });
}

#[test]
fn a_reflector_of_several_paths_and_a_client_on_bird() {
    let heading = "Route reflectors";
    let pair = with_loopbacks("10.255.0.1", "10.255.1.8");
    let bird = Bird::start(&pair.peer, pair.dir(), blocks(heading, "bird")[0]).unwrap();
    let mut speaker = speaker(&pair, blocks(heading, "toml")[1]);
    eventually(SOON, "the session has several paths both ways", || {
        speaker.process().alive()?;
        bird.shows("show protocols all reflector", &["Established", "ADD-PATH"])?;
        let said = speaker.ctl("bgp peer clients/10.255.1.8")?;
        anyhow::ensure!(said.to_lowercase().contains("add-path"), "{said}");
        Ok(())
    });
}

/// The link has no IPv4 address.
fn ipv6_link() -> Pair {
    let pair = Pair::new();
    for (ns, address) in [(&pair.us, "fd00:31::2/64"), (&pair.peer, "fd00:31::1/64")] {
        ns.run("ip address flush dev eth0 scope global").unwrap();
        ns.run(&format!("ip address add {address} dev eth0 nodad"))
            .unwrap();
    }
    pair
}

#[test]
fn peering_over_ipv6_with_frr() {
    let heading = "Peering over IPv6";
    let pair = ipv6_link();
    let frr = Frr::start(&pair.peer, pair.dir(), blocks(heading, "frr")[0]).unwrap();
    let _speaker = speaker(&pair, blocks(heading, "toml")[0]);
    for line in [
        "show bgp ipv4 unicast 10.1.0.0/24 json",
        "show bgp ipv6 unicast fd00:1::/64 json",
    ] {
        eventually(SOON, "FRR has our networks", || {
            frr.shows(line, &["65001", "fd00:31::2"])
        });
    }
}

#[test]
fn peering_over_ipv6_with_bird() {
    let heading = "Peering over IPv6";
    let pair = ipv6_link();
    pair.peer.add_address("lo", "10.3.0.1/24").unwrap();
    let bird = Bird::start(&pair.peer, pair.dir(), blocks(heading, "bird")[0]).unwrap();
    let _speaker = speaker(&pair, blocks(heading, "toml")[0]);
    for prefix in ["10.1.0.0/24", "fd00:1::/64"] {
        eventually(SOON, "BIRD has our networks", || {
            let line = format!("show route all {prefix}");
            bird.shows(&line, &["BGP.as_path: 65001", "BGP.next_hop: fd00:31::2"])
        });
    }
    learns(&pair, "10.3.0.0/24", "via fd00:31::1 dev eth0");
}

/// The ToR takes blocks and loopbacks of its rack's nodes and nothing else. The nodes of the recipe are agents; the lab
/// two-racks has a whole fabric of this.
#[test]
fn the_tor_of_a_leaf_and_spine_fabric() {
    let heading = "Leaf and spine with eBGP";
    let pair = Pair::new();
    pair.us.add_address("eth0", "172.31.1.11/24").unwrap();
    pair.peer.add_address("eth0", "172.31.1.1/24").unwrap();
    let frr = Frr::start(&pair.peer, pair.dir(), blocks(heading, "frr")[0]).unwrap();
    let node = "[bgp]\nasNumber = 65111\nrouterId = \"10.255.0.11\"\n\
                [peers.tor]\naddress = \"172.31.1.1\"\nasNumber = 65101\n\
                holdTimeSeconds = 9\nconnectRetrySeconds = 1\n\
                [router]\nnetworks = [\"10.244.60.64/26\", \"10.255.0.11/32\", \"10.9.0.0/24\", \"10.244.0.0/16\"]\n";
    let _speaker = speaker(&pair, node);
    for prefix in ["10.244.60.64/26", "10.255.0.11/32"] {
        let line = format!("show bgp ipv4 unicast {prefix} json");
        eventually(SOON, "the ToR has it", || frr.shows(&line, &["65111"]));
    }
    let all = frr.cli("show bgp ipv4 unicast json").unwrap();
    assert!(!all.contains("10.9.0.0/24"), "{all}");
    assert!(!all.contains("\"10.244.0.0/16\""), "{all}");
}
