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
//! Tasks that show the speaker to others ([`api`]) put questions into a queue of 32 ([`ask`]); the speaker's owner answers.
//!
//! Between the listener and the sessions of dynamic peers stands one range task per listen range, which starts them and
//! hands them their connections and commands; sessions never send to it.
//!
//! The RIB thread never waits for a task: to sessions it sends what they permitted, to the kernel task what fits. So
//! the sends that do wait (session → RIB, kernel → RIB) cannot close a circle.

pub mod api;
pub mod ask;
mod bmp;
pub mod config;
mod kernel;
mod listener;
mod look;
pub mod program;
mod range;
mod rib_thread;
pub mod run_dir;
mod session;
mod speaker;
mod transport;

pub use bmp::StationConfig;
pub use listener::ListenError;
pub use look::{Dump, Looking, Routes};
pub use range::RangeConfig;
pub use rib_thread::RibClosed;
pub use session::Limits;
pub use speaker::{
    LocalRoute, Origination, PeerConfig, Remains, Speaker, SpeakerConfig, SpeakerOptions,
    StartError,
};
pub use transport::{Transport, Ttl};

pub use bgp_core::policy::{ImportContext, PolicySet, RouteSource, compile as compile_policies};
pub use bgp_core::rib::{NoSession, PathView, RouteQuery, Side, best::Verdict};
