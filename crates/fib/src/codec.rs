//! Between our vocabulary and rtnetlink messages. Pure; never panics on what the kernel sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};

use crate::plan::{Believed, Way, Written};
use crate::route::{NextHop, RouteKey, RouteKind, SmallList};
use crate::tracker::Link;

/// One hop of a route read from the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hop {
    pub(crate) ifindex: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) weight: u16,
}

/// A route read from the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KernelRoute {
    pub(crate) prefix: IpNet,
    pub(crate) metric: u32,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    pub(crate) kind: RouteType,
    pub(crate) hops: SmallList<Hop>,
    pub(crate) prefsrc: Option<IpAddr>,
    /// The next-hop object that it goes through; `hops` then is what that holds, where the kernel tells.
    pub(crate) next_hop_id: Option<u32>,
    /// Carries attributes that we never write (TOS, source prefix, encapsulation, metrics).
    pub(crate) unusual: bool,
    /// A cache entry or lookup answer, not an entry of the table.
    pub(crate) cloned: bool,
}

impl KernelRoute {
    pub(crate) fn key(&self) -> RouteKey {
        RouteKey::new(self.prefix, self.metric)
    }

    pub(crate) fn is_unicast(&self) -> bool {
        self.kind == RouteType::Unicast
    }

    /// What the shadow should hold for this route of ours.
    pub(crate) fn believed(&self) -> Believed {
        match self.way() {
            Some(way) if !self.unusual => Believed::Exact(Written {
                key: self.key(),
                prefsrc: self.prefsrc,
                way,
            }),
            _ => Believed::Odd,
        }
    }

    fn way(&self) -> Option<Way> {
        if let Some(id) = self.next_hop_id {
            return self.is_unicast().then_some(Way::Group(id));
        }
        let kind = match (self.kind, self.hops.as_slice()) {
            // IPv6 reports `lo` as the interface of an unreachable route.
            (RouteType::Unreachable, _) => RouteKind::Unreachable,
            (
                RouteType::Unicast,
                [
                    Hop {
                        ifindex: Some(ifindex),
                        gateway: None,
                        ..
                    },
                ],
            ) => RouteKind::Device { ifindex: *ifindex },
            (RouteType::Unicast, hops) if !hops.is_empty() => {
                let hop = |hop: &Hop| {
                    Some(NextHop {
                        gateway: hop.gateway?,
                        ifindex: hop.ifindex,
                        weight: hop.weight,
                    })
                };
                RouteKind::Via(hops.iter().map(hop).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Way::Plain(kind))
    }
}

fn family(prefix: &IpNet) -> AddressFamily {
    match prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

fn message(prefix: &IpNet, table: u32, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(prefix),
        destination_prefix_length: prefix.prefix_len(),
        // Tables above 255 do not fit into the header; the attribute names them.
        table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::from(protocol),
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Table(table));
    if prefix.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(prefix.network().into()));
    }
    message
}

/// The body of RTM_NEWROUTE.
pub(crate) fn new_route(route: &Written, table: u32, protocol: u8) -> RouteMessage {
    let key = route.key;
    let mut message = message(&key.prefix, table, protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    if key.metric > 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(key.metric));
    }
    if let Some(addr) = route.prefsrc {
        message
            .attributes
            .push(RouteAttribute::PrefSource(addr.into()));
    }
    let kind = match &route.way {
        Way::Plain(kind) => kind,
        Way::Group(id) => {
            message.attributes.push(RouteAttribute::NhId(*id));
            return message;
        }
    };
    match kind {
        RouteKind::Unreachable => message.header.kind = RouteType::Unreachable,
        RouteKind::Device { ifindex } => {
            if key.prefix.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
            message.attributes.push(RouteAttribute::Oif(*ifindex));
        }
        RouteKind::Via(hops) => match hops.as_slice() {
            [hop] => {
                message.attributes.push(gateway(&key.prefix, hop.gateway));
                message
                    .attributes
                    .extend(hop.ifindex.map(RouteAttribute::Oif));
            }
            hops => message.attributes.push(RouteAttribute::MultiPath(
                hops.iter()
                    .map(|hop| {
                        let mut entry = RouteNextHop::default();
                        entry.hops = u8::try_from(hop.share() - 1).unwrap_or(u8::MAX);
                        entry.interface_index = hop.ifindex.unwrap_or(0);
                        entry.attributes.push(gateway(&key.prefix, hop.gateway));
                        entry
                    })
                    .collect(),
            )),
        },
    }
    message
}

