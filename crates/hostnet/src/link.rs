//! Links: look up, list, change, delete. Deletion by mark verifies the whole alias first.

use std::fmt;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::change::Change;
use crate::channel::{Answer, Asked, Attributes, u32_at};
use crate::error::{NetlinkError, absent_is_false};
use crate::mac::MacAddr;
use crate::netns::NetNs;
use crate::socket::Netlink;
use std::os::fd::{AsFd, AsRawFd};

/// IFNAMSIZ less its NUL: the longest interface name, in bytes.
pub const MAX_IFNAME_LEN: usize = 15;
/// IFALIASZ less its NUL: the longest alias, in bytes.
const MAX_ALIAS_LEN: usize = 255;

const RTM_NEWLINK: u16 = 16;
pub(crate) const IFINFOMSG_LEN: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_INFO_KIND: u16 = 1;
const IF_OPER_UP: u8 = 6;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index, unique within its namespace.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Alias (IFLA_IFALIAS), where Roadbed keeps its mark.
    pub alias: Option<String>,
    /// Ethernet address; `None` for links without one.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// Operationally up: carrier, and for veth the peer up too.
    pub running: bool,
    /// Index of the peer (veth) or lower link, in the namespace of `peer_netnsid` if that is set.
    pub peer_ifindex: Option<u32>,
    /// Namespace id of the peer as this namespace numbers it; `None` when it is in this namespace.
    pub peer_netnsid: Option<i32>,
    /// Driver kind ("veth", "bridge", "vxlan" …); `None` for physical links and loopback.
    pub kind: Option<String>,
    /// Group (IFLA_GROUP); 0 unless somebody chose one.
    pub group: u32,
}

/// Says which link a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTarget<'a> {
    /// By index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

impl fmt::Display for LinkTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "link index {index}"),
            Self::Name(name) => write!(f, "link {name}"),
        }
    }
}

impl LinkTarget<'_> {
    pub(crate) fn message(&self) -> Result<LinkMessage, NetlinkError> {
        let mut message = LinkMessage::default();
        match *self {
            Self::Index(index) => message.header.index = index,
            Self::Name(name) => {
                check_ifname("link name", name)?;
                message
                    .attributes
                    .push(LinkAttribute::IfName(name.to_owned()));
            }
        }
        Ok(message)
    }
}

/// Checks an interface name as the kernel would (`dev_valid_name`), naming `field` in the error.
pub fn check_ifname(field: &'static str, name: &str) -> Result<(), NetlinkError> {
    let reason = match name {
        "" => "must not be empty",
        "." | ".." => "is reserved",
        _ if name.len() > MAX_IFNAME_LEN => "must have at most 15 bytes",
        _ if name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace() || b == 0x0b) =>
        {
            "must not contain '/', ':', NUL or white space"
        }
        _ => return Ok(()),
    };
    Err(NetlinkError::Invalid {
        field,
        value: name.chars().take(64).collect(),
        reason,
    })
}

impl Netlink {
    /// One link; an error with [`NetlinkError::is_not_found`] if there is none.
    pub fn link(&mut self, target: LinkTarget<'_>) -> Result<Link, NetlinkError> {
        let asked = Asked {
            op: "read",
            object: &target,
        };
        let message = RouteNetlinkMessage::GetLink(target.message()?);
        self.request(message, 0, asked)?
            .iter()
            .find_map(decode_link)
            .ok_or_else(|| asked.decode("no link in the answer"))
    }

