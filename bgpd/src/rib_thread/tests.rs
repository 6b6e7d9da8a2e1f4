//! Sessions on loopback and the real RIB thread, when one of them does not keep up: a RIB that pauses, a peer that stops
//! reading. Hold Times are the shortest there are, so that whoever waits for the slow one loses its session.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bgp_core::fsm::PeerSettings;
use bgp_core::negotiation::local_open;
use bgp_core::policy::{Builtin, Chain};
use bgp_wire::{
    AttributeEditor, EncodeContext, Family, MAX_MESSAGE_LEN, MessageType, Nlri, Origin,
    encode_keepalive, encode_reach,
};
use bytes::{Buf, BytesMut};
use roadbed_api::agent::PeerReport;
use roadbed_fib::{Fib, FibOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::session::{Command, Context, Limits, Session};
use crate::speaker::PeerConfig;
use crate::transport::{Transport, Ttl};

const PATIENCE: Duration = Duration::from_secs(60);
const HOLD_S: u16 = 3;
const OUR_AS: u32 = 65001;

/// The RIB thread, and what sessions with it need.
struct Bench {
    context: Context,
    sessions: JoinSet<()>,
    ends: u8,
}

/// A session, and its peer's end of the connection.
struct End {
    commands: mpsc::Sender<Command>,
    _accepted: mpsc::Sender<TcpStream>,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Bench {
    async fn new() -> Self {
        let (rib, mut kernel) = start(RibConfig {
            local_as: OUR_AS,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            cluster_id: Ipv4Addr::new(10, 0, 0, 1),
            seed: 1,
            assume_next_hops: true,
        })
        .unwrap();
        let (fib, _events) = Fib::start(FibOptions::default()).await.unwrap();
        let mut sessions = JoinSet::new();
        let ready = rib.sender().downgrade();
        sessions.spawn(async move {
            while kernel.recv().await.is_some() {
                let Some(rib) = ready.upgrade() else { return };
                rib.send(RibMessage::KernelReady).await.ok();
            }
        });
        let context = Context {
            rib,
            fib,
            session_ids: Arc::new(AtomicU64::new(1)),
        };
        Self {
            context,
            sessions,
            ends: 1,
        }
    }

    /// A session that dials a scripted peer of the next AS, whose greeting is sent.
    async fn peer(&mut self, receive_buffer: Option<u32>) -> End {
        self.ends += 1;
        let (id, asn) = (self.ends, OUR_AS + u32::from(self.ends));
        let settings = |local: u32, remote: u32, id: u8| PeerSettings {
            hold_time: HOLD_S,
            send_hold_time: Some(Duration::from_secs(5)),
            ..PeerSettings::new(
                local,
                remote,
                Ipv4Addr::new(10, 0, 0, id),
                vec![Family::Ipv4Unicast],
            )
        };
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size).unwrap();
        }
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let config = PeerConfig {
            name: format!("p{id}").into(),
            address: address.ip(),
            port: address.port(),
            source_address: None,
            settings: settings(OUR_AS, asn, 1),
            import: Chain::new(&[Builtin::AcceptAll]),
            export: Chain::new(&[Builtin::AcceptAll]),
            transport: Transport {
                password: None,
                ttl: Ttl::Send(1),
            },
            limits: Limits::default(),
            relation: Default::default(),
            enforce_first_as: true,
            shutdown: None,
        };
        let (commands, command_queue) = mpsc::channel(4);
        let (_accepted, accept_queue) = mpsc::channel(4);
        let session = Session::new(config, self.context.clone());
        self.sessions
            .spawn(session.run(command_queue, accept_queue));
        let (stream, _) = listener.accept().await.unwrap();
        let mut hello = Vec::new();
        local_open(&settings(asn, OUR_AS, id)).encode(&mut hello);
        encode_keepalive(&mut hello);
        let (read, mut write) = stream.into_split();
        write.write_all(&hello).await.unwrap();
        End {
            commands,
            _accepted,
            read,
            write,
        }
    }

    /// Prefixes in the Adj-RIB-In of a session.
    async fn received(&self, end: &End) -> Option<u64> {
        let (reply, answer) = oneshot::channel();
        end.commands.send(Command::Report(reply)).await.unwrap();
        let session = answer.await.unwrap().1?;
        let counters = self
            .context
            .rib
            .ask(|r| RibMessage::Counters(vec![session], r));
        Some(counters.await.unwrap()[0][0]?.received)
    }
}

async fn report(commands: &mpsc::Sender<Command>) -> PeerReport {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Report(reply)).await.unwrap();
    answer.await.unwrap().0.report
}

/// Waits until `look` says yes.
async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says that it is there, as often as the Hold Time asks for, until the connection is gone.
async fn stay(mut write: OwnedWriteHalf) {
    let mut keepalive = Vec::new();
    encode_keepalive(&mut keepalive);
    while write.write_all(&keepalive).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Reads until the connection is gone, or silent for longer than the Hold Time: what was read of UPDATEs is told.
async fn listen(mut read: OwnedReadHalf, heard: mpsc::UnboundedSender<usize>) -> &'static str {
    let mut buffer = BytesMut::new();
    let mut last = Instant::now();
    loop {
        let hold = Duration::from_secs(HOLD_S.into()).saturating_sub(last.elapsed());
        match tokio::time::timeout(hold, read.read_buf(&mut buffer)).await {
            Err(_) => return "silent for the Hold Time",
            Ok(Ok(0) | Err(_)) => return "closed",
            Ok(Ok(_)) => last = Instant::now(),
        }
        while let Some(found) = bgp_wire::frame(&buffer, MAX_MESSAGE_LEN).unwrap() {
            match found.kind {
                MessageType::Notification => return "ended by a NOTIFICATION",
                MessageType::Update => drop(heard.send(found.len)),
                _ => {}
            }
            let len = found.len;
            buffer.advance(len);
        }
    }
}

