//! Bounds on prefixes: when to ask the RIB for its counts, and what follows from them.
//!
//! Asked after each change, a tenth of a second apart at the least, so a burst may overshoot a limit by what the RIB
//! takes in that time.

use std::time::{Duration, Instant};

use bgp_core::max_prefix::{Direction, Event, MaxPrefix, Watch};
use bgp_core::rib::{FamilyCounters, SessionId};
use bgp_wire::{Family, Notification, cease};
use tokio::sync::oneshot;

use super::Session;
use crate::rib_thread::RibMessage;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(100);
/// In the order of [`Limits`].
const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];

/// Bounds on what the peer sends and on what it is sent, each in the order of [`Family::ALL`].
pub type Limits = [[Option<MaxPrefix>; 2]; 2];

/// What the RIB says of one session.
pub(super) type Counts = Vec<[Option<FamilyCounters>; 2]>;

/// The watches of one session, and the question that is under way.
#[derive(Default)]
pub(super) struct Counting {
    watches: [[Option<(Watch, usize)>; 2]; 2],
    /// Counts may have changed since the last question.
    changed: bool,
    next: Option<Instant>,
    question: Option<oneshot::Receiver<Counts>>,
    /// A limit ended the last session.
    stopped: bool,
}

/// What [`Counting::wake`] came for.
pub(super) enum Due {
    /// The question.
    Question,
    /// The answer; none when the RIB has ended.
    Answer(Option<Counts>),
}

impl Counting {
    /// A session is up.
    pub(super) fn start(&mut self, limits: &Limits) {
        let watch = |limit: Option<MaxPrefix>| limit.map(|limit| (Watch::new(limit), 0));
        *self = Self {
            watches: limits.map(|families| families.map(watch)),
            ..Self::default()
        };
    }

    /// The session is down: nothing is left to be counted.
    pub(super) fn forget(&mut self) {
        *self = Self {
            stopped: self.stopped,
            ..Self::default()
        };
    }

    /// Something was learned or sent.
    pub(super) fn touch(&mut self) {
        self.changed = self.watches.iter().flatten().any(Option::is_some);
    }

    /// When there is something to do. Not before `may_ask` for a question.
    pub(super) async fn wake(&mut self, may_ask: bool) -> Due {
        if let Some(question) = &mut self.question {
            return Due::Answer(question.await.ok());
        }
        if !self.changed || !may_ask {
            std::future::pending::<()>().await;
        }
        if let Some(next) = self.next {
            tokio::time::sleep_until(next.into()).await;
        }
        Due::Question
    }

    fn ask(&mut self, session: SessionId) -> RibMessage {
        let (reply, question) = oneshot::channel();
        self.changed = false;
        self.next = Some(Instant::now() + INTERVAL);
        self.question = Some(question);
        RibMessage::Counters(vec![session], reply)
    }

    fn each(&mut self) -> impl Iterator<Item = (Direction, Family, &mut Option<(Watch, usize)>)> {
        DIRECTIONS
            .into_iter()
            .zip(&mut self.watches)
            .flat_map(|(direction, watches)| {
                Family::ALL
                    .into_iter()
                    .zip(watches)
                    .map(move |(family, watch)| (direction, family, watch))
            })
    }

    /// Counts at or above the bound of their warning, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (direction, watches) in DIRECTIONS.into_iter().zip(&self.watches) {
            for (family, watch) in Family::ALL.into_iter().zip(watches) {
                let Some((watch, count)) = watch else {
                    continue;
                };
                let settings = watch.settings();
                if *count >= settings.warn_at() {
                    let done = match direction {
                        Direction::In => "received",
                        Direction::Out => "advertised",
                    };
                    warnings.push(format!(
                        "{family}: {count} prefixes {done}, the limit is {}",
                        settings.limit
                    ));
                }
            }
        }
        warnings
    }
}

impl Session {
    pub(super) fn counting(&mut self, due: Due) {
        let Some(up) = &self.up else {
            self.counting.forget();
            return;
        };
        match due {
            Due::Question => {
                let question = self.counting.ask(up.session);
                self.to_rib.push_back(question);
            }
            Due::Answer(counts) => {
                self.counting.question = None;
                if let Some(counts) = counts.and_then(|counts| counts.into_iter().next()) {
                    self.judge(counts);
                }
            }
        }
    }

    fn judge(&mut self, counts: [Option<FamilyCounters>; 2]) {
        let mut stop = None;
        for (direction, family, watch) in self.counting.each() {
            let (Some((watch, last)), Some(counts)) = (watch, counts[family as usize]) else {
                continue;
            };
            let count = match direction {
                Direction::In => counts.received,
                Direction::Out => counts.advertised,
            };
            *last = usize::try_from(count).unwrap_or(usize::MAX);
            let (name, advertised) = (&self.config.name, direction == Direction::Out);
            match watch.observe(*last) {
                None => {}
                Some(Event::Warning { count, limit }) => {
                    tracing::warn!(peer = %name, afi_safi = %family, count, limit, advertised, "prefixes come close to their limit");
                }
                Some(Event::Exceeded { count, limit }) => {
                    tracing::error!(peer = %name, afi_safi = %family, count, limit, advertised, "more prefixes than their limit");
                    stop = stop.or(watch.settings().stop(direction, family));
                }
            }
        }
        if let Some(stop) = stop {
            self.input(stop);
            self.counting.stopped = true;
        }
    }

    /// Other limits: judged at once, and a session that the old ones ended may come back.
    pub(super) fn change_limits(&mut self) {
        if self.counting.stopped {
            self.counting.stopped = false;
            self.input(bgp_core::fsm::Input::AutomaticStop {
                notification: Notification::cease(cease::OTHER_CONFIGURATION_CHANGE),
                restart_after: Some(Duration::ZERO),
            });
        }
        if self.up.is_none() {
            return;
        }
        let limits = self.config.limits;
        for (watches, limits) in self.counting.watches.iter_mut().zip(limits) {
            for (watch, limit) in watches.iter_mut().zip(limits) {
                match (&mut *watch, limit) {
                    (Some((watch, _)), Some(limit)) => watch.change(limit),
                    (_, limit) => *watch = limit.map(|limit| (Watch::new(limit), 0)),
                }
            }
        }
        self.counting.touch();
    }
}
