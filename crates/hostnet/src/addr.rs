//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::change::Change;
use crate::channel::Asked;
use crate::error::{NetlinkError, absent_is_false};
use crate::socket::Netlink;

const RTM_NEWADDR: u16 = 20;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub ifindex: u32,
    /// Address and prefix length; host bits are kept.
    pub net: IpNet,
    /// IPv6: duplicate address detection is still running, so the address cannot be used yet.
    pub tentative: bool,
    /// IPv6: duplicate address detection failed, so the address is never used.
    pub dad_failed: bool,
}

impl Netlink {
    /// Adds an address; fails if the link has it. IPv6: without duplicate address detection (IFA_F_NODAD),
    /// yet usable only once [`Self::addr_wait_local`] says so.
    pub fn addr_add(&mut self, ifindex: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.make(Change::addr_add(ifindex, net))
    }

    /// Adds an address if the link does not have it.
    pub fn addr_ensure(&mut self, ifindex: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.make(new(ifindex, net, NLM_F_CREATE | NLM_F_REPLACE))
    }

    /// Removes an address; `false` if the link (or the address on it) does not exist.
    pub fn addr_del(&mut self, ifindex: u32, net: IpNet) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(message(ifindex, net));
        let object = format_args!("{net} on link index {ifindex}");
        absent_is_false(self.change(
            message,
            0,
            Asked {
                op: "delete address",
                object: &object,
            },
        ))
    }

    /// Addresses of one link, or of all, both families.
    pub fn addrs(&mut self, ifindex: Option<u32>) -> Result<Vec<Address>, NetlinkError> {
        let asked = Asked {
            op: "list",
            object: &"addresses",
        };
        let mut request = AddressMessage::default();
        request.header.index = ifindex.unwrap_or(0);
        let mut addresses = Vec::new();
        for (kind, payload) in self.dump(RouteNetlinkMessage::GetAddress(request), asked)? {
            if kind == RTM_NEWADDR {
                let message = AddressMessage::parse(&payload).map_err(|e| asked.decode(e))?;
                addresses.extend(decode(&message));
            }
        }
        Ok(addresses)
    }
}

impl Change {
    /// See [`Netlink::addr_add`].
    pub fn addr_add(ifindex: u32, net: IpNet) -> Self {
        new(ifindex, net, NLM_F_CREATE | NLM_F_EXCL)
    }
}

fn new(ifindex: u32, net: IpNet, flags: u16) -> Change {
    let mut message = message(ifindex, net);
    if net.addr().is_ipv6() {
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Change::new(
        RouteNetlinkMessage::NewAddress(message),
        flags,
        "add address",
        format_args!("{net} on link index {ifindex}"),
    )
}

fn message(ifindex: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = net.prefix_len();
    message.header.family = family(net.addr());
    message.header.scope = match net.addr() {
        IpAddr::V4(v4) if v4.is_loopback() => AddressScope::Host,
        IpAddr::V4(v4) if v4.is_link_local() => AddressScope::Link,
        _ => AddressScope::Universe,
    };
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    message
}

fn decode(message: &AddressMessage) -> Option<Address> {
    // IFA_ADDRESS is the remote end on point-to-point IPv4 links; IFA_LOCAL is always ours where it exists.
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    Some(Address {
        ifindex: message.header.index,
        net: IpNet::new(local.or(address)?, message.header.prefix_len).ok()?,
        tentative: flags.contains(AddressFlags::Tentative),
        dad_failed: flags.contains(AddressFlags::Dadfailed),
    })
}

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
