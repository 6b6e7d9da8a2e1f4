//! What anyone who reaches port 179 can send: garbage, broken OPENs, connections that never say a word. The process lives,
//! holds little, and a session with somebody else does not notice.

use std::net::TcpStream;
use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{Pair, SOON, peer};
use crate::script::{KEEPALIVE, NOTIFICATION, OPEN, Script, connect, message, open};

pub(crate) const US: &str = "10.99.0.1";
const ROUTE: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
/// The good session's: the shortest that RFC 4271 allows, so that a speaker that stalls loses it within the test.
pub(crate) const HOLD: Duration = Duration::from_secs(3);
/// Descriptors that the process may hold beside those of the connections under test.
pub(crate) const FILES: usize = 40;
/// Resident memory that a few peers may cost; a speaker that buffers what strangers send passes it.
pub(crate) const RESIDENT_KIB: u64 = 64 << 10;

/// A speaker with a good session (BIRD, which we never dial: the session's connection is an accepted one), and peers at
/// 10.99.1.1 and up that never came up yet.
pub(crate) struct Attacked {
    bird: Bird,
    pub(crate) speaker: Bgpd,
    // Last: the logs of the others are in its directory.
    pub(crate) pair: Pair,
}

impl Attacked {
    pub(crate) fn new(victims: u8) -> Self {
        let pair = Pair::new();
        let bird = Bird::start(
            &pair.peer,
            pair.dir(),
            "log stderr all;
            router id 10.99.0.2;
            protocol device {}
            protocol static one { ipv4; route 10.1.0.0/24 blackhole; }
            protocol bgp rb {
                local 10.99.0.2 as 65002;
                neighbor 10.99.0.1 as 65001;
                hold time 3; connect delay time 1; connect retry time 1; error wait time 1, 2;
                ipv4 { import all; export where source = RTS_STATIC; };
            }",
        )
        .unwrap();
        let mut peers = peer("good", "10.99.0.2", "passive = true");
        for i in 1..=victims {
            let address = victim(i);
            pair.peer
                .add_address("eth0", &format!("{address}/16"))
                .unwrap();
            peers += &peer(&format!("victim{i}"), &address, "passive = true");
        }
        let speaker = pair.speaker(&peers);
        pair.kernel_has(&[ROUTE]);
        Self {
            bird,
            speaker,
            pair,
        }
    }

    fn connect(&self, from: &str) -> TcpStream {
        connect(&self.pair.peer, from, US, 179).unwrap()
    }

    /// Over more than a Hold Time: alive, small, and the good session the same one as ever.
    #[track_caller]
    pub(crate) fn unharmed(&mut self) {
        throughout(HOLD + Duration::from_secs(1), "the speaker is well", || {
            self.speaker.process().alive()?;
            let (files, kib) = (
                self.speaker.process().open_files()?,
                self.speaker.process().resident_kib()?,
            );
            anyhow::ensure!(files < FILES, "{files} open files");
            anyhow::ensure!(kib < RESIDENT_KIB, "{kib} KiB resident");
            self.pair
                .kernel_has_now(&[ROUTE])
                .map_err(anyhow::Error::msg)
        });
        self.bird
            .shows("show protocols all rb", &["Established"])
            .unwrap();
        assert_eq!(self.speaker.logged(&["session established", "good"]), 1);
        assert_eq!(self.speaker.logged(&["session down", "good"]), 0);
    }
}

pub(crate) fn victim(i: u8) -> String {
    format!("10.99.1.{i}")
}

