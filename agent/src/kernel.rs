//! What the agent does with links and neighbours: blocking calls, made on threads that may block. Routes are `fib`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use roadbed_api::agent::AttachmentKey;
use roadbed_api::names::{
    HOST_IFNAME_PREFIX, ROUTE_PROTOCOL, attachment_mac, host_ifname, ifalias, parse_ifalias,
};
use roadbed_hostnet::{
    Change, Ipv4Conf, Link, LinkTarget, MacAddr, Netlink, NetlinkError, RouteFilter, TABLE_MAIN,
};
use roadbed_ipam::{KernelAttachment, Row};

/// MTU where no link says otherwise (Ethernet).
pub const DEFAULT_MTU: u32 = 1500;

/// Protocol of routes that the kernel made of router advertisements (`RTPROT_RA`).
const ROUTER_ADVERTISEMENT: u8 = 9;
/// Settings of host ends. By netlink, since a container without privileges sees `/proc/sys` read-only.
const HOST_END: [(Ipv4Conf, u32); 4] = [
    // A host whose forwarding was switched on interface by interface gives new ones none.
    (Ipv4Conf::Forwarding, 1),
    (Ipv4Conf::AcceptRedirects, 0),
    (Ipv4Conf::SendRedirects, 0),
    // Neighbours are permanent: an answer would be needed by nobody, and each question makes an entry of its sender.
    (Ipv4Conf::ArpIgnore, 8),
];

/// The attachments that the kernel has: links with our alias, and the pod routes over them.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn attachments() -> Result<Vec<KernelAttachment>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let filter = RouteFilter {
        table: Some(TABLE_MAIN),
        protocol: Some(ROUTE_PROTOCOL),
        ifindex: None,
    };
    for route in netlink.routes(filter)? {
        let host = route.dst.prefix_len() == route.dst.max_prefix_len();
        if let (true, None, Some(ifindex)) = (host, route.gateway, route.ifindex) {
            addresses.entry(ifindex).or_default().push(route.dst.addr());
        }
    }
    // By alias alone: a link that somebody renamed is still the pod's.
    let links = netlink.links("")?;
    Ok(links
        .into_iter()
        .filter_map(|link| {
            Some(KernelAttachment {
                key: parse_ifalias(link.alias.as_deref()?)?,
                addresses: addresses.remove(&link.ifindex).unwrap_or_default(),
                host_ifname: link.name,
                host_ifindex: link.ifindex,
            })
        })
        .collect())
}

/// Destinations of the /32 and /128 routes over one link: the addresses of its pod.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses_over(netlink: &mut Netlink, ifindex: u32) -> Result<Vec<IpAddr>, NetlinkError> {
    let filter = RouteFilter {
        table: Some(TABLE_MAIN),
        protocol: Some(ROUTE_PROTOCOL),
        ifindex: Some(ifindex),
    };
    let routes = netlink.routes(filter)?.into_iter();
    let hosts =
        routes.filter(|r| r.gateway.is_none() && r.dst.prefix_len() == r.dst.max_prefix_len());
    Ok(hosts.map(|route| route.dst.addr()).collect())
}

/// Names of the links over which a router advertised an IPv6 default route.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn advertised_default_links() -> Result<Vec<String>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let filter = RouteFilter {
        table: Some(TABLE_MAIN),
        protocol: Some(ROUTER_ADVERTISEMENT),
        ifindex: None,
    };
    let routes = netlink.routes(filter)?.into_iter();
    let defaults = routes.filter(|route| route.dst.prefix_len() == 0 && route.dst.addr().is_ipv6());
    let links: BTreeSet<u32> = defaults.filter_map(|route| route.ifindex).collect();
    let mut names = Vec::new();
    for ifindex in links {
        names.extend(netlink.link_by_index(ifindex)?.map(|link| link.name));
    }
    Ok(names)
}

