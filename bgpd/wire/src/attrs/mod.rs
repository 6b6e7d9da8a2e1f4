//! Path attributes in canonical form.
//!
//! Owns what two equal attribute sets look like as bytes: TLVs sorted by type, flags as the specifications say them,
//! lengths in the shortest form, AS numbers in four octets with AS4_PATH and AS4_AGGREGATOR merged in (RFC 6793), community
//! lists sorted without repetition. NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI are never part of it: they belong to the
//! message. Canonical bytes are always valid, so accessors need no error path.

mod as_path;
mod canonical;
mod editor;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use as_path::{AsPath, Segment, SegmentKind};
pub(crate) use as_path::{AsWidth, PathFault, check_as_path};
pub(crate) use canonical::{Canonical, put_header};
pub use editor::AttributeEditor;

use crate::read::{Reader, be_u32};

/// Path attribute types.
pub mod attr_type {
    /// RFC 4271.
    pub const ORIGIN: u8 = 1;
    /// RFC 4271.
    pub const AS_PATH: u8 = 2;
    /// RFC 4271; never in canonical attributes.
    pub const NEXT_HOP: u8 = 3;
    /// RFC 4271.
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// RFC 4271.
    pub const LOCAL_PREF: u8 = 5;
    /// RFC 4271.
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// RFC 4271.
    pub const AGGREGATOR: u8 = 7;
    /// RFC 1997.
    pub const COMMUNITIES: u8 = 8;
    /// RFC 4456.
    pub const ORIGINATOR_ID: u8 = 9;
    /// RFC 4456.
    pub const CLUSTER_LIST: u8 = 10;
    /// RFC 4760; never in canonical attributes.
    pub const MP_REACH_NLRI: u8 = 14;
    /// RFC 4760; never in canonical attributes.
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// RFC 6793; never in canonical attributes.
    pub const AS4_PATH: u8 = 17;
    /// RFC 6793; never in canonical attributes.
    pub const AS4_AGGREGATOR: u8 = 18;
    /// RFC 8092.
    pub const LARGE_COMMUNITIES: u8 = 32;
    /// RFC 9234.
    pub const ONLY_TO_CUSTOMER: u8 = 35;

    /// What its RFC calls it; `None` for types that we do not know.
    pub fn name(attr_type: u8) -> Option<&'static str> {
        Some(match attr_type {
            ORIGIN => "ORIGIN",
            AS_PATH => "AS_PATH",
            NEXT_HOP => "NEXT_HOP",
            MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            LOCAL_PREF => "LOCAL_PREF",
            ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AGGREGATOR => "AGGREGATOR",
            COMMUNITIES => "COMMUNITIES",
            ORIGINATOR_ID => "ORIGINATOR_ID",
            CLUSTER_LIST => "CLUSTER_LIST",
            MP_REACH_NLRI => "MP_REACH_NLRI",
            MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
            AS4_PATH => "AS4_PATH",
            AS4_AGGREGATOR => "AS4_AGGREGATOR",
            LARGE_COMMUNITIES => "LARGE_COMMUNITIES",
            ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
            _ => return None,
        })
    }
}

/// Attribute flag bits (RFC 4271 §4.3).
pub mod flag {
    /// Optional; else well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// Transitive.
    pub const TRANSITIVE: u8 = 0x40;
    /// A router that did not know the attribute passed it on.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// Well-known communities.
pub mod community {
    /// RFC 8326.
    pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
    /// RFC 9494.
    pub const LLGR_STALE: u32 = 0xffff_0006;
    /// RFC 9494.
    pub const NO_LLGR: u32 = 0xffff_0007;
    /// RFC 7999.
    pub const BLACKHOLE: u32 = 0xffff_029a;
    /// RFC 1997.
    pub const NO_EXPORT: u32 = 0xffff_ff01;
    /// RFC 1997.
    pub const NO_ADVERTISE: u32 = 0xffff_ff02;
    /// RFC 1997.
    pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
}

/// ORIGIN, in order of preference (RFC 4271 §9.1.2.2 b).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Value 0.
    Igp,
    /// Value 1.
    Egp,
    /// Value 2.
    Incomplete,
}

