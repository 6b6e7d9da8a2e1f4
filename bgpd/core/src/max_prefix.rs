//! Bounds on the number of prefixes of one family, in one direction, on one session.
//!
//! Owns the judgement of a count and the words that end a session over it. Never counts: the RIB does, and the driver
//! decides whether it shows what was received, what import policy left, or what is announced. A [`Watch`] belongs to
//! a session, so a new session starts a new one.

use std::time::Duration;

use bgp_wire::{Family, Notification, cease, code};

use crate::fsm::Input;

/// Pause for a session that only an operator brings back. Ten years, since a timer needs some number.
const UNTIL_OPERATOR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A count that hovers around a bound is news once. It is again after a fall below the bound by this part of the limit.
const HYSTERESIS_DIVISOR: usize = 20;

/// Whose announcements are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer's.
    In,
    /// Ours to the peer.
    Out,
}

/// What a count above the limit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is only reported.
    Warn,
    /// The session ends.
    Idle {
        /// Pause before the next attempt; `None` waits for an operator.
        restart_after: Option<Duration>,
    },
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefix {
    /// Most prefixes that are in order.
    pub limit: usize,
    /// Per cent of the limit at which to warn, 1..=100; above 100 counts as 100.
    pub warn_percent: u8,
    /// What a count above the limit does.
    pub action: Action,
}

impl MaxPrefix {
    /// The count at which the warning is due; at least one.
    pub fn warn_at(&self) -> usize {
        let percent = usize::from(self.warn_percent.min(100));
        // In two parts, so that no limit overflows.
        let part = self.limit / 100 * percent + (self.limit % 100 * percent).div_ceil(100);
        part.max(1)
    }

    /// What to feed the FSM when [`Event::Exceeded`] comes; `None` when the session goes on.
    ///
    /// Too many received are Cease/1 with AFI, SAFI and the limit (RFC 4486 §4). No RFC has a subcode for too many
    /// sent, for which the peer is not to blame: an Administrative Reset with words (RFC 9003).
    pub fn stop(&self, direction: Direction, family: Family) -> Option<Input> {
        let Action::Idle { restart_after } = self.action else {
            return None;
        };
        let notification = match direction {
            Direction::In => {
                let limit = u32::try_from(self.limit).unwrap_or(u32::MAX);
                let mut data = family.afi().to_be_bytes().to_vec();
                data.push(family.safi());
                data.extend_from_slice(&limit.to_be_bytes());
                Notification::with_data(code::CEASE, cease::MAXIMUM_PREFIXES_REACHED, data)
            }
            Direction::Out => Notification::administrative_reset(&format!(
                "more than {} {family} prefixes would be sent",
                self.limit
            )),
        };
        Some(Input::AutomaticStop {
            notification,
            restart_after: Some(restart_after.unwrap_or(UNTIL_OPERATOR)),
        })
    }
}

