//! Which link carries a local address, and what else is configured there. Pure over a dump of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

/// The link of a local address, with an address of each kind that can serve as a next hop (RFC 2545 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalLink {
    /// Index of the interface.
    pub ifindex: u32,
    /// Name of the interface.
    pub name: String,
    /// First IPv4 address, or the address asked for.
    pub v4: Option<Ipv4Addr>,
    /// First usable global (or unique local) IPv6 address, or the address asked for.
    pub v6_global: Option<Ipv6Addr>,
    /// Link-local IPv6 address.
    pub v6_link_local: Option<Ipv6Addr>,
    /// Length of the subnet of the address asked for.
    pub prefix_len: u8,
}

/// Finds the link of `local` in a dump; the name is left to the caller, who knows the links.
pub(crate) fn find(addresses: &[AddressMessage], local: IpAddr) -> Option<LocalLink> {
    let header = &addresses
        .iter()
        .find(|message| address(message) == Some(local))?
        .header;
    let ifindex = header.index;
    let mut link = LocalLink {
        ifindex,
        name: String::new(),
        v4: None,
        v6_global: None,
        v6_link_local: None,
        prefix_len: header.prefix_len,
    };
    for message in addresses
        .iter()
        .filter(|message| message.header.index == ifindex && usable(message))
    {
        match address(message) {
            Some(IpAddr::V4(addr)) => keep(&mut link.v4, addr, local),
            Some(IpAddr::V6(addr)) if addr.is_unicast_link_local() => {
                keep(&mut link.v6_link_local, addr, local)
            }
            Some(IpAddr::V6(addr)) if !addr.is_loopback() => keep(&mut link.v6_global, addr, local),
            _ => {}
        }
    }
    Some(link)
}

fn keep<T: Copy + Into<IpAddr>>(slot: &mut Option<T>, addr: T, local: IpAddr) {
    if slot.is_none() || addr.into() == local {
        *slot = Some(addr);
    }
}

/// On a point-to-point link `IFA_ADDRESS` is the other end and `IFA_LOCAL` is ours; else they agree or only one is there.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => return Some(*addr),
            AddressAttribute::Address(addr) => found = Some(*addr),
            _ => {}
        }
    }
    found
}

/// Not while duplicate address detection runs or after it failed.
fn usable(message: &AddressMessage) -> bool {
    message.attributes.iter().all(|attribute| match attribute {
        AddressAttribute::Flags(flags) => {
            !flags.intersects(AddressFlags::Dadfailed)
                && (!flags.contains(AddressFlags::Tentative)
                    || flags.contains(AddressFlags::Optimistic))
        }
        _ => true,
    })
}
