//! More than somebody can take. A peer that stops reading while others churn costs little memory, delays nobody, and has
//! everything right once it reads again; a large table costs nobody's session. What ends its session after eight minutes is tested where time is virtual (`bgpd/core/src/fsm`) or short
//! (`bgpd/src/rib_thread/tests.rs`).

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, config, peer};
use crate::hostile::{RESIDENT_KIB, US};
use crate::script::{KEEPALIVE, Script, UPDATE, mandatory, message, open, update};

const SOURCE: &str = "10.99.0.2";
const SINK: &str = "10.99.1.2";
const STUCK: &str = "10.99.1.1";
/// The shortest that RFC 4271 allows.
const HOLD_S: u16 = 3;
/// Rounds of churn, and prefixes that come in each, never seen before; those of the round before go. A round is some 50 KiB
/// of UPDATEs, so all of them are more than a slow reader is kept.
const ROUNDS: u32 = 240;
const PREFIXES: u32 = 500;
/// Of these, prefixes that have an UPDATE and much to be said of their own.
const WORDY: u32 = 15;
/// Rounds after which everybody says that it is there.
const KEEPALIVE_EVERY: u32 = 20;

type Prefix = [u8; 3];

/// Connects with so small a window that a few UPDATEs fill it.
fn short_of_room(ns: &Ns, from: &str) -> TcpStream {
    let to = |text: &str, port| SockaddrStorage::from(SocketAddr::new(text.parse().unwrap(), port));
    eventually(SOON, "port 179 takes connections", || {
        ns.within(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
            setsockopt(&socket, sockopt::RcvBuf, &4096)?;
            bind(socket.as_raw_fd(), &to(from, 0))?;
            connect(socket.as_raw_fd(), &to(US, 179))?;
            Ok::<_, nix::errno::Errno>(TcpStream::from(socket))
        })
    })
}

fn prefix(round: u32, i: u32) -> Prefix {
    let n = (round * PREFIXES + i).to_be_bytes();
    [20 + n[1], n[2], n[3]]
}

fn nlri(prefixes: impl Iterator<Item = Prefix>) -> Vec<u8> {
    prefixes.flat_map(|p| [24, p[0], p[1], p[2]]).collect()
}

/// COMMUNITIES of 3,400 octets, other ones for each prefix.
fn wordy(prefix: Prefix) -> Vec<u8> {
    let communities = (0..850u16).flat_map(|n| {
        let [high, low] = n.to_be_bytes();
        [prefix[1], prefix[2], high, low]
    });
    let mut attribute = vec![0xd0, 8];
    attribute.extend(3_400u16.to_be_bytes());
    attribute.extend(communities);
    attribute
}

fn withdraw(nlri: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(nlri.len()).unwrap().to_be_bytes().to_vec();
    body.extend(nlri);
    body.extend([0, 0]);
    message(UPDATE, &body)
}

/// What a peer has been told, of /24s.
#[derive(Default)]
struct Told {
    routes: BTreeSet<Prefix>,
    updates: u32,
}

impl Told {
    fn take(&mut self, body: &[u8]) {
        let len = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let (withdrawn, rest) = (2..2 + len(0), 2 + len(0));
        let announced = rest + 2 + len(rest)..body.len();
        for prefix in body[withdrawn].chunks(4) {
            self.routes.remove(&prefix[1..]);
        }
        for prefix in body[announced].chunks(4).filter(|p| p[0] == 24) {
            self.routes.insert(prefix[1..].try_into().unwrap());
        }
        self.updates += 1;
    }

    /// Reads until all of these are there.
    #[track_caller]
    fn until(&mut self, script: &mut Script, wanted: &[Prefix]) {
        while !wanted.iter().all(|prefix| self.routes.contains(prefix)) {
            self.take(&script.expect(UPDATE));
        }
    }
}

fn resident_kib(speaker: &mut Bgpd) -> u64 {
    speaker.process().resident_kib().unwrap()
}

#[test]
fn a_peer_that_stops_reading_costs_little_and_delays_nobody() {
    let pair = Pair::new();
    let mut peers = peer("source", SOURCE, "passive = true");
    for (name, address) in [("sink", SINK), ("stuck", STUCK)] {
        pair.peer
            .add_address("eth0", &format!("{address}/16"))
            .unwrap();
        let more = "passive = true\nexportPolicies = [\"accept-all\"]";
        peers += &peer(name, address, more);
    }
    let text = config(&peers, "") + "installRoutes = false\n";
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &text).unwrap();
    let mut source = Script::establish(&pair.peer, SOURCE, US);
    let mut sink = Script::connect(&pair.peer, SINK, US);
    sink.greet(&open(65002, [10, 99, 1, 2]));
    let mut stuck = Script::on(short_of_room(&pair.peer, STUCK));
    stuck.greet(&open(65002, [10, 99, 1, 1]));

    let (mut heard, mut most) = (Told::default(), 0);
    for round in 0..ROUNDS {
        let new = nlri((0..PREFIXES).map(|i| prefix(round, i)));
        let plain = mandatory([10, 99, 0, 2]);
        source.send(&update(&plain, &new));
        for prefix in (0..WORDY).map(|i| prefix(round, i)) {
            let attributes = [plain.clone(), vec![wordy(prefix)]].concat();
            source.send(&update(&attributes, &nlri([prefix].into_iter())));
        }
        if round > 0 {
            let old = nlri((0..PREFIXES).map(|i| prefix(round - 1, i)));
            source.send(&withdraw(&old));
        }
        // The sink has it within the patience of a test, whatever the other one does.
        heard.until(&mut sink, &[prefix(round, 0), prefix(round, PREFIXES - 1)]);
        if round % KEEPALIVE_EVERY == 0 {
            for script in [&mut source, &mut sink, &mut stuck] {
                script.send(&message(KEEPALIVE, &[]));
            }
            most = most.max(resident_kib(&mut speaker));
        }
    }
    assert!(most < RESIDENT_KIB, "{most} KiB resident");
    assert_eq!(speaker.logged(&["session down"]), 0);

    // It reads again, and has what is, not what was.
    let last: BTreeSet<Prefix> = (0..PREFIXES).map(|i| prefix(ROUNDS - 1, i)).collect();
    let mut late = Told::default();
    for (script, told) in [(&mut sink, &mut heard), (&mut stuck, &mut late)] {
        while told.routes != last {
            script.send(&message(KEEPALIVE, &[]));
            told.take(&script.expect(UPDATE));
        }
        source.send(&message(KEEPALIVE, &[]));
    }
    let (all, some) = (heard.updates, late.updates);
    assert!(some < all / 2, "never left behind: {some} UPDATEs of {all}");
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Prefixes of the large table. A million takes an optimised speaker: `make soak`.
fn load() -> u32 {
    std::env::var("LOAD_PREFIXES").map_or(200_000, |n| n.parse().unwrap())
}

