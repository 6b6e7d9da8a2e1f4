//! Single-path routes, as the pod side and tests need them. Route tables at scale are the `fib` crate's business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::family;
use crate::change::Change;
use crate::channel::{Answer, Asked};
use crate::error::{NetlinkError, absent_is_false};
use crate::socket::Netlink;

const RTM_NEWROUTE: u16 = 24;

/// Number of the main routing table.
pub const TABLE_MAIN: u32 = 254;
/// Number of the local routing table.
pub const TABLE_LOCAL: u32 = 255;
const RTPROT_BOOT: u8 = 3;

/// What happens to a packet that hits a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Forwarded to the gateway or onto the link.
    Unicast,
    /// Dropped, with ICMP unreachable to the sender.
    Unreachable,
    /// Dropped silently.
    Blackhole,
    /// Delivered locally.
    Local,
    /// Anything else, by RTN_ number; listed, never made.
    Other(u8),
}

/// A route with at most one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination; 0.0.0.0/0 and ::/0 are the defaults.
    pub dst: IpNet,
    /// Unicast, unreachable …
    pub kind: RouteKind,
    /// Next hop. An IPv6 gateway for an IPv4 destination is sent as RTA_VIA (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub ifindex: Option<u32>,
    /// Preferred source address.
    pub prefsrc: Option<IpAddr>,
    /// Routing table; [`TABLE_MAIN`] unless set.
    pub table: u32,
    /// Who installed it (RTPROT_ number); 3, "boot", unless set.
    pub protocol: u8,
    /// Metric; `None`: the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// IPv4: the destination is on the link itself (scope link) although there may be no address of ours in it.
    pub scope_link: bool,
    /// Take the gateway as reachable on the link even if no route covers it.
    pub onlink: bool,
}

impl Route {
    /// A unicast route in the main table with nothing else set.
    pub fn new(dst: IpNet) -> Self {
        Self {
            dst: dst.trunc(),
            kind: RouteKind::Unicast,
            gateway: None,
            ifindex: None,
            prefsrc: None,
            table: TABLE_MAIN,
            protocol: RTPROT_BOOT,
            metric: None,
            scope_link: false,
            onlink: false,
        }
    }

    /// `dst dev LINK scope link`.
    pub fn on_link(dst: IpNet, ifindex: u32) -> Self {
        Self {
            ifindex: Some(ifindex),
            scope_link: true,
            ..Self::new(dst)
        }
    }

    /// `dst via GATEWAY dev LINK`.
    pub fn via(dst: IpNet, gateway: IpAddr, ifindex: u32) -> Self {
        Self {
            gateway: Some(gateway),
            ifindex: Some(ifindex),
            ..Self::new(dst)
        }
    }

    /// The default route over `gateway`, of the gateway's family.
    pub fn default_via(gateway: IpAddr, ifindex: u32) -> Self {
        Self::via(default_of(gateway.is_ipv6()), gateway, ifindex)
    }

    /// `unreachable dst`.
    pub fn unreachable(dst: IpNet) -> Self {
        Self {
            kind: RouteKind::Unreachable,
            ..Self::new(dst)
        }
    }
}

impl Change {
    /// See [`Netlink::route_add`].
    pub fn route_add(route: &Route) -> Self {
        let message = RouteNetlinkMessage::NewRoute(message(route));
        Self::new(message, NLM_F_CREATE | NLM_F_EXCL, "add route", route)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Local => f.write_str("local ")?,
            RouteKind::Other(kind) => write!(f, "type {kind} ")?,
        }
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(ifindex) = self.ifindex {
            write!(f, " dev index {ifindex}")?;
        }
        if self.table != TABLE_MAIN {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

/// Which routes to list. The kernel filters; both families.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteFilter {
    /// Only this table.
    pub table: Option<u32>,
    /// Only this protocol.
    pub protocol: Option<u8>,
    /// Only routes over this link.
    pub ifindex: Option<u32>,
}

impl Netlink {
    /// Adds a route; fails if one with the same destination, metric and table exists.
    pub fn route_add(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.make(Change::route_add(route))
    }

