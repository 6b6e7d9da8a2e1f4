//! Whole speakers in one thread: FSMs and RIBs, wired by TCP connections in memory, in virtual time. A seed decides
//! topology and what goes wrong: connections reset, links cut without a word in one direction or both, networks
//! partitioned, speakers restarted with and without a goodbye, policies and settings changed, routes refreshed, next hops
//! lost, prefixes that come and go. When all is quiet again ([`quiet`]), everything must be what a naive oracle says.
//!
//! `SIMULATION_SEEDS=10000` runs more seeds, `SIMULATION_SEED=17` one of them.

mod network;
mod oracle;
mod plan;
mod quiet;
mod solo;
mod speaker;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use network::Network;
use plan::Plan;

/// Seeds of one run of the tests.
const SEEDS: u64 = 100;
/// The seeds are shared out among as many tests, which run side by side.
const SHARES: u64 = 4;
/// Hold times, pauses and damping are of a few seconds: enough for each of them to pass, and for routes to settle.
const QUIET_MS: u64 = 60_000;

/// Draws numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }
}

/// What one speaker tells another, by prefix and path identifier.
type Routes = BTreeMap<(IpNet, u32), (PathAttributes, NextHop)>;

/// Runs a seed to its end; a digest of all that was said, and when.
fn run(seed: u64) -> u64 {
    let plan = Plan::draw(seed);
    let mut network = Network::new(&plan.topology, Dice(seed ^ 0xdead));
    for action in &plan.actions {
        network.act(*action);
    }
    network.heal_all();
    network.run_ms(QUIET_MS);
    quiet::check(&network);
    network.digest()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

/// Runs every seed that falls to this share.
fn run_share(share: u64) {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|seed| seed % SHARES == share) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("SIMULATION_SEED={seed} shows this again");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn speakers_converge_to_what_the_oracle_says_0() {
    run_share(0);
}

#[test]
fn speakers_converge_to_what_the_oracle_says_1() {
    run_share(1);
}

#[test]
fn speakers_converge_to_what_the_oracle_says_2() {
    run_share(2);
}

#[test]
fn speakers_converge_to_what_the_oracle_says_3() {
    run_share(3);
}

#[test]
fn a_seed_replays() {
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

/// What the seeds are meant to reach, they reach.
#[test]
fn the_seeds_have_every_topology_and_every_fault() {
    let plans: Vec<Plan> = (0..SEEDS).map(Plan::draw).collect();
    let some = |what: &str, wanted: &dyn Fn(&Plan) -> bool| {
        let found = plans.iter().filter(|plan| wanted(plan)).count();
        assert!(found >= 3, "{what}: in {found} of {SEEDS} seeds");
    };
    some("50 speakers", &|p| p.topology.speakers() == 50);
    some("2 speakers", &|p| p.topology.speakers() == 2);
    some("reflectors", &|p| p.topology.has_reflectors());
    some("ADD-PATH", &|p| p.topology.has_add_path());
    some("iBGP without reflectors", &|p| {
        p.topology.has_ibgp() && !p.topology.has_reflectors()
    });
    let kinds = |p: &Plan| -> BTreeSet<&str> { p.actions.iter().map(|a| a.kind()).collect() };
    for kind in plan::KINDS {
        some(kind, &|p| kinds(p).contains(kind));
    }
}

fn bgp_id(speaker: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, 1 + speaker as u8)
}

/// The speaker behind a next hop: see [`speaker::own_next_hop`].
fn speaker_of(next_hop: NextHop) -> usize {
    usize::from(next_hop.octets().0[3]) - 1
}
