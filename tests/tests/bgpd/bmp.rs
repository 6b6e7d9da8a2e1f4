//! BMP to a collector (RFC 7854): the whole life of a session as `tshark` reads it, a collector that does not read, and
//! stations that come and go with the file.

use std::time::Duration;

use roadbed_tests::frr::Frr;
use roadbed_tests::process::Process;
use roadbed_tests::wait::eventually;
use serde_json::{Value, json};

use crate::collector::{Collector, DOWN, NUMBERS, ROUTES, TERMINATION, UP, station};
use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{Script, UPDATE, attribute, mandatory, message, update};

const V4: [u8; 4] = [24, 10, 1, 0];
const V4_LATER: [u8; 4] = [24, 10, 201, 1];
const V6: [u8; 9] = [64, 0xfd, 0, 0, 1, 0, 0, 0, 0];

const FRR: &str = "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor 10.99.0.1 remote-as 65001
 neighbor 10.99.0.1 passive
 neighbor 10.99.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor 10.99.0.1 activate
 exit-address-family
 address-family ipv6 unicast
  network fd00:1::/64
  neighbor 10.99.0.1 activate
 exit-address-family
";

/// What is said of the routes of one prefix, from the lines of `tshark`.
fn about<'a>(lines: &'a [String], prefix: &str) -> Vec<&'a str> {
    let said = lines.iter().filter(|line| line.contains(prefix));
    said.map(String::as_str).collect()
}

/// Keeps the session while `work` is done.
fn keeping(script: &mut Script, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            script.keep_alive(Duration::from_millis(200));
        }
    });
}

#[test]
fn the_life_of_a_session_with_frr() {
    let pair = Pair::new();
    let collector = Collector::listen(&pair.peer, "10.99.0.2");
    let frr = Frr::start(&pair.peer, pair.dir(), FRR).unwrap();
    let more = "routeMonitoring = \"both\"\nstatisticsSeconds = 1";
    let stations = station("noc", "10.99.0.2", more);
    let no_v6 = "[policies.no-v6]\nrules = [{ match = { families = [\"ipv6-unicast\"] }, action = \"reject\" }]\ndefaultAction = \"accept\"\n";
    let peers = peer("frr", "10.99.0.2", "").replace("accept-all", "no-v6");
    let mut speaker = pair.speaker(&format!("{peers}{no_v6}{stations}"));
    let mut heard = collector.accept();
    heard.until(1, UP, &[]);
    heard.until(2, ROUTES, &V4);
    heard.until(1, ROUTES, &V6);

    let af = ["router bgp 65002", "address-family ipv4 unicast"];
    let say = |line: &str| frr.configure(&[&af[..], &[line]].concat()).unwrap();
    say("no network 10.1.0.0/24");
    say("network 10.201.1.0/24");
    heard.until(2, ROUTES, &V4_LATER);
    // Both views of an End-of-RIB of each family, and numbers after all that.
    let numbers = heard.count(NUMBERS);
    heard.until(numbers + 2, NUMBERS, &[]);
    let down = ["router bgp 65002", "neighbor 10.99.0.1 shutdown"];
    frr.configure(&down).unwrap();
    heard.until(1, DOWN, &[]);
    speaker.stop().unwrap();
    heard.until_closed();

    let sessions = heard.decoded(&[
        "bmp.type",
        "bmp.init.type",
        "bmp.peer.ip.addr",
        "bmp.peer.asn",
        "bmp.peer.id",
        "bmp.peer.up.ip.addr",
        "bmp.peer.up.port.remote",
        "bgp.open.identifier",
        "bmp.peer.down.reason",
        "bgp.notify.minor_error_cease",
        "bmp.term.reason",
    ]);
    let sessions: Vec<&str> = sessions
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("0|") && !line.starts_with("1|"))
        .collect();
    assert_eq!(
        sessions,
        [
            "4|1,2|||||||||",
            "3||10.99.0.2|65002|10.99.0.2|10.99.0.1|179|10.99.0.1,10.99.0.2|||",
            "2||10.99.0.2|65002|10.99.0.2||||3|2|",
            "5||||||||||0",
        ]
    );

    let routes = heard.decoded(&[
        "bmp.peer.flags.post_policy",
        "bgp.update.path_attribute.as_path_segment.as4",
        "bgp.update.path_attribute.next_hop",
        "bgp.nlri_prefix",
        "bgp.withdrawn_prefix",
        "bgp.mp_reach_nlri_ipv6_prefix",
        "bgp.mp_unreach_nlri_ipv6_prefix",
    ]);
    assert_eq!(
        about(&routes, "10.1.0.0"),
        [
            "0|65002|10.99.0.2|10.1.0.0|||",
            "1|65002|10.99.0.2|10.1.0.0|||",
            "0||||10.1.0.0||",
            "1||||10.1.0.0||",
        ]
    );
    assert_eq!(
        about(&routes, "10.201.1.0"),
        [
            "0|65002|10.99.0.2|10.201.1.0|||",
            "1|65002|10.99.0.2|10.201.1.0|||",
        ]
    );
    // The policy rejects it: only the side before it has it.
    let v6 = about(&routes, "fd00:1::");
    let announced: Vec<_> = v6.iter().filter(|l| l.ends_with("|fd00:1::|")).collect();
    assert_eq!(announced, [&"0|65002||||fd00:1::|"], "{v6:?}");

    let numbers = heard.decoded(&[
        "bmp.stats.data.prefix_rej",
        "bmp.stats.data.routes_adj_rib_in",
        "bmp.stats.data.routes_loc_rib",
        "bmp.stats.data.routes_per_adj_rib_in",
        "bmp.stats.data.routes_per_loc_rib",
    ]);
    // FRR sends our two back, which are in the Loc-RIB as ours.
    assert!(numbers.iter().any(|l| l == "2|4|3|2,2|2,1"), "{numbers:?}");
}