/// The body of RTM_DELROUTE. Names our protocol, so the kernel itself spares what is not ours.
pub(crate) fn del_route(key: &RouteKey, table: u32, protocol: u8) -> RouteMessage {
    let mut message = message(&key.prefix, table, protocol);
    // "Nowhere" and an unspecified type match a route of any scope and type.
    message.header.scope = RouteScope::NoWhere;
    if key.metric > 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(key.metric));
    }
    message
}

/// The body of a strict-check dump: `protocol` 0 means all protocols.
pub(crate) fn dump_routes(family: AddressFamily, table: u32, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.header.protocol = RouteProtocol::from(protocol);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// The body of a lookup that answers with the matching table entry itself.
pub(crate) fn lookup(addr: IpAddr) -> RouteMessage {
    let host = IpNet::from(addr);
    let mut message = RouteMessage::default();
    message.header.address_family = family(&host);
    message.header.destination_prefix_length = host.prefix_len();
    message.header.flags = RouteFlags::FibMatch;
    message
        .attributes
        .push(RouteAttribute::Destination(addr.into()));
    message
}

fn gateway(prefix: &IpNet, gateway: IpAddr) -> RouteAttribute {
    match (prefix, gateway) {
        (IpNet::V4(_), IpAddr::V6(addr)) => RouteAttribute::Via(RouteVia::Inet6(addr)),
        (IpNet::V6(_), IpAddr::V4(addr)) => RouteAttribute::Via(RouteVia::Inet(addr)),
        (_, addr) => RouteAttribute::Gateway(addr.into()),
    }
}

/// Reads a route of IPv4 or IPv6; `None` for other families and nonsense.
pub(crate) fn read_route(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = KernelRoute {
        prefix: IpNet::new(unspecified, header.destination_prefix_length).ok()?,
        metric: 0,
        table: header.table.into(),
        protocol: header.protocol.into(),
        kind: header.kind,
        hops: SmallList::new(),
        prefsrc: None,
        next_hop_id: None,
        unusual: header.tos != 0 || header.source_prefix_length != 0,
        cloned: header.flags.contains(RouteFlags::Cloned),
    };
    let mut single = Hop {
        ifindex: None,
        gateway: None,
        weight: 1,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => {
                route.prefix = IpNet::new(address(addr)?, header.destination_prefix_length)
                    .ok()?
                    .trunc();
            }
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::PrefSource(addr) => route.prefsrc = address(addr),
            RouteAttribute::Oif(index) => single.ifindex = Some(*index),
            RouteAttribute::Gateway(addr) => single.gateway = address(addr),
            RouteAttribute::Via(via) => single.gateway = via_address(via),
            RouteAttribute::MultiPath(hops) => route.hops.extend(hops.iter().map(read_hop)),
            RouteAttribute::NhId(id) => route.next_hop_id = Some(*id),
            RouteAttribute::Encap(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::Metrics(_)
            | RouteAttribute::Realm(_) => route.unusual = true,
            _ => {}
        }
    }
    if route.hops.is_empty() && (single.ifindex.is_some() || single.gateway.is_some()) {
        route.hops.push(single);
    }
    Some(route)
}

fn read_hop(hop: &RouteNextHop) -> Hop {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(addr) => address(addr),
        RouteAttribute::Via(via) => via_address(via),
        _ => None,
    });
    let ifindex = (hop.interface_index != 0).then_some(hop.interface_index);
    Hop {
        ifindex,
        gateway,
        weight: u16::from(hop.hops) + 1,
    }
}

fn address(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn via_address(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(addr) => Some((*addr).into()),
        RouteVia::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

/// Reads a link.
pub(crate) fn read_link(message: &LinkMessage) -> (u32, Link) {
    let name = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    let link = Link {
        name: name.unwrap_or_default(),
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
    };
    (message.header.index, link)
}

/// Attribute type of the text in an extended acknowledgement (`NLMSGERR_ATTR_MSG`).
const EXTACK_MSG: u16 = 1;
/// Length of the request header that a capped error message repeats before its attributes.
const NLMSG_HEADER: usize = 16;

/// The text of an extended acknowledgement: `payload` is what follows the error code of a capped NLMSG_ERROR.
pub(crate) fn extack_text(payload: &[u8]) -> Option<String> {
    let mut rest = payload.get(NLMSG_HEADER..)?;
    while let [len_lo, len_hi, kind_lo, kind_hi, ..] = *rest {
        let len = usize::from(u16::from_ne_bytes([len_lo, len_hi]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([kind_lo, kind_hi]) == EXTACK_MSG {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}
