//! OPENs against settings; see `roadbed_fuzz::speaker::negotiation`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadbed_fuzz::speaker;

fuzz_target!(|input: &[u8]| {
    speaker::negotiation::run(input);
});