    /// The link of that name, or `None`.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        found(self.link(LinkTarget::Name(name)))
    }

    /// The link of that index, or `None`.
    pub fn link_by_index(&mut self, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
        found(self.link(LinkTarget::Index(ifindex)))
    }

    /// The other end of a veth, in whichever namespace it is; `None` when it is in none that this one knows. Needs
    /// CAP_NET_ADMIN over that namespace, and enters nothing.
    pub fn link_peer(&mut self, link: &Link) -> Result<Option<Link>, NetlinkError> {
        let Some(index) = link.peer_ifindex else {
            return Ok(None);
        };
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(nsid) = link.peer_netnsid {
            let value = nsid.to_ne_bytes().to_vec();
            let target = DefaultNla::new(IFLA_TARGET_NETNSID, value);
            message.attributes.push(LinkAttribute::Other(target));
        }
        let object = format_args!("peer of {}", link.name);
        let asked = Asked {
            op: "read",
            object: &object,
        };
        let answers = self.request(RouteNetlinkMessage::GetLink(message), 0, asked);
        match answers {
            Ok(answers) => Ok(answers.iter().find_map(decode_link)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link that carries exactly this alias, or `None`. Lists all links.
    pub fn link_by_alias(&mut self, alias: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self
            .links("")?
            .into_iter()
            .find(|link| link.alias.as_deref() == Some(alias)))
    }

    /// All links whose name starts with `prefix` (empty: all), by index.
    pub fn links(&mut self, prefix: &str) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.dump(
            message,
            Asked {
                op: "list",
                object: &"links",
            },
        )?;
        let mut links: Vec<Link> = answers
            .iter()
            .filter_map(decode_link)
            .filter(|link| link.name.starts_with(prefix))
            .collect();
        links.sort_by_key(|link| link.ifindex);
        Ok(links)
    }

    /// Sets a link administratively up or down.
    pub fn link_set_up(&mut self, target: LinkTarget<'_>, up: bool) -> Result<(), NetlinkError> {
        self.make(Change::link_set_up(target, up)?)
    }

    /// Sets the alias; an empty one removes it. At most 255 bytes.
    pub fn link_set_alias(
        &mut self,
        target: LinkTarget<'_>,
        alias: &str,
    ) -> Result<(), NetlinkError> {
        self.make(Change::link_set_alias(target, alias)?)
    }

    /// Sets the MTU in bytes.
    pub fn link_set_mtu(&mut self, target: LinkTarget<'_>, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = target.message()?;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.link_change(message, "set MTU of", &target)
    }

    /// Sets the Ethernet address.
    pub fn link_set_mac(
        &mut self,
        target: LinkTarget<'_>,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        let mut message = target.message()?;
        message
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec()));
        self.link_change(message, "set address of", &target)
    }

    /// Renames the link of that index. It must be down, or the kernel allow renaming live links.
    pub fn link_rename(&mut self, ifindex: u32, name: &str) -> Result<(), NetlinkError> {
        check_ifname("link name", name)?;
        let target = LinkTarget::Index(ifindex);
        let mut message = target.message()?;
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.link_change(message, "rename", &target)
    }

    /// Moves a link into another namespace. The kernel sets it down and drops its addresses.
    pub fn link_move(&mut self, target: LinkTarget<'_>, ns: &NetNs) -> Result<(), NetlinkError> {
        let mut message = target.message()?;
        message
            .attributes
            .push(LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()));
        self.link_change(message, "move to another namespace", &target)
    }

    /// Deletes a link without looking at its mark; `false` if there was none. For links the caller made itself.
    pub fn link_delete(&mut self, target: LinkTarget<'_>) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::DelLink(target.message()?);
        absent_is_false(self.change(
            message,
            0,
            Asked {
                op: "delete",
                object: &target,
            },
        ))
    }

    /// Deletes a link only if its alias is exactly `mark`; `false` if there is no such link.
    ///
    /// Looks and deletes by index, so a link that took over the name in between is never hit.
    pub fn link_delete_marked(
        &mut self,
        target: LinkTarget<'_>,
        mark: &str,
    ) -> Result<bool, NetlinkError> {
        let Some(link) = found(self.link(target))? else {
            return Ok(false);
        };
        if link.alias.as_deref() != Some(mark) {
            return Err(NetlinkError::NotOurs {
                name: link.name,
                ifindex: link.ifindex,
                found: link.alias,
                expected: mark.to_owned(),
            });
        }
        self.link_delete(LinkTarget::Index(link.ifindex))
    }

    pub(crate) fn link_change(
        &mut self,
        message: LinkMessage,
        op: &'static str,
        object: &dyn fmt::Display,
    ) -> Result<(), NetlinkError> {
        self.make(Change::link(message, op, object))
    }

    /// Makes a link; the link as the kernel tells of it, `None` when it does not (before Linux 6.2).
    pub(crate) fn link_create(
        &mut self,
        message: LinkMessage,
        op: &'static str,
        object: &dyn fmt::Display,
    ) -> Result<Option<Link>, NetlinkError> {
        let answers = self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            Asked { op, object },
        )?;
        Ok(answers.iter().find_map(decode_link))
    }
}

