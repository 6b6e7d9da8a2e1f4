//! One TCP connection: framing on the way in, coalescing on the way out. Knows nothing of BGP beyond frames.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bgp_core::fsm::ConnId;
use bgp_wire::{DecodeError, MAX_MESSAGE_LEN, MessageType};
use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::transport::{self, Transport};

/// Bytes read ahead of decoding; holds any message (RFC 8654) and many small ones.
const READ_BUFFER: usize = 64 << 10;
/// Bytes coalesced into one write.
pub(super) const WRITE_BUFFER: usize = 64 << 10;
/// How long a closing connection may take to get its NOTIFICATION out.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    stream: TcpStream,
    read: BytesMut,
    /// Longest message that the peer may send; 4096 until the OPENs agree on more.
    pub(super) max_receive: usize,
    /// The OPENs sent and received, headers included; empty until then.
    pub(super) opens: [Bytes; 2],
    /// Being written, from `written` on.
    write: Vec<u8>,
    written: usize,
    /// UPDATEs that `write` holds.
    updates_in_write: usize,
    /// And their octets.
    update_octets: usize,
    /// Goes out before any UPDATE that is not in `write` yet.
    urgent: Vec<u8>,
    /// The read buffer may hold whole messages.
    undecoded: bool,
    /// Why nothing more can be written.
    broken: Option<String>,
    /// Why nothing more can be read.
    end: Option<String>,
}

/// What one attempt to write gave.
pub(super) struct Flushed {
    pub(super) progress: bool,
    /// UPDATEs that are out in full.
    pub(super) updates: usize,
    /// And their octets.
    pub(super) update_octets: usize,
}

impl Conn {
    pub(super) fn new(id: ConnId, stream: TcpStream, transport: &Transport) -> io::Result<Self> {
        apply(transport, &stream)?;
        let (local, remote) = (
            canonical(stream.local_addr()?),
            canonical(stream.peer_addr()?),
        );
        stream.set_nodelay(true)?;
        Ok(Self {
            id,
            local,
            remote,
            stream,
            read: BytesMut::with_capacity(READ_BUFFER),
            max_receive: MAX_MESSAGE_LEN,
            opens: [Bytes::new(), Bytes::new()],
            write: Vec::new(),
            written: 0,
            updates_in_write: 0,
            update_octets: 0,
            urgent: Vec::new(),
            undecoded: false,
            broken: None,
            end: None,
        })
    }

    /// Other keys, another TTL.
    pub(super) fn apply(&self, transport: &Transport) -> io::Result<()> {
        apply(transport, &self.stream)
    }

    pub(super) async fn readable(&self) {
        // An error shows again in fill(), where it is handled.
        self.stream.readable().await.ok();
    }

    pub(super) async fn writable(&self) {
        self.stream.writable().await.ok();
    }

    /// Reads what is there, as far as the buffer goes.
    pub(super) fn fill(&mut self) {
        self.undecoded = true;
        let room = READ_BUFFER.saturating_sub(self.read.len());
        if room == 0 || self.end.is_some() {
            return;
        }
        self.read.reserve(room);
        self.end = match self.stream.try_read_buf(&mut self.read) {
            Ok(0) => Some("closed by the peer".into()),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.broken.clone(),
            Err(error) => Some(error.to_string()),
        };
    }

    /// Why the connection ended, as far as reading goes.
    pub(super) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether there is something to be done without new bytes: messages left in the buffer, the end of a connection
    /// that broke.
    pub(super) fn is_waiting(&self) -> bool {
        self.undecoded || self.broken.is_some() || self.end.is_some()
    }

    /// The next whole message, body copied out of the read buffer; `None`: more bytes are needed.
    pub(super) fn next_message(&mut self) -> Result<Option<(MessageType, BytesMut)>, DecodeError> {
        let Some(frame) = bgp_wire::frame(&self.read, self.max_receive)? else {
            self.undecoded = false;
            return Ok(None);
        };
        let (kind, len) = (frame.kind, frame.len);
        let mut message = self.read.split_to(len);
        if kind == MessageType::Open {
            self.opens[1] = Bytes::copy_from_slice(&message);
        }
        message.advance(bgp_wire::HEADER_LEN);
        Ok(Some((kind, message)))
    }

    /// Bytes that nobody has looked at, here or in the socket. The beginning of a message that never ends is none.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        self.undecoded
            || SockRef::from(&self.stream)
                .peek(&mut byte)
                .is_ok_and(|n| n > 0)
    }

    pub(super) fn urgent(&mut self) -> &mut Vec<u8> {
        &mut self.urgent
    }

    /// Whether another UPDATE fits into the write under preparation.
    pub(super) fn has_room(&self) -> bool {
        self.urgent.is_empty() && self.write.len() < WRITE_BUFFER
    }

    /// Appends an UPDATE, with our own address as its next hop where `next_hop` says so.
    pub(super) fn push_update(&mut self, bytes: &[u8], next_hop: Option<(usize, &[u8])>) {
        let start = self.write.len();
        self.write.extend_from_slice(bytes);
        if let Some((offset, octets)) = next_hop
            && let Some(place) = self
                .write
                .get_mut(start + offset..start + offset + octets.len())
        {
            place.copy_from_slice(octets);
        }
        self.updates_in_write += 1;
        self.update_octets += bytes.len();
    }

    pub(super) fn wants_write(&self) -> bool {
        self.broken.is_none() && (self.written < self.write.len() || !self.urgent.is_empty())
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed {
            progress: false,
            updates: 0,
            update_octets: 0,
        };
        while self.broken.is_none() {
            if self.written == self.write.len() {
                self.write.clear();
                self.written = 0;
                flushed.updates += std::mem::take(&mut self.updates_in_write);
                flushed.update_octets += std::mem::take(&mut self.update_octets);
                if self.urgent.is_empty() {
                    break;
                }
                std::mem::swap(&mut self.write, &mut self.urgent);
            }
            match self.stream.try_write(&self.write[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    flushed.progress |= n > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.broken = Some(error.to_string()),
            }
        }
        flushed
    }

    /// Ends the connection: what is begun and what is urgent still goes out, and the peer's bytes are drained until it
    /// closes too, lest the kernel answer them with a reset that overtakes the NOTIFICATION. `None` when there is nothing
    /// to wait for; else bounded by [`LINGER`].
    pub(super) fn close(mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.flush();
        if self.broken.is_some() || (self.end.is_some() && !self.wants_write()) {
            return None;
        }
        let goodbye = async move {
            self.stream.write_all(&self.write[self.written..]).await?;
            self.stream.write_all(&self.urgent).await?;
            self.stream.shutdown().await?;
            let mut sink = vec![0; 16 << 10];
            loop {
                self.stream.readable().await?;
                match self.stream.try_read(&mut sink) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err::<(), io::Error>(error),
                }
            }
        };
        Some(async move {
            // The peer is gone either way.
            tokio::time::timeout(LINGER, goodbye).await.ok();
        })
    }
}

/// Dials, from `source` when one is given.
pub(super) async fn connect(
    remote: SocketAddr,
    source: Option<IpAddr>,
    transport: Transport,
) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    transport.apply(&socket, transport::family(remote.ip()), remote.ip())?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(remote).await
}

fn apply(transport: &Transport, stream: &TcpStream) -> io::Result<()> {
    let family = transport::family(stream.local_addr()?.ip());
    transport.apply(stream, family, stream.peer_addr()?.ip())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
