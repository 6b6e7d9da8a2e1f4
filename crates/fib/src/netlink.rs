//! The request socket: batches, dumps and lookups over `netlink_proto`. No routing knowledge.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_proto::{ConnectionHandle, NetlinkCodec, from_socket_with_codec};
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::task::JoinHandle;

use crate::codec::{self, KernelRoute};
use crate::groups::{NextHopObject, NextHopOp};
use crate::message::{Message, NextHopMessage};
use crate::plan::Op;

/// Requests in one `sendto`: 64–200 measured alike, and the answers of 200 fit the default receive buffer.
const BATCH_MESSAGES: usize = 200;
/// Bytes in one `sendto`, well under the default send buffer.
const BATCH_BYTES: usize = 32 * 1024;
/// Receive buffer asked for; the kernel caps it at `net.core.rmem_max`.
pub(crate) const RECEIVE_BUFFER: i32 = 4 * 1024 * 1024;
/// The kernel answers at once; a silence this long means that answers were lost to a full buffer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an interrupted dump is taken again before its last reading is used.
const DUMP_ATTEMPTS: usize = 4;

pub(crate) const ENOENT: i32 = 2;
pub(crate) const ESRCH: i32 = 3;
pub(crate) const EEXIST: i32 = 17;
const EOPNOTSUPP: i32 = 95;

/// Why the kernel refused a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) reason: String,
}

/// Answer to one request of a batch; `None` when it was lost.
pub(crate) type Answer = Option<Result<(), Refusal>>;

