//! BGP Monitoring Protocol, version 3 (RFC 7854): what a collector is told about sessions and routes.
//!
//! Owns the messages from a router to a collector, one function per message. Never connects, reads a clock or decides what
//! is monitored; a collector never answers, so there is nothing to decode. A message is appended whole or not at all.
//!
//! ```text
//! connected ──> encode_initiation ─────────────────────────────────────┐
//! session ────> encode_peer_up, encode_peer_down ──────────────────────┤
//! Adj-RIB-In ─> encode_route_monitoring (UPDATEs, then End-of-RIB) ────┼─> Vec<u8> ──> driver ──> collector
//! timer ──────> encode_stats_report ───────────────────────────────────┤
//! closing ────> encode_termination ────────────────────────────────────┘
//! ```

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use crate::family::Family;
use crate::frame::{MAX_EXTENDED_MESSAGE_LEN, MessageType, frame};
use crate::notification::Notification;

/// Longest message in octets that is written: a Peer Up with two OPENs of any length fits.
pub const MAX_MESSAGE_LEN: usize = 256 << 10;
/// Longest text in octets; what is longer is cut.
pub const MAX_TEXT_LEN: usize = 4096;

const VERSION: u8 = 3;
/// Octets of the common header (RFC 7854 §4.1).
const COMMON_LEN: usize = 6;

/// Message types (RFC 7854 §4.1).
mod kind {
    pub(super) const ROUTE_MONITORING: u8 = 0;
    pub(super) const STATISTICS_REPORT: u8 = 1;
    pub(super) const PEER_DOWN: u8 = 2;
    pub(super) const PEER_UP: u8 = 3;
    pub(super) const INITIATION: u8 = 4;
    pub(super) const TERMINATION: u8 = 5;
}

/// Information TLVs of Initiation and Peer Up (RFC 7854 §4.4) and Termination (§4.5).
mod information {
    pub(super) const STRING: u16 = 0;
    pub(super) const SYS_DESCR: u16 = 1;
    pub(super) const SYS_NAME: u16 = 2;
    pub(super) const TERMINATION_REASON: u16 = 1;
}

/// Peer flags (RFC 7854 §4.2).
mod peer_flag {
    /// V: the addresses are IPv6.
    pub(super) const IPV6: u8 = 0x80;
    /// L: after the import policy.
    pub(super) const POST_POLICY: u8 = 0x40;
    /// A: AS_PATH in the legacy form of two octets.
    pub(super) const TWO_OCTET_AS: u8 = 0x20;
}

/// Why a message cannot be written. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BmpError {
    /// The bytes are not exactly one BGP message of the type that belongs there.
    #[error("not one whole BGP message of type {expected:?}")]
    NotAMessage {
        /// What belongs there.
        expected: MessageType,
    },
    /// Our address and the peer's are of different families.
    #[error("the ends of a session have addresses of different families")]
    MixedFamilies,
    /// The message exceeds [`MAX_MESSAGE_LEN`].
    #[error("message is longer than {MAX_MESSAGE_LEN} octets")]
    TooLong,
}

/// A point in time. Zero says that it is not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    seconds: u32,
    micros: u32,
}

impl Timestamp {
    /// From the time since 1970; what exceeds 32 bits of seconds is the last second that they can say.
    pub fn since_1970(elapsed: Duration) -> Timestamp {
        Timestamp {
            seconds: u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX),
            micros: elapsed.subsec_micros(),
        }
    }
}

/// Which routes of a peer a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AdjRibIn {
    /// As received.
    #[default]
    PrePolicy,
    /// After the import policy.
    PostPolicy,
}

/// The per-peer header (RFC 7854 §4.2) of a peer of the default table, whose distinguisher is zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerHeader {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS.
    pub asn: u32,
    /// The peer's BGP Identifier.
    pub bgp_id: Ipv4Addr,
    /// Which of its routes. Means nothing for Peer Up and Peer Down, which ignore it.
    pub view: AdjRibIn,
    /// The AS_PATH of a Route Monitoring message holds two-octet AS numbers.
    pub two_octet_as: bool,
    /// When the route was received or the event happened.
    pub time: Timestamp,
}

