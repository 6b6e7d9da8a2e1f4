//! Address families, and ranges as numbers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a range.
    pub fn of(cidr: &IpNet) -> Self {
        match cidr {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The family of an address.
    pub fn of_address(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with that number.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address as a number.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// First and last address of a range, as numbers. Every address counts: a pod's route is a /32 or /128, so there is
/// no network or broadcast address.
pub(crate) fn bounds(cidr: &IpNet) -> (u128, u128) {
    let host_bits = u32::from(Family::of(cidr).bits() - cidr.prefix_len());
    let mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |n| n - 1);
    let first = number(cidr.addr()) & !mask;
    (first, first | mask)
}

/// Addresses in a range; `u128::MAX` for `::/0`.
pub(crate) fn capacity(cidr: &IpNet) -> u128 {
    let (first, last) = bounds(cidr);
    (last - first).saturating_add(1)
}

/// Whether two ranges share an address. Two prefixes do when one contains the other.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.addr()) || b.contains(&a.addr())
}
