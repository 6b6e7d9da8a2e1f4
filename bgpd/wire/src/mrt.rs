//! MRT records (RFC 6396, RFC 8050): a RIB as a file that `bgpdump` reads, and what sessions said.
//!
//! Owns the record formats TABLE_DUMP_V2 and BGP4MP, one function per record. Never opens a file, reads a clock or walks a
//! RIB: the caller gives times and routes, and writes what it gets. A record is appended whole or not at all.
//!
//! ```text
//! RIB walk ─> encode_peer_index_table, then encode_rib per prefix ─┐
//! sessions ─> encode_message, encode_state_change ─────────────────┴─> Vec<u8> ──> driver ──> file
//! ```
//!
//! # Where this differs from RFC 6396
//! - An IPv4 prefix with an IPv6 next hop (RFC 8950) has the abbreviated MP_REACH_NLRI that §4.3.4 describes for IPv6: a
//!   NEXT_HOP could not hold it.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::attrs::{NextHop, PathAttributes, Tlv, attr_type, flag, put_header};
use crate::family::Family;
use crate::frame::{MAX_EXTENDED_MESSAGE_LEN, frame};
use crate::nlri::Nlri;
use crate::open::Open;
use crate::read::Reader;

/// Longest record in octets, header included. The format would allow 4 GiB; readers allocate what the header says.
pub const MAX_RECORD_LEN: usize = 16 << 20;

/// Octets of the header that every record begins with (RFC 6396 §2).
const HEADER_LEN: usize = 12;
/// Offset of the length field in the header.
const LENGTH_AT: usize = 8;

/// Record types (RFC 6396 §4).
mod kind {
    pub(super) const TABLE_DUMP_V2: u16 = 13;
    pub(super) const BGP4MP: u16 = 16;
}

/// Subtypes of TABLE_DUMP_V2 (RFC 6396 §4.3, RFC 8050 §4).
mod table_dump {
    pub(super) const PEER_INDEX_TABLE: u16 = 1;
    pub(super) const RIB_IPV4_UNICAST: u16 = 2;
    pub(super) const RIB_IPV6_UNICAST: u16 = 4;
    pub(super) const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
    pub(super) const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
}

/// Subtypes of BGP4MP (RFC 6396 §4.4, RFC 8050 §3).
mod bgp4mp {
    pub(super) const MESSAGE: u16 = 1;
    pub(super) const MESSAGE_AS4: u16 = 4;
    pub(super) const STATE_CHANGE_AS4: u16 = 5;
    pub(super) const MESSAGE_ADDPATH: u16 = 8;
    pub(super) const MESSAGE_AS4_ADDPATH: u16 = 9;
}

/// Why a record cannot be written. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MrtError {
    /// More peers than a 16-bit index can name.
    #[error("more than 65535 peers in a peer index table")]
    TooManyPeers,
    /// The name of the view does not fit its length field.
    #[error("view name is longer than 65535 octets")]
    ViewNameTooLong,
    /// More routes for a prefix than the count can say.
    #[error("more than 65535 entries for a prefix")]
    TooManyEntries,
    /// Path attributes and next hop do not fit their length field.
    #[error("path attributes are longer than 65535 octets")]
    AttributesTooLong,
    /// An IPv6 prefix with an IPv4 next hop.
    #[error("IPv6 prefix with an IPv4 next hop")]
    NextHopFamily,
    /// The addresses of the two ends of a session are of different families.
    #[error("the ends of a session have addresses of different families")]
    MixedFamilies,
    /// The bytes are not exactly one BGP message.
    #[error("not one whole BGP message")]
    NotAMessage,
    /// The record exceeds [`MAX_RECORD_LEN`].
    #[error("record is longer than {MAX_RECORD_LEN} octets")]
    RecordTooLong,
}

/// A peer as the peer index table names it (RFC 6396 §4.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IndexedPeer {
    /// BGP Identifier.
    pub bgp_id: Ipv4Addr,
    /// Address of its end of the session.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
}

/// One route of a prefix (RFC 6396 §4.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RibEntry<'a> {
    /// Position of its peer in the peer index table, from 0.
    pub peer_index: u16,
    /// When it was received: seconds since 1970.
    pub originated: u32,
    /// ADD-PATH identifier; written only when the record says so.
    pub path_id: u32,
    /// Path attributes.
    pub attributes: &'a PathAttributes,
    /// Next hop.
    pub next_hop: NextHop,
}

/// All routes of a prefix (RFC 6396 §4.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RibRecord<'a> {
    /// When the dump was begun: seconds since 1970.
    pub time: u32,
    /// Counts the RIB records of a dump, from 0, starting over after 2³² - 1.
    pub sequence: u32,
    /// Destination; host bits are cleared.
    pub prefix: IpNet,
    /// Path identifiers are written (RFC 8050 §4). A dump may mix records with and without.
    pub add_path: bool,
    /// Routes, at most 65535.
    pub entries: &'a [RibEntry<'a>],
}

