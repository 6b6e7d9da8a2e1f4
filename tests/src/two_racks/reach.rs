//! Who reaches whom: pings, and TCP transfers whose receiver says whom it saw.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};

use super::NODES;
use crate::pod::{Listener, Pod};
use crate::probe::{BYTES, Sent};
use crate::site::{Site, json_lines};

/// Where a probe starts.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// Inside a pod.
    Pod(&'a Pod),
    /// On a node itself.
    Node(&'a str),
}

impl From<'_> {
    fn name(&self) -> &str {
        match self {
            From::Pod(pod) => &pod.name,
            From::Node(node) => node,
        }
    }

    fn exec(&self, site: &Site, argv: &[&str]) -> Result<String> {
        match self {
            From::Pod(pod) => pod.exec(site, argv),
            From::Node(node) => site.exec(node, argv),
        }
    }
}

/// Pings each address once.
///
/// # Errors
/// With those that do not answer within two seconds.
pub fn ping(site: &Site, from: From<'_>, targets: &[IpAddr]) -> Result<()> {
    let list: Vec<String> = targets.iter().map(ToString::to_string).collect();
    // One shell for all of them; it names those that fail.
    let script = format!(
        "for a in {}; do ping -n -q -c 1 -W 2 $a >/dev/null 2>&1 || echo $a; done",
        list.join(" ")
    );
    let silent = from.exec(site, &["sh", "-c", &script])?;
    ensure!(
        silent.trim().is_empty(),
        "{} pings without an answer: {}",
        from.name(),
        silent.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    Ok(())
}

/// Sends a MiB to each address over TCP; there must be listeners. `own`: the addresses that receivers must see,
/// IPv4 and IPv6.
///
/// # Errors
/// When a transfer fails, arrives damaged, or comes from another address than `own`.
pub fn transfer(site: &Site, from: From<'_>, own: [IpAddr; 2], targets: &[IpAddr]) -> Result<()> {
    let helper = site.helper();
    let list: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let mut argv = vec![helper.as_str(), "probe", "send"];
    argv.extend(list.iter().map(String::as_str));
    let sent: Vec<Sent> = json_lines(&from.exec(site, &argv)?)?;
    ensure!(
        sent.len() == targets.len(),
        "{}: {} of {} transfers tried",
        from.name(),
        sent.len(),
        targets.len()
    );
    for Sent { to, outcome } in sent {
        let route = || format!("TCP from {} to {to}", from.name());
        let verdict = match outcome {
            Ok(verdict) => verdict,
            Err(error) => bail!("{}: {error}", route()),
        };
        let expected = own[usize::from(to.is_ipv6())];
        ensure!(
            verdict.intact && verdict.bytes == BYTES,
            "{}: {} bytes of {BYTES} arrived, intact: {}",
            route(),
            verdict.bytes,
            verdict.intact
        );
        ensure!(
            verdict.seen == expected,
            "{}: the receiver saw {} instead of {expected}",
            route(),
            verdict.seen
        );
    }
    Ok(())
}

/// Every pod to every other pod, both families: ping, and TCP whose receiver sees the sending pod's own address.
///
/// # Errors
/// The first probe that fails.
pub fn pods_to_pods(site: &Site, pods: &[Pod]) -> Result<String> {
    let _listeners = listeners(site, pods)?;
    let probe = |pod: &Pod| {
        let others: Vec<IpAddr> = pods
            .iter()
            .filter(|other| other.name != pod.name)
            .flat_map(|other| other.addresses.clone())
            .collect();
        let own = [pod.address(false)?, pod.address(true)?];
        ping(site, From::Pod(pod), &others)?;
        transfer(site, From::Pod(pod), own, &others)
    };
    together(pods, probe)?;
    let pairs = pods.len() * (pods.len() - 1);
    Ok(format!(
        "{pairs} pairs, ping and 1 MiB over TCP, IPv4 and IPv6; each receiver saw the pod's own address"
    ))
}

/// Every node to every pod and every pod to every node, both families; pods see a node's loopback.
///
/// # Errors
/// The first probe that fails.
pub fn nodes_and_pods(site: &Site, pods: &[Pod]) -> Result<String> {
    let _listeners = listeners(site, pods)?;
    let targets: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    together(&NODES, |node| {
        let own = [node.loopback(false), node.loopback(true)];
        ping(site, From::Node(node.name), &targets)?;
        transfer(site, From::Node(node.name), own, &targets)
    })?;
    let loopbacks: Vec<IpAddr> = NODES
        .iter()
        .flat_map(|node| [node.loopback(false), node.loopback(true)])
        .collect();
    together(pods, |pod| ping(site, From::Pod(pod), &loopbacks))?;
    Ok(format!(
        "{} nodes, {} pods, both ways, IPv4 and IPv6; pods see the node's loopback",
        NODES.len(),
        pods.len()
    ))
}

fn listeners(site: &Site, pods: &[Pod]) -> Result<Vec<Listener>> {
    pods.iter().map(|pod| pod.listen(site)).collect()
}

/// The same work for each, at the same time; the first error.
fn together<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(|| work(item)))
            .collect();
        let mut results = threads.into_iter().map(|thread| {
            thread
                .join()
                .ok()
                .context("a probe's thread panicked")
                .and_then(|outcome| outcome)
        });
        results.find(Result::is_err).unwrap_or(Ok(()))
    })
}
