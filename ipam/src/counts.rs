//! Which counts of a block are worth a write to the store: nobody watches them, and there are as many as blocks.

use std::time::Duration;

use roadbed_api::kinds::IpBlockStatus;

use crate::ledger::Usage;

/// Between two writes of one block's counts.
pub const COUNTS_EVERY: Duration = Duration::from_secs(30);

/// Whether counts moved by a tenth of the block, or it became empty or full, since they were last told.
pub fn worth_telling(told: &IpBlockStatus, usage: &Usage) -> bool {
    let moved = told.in_use.abs_diff(usage.in_use);
    let edge = usage.in_use == 0 || usage.in_use == usage.capacity;
    told.capacity != usage.capacity
        || moved > 0 && (edge || moved.saturating_mul(10) >= usage.capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_an_edge_or_another_size_is_worth_it() {
        let check = |told: (u64, u64), now: (u64, u64), expected: bool| {
            let status = IpBlockStatus {
                capacity: told.0,
                in_use: told.1,
                observed: None,
            };
            let usage = Usage {
                capacity: now.0,
                in_use: now.1,
                cooling: 0,
            };
            assert_eq!(worth_telling(&status, &usage), expected, "{told:?} {now:?}");
        };
        check((0, 0), (64, 0), true);
        check((64, 0), (64, 0), false);
        check((64, 0), (64, 6), false);
        check((64, 0), (64, 7), true);
        check((64, 20), (64, 13), true);
        check((64, 3), (64, 0), true);
        check((64, 62), (64, 64), true);
        check((64, 64), (64, 64), false);
    }
}
