//! A session against a scripted peer on loopback, and a RIB that takes its time.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_core::fsm::PeerSettings;
use bgp_core::max_prefix::{Action, MaxPrefix};
use bgp_core::negotiation::local_open;
use bgp_core::policy::{Builtin, Chain};
use bgp_core::rib::FamilyCounters;
use bgp_wire::{EncodeContext, MAX_MESSAGE_LEN, Nlri, encode_keepalive, encode_unreach};
use roadbed_fib::{Fib, FibOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::transport::{Transport, Ttl};

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    peer: TcpStream,
    rib: mpsc::Receiver<RibMessage>,
    commands: mpsc::Sender<Command>,
    _accepted: mpsc::Sender<TcpStream>,
}

/// A session that dialled the scripted peer, which has sent its OPEN and a KEEPALIVE. The RIB takes one message at a time.
async fn established() -> Bench {
    established_with(Limits::default()).await
}

/// The same, with bounds on prefixes.
async fn established_with(limits: Limits) -> Bench {
    let settings = |local: u32, remote: u32, id: u8| {
        PeerSettings::new(
            local,
            remote,
            Ipv4Addr::new(10, 0, 0, id),
            vec![Family::Ipv4Unicast],
        )
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = PeerConfig {
        name: "scripted".into(),
        address: address.ip(),
        port: address.port(),
        source_address: None,
        settings: settings(65001, 65002, 1),
        import: Chain::new(&[Builtin::AcceptAll]),
        export: Chain::new(&[Builtin::AcceptAll]),
        transport: Transport {
            password: None,
            ttl: Ttl::Send(1),
        },
        limits,
        enforce_first_as: true,
        shutdown: None,
        relation: Default::default(),
    };
    let (rib_queue, rib) = mpsc::channel(1);
    let (fib, _events) = Fib::start(FibOptions::default()).await.unwrap();
    let context = Context {
        rib: RibHandle::to(rib_queue),
        fib,
        session_ids: Arc::new(AtomicU64::new(1)),
    };
    let (commands, command_queue) = mpsc::channel(4);
    let (_accepted, accept_queue) = mpsc::channel(4);
    tokio::spawn(Session::new(config, context).run(command_queue, accept_queue));
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut hello = Vec::new();
    local_open(&settings(65002, 65001, 2)).encode(&mut hello);
    encode_keepalive(&mut hello);
    peer.write_all(&hello).await.unwrap();
    Bench {
        peer,
        rib,
        commands,
        _accepted,
    }
}

/// One UPDATE for each prefix.
fn withdraws(count: u32) -> Vec<u8> {
    let context = EncodeContext {
        four_octet_as: true,
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: false,
    };
    let mut encoded = Vec::new();
    for n in 0..count {
        let prefix = format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap();
        let nlri = [Nlri::new(prefix)];
        encode_unreach(Family::Ipv4Unicast, &nlri, &context, &mut encoded);
    }
    encoded.into_iter().flat_map(|e| e.bytes).collect()
}

/// What the RIB is told until the session ends or `enough` prefixes came: prefixes, and whether it ended.
async fn take(bench: &mut Bench, enough: usize) -> (usize, bool) {
    let mut prefixes = 0;
    while prefixes < enough {
        let message = tokio::time::timeout(PATIENCE, bench.rib.recv());
        match message.await.unwrap().unwrap() {
            RibMessage::Event(Event::Update(_, families)) => {
                prefixes += families.iter().map(|f| f.withdrawn.len()).sum::<usize>();
            }
            RibMessage::Event(Event::PeerDown(..)) => return (prefixes, true),
            _ => {}
        }
    }
    (prefixes, false)
}

#[tokio::test]
async fn what_waited_for_the_rib_is_decoded_without_new_bytes() {
    let mut bench = established().await;
    bench.peer.write_all(&withdraws(2000)).await.unwrap();
    // Until the session has read all that it can hold.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(take(&mut bench, 2000).await, (2000, false));
}

#[tokio::test]
async fn what_was_said_before_the_end_counts() {
    let mut bench = established().await;
    let mut last_words = withdraws(2000);
    Notification::cease(cease::ADMINISTRATIVE_RESET).encode(&mut last_words);
    bench.peer.write_all(&last_words).await.unwrap();
    bench.peer.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(take(&mut bench, usize::MAX).await, (2000, true));
    let (reply, answer) = oneshot::channel();
    bench.commands.send(Command::Report(reply)).await.unwrap();
    let (report, _) = answer.await.unwrap();
    let error = report.report.last_error.unwrap();
    assert!(error.contains("the peer sent Cease"), "{error}");
}

#[tokio::test]
async fn a_listener_that_goes_away_leaves_the_session_in_peace() {
    let mut bench = established().await;
    bench._accepted = mpsc::channel(1).0;
    bench.peer.write_all(&withdraws(10)).await.unwrap();
    assert_eq!(take(&mut bench, 10).await, (10, false));
}

/// Answers the next question about counts.
async fn count(bench: &mut Bench, received: u64) {
    loop {
        let message = tokio::time::timeout(PATIENCE, bench.rib.recv());
        if let RibMessage::Counters(sessions, reply) = message.await.unwrap().unwrap() {
            assert_eq!(sessions.len(), 1);
            let counters = FamilyCounters {
                received,
                ..FamilyCounters::default()
            };
            reply.send(vec![[Some(counters), None]]).unwrap();
            return;
        }
    }
}

async fn report(bench: &Bench) -> PeerReport {
    let (reply, answer) = oneshot::channel();
    bench.commands.send(Command::Report(reply)).await.unwrap();
    answer.await.unwrap().0.report
}

/// ORIGIN 3, and a route: treated as a withdraw, counted by its name.
#[tokio::test]
async fn a_fault_is_counted_by_the_name_of_its_attribute() {
    let mut bench = established().await;
    let attributes = [0x40, 1, 1, 3, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1];
    let mut message = vec![0xff; 16];
    let length = 19 + 4 + attributes.len() + 4;
    message.extend([0, length as u8, 2, 0, 0, 0, attributes.len() as u8]);
    message.extend(attributes);
    message.extend([24, 10, 1, 0]);
    for _ in 0..2 {
        bench.peer.write_all(&message).await.unwrap();
    }
    assert_eq!(take(&mut bench, 2).await, (2, false));
    let faults = report(&bench).await.update_faults;
    let found: Vec<(&str, u64)> = faults.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    assert!(
        matches!(found[..], [(label, 2)] if label.starts_with("treat-as-withdraw: attribute 1 (ORIGIN): ")),
        "{found:?}"
    );
}

fn at_most(limit: usize, action: Action) -> Limits {
    let limit = MaxPrefix {
        limit,
        warn_percent: 80,
        action,
    };
    [[Some(limit), None], [None, None]]
}

#[tokio::test]
async fn a_count_close_to_its_limit_is_reported_until_it_falls() {
    let mut bench = established_with(at_most(10, Action::Warn)).await;
    for (received, expected) in [
        (7, None),
        (
            8,
            Some("ipv4-unicast: 8 prefixes received, the limit is 10"),
        ),
        (
            11,
            Some("ipv4-unicast: 11 prefixes received, the limit is 10"),
        ),
        (7, None),
    ] {
        bench.peer.write_all(&withdraws(1)).await.unwrap();
        count(&mut bench, received).await;
        // The answer is taken before the next command, or soon after.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let warnings = report(&bench).await.warnings;
            if warnings.iter().map(String::as_str).eq(expected) {
                break;
            }
            assert!(Instant::now() < deadline, "{received}: {warnings:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_count_above_its_limit_ends_the_session_once() {
    let restart_after = Some(Duration::from_secs(60));
    let mut bench = established_with(at_most(10, Action::Idle { restart_after })).await;
    bench.peer.write_all(&withdraws(1)).await.unwrap();
    count(&mut bench, 11).await;
    assert_eq!(take(&mut bench, usize::MAX).await, (0, true));
    let report = report(&bench).await;
    assert_eq!((report.state.as_str(), report.warnings.len()), ("Idle", 0));
    let error = report.last_error.unwrap();
    assert!(error.contains("Maximum Number of Prefixes"), "{error}");
}

/// Without limits nobody asks.
#[tokio::test]
async fn without_limits_the_rib_is_not_asked() {
    let mut bench = established().await;
    bench.peer.write_all(&withdraws(3)).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(400);
    while let Ok(Some(message)) = tokio::time::timeout_at(deadline, bench.rib.recv()).await {
        assert!(!matches!(message, RibMessage::Counters(..)));
    }
}