impl Change {
    /// See [`Netlink::link_set_up`].
    pub fn link_set_up(target: LinkTarget<'_>, up: bool) -> Result<Self, NetlinkError> {
        let mut message = target.message()?;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let op = if up { "set up" } else { "set down" };
        Ok(Self::link(message, op, &target))
    }

    /// See [`Netlink::link_set_alias`].
    pub fn link_set_alias(target: LinkTarget<'_>, alias: &str) -> Result<Self, NetlinkError> {
        if alias.len() > MAX_ALIAS_LEN || alias.contains('\0') {
            let value = alias.chars().take(64).collect();
            return Err(NetlinkError::Invalid {
                field: "alias",
                value,
                reason: "must have at most 255 bytes, no NUL",
            });
        }
        let mut message = target.message()?;
        // Without a NUL: the kernel counts it, and the longest alias would not fit.
        let bytes = alias.as_bytes().to_vec();
        let attribute = LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, bytes));
        message.attributes.push(attribute);
        Ok(Self::link(message, "set alias of", &target))
    }

    pub(crate) fn link(message: LinkMessage, op: &'static str, object: &dyn fmt::Display) -> Self {
        Self::new(RouteNetlinkMessage::SetLink(message), 0, op, object)
    }
}

fn found(link: Result<Link, NetlinkError>) -> Result<Option<Link>, NetlinkError> {
    match link {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn decode_link((kind, payload): &Answer) -> Option<Link> {
    if *kind != RTM_NEWLINK {
        return None;
    }
    let flags = u32_at(payload, 8)?;
    let mut link = Link {
        ifindex: u32_at(payload, 4)?,
        name: String::new(),
        alias: None,
        mac: None,
        mtu: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        running: false,
        peer_ifindex: None,
        peer_netnsid: None,
        kind: None,
        group: 0,
    };
    for (kind, value) in Attributes(payload.get(IFINFOMSG_LEN..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.alias = Some(text(value)).filter(|alias| !alias.is_empty()),
            IFLA_ADDRESS => link.mac = MacAddr::from_slice(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_GROUP => link.group = u32_at(value, 0)?,
            IFLA_OPERSTATE => link.running = value.first() == Some(&IF_OPER_UP),
            IFLA_LINK => link.peer_ifindex = u32_at(value, 0).filter(|index| *index != 0),
            IFLA_LINK_NETNSID => link.peer_netnsid = u32_at(value, 0).map(|id| id as i32),
            IFLA_LINKINFO => {
                link.kind = Attributes(value)
                    .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            _ => {}
        }
    }
    Some(link)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernels_rule() {
        for good in ["eth0", "rb0123456789ab", "a.b", "fifteen-letters"] {
            assert!(check_ifname("name", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "sixteen--letters",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\0b",
            "a\u{b}b",
        ] {
            assert!(check_ifname("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn truncated_link_messages_decode_to_nothing() {
        assert_eq!(decode_link(&(RTM_NEWLINK, vec![0; 11])), None);
        assert_eq!(decode_link(&(RTM_NEWLINK + 1, vec![0; 64])), None);
        assert_eq!(
            decode_link(&(RTM_NEWLINK, [vec![0; 16], vec![6, 0, 4, 0, 1, 2]].concat())),
            None
        );
    }
}
