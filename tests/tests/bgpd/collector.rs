//! A BMP collector: takes what a station sends, cuts it into messages, and has `tshark` say what they mean.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;

use crate::fixture::SOON;

/// Message types of RFC 7854 §4.1.
pub(crate) const ROUTES: u8 = 0;
pub(crate) const NUMBERS: u8 = 1;
pub(crate) const DOWN: u8 = 2;
pub(crate) const UP: u8 = 3;
pub(crate) const TERMINATION: u8 = 5;

const PORT: u16 = 11019;
/// Octets of the common header.
const HEADER: usize = 6;
/// What the socket keeps of what is not read, octets.
const ROOM: usize = 256 << 10;

pub(crate) struct Collector {
    listener: TcpListener,
}

/// One connection of a station.
pub(crate) struct Heard {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Of `bytes`, those of whole messages.
    whole: usize,
    messages: Vec<Vec<u8>>,
    ended: bool,
}

/// The table of a station in the speaker's file.
pub(crate) fn station(name: &str, address: &str, more: &str) -> String {
    format!("[bmp.{name}]\naddress = \"{address}\"\nconnectRetrySeconds = 1\n{more}\n")
}

impl Collector {
    pub(crate) fn listen(ns: &Ns, address: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), PORT);
        let listener = ns.within(|| TcpListener::bind(address)).unwrap();
        setsockopt(&listener, sockopt::RcvBuf, &ROOM).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener }
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> Heard {
        let (stream, _) = eventually(SOON, "the station connects", || self.listener.accept());
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        Heard {
            stream,
            bytes: Vec::new(),
            whole: 0,
            messages: Vec::new(),
            ended: false,
        }
    }
}

impl Heard {
    /// All messages so far.
    pub(crate) fn messages(&self) -> &[Vec<u8>] {
        &self.messages
    }

    /// How many messages of this type there are.
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.messages.iter().filter(|m| m[5] == kind).count()
    }

    /// Reads until `count` messages of this type hold these octets.
    #[track_caller]
    pub(crate) fn until(&mut self, count: usize, kind: u8, octets: &[u8]) {
        let holds = |m: &&Vec<u8>| {
            m[5] == kind && (octets.is_empty() || m.windows(octets.len()).any(|w| w == octets))
        };
        let deadline = Instant::now() + SOON;
        let (mut looked_at, mut found) = (0, 0);
        loop {
            found += self.messages[looked_at..].iter().filter(holds).count();
            looked_at = self.messages.len();
            if found >= count {
                return;
            }
            assert!(
                !self.ended && Instant::now() < deadline,
                "{found} of {count} messages of type {kind} with {octets:?} among {looked_at}; ended: {}",
                self.ended,
            );
            self.read();
        }
    }

    /// Reads until the station closes.
    #[track_caller]
    pub(crate) fn until_closed(&mut self) {
        let deadline = Instant::now() + SOON;
        while !self.ended {
            assert!(Instant::now() < deadline, "the station does not close");
            self.read();
        }
        assert_eq!(self.whole, self.bytes.len(), "the last message is whole");
    }

    fn read(&mut self) {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(n) => self.bytes.extend(&chunk[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.ended = true,
        }
        while let Some(head) = self.bytes.get(self.whole..self.whole + HEADER) {
            assert_eq!(head[0], 3, "version of RFC 7854");
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(message) = self.bytes.get(self.whole..self.whole + len) else {
                break;
            };
            self.messages.push(message.to_vec());
            self.whole += len;
        }
    }

    /// These fields of every message as `tshark` reads them: a line each, fields between bars.
    #[track_caller]
    pub(crate) fn decoded(&self, fields: &[&str]) -> Vec<String> {
        let mut command = Command::new("timeout");
        command.args(["60", "tshark", "-n", "-r", "-", "-d", "tcp.port==11019,bmp"]);
        command.args(["-T", "fields", "-E", "separator=|", "-e", "_ws.malformed"]);
        for field in fields {
            command.args(["-e", field]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, capture) = (child.stdin.take().unwrap(), capture(&self.messages));
        // What tshark says below tells more than the error of a write.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&capture)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tshark: {said}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let well_formed = |line: &str| {
            let rest = line.strip_prefix('|');
            rest.unwrap_or_else(|| panic!("malformed: {line}"))
                .to_owned()
        };
        lines.lines().map(well_formed).collect()
    }
}

/// A capture of one TCP direction, one segment per message, to the collector's port.
fn capture(messages: &[Vec<u8>]) -> Vec<u8> {
    /// LINKTYPE_RAW: packets begin with the IP header.
    const RAW_IP: u32 = 101;
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65535, RAW_IP] {
        pcap.extend(word.to_be_bytes());
    }
    let mut sequence = 1u32;
    for message in messages {
        let len = u16::try_from(40 + message.len()).unwrap();
        for word in [0, 0, u32::from(len), u32::from(len)] {
            pcap.extend(word.to_be_bytes());
        }
        let [high, low] = len.to_be_bytes();
        pcap.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        pcap.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        pcap.extend(50000u16.to_be_bytes());
        pcap.extend(PORT.to_be_bytes());
        pcap.extend(sequence.to_be_bytes());
        pcap.extend([0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        pcap.extend(message);
        sequence += u32::try_from(message.len()).unwrap();
    }
    pcap
}
