//! A station against a collector on loopback, and a RIB thread that is fed by hand.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use bgp_core::fsm::DownReason;
use bgp_core::policy::{Builtin, Chain};
use bgp_core::rib::{
    Event, FamilyUpdate, MonitorPage, MonitoredPath, PeerDown, PeerUp, ReaderId, Relation, Rib,
    RibConfig, SessionId, TableId,
};
use bgp_wire::{
    AttributeEditor, Capability, DecodeContext, EncodeContext, Family, HEADER_LEN, MAX_MESSAGE_LEN,
    NextHop, Nlri, Notification, Open, Origin, cease, decode_update,
};
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::messages::{Outbox, Telling};
use super::*;
use crate::rib_thread::{self, KernelBatch, RibMessage};

const PATIENCE: Duration = Duration::from_secs(20);

/// Octets of the common and the per-peer header.
const HEADERS: usize = 6 + 42;

fn rib_config() -> RibConfig {
    RibConfig {
        local_as: 65001,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        cluster_id: Ipv4Addr::new(10, 0, 0, 1),
        seed: 1,
        assume_next_hops: true,
    }
}

struct Bench {
    rib: RibHandle,
    _kernel: mpsc::Receiver<KernelBatch>,
    listener: TcpListener,
}

impl Bench {
    async fn new() -> Self {
        let (rib, kernel) = rib_thread::start(rib_config()).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Little room for what a collector does not read.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            rib,
            _kernel: kernel,
            listener: socket.listen(8).unwrap(),
        }
    }

    fn station(&self) -> StationConfig {
        StationConfig {
            collector: self.listener.local_addr().unwrap(),
            source_address: None,
            connect_retry: Duration::from_millis(50),
            route_monitoring: RouteMonitoring::Both,
            statistics: Duration::ZERO,
        }
    }

    fn stations(&self, config: StationConfig) -> Stations {
        let mut stations = Stations::new(self.rib.clone());
        stations.configure(BTreeMap::from([("noc".to_owned(), config)]));
        stations
    }

    async fn accept(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.unwrap().unwrap().0
    }

    async fn tell(&self, message: RibMessage) {
        self.rib.sender().send(message).await.unwrap();
    }

    async fn up(&self, session: u64, import: Builtin) {
        let up = PeerUp {
            session: SessionId(session),
            name: format!("p{session}").into(),
            table: TableId::default(),
            remote_as: 65002,
            local_as: 65001,
            bgp_id: Ipv4Addr::new(10, 0, 0, 2),
            address: Ipv4Addr::new(192, 0, 2, 2).into(),
            families: [true, false],
            next_hop_self: [None; 2],
            encode: EncodeContext {
                four_octet_as: true,
                add_path: [false; 2],
                max_len: MAX_MESSAGE_LEN,
                extended_next_hop: false,
            },
            import: Chain::new(&[import]),
            export: Chain::new(&[Builtin::AcceptAll]),
            relation: Relation::default(),
        };
        let (to, _) = mpsc::unbounded_channel();
        self.tell(RibMessage::Up(Box::new(up), to, monitored(session)))
            .await;
    }

    async fn down(&self, session: u64, ending: Ending) {
        let session = SessionId(session);
        self.tell(RibMessage::Ended(session, ending)).await;
        self.tell(RibMessage::Event(Event::PeerDown(session, PeerDown::Purge)))
            .await;
    }

    async fn announce(&self, session: u64, prefixes: &[&str], med: u32) {
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(&[65002]).set_med(Some(med));
        let next_hop = NextHop::V4(Ipv4Addr::new(192, 0, 2, 2));
        self.update(session, &[], prefixes, Some((editor.build(), next_hop)))
            .await;
    }

    async fn withdraw(&self, session: u64, prefixes: &[&str]) {
        self.update(session, prefixes, &[], None).await;
    }

    async fn update(
        &self,
        session: u64,
        withdrawn: &[&str],
        announced: &[&str],
        attributes: Option<(bgp_wire::PathAttributes, NextHop)>,
    ) {
        let nlri = |texts: &[&str]| -> Vec<Nlri> {
            let parse = |text: &&str| Nlri::new(text.parse().unwrap());
            texts.iter().map(parse).collect()
        };
        let update = FamilyUpdate {
            family: Family::Ipv4Unicast,
            withdrawn: nlri(withdrawn),
            announced: nlri(announced),
            attributes,
        };
        let event = Event::Update(SessionId(session), vec![update]);
        self.tell(RibMessage::Event(event)).await;
    }
}

