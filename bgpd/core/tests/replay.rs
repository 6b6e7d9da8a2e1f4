//! The fuzz targets of negotiation, and of FSM with RIB, without the fuzzer: committed seeds, OPENs that five daemons
//! sent, every capability code, and made-up inputs that are the same in every run.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the modules belong to the fuzz targets"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "virtual time starts at some instant"
)]

#[path = "../../../fuzz/src/speaker/mod.rs"]
mod speaker;
#[path = "../../../fuzz/src/wire/mod.rs"]
mod wire;

use std::path::Path;

/// Settings that offer everything towards a peer in any other AS, and that the rest is the body of an OPEN.
const OFFERS_ALL: [u8; 4] = [0x7b, 0x0f, 0x09, 0];

const DAEMONS: [&str; 5] = ["bird", "exabgp", "frr", "gobgp", "openbgpd"];

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What was captured of a daemon: the messages of each session.
fn sections(daemon: &str) -> Vec<Vec<Vec<u8>>> {
    let text = text(&format!("../wire/tests/captures/{daemon}.hex"));
    let sections = text.split("\n# --").skip(1);
    let after_title = sections.filter_map(|section| section.split_once('\n'));
    after_title.map(|(_, lines)| octets(lines)).collect()
}

fn hex_lines(path: &str) -> Vec<Vec<u8>> {
    octets(&text(path))
}

/// The lines of hexadecimal digits.
fn octets(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let octet = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).expect("digits");
        u8::from_str_radix(digits, 16).expect("digits")
    };
    lines
        .map(|line| line.as_bytes().chunks(2).map(octet).collect())
        .collect()
}

/// xorshift: the same inputs in every run.
fn made_up(count: usize, most: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    (0..count).map(move |_| {
        let len = next() % most;
        (0..len).map(|_| (next() >> 8) as u8).collect()
    })
}

#[test]
fn opens_of_five_daemons() {
    for daemon in DAEMONS {
        let messages = sections(daemon).concat();
        let opens = messages.iter().filter(|message| message[18] == 1);
        let mut judged = 0;
        for open in opens {
            let input = [&OFFERS_ALL, &open[19..]].concat();
            assert!(speaker::negotiation::run(&input), "{daemon}");
            judged += 1;
        }
        assert!(judged > 0, "{daemon}");
    }
}

/// Whatever code and length a capability has, and wherever a known one is wrong, the outcome is one of those allowed.
#[test]
fn every_capability_code_and_length() {
    for code in 0..=255 {
        for len in 0..=40u8 {
            for fill in [0, 1, 2, 255] {
                let capability = [&[code, len], &vec![fill; len.into()][..]].concat();
                let fixed = [4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 2];
                let parameters = [
                    &[2 + capability.len() as u8, 2, capability.len() as u8],
                    &capability[..],
                ];
                let input = [&OFFERS_ALL, &fixed[..], &parameters.concat()].concat();
                speaker::negotiation::run(&input);
            }
        }
    }
}

#[test]
fn recipes_of_opens() {
    let seeds = hex_lines("../../fuzz/seeds/open.hex");
    let all = seeds.into_iter().chain(made_up(20_000, 200));
    let compared = all.filter(|input| speaker::negotiation::run(input)).count();
    assert!(compared > 5_000, "{compared}");
}

#[test]
fn sequences_of_messages() {
    let seeds = hex_lines("../../fuzz/seeds/session.hex");
    let all = seeds.into_iter().chain(made_up(1_500, 600));
    let reached = all.map(|input| speaker::session::run(&input));
    let came_up = reached.filter(|reached| reached.sessions > 0).count();
    assert!(came_up > 500, "{came_up}");
}

/// Every session that a daemon was recorded in, as `scripts/fuzz` plants it: while an internal and an external peer wait for
/// its routes, and with each of the settings that it may have met.
#[test]
fn sessions_of_five_daemons() {
    for daemon in DAEMONS {
        let sessions = sections(daemon);
        assert_eq!(sessions.len(), 4, "{daemon}");
        for (number, messages) in sessions.iter().enumerate() {
            // The NOTIFICATION in the end would take the routes along.
            let alive = messages.iter().filter(|message| message[18] != 3);
            let messages: Vec<u8> = alive.flatten().copied().collect();
            // Bit 0 offers ADD-PATH, 1 IPv6 next hops of IPv4 routes, 2 makes it iBGP, 3 leaves next hops unresolved.
            for offers in 0..16 {
                let before = [6, 0, 6, 2, 28, 1, offers];
                let reached = speaker::session::run(&[&before[..], &messages].concat());
                let name = format!("{daemon}, session {number}, {offers:04b}: {reached:?}");
                assert_eq!(reached.sessions, 3, "{name}");
                // The third had AS numbers of two octets, which both sides here do not fall back to.
                let right = [0b0011, 0b0100, 16, 0b0010][number];
                let all = reached.learnt > 0 && reached.passed_on > 0;
                assert!(right != offers || all, "{name}");
                let unresolved = offers & 8 != 0;
                assert!(!unresolved || reached.passed_on == 0, "{name}");
            }
        }
    }
}