/// The two ends of a session (RFC 6396 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Session {
    /// The peer's AS.
    pub peer_as: u32,
    /// Our AS towards it.
    pub local_as: u32,
    /// Index of the interface; 0 when unknown.
    pub interface: u16,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address, of the same family.
    pub local: IpAddr,
}

/// How the UPDATEs of a session are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageFormat {
    /// AS_PATH and AGGREGATOR hold four-octet AS numbers.
    pub four_octet_as: bool,
    /// NLRI hold path identifiers (RFC 8050 §3).
    pub add_path: bool,
}

/// FSM state (RFC 6396 §4.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Refuses connections.
    Idle = 1,
    /// Waits for its own TCP connection.
    Connect = 2,
    /// Waits for the peer's TCP connection.
    Active = 3,
    /// Waits for an OPEN.
    OpenSent = 4,
    /// Waits for a KEEPALIVE.
    OpenConfirm = 5,
    /// Exchanges routes.
    Established = 6,
}

/// Appends the PEER_INDEX_TABLE, the first record of a RIB dump (RFC 6396 §4.3.1).
///
/// `time` is seconds since 1970, `collector` our BGP Identifier, `view` an optional name. AS numbers take four octets.
pub fn encode_peer_index_table(
    time: u32,
    collector: Ipv4Addr,
    view: &str,
    peers: &[IndexedPeer],
    out: &mut Vec<u8>,
) -> Result<(), MrtError> {
    const IPV6: u8 = 0x01;
    const FOUR_OCTET_AS: u8 = 0x02;
    let view_len = u16::try_from(view.len()).map_err(|_| MrtError::ViewNameTooLong)?;
    let count = u16::try_from(peers.len()).map_err(|_| MrtError::TooManyPeers)?;
    let subtype = table_dump::PEER_INDEX_TABLE;
    record(time, kind::TABLE_DUMP_V2, subtype, out, |out| {
        out.extend_from_slice(&collector.octets());
        out.extend_from_slice(&view_len.to_be_bytes());
        out.extend_from_slice(view.as_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        for peer in peers {
            let address = peer.address.to_canonical();
            out.push(FOUR_OCTET_AS | if address.is_ipv6() { IPV6 } else { 0 });
            out.extend_from_slice(&peer.bgp_id.octets());
            put_address(address, out);
            out.extend_from_slice(&peer.asn.to_be_bytes());
        }
        Ok(())
    })
}

/// Appends a RIB_IPV4_UNICAST or RIB_IPV6_UNICAST record (RFC 6396 §4.3.2), with path identifiers those of RFC 8050.
pub fn encode_rib(rib: &RibRecord<'_>, out: &mut Vec<u8>) -> Result<(), MrtError> {
    let count = u16::try_from(rib.entries.len()).map_err(|_| MrtError::TooManyEntries)?;
    let family = Family::of(&rib.prefix);
    let subtype = match (family, rib.add_path) {
        (Family::Ipv4Unicast, false) => table_dump::RIB_IPV4_UNICAST,
        (Family::Ipv6Unicast, false) => table_dump::RIB_IPV6_UNICAST,
        (Family::Ipv4Unicast, true) => table_dump::RIB_IPV4_UNICAST_ADDPATH,
        (Family::Ipv6Unicast, true) => table_dump::RIB_IPV6_UNICAST_ADDPATH,
    };
    record(rib.time, kind::TABLE_DUMP_V2, subtype, out, |out| {
        out.extend_from_slice(&rib.sequence.to_be_bytes());
        Nlri::new(rib.prefix).encode(false, out);
        out.extend_from_slice(&count.to_be_bytes());
        let limit = out.len() + MAX_RECORD_LEN;
        for entry in rib.entries {
            // Checked as it grows: many routes with long attributes must not fill the memory first.
            if out.len() > limit {
                return Err(MrtError::RecordTooLong);
            }
            out.extend_from_slice(&entry.peer_index.to_be_bytes());
            out.extend_from_slice(&entry.originated.to_be_bytes());
            if rib.add_path {
                out.extend_from_slice(&entry.path_id.to_be_bytes());
            }
            put_attributes(family, entry, out)?;
        }
        Ok(())
    })
}

/// Appends a message that a session received (RFC 6396 §4.4.2 and §4.4.3, RFC 8050 §3), header included.
pub fn encode_message(
    time: u32,
    session: &Session,
    format: MessageFormat,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), MrtError> {
    let whole = frame(message, MAX_EXTENDED_MESSAGE_LEN);
    if !matches!(whole, Ok(Some(found)) if found.len == message.len()) {
        return Err(MrtError::NotAMessage);
    }
    let subtype = match (format.four_octet_as, format.add_path) {
        (true, false) => bgp4mp::MESSAGE_AS4,
        (true, true) => bgp4mp::MESSAGE_AS4_ADDPATH,
        (false, false) => bgp4mp::MESSAGE,
        (false, true) => bgp4mp::MESSAGE_ADDPATH,
    };
    record(time, kind::BGP4MP, subtype, out, |out| {
        put_session(session, format.four_octet_as, out)?;
        out.extend_from_slice(message);
        Ok(())
    })
}

/// Appends a BGP4MP_STATE_CHANGE_AS4 (RFC 6396 §4.4.4).
pub fn encode_state_change(
    time: u32,
    session: &Session,
    from: State,
    to: State,
    out: &mut Vec<u8>,
) -> Result<(), MrtError> {
    record(time, kind::BGP4MP, bgp4mp::STATE_CHANGE_AS4, out, |out| {
        put_session(session, true, out)?;
        out.extend_from_slice(&(from as u16).to_be_bytes());
        out.extend_from_slice(&(to as u16).to_be_bytes());
        Ok(())
    })
}

/// Appends a record; on an error `out` is as before.
fn record(
    time: u32,
    kind: u16,
    subtype: u16,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), MrtError>,
) -> Result<(), MrtError> {
    let start = out.len();
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&subtype.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    let written = body(out).and_then(|()| match out.len() - start {
        len @ ..=MAX_RECORD_LEN => Ok((len - HEADER_LEN) as u32),
        _ => Err(MrtError::RecordTooLong),
    });
    match (written, out.get_mut(start + LENGTH_AT..start + HEADER_LEN)) {
        (Ok(len), Some(field)) => field.copy_from_slice(&len.to_be_bytes()),
        _ => out.truncate(start),
    }
    written.map(|_| ())
}