fn open(asn: u32) -> Bytes {
    let mut bytes = Vec::new();
    Open {
        my_as: asn,
        my_as_2octet: Open::two_octet(asn),
        hold_time: 90,
        bgp_id: Ipv4Addr::new(10, 0, 0, 9),
        capabilities: vec![Capability::Unknown {
            code: 200,
            value: vec![0; 200],
        }],
    }
    .encode(&mut bytes);
    bytes.into()
}

fn monitored(session: u64) -> Arc<Monitored> {
    Arc::new(Monitored {
        session: SessionId(session),
        peer: format!("p{session}").into(),
        peer_as: 65002,
        bgp_id: Ipv4Addr::new(10, 0, 0, 2),
        local: "192.0.2.1:179".parse().unwrap(),
        remote: "192.0.2.2:40000".parse().unwrap(),
        sent_open: open(65001),
        received_open: open(65002),
        families: [true, false],
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        since: SystemTime::now(),
        treated: Treated::default(),
    })
}

/// The next message in words.
async fn next(stream: &mut TcpStream) -> String {
    tokio::time::timeout(PATIENCE, read(stream))
        .await
        .expect("the station says something")
}

async fn read(stream: &mut TcpStream) -> String {
    let mut head = [0; 6];
    if stream.read_exact(&mut head).await.is_err() {
        return "closed".into();
    }
    assert_eq!(head[0], 3, "version");
    let len = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
    let mut message = head.to_vec();
    message.resize(len, 0);
    stream.read_exact(&mut message[6..]).await.unwrap();
    match head[5] {
        0 => routes(&message),
        1 => format!("numbers {}", message[HEADERS + 3]),
        2 => format!("down {}", message[HEADERS]),
        3 => format!("up {}", message[HEADERS + 16 + 1]),
        4 => "initiation".into(),
        5 => format!("termination {}", message[11]),
        other => panic!("type {other}"),
    }
}

fn routes(message: &[u8]) -> String {
    let view = match message[7] {
        0 => "pre",
        0x40 => "post",
        other => panic!("flags {other}"),
    };
    let context = DecodeContext {
        four_octet_as: true,
        ebgp: true,
        add_path: [false; 2],
        families: [true; 2],
        extended_next_hop: false,
    };
    let update = decode_update(&message[HEADERS + HEADER_LEN..], &context);
    assert_eq!(update.faults.len(), 0);
    if update.end_of_rib().is_some() {
        return format!("{view} end");
    }
    let list = |nlri: bgp_wire::NlriSlice<'_>| {
        let mut prefixes: Vec<String> = nlri.iter().map(|n| n.prefix.to_string()).collect();
        prefixes.sort();
        prefixes.join(" ")
    };
    match &update.attributes {
        Some(attributes) => {
            let med = attributes.hot().med.unwrap();
            format!("{view} +{} med {med}", list(update.announced))
        }
        None => format!("{view} -{}", list(update.withdrawn)),
    }
}

async fn expect(stream: &mut TcpStream, expected: &[&str]) {
    for expected in expected {
        assert_eq!(next(stream).await, *expected);
    }
}

#[tokio::test]
async fn a_collector_hears_what_is_there_and_then_what_changes() {
    let bench = Bench::new().await;
    bench.up(1, Builtin::AcceptAll).await;
    bench.up(2, Builtin::RejectAll).await;
    bench.announce(1, &["10.0.0.0/24", "10.0.1.0/24"], 5).await;
    bench.announce(2, &["10.0.0.0/24"], 6).await;
    let mut stations = bench.stations(bench.station());
    let mut collector = bench.accept().await;
    expect(
        &mut collector,
        &[
            "initiation",
            "up 179",
            "up 179",
            "pre +10.0.0.0/24 10.0.1.0/24 med 5",
            "post +10.0.0.0/24 10.0.1.0/24 med 5",
            "pre +10.0.0.0/24 med 6",
            "pre end",
            "post end",
            "pre end",
            "post end",
        ],
    )
    .await;
    bench.withdraw(1, &["10.0.1.0/24"]).await;
    expect(&mut collector, &["pre -10.0.1.0/24", "post -10.0.1.0/24"]).await;
    // What the policy keeps out is withdrawn on its other side.
    bench.announce(2, &["10.0.2.0/24"], 7).await;
    expect(
        &mut collector,
        &["pre +10.0.2.0/24 med 7", "post -10.0.2.0/24"],
    )
    .await;
    bench.up(3, Builtin::AcceptAll).await;
    bench.announce(3, &["10.0.3.0/24"], 8).await;
    let end = Event::EndOfRib(SessionId(3), Family::Ipv4Unicast);
    bench.tell(RibMessage::Event(end)).await;
    expect(
        &mut collector,
        &[
            "up 179",
            "pre +10.0.3.0/24 med 8",
            "post +10.0.3.0/24 med 8",
            "pre end",
            "post end",
        ],
    )
    .await;
    bench.down(3, Ending::RemoteClose).await;
    expect(&mut collector, &["down 4"]).await;
    assert_eq!(stations.reports()[0].state, "synced");
    // What sessions say last is told before the end.
    bench.down(1, Ending::LocalEvent(10)).await;
    stations.stop("bye").await;
    expect(&mut collector, &["down 2", "termination 0", "closed"]).await;
}

