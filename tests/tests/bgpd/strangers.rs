//! Ten thousand connections that nobody asked for, hundreds at a time: from addresses that are no peer's, and from those of
//! peers. Meanwhile a session stays up and its routes flow, and the process stays small.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, peer};
use crate::hostile::{Attacked, FILES, RESIDENT_KIB, US, noise, victim};
use crate::script::{KEEPALIVE, OPEN, Script, mandatory, message, open, update};

/// Connections of one source at a time: some more than the kernel queues for the listener.
const AT_ONCE: usize = 250;
const PATIENCE: Duration = Duration::from_secs(20);
/// Addresses that the strangers come from.
const SOURCES: [&str; 4] = ["10.99.2.1", "10.99.2.2", "10.99.2.3", "10.99.2.4"];
const OF_EACH: usize = 2_500;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The speaker closes it.
    Theirs,
    /// We do, with all others of its batch.
    Ours,
}

/// Opens so many connections, [`AT_ONCE`] at a time; each says something else.
fn storm(ns: &Ns, from: &str, count: usize, end: End, done: &AtomicU32) -> Result<(), String> {
    let garbage = noise(16 << 10);
    let hello = open(65002, [10, 99, 2, 1]);
    ns.within(|| {
        for batch in 0..count / AT_ONCE {
            let dialled: Vec<OwnedFd> = (0..AT_ONCE).map(|_| dial(from)).collect();
            let mut held = Vec::new();
            for (i, socket) in dialled.into_iter().enumerate() {
                ready(&socket, PollFlags::POLLOUT)?;
                let mut stream = TcpStream::from(socket);
                // Writing to what is closed already is an error, and none here.
                match (batch + i) % 4 {
                    0 => {}
                    1 => drop(stream.write(&garbage)),
                    2 => drop(stream.write(&hello)),
                    _ => drop(stream.write(&hello[..1])),
                }
                match end {
                    End::Theirs => closed(&mut stream)?,
                    End::Ours => held.push(stream),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })
}

/// Ten thousand connections, of all sources at once; meanwhile one route after the other gets through, each followed by a
/// look at the speaker. How many routes did.
fn all_at_once(
    pair: &Pair,
    good: &mut Script,
    end: End,
    at_least: u8,
    mut look: impl FnMut(),
) -> u8 {
    let done = AtomicU32::new(0);
    let mut n = 0;
    std::thread::scope(|scope| {
        let storms: Vec<_> = SOURCES
            .iter()
            .map(|from| scope.spawn(|| storm(&pair.peer, from, OF_EACH, end, &done)))
            .collect();
        while n < at_least || storms.iter().any(|storm| !storm.is_finished()) {
            a_route_gets_through(pair, good, n);
            look();
            n = n.wrapping_add(1);
        }
        for storm in storms {
            storm.join().unwrap().unwrap();
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 10_000);
    n
}

/// The addresses that the strangers come from.
fn with_sources() -> Pair {
    let pair = Pair::new();
    for source in SOURCES {
        pair.peer
            .add_address("eth0", &format!("{source}/16"))
            .unwrap();
    }
    pair
}

/// Begins a connection.
fn dial(from: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let address =
        |text: &str, port| SockaddrStorage::from(SocketAddr::new(text.parse().unwrap(), port));
    bind(socket.as_raw_fd(), &address(from, 0)).unwrap();
    match connect(socket.as_raw_fd(), &address(US, 179)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => socket,
        Err(error) => panic!("cannot dial from {from}: {error}"),
    }
}

fn ready(socket: &impl AsFd, what: PollFlags) -> Result<(), String> {
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    match poll(&mut [PollFd::new(socket.as_fd(), what)], timeout) {
        Ok(0) => Err(format!("no {what:?} in time")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads to the end.
fn closed(stream: &mut TcpStream) -> Result<(), String> {
    let mut sink = [0; 512];
    loop {
        ready(stream, PollFlags::POLLIN)?;
        match stream.read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // A reset is an end, too.
            Err(_) => return Ok(()),
        }
    }
}

/// Time that the process has used of all processors, in clock ticks.
fn ticks(speaker: &mut Bgpd) -> u64 {
    let stat = format!("/proc/{}/stat", speaker.process().pid());
    let stat = std::fs::read_to_string(stat).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[track_caller]
fn is_small(speaker: &mut Bgpd) {
    speaker.process().alive().unwrap();
    let files = speaker.process().open_files().unwrap();
    let kib = speaker.process().resident_kib().unwrap();
    assert!(files < FILES, "{files} open files");
    assert!(kib < RESIDENT_KIB, "{kib} KiB resident");
}

/// Announces 10.3.`n`.0/24 and waits until the kernel has it.
#[track_caller]
fn a_route_gets_through(pair: &Pair, script: &mut Script, n: u8) {
    script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 3, n]));
    let wanted = format!("10.3.{n}.0/24");
    eventually(SOON, "a new route reaches the kernel", || {
        script.keep_alive(Duration::ZERO);
        let found = routes(&pair.us, PROTOCOL).map_err(|e| e.to_string())?;
        found
            .contains_key(&wanted)
            .then_some(())
            .ok_or(format!("{} routes", found.len()))
    });
    script.keep_alive(Duration::from_millis(50));
}

#[test]
fn ten_thousand_connections_from_strangers() {
    let pair = with_sources();
    let mut speaker = pair.speaker(&peer("good", "10.99.0.2", "passive = true"));
    let mut good = Script::establish(&pair.peer, "10.99.0.2", US);
    let begun = Instant::now();
    let look = || is_small(&mut speaker);
    let routes_through = all_at_once(&pair, &mut good, End::Theirs, 0, look);
    assert!(routes_through > 1, "nothing happened meanwhile");
    // It settles: less than a fifth of one processor in two seconds.
    eventually(SOON, "the speaker comes to rest", || {
        let before = ticks(&mut speaker);
        good.keep_alive(Duration::from_secs(2));
        let used = ticks(&mut speaker) - before;
        (used < 40)
            .then_some(())
            .ok_or(format!("{used} clock ticks in 2 s"))
    });
    is_small(&mut speaker);
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
    let lines = speaker.logged(&["address that is no peer"]);
    let allowed = 1 + begun.elapsed().as_secs() as usize / 10;
    assert!(
        (1..=allowed).contains(&lines),
        "{lines} lines about strangers"
    );
    assert!(speaker.log().lines().count() < 30, "{}", speaker.log());
}

/// One whose session is not up, and one whose session is.
#[test]
fn a_storm_from_the_addresses_of_peers() {
    let mut attacked = Attacked::new(1);
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let peer = &attacked.pair.peer;
        let storms = [victim(1), "10.99.0.2".to_owned()].map(|from| {
            let done = &done;
            scope.spawn(move || storm(peer, &from, 1_000, End::Ours, done))
        });
        for storm in storms {
            storm.join().unwrap().unwrap();
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 2_000);
    assert!(
        attacked.speaker.log().lines().count() < 60,
        "{}",
        attacked.speaker.log()
    );
    attacked.unharmed();
    // Who was refused for a while can come up.
    let mut script = eventually(SOON, "the peer comes up", || {
        let mut script = Script::connect(&attacked.pair.peer, &victim(1), US);
        script.send(&open(65002, [10, 99, 1, 1]));
        match script.next_kind() {
            Some(OPEN) => Ok(script),
            other => Err(format!("{other:?}")),
        }
    });
    script.send(&message(KEEPALIVE, &[]));
    script.expect(KEEPALIVE);
    script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 7, 0]));
    attacked.pair.kernel_has(&[
        ("10.1.0.0/24", "via 10.99.0.2 dev eth0"),
        ("10.7.0.0/24", "via 10.99.0.2 dev eth0"),
    ]);
}

/// Strangers inside of a listen range: each could be a peer, so the range's limit is what keeps them few.
#[test]
fn ten_thousand_connections_inside_of_a_range() {
    let pair = with_sources();
    let range = "[peers.rack]\nlistenRange = \"10.99.2.0/24\"\nasNumber = 65099\nmaxSessions = 3\n";
    let good = peer("good", "10.99.0.2", "passive = true");
    let mut speaker = pair.speaker(&(good + range));
    let mut good = Script::establish(&pair.peer, "10.99.0.2", US);
    let mut most = 0;
    let look = || most = most.max(speaker.process().open_files().unwrap());
    // At least so many: nobody waits here for an answer, so the storm may be over soon.
    all_at_once(&pair, &mut good, End::Ours, 3, look);
    // Some connections of each address at a time, beside those of the range's sessions.
    assert!(most < 2 * FILES, "{most} open files");
    a_route_gets_through(&pair, &mut good, 200);
    is_small(&mut speaker);
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down", "peer=good"]), 0);
    // An address that has just failed is refused for a while: few of the connections make a peer, and fewer a line of the log.
    let peers = speaker.logged(&["dynamic peer added"]);
    let lines = speaker.log().lines().count();
    assert!((1..500).contains(&peers), "{peers} peers");
    assert!(lines < 20 + 5 * peers, "{lines} lines of {peers} peers");
}