/// Reproducible noise (xorshift).
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn with_length(len: u16) -> Vec<u8> {
    let mut bytes = message(KEEPALIVE, &[]);
    bytes[16..18].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn garbage_in_place_of_an_open() {
    let mut marker = open(65002, [10, 99, 1, 1]);
    marker[7] = 0xfe;
    let mut endless = with_length(0xffff);
    endless.extend(noise(1 << 20));
    let valid = open(65002, [10, 99, 1, 1]);
    let mut version = valid.clone();
    version[19] = 3;
    let mut identifier = valid.clone();
    identifier[24..28].fill(0);
    let mut hold = valid.clone();
    hold[22..24].copy_from_slice(&[0, 2]);
    let cases: [(&str, Vec<u8>, &[u8]); 10] = [
        ("noise", noise(4096), &[1, 1]),
        ("much noise", noise(4 << 20), &[1, 1]),
        ("bad marker", marker, &[1, 1]),
        ("length 18", with_length(18), &[1, 2, 0, 18]),
        ("length 65535", endless, &[1, 2, 0xff, 0xff]),
        ("type 0", message(0, &[]), &[1, 3, 0]),
        ("version 3", version, &[2, 1, 0, 4]),
        ("Identifier 0.0.0.0", identifier, &[2, 3]),
        ("Hold Time 2", hold, &[2, 6]),
        ("KEEPALIVE first", message(KEEPALIVE, &[]), &[5, 1]),
    ];
    let mut attacked = Attacked::new(10);
    for (i, (what, bytes, expected)) in (1..).zip(cases) {
        let mut script = Script::connect(&attacked.pair.peer, &victim(i), US);
        script.send(&bytes);
        let words = script.last_words();
        let right = words.as_deref().is_some_and(|w| w.starts_with(expected));
        assert!(right, "{what}: expected {expected:?}, got {words:?}");
    }
    attacked.unharmed();
}

/// Each prefix of a valid OPEN twice: as bytes that stop coming, and as a message whose length field agrees.
#[test]
fn an_open_cut_at_every_octet() {
    let whole = open(65002, [10, 99, 1, 1]);
    let victims = u8::try_from(whole.len() - 19).unwrap();
    let mut attacked = Attacked::new(victims);
    for (i, cut) in (1..).zip(19..whole.len()) {
        let mut stopped = Script::connect(&attacked.pair.peer, &victim(i), US);
        stopped.send(&whole[..cut]);
        stopped.finish();
        stopped.last_words();
        let mut shortened = Script::connect(&attacked.pair.peer, &victim(i), US);
        shortened.expect(OPEN);
        shortened.send(&message(OPEN, &whole[19..cut]));
        let words = shortened
            .last_words()
            .unwrap_or_else(|| panic!("no NOTIFICATION for an OPEN of {cut} octets"));
        assert!(matches!(words[0], 1 | 2), "{cut}: {words:?}");
    }
    attacked.unharmed();
}

#[test]
fn connections_that_say_nothing() {
    let mut attacked = Attacked::new(1);
    attacked
        .pair
        .peer
        .add_address("eth0", "10.99.2.1/16")
        .unwrap();
    let mut held = Vec::new();
    // A stranger, a peer that is not up, and the peer whose session is.
    for from in ["10.99.2.1", "10.99.1.1", "10.99.0.2"] {
        held.extend((0..200).map(|_| attacked.connect(from)));
    }
    attacked.unharmed();
    drop(held);

    // The peer that is not up can still come up.
    let mut script = eventually(SOON, "a connection is taken", || {
        let mut script = Script::connect(&attacked.pair.peer, "10.99.1.1", US);
        script.send(&open(65002, [10, 99, 1, 1]));
        match script.next_kind() {
            Some(OPEN) => Ok(script),
            other => Err(format!("{other:?}")),
        }
    });
    script.send(&message(KEEPALIVE, &[]));
    script.expect(KEEPALIVE);
    script.keep_alive(Duration::from_secs(1));
    attacked.unharmed();
}

/// Connects and closes, connects and resets, as scanners do.
#[test]
fn connections_that_come_and_go() {
    let mut attacked = Attacked::new(1);
    for round in 0..300 {
        for from in ["10.99.1.1", "10.99.0.2"] {
            let stream = attacked.connect(from);
            if round % 2 == 0 {
                // Unread bytes turn the close into a reset.
                drop(std::io::Write::write(
                    &mut &stream,
                    &message(NOTIFICATION, &[6, 2]),
                ));
            }
        }
    }
    attacked.unharmed();
}
