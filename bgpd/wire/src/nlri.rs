//! NLRI: length-prefixed prefixes (RFC 4271 §4.3), with path identifiers where ADD-PATH was negotiated (RFC 7911).
//!
//! [`NlriSlice`] is made by validating the bytes once; iterating it afterwards allocates nothing and cannot fail.

use core::net::{Ipv4Addr, Ipv6Addr};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::Family;
use crate::read::Reader;

/// One reachable or withdrawn prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Nlri {
    /// ADD-PATH identifier; 0 where ADD-PATH is not in use.
    pub path_id: u32,
    /// The prefix, host bits cleared.
    pub prefix: IpNet,
}

impl Nlri {
    /// A prefix without path identifier; host bits are cleared.
    pub fn new(prefix: IpNet) -> Self {
        Self::with_path_id(0, prefix)
    }

    /// A prefix with path identifier; host bits are cleared.
    pub fn with_path_id(path_id: u32, prefix: IpNet) -> Self {
        Self {
            path_id,
            prefix: prefix.trunc(),
        }
    }

    /// Octets this takes on the wire.
    #[inline]
    pub fn wire_len(&self, add_path: bool) -> usize {
        let id = if add_path { 4 } else { 0 };
        id + 1 + usize::from(self.prefix.prefix_len()).div_ceil(8)
    }

    /// Appends the wire form.
    #[inline]
    pub fn encode(&self, add_path: bool, out: &mut Vec<u8>) {
        if add_path {
            out.extend_from_slice(&self.path_id.to_be_bytes());
        }
        let bits = self.prefix.prefix_len();
        let octets = usize::from(bits).div_ceil(8);
        out.push(bits);
        match self.prefix {
            IpNet::V4(net) => out.extend(net.addr().octets().iter().take(octets)),
            IpNet::V6(net) => out.extend(net.addr().octets().iter().take(octets)),
        }
    }

    #[inline]
    fn read(reader: &mut Reader<'_>, family: Family, add_path: bool) -> Option<Nlri> {
        let path_id = if add_path { reader.u32()? } else { 0 };
        let bits = reader.u8()?;
        if bits > family.max_prefix_len() {
            return None;
        }
        let octets = reader.take(usize::from(bits).div_ceil(8))?;
        let prefix = match family {
            Family::Ipv4Unicast => {
                let mut padded = [0u8; 4];
                padded.get_mut(..octets.len())?.copy_from_slice(octets);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                let addr = Ipv4Addr::from_bits(u32::from_be_bytes(padded) & mask);
                IpNet::V4(Ipv4Net::new(addr, bits).ok()?)
            }
            Family::Ipv6Unicast => {
                let mut padded = [0u8; 16];
                padded.get_mut(..octets.len())?.copy_from_slice(octets);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                let addr = Ipv6Addr::from_bits(u128::from_be_bytes(padded) & mask);
                IpNet::V6(Ipv6Net::new(addr, bits).ok()?)
            }
        };
        Some(Nlri { path_id, prefix })
    }
}

/// Validated NLRI bytes of one family: every entry is complete and no prefix is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NlriSlice<'a> {
    bytes: &'a [u8],
    len: usize,
    family: Family,
    add_path: bool,
}

impl<'a> NlriSlice<'a> {
    /// No prefixes.
    pub fn empty(family: Family) -> NlriSlice<'static> {
        NlriSlice {
            bytes: &[],
            len: 0,
            family,
            add_path: false,
        }
    }

    /// Checks every entry; `None` when one is truncated or longer than its family allows.
    pub fn validate(bytes: &'a [u8], family: Family, add_path: bool) -> Option<NlriSlice<'a>> {
        let max = family.max_prefix_len();
        let mut reader = Reader::new(bytes);
        let mut len = 0;
        while !reader.is_empty() {
            len += 1;
            if add_path {
                reader.u32()?;
            }
            let bits = reader.u8()?;
            if bits > max {
                return None;
            }
            reader.take(usize::from(bits).div_ceil(8))?;
        }
        Some(NlriSlice {
            bytes,
            len,
            family,
            add_path,
        })
    }

    /// The family of every prefix in it.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Octets on the wire.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The prefixes in wire order.
    pub fn iter(&self) -> NlriIter<'a> {
        NlriIter {
            reader: Reader::new(self.bytes),
            left: self.len,
            family: self.family,
            add_path: self.add_path,
        }
    }
}

impl<'a> IntoIterator for NlriSlice<'a> {
    type Item = Nlri;
    type IntoIter = NlriIter<'a>;

    fn into_iter(self) -> NlriIter<'a> {
        self.iter()
    }
}

/// Iterator over the prefixes of an [`NlriSlice`].
#[derive(Clone, Debug)]
pub struct NlriIter<'a> {
    reader: Reader<'a>,
    left: usize,
    family: Family,
    add_path: bool,
}

impl Iterator for NlriIter<'_> {
    type Item = Nlri;

    #[inline]
    fn next(&mut self) -> Option<Nlri> {
        let nlri = Nlri::read(&mut self.reader, self.family, self.add_path)?;
        self.left = self.left.saturating_sub(1);
        Some(nlri)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for NlriIter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], family: Family, add_path: bool, expected: Option<&[(u32, &str)]>) {
        let slice = NlriSlice::validate(bytes, family, add_path);
        let found: Option<Vec<_>> = slice.map(|s| {
            s.iter()
                .map(|n| (n.path_id, n.prefix.to_string()))
                .collect()
        });
        let expected: Option<Vec<_>> =
            expected.map(|e| e.iter().map(|(id, p)| (*id, (*p).to_owned())).collect());
        assert_eq!(slice.map(|s| s.len()), expected.as_ref().map(Vec::len));
        assert_eq!(found, expected, "{bytes:02x?}");
    }

    #[test]
    fn prefixes_of_every_shape() {
        use Family::{Ipv4Unicast as V4, Ipv6Unicast as V6};
        check(&[], V4, false, Some(&[]));
        check(
            &[0, 8, 10, 32, 192, 0, 2, 1],
            V4,
            false,
            Some(&[(0, "0.0.0.0/0"), (0, "10.0.0.0/8"), (0, "192.0.2.1/32")]),
        );
        // Host bits are cleared: 10.255/9 is 10.128/9.
        check(&[9, 10, 255], V4, false, Some(&[(0, "10.128.0.0/9")]));
        check(
            &[0, 0, 0, 7, 24, 192, 0, 2],
            V4,
            true,
            Some(&[(7, "192.0.2.0/24")]),
        );
        check(&[33, 1, 2, 3, 4, 5], V4, false, None);
        check(&[255], V4, false, None);
        check(&[24, 192, 0], V4, false, None);
        check(&[0, 0, 0, 7], V4, true, None);
        check(&[0, 0, 0], V4, true, None);
        check(
            &[0, 32, 0x20, 0x01, 0x0d, 0xb8],
            V6,
            false,
            Some(&[(0, "::/0"), (0, "2001:db8::/32")]),
        );
        check(&[129; 18], V6, false, None);
        check(&[128; 16], V6, false, None);
    }
}
