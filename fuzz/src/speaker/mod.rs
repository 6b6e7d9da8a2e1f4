//! What is fed to the FSM and the RIB and what must hold then. Uses `bgp-core`, `bgp-wire` and `ipnet` alone, so that
//! `bgpd/core/tests/replay.rs` runs the same code over the committed inputs without libFuzzer.

pub mod negotiation;
mod routes;
pub mod session;
mod settings;
mod steps;