impl Origin {
    /// The value octet.
    pub fn code(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }

    /// The origin of a value octet.
    pub fn from_code(code: u8) -> Option<Origin> {
        Some(match code {
            0 => Origin::Igp,
            1 => Origin::Egp,
            2 => Origin::Incomplete,
            _ => return None,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "igp",
            Origin::Egp => "egp",
            Origin::Incomplete => "incomplete",
        })
    }
}

/// Where packets for a route go, as the message says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NextHop {
    /// From NEXT_HOP, or MP_REACH_NLRI with a 4-octet next hop.
    V4(Ipv4Addr),
    /// From MP_REACH_NLRI (RFC 2545; for IPv4 prefixes RFC 8950).
    V6 {
        /// The global address. Some implementations send `::` beside a link-local address where there is no global one.
        global: Ipv6Addr,
        /// The link-local address, where the peer shares a link.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The octets on the wire and how many of them count: 4, 16 or 32.
    pub fn octets(&self) -> ([u8; 32], usize) {
        let mut octets = [0; 32];
        let (first, second) = octets.split_at_mut(16);
        let len = match self {
            NextHop::V4(addr) => {
                if let Some(field) = first.first_chunk_mut() {
                    *field = addr.octets();
                }
                4
            }
            NextHop::V6 { global, link_local } => {
                first.copy_from_slice(&global.octets());
                match link_local {
                    Some(addr) => {
                        second.copy_from_slice(&addr.octets());
                        32
                    }
                    None => 16,
                }
            }
        };
        (octets, len)
    }

    /// Reads 4, 16 or 32 octets. A second address that is not link-local is dropped.
    pub(crate) fn read(octets: &[u8]) -> Option<NextHop> {
        let mut reader = Reader::new(octets);
        match octets.len() {
            4 => reader.u32().map(|bits| NextHop::V4(bits.into())),
            16 | 32 => {
                let global = Ipv6Addr::from(reader.array::<16>()?);
                let link_local = reader
                    .array::<16>()
                    .map(Ipv6Addr::from)
                    .filter(Ipv6Addr::is_unicast_link_local);
                Some(NextHop::V6 { global, link_local })
            }
            _ => None,
        }
    }

    /// Whether packets could be sent there: not unspecified, loopback, multicast, class E, or an IPv4 address in IPv6
    /// clothes. Some daemons name such addresses when they have none of the family, and a default route would resolve them.
    pub fn is_usable(&self) -> bool {
        match self {
            NextHop::V4(addr) => !matches!(addr.octets(), [0 | 127, ..] | [224..=255, ..]),
            NextHop::V6 { global, link_local } => {
                !(global.is_multicast()
                    || global.is_loopback()
                    || global.to_ipv4_mapped().is_some()
                    || (global.is_unspecified() && link_local.is_none()))
            }
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::V4(addr) => addr.fmt(f),
            NextHop::V6 {
                global,
                link_local: Some(link_local),
            } if global.is_unspecified() => link_local.fmt(f),
            NextHop::V6 { global, .. } => global.fmt(f),
        }
    }
}

/// What best-path selection and export rules read all the time, taken out of the bytes once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hot {
    /// [`Origin::Incomplete`] when the attribute is absent, which only withdraw-only messages have.
    pub origin: Origin,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// AS numbers in the path, a set counting as one (RFC 4271 §9.1.2.2 a).
    pub as_path_len: u16,
    /// The first AS, when the path begins with an AS_SEQUENCE.
    pub neighbor_as: Option<u32>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// Entries of CLUSTER_LIST.
    pub cluster_list_len: u16,
    /// The path contains an AS_SET, which RFC 9774 deprecates.
    pub has_as_set: bool,
    /// Has NO_EXPORT.
    pub no_export: bool,
    /// Has NO_ADVERTISE.
    pub no_advertise: bool,
    /// Has NO_EXPORT_SUBCONFED.
    pub no_export_subconfed: bool,
    /// Has GRACEFUL_SHUTDOWN.
    pub graceful_shutdown: bool,
    /// Has LLGR_STALE.
    pub llgr_stale: bool,
    /// Has NO_LLGR.
    pub no_llgr: bool,
}

