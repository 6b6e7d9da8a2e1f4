//! What must be on the node, and nothing else: links, routes, neighbours, rules, ledger rows, notes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;
use serde_json::Value;

use crate::N1;

/// Longer than a reservation lives whose plugin was killed, and an audit.
const PATIENCE: Duration = Duration::from_secs(45);

/// Routing rules of both families.
pub(crate) fn rules(site: &Site) -> String {
    let v4 = site.run(N1, "ip -4 rule").unwrap();
    v4 + &site.run(N1, "ip -6 rule").unwrap()
}

/// Asserts that these pods are wired and known, and no others.
#[track_caller]
pub(crate) fn exactly(site: &Site, pods: &[Pod]) {
    let what = format!("exactly {} pods are there", pods.len());
    site.until(PATIENCE, what, || look(site, pods)).unwrap();
}

fn look(site: &Site, pods: &[Pod]) -> Result<()> {
    let by_link = |pod: &Pod| -> BTreeSet<(String, String)> {
        let link = pod.host_ifname();
        let pair = |address: &std::net::IpAddr| (link.clone(), address.to_string());
        pod.addresses.iter().map(pair).collect()
    };
    let expected: BTreeSet<(String, String)> = pods.iter().flat_map(by_link).collect();
    let links: BTreeSet<String> = json(site, "ip -j link")?
        .iter()
        .filter_map(|link| name(link, "ifname"))
        .collect();
    same("links", links, pods.iter().map(Pod::host_ifname).collect())?;
    let (mut routes, mut neighbours) = (BTreeSet::new(), BTreeSet::new());
    for family in ["-4", "-6"] {
        for route in json(site, &format!("ip -j {family} route show table main"))? {
            if let (Some(link), Some(to)) = (name(&route, "dev"), route["dst"].as_str()) {
                routes.insert((link, to.to_owned()));
            }
        }
        for entry in json(
            site,
            &format!("ip -j {family} neighbour show nud permanent"),
        )? {
            if let (Some(link), Some(to)) = (name(&entry, "dev"), entry["dst"].as_str()) {
                neighbours.insert((link, to.to_owned()));
            }
        }
    }
    same("routes", routes, expected.clone())?;
    same("neighbours", neighbours, expected)?;
    let known: BTreeMap<_, _> = site
        .attachments(N1)?
        .into_iter()
        .map(|attachment| {
            let addresses: BTreeSet<_> = attachment.addresses.into_iter().collect();
            (attachment.key, addresses)
        })
        .collect();
    let wanted: BTreeMap<_, BTreeSet<_>> = pods
        .iter()
        .map(|pod| (pod.key(), pod.addresses.iter().copied().collect()))
        .collect();
    ensure!(known == wanted, "ledger: {known:?}\nexpected: {wanted:?}");
    let in_use: u64 = site.ipam(N1)?.blocks.iter().map(|block| block.in_use).sum();
    ensure!(in_use == 2 * pods.len() as u64, "{in_use} addresses in use");
    let notes = site.path(N1, "/run/roadbed/notes")?;
    let left: Vec<_> = fs::read_dir(notes)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    ensure!(left.is_empty(), "notes: {left:?}");
    Ok(())
}

/// Asserts that each pod is reached from the node.
#[track_caller]
pub(crate) fn talk(site: &Site, pods: &[Pod]) {
    for address in pods.iter().flat_map(|pod| &pod.addresses) {
        site.run(N1, &format!("ping -n -c 1 -W 5 {address}"))
            .unwrap();
    }
}

fn json(site: &Site, line: &str) -> Result<Vec<Value>> {
    let text = site.run(N1, line)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).with_context(|| format!("{line}: {text}"))
}

/// A field that names one of our links.
fn name(value: &Value, field: &str) -> Option<String> {
    let name = value[field].as_str()?;
    name.starts_with("rb").then(|| name.to_owned())
}

fn same<T: Ord + std::fmt::Debug>(
    what: &str,
    found: BTreeSet<T>,
    expected: BTreeSet<T>,
) -> Result<()> {
    let missing: Vec<&T> = expected.difference(&found).collect();
    let extra: Vec<&T> = found.difference(&expected).collect();
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "{what}: {missing:?} missing, {extra:?} left over"
    );
    Ok(())
}
