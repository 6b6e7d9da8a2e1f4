//! What is fed to the codec and what must hold then. Uses `bgp-wire` alone, so that `bgpd/wire/tests/replay.rs` runs
//! the same code over the committed inputs without libFuzzer.

mod checks;
pub mod codec;
mod octets;
pub mod recipe;
pub mod repair;

pub use checks::{check_update, context};
pub use octets::Octets;
