//! What becomes of links, told by the kernel as it happens.

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::channel::{Asked, Channel, u32_at};
use crate::error::NetlinkError;
use crate::link::{Link, decode_link};

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const RTNLGRP_LINK: u32 = 1;
const RTM_DELLINK: u16 = 17;

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
