//! Socket options of a BGP session that neither `std` nor `socket2` sets.
#![allow(
    unsafe_code,
    reason = "IP_MINTTL and IPV6_MINHOPCOUNT have no safe wrapper in the crates we use"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::error::NetlinkError;

/// Address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6.
    V6,
}

/// Class selector 6 (RFC 2474 §4.2.2) as a TOS / traffic class byte: what routing protocols send with.
pub const TOS_CS6: u8 = 0xc0;

/// TTL or hop limit of packets sent, 1–255.
pub fn set_ttl(socket: impl AsFd, family: Family, ttl: u8) -> Result<(), NetlinkError> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_TTL, "IP_TTL", ttl),
        Family::V6 => set(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_UNICAST_HOPS,
            "IPV6_UNICAST_HOPS",
            ttl,
        ),
    }
}

/// Drops received packets whose TTL or hop limit is below `ttl` (generalised TTL security, RFC 5082). 0 takes all.
pub fn set_min_ttl(socket: impl AsFd, family: Family, ttl: u8) -> Result<(), NetlinkError> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, "IP_MINTTL", ttl),
        Family::V6 => set(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MINHOPCOUNT,
            "IPV6_MINHOPCOUNT",
            ttl,
        ),
    }
}

/// TOS (IPv4) or traffic class (IPv6) of packets sent.
pub fn set_tos(socket: impl AsFd, family: Family, tos: u8) -> Result<(), NetlinkError> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_TOS, "IP_TOS", tos),
        Family::V6 => set(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_TCLASS,
            "IPV6_TCLASS",
            tos,
        ),
    }
}

fn set(
    socket: impl AsFd,
    level: i32,
    option: i32,
    name: &'static str,
    value: u8,
) -> Result<(), NetlinkError> {
    let value = libc::c_int::from(value);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: all options above take an int; `value` is valid for reads of `length` bytes for the whole call and the
    // descriptor is borrowed, hence open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(NetlinkError::io(
        "set socket option",
        format_args!("{name}={value}"),
        io::Error::last_os_error(),
    ))
}