/// The smallest MTU of the links that lead out of the node.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn underlay_mtu() -> Result<u32, NetlinkError> {
    let links = Netlink::open()?.links("")?;
    let outside = links
        .iter()
        .filter(|link| {
            link.up
                && link.mac.is_some()
                && link.name != "lo"
                && !link.name.starts_with(HOST_IFNAME_PREFIX)
        })
        // A bridge of another tool leads nowhere by itself.
        .filter(|link| {
            link.kind
                .as_deref()
                .is_none_or(|kind| kind == "veth" || kind == "bond" || kind == "vlan")
        });
    Ok(outside.map(|link| link.mtu).min().unwrap_or(DEFAULT_MTU))
}

/// Makes the host end speak to its pod: a permanent neighbour per address. The link must carry our mark.
///
/// # Errors
/// The link is gone or not ours, or the kernel refuses.
pub fn wire_host_end(row: &Row, ifindex: u32, pod_mac: MacAddr) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let link = netlink.link(LinkTarget::Index(ifindex))?;
    let mark = ifalias(&row.key);
    if link.alias.as_deref() != Some(mark.as_str()) {
        return Err(NetlinkError::NotOurs {
            name: link.name,
            ifindex,
            found: link.alias,
            expected: mark,
        });
    }
    let settings = Change::link_set_ipv4_conf(LinkTarget::Index(ifindex), &HOST_END)?;
    let addresses = row.addresses.iter();
    let neighbours = addresses.map(|ip| Change::neigh_replace(ifindex, *ip, pod_mac));
    let changes: Vec<Change> = [settings].into_iter().chain(neighbours).collect();
    netlink.make_all(&changes)?.into_iter().collect()
}

/// Whether a plugin made this link for that attachment and was killed before it could mark it: the kernel takes no alias in
/// the creating message. Name and Ethernet address are both made from the key.
fn is_unmarked(link: &Link, key: &AttachmentKey) -> bool {
    link.alias.is_none()
        && !link.up
        && link.kind.as_deref() == Some("veth")
        && link.name == host_ifname(key)
        && link.mac == Some(MacAddr(attachment_mac(key, 0)))
}

/// The indexes of the host ends of attachments, `None` where there is none, in the order of the keys. What a killed plugin could
/// not mark any more is marked now.
///
/// # Errors
/// The kernel cannot be asked.
pub fn host_ends(
    netlink: &mut Netlink,
    keys: &[AttachmentKey],
) -> Result<Vec<Option<u32>>, NetlinkError> {
    match keys {
        [key] => Ok(vec![host_end(netlink, key)?]),
        _ => host_ends_among_all(netlink, keys),
    }
}

/// Under its name, as a rule; somebody may have renamed it, and somebody else's link may have its name.
fn host_end(netlink: &mut Netlink, key: &AttachmentKey) -> Result<Option<u32>, NetlinkError> {
    let mark = ifalias(key);
    let link = match netlink.link_by_name(&host_ifname(key))? {
        Some(link) if link.alias.as_deref() == Some(mark.as_str()) => Some(link),
        Some(link) if is_unmarked(&link, key) => {
            netlink.link_set_alias(LinkTarget::Index(link.ifindex), &mark)?;
            Some(link)
        }
        _ => netlink.link_by_alias(&mark)?,
    };
    Ok(link.map(|link| link.ifindex))
}

fn host_ends_among_all(
    netlink: &mut Netlink,
    keys: &[AttachmentKey],
) -> Result<Vec<Option<u32>>, NetlinkError> {
    let listed = netlink.links("")?;
    let marks: Vec<String> = keys.iter().map(ifalias).collect();
    let mut by_mark: BTreeMap<&str, u32> = listed
        .iter()
        .filter_map(|link| Some((link.alias.as_deref()?, link.ifindex)))
        .collect();
    for link in listed.iter().filter(|link| link.alias.is_none()) {
        if let Some(place) = keys.iter().position(|key| is_unmarked(link, key)) {
            netlink.link_set_alias(LinkTarget::Index(link.ifindex), &marks[place])?;
            by_mark.insert(&marks[place], link.ifindex);
        }
    }
    let found = marks.iter().map(|mark| by_mark.get(mark.as_str()).copied());
    Ok(found.collect())
}

/// Identifies the boot: what the run directory holds counts within one.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Time since boot, suspended time included: the ledger's clock.
pub fn since_boot() -> std::time::Duration {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    nix::time::clock_gettime(clock)
        .map(Into::into)
        .unwrap_or_default()
}
