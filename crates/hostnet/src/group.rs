//! Many links deleted at once. The kernel keeps whoever deletes a link for some 15 ms, until nobody reads it any more; for a group, it
//! does so once.

use std::hash::{BuildHasher, RandomState};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::channel::Asked;
use crate::error::NetlinkError;
use crate::link::{Link, LinkTarget};
use crate::socket::Netlink;

/// A link to delete: its index, and the alias that makes it ours.
type Marked<'a> = (u32, &'a str);

impl Netlink {
    /// Deletes each of these links whose alias is exactly its mark, as [`Self::link_delete_marked`] does, all of them in one
    /// operation of the kernel where that works, else one by one. The answers are in the order of the links.
    pub fn links_delete_marked(&mut self, links: &[Marked<'_>]) -> Vec<Result<bool, NetlinkError>> {
        if links.len() > 1 {
            // What went wrong here shows again, with its own words, on the link that it is about.
            let together = self.delete_together(links);
            if together.is_ok_and(|whole| whole) {
                return links.iter().map(|_| Ok(true)).collect();
            }
        }
        links
            .iter()
            .map(|(index, mark)| self.link_delete_marked(LinkTarget::Index(*index), mark))
            .collect()
    }

    /// Whether all of them were there, ours, and are deleted. Else some may be in a group, which does no harm.
    fn delete_together(&mut self, wanted: &[Marked<'_>]) -> Result<bool, NetlinkError> {
        let before = self.links("")?;
        let ours = |link: &Link| {
            wanted.contains(&(link.ifindex, link.alias.as_deref().unwrap_or_default()))
        };
        if before.iter().filter(|link| ours(link)).count() != wanted.len() {
            return Ok(false);
        }
        let group = unused(&before);
        for (index, _) in wanted {
            self.set_group(*index, group)?;
        }
        let members: Vec<Link> = self.links("")?;
        let mut members = members.iter().filter(|link| link.group == group);
        if !members.all(ours) {
            return Ok(false);
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let object = format_args!("the {} links of group {group}", wanted.len());
        let asked = Asked {
            op: "delete",
            object: &object,
        };
        self.change(RouteNetlinkMessage::DelLink(message), 0, asked)?;
        Ok(true)
    }

    fn set_group(&mut self, ifindex: u32, group: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::Group(group));
        self.link_change(message, "set group of", &LinkTarget::Index(ifindex))
    }
}

/// A group that no link is in, and that nobody else will think of meanwhile.
fn unused(links: &[Link]) -> u32 {
    let random = RandomState::new();
    (0u32..)
        // Not 0, where all links are; not a small number, as people choose.
        .map(|n| random.hash_one(n) as u32 | 1 << 31)
        .find(|group| links.iter().all(|link| link.group != *group))
        .unwrap_or(u32::MAX)
}
