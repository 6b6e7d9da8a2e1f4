//! UPDATE encoding: packs prefixes that share attributes and next hop into as few messages as fit.
//!
//! Every message remembers where its next hop is, so that one encoding can serve peers on different links.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attrs::{NextHop, PathAttributes, Tlv, attr_type, flag, put_header};
use crate::family::Family;
use crate::frame::{HEADER_LEN, MessageType, finish_message, put_u16_at, start_message};
use crate::nlri::Nlri;
use crate::open::AS_TRANS;
use crate::read::Reader;

/// What of the session decides how an UPDATE is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EncodeContext {
    /// Both sides sent the four-octet AS capability.
    pub four_octet_as: bool,
    /// Per family in the order of [`Family::ALL`]: we send path identifiers.
    pub add_path: [bool; 2],
    /// Longest message in octets, header included: [`crate::MAX_MESSAGE_LEN`] or [`crate::MAX_EXTENDED_MESSAGE_LEN`].
    pub max_len: usize,
    /// IPv4 prefixes may go with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

/// One UPDATE, header included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedUpdate {
    /// The message.
    pub bytes: Vec<u8>,
    /// Offset in `bytes` and length (4, 16 or 32) of the next hop; `None` when the message announces nothing.
    pub next_hop_at: Option<(usize, usize)>,
    /// Prefixes announced or withdrawn.
    pub prefixes: usize,
}

impl EncodedUpdate {
    /// Puts another next hop in. `false`, and no change, when its wire form has another length.
    pub fn patch_next_hop(&mut self, next_hop: &NextHop) -> bool {
        let (octets, len) = next_hop.octets();
        let field = self
            .next_hop_at
            .filter(|(_, existing)| *existing == len)
            .and_then(|(at, len)| self.bytes.get_mut(at..at + len));
        match (field, octets.get(..len)) {
            (Some(field), Some(octets)) => {
                field.copy_from_slice(octets);
                true
            }
            _ => false,
        }
    }
}

/// Why a route cannot be announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// Attributes and one prefix exceed the message.
    #[error("path attributes do not fit a message of {max_len} octets")]
    AttributesTooLong {
        /// The limit.
        max_len: usize,
    },
    /// The prefix family cannot be announced with this kind of next hop to this peer.
    #[error("{family} prefixes cannot go with this next hop to this peer")]
    NextHopFamily {
        /// Family of the prefixes.
        family: Family,
    },
}

/// Octets of an MP attribute before next hop or NLRI: flags, type, two of length, AFI, SAFI.
const MP_FIXED: usize = 7;
const MP_FLAGS: u8 = flag::OPTIONAL | flag::EXTENDED_LENGTH;
/// Where the withdrawn routes length is.
const WITHDRAWN_LEN_AT: usize = HEADER_LEN;
/// Where the total attribute length is in a message without withdrawn routes.
const ATTRIBUTES_LEN_AT: usize = HEADER_LEN + 2;
const ATTRIBUTES_AT: usize = HEADER_LEN + 4;

/// Appends to `out` the messages that announce `nlri`, each as full as it gets.
///
/// IPv4 prefixes with an IPv4 next hop go into the message body, everything else into MP_REACH_NLRI as the first attribute
/// (RFC 7606 §5.1). Prefixes of another family are left out. No prefixes, no message.
pub fn encode_reach(
    family: Family,
    attrs: &PathAttributes,
    next_hop: &NextHop,
    nlri: &[Nlri],
    ctx: &EncodeContext,
    out: &mut Vec<EncodedUpdate>,
) -> Result<(), EncodeError> {
    let attributes = session_attributes(attrs, ctx);
    let template = match (family, next_hop) {
        (Family::Ipv4Unicast, NextHop::V4(addr)) => classic(&attributes, addr.octets()),
        (Family::Ipv6Unicast, NextHop::V4(_)) => {
            return Err(EncodeError::NextHopFamily { family });
        }
        (Family::Ipv4Unicast, NextHop::V6 { .. }) if !ctx.extended_next_hop => {
            return Err(EncodeError::NextHopFamily { family });
        }
        _ => multiprotocol(family, &attributes, next_hop),
    };
    template.fill(family, nlri, ctx, out)
}