/// A session that became Established (RFC 7854 §4.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerUp<'a> {
    /// Our address, of the family of the peer's.
    pub local_address: IpAddr,
    /// Our TCP port.
    pub local_port: u16,
    /// The peer's TCP port.
    pub remote_port: u16,
    /// The OPEN we sent, header included.
    pub sent_open: &'a [u8],
    /// The OPEN we received, header included.
    pub received_open: &'a [u8],
    /// Free text about the peer.
    pub information: &'a [&'a str],
}

/// Why a session ended (RFC 7854 §4.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerDown<'a> {
    /// Reason 1: we closed it and sent this.
    LocalNotification(&'a Notification),
    /// Reason 2: we closed it without a word, after this event of RFC 4271 §8.1; 0 when none fits.
    LocalEvent(u16),
    /// Reason 3: the peer closed it and sent this.
    RemoteNotification(&'a Notification),
    /// Reason 4: the peer closed it without a word.
    RemoteClose,
    /// Reason 5: the session may live, but the collector is told no more about it.
    Deconfigured,
}

/// Why the connection to the collector is closed (RFC 7854 §4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TerminationReason {
    /// By configuration; we may connect again.
    AdministrativelyClosed = 0,
    /// Not said.
    Unspecified = 1,
    /// We cannot afford it.
    OutOfResources = 2,
    /// The collector is connected twice.
    RedundantConnection = 3,
    /// By configuration; we will not connect again.
    PermanentlyClosed = 4,
}

/// One number about a peer (RFC 7854 §4.8, Adj-RIB-Out RFC 8671 §6.2). Counters start at zero with the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stat {
    /// 0: prefixes that the import policy rejected.
    RejectedByPolicy(u32),
    /// 1: announcements of what was known.
    DuplicateAnnouncements(u32),
    /// 2: withdrawals of what was not there.
    DuplicateWithdrawals(u32),
    /// 3: UPDATEs invalid because of our cluster in CLUSTER_LIST.
    ClusterListLoops(u32),
    /// 4: UPDATEs invalid because of our AS in AS_PATH.
    AsPathLoops(u32),
    /// 5: UPDATEs invalid because of our identifier in ORIGINATOR_ID.
    OriginatorIdLoops(u32),
    /// 7: routes in the Adj-RIB-In.
    AdjRibInRoutes(u64),
    /// 8: routes in the Loc-RIB.
    LocRibRoutes(u64),
    /// 9: routes of a family in the Adj-RIB-In.
    AdjRibInFamilyRoutes(Family, u64),
    /// 10: routes of a family in the Loc-RIB.
    LocRibFamilyRoutes(Family, u64),
    /// 11: UPDATEs that withdrew routes because they were malformed (RFC 7606).
    UpdatesTreatedAsWithdraw(u32),
    /// 12: prefixes in them.
    PrefixesTreatedAsWithdraw(u32),
    /// 13: UPDATEs that changed nothing.
    DuplicateUpdates(u32),
    /// 15: routes in the Adj-RIB-Out, after the export policy.
    AdjRibOutRoutes(u64),
    /// 17: routes of a family in the Adj-RIB-Out, after the export policy.
    AdjRibOutFamilyRoutes(Family, u64),
}

