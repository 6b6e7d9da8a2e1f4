//! Whole speakers in one thread: FSMs and RIBs, wired by connections in memory, in virtual time. A seed decides
//! topology, delays and what goes wrong: connections reset, links cut without a word, speakers restarted, routes that
//! come and go. When all is quiet again, every Loc-RIB is what a naive oracle says, and what each speaker announces to a
//! peer is what that peer has received.
//!
//! `SIMULATION_SEEDS=10000` runs more seeds, `SIMULATION_SEED=17` one of them.

mod network;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use network::Network;

/// Draws numbers (SplitMix64).
pub(super) struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const PREFIXES: u32 = 16;

/// The upper half is IPv6.
fn net(n: u32) -> IpNet {
    match n {
        0..8 => prefix(n),
        _ => format!("2001:db8:{n:x}::/48").parse().unwrap(),
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let speakers = 2 + dice.below(6) as usize;
    // A tree, and some links more.
    let mut links: BTreeSet<(usize, usize)> = (1..speakers)
        .map(|to| (dice.below(to as u64) as usize, to))
        .collect();
    for _ in 0..dice.below(speakers as u64) {
        let a = dice.below(speakers as u64) as usize;
        let b = dice.below(speakers as u64) as usize;
        if a != b {
            links.insert((a.min(b), a.max(b)));
        }
    }
    let links: Vec<(usize, usize)> = links.into_iter().collect();
    let mut network = Network::new(speakers, &links, Dice(seed ^ 0xdead));
    network.run_ms(dice.below(8_000));
    for _ in 0..30 {
        let link = dice.pick(&links);
        let at = dice.below(speakers as u64) as usize;
        match dice.below(16) {
            0 => network.reset(link),
            1 => network.cut(link),
            2 => network.heal(link),
            3 => network.restart(at),
            4 => network.refresh(link),
            _ => network.toggle(at, net(dice.below(PREFIXES.into()) as u32)),
        }
        if dice.below(2) == 0 {
            network.run_ms(dice.below(1_500));
        }
    }
    links.iter().for_each(|link| network.heal(*link));
    network.run_ms(180_000);
    let expected = oracle::loc_ribs(&links, &network.origins());
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(
            &network.loc_rib(at),
            expected,
            "seed {seed}: Loc-RIB of speaker {at}"
        );
    }
    for (a, b) in links.iter().flat_map(|&(a, b)| [(a, b), (b, a)]) {
        let sent = oracle::announced(a, b, &expected[a]);
        assert_eq!(
            network.received(b, a),
            sent,
            "seed {seed}: what {a} announces to {b}"
        );
    }
}

#[test]
fn speakers_converge_to_what_the_oracle_says() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    if let Some(seed) = number("SIMULATION_SEED") {
        return run(seed);
    }
    for seed in 0..number("SIMULATION_SEEDS").unwrap_or(50) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("SIMULATION_SEED={seed} shows this again");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Best paths by prefix: AS_PATH, and the speaker that it came from; itself when it is the origin.
type LocRib = BTreeMap<IpNet, (Vec<u32>, usize)>;

fn asn(speaker: usize) -> u32 {
    65001 + speaker as u32
}

fn bgp_id(speaker: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, 1 + speaker as u8)
}