#[test]
fn peers_of_a_range_loops_and_faults_over_ipv6() {
    let pair = Pair::new();
    let collector = Collector::listen(&pair.peer, "fd00:99::2");
    let range = "[peers.rack]\nlistenRange = \"fd00:99::/64\"\nasNumber = \"external\"\nholdTimeSeconds = 9\nimportPolicies = [\"accept-all\"]\n";
    let more = "sourceAddress = \"fd00:99::1\"\nstatisticsSeconds = 1";
    let stations = station("noc", "fd00:99::2", more);
    let mut speaker = pair.speaker(&format!("{range}{stations}"));
    let mut script = Script::establish(&pair.peer, "fd00:99::2", "fd00:99::1");
    let mut heard = collector.accept();
    heard.until(1, UP, &[]);
    script.send(&update(&mandatory([10, 99, 0, 2]), &V4));
    // Our own AS in the AS_PATH: told before policy, and counted.
    let mut looped = mandatory([10, 99, 0, 2]);
    looped[1] = attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xea, 0, 0, 0xfd, 0xe9]);
    script.send(&update(&looped, &V4_LATER));
    heard.until(1, ROUTES, &V4);
    // An ORIGIN that there is not: treat-as-withdraw (RFC 7606 §7.1).
    let mut malformed = mandatory([10, 99, 0, 2]);
    malformed[0] = attribute(0x40, 1, &[9]);
    script.send(&update(&malformed, &[V4, [24, 10, 1, 2]].concat()));
    heard.until(2, ROUTES, &V4);
    heard.until(1, ROUTES, &V4_LATER);
    keeping(&mut script, || {
        let numbers = heard.count(NUMBERS);
        heard.until(numbers + 2, NUMBERS, &[]);
    });
    drop(script);
    heard.until(1, DOWN, &[]);
    speaker.stop().unwrap();
    heard.until_closed();

    let sessions = heard.decoded(&[
        "bmp.type",
        "bmp.peer.flags.ipv6",
        "bmp.peer.ipv6.addr",
        "bmp.peer.up.ipv6.addr",
        "bmp.peer.up.port.local",
        "bmp.peer.down.reason",
    ]);
    let of = |kind: &str| {
        let lines = sessions.iter().filter(|l| l.starts_with(kind));
        lines.map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(of("3|"), ["3|1|fd00:99::2|fd00:99::1|179|"]);
    assert_eq!(of("2|"), ["2|1|fd00:99::2|||4"]);
    let routes = heard.decoded(&["bgp.nlri_prefix", "bgp.withdrawn_prefix"]);
    let mut v4 = about(&routes, "10.1.0.0");
    v4.dedup();
    assert_eq!(v4, ["10.1.0.0|", "|10.1.0.0"]);
    assert_eq!(about(&routes, "10.201.1.0"), ["10.201.1.0|"]);
    let numbers = heard.decoded(&[
        "bmp.stats.data.as_loop",
        "bmp.stats.data.update_treat",
        "bmp.stats.data.prefixes_treat",
        "bmp.stats.data.routes_adj_rib_in",
    ]);
    assert!(numbers.iter().any(|l| l == "1|1|2|1"), "{numbers:?}");
}