/// Whether a message has room for these attributes and any one prefix of the family. The next hop must be of a kind that
/// the peer reads.
pub fn has_room(
    family: Family,
    attrs: &PathAttributes,
    next_hop: &NextHop,
    ctx: &EncodeContext,
) -> bool {
    /// More than the header, MP_REACH_NLRI or NEXT_HOP and a prefix take.
    const REST: usize = 128;
    // AS4_PATH and AS4_AGGREGATOR repeat what is there.
    let times = if ctx.four_octet_as { 1 } else { 2 };
    if times * attrs.as_bytes().len() + REST <= ctx.max_len {
        return true;
    }
    let longest = match family {
        Family::Ipv4Unicast => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6Unicast => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let longest = [Nlri::new(longest.into())];
    encode_reach(family, attrs, next_hop, &longest, ctx, &mut Vec::new()).is_ok()
}

/// Appends to `out` the messages that withdraw `nlri`. Prefixes of another family are left out.
pub fn encode_unreach(
    family: Family,
    nlri: &[Nlri],
    ctx: &EncodeContext,
    out: &mut Vec<EncodedUpdate>,
) {
    let filled = withdrawal(family).fill(family, nlri, ctx, out);
    debug_assert!(filled.is_ok(), "a limit below an ordinary message");
}

/// The End-of-RIB marker of a family (RFC 4724 §2).
pub fn encode_end_of_rib(family: Family) -> EncodedUpdate {
    let mut template = match family {
        Family::Ipv4Unicast => Template {
            head: empty_update(),
            tail: &[],
            layout: Layout::Body,
            next_hop_at: None,
        },
        Family::Ipv6Unicast => withdrawal(family),
    };
    template.layout.set_lengths(&mut template.head, 0, 0);
    finish_message(0, &mut template.head);
    EncodedUpdate {
        bytes: template.head,
        next_hop_at: None,
        prefixes: 0,
    }
}

fn empty_update() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    start_message(MessageType::Update, &mut bytes);
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// Where in a message the prefixes stand, and which lengths count them.
#[derive(Clone, Copy)]
enum Layout {
    /// At the end.
    Body,
    /// As withdrawn routes; the total attribute length, 0, follows.
    Withdrawn,
    /// In the MP attribute that comes first; other attributes follow.
    Mp,
}

impl Layout {
    /// Writes the length fields of a message whose prefixes take `nlri` octets and are followed by `tail` octets.
    fn set_lengths(self, bytes: &mut [u8], nlri: usize, tail: usize) {
        let len = bytes.len();
        match self {
            Layout::Body => {
                let attributes = len.saturating_sub(ATTRIBUTES_AT + nlri);
                put_u16_at(bytes, ATTRIBUTES_LEN_AT, attributes);
            }
            Layout::Withdrawn => put_u16_at(bytes, WITHDRAWN_LEN_AT, nlri),
            Layout::Mp => {
                let attributes = len.saturating_sub(ATTRIBUTES_AT);
                put_u16_at(bytes, ATTRIBUTES_LEN_AT, attributes);
                let value = attributes.saturating_sub(4 + tail);
                put_u16_at(bytes, ATTRIBUTES_AT + 2, value);
            }
        }
    }
}

/// A message without its prefixes.
struct Template<'t> {
    /// Before the prefixes.
    head: Vec<u8>,
    /// After the prefixes.
    tail: &'t [u8],
    layout: Layout,
    next_hop_at: Option<(usize, usize)>,
}

impl Template<'_> {
    fn fill(
        &self,
        family: Family,
        nlri: &[Nlri],
        ctx: &EncodeContext,
        out: &mut Vec<EncodedUpdate>,
    ) -> Result<(), EncodeError> {
        let add_path = family.pick(ctx.add_path);
        // The length field has two octets, whatever the caller asks for.
        let max_len = ctx.max_len.min(crate::frame::MAX_EXTENDED_MESSAGE_LEN);
        let room = max_len.saturating_sub(self.head.len() + self.tail.len());
        let mut rest = nlri
            .iter()
            .filter(|n| Family::of(&n.prefix) == family)
            .peekable();
        while let Some(first) = rest.peek() {
            if first.wire_len(add_path) > room {
                return Err(EncodeError::AttributesTooLong { max_len });
            }
            let expected = rest.size_hint().1.unwrap_or(0).saturating_mul(21);
            let mut bytes =
                Vec::with_capacity(self.head.len() + self.tail.len() + expected.min(room));
            bytes.extend_from_slice(&self.head);
            let limit = self.head.len() + room;
            let mut prefixes = 0;
            while let Some(next) =
                rest.next_if(|next| bytes.len() + next.wire_len(add_path) <= limit)
            {
                next.encode(add_path, &mut bytes);
                prefixes += 1;
            }
            let nlri_len = bytes.len() - self.head.len();
            bytes.extend_from_slice(self.tail);
            self.layout
                .set_lengths(&mut bytes, nlri_len, self.tail.len());
            finish_message(0, &mut bytes);
            out.push(EncodedUpdate {
                bytes,
                next_hop_at: self.next_hop_at,
                prefixes,
            });
        }
        Ok(())
    }
}

/// Attributes sorted by type, with NEXT_HOP at its place.
fn classic(attributes: &SessionAttributes<'_>, next_hop: [u8; 4]) -> Template<'static> {
    let mut head = empty_update();
    head.extend_from_slice(attributes.before_next_hop());
    put_header(&mut head, flag::TRANSITIVE, attr_type::NEXT_HOP, 4);
    let at = head.len();
    head.extend_from_slice(&next_hop);
    head.extend_from_slice(attributes.after_next_hop());
    Template {
        head,
        tail: &[],
        layout: Layout::Body,
        next_hop_at: Some((at, 4)),
    }
}

/// MP_REACH_NLRI first, then the other attributes.
fn multiprotocol<'t>(
    family: Family,
    attributes: &'t SessionAttributes<'_>,
    next_hop: &NextHop,
) -> Template<'t> {
    let (octets, len) = next_hop.octets();
    let mut head = start_mp(attr_type::MP_REACH_NLRI, family);
    head.push(len as u8);
    let at = head.len();
    head.extend(octets.iter().take(len));
    head.push(0);
    Template {
        head,
        tail: &attributes.bytes,
        layout: Layout::Mp,
        next_hop_at: Some((at, len)),
    }
}

