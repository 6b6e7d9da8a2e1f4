//! The pod's network namespace, as this process deals with it: opened, told from its own, entered for a moment.

use roadbed_hostnet::{NetNs, Netlink, NetlinkError, netns};

use crate::env::Env;
use crate::error::CniError;

/// A pod's namespace with a socket in it. The process has one thread, which may go there and come back.
pub(crate) struct PodNs {
    ns: NetNs,
    home: NetNs,
    /// Acts on the pod's namespace from wherever the thread is.
    pub(crate) netlink: Netlink,
}

impl PodNs {
    /// The pod's namespace; never the one we run in, where an `eth0` would be the host's own.
    pub(crate) fn open(env: &Env) -> Result<Self, CniError> {
        let ns = NetNs::open(&env.netns).map_err(CniError::NetNs)?;
        let home = NetNs::current()?;
        if ns.is_same(&home)? {
            return Err(CniError::HostNetNs(env.netns.clone()));
        }
        let netlink = netns::visit(&home, &ns, Netlink::open).map_err(CniError::NetNs)??;
        Ok(Self { ns, home, netlink })
    }

    /// For links that are made in it.
    pub(crate) fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Tells it from a later one under the same container ID.
    pub(crate) fn cookie(&mut self) -> Result<String, CniError> {
        let cookie = self.netlink.netns_cookie().map_err(CniError::NetNs)?;
        Ok(cookie.to_string())
    }

    /// Runs `work` inside.
    pub(crate) fn visit<T>(
        &self,
        work: impl FnOnce() -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        netns::visit(&self.home, &self.ns, work)?
    }
}
