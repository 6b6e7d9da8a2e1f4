//! Permanent neighbour entries (ARP and NDP).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;

use crate::addr::family;
use crate::change::Change;
use crate::channel::Asked;
use crate::error::{NetlinkError, absent_is_false};
use crate::mac::MacAddr;
use crate::socket::Netlink;

const RTM_NEWNEIGH: u16 = 28;

/// A neighbour entry of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub ifindex: u32,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its Ethernet address, once known.
    pub mac: Option<MacAddr>,
    /// Static: never resolved, never expires (NUD_PERMANENT).
    pub permanent: bool,
}

impl Netlink {
    /// Sets the permanent entry for `ip`, replacing whatever is there.
    pub fn neigh_replace(
        &mut self,
        ifindex: u32,
        ip: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        self.make(Change::neigh_replace(ifindex, ip, mac))
    }

    /// Removes the entry for `ip`; `false` if there was none.
    pub fn neigh_del(&mut self, ifindex: u32, ip: IpAddr) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::DelNeighbour(message(ifindex, ip));
        let object = format_args!("{ip} on link index {ifindex}");
        absent_is_false(self.change(
            message,
            0,
            Asked {
                op: "delete neighbour",
                object: &object,
            },
        ))
    }

    /// Entries of one link, or of all, both families.
    pub fn neighs(&mut self, ifindex: Option<u32>) -> Result<Vec<Neighbour>, NetlinkError> {
        let asked = Asked {
            op: "list",
            object: &"neighbours",
        };
        let mut request = NeighbourMessage::default();
        request
            .attributes
            .extend(ifindex.map(NeighbourAttribute::IfIndex));
        let mut neighbours = Vec::new();
        for (kind, payload) in self.dump(RouteNetlinkMessage::GetNeighbour(request), asked)? {
            if kind == RTM_NEWNEIGH {
                let message = NeighbourMessage::parse(&payload).map_err(|e| asked.decode(e))?;
                neighbours.extend(decode(&message));
            }
        }
        Ok(neighbours)
    }
}

impl Change {
    /// See [`Netlink::neigh_replace`].
    pub fn neigh_replace(ifindex: u32, ip: IpAddr, mac: MacAddr) -> Self {
        let mut message = message(ifindex, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        Self::new(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            "set neighbour",
            format_args!("{ip} at {mac} on link index {ifindex}"),
        )
    }
}

fn message(ifindex: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = ifindex;
    message.header.kind = RouteType::Unicast;
    message
        .attributes
        .push(NeighbourAttribute::Destination(ip.into()));
    message
}

fn decode(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                ip = Some(IpAddr::V4(*v4))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                ip = Some(IpAddr::V6(*v6))
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = MacAddr::from_slice(bytes),
            _ => {}
        }
    }
    let permanent = message.header.state == NeighbourState::Permanent;
    Some(Neighbour {
        ifindex: message.header.ifindex,
        ip: ip?,
        mac,
        permanent,
    })
}
