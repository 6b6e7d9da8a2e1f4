//! What the TCP sockets of a session are told: signatures, TTL, DSCP. Owns no socket.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use roadbed_api::kinds::Password;
use roadbed_hostnet::NetlinkError;
use roadbed_hostnet::sockopt::{self, Family, TOS_CS6};

/// How a peer is reached over TCP. Every change takes effect on connections that are up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Key of TCP-MD5 signatures (RFC 2385).
    pub password: Option<Password>,
    /// TTL or hop limit.
    pub ttl: Ttl,
}

/// TTL of what is sent, and what it says of what is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Sent with this TTL, 1–255; received with any.
    Send(u8),
    /// Sent with 255; what has passed more than this many hops, 1–254, is dropped (RFC 5082).
    Security(u8),
}

impl Ttl {
    /// From the keys `ttlSecurityHops` and `multihopTtl`. Without either, an eBGP peer is on a link of ours.
    pub fn new(security_hops: Option<u8>, multihop: Option<u8>, ebgp: bool) -> Self {
        match (security_hops, multihop) {
            (Some(hops), _) => Ttl::Security(hops),
            (None, Some(ttl)) => Ttl::Send(ttl),
            (None, None) => Ttl::Send(if ebgp { 1 } else { u8::MAX }),
        }
    }

    fn sent(self) -> u8 {
        match self {
            Ttl::Send(ttl) => ttl,
            Ttl::Security(_) => u8::MAX,
        }
    }

    /// Least TTL that is taken; 0: any. A packet from the link itself has lost nothing of its 255, which is one hop.
    fn least(self) -> u8 {
        match self {
            Ttl::Send(_) => 0,
            Ttl::Security(hops) => u8::MAX - hops.saturating_sub(1),
        }
    }
}

impl Transport {
    /// Tells a socket that is connected to `remote`, or is about to be. `socket_family` differs from the family of
    /// `remote` where a socket of both families took an IPv4 connection.
    pub(crate) fn apply(
        &self,
        socket: impl AsFd,
        socket_family: Family,
        remote: IpAddr,
    ) -> io::Result<()> {
        let remote = remote.to_canonical();
        let family = family(remote);
        // A network that does not honour the mark works as well.
        sockopt::set_tos(&socket, family, TOS_CS6).ok();
        sockopt::set_ttl(&socket, family, self.ttl.sent()).map_err(io::Error::other)?;
        sockopt::set_min_ttl(&socket, family, self.ttl.least()).map_err(io::Error::other)?;
        let sign = |key: &[u8]| sockopt::set_md5(&socket, socket_family, remote.into(), key);
        match &self.password {
            Some(password) => sign(password.as_bytes()).map_err(io::Error::other)?,
            // The kernel knows no key as a rule, and says so.
            None => drop(sign(&[])),
        }
        Ok(())
    }
}

/// Tells a listening socket what holds for the first packets of all its connections: a peer with TTL security drops
/// whatever does not come with 255. Best effort, since other peers do without.
pub(crate) fn prepare_listener(socket: impl AsFd, family: Family) {
    let both = [Family::V4, Family::V6];
    for family in both.into_iter().take(1 + usize::from(family == Family::V6)) {
        sockopt::set_tos(&socket, family, TOS_CS6).ok();
        sockopt::set_ttl(&socket, family, u8::MAX).ok();
    }
}

/// Has a listening socket ask for this key from these addresses; without one, for none.
pub(crate) fn sign(
    socket: impl AsFd,
    family: Family,
    peers: IpNet,
    password: Option<&Password>,
) -> Result<(), NetlinkError> {
    sockopt::set_md5(
        socket,
        family,
        peers,
        password.map_or(&[], Password::as_bytes),
    )
}

/// The family that a socket for this address has.
pub(crate) fn family(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent, the least that is taken.
    fn check(security_hops: Option<u8>, multihop: Option<u8>, ebgp: bool, expected: (u8, u8)) {
        let ttl = Ttl::new(security_hops, multihop, ebgp);
        assert_eq!((ttl.sent(), ttl.least()), expected, "{ttl:?}");
    }

    #[test]
    fn ttls() {
        check(None, None, true, (1, 0));
        check(None, None, false, (255, 0));
        check(None, Some(3), true, (3, 0));
        check(None, Some(3), false, (3, 0));
        check(Some(1), None, true, (255, 255));
        check(Some(2), None, false, (255, 254));
        check(Some(254), None, true, (255, 2));
    }
}
