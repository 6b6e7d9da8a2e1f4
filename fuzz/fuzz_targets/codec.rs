//! Raw bytes as a peer could send them; see `roadbed_fuzz::wire::codec`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use roadbed_fuzz::{tally, wire};

fuzz_target!(|input: &[u8]| tally::count(wire::codec::run(input)));

// Of eight mutations one stays raw: wrong lengths have to be met as well.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        wire::repair::repair(&mut data[..size]);
    }
    size
});
