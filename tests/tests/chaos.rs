//! Calls in random order, 16 at a time, while plugins, the agent, namespaces and the run directory are taken away: nothing is
//! left over, nothing is missing, and no address is ever held twice. Needs root.
//!
//! `CHAOS_CALLS` says how many calls (300), `CHAOS_SEED` repeats the decisions of a run; which call meets which accident
//! is up to the scheduler.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "chaos/call.rs"]
mod call;
#[path = "chaos/runtime.rs"]
mod runtime;
#[path = "chaos/truth.rs"]
mod truth;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roadbed_tests::bench::Bench;

use crate::runtime::Runtime;

const N1: &str = "n1";
const CALLS: u64 = 300;
const AT_A_TIME: u64 = 16;

/// An endless sequence that a seed determines (splitmix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    /// The `n`th sequence of a seed.
    fn new(seed: u64, n: u64) -> Self {
        Self(seed ^ n.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// Below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// With a chance of `percent` in a hundred.
    fn happens(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap())
}

#[test]
fn whatever_is_taken_away_nothing_is_left_over_and_nothing_missing() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    let calls = number("CHAOS_CALLS").unwrap_or(CALLS);
    println!("CHAOS_SEED={seed} CHAOS_CALLS={calls}");
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let before = truth::rules(site);
    let runtime = Runtime::new(site, calls);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|n| {
                scope.spawn({
                    let runtime = &runtime;
                    move || runtime.work(Dice::new(seed, n))
                })
            })
            .collect();
        let accidents = scope.spawn(|| accidents(&bench, Dice::new(seed, AT_A_TIME), &over));
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        accidents.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    site.ready(N1).unwrap();
    let wired = runtime.settle();
    println!("{}", runtime.tally());
    truth::exactly(site, &wired);
    truth::talk(site, &wired);
    runtime.end();
    truth::exactly(site, &[]);
    assert_eq!(truth::rules(site), before);
}

/// Takes the agent away again and again, and sometimes what it keeps.
fn accidents(bench: &Bench, mut dice: Dice, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200 + dice.roll(1300)));
        let (before, after) = (dice.happens(20), dice.happens(20));
        if before {
            lose_run_dir(bench);
        }
        bench.kill(N1).unwrap();
        if after {
            lose_run_dir(bench);
        }
        std::thread::sleep(Duration::from_millis(dice.roll(500)));
        bench.start(N1).unwrap();
        bench.site.ready(N1).unwrap();
    }
}

/// Plugins may leave notes meanwhile; what they add stays or goes.
fn lose_run_dir(bench: &Bench) {
    let dir = bench.site.path(N1, "/run/roadbed").unwrap();
    std::fs::remove_dir_all(dir).ok();
}
