//! What went over a link.

use netlink_packet_route::RouteNetlinkMessage;

use crate::channel::{Asked, Attributes, u64_at};
use crate::error::NetlinkError;
use crate::link::{IFINFOMSG_LEN, LinkTarget};
use crate::socket::Netlink;

const IFLA_STATS64: u16 = 23;

/// Counters of one direction (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
    /// Faulty packets.
    pub errors: u64,
    /// Packets dropped.
    pub dropped: u64,
}

impl Netlink {
    /// What the link received and what it sent since it was made.
    pub fn link_counters(
        &mut self,
        target: LinkTarget<'_>,
    ) -> Result<(Counters, Counters), NetlinkError> {
        let asked = Asked {
            op: "read counters of",
            object: &target,
        };
        let message = RouteNetlinkMessage::GetLink(target.message()?);
        let answers = self.request(message, 0, asked)?;
        answers
            .iter()
            .find_map(|(_, payload)| decode(payload.get(IFINFOMSG_LEN..)?))
            .ok_or_else(|| asked.decode("no counters in the answer"))
    }
}

fn decode(attributes: &[u8]) -> Option<(Counters, Counters)> {
    let (_, stats) = Attributes(attributes).find(|(kind, _)| *kind == IFLA_STATS64)?;
    // Packets, octets, errors, dropped: each received first, then sent.
    let direction = |place: usize| {
        let number = |n: usize| u64_at(stats, (2 * n + place) * 8);
        Some(Counters {
            packets: number(0)?,
            octets: number(1)?,
            errors: number(2)?,
            dropped: number(3)?,
        })
    };
    Some((direction(0)?, direction(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_told_apart_and_a_short_one_is_none() {
        let stats: Vec<u8> = (1u64..=8).flat_map(u64::to_ne_bytes).collect();
        let attribute = |value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            [
                &length.to_ne_bytes()[..],
                &IFLA_STATS64.to_ne_bytes(),
                value,
            ]
            .concat()
        };
        let (received, sent) = decode(&attribute(&stats)).unwrap();
        let numbers = |c: Counters| [c.packets, c.octets, c.errors, c.dropped];
        assert_eq!(numbers(received), [1, 3, 5, 7]);
        assert_eq!(numbers(sent), [2, 4, 6, 8]);
        assert_eq!(decode(&attribute(&stats[..60])), None);
    }
}
