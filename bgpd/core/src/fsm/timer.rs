//! Timers as data: a table of deadlines, and the jitter that keeps peers from acting in step.
//!
//! Nothing here reads a clock. A deadline is an [`Instant`] that the caller computed from the `now` it was given.

use std::time::{Duration, Instant};

/// The timers of RFC 4271 §8.1.3, plus the SendHoldTimer of RFC 9687.
///
/// The order is the order in which timers that are due at the same moment are served: what ends a connection comes
/// before what would use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Nothing could be written for the whole SendHoldTime although there was something to write (RFC 9687).
    SendHold,
    /// The peer was silent for the negotiated Hold Time, or did not send its OPEN within half a minute.
    Hold,
    /// The OPEN was held back long enough (RFC 4271 §8.1.1, DelayOpen).
    DelayOpen,
    /// A KEEPALIVE is owed.
    Keepalive,
    /// Time to dial (again).
    ConnectRetry,
    /// The pause after a failure is over (DampPeerOscillations).
    IdleHold,
}

impl Timer {
    pub(super) const ALL: [Timer; 6] = [
        Timer::SendHold,
        Timer::Hold,
        Timer::DelayOpen,
        Timer::Keepalive,
        Timer::ConnectRetry,
        Timer::IdleHold,
    ];
}

/// A deadline per timer; a timer without one is not running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn arm(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize] = Some(deadline);
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Disarms and returns one timer that is due at `now`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))?;
        self.disarm(due);
        Some(due)
    }
}

/// A small deterministic generator (xorshift64*). It spreads timers; nothing that must be unpredictable uses it.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        // xorshift stays at zero for ever when it starts there.
        Jitter(if seed == 0 {
            0x9e37_79b9_7f4a_7c15
        } else {
            seed
        })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// `interval` times a factor between 0.75 and 1.0 (RFC 4271 §10).
    pub(crate) fn apply(&mut self, interval: Duration) -> Duration {
        let quarter_in_1024ths = u32::try_from(self.next() >> 54).unwrap_or(0);
        interval * 3 / 4 + interval / 4 * quarter_in_1024ths / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let full = Duration::from_secs(100);
        for seed in [0, 1, 7, u64::MAX] {
            let mut jitter = Jitter::new(seed);
            let drawn: Vec<_> = (0..1000).map(|_| jitter.apply(full)).collect();
            assert!(
                drawn
                    .iter()
                    .all(|d| (Duration::from_secs(75)..=full).contains(d)),
                "seed {seed}"
            );
            assert!(
                drawn.iter().any(|d| *d < Duration::from_secs(80)),
                "seed {seed} never draws low"
            );
            assert!(
                drawn.iter().any(|d| *d > Duration::from_secs(95)),
                "seed {seed} never draws high"
            );
        }
    }

    #[test]
    fn due_timers_come_in_their_fixed_order_and_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for timer in [Timer::IdleHold, Timer::Keepalive, Timer::Hold] {
            timers.arm(timer, start);
        }
        timers.arm(Timer::ConnectRetry, start + Duration::from_secs(1));
        assert_eq!(timers.take_due(start), Some(Timer::Hold));
        assert_eq!(timers.take_due(start), Some(Timer::Keepalive));
        assert_eq!(timers.take_due(start), Some(Timer::IdleHold));
        assert_eq!(timers.take_due(start), None);
        assert_eq!(timers.earliest(), Some(start + Duration::from_secs(1)));
    }
}
