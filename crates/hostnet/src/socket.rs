//! The blocking route-netlink socket: send a request, read until its ACK or the end of its dump.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::channel::{Answer, Asked, Channel};
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
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.channel.next_sequence();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.channel.send(&bytes, asked)
    }
}
