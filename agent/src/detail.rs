//! One attachment beside what the kernel has of it, and what is wrong with that.

use roadbed_api::agent::{
    Attachment, AttachmentDetail, AttachmentKey, AttachmentState, LinkReport, NeighbourReport,
    TrafficCounters,
};
use roadbed_api::names::{attachment_mac, host_ifname, ifalias};
use roadbed_hostnet::{Counters, Link, LinkTarget, MacAddr, Netlink, NetlinkError};

use crate::kernel;

/// Reads the kernel; blocks.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn look(attachment: Attachment) -> Result<AttachmentDetail, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mark = ifalias(&attachment.key);
    let marked = |link: &Link| link.alias.as_deref() == Some(mark.as_str());
    let named = netlink.link_by_name(&host_ifname(&attachment.key))?;
    let host = match named.filter(marked) {
        Some(link) => Some(link),
        None => netlink.link_by_alias(&mark)?,
    };
    let mut detail = AttachmentDetail {
        attachment,
        host: host.as_ref().map(report),
        peer: None,
        routes: Vec::new(),
        neighbours: Vec::new(),
        from_pod: TrafficCounters::default(),
        to_pod: TrafficCounters::default(),
        problems: Vec::new(),
    };
    let mut peer = None;
    if let Some(link) = &host {
        peer = netlink.link_peer(link)?;
        detail.peer = peer.as_ref().map(report);
        let addresses = kernel::addresses_over(&mut netlink, link.ifindex)?;
        detail.routes = addresses.into_iter().map(Into::into).collect();
        let neighbours = netlink.neighs(Some(link.ifindex))?.into_iter();
        detail.neighbours = neighbours
            // What the kernel keeps for groups is computed, not known.
            .filter(|n| !n.ip.is_multicast())
            .map(|n| NeighbourReport {
                address: n.ip,
                mac: n.mac.map(|mac| mac.to_string()),
                permanent: n.permanent,
            })
            .collect();
        // The host receives what the pod sends.
        let (from_pod, to_pod) = netlink.link_counters(LinkTarget::Index(link.ifindex))?;
        detail.from_pod = traffic(from_pod);
        detail.to_pod = traffic(to_pod);
    }
    detail.problems = problems(&detail, host.as_ref(), peer.as_ref());
    Ok(detail)
}

fn report(link: &Link) -> LinkReport {
    LinkReport {
        name: link.name.clone(),
        ifindex: link.ifindex,
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: link.mtu,
        up: link.up,
        running: link.running,
    }
}

fn traffic(counters: Counters) -> TrafficCounters {
    TrafficCounters {
        packets: counters.packets,
        octets: counters.octets,
        dropped: counters.dropped,
        errors: counters.errors,
    }
}

fn problems(detail: &AttachmentDetail, host: Option<&Link>, peer: Option<&Link>) -> Vec<String> {
    let AttachmentDetail { attachment, .. } = detail;
    let key: &AttachmentKey = &attachment.key;
    let mut found = Vec::new();
    if attachment.state == AttachmentState::Wiring {
        found.push("the plugin has not finished: ADD is under way, or it was killed".to_owned());
    }
    let Some(host) = host else {
        found.push(format!("no link has the alias {}", ifalias(key)));
        return found;
    };
    let mac = MacAddr(attachment_mac(key, 0));
    if host.mac != Some(mac) {
        let actual = host.mac.map_or("none".to_owned(), |mac| mac.to_string());
        found.push(format!(
            "the host end's address is {actual}, not {mac}: the pod sends to nobody"
        ));
    }
    if !host.up {
        found.push("the host end is down".to_owned());
    }
    match peer {
        None => found.push("the pod's end is in no namespace that the kernel knows".to_owned()),
        Some(peer) if !peer.up => found.push("the pod's end is down".to_owned()),
        Some(peer) if peer.mtu != host.mtu => {
            found.push(format!(
                "MTU {} in the pod, {} on the host",
                peer.mtu, host.mtu
            ));
        }
        Some(_) => {}
    }
    for address in &attachment.addresses {
        if !detail.routes.iter().any(|route| route.addr() == *address) {
            found.push(format!("no route to {address}"));
        }
        let entry = detail
            .neighbours
            .iter()
            .find(|n| n.address == *address && n.permanent);
        let pod = peer.and_then(|peer| peer.mac).map(|mac| mac.to_string());
        match entry {
            None => found.push(format!("no permanent neighbour {address}")),
            Some(entry) if pod.is_some() && entry.mac != pod => found.push(format!(
                "the neighbour {address} is at {}, the pod's end has {}",
                entry.mac.as_deref().unwrap_or("no address"),
                pod.as_deref().unwrap_or("none")
            )),
            Some(_) => {}
        }
    }
    found
}
