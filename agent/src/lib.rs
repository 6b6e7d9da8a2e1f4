//! The node daemon: starts the parts and carries messages between them. Decides nothing itself: blocks are `ipam`'s,
//! routes `bgp-core`'s and `fib`'s.
//!
//! ```text
//!             store (Kubernetes, SQLite)
//!               ▲   │ watches
//!        writes │   ▼
//!               │  sync.rs ──Arc<Resources> (watch)──┬──────────────► bgp.rs: Speaker
//!               │                                    ▼                  ▲ own blocks
//!               └───────────────────────────── blocks.rs ──BlockView────┤ (watch)
//!                                                    │ usage            ▼
//!  plugin, roadbedctl ──HTTP──► api/ ────calls───► ledger.rs           fib: kernel routes
//!                                 └──── attach.rs: reserve, commit, release ──► kernel.rs (links, neighbours), fib
//! ```
//! In a Kubernetes cluster `sync.rs` follows Nodes beside the store (`cluster.rs`), `identity.rs` says who this node is and
//! `mesh.rs` with whom it speaks.
//!
//! Channels are bounded. `ledger.rs` waits for nobody; everybody may wait for it. `sync.rs` waits only for the store,
//! `blocks.rs` for store and ledger, `bgp.rs` for the speaker: no circle.

pub mod antispoof;
pub mod api;
pub mod attach;
pub mod bgp;
pub mod blocks;
pub mod cluster;
pub mod cni;
pub mod config;
pub mod detail;
pub mod files;
pub mod host_ends;
pub mod identity;
pub mod kernel;
pub mod ledger;
pub mod mesh;
pub mod ready;
pub mod resources;
pub mod snapshot;
pub mod sync;
pub mod sysctls;
pub mod unwire;
