//! veth pairs, complete in the creating message.

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use std::os::fd::{AsFd, AsRawFd};

use crate::error::NetlinkError;
use crate::link::{Link, LinkTarget, check_ifname};
use crate::mac::MacAddr;
use crate::netns::NetNs;
use crate::socket::Netlink;

/// A veth pair to make: the near end in the socket's namespace, the peer here or elsewhere.
///
/// Addresses and MTU go into the creating message: an address left to chance is rewritten by udev a moment later, and
/// static neighbours then point at nobody.
#[derive(Debug, Clone)]
pub struct VethSpec<'a> {
    /// Name of the near end.
    pub name: &'a str,
    /// Ethernet address of the near end.
    pub mac: Option<MacAddr>,
    /// Name of the peer.
    pub peer_name: &'a str,
    /// Ethernet address of the peer.
    pub peer_mac: Option<MacAddr>,
    /// Namespace in which the peer is created; `None`: the socket's.
    pub peer_ns: Option<&'a NetNs>,
    /// MTU of both ends, in bytes; `None`: the kernel's default, 1500.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// Creates a veth pair, both ends down. Fails if either name is taken; the kernel then makes neither.
    /// Returns the near end; its `peer_ifindex` is the peer's, wherever that is.
    pub fn veth_create(&mut self, spec: &VethSpec<'_>) -> Result<Link, NetlinkError> {
        check_ifname("veth name", spec.name)?;
        check_ifname("veth peer name", spec.peer_name)?;
        let mut peer = end(spec.peer_name, spec.peer_mac, spec.mtu);
        if let Some(ns) = spec.peer_ns {
            peer.attributes
                .push(LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()));
        }
        let mut message = end(spec.name, spec.mac, spec.mtu);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let object = format_args!("{} (peer {})", spec.name, spec.peer_name);
        if let Some(link) = self.link_create(message, "create veth", &object)? {
            return Ok(link);
        }
        match self.link(LinkTarget::Name(spec.name)) {
            Ok(link) => Ok(link),
            Err(error) => {
                // The caller has no index to clean up with.
                let _ = self.link_delete(LinkTarget::Name(spec.name));
                Err(error)
            }
        }
    }
}

fn end(name: &str, mac: Option<MacAddr>, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
        .attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}
