//! Changes that the kernel is asked for: one, or several in one datagram, which costs one system call and one look at the
//! routing lock's queue less for each.

use netlink_packet_route::RouteNetlinkMessage;

use crate::channel::Asked;
use crate::error::NetlinkError;
use crate::socket::Netlink;

/// One change, made by [`Netlink::make_all`].
#[derive(Debug, Clone)]
pub struct Change {
    message: RouteNetlinkMessage,
    flags: u16,
    op: &'static str,
    object: String,
}

impl Change {
    pub(crate) fn new(
        message: RouteNetlinkMessage,
        flags: u16,
        op: &'static str,
        object: impl ToString,
    ) -> Self {
        let object = object.to_string();
        Self {
            message,
            flags,
            op,
            object,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            op: self.op,
            object: &self.object,
        }
    }
}

impl Netlink {
    /// Makes one change.
    pub(crate) fn make(&mut self, change: Change) -> Result<(), NetlinkError> {
        let asked = Asked {
            op: change.op,
            object: &change.object,
        };
        self.change(change.message, change.flags, asked)
    }

    /// Makes changes in this order, each whatever became of those before it; what became of each, in the same order.
    ///
    /// # Errors
    /// The socket fails; then nobody knows what was made.
    pub fn make_all(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        let Some(first) = changes.first() else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        for change in changes {
            self.put_change(change.message.clone(), change.flags, &mut bytes);
        }
        let asked: Vec<Asked<'_>> = changes.iter().map(Change::asked).collect();
        self.send_changes(&bytes, first.asked(), &asked)
    }
}