/// An UPDATE for each of so many prefixes, with that many communities of its own.
fn announcements(asn: u32, count: u32, communities: u32) -> Vec<u8> {
    let context = EncodeContext {
        four_octet_as: true,
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: false,
    };
    let mut encoded = Vec::new();
    for n in 0..count {
        let prefix = ipnet::Ipv4Net::new(Ipv4Addr::from((0x0100_0000 + n) << 8), 24).unwrap();
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(&[asn]);
        let own: Vec<u32> = (0..communities).map(|i| n << 10 | i).collect();
        editor.set_communities(&own);
        let next_hop = NextHop::V4(Ipv4Addr::new(192, 0, 2, 2));
        encode_reach(
            Family::Ipv4Unicast,
            &editor.build(),
            &next_hop,
            &[Nlri::new(prefix.into())],
            &context,
            &mut encoded,
        )
        .unwrap();
    }
    encoded.into_iter().flat_map(|e| e.bytes).collect()
}

/// The RIB does nothing for more than three Hold Times, while one peer sends more than all queues take (so that even its
/// KEEPALIVEs are stuck), another one is silent, and a third one comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rib_that_pauses_for_ten_seconds_drops_no_session() {
    const PAUSE: Duration = Duration::from_secs(10);
    const PREFIXES: u32 = 200_000;
    // Before anybody waits for it.
    let flood = announcements(OUR_AS + 2, PREFIXES, 0);
    let mut bench = Bench::new().await;
    let (mut talker, quiet) = (bench.peer(None).await, bench.peer(None).await);
    for end in [&talker, &quiet] {
        eventually("the first two come up", async || {
            bench.received(end).await == Some(0)
        })
        .await;
    }
    let begun = Instant::now();
    bench
        .context
        .rib
        .sender()
        .send(RibMessage::Pause(PAUSE))
        .await
        .unwrap();
    let newcomer = bench.peer(None).await;
    let (heard, _words) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    let told = tokio::spawn(async move {
        talker.write.write_all(&flood).await.unwrap();
        let told = Instant::now();
        tokio::spawn(stay(talker.write));
        told
    });
    listeners.spawn(listen(talker.read, heard.clone()));
    let mut commands = vec![talker.commands];
    for end in [quiet, newcomer] {
        tokio::spawn(stay(end.write));
        listeners.spawn(listen(end.read, heard.clone()));
        commands.push(end.commands);
    }
    let told = told.await.unwrap();
    assert!(
        told - begun > PAUSE,
        "not held back: the flood is too small, or the session was lost"
    );
    let session = async || {
        let (reply, answer) = oneshot::channel();
        commands[0].send(Command::Report(reply)).await.unwrap();
        answer.await.unwrap().1
    };
    eventually("the RIB has all that was said meanwhile", async || {
        let Some(session) = session().await else {
            return false;
        };
        let counters = bench
            .context
            .rib
            .ask(|r| RibMessage::Counters(vec![session], r));
        let received = counters.await.unwrap()[0][0].map(|c| c.received);
        received == Some(PREFIXES.into())
    })
    .await;
    for (i, commands) in commands.iter().enumerate() {
        let report = report(commands).await;
        assert_eq!(report.state, "Established", "peer {i}");
        assert_eq!(
            (report.established_count, report.last_error),
            (1, None),
            "peer {i}"
        );
    }
    if let Some(ended) = listeners.try_join_next() {
        panic!("a peer found its session {}", ended.unwrap());
    }
}

/// RFC 9687. The session of the peer that reads nothing ends when the SendHoldTimer says so, although its KEEPALIVEs
/// come; another one's does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_is_dropped_after_the_send_hold_time() {
    const UPDATES: u32 = 6_000;
    // 3 KiB each: more than sockets and the ring of the update group take.
    let flood = announcements(OUR_AS + 4, UPDATES, 750);
    let mut bench = Bench::new().await;
    let stuck = bench.peer(Some(4096)).await;
    let sink = bench.peer(None).await;
    let mut source = bench.peer(None).await;
    let stuck_commands = stuck.commands.clone();
    tokio::spawn(stay(stuck.write));
    let (heard, mut words) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    for read in [sink.read, source.read] {
        listeners.spawn(listen(read, heard.clone()));
    }
    tokio::spawn(stay(sink.write));
    for commands in [&stuck.commands, &sink.commands, &source.commands] {
        eventually("the session comes up", async || {
            report(commands).await.state == "Established"
        })
        .await;
    }
    let begun = Instant::now();
    source.write.write_all(&flood).await.unwrap();
    tokio::spawn(stay(source.write));
    let mut updates = 0;
    while updates < UPDATES {
        let one = tokio::time::timeout(PATIENCE, words.recv());
        // End-of-RIB and what else is short do not count.
        let len = one.await.expect("the sink hears all").unwrap();
        updates += u32::from(len > 3_000);
    }
    eventually(
        "the session of the peer that reads nothing ends",
        async || report(&stuck_commands).await.last_error.is_some(),
    )
    .await;
    let report_of_stuck = report(&stuck_commands).await;
    let error = report_of_stuck.last_error.unwrap();
    assert!(error.contains("send hold timer expired"), "{error}");
    assert!(begun.elapsed() > Duration::from_secs(4), "too early");
    for commands in [&sink.commands, &source.commands] {
        assert_eq!(report(commands).await.established_count, 1);
        assert_eq!(report(commands).await.last_error, None);
    }
    if let Some(ended) = listeners.try_join_next() {
        panic!("another peer found its session {}", ended.unwrap());
    }
    drop(stuck.read);
}
