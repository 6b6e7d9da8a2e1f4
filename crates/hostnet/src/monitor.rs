//! What becomes of links, told by the kernel as it happens.

use netlink_sys::protocols::NETLINK_ROUTE;
use socket2::{SockFilter, SockRef};

use crate::channel::{Asked, Channel, u32_at};
use crate::error::NetlinkError;
use crate::link::{Link, decode_link};

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const RTNLGRP_LINK: u32 = 1;
const RTM_DELLINK: u16 = 17;
/// Where a netlink message has its type.
const TYPE_AT: u32 = 4;

/// A blocking socket that hears of links of one network namespace.
pub struct LinkMonitor {
    channel: Channel,
}

/// What a [`LinkMonitor`] heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkNews {
    /// New, or changed in some way.
    Changed(Link),
    /// Gone from this namespace: its name is free, and no route leads over it. The kernel may go on taking it apart.
    Gone(u32),
    /// More happened than the socket could hold: whoever needs to know must list the links.
    Overrun,
}

impl LinkMonitor {
    /// Listens in the calling thread's network namespace from now on.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut channel = Channel::open(NETLINK_ROUTE)?;
        let joined = channel.socket().add_membership(RTNLGRP_LINK);
        joined.map_err(|e| NetlinkError::io("listen to", "links", e))?;
        Ok(Self { channel })
    }

    /// As [`Self::open`], but hears of links that go alone: nobody is woken for what else happens to links.
    pub fn open_for_gone() -> Result<Self, NetlinkError> {
        let mut monitor = Self::open()?;
        // The filter reads in network byte order what the kernel writes in its own.
        let gone = u16::from_be_bytes(RTM_DELLINK.to_ne_bytes());
        let instruction = |code: u32, if_not, value| SockFilter::new(code as u16, 0, if_not, value);
        let filter = [
            instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, TYPE_AT),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, gone.into()),
            instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
        ];
        SockRef::from(&*monitor.channel.socket())
            .attach_filter(&filter)
            .map_err(|e| NetlinkError::io("listen to", "links that go", e))?;
        Ok(monitor)
    }

    /// Waits for the next datagram.
    pub fn wait(&mut self) -> Result<Vec<LinkNews>, NetlinkError> {
        let asked = Asked {
            op: "listen to",
            object: &"links",
        };
        match self.channel.heard(asked) {
            Ok(messages) => Ok(messages
                .iter()
                .filter_map(|message| match message {
                    (RTM_DELLINK, payload) => gone(payload),
                    _ => decode_link(message).map(LinkNews::Changed),
                })
                .collect()),
            Err(error) if error.errno() == Some(libc::ENOBUFS) => Ok(vec![LinkNews::Overrun]),
            Err(error) => Err(error),
        }
    }
}

/// A port that leaves its bridge is told of in the same message, under the bridge's family: that link stays.
fn gone(payload: &[u8]) -> Option<LinkNews> {
    let family = payload.first()?;
    (i32::from(*family) == libc::AF_UNSPEC).then_some(())?;
    u32_at(payload, 4).map(LinkNews::Gone)
}