/// More than the kernel keeps for a collector that does not read.
#[test]
fn a_collector_that_does_not_read_slows_nobody_and_is_told_anew() {
    const ROUNDS: u8 = 100;
    const PREFIXES: u8 = 200;
    let pair = Pair::new();
    let collector = Collector::listen(&pair.peer, "10.99.0.2");
    let peers = peer("one", "10.99.0.2", "passive = true");
    let stations = station("noc", "10.99.0.2", "routeMonitoring = \"both\"");
    let text = config(&format!("{peers}{stations}"), OUR_NETWORKS);
    let text = format!("{text}installRoutes = false\n");
    let mut speaker = roadbed_tests::bgpd::Bgpd::start(&pair.us, pair.dir(), &text).unwrap();
    let deaf = collector.accept();
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    for round in 0..ROUNDS {
        for n in 0..PREFIXES {
            // A long attribute that is another one in every UPDATE.
            let mut attributes = mandatory([10, 99, 0, 2]);
            attributes.push(attribute(0xc0, 99, &[[round, n]; 100].concat()));
            script.send(&update(&attributes, &[24, 10, round, n]));
        }
    }
    eventually(SOON, "the station gives up on the collector", || {
        script.keep_alive(Duration::from_millis(200));
        speaker.says(&["BMP station without its collector", "took nothing for"])
    });
    let mut heard = collector.accept();
    drop(deaf);
    // Another prefix, after all: by the time it is told, so is the rest.
    script.send(&update(&mandatory([10, 99, 0, 2]), &V4_LATER));
    keeping(&mut script, || {
        heard.until(2, ROUTES, &[24, 10, ROUNDS - 1, PREFIXES - 1]);
        heard.until(2, ROUTES, &V4_LATER);
    });
    script.keep_alive(Duration::from_millis(500));
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn stations_come_and_go_with_the_file() {
    let pair = Pair::new();
    let collector = Collector::listen(&pair.peer, "10.99.0.2");
    let peers = peer("one", "10.99.0.2", "passive = true");
    let with = |stations: &str| config(&format!("{peers}{stations}"), OUR_NETWORKS);
    let speaker = pair.speaker(&peers);
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.send(&update(&mandatory([10, 99, 0, 2]), &V4));
    script.expect(UPDATE);

    // A station that comes is told what was there.
    let noc = station("noc", "10.99.0.2", "");
    speaker.reload(&with(&noc)).unwrap();
    let mut heard = collector.accept();
    heard.until(1, UP, &[]);
    heard.until(1, ROUTES, &V4);
    // End-of-RIB of IPv4: an UPDATE without anything.
    heard.until(1, ROUTES, &message(UPDATE, &[0; 4]));

    let post = station("noc", "10.99.0.2", "routeMonitoring = \"post-policy\"");
    speaker.reload(&with(&post)).unwrap();
    heard.until(1, TERMINATION, &[]);
    heard.until_closed();
    let mut heard = collector.accept();
    heard.until(1, ROUTES, &V4);
    speaker.reload(&with("")).unwrap();
    heard.until(1, TERMINATION, &[]);
    heard.until_closed();
    let views = heard.decoded(&["bmp.type", "bmp.peer.flags.post_policy", "bgp.nlri_prefix"]);
    assert_eq!(about(&views, "10.1.0.0"), ["0|1|10.1.0.0"]);

    script.keep_alive(Duration::from_secs(1));
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
    assert!(heard.messages().len() > 2);
}

/// pmacct's collector: what it writes down of a session with FRR, and what we say of it meanwhile.
#[test]
fn pmacct_collects() {
    let pair = Pair::new();
    let log = pair.dir().join("messages");
    let file = pair.dir().join("pmbmpd.conf");
    let text = format!(
        "bmp_daemon_ip: 10.99.0.2\nbmp_daemon_port: 11019\nbmp_daemon_max_peers: 4\n\
         bmp_daemon_msglog_file: {}\nbmp_daemon_msglog_output: json\n",
        log.display()
    );
    std::fs::write(&file, text).unwrap();
    let argv = ["pmbmpd", "-f", file.to_str().unwrap()];
    let mut pmacct = Process::start(&pair.peer, pair.dir(), "pmbmpd", &argv).unwrap();
    let frr = Frr::start(&pair.peer, pair.dir(), FRR).unwrap();
    let more = "routeMonitoring = \"both\"\nstatisticsSeconds = 1";
    let stations = station("noc", "10.99.0.2", more);
    let mut speaker = pair.speaker(&format!("{}{stations}", peer("frr", "10.99.0.2", "")));
    let messages = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.filter_map(Result::ok).collect()
    };
    let mut has = |what: &str, expected: &[(&str, Value)]| {
        eventually(SOON, &format!("{what}, {expected:?}"), || {
            pmacct.alive().map_err(|error| error.to_string())?;
            let all = messages();
            let right = |m: &&Value| {
                m["bmp_msg_type"] == *what && expected.iter().all(|(key, value)| m[*key] == *value)
            };
            match all.iter().any(|message| right(&message)) {
                true => Ok(()),
                false => Err(format!("{all:#?}")),
            }
        });
    };
    has("init", &[("bmp_router", json!("10.99.0.1"))]);
    has(
        "peer_up",
        &[
            ("peer_ip", json!("10.99.0.2")),
            ("remote_port", json!(179)),
            ("bgp_id", json!("10.99.0.2")),
        ],
    );
    for post_policy in [0, 1] {
        for (prefix, next_hop) in [("10.1.0.0/24", "10.99.0.2"), ("fd00:1::/64", "fd00:99::2")] {
            has(
                "route_monitor",
                &[
                    ("ip_prefix", json!(prefix)),
                    ("bgp_nexthop", json!(next_hop)),
                    ("as_path", json!("65002")),
                    ("is_post", json!(post_policy)),
                ],
            );
        }
    }
    has(
        "stats",
        &[("counter_type", json!(7)), ("peer_ip", json!("10.99.0.2"))],
    );
    let said = speaker.ctl("bgp bmp").unwrap();
    for word in ["noc", "10.99.0.2", "synced"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let down = ["router bgp 65002", "neighbor 10.99.0.1 shutdown"];
    frr.configure(&down).unwrap();
    has("peer_down", &[("peer_ip", json!("10.99.0.2"))]);
    speaker.stop().unwrap();
    has("term", &[("bmp_router", json!("10.99.0.1"))]);
}
