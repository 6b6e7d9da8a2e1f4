//! Blocking kernel primitives: links, veth, addresses, neighbours, routes, nftables, namespaces, socket options.
//!
//! Owns: one netlink socket per [`Netlink`], the translation of kernel answers into [`NetlinkError`], and every
//! `unsafe` block of the workspace. Never: decides what should exist, retries for a caller, or runs a task. The calls
//! block for as long as the kernel does (micro- to milliseconds), so an async caller uses a thread for them.
//!
//! A netlink socket belongs for life to the network namespace it was opened in, so a [`Netlink`] made by
//! [`Netlink::open_in`] acts on that namespace from any thread:
//!
//! ```text
//! NetNs::open("/run/netns/pod1") ─ Netlink::open_in ─▶ socket in pod1 ─▶ link_* addr_* neigh_* route_*
//!                                └ netns::run_in ────▶ a short thread: /proc/sys, sockets of that namespace
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod addr;
mod change;
mod channel;
mod counters;
mod devconf;
mod error;
mod group;
mod link;
mod mac;
mod monitor;
mod neigh;
pub mod netns;
pub mod nft;
mod route;
mod rule;
mod settle;
mod socket;
pub mod sockopt;
pub mod sysctl;
mod veth;

pub use addr::Address;
pub use change::Change;
pub use counters::Counters;
pub use devconf::{AddrGenMode, Ipv4Conf};
pub use error::NetlinkError;
pub use link::{Link, LinkTarget, MAX_IFNAME_LEN, check_ifname};
pub use mac::{InvalidMac, MacAddr};
pub use monitor::{LinkMonitor, LinkNews};
pub use neigh::Neighbour;
pub use netns::{NamedNetNs, NetNs};
pub use route::{Route, RouteFilter, RouteKind, TABLE_LOCAL, TABLE_MAIN};
pub use rule::SourceRule;
pub use socket::Netlink;
pub use veth::VethSpec;
