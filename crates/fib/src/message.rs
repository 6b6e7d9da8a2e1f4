//! Next-hop objects on the wire (`linux/nexthop.h`), which the netlink library does not know, and one type for both kinds
//! of messages. Pure; never panics on what the kernel sends.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use smallvec::SmallVec;

use crate::groups::{Member, NextHopBody, NextHopObject, NextHopOp};

pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// `struct nhmsg`: family, scope, protocol, reserved, flags.
const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// Repeats the flags of the header where the kernel knows the attribute; changes nothing.
const NHA_OP_FLAGS: u16 = 14;
const NLA_TYPE_MASK: u16 = 0x3fff;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A message of rtnetlink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Route(RouteNetlinkMessage),
    NextHop(NextHopMessage),
}

/// A message about next-hop objects, as bytes: header and attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NextHopMessage {
    pub(crate) kind: u16,
    body: Vec<u8>,
}

impl NextHopMessage {
    fn new(kind: u16, family: u8, protocol: u8) -> Self {
        NextHopMessage {
            kind,
            body: vec![family, 0, protocol, 0, 0, 0, 0, 0],
        }
    }

    fn push(&mut self, attribute: u16, value: &[u8]) {
        // Groups are bounded far below what 16 bits can say.
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend(len.to_ne_bytes());
        self.body.extend(attribute.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    /// The body of RTM_NEWNEXTHOP or RTM_DELNEXTHOP.
    pub(crate) fn request(op: &NextHopOp, protocol: u8) -> Self {
        let id = op.id().to_ne_bytes();
        match op {
            NextHopOp::AddMember { member, .. } => {
                let (family, gateway) = match member.gateway {
                    IpAddr::V4(addr) => (AF_INET, addr.octets().to_vec()),
                    IpAddr::V6(addr) => (AF_INET6, addr.octets().to_vec()),
                };
                let mut message = NextHopMessage::new(RTM_NEWNEXTHOP, family, protocol);
                message.push(NHA_ID, &id);
                message.push(NHA_OIF, &member.ifindex.to_ne_bytes());
                message.push(NHA_GATEWAY, &gateway);
                message
            }
            NextHopOp::AddGroup { members, .. } | NextHopOp::ReplaceGroup { members, .. } => {
                let mut message = NextHopMessage::new(RTM_NEWNEXTHOP, 0, protocol);
                message.push(NHA_ID, &id);
                let entries: Vec<u8> = members.iter().flat_map(group_entry).collect();
                message.push(NHA_GROUP, &entries);
                message
            }
            NextHopOp::Delete { .. } => {
                let mut message = NextHopMessage::new(RTM_DELNEXTHOP, 0, 0);
                message.push(NHA_ID, &id);
                message
            }
        }
    }

    /// The body of a dump of all next-hop objects.
    pub(crate) fn dump() -> Self {
        NextHopMessage::new(RTM_GETNEXTHOP, 0, 0)
    }

    /// What a notification or a line of a dump says.
    pub(crate) fn read(&self) -> Option<NextHopObject> {
        let [_, _, protocol, ..] = *self.body.first_chunk::<HEADER>()?;
        let mut object = NextHopObject {
            id: 0,
            protocol,
            body: NextHopBody::Odd,
        };
        let (mut gateway, mut ifindex, mut group, mut odd) = (None, None, None, false);
        for (kind, value) in attributes(self.body.get(HEADER..)?) {
            match kind {
                NHA_ID => object.id = u32::from_ne_bytes(value.try_into().ok()?),
                NHA_OIF => ifindex = Some(u32::from_ne_bytes(value.try_into().ok()?)),
                NHA_GATEWAY => gateway = address(value),
                NHA_GROUP => group = Some(read_group(value)),
                NHA_GROUP_TYPE => odd |= value.iter().any(|byte| *byte != 0),
                NHA_OP_FLAGS => {}
                _ => odd = true,
            }
        }
        object.body = match (group, gateway, ifindex) {
            _ if odd => NextHopBody::Odd,
            (Some(group), _, _) => NextHopBody::Group(group),
            (None, Some(gateway), Some(ifindex)) => {
                NextHopBody::Member(Member { gateway, ifindex })
            }
            _ => NextHopBody::Odd,
        };
        Some(object)
    }
}

/// `struct nexthop_grp`: id, weight less one, and what is reserved; newer kernels read the first reserved octet as the
/// high half of the weight.
fn group_entry((id, weight): &(u32, u16)) -> [u8; 8] {
    let [a, b, c, d] = id.to_ne_bytes();
    let less_one = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
    [a, b, c, d, less_one, 0, 0, 0]
}

fn read_group(value: &[u8]) -> SmallVec<[(u32, u16); 4]> {
    let (entries, _) = value.as_chunks::<8>();
    let entry = |&[a, b, c, d, low, high, _, _]: &[u8; 8]| {
        let weight = u16::from_be_bytes([high, low]).saturating_add(1);
        (u32::from_ne_bytes([a, b, c, d]), weight)
    };
    entries.iter().map(entry).collect()
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

/// Attributes up to the first that is cut short.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [len_lo, len_hi, kind_lo, kind_hi] = *rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([len_lo, len_hi]));
        let value = rest.get(4..len)?;
        let kind = u16::from_ne_bytes([kind_lo, kind_hi]) & NLA_TYPE_MASK;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Message::Route(message) => message.message_type(),
            Message::NextHop(message) => message.kind,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Message::Route(message) => NetlinkSerializable::buffer_len(message),
            Message::NextHop(message) => message.body.len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Message::Route(message) => message.serialize(buffer),
            Message::NextHop(message) => buffer.copy_from_slice(&message.body),
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            kind @ (RTM_NEWNEXTHOP | RTM_DELNEXTHOP | RTM_GETNEXTHOP) => {
                Ok(Message::NextHop(NextHopMessage {
                    kind,
                    body: payload.to_vec(),
                }))
            }
            _ => <RouteNetlinkMessage as NetlinkDeserializable>::deserialize(header, payload)
                .map(Message::Route),
        }
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        NetlinkPayload::InnerMessage(message)
    }
}
