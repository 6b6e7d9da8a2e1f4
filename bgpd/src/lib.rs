//! The BGP speaker's driver: sockets, the RIB thread, the kernel. All decisions are `bgp-core`'s.
//!
//! ```text
//!            accepted streams (bounded, dropped when full)
//!  listener ────────────────► session task (1 per peer) ──RibMessage (bounded)──► RIB thread (1)
//!     ▲ stranger: closed         ▲  │ fsm::Peer, ≤ 2 connections                    │   │
//!     │                          │  └─ reads only while the RIB takes its events    │   │ FIB changes, conflated,
//!  Speaker ── commands ──────────┘◄── UPDATEs, no more than the session permitted ──┘   │ sent when there is room
//!  (agent, main)                                                                        ▼
//!        RIB thread ◄──────────── next-hop states, "room again" ──────────────── kernel task (1) ◄──► fib
//! ```
//! The RIB thread never waits for a task: to sessions it sends what they permitted, to the kernel task what fits. So
//! the sends that do wait (session → RIB, kernel → RIB) cannot close a circle.

pub mod config;
mod kernel;
mod listener;
mod look;
pub mod program;
mod rib_thread;
mod session;
mod speaker;

pub use listener::ListenError;
pub use look::{Dump, Looking, Routes};
pub use rib_thread::RibClosed;
pub use speaker::{
    LocalRoute, Origination, PeerConfig, Speaker, SpeakerConfig, SpeakerOptions, StartError,
};

pub use bgp_core::policy::{ImportContext, RouteSource};
pub use bgp_core::rib::{NoSession, PathView, RouteQuery, Side, best::Verdict};
