//! Per-link settings over netlink (IFLA_AF_SPEC), which NET_ADMIN is enough for: a container without privileges sees
//! `/proc/sys` read-only.
//!
//! For IPv6 the kernel takes only the address generation mode this way (`inet6_set_link_af`); `accept_ra`, `accept_dad`
//! and the rest need [`crate::sysctl`].

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_route::link::{AfSpecInet, AfSpecInet6, AfSpecUnspec, LinkAttribute};

use crate::change::Change;
use crate::error::NetlinkError;
use crate::link::LinkTarget;
use crate::socket::Netlink;

const IFLA_INET_CONF: u16 = 1;

/// IPv4 per-link settings that Roadbed changes. The numbers are `IPV4_DEVCONF_*` of linux/ip.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ipv4Conf {
    /// Forward packets that arrive here.
    Forwarding = 1,
    /// Answer ARP for addresses routed elsewhere.
    ProxyArp = 3,
    /// Take ICMP redirects.
    AcceptRedirects = 4,
    /// Send ICMP redirects.
    SendRedirects = 6,
    /// Reverse path filter: 0 off, 1 strict, 2 loose.
    RpFilter = 8,
    /// ARP announce level.
    ArpAnnounce = 18,
    /// ARP ignore level.
    ArpIgnore = 19,
    /// Send ARP when the link comes up or its address changes.
    ArpNotify = 22,
    /// Take packets from our own addresses.
    AcceptLocal = 23,
    /// Route 127/8.
    RouteLocalnet = 26,
    /// Skip routes whose link has no carrier.
    IgnoreRoutesWithLinkdown = 29,
}

/// How IPv6 link-local addresses come to be (IN6_ADDR_GEN_MODE_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AddrGenMode {
    /// From the Ethernet address.
    Eui64 = 0,
    /// Not at all: whoever needs one adds it.
    None = 1,
}

impl Netlink {
    /// Sets IPv4 settings of one link, all in one message.
    pub fn link_set_ipv4_conf(
        &mut self,
        target: LinkTarget<'_>,
        settings: &[(Ipv4Conf, u32)],
    ) -> Result<(), NetlinkError> {
        self.make(Change::link_set_ipv4_conf(target, settings)?)
    }

    /// Sets how the link gets its IPv6 link-local address. Set it before the link goes up.
    pub fn link_set_addr_gen_mode(
        &mut self,
        target: LinkTarget<'_>,
        mode: AddrGenMode,
    ) -> Result<(), NetlinkError> {
        self.make(Change::link_set_addr_gen_mode(target, mode)?)
    }
}

impl Change {
    /// See [`Netlink::link_set_ipv4_conf`].
    pub fn link_set_ipv4_conf(
        target: LinkTarget<'_>,
        settings: &[(Ipv4Conf, u32)],
    ) -> Result<Self, NetlinkError> {
        let nested: Vec<DefaultNla> = settings
            .iter()
            .map(|(key, value)| DefaultNla::new(*key as u16, value.to_ne_bytes().to_vec()))
            .collect();
        let mut bytes = vec![0; nested.as_slice().buffer_len()];
        nested.as_slice().emit(&mut bytes);
        let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, bytes));
        let spec = AfSpecUnspec::Inet(vec![conf]);
        set_af_spec(target, spec, "set IPv4 settings of")
    }

    /// See [`Netlink::link_set_addr_gen_mode`].
    pub fn link_set_addr_gen_mode(
        target: LinkTarget<'_>,
        mode: AddrGenMode,
    ) -> Result<Self, NetlinkError> {
        let mode = AfSpecInet6::AddrGenMode((mode as u8).into());
        let spec = AfSpecUnspec::Inet6(vec![mode]);
        set_af_spec(target, spec, "set IPv6 address generation of")
    }
}

fn set_af_spec(
    target: LinkTarget<'_>,
    spec: AfSpecUnspec,
    op: &'static str,
) -> Result<Change, NetlinkError> {
    let mut message = target.message()?;
    message
        .attributes
        .push(LinkAttribute::AfSpecUnspec(vec![spec]));
    Ok(Change::link(message, op, &target))
}
