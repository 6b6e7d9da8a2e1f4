//! UPDATEs built from recipes; see `roadbed_fuzz::wire::recipe`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadbed_fuzz::{tally, wire};

fuzz_target!(|input: &[u8]| tally::count(wire::recipe::run(input)));
