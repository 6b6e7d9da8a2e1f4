//! Waiting for what the kernel finishes in the background after it has answered: carrier and IPv6 addresses.
//!
//! Both go through a work queue that needs the routing lock, so on a busy node they lag behind the ACK by milliseconds or
//! more; a packet sent meanwhile is dropped, however complete the tables look.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::NetlinkError;
use crate::link::LinkTarget;
use crate::route::RouteKind;
use crate::socket::Netlink;

/// The first pause between two looks: on an idle node the work queue needs less. Each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

impl Netlink {
    /// Waits until the link is operationally up: its queue is live and IPv6 runs on it. A veth needs both ends up.
    pub fn link_wait_running(
        &mut self,
        target: LinkTarget<'_>,
        timeout: Duration,
    ) -> Result<(), NetlinkError> {
        self.settle(&target, "operationally up", timeout, |netlink| {
            Ok(netlink.link(target)?.running)
        })
    }

    /// Waits until packets to `ip` are delivered here. An IPv6 address gets its local route some time after it was
    /// added, without duplicate address detection too (`addrconf_dad_work`).
    pub fn addr_wait_local(&mut self, ip: IpAddr, timeout: Duration) -> Result<(), NetlinkError> {
        self.settle(
            &format_args!("address {ip}"),
            "usable",
            timeout,
            |netlink| {
                Ok(netlink
                    .route_get(ip)?
                    .is_some_and(|route| route.kind == RouteKind::Local))
            },
        )
    }

    fn settle(
        &mut self,
        object: &dyn fmt::Display,
        state: &'static str,
        timeout: Duration,
        mut reached: impl FnMut(&mut Self) -> Result<bool, NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        while !reached(self)? {
            if started.elapsed() >= timeout {
                let millis = timeout.as_millis();
                return Err(NetlinkError::NotSettled {
                    object: object.to_string(),
                    state,
                    millis,
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }
}