#[tokio::test]
async fn numbers_come_now_and_then() {
    let bench = Bench::new().await;
    bench.up(1, Builtin::AcceptAll).await;
    let config = StationConfig {
        statistics: Duration::from_millis(50),
        ..bench.station()
    };
    let _stations = bench.stations(config);
    let mut collector = bench.accept().await;
    expect(&mut collector, &["initiation", "up 179"]).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let message = next(&mut collector).await;
        if message.starts_with("numbers") {
            heard.push(message);
        }
    }
    // Of the only family, once; of both, for the Loc-RIB.
    assert_eq!(heard, ["numbers 11", "numbers 11"]);
}

#[tokio::test]
async fn a_collector_that_does_not_read_is_cut_off_and_told_anew() {
    let bench = Bench::new().await;
    let stations = bench.stations(StationConfig {
        connect_retry: Duration::from_secs(1),
        ..bench.station()
    });
    let deaf = bench.accept().await;
    let cut_off = || stations.reports()[0].last_error.clone();
    // The RIB thread takes all of it meanwhile.
    let mut session = 0;
    while cut_off().is_none() {
        bench.up(session, Builtin::AcceptAll).await;
        bench.down(session, Ending::RemoteClose).await;
        session += 1;
    }
    let said = cut_off().unwrap();
    assert_eq!(said, "the collector took nothing for 1 s");
    bench.up(session, Builtin::AcceptAll).await;
    bench.announce(session, &["10.0.0.0/24"], 1).await;
    let mut collector = bench.accept().await;
    drop(deaf);
    expect(&mut collector, &["initiation"]).await;
    while next(&mut collector).await != "post +10.0.0.0/24 med 1" {}
    assert_eq!(stations.reports()[0].connected_count, 2);
}

#[tokio::test]
async fn a_station_that_does_not_take_its_events_is_dropped_and_finds_out() {
    let mut rib = Rib::new(rib_config());
    let mut feed = Feed::default();
    let (to, mut heard) = mpsc::channel(2);
    let (reply, _) = oneshot::channel();
    let reader = ReaderId(1);
    feed.answer(&mut rib, 0, Question::Attach(reader, to, reply));
    for session in 0..3 {
        feed.up(monitored(session));
    }
    assert!(heard.recv().await.is_some() && heard.recv().await.is_some());
    assert!(heard.recv().await.is_none());
    feed.attend(&mut rib);
    let (reply, mut answer) = oneshot::channel();
    feed.answer(&mut rib, 0, Question::Changes(reader, reply));
    assert!(
        answer.try_recv().unwrap().is_err(),
        "nothing is kept for it"
    );
}

