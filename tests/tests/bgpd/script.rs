//! A peer that says what the test tells it to, byte by byte. Writes its own messages: what the speaker's codec would never
//! send is what these tests need.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use roadbed_hostnet::sockopt::{Family, set_md5};
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;

use crate::fixture::SOON;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

const HEADER: usize = 19;

/// A message with its header.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(HEADER + body.len()).unwrap();
    let mut bytes = vec![0xff; 16];
    bytes.extend(len.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// The OPEN of an AS: version 4, Hold Time 9, both unicast families, four-octet AS numbers.
pub(crate) fn open(asn: u16, id: [u8; 4]) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for afi in [1, 2] {
        capabilities.extend([1, 4, 0, afi, 0, 1]);
    }
    capabilities.extend([65, 4, 0, 0]);
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend([0, 9]);
    body.extend(id);
    let len = u8::try_from(capabilities.len()).unwrap();
    body.extend([len + 2, 2, len]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// An UPDATE that announces `nlri` with these path attributes.
pub(crate) fn update(attributes: &[Vec<u8>], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// One path attribute of less than 256 octets.
pub(crate) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, kind, u8::try_from(value.len()).unwrap()];
    bytes.extend(value);
    bytes
}

/// ORIGIN IGP, AS_PATH 65002, and this NEXT_HOP.
pub(crate) fn mandatory(next_hop: [u8; 4]) -> Vec<Vec<u8>> {
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea]),
        attribute(0x40, 3, &next_hop),
    ]
}

/// One connection of a scripted peer.
pub(crate) struct Script {
    stream: TcpStream,
    /// Received, not yet a whole message.
    buffer: Vec<u8>,
}

impl Script {
    /// Connects from an address of `ns`, as soon as somebody listens.
    pub(crate) fn connect(ns: &Ns, from: &str, to: &str) -> Self {
        let stream = eventually(SOON, "port 179 takes connections", || {
            connect(ns, from, to, 179)
        });
        Self::on(stream)
    }

    /// Speaks on a connection that there is.
    pub(crate) fn on(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Connects and speaks until the session is Established: as AS 65002, under the Identifier 10.99.0.2.
    pub(crate) fn establish(ns: &Ns, from: &str, to: &str) -> Self {
        let mut script = Self::connect(ns, from, to);
        script.greet(&open(65002, [10, 99, 0, 2]));
        script
    }

    /// Speaks until the session is Established, with this OPEN.
    #[track_caller]
    pub(crate) fn greet(&mut self, open: &[u8]) {
        self.send(open);
        self.expect(OPEN);
        self.send(&message(KEEPALIVE, &[]));
        self.expect(KEEPALIVE);
    }

    /// Signs and asks for signatures with this TCP-MD5 key from now on; empty: no more.
    pub(crate) fn sign(&self, key: &str) {
        let remote = self.stream.peer_addr().unwrap().ip();
        set_md5(&self.stream, Family::V4, remote.into(), key.as_bytes()).unwrap();
    }

    /// Sends bytes; a peer that has closed already is not the test's concern here.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Says that no more will come.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).ok();
    }

    /// The body of the next message of this kind; others before it are passed over, a NOTIFICATION never.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8) -> Vec<u8> {
        let deadline = Instant::now() + SOON;
        loop {
            match self.next(deadline) {
                Some((found, body)) if found == kind => return body,
                Some((NOTIFICATION, body)) => panic!("waiting for {kind}: NOTIFICATION {body:?}"),
                Some(_) => {}
                None => panic!("no message of type {kind} before the end"),
            }
        }
    }

    /// The type of the next message; none at the end of the connection.
    pub(crate) fn next_kind(&mut self) -> Option<u8> {
        self.next(Instant::now() + SOON).map(|(kind, _)| kind)
    }

    /// The last words before the peer closes: a NOTIFICATION's body, or none.
    pub(crate) fn last_words(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + SOON;
        let mut words = None;
        while let Some((kind, body)) = self.next(deadline) {
            if kind == NOTIFICATION {
                words = Some(body);
            }
        }
        words
    }

    /// Keeps the session for `time`: keepalives out, and nothing in that ends it.
    #[track_caller]
    pub(crate) fn keep_alive(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.send(&message(KEEPALIVE, &[]));
            let pause = (Instant::now() + Duration::from_millis(500)).min(deadline);
            while let Some(message) = self.poll(pause) {
                let (kind, body) = message.expect("the peer has closed the session");
                assert_ne!(kind, NOTIFICATION, "{body:?}");
            }
        }
    }

    /// The next message; `None` at the end of the connection.
    #[track_caller]
    fn next(&mut self, deadline: Instant) -> Option<(u8, Vec<u8>)> {
        self.poll(deadline)
            .expect("neither a message nor an end in time")
    }

    /// `None` when nothing came before the deadline, `Some(None)` at the end.
    fn poll(&mut self, deadline: Instant) -> Option<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some(message) = self.take() {
                return Some(Some(message));
            }
            if Instant::now() >= deadline {
                return None;
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(None),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Some(None),
            }
        }
    }

    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let len = usize::from(u16::from_be_bytes([
            *self.buffer.get(16)?,
            *self.buffer.get(17)?,
        ]));
        if len < HEADER || self.buffer.len() < len {
            return None;
        }
        let message: Vec<u8> = self.buffer.drain(..len).collect();
        Some((message[18], message[HEADER..].to_vec()))
    }
}

/// A TCP connection from one address of `ns`.
pub(crate) fn connect(ns: &Ns, from: &str, to: &str, port: u16) -> std::io::Result<TcpStream> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    ns.within(|| {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
        };
        use std::os::fd::AsRawFd;
        let family = if from.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(from, 0)),
        )?;
        connect(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(to, port)),
        )?;
        Ok(TcpStream::from(socket))
    })
}
