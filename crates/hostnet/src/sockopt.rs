//! Socket options of a BGP session that neither `std` nor `socket2` sets.
#![allow(
    unsafe_code,
    reason = "IP_MINTTL, IPV6_MINHOPCOUNT and TCP_MD5SIG_EXT have no safe wrapper in the crates we use"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;

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

/// Longest TCP-MD5 key, bytes (`TCP_MD5SIG_MAXKEYLEN`).
pub const MD5_KEY_MAX: usize = 80;
const TCP_MD5SIG_EXT: libc::c_int = 32;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: [u8; 128],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: u32,
    key: [u8; MD5_KEY_MAX],
}

/// Signs segments to and from every address in `peers` with `key`, and drops those that are not (RFC 2385). An empty
/// key takes the signature off. On a listening socket it holds for connections still to come.
///
/// `family` is the socket's: one of both families takes IPv4 peers as mapped addresses.
///
/// # Errors
/// A key longer than [`MD5_KEY_MAX`], or the kernel refuses.
pub fn set_md5(
    socket: impl AsFd,
    family: Family,
    peers: IpNet,
    key: &[u8],
) -> Result<(), NetlinkError> {
    let fail = |source| {
        NetlinkError::io(
            "set socket option",
            format_args!("TCP_MD5SIG_EXT for {peers}"),
            source,
        )
    };
    if key.len() > MD5_KEY_MAX {
        return Err(fail(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a key has at most {MD5_KEY_MAX} bytes, this one has {}",
                key.len()
            ),
        )));
    }
    let mut signature = TcpMd5Sig {
        address: sockaddr(family, peers.addr()),
        flags: TCP_MD5SIG_FLAG_PREFIX,
        prefix_len: peers.prefix_len(),
        key_len: key.len() as u16,
        ifindex: 0,
        key: [0; MD5_KEY_MAX],
    };
    signature.key[..key.len()].copy_from_slice(key);
    // SAFETY: `signature` has the layout of `struct tcp_md5sig` (216 bytes, asserted below), is valid for reads of its
    // size for the whole call, and the descriptor is borrowed, hence open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_MD5SIG_EXT,
            (&raw const signature).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(fail(io::Error::last_os_error())),
    }
}

const _: () = assert!(
    size_of::<TcpMd5Sig>() == 216,
    "struct tcp_md5sig has 216 bytes"
);

/// `struct sockaddr_storage` with this address, as a socket of `family` knows it.
fn sockaddr(family: Family, address: IpAddr) -> [u8; 128] {
    let mut bytes = [0; 128];
    let (af, at, octets) = match (family, address) {
        (Family::V4, IpAddr::V4(v4)) => (libc::AF_INET, 4, v4.octets().to_vec()),
        (Family::V4, IpAddr::V6(_)) => (libc::AF_INET, 4, Ipv4Addr::UNSPECIFIED.octets().to_vec()),
        (Family::V6, IpAddr::V4(v4)) => (libc::AF_INET6, 8, v4.to_ipv6_mapped().octets().to_vec()),
        (Family::V6, IpAddr::V6(v6)) => (libc::AF_INET6, 8, v6.octets().to_vec()),
    };
    bytes[..2].copy_from_slice(&(af as u16).to_ne_bytes());
    bytes[at..at + octets.len()].copy_from_slice(&octets);
    bytes
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
