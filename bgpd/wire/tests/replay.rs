//! The inputs of the fuzz targets of this codec, without the fuzzer: committed seeds, captures of five daemons, and
//! mutations of both. `make fuzz-coverage` measures what this reaches; it sets `FUZZ_CORPUS`, with which inputs that
//! fuzzing has found are replayed too.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the module belongs to the fuzz targets"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "asks the environment for more inputs"
)]

#[path = "../../../fuzz/src/wire/mod.rs"]
mod wire;

use std::path::{Path, PathBuf};

use bgp_wire::{
    Capability, DecodeContext, Family, HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MessageType, Open,
    RouteRefresh, decode_update, frame,
};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
/// First octets of inputs (see `wire::context`): four-octet AS numbers; ADD-PATH, and IPv6 next hops for IPv4.
const WIDE: u8 = 0x01;
const EXTRAS: u8 = 0x4c;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines of hexadecimal digits.
fn hex_lines(text: &str) -> Vec<Vec<u8>> {
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

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(MANIFEST).join("../../fuzz");
    let mut inputs = hex_lines(&read(&fuzz.join(format!("seeds/{target}.hex"))));
    if std::env::var_os("FUZZ_CORPUS").is_some() {
        let found = std::fs::read_dir(fuzz.join("corpus").join(target)).expect("fuzzing ran");
        inputs
            .extend(found.map(|entry| std::fs::read(entry.expect("entry").path()).expect("input")));
    }
    inputs
}

/// Messages that a daemon sent in one session.
struct Capture {
    name: String,
    /// What the session was for.
    about: String,
    messages: Vec<Vec<u8>>,
}

fn captures() -> Vec<Capture> {
    let directory = Path::new(MANIFEST).join("tests/captures");
    let files = std::fs::read_dir(directory).expect("captures are committed");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    let mut captures = Vec::new();
    for file in files {
        for session in read(&file).split("# -- ").skip(1) {
            captures.push(Capture {
                name: file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                about: session.lines().next().unwrap_or_default().to_owned(),
                messages: hex_lines(session.split_once('\n').map_or("", |(_, lines)| lines)),
            });
        }
    }
    captures
}

/// Every captured message, as it would read in sessions of several kinds.
fn codec_inputs() -> Vec<Vec<u8>> {
    let captured = captures().into_iter().flat_map(|capture| capture.messages);
    let captured = captured.flat_map(|message| {
        [0, WIDE, WIDE | EXTRAS].map(|session| [&[session], message.as_slice()].concat())
    });
    seeds("codec").into_iter().chain(captured).collect()
}

#[test]
fn codec() {
    for input in codec_inputs() {
        wire::codec::run(&input);
    }
}

#[test]
fn recipes() {
    let reached = seeds("update_structured")
        .iter()
        .filter(|input| wire::recipe::run(input))
        .count();
    assert!(reached > 0);
}

/// How a captured session reads: ADD-PATH where the recording peer and the daemon's OPEN offered it.
fn context_of(capture: &Capture) -> DecodeContext {
    let mut ctx = wire::context(WIDE | 0x40);
    ctx.four_octet_as = !capture.about.contains("without four-octet AS numbers");
    if !capture.about.contains("knows every capability") {
        return ctx;
    }
    for message in &capture.messages {
        let Ok(open) = Open::decode(&message[HEADER_LEN..]) else {
            continue;
        };
        for capability in open.capabilities {
            let Capability::AddPath(entries) = capability else {
                continue;
            };
            for (afi, safi, directions) in entries {
                if let Some(family) = Family::from_afi_safi(afi, safi) {
                    ctx.add_path[family.index()] = directions & 2 != 0;
                }
            }
        }
    }
    ctx
}

/// What two of them name as next hop where they have no address of the family: OpenBGPD `::1` and `127.0.0.1`, GoBGP the
/// IPv4 address mapped into IPv6.
const NO_HOST: [&str; 2] = [
    "MP_REACH_NLRI next hop is no host address",
    "NEXT_HOP is no host address",
];

/// What the daemons really say has no fault, with one exception.
#[test]
fn captures_have_no_fault() {
    let captures = captures();
    assert!(captures.len() >= 5 * 4, "five daemons, four sessions each");
    for capture in captures {
        let ctx = context_of(&capture);
        let name = format!("{}, {}", capture.name, capture.about);
        let mut kinds = [0; 6];
        for message in &capture.messages {
            let found = frame(message, MAX_EXTENDED_MESSAGE_LEN).expect("a valid header");
            let found = found.expect("a whole message");
            assert_eq!(found.len, message.len(), "{name}");
            kinds[usize::from(found.kind.code())] += 1;
            match found.kind {
                MessageType::Open => {
                    let open = Open::decode(found.body);
                    assert!(open.is_ok(), "{name}: {open:?}");
                }
                MessageType::Update => {
                    let faults = decode_update(found.body, &ctx).faults;
                    let careless = ["openbgpd.hex", "gobgp.hex"].contains(&capture.name.as_str());
                    let known = |reason| careless && NO_HOST.contains(&reason);
                    assert!(
                        faults.iter().all(|f| known(f.reason)),
                        "{name}: {message:02x?} {faults:?}"
                    );
                }
                MessageType::RouteRefresh => drop(RouteRefresh::decode(found.body).expect("valid")),
                MessageType::Keepalive | MessageType::Notification => {}
            }
        }
        assert!(
            kinds[1] > 0 && kinds[2] > 0,
            "{name}: has an OPEN and UPDATEs"
        );
    }
}

/// xorshift: the same mutations in every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

/// Changed, removed and repeated octets, repaired as the fuzzer's mutator does. Of inputs that got to attributes before,
/// at least half still do.
#[test]
fn mutations() {
    const ROUNDS: usize = 60;
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (mut inputs, mut reached) = (0, 0);
    for seed in codec_inputs() {
        let counts = wire::codec::run(&seed);
        for _ in 0..ROUNDS {
            let mut input = seed.clone();
            for _ in 0..1 + rng.next() % 4 {
                let at = rng.next() % input.len();
                match rng.next() % 4 {
                    0 | 1 => input[at] = rng.next() as u8,
                    2 => drop(input.remove(at)),
                    _ => input.insert(at, input[rng.next() % input.len()]),
                }
                if input.is_empty() {
                    input.push(0);
                }
            }
            if !rng.next().is_multiple_of(8) {
                wire::repair::repair(&mut input);
            }
            let got_there = wire::codec::run(&input);
            inputs += usize::from(counts);
            reached += usize::from(counts && got_there);
        }
    }
    assert!(2 * reached > inputs, "{reached} of {inputs}");
}