impl Hot {
    fn scan(bytes: &[u8]) -> Hot {
        let mut hot = Hot {
            origin: Origin::Incomplete,
            local_pref: None,
            med: None,
            as_path_len: 0,
            neighbor_as: None,
            originator_id: None,
            cluster_list_len: 0,
            has_as_set: false,
            no_export: false,
            no_advertise: false,
            no_export_subconfed: false,
            graceful_shutdown: false,
            llgr_stale: false,
            no_llgr: false,
        };
        for tlv in Tlvs::new(bytes) {
            let value = tlv.value;
            match tlv.kind {
                attr_type::ORIGIN => {
                    if let Some(origin) = value.first().and_then(|c| Origin::from_code(*c)) {
                        hot.origin = origin;
                    }
                }
                attr_type::AS_PATH => hot.scan_as_path(AsPath::new(value)),
                attr_type::MULTI_EXIT_DISC => hot.med = be_u32(value),
                attr_type::LOCAL_PREF => hot.local_pref = be_u32(value),
                attr_type::COMMUNITIES => words(value).for_each(|c| hot.mark_community(c)),
                attr_type::ORIGINATOR_ID => hot.originator_id = be_u32(value).map(Ipv4Addr::from),
                attr_type::CLUSTER_LIST => {
                    hot.cluster_list_len = u16::try_from(value.len() / 4).unwrap_or(u16::MAX);
                }
                _ => {}
            }
        }
        hot
    }

    fn scan_as_path(&mut self, path: AsPath<'_>) {
        let mut len = 0u16;
        for (position, segment) in path.segments().enumerate() {
            match segment.kind {
                SegmentKind::Sequence => {
                    len = len.saturating_add(segment.len() as u16);
                    if position == 0 {
                        self.neighbor_as = segment.asns().next();
                    }
                }
                SegmentKind::Set => {
                    len = len.saturating_add(1);
                    self.has_as_set = true;
                }
            }
        }
        self.as_path_len = len;
    }

    fn mark_community(&mut self, value: u32) {
        match value {
            community::NO_EXPORT => self.no_export = true,
            community::NO_ADVERTISE => self.no_advertise = true,
            community::NO_EXPORT_SUBCONFED => self.no_export_subconfed = true,
            community::GRACEFUL_SHUTDOWN => self.graceful_shutdown = true,
            community::LLGR_STALE => self.llgr_stale = true,
            community::NO_LLGR => self.no_llgr = true,
            _ => {}
        }
    }
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LargeCommunity {
    /// Global administrator: an AS number.
    pub global: u32,
    /// First local data part.
    pub local1: u32,
    /// Second local data part.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// Path attributes in canonical form. Equality and hash are those of the bytes; cloning shares them.
#[derive(Clone)]
pub struct PathAttributes {
    bytes: Arc<[u8]>,
    hot: Hot,
}

impl PathAttributes {
    /// `bytes` must be canonical.
    pub(crate) fn from_canonical(bytes: &[u8]) -> Self {
        Self {
            bytes: Arc::from(bytes),
            hot: Hot::scan(bytes),
        }
    }

    /// The canonical bytes: a sequence of attribute TLVs as in an UPDATE between four-octet-AS speakers.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields that decisions read.
    pub fn hot(&self) -> &Hot {
        &self.hot
    }

    /// The AS path; empty when absent.
    pub fn as_path(&self) -> AsPath<'_> {
        AsPath::new(self.value(attr_type::AS_PATH))
    }

    /// Communities (RFC 1997), ascending.
    pub fn communities(&self) -> impl Iterator<Item = u32> + '_ {
        words(self.value(attr_type::COMMUNITIES))
    }

