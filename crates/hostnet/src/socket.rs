//! The blocking route-netlink socket: send a request, read until its ACK or the end of its dump.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::channel::{Answer, Asked, Channel, align4};
use crate::error::NetlinkError;
use crate::netns::{self, NetNs};

/// A dump that the kernel flags as inconsistent is read again this often before the caller hears of it.
const DUMP_ATTEMPTS: usize = 8;

/// A blocking route-netlink socket, bound for life to one network namespace.
pub struct Netlink {
    channel: Channel,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut channel = Channel::open(NETLINK_ROUTE)?;
        // Filters of dumps are applied by the kernel.
        let strict = channel.socket().set_netlink_get_strict_chk(true);
        strict.map_err(|e| NetlinkError::io("open", "netlink socket", e))?;
        Ok(Self { channel })
    }

    /// Opens a socket in `ns`. Needs CAP_SYS_ADMIN over the namespace, as `setns(2)` does.
    pub fn open_in(ns: &NetNs) -> Result<Self, NetlinkError> {
        netns::run_in(ns, Self::open)?
    }

    /// Sends a request that changes something (or reads one object) and returns the messages before its ACK.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        asked: Asked<'_>,
    ) -> Result<Vec<Answer>, NetlinkError> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags, asked)?;
        self.channel.receive(asked).map(|(answers, _)| answers)
    }

    /// As [`Self::request`], for requests whose only answer is the ACK.
    pub(crate) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        asked: Asked<'_>,
    ) -> Result<(), NetlinkError> {
        self.request(message, flags, asked).map(drop)
    }

    /// Lists a table; read again when it changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        asked: Asked<'_>,
    ) -> Result<Vec<Answer>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, asked)?;
            let (answers, interrupted) = self.channel.receive(asked)?;
            if !interrupted {
                return Ok(answers);
            }
        }
        Err(NetlinkError::DumpInterrupted {
            op: asked.op,
            object: asked.object.to_string(),
        })
    }

    fn send(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        asked: Asked<'_>,
    ) -> Result<(), NetlinkError> {
        let mut bytes = Vec::new();
        self.put(message, flags, &mut bytes);
        self.channel.send(&bytes, asked)
    }

    /// Appends a change to a datagram.
    pub(crate) fn put_change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        bytes: &mut Vec<u8>,
    ) {
        self.put(message, NLM_F_REQUEST | NLM_F_ACK | flags, bytes);
    }

    /// Sends the changes that were put into a datagram, and reads what became of each.
    pub(crate) fn send_changes(
        &mut self,
        bytes: &[u8],
        all: Asked<'_>,
        each: &[Asked<'_>],
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        self.channel.send(bytes, all)?;
        self.channel.receive_each(all, each)
    }

    fn put(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.channel.next_sequence();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let begin = align4(bytes.len());
        bytes.resize(begin + message.buffer_len(), 0);
        message.serialize(&mut bytes[begin..]);
    }

    /// The kernel's number of the socket's namespace (SO_NETNS_COOKIE): never given twice within one boot.
    pub fn netns_cookie(&mut self) -> Result<u64, NetlinkError> {
        netns::cookie_of(self.channel.socket()).map_err(|e| {
            NetlinkError::io("read the cookie of", "the socket's network namespace", e)
        })
    }
}