    /// Adds a route, or replaces the one with the same destination, metric and table.
    pub fn route_replace(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(message(route));
        self.change(
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
            Asked {
                op: "set route",
                object: route,
            },
        )
    }

    /// Removes a route that matches everything set in `route`; `false` if there is none.
    pub fn route_del(&mut self, route: &Route) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(message(route));
        absent_is_false(self.change(
            message,
            0,
            Asked {
                op: "delete route",
                object: route,
            },
        ))
    }

    /// Lists routes. Multipath routes and those over next-hop objects show without a gateway of their own.
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            request.header.protocol = RouteProtocol::from(filter.protocol.unwrap_or(0));
            request
                .attributes
                .extend(filter.table.map(RouteAttribute::Table));
            request
                .attributes
                .extend(filter.ifindex.map(RouteAttribute::Oif));
            let asked = Asked {
                op: "list",
                object: &"routes",
            };
            match self.dump(RouteNetlinkMessage::GetRoute(request), asked) {
                Ok(answers) => collect(&answers, asked, &mut routes)?,
                // Asked for a table that does not exist.
                Err(error) if filter.table.is_some() && error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// The route a packet to `destination` would take now; `None` if there is no way (no route, or an unreachable one).
    pub fn route_get(&mut self, destination: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let asked = Asked {
            op: "look up route to",
            object: &destination,
        };
        let mut request = RouteMessage::default();
        request.header.address_family = family(destination);
        request.header.destination_prefix_length = IpNet::from(destination).prefix_len();
        request
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        let mut routes = Vec::new();
        match self.request(RouteNetlinkMessage::GetRoute(request), 0, asked) {
            Ok(answers) => collect(&answers, asked, &mut routes)?,
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL)
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(routes.into_iter().next())
    }
}

fn default_of(v6: bool) -> IpNet {
    let any = if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    IpNet::new_assert(any, 0)
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.dst.addr());
    header.destination_prefix_length = route.dst.prefix_len();
    header.protocol = RouteProtocol::from(route.protocol);
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Local => RouteType::Local,
        RouteKind::Other(kind) => RouteType::from(kind),
    };
    header.scope = match route.kind {
        RouteKind::Local => RouteScope::Host,
        _ if route.scope_link => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if route.onlink {
        header.flags = RouteFlags::Onlink;
    }
    if route.dst.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route.dst.trunc().addr().into()));
    }
    message.attributes.push(RouteAttribute::Table(route.table));
    message.attributes.extend(
        route
            .gateway
            .map(|gateway| match (route.dst.addr(), gateway) {
                (IpAddr::V4(_), IpAddr::V6(v6)) => RouteAttribute::Via(RouteVia::Inet6(v6)),
                _ => RouteAttribute::Gateway(gateway.into()),
            }),
    );
    message
        .attributes
        .extend(route.ifindex.map(RouteAttribute::Oif));
    message.attributes.extend(
        route
            .prefsrc
            .map(|ip| RouteAttribute::PrefSource(ip.into())),
    );
    message
        .attributes
        .extend(route.metric.map(RouteAttribute::Priority));
    message
}

fn collect(
    answers: &[Answer],
    asked: Asked<'_>,
    routes: &mut Vec<Route>,
) -> Result<(), NetlinkError> {
    for (kind, payload) in answers {
        if *kind == RTM_NEWROUTE {
            let message = RouteMessage::parse(payload).map_err(|e| asked.decode(e))?;
            routes.extend(decode(&message));
        }
    }
    Ok(())
}

fn decode(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let v6 = match header.address_family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let mut route = Route::new(default_of(v6));
    route.kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Local => RouteKind::Local,
        other => RouteKind::Other(other.into()),
    };
    route.table = header.table.into();
    route.protocol = header.protocol.into();
    route.scope_link = !v6 && header.scope == RouteScope::Link;
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.dst =
                    IpNet::new(address_of(address)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(address) => route.gateway = address_of(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => route.gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => route.gateway = Some((*v6).into()),
            RouteAttribute::Oif(index) => route.ifindex = Some(*index),
            RouteAttribute::PrefSource(address) => route.prefsrc = address_of(address),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Table(table) => route.table = *table,
            _ => {}
        }
    }
    Some(route)
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