fn withdrawal(family: Family) -> Template<'static> {
    match family {
        Family::Ipv4Unicast => {
            let mut head = Vec::with_capacity(HEADER_LEN + 2);
            start_message(MessageType::Update, &mut head);
            head.extend_from_slice(&[0; 2]);
            Template {
                head,
                tail: &[0; 2],
                layout: Layout::Withdrawn,
                next_hop_at: None,
            }
        }
        Family::Ipv6Unicast => Template {
            head: start_mp(attr_type::MP_UNREACH_NLRI, family),
            tail: &[],
            layout: Layout::Mp,
            next_hop_at: None,
        },
    }
}

fn start_mp(kind: u8, family: Family) -> Vec<u8> {
    let mut head = empty_update();
    let [afi_high, afi_low] = family.afi().to_be_bytes();
    let fixed: [u8; MP_FIXED] = [MP_FLAGS, kind, 0, 0, afi_high, afi_low, family.safi()];
    head.extend_from_slice(&fixed);
    head
}

/// Attributes as this session writes them, without what belongs to the message.
struct SessionAttributes<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where NEXT_HOP sorts in.
    next_hop_sorts_at: usize,
}

impl SessionAttributes<'_> {
    fn before_next_hop(&self) -> &[u8] {
        self.bytes.get(..self.next_hop_sorts_at).unwrap_or_default()
    }

    fn after_next_hop(&self) -> &[u8] {
        self.bytes.get(self.next_hop_sorts_at..).unwrap_or_default()
    }
}

fn session_attributes<'a>(attrs: &'a PathAttributes, ctx: &EncodeContext) -> SessionAttributes<'a> {
    let bytes = if ctx.four_octet_as {
        Cow::Borrowed(attrs.as_bytes())
    } else {
        Cow::Owned(two_octet_attributes(attrs))
    };
    let mut rest = Reader::new(&bytes);
    let mut next_hop_sorts_at = 0;
    while let Some(tlv) = Tlv::read(&mut rest)
        && tlv.kind < attr_type::NEXT_HOP
    {
        next_hop_sorts_at = bytes.len() - rest.rest().len();
    }
    SessionAttributes {
        bytes,
        next_hop_sorts_at,
    }
}

/// RFC 6793 §4.2.2: towards a speaker of two-octet AS numbers, AS_TRANS stands where two octets are too few, and the AS4
/// attributes carry the truth.
fn two_octet_attributes(attrs: &PathAttributes) -> Vec<u8> {
    let path = attrs.as_path();
    let as4_path = path.needs_as4().then(|| path.as_bytes());
    let as4_aggregator = attrs
        .raw(attr_type::AGGREGATOR)
        .filter(|(_, value)| !value.starts_with(&[0, 0]));
    let mut added = [
        (attr_type::AS4_PATH, AS4_FLAGS, as4_path),
        (
            attr_type::AS4_AGGREGATOR,
            as4_aggregator.map_or(AS4_FLAGS, |(flags, _)| flags),
            as4_aggregator.map(|(_, value)| value),
        ),
    ]
    .into_iter()
    .filter_map(|(kind, flags, value)| value.map(|value| (kind, flags, value)))
    .peekable();

    let mut out = Vec::with_capacity(attrs.as_bytes().len() + 64);
    let mut put = |flags, kind, value: &[u8]| {
        put_header(&mut out, flags, kind, value.len());
        out.extend_from_slice(value);
    };
    for tlv in attrs.tlvs() {
        while let Some((kind, flags, value)) = added.next_if(|(kind, ..)| *kind < tlv.kind) {
            put(flags, kind, value);
        }
        match (tlv.kind, tlv.value) {
            (attr_type::AS_PATH, _) => put(tlv.flags, tlv.kind, &path.to_two_octet()),
            (attr_type::AGGREGATOR, [a, b, c, d, router @ ..]) => {
                let asn = u16::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(AS_TRANS);
                let [high, low] = asn.to_be_bytes();
                let mut value = vec![high, low];
                value.extend_from_slice(router);
                put(tlv.flags, tlv.kind, &value);
            }
            _ => put(tlv.flags, tlv.kind, tlv.value),
        }
    }
    for (kind, flags, value) in added {
        put(flags, kind, value);
    }
    out
}

const AS4_FLAGS: u8 = flag::OPTIONAL | flag::TRANSITIVE;

#[cfg(test)]
mod tests;
