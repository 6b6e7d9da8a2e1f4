//! Kernel routes of protocol 82: pure diff, async writer, next-hop tracker.
//!
//! Owns: every route of our protocol in one kernel table (pod routes included), the next-hop objects of our protocol and
//! ids that routes with several next hops go through, and the answer to "which way does this
//! next hop lie". Never does: touch a route of another protocol, decide what should be routed, or configure links.
//!
//! ```text
//!  FibHandle --commands (bounded)--> writer task --batches--> kernel (request socket)
//!                                      ^   |
//!            monitor task --events-----+   +--FibEvents (coalesced, bounded)--> BGP driver
//!            (multicast socket; echoes of our own writes are dropped there)
//! ```
//! No task waits for another one in a circle: the writer never waits for a reader of events, and the monitor, when the
//! writer is busy, lets the kernel's socket buffer overflow, which is reported as an overrun and answered by a resync.

mod codec;
mod groups;
mod handle;
mod local;
mod message;
mod monitor;
mod netlink;
mod plan;
mod route;
mod tracker;
mod writer;

pub use handle::{Fib, FibError, FibEvent, FibEvents, FibHandle, FibOptions};
pub use local::LocalLink;
pub use route::{
    ApplyReport, InstalledRoute, NextHop, RouteChange, RouteFailure, RouteKey, RouteKind,
    RouteSpec, RouteState, SmallList, Source,
};
pub use tracker::{NextHopKey, NextHopState};

/// Protocol number (`rtm_protocol`) of every route that Roadbed writes.
pub const PROTOCOL: u8 = 82;
/// Ids of next-hop objects that Roadbed writes, with [`PROTOCOL`] as their protocol: 82 in the first octet.
pub const NEXT_HOP_IDS: std::ops::RangeInclusive<u32> = 0x5200_0000..=0x52ff_ffff;
/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;
/// Metric of the `unreachable` backing of own blocks: the worst, so that any other route of the prefix wins.
pub const WORST_METRIC: u32 = u32::MAX;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;
