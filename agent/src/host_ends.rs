//! Follows host ends: what somebody (udev, an operator) changed about one is put right within a second. The pod's only neighbour is
//! the host end's Ethernet address, so a changed one cuts the pod off.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use roadbed_api::agent::AttachmentKey;
use roadbed_api::names::{attachment_mac, parse_ifalias};
use roadbed_hostnet::{Link, LinkMonitor, LinkNews, LinkTarget, MacAddr, Netlink, NetlinkError};

use crate::kernel;

/// Who changes an address again and again is answered this often at most.
const PAUSE: Duration = Duration::from_millis(200);
/// After a failure of the kernel's socket.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the thread that listens; it ends with the process.
///
/// # Errors
/// When the system gives no thread.
pub fn start() -> std::io::Result<()> {
    let run = || {
        loop {
            let Err(error) = follow();
            tracing::warn!(%error, "links cannot be followed, trying again");
            std::thread::sleep(RETRY);
        }
    };
    std::thread::Builder::new()
        .name("host-ends".into())
        .spawn(run)?;
    Ok(())
}

fn follow() -> Result<std::convert::Infallible, NetlinkError> {
    let mut monitor = LinkMonitor::open()?;
    let mut netlink = Netlink::open()?;
    // What was changed before we listened.
    mend_all(&mut netlink)?;
    loop {
        let news = monitor.wait()?;
        if news.contains(&LinkNews::Overrun) {
            mend_all(&mut netlink)?;
            continue;
        }
        let ours: BTreeSet<u32> = news
            .iter()
            .filter_map(|news| match news {
                LinkNews::Changed(link) => key_of(link).map(|_| link.ifindex),
                LinkNews::Gone(_) | LinkNews::Overrun => None,
            })
            .collect();
        if ours.is_empty() {
            continue;
        }
        // What happens to a link comes in several messages; one look is enough for them.
        std::thread::sleep(PAUSE);
        for ifindex in ours {
            if let Some(link) = netlink.link_by_index(ifindex)? {
                mend(&mut netlink, &link)?;
            }
        }
    }
}

fn mend_all(netlink: &mut Netlink) -> Result<(), NetlinkError> {
    for link in netlink.links("")? {
        mend(netlink, &link)?;
    }
    Ok(())
}

fn mend(netlink: &mut Netlink, link: &Link) -> Result<(), NetlinkError> {
    let Some(key) = key_of(link) else {
        return Ok(());
    };
    match set_right(netlink, link, &key) {
        // Its pod went meanwhile.
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn set_right(netlink: &mut Netlink, link: &Link, key: &AttachmentKey) -> Result<(), NetlinkError> {
    let mac = MacAddr(attachment_mac(key, 0));
    if link.mac != Some(mac) {
        netlink.link_set_mac(LinkTarget::Index(link.ifindex), mac)?;
        let found = link.mac.map_or("none".to_owned(), |mac| mac.to_string());
        tracing::warn!(dev = %link.name, %found, %mac, "somebody changed the address of a host end: set back");
    }
    // A changed address and a link set down take all neighbours with them, permanent ones too.
    let addresses = kernel::addresses_over(netlink, link.ifindex)?;
    if addresses.is_empty() {
        return Ok(());
    }
    let there = netlink.neighs(Some(link.ifindex))?;
    let missing = |ip: &IpAddr| !there.iter().any(|n| n.ip == *ip && n.permanent);
    let missing: Vec<IpAddr> = addresses.into_iter().filter(missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(pod) = netlink.link_peer(link)?.and_then(|peer| peer.mac) else {
        return Ok(());
    };
    for ip in missing {
        netlink.neigh_replace(link.ifindex, ip, pod)?;
        tracing::warn!(dev = %link.name, %ip, "a host end had lost its neighbour: set again");
    }
    Ok(())
}

fn key_of(link: &Link) -> Option<AttachmentKey> {
    parse_ifalias(link.alias.as_deref()?)
}