    /// Large communities (RFC 8092), ascending.
    pub fn large_communities(&self) -> impl Iterator<Item = LargeCommunity> + '_ {
        let (chunks, _) = self.value(attr_type::LARGE_COMMUNITIES).as_chunks::<12>();
        chunks.iter().map(|&[a, b, c, d, e, f, g, h, i, j, k, l]| {
            let word = u32::from_be_bytes;
            LargeCommunity {
                global: word([a, b, c, d]),
                local1: word([e, f, g, h]),
                local2: word([i, j, k, l]),
            }
        })
    }

    /// Extended communities (RFC 4360), ascending.
    pub fn ext_communities(&self) -> impl Iterator<Item = [u8; 8]> + '_ {
        let (chunks, _) = self.value(attr_type::EXTENDED_COMMUNITIES).as_chunks::<8>();
        chunks.iter().copied()
    }

    /// Cluster identifiers (RFC 4456), the nearest first.
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        words(self.value(attr_type::CLUSTER_LIST)).map(Ipv4Addr::from)
    }

    /// AGGREGATOR: AS number and router.
    pub fn aggregator(&self) -> Option<(u32, Ipv4Addr)> {
        let mut reader = Reader::new(self.value(attr_type::AGGREGATOR));
        Some((reader.u32()?, reader.u32()?.into()))
    }

    /// Whether ATOMIC_AGGREGATE is present.
    pub fn atomic_aggregate(&self) -> bool {
        self.raw(attr_type::ATOMIC_AGGREGATE).is_some()
    }

    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub fn only_to_customer(&self) -> Option<u32> {
        be_u32(self.value(attr_type::ONLY_TO_CUSTOMER))
    }

    /// Flags and value of any attribute by type.
    pub fn raw(&self, kind: u8) -> Option<(u8, &[u8])> {
        self.tlvs()
            .find(|tlv| tlv.kind == kind)
            .map(|tlv| (tlv.flags, tlv.value))
    }

    /// Starts a changed copy.
    pub fn edit(&self) -> AttributeEditor {
        AttributeEditor::from(self)
    }

    pub(crate) fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.bytes)
    }

    fn value(&self, kind: u8) -> &[u8] {
        self.raw(kind).map(|(_, value)| value).unwrap_or_default()
    }
}

impl PartialEq for PathAttributes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) || self.bytes == other.bytes
    }
}

impl Eq for PathAttributes {}

impl Hash for PathAttributes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Debug for PathAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for tlv in self.tlvs() {
            map.entry(&(tlv.kind, tlv.flags), &tlv.value);
        }
        map.finish()
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (chunks, _) = value.as_chunks::<4>();
    chunks.iter().map(|chunk| u32::from_be_bytes(*chunk))
}

/// One attribute on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) flags: u8,
    pub(crate) kind: u8,
    pub(crate) value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Reads one TLV; `None` when the octets end first.
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>) -> Option<Tlv<'a>> {
        let flags = reader.u8()?;
        let kind = reader.u8()?;
        let len = if flags & flag::EXTENDED_LENGTH != 0 {
            usize::from(reader.u16()?)
        } else {
            usize::from(reader.u8()?)
        };
        let value = reader.take(len)?;
        Some(Tlv { flags, kind, value })
    }
}

/// The TLVs of bytes that are known to be whole; stops at the first that is not.
pub(crate) struct Tlvs<'a> {
    reader: Reader<'a>,
}

impl<'a> Tlvs<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
        }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    #[inline]
    fn next(&mut self) -> Option<Tlv<'a>> {
        Tlv::read(&mut self.reader)
    }
}

#[cfg(test)]
mod tests;
