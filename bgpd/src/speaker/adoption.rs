//! What an earlier run, or an earlier speaker of this one, left in the kernel: it stays until the peers have said what they
//! have.

use std::time::{Duration, Instant};

use roadbed_api::agent::PeerReport;
use roadbed_fib::{FibHandle, Source};

use super::{ANSWER_DEADLINE, Speaker};
use crate::rib_thread::RibMessage;

/// Routes of an earlier run stay until the peers have said what they have, or this long.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Adopting {
    fib: FibHandle,
    since: Instant,
}

impl Adopting {
    pub(super) fn new(fib: FibHandle) -> Self {
        let since = Instant::now();
        Self { fib, since }
    }
}

impl Speaker {
    /// Sweeps learned routes of an earlier run once every peer has sent End-of-RIB for each of its families, or the
    /// deadline passed. To be called about once a second.
    pub async fn finish_adoption(&mut self) {
        if self.adopting.is_none() {
            return;
        }
        if !self.adoption_is_overdue() {
            let mut reports = self.reports().await;
            // Nobody knows how many peers of a range are still to come.
            let complete = self.ranges.is_empty() && reports.len() >= self.peers.len();
            // Who is kept down says nothing.
            let kept_down = |name: &str| {
                let running = self.peers.get(name);
                running.is_some_and(|running| running.config.shutdown.is_some())
            };
            reports.retain(|report| !kept_down(&report.name));
            let through = |r: &PeerReport| {
                !r.families.is_empty() && r.families.values().all(|f| f.end_of_rib)
            };
            if !complete || !reports.iter().all(through) {
                return;
            }
        }
        // What the peers said must be with the writer before the rest is swept. The first barrier brings the answers about
        // next hops that are new, the second what follows from them.
        for _ in 0..2 {
            let passed = self.rib.ask(RibMessage::Barrier);
            if tokio::time::timeout(ANSWER_DEADLINE, passed).await.is_err()
                && !self.adoption_is_overdue()
            {
                return;
            }
        }
        if let Some(adopting) = self.adopting.take() {
            // The writer only stops with the whole process.
            adopting.fib.finish_adoption(Source::Bgp).await.ok();
            self.kernel.send_modify(|config| config.adopted = true);
        }
    }

    fn adoption_is_overdue(&self) -> bool {
        self.adopting
            .as_ref()
            .is_some_and(|adopting| adopting.since.elapsed() >= ADOPTION_DEADLINE)
    }
}