/// Prefixes that an UPDATE announces, each with three octets.
fn announced(body: &[u8]) -> u32 {
    let len = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let withdrawn = len(0);
    let nlri = body.len() - 4 - withdrawn - len(2 + withdrawn);
    u32::try_from(nlri / 4).unwrap()
}

/// One peer sends a large table again and again, each time with other attributes, for twice the shortest Hold Time;
/// another is sent it, and a third has nothing to say and that Hold Time.
#[test]
fn a_large_table_ends_no_session() {
    let pair = Pair::new();
    let mut peers = peer("source", SOURCE, "passive = true");
    for (name, address, more) in [
        ("sink", SINK, "exportPolicies = [\"accept-all\"]"),
        ("quiet", STUCK, ""),
    ] {
        pair.peer
            .add_address("eth0", &format!("{address}/16"))
            .unwrap();
        peers += &peer(name, address, &format!("passive = true\n{more}"));
    }
    let text = config(&peers, "") + "installRoutes = false\n";
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &text).unwrap();
    let tables = [table(0), table(1)];
    let hold = Duration::from_secs(HOLD_S.into());
    let mut short = open(65002, [10, 99, 1, 1]);
    short[22..24].copy_from_slice(&HOLD_S.to_be_bytes());
    let mut quiet = Script::connect(&pair.peer, STUCK, US);
    quiet.greet(&short);
    let mut sink = Script::connect(&pair.peer, SINK, US);
    sink.greet(&open(65002, [10, 99, 1, 2]));
    let mut source = Script::establish(&pair.peer, SOURCE, US);
    let begun = Instant::now();
    let (done, through) = std::sync::mpsc::channel::<()>();
    let (next, asked) = std::sync::mpsc::channel::<usize>();
    std::thread::scope(|scope| {
        let stays = scope.spawn(move || {
            let mut longest = Duration::ZERO;
            while through.try_recv() == Err(TryRecvError::Empty) {
                let before = Instant::now();
                quiet.send(&message(KEEPALIVE, &[]));
                quiet.expect(KEEPALIVE);
                longest = longest.max(before.elapsed());
            }
            (quiet, longest)
        });
        let sends = scope.spawn(move || {
            for round in asked {
                source.send(&tables[round % 2]);
            }
            source
        });
        let (mut got, mut rounds) = (0, 0);
        while begun.elapsed() < 2 * hold {
            next.send(rounds).unwrap();
            rounds += 1;
            while got < u64::from(load()) * rounds as u64 {
                sink.send(&message(KEEPALIVE, &[]));
                got += u64::from(announced(&sink.expect(UPDATE)));
            }
        }
        let took = begun.elapsed();
        drop(next);
        let _source = sends.join().unwrap();
        drop(done);
        let (_quiet, longest) = stays.join().unwrap();
        println!("{rounds} tables, {got} prefixes, in {took:?}; longest silence: {longest:?}");
        let slices = speaker.log();
        let slice = slices.lines().rfind(|line| line.contains("longest slice"));
        println!(
            "{} KiB resident; {}",
            resident_kib(&mut speaker),
            slice.unwrap_or("")
        );
        assert!(longest < hold, "no word of the speaker for {longest:?}");
        assert_eq!(speaker.logged(&["session down"]), 0);
    });
}

/// UPDATEs of [`load`] prefixes, ten of which share their attributes; other ones in each round.
fn table(round: u32) -> Vec<u8> {
    const A_ROW: u32 = 10;
    let rows = load() / A_ROW;
    let row = |row: u32| {
        // A community, since a neighbour's MED is not passed on.
        let mark = [&[0xc0, 8, 4][..], &(round * rows + row).to_be_bytes()].concat();
        let attributes = [mandatory([10, 99, 0, 2]), vec![mark]].concat();
        let prefixes = (0..A_ROW).map(|i| {
            let n = (row * A_ROW + i).to_be_bytes();
            [20 + n[1], n[2], n[3]]
        });
        update(&attributes, &nlri(prefixes))
    };
    (0..rows).flat_map(row).collect()
}
