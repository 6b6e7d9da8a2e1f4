//! Waiting for what becomes true, for a bounded time, with the last reason why it was not.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks: short enough not to show in a test's time, long enough to leave the processors to the tested.
const PAUSE: Duration = Duration::from_millis(50);

/// Polls `look` until it succeeds.
///
/// # Panics
/// After `timeout`, with `what` was awaited and the last error.
#[track_caller]
pub fn eventually<T, E: Display>(
    timeout: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        let error = match look() {
            Ok(found) => return found,
            Err(error) => error,
        };
        assert!(
            Instant::now() < deadline,
            "after {timeout:?} still not: {what}\n{error:#}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// Polls `look` for all of `time` and stops the test as soon as it fails.
///
/// # Panics
/// With `what` should have stayed true, and why it did not.
#[track_caller]
pub fn throughout<E: Display>(time: Duration, what: &str, mut look: impl FnMut() -> Result<(), E>) {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Err(error) = look() {
            panic!("after {:?} no longer: {what}\n{error:#}", start.elapsed());
        }
        std::thread::sleep(PAUSE);
    }
}
