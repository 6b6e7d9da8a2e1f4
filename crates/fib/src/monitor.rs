//! The multicast socket: what others do to links, addresses and routes. Reads only; drops the echoes of our own writes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc;

use crate::codec::{self, KernelRoute};
use crate::groups::NextHopObject;
use crate::message::{Message, RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use crate::netlink::RECEIVE_BUFFER;
use crate::tracker::Link;

/// RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NEXTHOP.
const GROUPS: [u32; 6] = [1, 5, 7, 9, 11, 32];
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLMSG_HEADER: usize = 16;
const ENOBUFS: i32 = 105;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A route appeared; `replace` if it took the place of one with its key.
    RouteAdded { route: KernelRoute, replace: bool },
    /// A route went.
    RouteRemoved(KernelRoute),
    /// A link appeared or changed, or went (`None`).
    Link { index: u32, link: Option<Link> },
    /// An address appeared or went.
    Address { removed: bool, ipv4: bool },
    /// A next-hop object appeared, changed or went. The kernel is silent about those that go with a link.
    NextHop(NextHopObject),
    /// Events were lost: everything must be read anew.
    Overrun,
}

/// Opens the socket, in the network namespace of the calling thread.
pub(crate) fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.socket_mut().add_membership(group)?;
    }
    socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER)?;
    Ok(socket)
}

/// Reads until the receiver is gone or the socket fails. `own_port` is the port of the request socket.
pub(crate) async fn run(
    socket: TokioSocket,
    own_port: Arc<AtomicU32>,
    events: mpsc::Sender<Vec<Event>>,
) {
    loop {
        let batch = match socket.recv_from_full().await {
            Ok((datagram, _)) => decode(&datagram, own_port.load(Ordering::Relaxed)),
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => vec![Event::Overrun],
            Err(error) => {
                tracing::error!(%error, "route monitor failed; kernel changes are seen only by the audit");
                return;
            }
        };
        if !batch.is_empty() && events.send(batch).await.is_err() {
            return;
        }
    }
}

/// Messages of one datagram; what cannot be read is reported as an overrun, so that a resync makes up for it.
pub(crate) fn decode(datagram: &[u8], own_port: u32) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = datagram;
    while let Some(header) = rest.first_chunk::<NLMSG_HEADER>() {
        let [l0, l1, l2, l3, t0, t1, _, _, _, _, _, _, p0, p1, p2, p3] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([t0, t1]);
        let port = u32::from_ne_bytes([p0, p1, p2, p3]);
        let Some(message) = rest
            .get(..length)
            .filter(|message| message.len() >= NLMSG_HEADER)
        else {
            events.push(Event::Overrun);
            break;
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Cheap on purpose: a full table that we write ourselves passes here.
        let written = [RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEXTHOP, RTM_DELNEXTHOP];
        if port == own_port && written.contains(&kind) {
            continue;
        }
        match NetlinkMessage::<Message>::deserialize(message) {
            Ok(message) => events.extend(interpret(message)),
            Err(error) => {
                tracing::warn!(%error, kind, "undecodable message from the kernel");
                events.push(Event::Overrun);
            }
        }
    }
    events
}

fn interpret(message: NetlinkMessage<Message>) -> Option<Event> {
    let replace = message.header.flags & NLM_F_REPLACE != 0;
    let inner = match message.payload {
        NetlinkPayload::InnerMessage(Message::Route(inner)) => inner,
        NetlinkPayload::InnerMessage(Message::NextHop(inner)) => {
            return inner.read().map(Event::NextHop);
        }
        _ => return None,
    };
    match inner {
        RouteNetlinkMessage::NewRoute(route) => Some(Event::RouteAdded {
            route: codec::read_route(&route).filter(|route| !route.cloned)?,
            replace,
        }),
        RouteNetlinkMessage::DelRoute(route) => Some(Event::RouteRemoved(
            codec::read_route(&route).filter(|route| !route.cloned)?,
        )),
        // Bridges send link messages of their own family about ports: a port that leaves is not a link that goes.
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
            if link.header.interface_family != AddressFamily::Unspec =>
        {
            None
        }
        RouteNetlinkMessage::NewLink(link) => {
            let (index, link) = codec::read_link(&link);
            Some(Event::Link {
                index,
                link: Some(link),
            })
        }
        RouteNetlinkMessage::DelLink(link) => Some(Event::Link {
            index: link.header.index,
            link: None,
        }),
        RouteNetlinkMessage::NewAddress(address) => Some(Event::Address {
            removed: false,
            ipv4: address.header.family == AddressFamily::Inet,
        }),
        RouteNetlinkMessage::DelAddress(address) => Some(Event::Address {
            removed: true,
            ipv4: address.header.family == AddressFamily::Inet,
        }),
        _ => None,
    }
}
