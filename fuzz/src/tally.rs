//! Counts how many inputs got to where the faults are. libFuzzer ends its process without running any of our code, so
//! the count is printed every so many inputs; the last line says it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Inputs between two lines.
const EVERY: u64 = 1 << 14;

static INPUTS: AtomicU64 = AtomicU64::new(0);
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Counts one input, and whether a path attribute was judged in it.
pub fn count(reached: bool) {
    let reached = REACHED.fetch_add(u64::from(reached), Relaxed) + u64::from(reached);
    let inputs = INPUTS.fetch_add(1, Relaxed) + 1;
    if inputs.is_multiple_of(EVERY) {
        let percent = 100 * reached / inputs;
        eprintln!("reach: {percent} % of {inputs} inputs reached attribute parsing");
    }
}
