//! The kernel beside what an attachment should be: every difference in words. Changes nothing, asks no agent.

use std::net::IpAddr;

use ipnet::IpNet;
use roadbed_hostnet::{
    Link, MacAddr, Neighbour, Netlink, NetlinkError, Route, RouteFilter, SourceRule,
};

use crate::wire::further_table;

/// What is expected of a wired attachment; CHECK knows less than a repeated ADD.
pub(crate) struct Expected<'a> {
    pub(crate) host_ifname: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) host_mac: Option<MacAddr>,
    pub(crate) pod_ifname: &'a str,
    pub(crate) pod_mac: Option<MacAddr>,
    /// MTU of the host's end and of the pod's, bytes.
    pub(crate) mtu: [Option<u32>; 2],
    /// Address and gateway.
    pub(crate) addresses: &'a [(IpNet, Option<IpAddr>)],
}

/// Compares the kernel with `expected`; every difference in words, none if all is well.
pub(crate) fn differences(
    expected: &Expected<'_>,
    host: &mut Netlink,
    pod: &mut Netlink,
) -> Result<Vec<String>, NetlinkError> {
    let mut found = Vec::new();
    let host_link = host.link_by_name(expected.host_ifname)?;
    let pod_link = pod.link_by_name(expected.pod_ifname)?;
    let ends = [
        (
            "host interface",
            expected.host_ifname,
            &host_link,
            expected.host_mac,
        ),
        (
            "interface",
            expected.pod_ifname,
            &pod_link,
            expected.pod_mac,
        ),
    ];
    for ((what, name, link, mac), mtu) in ends.into_iter().zip(expected.mtu) {
        match link {
            None => found.push(format!("{what} {name} is missing")),
            Some(link) => compare_end(what, link, mac, mtu, &mut found),
        }
    }
    if let Some(link) = host_link
        .as_ref()
        .filter(|link| link.alias.as_deref() != Some(expected.alias))
    {
        found.push(format!(
            "host interface {} has alias {:?}, not {:?}",
            link.name, link.alias, expected.alias
        ));
    }
    if let (Some(near), Some(far)) = (&host_link, &pod_link)
        && (near.peer_ifindex, far.peer_ifindex) != (Some(far.ifindex), Some(near.ifindex))
    {
        found.push(format!(
            "{} and {} are not the two ends of one veth",
            near.name, far.name
        ));
    }
    if let Some(link) = &pod_link {
        let host_mac = expected
            .host_mac
            .or_else(|| host_link.as_ref().and_then(|link| link.mac));
        compare_pod_side(expected, pod, link, host_mac, &mut found)?;
    }
    if let Some(link) = &host_link {
        let pod_mac = pod_link.as_ref().and_then(|link| link.mac);
        compare_host_side(
            expected,
            host,
            link,
            expected.pod_mac.or(pod_mac),
            &mut found,
        )?;
    }
    Ok(found)
}

fn compare_end(
    what: &str,
    link: &Link,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
    found: &mut Vec<String>,
) {
    let name = &link.name;
    if !link.up {
        found.push(format!("{what} {name} is down"));
    }
    if let Some(expected) = mac.filter(|mac| link.mac != Some(*mac)) {
        let actual = link.mac.map_or("none".to_owned(), |mac| mac.to_string());
        found.push(format!(
            "{what} {name} has address {actual}, not {expected}"
        ));
    }
    if let Some(expected) = mtu.filter(|mtu| link.mtu != *mtu) {
        found.push(format!(
            "{what} {name} has MTU {}, not {expected}",
            link.mtu
        ));
    }
}

fn compare_pod_side(
    expected: &Expected<'_>,
    pod: &mut Netlink,
    link: &Link,
    host_mac: Option<MacAddr>,
    found: &mut Vec<String>,
) -> Result<(), NetlinkError> {
    let addresses = pod.addrs(Some(link.ifindex))?;
    let routes = pod.routes(RouteFilter {
        ifindex: Some(link.ifindex),
        ..RouteFilter::default()
    })?;
    let neighbours = pod.neighs(Some(link.ifindex))?;
    let table = further_table(link.ifindex);
    let further = routes.iter().any(|route| route.table == table);
    let rules = if further { pod.rules()? } else { Vec::new() };
    for (net, gateway) in expected.addresses {
        let ruled = |rule: &SourceRule| rule.from == net.addr() && rule.table == table;
        if further && !rules.iter().any(ruled) {
            found.push(format!(
                "the rule that what is from {} takes {} is missing",
                net.addr(),
                link.name
            ));
        }
        if !addresses
            .iter()
            .any(|address| address.net == *net && !address.dad_failed)
        {
            found.push(format!("address {net} is missing on {}", link.name));
        }
        let Some(gateway) = gateway else { continue };
        let default = Route::default_via(*gateway, link.ifindex);
        let has = |dst: IpNet, gateway: Option<IpAddr>| {
            routes.iter().any(|r| r.dst == dst && r.gateway == gateway)
        };
        if !has(default.dst, Some(*gateway)) {
            found.push(format!(
                "route {} via {gateway} is missing on {}",
                default.dst, link.name
            ));
        }
        if gateway.is_ipv4() && !has(IpNet::from(*gateway), None) {
            found.push(format!("route {gateway} is missing on {}", link.name));
        }
        compare_neighbour(&neighbours, *gateway, host_mac, &link.name, found);
    }
    Ok(())
}

fn compare_host_side(
    expected: &Expected<'_>,
    host: &mut Netlink,
    link: &Link,
    pod_mac: Option<MacAddr>,
    found: &mut Vec<String>,
) -> Result<(), NetlinkError> {
    let neighbours = host.neighs(Some(link.ifindex))?;
    for (net, _) in expected.addresses {
        let address = net.addr();
        // Asked as a packet would ask: a route that is there and hidden by another one does not help.
        let way = host.route_get(address)?.and_then(|route| route.ifindex);
        if way != Some(link.ifindex) {
            let instead = match way {
                Some(index) => host.link_by_index(index)?,
                None => None,
            };
            let instead = instead.map_or("nowhere".to_owned(), |link| link.name);
            found.push(format!(
                "the host's route to {address} leads to {instead}, not to {}",
                link.name
            ));
        }
        compare_neighbour(&neighbours, address, pod_mac, &link.name, found);
    }
    Ok(())
}

/// Nobody asks for the other end's Ethernet address: without the entry, or with a wrong one, packets are lost.
fn compare_neighbour(
    neighbours: &[Neighbour],
    ip: IpAddr,
    mac: Option<MacAddr>,
    link: &str,
    found: &mut Vec<String>,
) {
    let problem = match neighbours.iter().find(|n| n.ip == ip && n.permanent) {
        None => "is missing".to_owned(),
        Some(entry) if mac.is_some() && entry.mac != mac => {
            let shown = |mac: Option<MacAddr>| mac.map_or("none".to_owned(), |m| m.to_string());
            format!("points to {}, not to {}", shown(entry.mac), shown(mac))
        }
        Some(_) => return,
    };
    found.push(format!("the static neighbour {ip} on {link} {problem}"));
}