impl Stat {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Stat::RejectedByPolicy(count) => put_counter(0, count, out),
            Stat::DuplicateAnnouncements(count) => put_counter(1, count, out),
            Stat::DuplicateWithdrawals(count) => put_counter(2, count, out),
            Stat::ClusterListLoops(count) => put_counter(3, count, out),
            Stat::AsPathLoops(count) => put_counter(4, count, out),
            Stat::OriginatorIdLoops(count) => put_counter(5, count, out),
            Stat::AdjRibInRoutes(routes) => put_gauge(7, None, routes, out),
            Stat::LocRibRoutes(routes) => put_gauge(8, None, routes, out),
            Stat::AdjRibInFamilyRoutes(family, routes) => put_gauge(9, Some(family), routes, out),
            Stat::LocRibFamilyRoutes(family, routes) => put_gauge(10, Some(family), routes, out),
            Stat::UpdatesTreatedAsWithdraw(count) => put_counter(11, count, out),
            Stat::PrefixesTreatedAsWithdraw(count) => put_counter(12, count, out),
            Stat::DuplicateUpdates(count) => put_counter(13, count, out),
            Stat::AdjRibOutRoutes(routes) => put_gauge(15, None, routes, out),
            Stat::AdjRibOutFamilyRoutes(family, routes) => {
                put_gauge(17, Some(family), routes, out);
            }
        }
    }
}

/// Appends an Initiation, the first message to a collector (RFC 7854 §4.3): sysDescr and sysName of RFC 1213, free text.
pub fn encode_initiation(
    sys_descr: &str,
    sys_name: &str,
    information: &[&str],
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    message(kind::INITIATION, out, |out| {
        put_text(information::SYS_DESCR, sys_descr, out);
        put_text(information::SYS_NAME, sys_name, out);
        put_texts(information, out)
    })
}

/// Appends a Termination, the last message to a collector (RFC 7854 §4.5). Empty `text` says nothing.
pub fn encode_termination(
    reason: TerminationReason,
    text: &str,
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    message(kind::TERMINATION, out, |out| {
        let value = (reason as u16).to_be_bytes();
        put_tlv(information::TERMINATION_REASON, &value, out);
        if !text.is_empty() {
            put_text(information::STRING, text, out);
        }
        Ok(())
    })
}

/// Appends a Peer Up (RFC 7854 §4.10).
pub fn encode_peer_up(
    peer: &PeerHeader,
    up: &PeerUp<'_>,
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    let local = up.local_address.to_canonical();
    if local.is_ipv6() != peer.address.to_canonical().is_ipv6() {
        return Err(BmpError::MixedFamilies);
    }
    check_message(up.sent_open, MessageType::Open)?;
    check_message(up.received_open, MessageType::Open)?;
    message(kind::PEER_UP, out, |out| {
        peer.without_view().encode(out);
        put_address(local, out);
        out.extend_from_slice(&up.local_port.to_be_bytes());
        out.extend_from_slice(&up.remote_port.to_be_bytes());
        out.extend_from_slice(up.sent_open);
        out.extend_from_slice(up.received_open);
        put_texts(up.information, out)
    })
}

/// Appends a Peer Down (RFC 7854 §4.9).
pub fn encode_peer_down(
    peer: &PeerHeader,
    down: &PeerDown<'_>,
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    message(kind::PEER_DOWN, out, |out| {
        peer.without_view().encode(out);
        match down {
            PeerDown::LocalNotification(notification) => {
                out.push(1);
                notification.encode(out);
            }
            PeerDown::LocalEvent(event) => {
                out.push(2);
                out.extend_from_slice(&event.to_be_bytes());
            }
            PeerDown::RemoteNotification(notification) => {
                out.push(3);
                notification.encode(out);
            }
            PeerDown::RemoteClose => out.push(4),
            PeerDown::Deconfigured => out.push(5),
        }
        Ok(())
    })
}

/// Appends a Route Monitoring message (RFC 7854 §4.6) around one UPDATE, header included. A dump of a peer's routes ends
/// with an End-of-RIB per family.
pub fn encode_route_monitoring(
    peer: &PeerHeader,
    update: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    check_message(update, MessageType::Update)?;
    message(kind::ROUTE_MONITORING, out, |out| {
        peer.encode(out);
        out.extend_from_slice(update);
        Ok(())
    })
}