/// A request socket with its connection task, which ends with it.
#[derive(Debug)]
pub(crate) struct Netlink {
    handle: ConnectionHandle<Message>,
    /// Port of the socket: notifications of our own writes carry it.
    pub(crate) port: u32,
    task: JoinHandle<()>,
    table: u32,
    protocol: u8,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open(table: u32, protocol: u8) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let port = socket.socket_mut().bind_auto()?.port_number();
        let raw = socket.socket_ref();
        raw.set_rx_buf_sz(RECEIVE_BUFFER)?;
        raw.set_cap_ack(true)?;
        raw.set_ext_ack(true)?;
        raw.set_netlink_get_strict_chk(true)?;
        let (mut connection, handle, _) = from_socket_with_codec::<_, _, NetlinkCodec>(socket);
        connection.set_forward_ack(true);
        Ok(Netlink {
            handle,
            port,
            task: tokio::spawn(connection),
            table,
            protocol,
        })
    }

    /// Whether the socket failed for good, so that a new one is needed.
    pub(crate) fn is_dead(&self) -> bool {
        self.task.is_finished()
    }

    /// Carries out operations in order; one answer each, in the same order.
    pub(crate) async fn write(&self, ops: &[Op]) -> Vec<Answer> {
        self.send_all(ops.iter().map(|op| self.encode(op))).await
    }

    /// As [`Netlink::write`], for next-hop objects.
    pub(crate) async fn write_next_hops(&self, ops: &[NextHopOp]) -> Vec<Answer> {
        let encode = |op: &NextHopOp| {
            let flags = match op {
                NextHopOp::AddMember { .. } | NextHopOp::AddGroup { .. } => {
                    NLM_F_CREATE | NLM_F_EXCL
                }
                NextHopOp::ReplaceGroup { .. } => NLM_F_REPLACE,
                NextHopOp::Delete { .. } => 0,
            };
            let body = NextHopMessage::request(op, self.protocol);
            request(Message::NextHop(body), flags)
        };
        self.send_all(ops.iter().map(encode)).await
    }

    async fn send_all(
        &self,
        messages: impl ExactSizeIterator<Item = NetlinkMessage<Message>>,
    ) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut batch = Vec::new();
        let mut bytes = 0;
        for message in messages {
            let size = message.buffer_len();
            if !batch.is_empty() && (batch.len() >= BATCH_MESSAGES || bytes + size > BATCH_BYTES) {
                answers.extend(self.exchange(std::mem::take(&mut batch)).await);
                bytes = 0;
            }
            bytes += size;
            batch.push(message);
        }
        if !batch.is_empty() {
            answers.extend(self.exchange(batch).await);
        }
        answers
    }

    fn encode(&self, op: &Op) -> NetlinkMessage<Message> {
        let (body, flags) = match op {
            Op::Add(route) => {
                let route = codec::new_route(route, self.table, self.protocol);
                (
                    RouteNetlinkMessage::NewRoute(route),
                    NLM_F_CREATE | NLM_F_EXCL,
                )
            }
            Op::Replace(route) => {
                let route = codec::new_route(route, self.table, self.protocol);
                (
                    RouteNetlinkMessage::NewRoute(route),
                    NLM_F_CREATE | NLM_F_REPLACE,
                )
            }
            Op::Delete(key) => (
                RouteNetlinkMessage::DelRoute(codec::del_route(key, self.table, self.protocol)),
                0,
            ),
        };
        request(Message::Route(body), flags)
    }

    async fn exchange(&self, batch: Vec<NetlinkMessage<Message>>) -> Vec<Answer> {
        let expected = batch.len();
        let mut lost = vec![None; expected];
        let Ok(mut stream) = self.handle.request_batch(batch, SocketAddr::new(0, 0)) else {
            return lost;
        };
        let mut answers = Vec::with_capacity(expected);
        while let Ok(Some(message)) = tokio::time::timeout(ANSWER_TIMEOUT, stream.next()).await {
            if let NetlinkPayload::Error(_) = message.payload {
                answers.push((message.header.sequence_number, outcome(&message)));
            }
        }
        if answers.len() != expected {
            tracing::warn!(
                expected,
                answered = answers.len(),
                "the kernel's answers to a batch of routes were lost"
            );
            return lost;
        }
        // The kernel answers in order, and the connection numbers a batch in order: sorted, answers match requests.
        answers.sort_by_key(|(sequence, _)| *sequence);
        for (slot, (_, answer)) in lost.iter_mut().zip(answers) {
            *slot = Some(answer);
        }
        lost
    }

    /// Routes of the table in both families; `protocol` 0 means of all protocols. Filtered in the kernel.
    pub(crate) async fn dump_routes(&self, protocol: u8) -> io::Result<Vec<KernelRoute>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let body = codec::dump_routes(family, self.table, protocol);
            let found = self
                .dump(
                    Message::Route(RouteNetlinkMessage::GetRoute(body)),
                    |message| match message {
                        Message::Route(RouteNetlinkMessage::NewRoute(route)) => {
                            codec::read_route(&route)
                        }
                        _ => None,
                    },
                )
                .await?;
            // A kernel without strict checks ignores the filter; what is not asked for must not be adopted.
            routes.extend(found.into_iter().filter(|route: &KernelRoute| {
                route.table == self.table
                    && !route.cloned
                    && (protocol == 0 || route.protocol == protocol)
            }));
        }
        Ok(routes)
    }

    /// All next-hop objects, of whomever. None where the kernel has no such objects.
    pub(crate) async fn dump_next_hops(&self) -> io::Result<Vec<NextHopObject>> {
        let body = Message::NextHop(NextHopMessage::dump());
        let found = self.dump(body, |message| match message {
            Message::NextHop(message) => message.read(),
            Message::Route(_) => None,
        });
        match found.await {
            Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// All links.
    pub(crate) async fn dump_links(&self) -> io::Result<Vec<LinkMessage>> {
        self.dump(
            Message::Route(RouteNetlinkMessage::GetLink(LinkMessage::default())),
            |message| match message {
                Message::Route(RouteNetlinkMessage::NewLink(link)) => Some(link),
                _ => None,
            },
        )
        .await
    }

    /// All addresses of both families.
    pub(crate) async fn dump_addresses(&self) -> io::Result<Vec<AddressMessage>> {
        self.dump(
            Message::Route(RouteNetlinkMessage::GetAddress(AddressMessage::default())),
            |message| match message {
                Message::Route(RouteNetlinkMessage::NewAddress(address)) => Some(address),
                _ => None,
            },
        )
        .await
    }

    /// The table entry that packets to `addr` follow.
    pub(crate) async fn lookup(&self, addr: IpAddr) -> io::Result<Option<KernelRoute>> {
        let found = self
            .request(
                Message::Route(RouteNetlinkMessage::GetRoute(codec::lookup(addr))),
                0,
                |message| match message {
                    Message::Route(RouteNetlinkMessage::NewRoute(route)) => {
                        codec::read_route(&route)
                    }
                    _ => None,
                },
            )
            .await?;
        Ok(found.0.into_iter().next())
    }

    async fn dump<T>(
        &self,
        body: Message,
        read: impl Fn(Message) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut last = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            let (found, interrupted) = match self.request(body.clone(), NLM_F_DUMP, &read).await {
                // The kernel creates the IPv4 main table with its first route: no table is an empty table.
                Err(error) if error.raw_os_error() == Some(ENOENT) => return Ok(Vec::new()),
                answer => answer?,
            };
            last = found;
            if !interrupted {
                break;
            }
        }
        Ok(last)
    }

    async fn request<T>(
        &self,
        body: Message,
        flags: u16,
        read: impl Fn(Message) -> Option<T>,
    ) -> io::Result<(Vec<T>, bool)> {
        let mut message = NetlinkMessage::from(body);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut stream = self
            .handle
            .request(message, SocketAddr::new(0, 0))
            .map_err(io::Error::other)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let next = tokio::time::timeout(ANSWER_TIMEOUT, stream.next()).await;
            let Some(message) = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? else {
                // The connection closes the stream after the last answer, and also when it dies.
                return match self.is_dead() {
                    true => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
                    false => Ok((found, interrupted)),
                };
            };
            interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => found.extend(read(inner)),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
    }
}

/// A request that is answered.
fn request(body: Message, flags: u16) -> NetlinkMessage<Message> {
    let mut message = NetlinkMessage::from(body);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    // Fills in the message type and the length, by which batches are measured.
    message.finalize();
    message
}

fn outcome(message: &NetlinkMessage<Message>) -> Result<(), Refusal> {
    let NetlinkPayload::Error(error) = &message.payload else {
        return Ok(());
    };
    if error.code.is_none() {
        return Ok(());
    }
    let text = match message.header.flags & NLM_F_ACK_TLVS {
        0 => None,
        _ => codec::extack_text(&error.header),
    };
    let reason = match text {
        Some(text) => format!("{text} ({})", error.to_io()),
        None => error.to_io().to_string(),
    };
    Err(Refusal {
        errno: error.raw_code().abs(),
        reason,
    })
}
