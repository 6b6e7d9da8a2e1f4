//! Address families: the AFI/SAFI pairs this speaker carries.

use core::fmt;
use ipnet::IpNet;

/// An AFI/SAFI pair (RFC 4760) that this codec carries routes of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Every family, in the order of the per-family arrays in [`crate::DecodeContext`] and [`crate::EncodeContext`].
    pub const ALL: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

    /// Address family identifier.
    pub fn afi(self) -> u16 {
        match self {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        }
    }

    /// Subsequent address family identifier.
    pub fn safi(self) -> u8 {
        1
    }

    /// The family of an AFI/SAFI pair; `None` for pairs that this codec does not carry.
    pub fn from_afi_safi(afi: u16, safi: u8) -> Option<Family> {
        match (afi, safi) {
            (1, 1) => Some(Family::Ipv4Unicast),
            (2, 1) => Some(Family::Ipv6Unicast),
            _ => None,
        }
    }

    /// The unicast family that a prefix belongs to.
    pub fn of(prefix: &IpNet) -> Family {
        match prefix {
            IpNet::V4(_) => Family::Ipv4Unicast,
            IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }

    /// Position in per-family arrays: 0 for IPv4 unicast, 1 for IPv6 unicast.
    pub fn index(self) -> usize {
        match self {
            Family::Ipv4Unicast => 0,
            Family::Ipv6Unicast => 1,
        }
    }

    /// This family's entry of a per-family array.
    #[inline]
    pub fn pick<T: Copy>(self, per_family: [T; 2]) -> T {
        let [v4, v6] = per_family;
        match self {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }

    /// Longest prefix length: 32 or 128.
    #[inline]
    pub fn max_prefix_len(self) -> u8 {
        match self {
            Family::Ipv4Unicast => 32,
            Family::Ipv6Unicast => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4Unicast => "ipv4-unicast",
            Family::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_round_trip_and_arrays_follow_the_order_of_all() {
        for (position, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(
                Family::from_afi_safi(family.afi(), family.safi()),
                Some(family)
            );
            assert_eq!(family.index(), position);
            assert_eq!(family.pick([0, 1]), position);
        }
        assert_eq!(Family::from_afi_safi(1, 2), None);
        assert_eq!(Family::from_afi_safi(25, 70), None);
        assert_eq!(Family::Ipv6Unicast.to_string(), "ipv6-unicast");
    }
}
