//! A speaker under arbitrary sequences of messages; see `roadbed_fuzz::speaker::session`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadbed_fuzz::speaker;

fuzz_target!(|input: &[u8]| {
    speaker::session::run(input);
});