/// Appends the attributes of a route with their length: those of the route, and its next hop where its type sorts.
fn put_attributes(family: Family, entry: &RibEntry<'_>, out: &mut Vec<u8>) -> Result<(), MrtError> {
    let (octets, next_hop_len) = entry.next_hop.octets();
    let mut next_hop: SmallVec<[u8; 40]> = SmallVec::new();
    let kind = match (family, entry.next_hop) {
        (Family::Ipv4Unicast, NextHop::V4(_)) => {
            put_header(&mut next_hop, flag::TRANSITIVE, attr_type::NEXT_HOP, 4);
            attr_type::NEXT_HOP
        }
        (Family::Ipv6Unicast, NextHop::V4(_)) => return Err(MrtError::NextHopFamily),
        (_, NextHop::V6 { .. }) => {
            let kind = attr_type::MP_REACH_NLRI;
            put_header(&mut next_hop, flag::OPTIONAL, kind, 1 + next_hop_len);
            next_hop.push(next_hop_len as u8);
            kind
        }
    };
    next_hop.extend(octets.into_iter().take(next_hop_len));

    let bytes = entry.attributes.as_bytes();
    let mut rest = Reader::new(bytes);
    let mut sorts_at = 0;
    while let Some(tlv) = Tlv::read(&mut rest)
        && tlv.kind < kind
    {
        sorts_at = bytes.len() - rest.rest().len();
    }
    let (before, after) = bytes.split_at_checked(sorts_at).unwrap_or((bytes, &[]));
    let len = u16::try_from(bytes.len() + next_hop.len());
    out.extend_from_slice(&len.map_err(|_| MrtError::AttributesTooLong)?.to_be_bytes());
    out.extend_from_slice(before);
    out.extend_from_slice(&next_hop);
    out.extend_from_slice(after);
    Ok(())
}

fn put_session(session: &Session, four_octet_as: bool, out: &mut Vec<u8>) -> Result<(), MrtError> {
    let (peer, local) = (session.peer.to_canonical(), session.local.to_canonical());
    let family = match (peer, local) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Family::Ipv4Unicast,
        (IpAddr::V6(_), IpAddr::V6(_)) => Family::Ipv6Unicast,
        _ => return Err(MrtError::MixedFamilies),
    };
    for asn in [session.peer_as, session.local_as] {
        if four_octet_as {
            out.extend_from_slice(&asn.to_be_bytes());
        } else {
            out.extend_from_slice(&Open::two_octet(asn).to_be_bytes());
        }
    }
    out.extend_from_slice(&session.interface.to_be_bytes());
    out.extend_from_slice(&family.afi().to_be_bytes());
    put_address(peer, out);
    put_address(local, out);
    Ok(())
}

fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

#[cfg(test)]
mod tests;