#[tokio::test]
async fn a_reload_changes_the_stations_that_it_names() {
    let bench = Bench::new().await;
    let mut stations = bench.stations(bench.station());
    let mut first = bench.accept().await;
    expect(&mut first, &["initiation"]).await;
    let both = |second: StationConfig| {
        BTreeMap::from([
            ("noc".to_owned(), bench.station()),
            ("lab".to_owned(), second),
        ])
    };
    stations.configure(both(bench.station()));
    let mut second = bench.accept().await;
    expect(&mut second, &["initiation"]).await;
    let changed = StationConfig {
        route_monitoring: RouteMonitoring::PostPolicy,
        ..bench.station()
    };
    stations.configure(both(changed));
    expect(&mut second, &["termination 0", "closed"]).await;
    let mut second = bench.accept().await;
    expect(&mut second, &["initiation"]).await;
    bench.up(1, Builtin::AcceptAll).await;
    bench.announce(1, &["10.0.0.0/24"], 1).await;
    expect(&mut second, &["up 179", "post +10.0.0.0/24 med 1"]).await;
    stations.configure(BTreeMap::from([("noc".to_owned(), bench.station())]));
    expect(&mut second, &["termination 4", "closed"]).await;
    // The first has noticed nothing.
    expect(&mut first, &["up 179", "pre +10.0.0.0/24 med 1"]).await;
    assert_eq!(stations.reports().len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_dialled_again() {
    let bench = Bench::new().await;
    let config = bench.station();
    let Bench {
        rib,
        _kernel,
        listener,
    } = bench;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut stations = Stations::new(rib);
    stations.configure(BTreeMap::from([("noc".to_owned(), config)]));
    let waiting = async {
        while stations.reports()[0].last_error.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let mut collector = accepted.unwrap().unwrap().0;
    expect(&mut collector, &["initiation"]).await;
    // A collector that goes is missed.
    drop(collector);
    let again = tokio::time::timeout(PATIENCE, listener.accept()).await;
    expect(&mut again.unwrap().unwrap().0, &["initiation"]).await;
}

#[test]
fn every_end_of_a_session_has_its_reason() {
    let ours = Notification::cease(cease::ADMINISTRATIVE_RESET);
    let check = |reason: DownReason, sent: bool, expected: Ending| {
        let last_words = sent.then(|| ours.clone());
        assert_eq!(Ending::new(&reason, last_words), expected, "{reason}");
    };
    let local = || Ending::LocalNotification(ours.clone());
    check(
        DownReason::NotificationReceived(ours.clone()),
        false,
        Ending::RemoteNotification(ours.clone()),
    );
    check(
        DownReason::TcpClosed("reset".into()),
        false,
        Ending::RemoteClose,
    );
    check(DownReason::HoldTimerExpired, true, local());
    check(DownReason::HoldTimerExpired, false, Ending::LocalEvent(10));
    check(
        DownReason::SendHoldTimerExpired,
        false,
        Ending::LocalEvent(29),
    );
    check(DownReason::ManualStop, true, local());
    check(DownReason::ManualStop, false, Ending::LocalEvent(2));
    check(
        DownReason::SettingsChanged(vec![]),
        false,
        Ending::LocalEvent(8),
    );
    check(DownReason::ConnectTimeout, false, Ending::LocalEvent(0));
}

/// What a page with one path says, of whichever side.
fn told(attributes: bgp_wire::PathAttributes, age: u32, which: RouteMonitoring) -> Vec<u8> {
    let next_hop = NextHop::V6 {
        global: "2001:db8::2".parse().unwrap(),
        link_local: None,
    };
    let path = MonitoredPath {
        session: SessionId(1),
        prefix: "2001:db8:1::/48".parse().unwrap(),
        path_id: 0,
        age,
        received: Some(0),
        accepted: Some(0),
    };
    let page = MonitorPage {
        sets: vec![(attributes, next_hop)],
        paths: vec![path],
    };
    let mut session = Arc::into_inner(monitored(1)).unwrap();
    session.remote = "[2001:db8::2]:179".parse().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_250);
    let mut outbox = Outbox::default();
    outbox.paths(&session, &page, &page.paths, which, Telling::Walk, now);
    assert_eq!(outbox.messages, 1);
    outbox.bytes
}

#[test]
fn the_header_names_peer_side_and_time() {
    let attributes = AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[65002])
        .build();
    let message = told(attributes, 100, RouteMonitoring::PostPolicy);
    let mut expected = vec![0, 0x80 | 0x40];
    expected.extend([0; 8]);
    expected.extend(
        "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    expected.extend(65002u32.to_be_bytes());
    expected.extend([10, 0, 0, 2]);
    expected.extend(900u32.to_be_bytes());
    expected.extend(250_000u32.to_be_bytes());
    assert_eq!(message[6..HEADERS], expected);
}

#[test]
fn a_path_that_is_longer_with_four_octets_is_told_all_the_same() {
    // 1,300 AS numbers fit an UPDATE of a two-octet peer.
    let path: Vec<u32> = (1..=1300).collect();
    let attributes = AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&path)
        .build();
    let message = told(attributes, 0, RouteMonitoring::PrePolicy);
    assert!(message.len() > 1300 * 4, "{}", message.len());
}