/// What an operator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The count came close to the limit.
    Warning {
        /// The count.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The count is above the limit.
    Exceeded {
        /// The count.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

/// Watches one count.
#[derive(Debug, Clone)]
pub struct Watch {
    settings: MaxPrefix,
    warned: bool,
    exceeded: bool,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(settings: MaxPrefix) -> Watch {
        Watch {
            settings,
            warned: false,
            exceeded: false,
        }
    }

    /// The bound in force.
    pub fn settings(&self) -> &MaxPrefix {
        &self.settings
    }

    /// Another bound. What it says about the present count comes with the next [`Watch::observe`], which should
    /// follow at once.
    pub fn change(&mut self, settings: MaxPrefix) {
        if settings != self.settings {
            *self = Watch::new(settings);
        }
    }

    /// Judges a count. Each event comes once, until the count has fallen well below its bound.
    pub fn observe(&mut self, count: usize) -> Option<Event> {
        let limit = self.settings.limit;
        let margin = (limit / HYSTERESIS_DIVISOR).max(1);
        let warn_at = self.settings.warn_at();
        if count <= limit.saturating_sub(margin) {
            self.exceeded = false;
        }
        if count <= warn_at.saturating_sub(margin) {
            self.warned = false;
        }
        if count > limit {
            self.warned = true;
            return (!std::mem::replace(&mut self.exceeded, true))
                .then_some(Event::Exceeded { count, limit });
        }
        let due = count >= warn_at && !std::mem::replace(&mut self.warned, count >= warn_at);
        due.then_some(Event::Warning { count, limit })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(limit: usize, warn_percent: u8) -> MaxPrefix {
        MaxPrefix {
            limit,
            warn_percent,
            action: Action::Warn,
        }
    }

    /// Feeds counts to a watch of 100 prefixes that warns at 80; `w` and `x` are events, `.` is none.
    fn check(settings: MaxPrefix, counts: &[usize], expected: &str) {
        let mut watch = Watch::new(settings);
        let found: String = counts
            .iter()
            .map(|count| match watch.observe(*count) {
                None => '.',
                Some(Event::Warning { .. }) => 'w',
                Some(Event::Exceeded { .. }) => 'x',
            })
            .collect();
        assert_eq!(found, expected, "{settings:?}: {counts:?}");
    }

    #[test]
    fn each_bound_is_news_once() {
        let hundred = bound(100, 80);
        check(hundred, &[79, 80, 81, 100, 101, 102], ".w..x.");
        check(hundred, &[200, 201], "x.");
        check(hundred, &[90, 79, 80, 76, 80, 75, 80], "w.....w");
        check(hundred, &[101, 100, 101, 96, 101, 95, 101], "x.....x");
        check(hundred, &[101, 90, 75, 85, 101], "x..wx");
    }

    #[test]
    fn edges() {
        check(bound(0, 80), &[0, 1, 0, 1], ".x.x");
        check(bound(1, 80), &[0, 1, 2, 0, 1], ".wx.w");
        check(bound(10, 100), &[9, 10, 11], ".wx");
        check(bound(10, 255), &[9, 10, 11], ".wx");
        check(bound(10, 0), &[0, 1, 10, 11], ".w.x");
        check(bound(usize::MAX, 100), &[usize::MAX - 1, usize::MAX], ".w");
        assert_eq!(bound(10, 75).warn_at(), 8, "never below the part asked for");
        assert_eq!(bound(1_000_000, 80).warn_at(), 800_000);
    }

    #[test]
    fn another_bound_is_judged_afresh() {
        let mut watch = Watch::new(bound(100, 80));
        assert!(watch.observe(101).is_some());
        watch.change(bound(100, 80));
        assert_eq!(watch.observe(101), None);
        watch.change(bound(100, 90));
        let again = Event::Exceeded {
            count: 101,
            limit: 100,
        };
        assert_eq!(watch.observe(101), Some(again));
        watch.change(bound(200, 90));
        assert_eq!(watch.observe(101), None);
    }

    fn stop(action: Action, direction: Direction) -> Option<(Notification, Option<Duration>)> {
        let settings = MaxPrefix {
            action,
            ..bound(70_000, 80)
        };
        match settings.stop(direction, Family::Ipv6Unicast)? {
            Input::AutomaticStop {
                notification,
                restart_after,
            } => Some((notification, restart_after)),
            other => panic!("{other:?}"),
        }
    }

    /// RFC 4486 §4 and RFC 9003.
    #[test]
    fn what_the_peer_is_told() {
        let minute = Duration::from_secs(60);
        let idle = Action::Idle {
            restart_after: Some(minute),
        };
        assert_eq!(stop(Action::Warn, Direction::In), None);
        let (sent, pause) = stop(idle, Direction::In).expect("stops");
        assert_eq!((sent.code, sent.subcode), (6, 1));
        assert_eq!(sent.data, [0, 2, 1, 0, 1, 0x11, 0x70]);
        assert_eq!(pause, Some(minute));
        let (sent, _) = stop(idle, Direction::Out).expect("stops");
        assert_eq!((sent.code, sent.subcode), (6, 4));
        assert_eq!(
            sent.shutdown_message().as_deref(),
            Some("more than 70000 ipv6-unicast prefixes would be sent")
        );
        let stay = Action::Idle {
            restart_after: None,
        };
        let (_, pause) = stop(stay, Direction::In).expect("stops");
        assert!(pause.is_some_and(|pause| pause >= UNTIL_OPERATOR));
    }

    proptest! {
        /// Against a judge without state that looks at all counts so far.
        #[test]
        fn the_whole_history_says_the_same(
            limit in 0usize..60,
            percent in 0u8..=120,
            counts in proptest::collection::vec(0usize..80, 1..60),
        ) {
            let mut watch = Watch::new(bound(limit, percent));
            let warn_at = watch.settings().warn_at();
            let margin = (limit / 20).max(1);
            for (i, count) in counts.iter().copied().enumerate() {
                // No count at or above the bound since the last one well below it.
                let fresh = |bound: usize, rearm: usize| {
                    let since = counts[..i].iter().rev().take_while(|c| **c > rearm);
                    since.max().is_none_or(|highest| *highest < bound)
                };
                let expected = if count > limit {
                    fresh(limit + 1, limit.saturating_sub(margin))
                        .then_some(Event::Exceeded { count, limit })
                } else {
                    (count >= warn_at && fresh(warn_at, warn_at.saturating_sub(margin)))
                        .then_some(Event::Warning { count, limit })
                };
                prop_assert_eq!(watch.observe(count), expected);
            }
        }
    }
}