/// Appends a Stats Report (RFC 7854 §4.8).
pub fn encode_stats_report(
    peer: &PeerHeader,
    stats: &[Stat],
    out: &mut Vec<u8>,
) -> Result<(), BmpError> {
    // Each takes at least eight octets: more than these never fit.
    let count = match u32::try_from(stats.len()) {
        Ok(count) if stats.len() <= MAX_MESSAGE_LEN / 8 => count,
        _ => return Err(BmpError::TooLong),
    };
    message(kind::STATISTICS_REPORT, out, |out| {
        peer.encode(out);
        out.extend_from_slice(&count.to_be_bytes());
        stats.iter().for_each(|stat| stat.encode(out));
        Ok(())
    })
}

impl PeerHeader {
    fn without_view(self) -> PeerHeader {
        PeerHeader {
            view: AdjRibIn::PrePolicy,
            two_octet_as: false,
            ..self
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        /// A peer that is not in a VRF.
        const GLOBAL_INSTANCE: u8 = 0;
        let address = self.address.to_canonical();
        let mut flags = 0;
        if address.is_ipv6() {
            flags |= peer_flag::IPV6;
        }
        if self.view == AdjRibIn::PostPolicy {
            flags |= peer_flag::POST_POLICY;
        }
        if self.two_octet_as {
            flags |= peer_flag::TWO_OCTET_AS;
        }
        out.extend_from_slice(&[GLOBAL_INSTANCE, flags]);
        let distinguisher = [0; 8];
        out.extend_from_slice(&distinguisher);
        put_address(address, out);
        out.extend_from_slice(&self.asn.to_be_bytes());
        out.extend_from_slice(&self.bgp_id.octets());
        out.extend_from_slice(&self.time.seconds.to_be_bytes());
        out.extend_from_slice(&self.time.micros.to_be_bytes());
    }
}

/// Appends a message; on an error `out` is as before.
fn message(
    kind: u8,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), BmpError>,
) -> Result<(), BmpError> {
    let start = out.len();
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, kind]);
    let written = body(out).and_then(|()| match out.len() - start {
        len @ COMMON_LEN..=MAX_MESSAGE_LEN => Ok(len as u32),
        _ => Err(BmpError::TooLong),
    });
    match (written, out.get_mut(start + 1..start + 5)) {
        (Ok(len), Some(field)) => field.copy_from_slice(&len.to_be_bytes()),
        _ => out.truncate(start),
    }
    written.map(|_| ())
}

/// A collector finds the end of a message inside by its length field, so that must be right.
fn check_message(bytes: &[u8], expected: MessageType) -> Result<(), BmpError> {
    match frame(bytes, MAX_EXTENDED_MESSAGE_LEN) {
        Ok(Some(found)) if found.len == bytes.len() && found.kind == expected => Ok(()),
        _ => Err(BmpError::NotAMessage { expected }),
    }
}

/// Sixteen octets; an IPv4 address takes the last four.
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

/// `value` has less than 65536 octets.
fn put_tlv(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    debug_assert!(value.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

fn put_text(kind: u16, text: &str, out: &mut Vec<u8>) {
    let end = text.floor_char_boundary(MAX_TEXT_LEN);
    put_tlv(kind, text.get(..end).unwrap_or_default().as_bytes(), out);
}

fn put_texts(texts: &[&str], out: &mut Vec<u8>) -> Result<(), BmpError> {
    let limit = out.len() + MAX_MESSAGE_LEN;
    for text in texts {
        if out.len() > limit {
            return Err(BmpError::TooLong);
        }
        put_text(information::STRING, text, out);
    }
    Ok(())
}

fn put_counter(kind: u16, count: u32, out: &mut Vec<u8>) {
    put_tlv(kind, &count.to_be_bytes(), out);
}

fn put_gauge(kind: u16, family: Option<Family>, routes: u64, out: &mut Vec<u8>) {
    let mut value = Vec::with_capacity(11);
    if let Some(family) = family {
        value.extend_from_slice(&family.afi().to_be_bytes());
        value.push(family.safi());
    }
    value.extend_from_slice(&routes.to_be_bytes());
    put_tlv(kind, &value, out);
}

#[cfg(test)]
mod tests;
