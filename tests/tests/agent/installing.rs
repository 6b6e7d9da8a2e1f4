//! The plugin's binary and the network configuration: put in place, kept, taken away.

use std::path::PathBuf;

use anyhow::ensure;
use nix::sys::signal::Signal;
use roadbed_tests::site::Site;
use serde_json::Value;

use crate::{N1, SOON, check_contains, fails, files};

/// Below `/run`, which each node has of its own.
const TABLE: &str = "[cni]
bin_dir = \"/run/cni/bin\"
conf_dir = \"/run/cni/net.d\"
network = \"pods\"
[store]";
const CONFLIST: &str = "/run/cni/net.d/05-roadbed.conflist";

fn conflist(site: &Site) -> PathBuf {
    site.path(N1, CONFLIST).unwrap()
}

fn written(site: &Site) -> Value {
    site.until(SOON, "the network configuration is written", || {
        Ok(serde_json::from_slice(&std::fs::read(conflist(site))?)?)
    })
    .unwrap()
}

fn types(list: &Value) -> Vec<&str> {
    let plugins = list["plugins"].as_array().unwrap();
    plugins
        .iter()
        .map(|p| p["type"].as_str().unwrap())
        .collect()
}

#[test]
fn a_node_gets_its_network_configuration_when_pods_can_be_started() {
    let files = files();
    files.replace("agent.toml", "[store]", TABLE).unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    let installed = site.run(N1, "roadbed-agent install-cni").unwrap();
    check_contains(&installed, &["/run/cni/bin/roadbed: installed"]);
    site.until(SOON, "the agent answers", || {
        ensure!(site.agent(N1)?.probe("/livez")?.ok, "not alive");
        Ok(())
    })
    .unwrap();
    // It has no block yet.
    assert!(!conflist(site).exists());
    site.apply(N1).unwrap();
    let list = written(site);
    assert_eq!(types(&list), ["roadbed"]);
    assert_eq!(list["name"], "pods");
    assert_eq!(list["plugins"][0]["runDir"], "/run/roadbed");
    assert_eq!(list["cniVersion"], "1.0.0");
    // Whoever deletes it does so in vain, and a plugin that comes later is chained.
    std::fs::write(site.path(N1, "/run/cni/bin/portmap").unwrap(), "").unwrap();
    std::fs::remove_file(conflist(site)).unwrap();
    assert_eq!(types(&written(site)), ["roadbed", "portmap"]);

    // A running agent would write it again.
    let refused = fails(site, &["roadbed-agent", "uninstall-cni"]);
    check_contains(&refused, &["another roadbed-agent", "stop it"]);
    // Over a plugin that is in use.
    site.run(N1, "roadbed-agent install-cni").unwrap();
    bench.end(N1, Signal::SIGTERM).unwrap();
    assert!(conflist(site).exists(), "an upgrade is no reason to go");
    site.lab().start_main(N1).unwrap();
    site.ready(N1).unwrap();
    bench.kill(N1).unwrap();
    assert!(conflist(site).exists());
    let removed = site.run(N1, "roadbed-agent uninstall-cni").unwrap();
    check_contains(
        &removed,
        &["05-roadbed.conflist: removed", "bin/roadbed: removed"],
    );
    assert!(!conflist(site).exists());
    let left = site.run(N1, "ls -A /run/cni/bin /run/cni/net.d").unwrap();
    assert!(
        left.contains("portmap") && !left.contains("roadbed"),
        "{left}"
    );
    assert_eq!(site.run(N1, "roadbed-agent uninstall-cni").unwrap(), "");
}
