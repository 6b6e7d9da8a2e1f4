//! BIRD 2 as the peer.

use std::time::Duration;

use nix::sys::signal::Signal;
use roadbed_tests::bird::Bird;
use roadbed_tests::process::Process;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{Pair, SOON, peer};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
const V4_MORE: (&str, &str) = ("10.1.1.0/24", "via 10.99.0.2 dev eth0");
const V6: (&str, &str) = ("fd00:1::/64", "via fd00:99::2 dev eth0");

/// Three static protocols, so that each route can be withdrawn alone. Passive: when both ends dial, a collision may end
/// a session that is up on one side only, and tests count sessions.
fn bird_config(local: &str, remote: &str) -> String {
    format!(
        "log stderr all;
        router id 10.99.0.2;
        protocol device {{ scan time 1; }}
        protocol static one {{ ipv4; route 10.1.0.0/24 blackhole; }}
        protocol static more {{ ipv4; route 10.1.1.0/24 blackhole; }}
        protocol static six {{ ipv6; route fd00:1::/64 blackhole; }}
        protocol bgp rb {{
            local {local} as 65002;
            neighbor {remote} as 65001;
            passive yes; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
            ipv4 {{ import all; export where source = RTS_STATIC; }};
            ipv6 {{ import all; export where source = RTS_STATIC; }};
        }}"
    )
}

fn over_ipv4(pair: &Pair) -> Bird {
    Bird::start(
        &pair.peer,
        pair.dir(),
        &bird_config("10.99.0.2", "10.99.0.1"),
    )
    .unwrap()
}

#[track_caller]
fn bird_sees(bird: &Bird, line: &str, words: &[&str]) {
    eventually(SOON, &format!("BIRD sees {words:?}"), || {
        bird.shows(line, words)
    });
}

/// Routes both ways and their withdrawal, over either transport.
fn check_exchange(local: &str, remote: &str) {
    let pair = Pair::new();
    let bird = Bird::start(&pair.peer, pair.dir(), &bird_config(local, remote)).unwrap();
    let speaker = pair.speaker(&peer("bird", local, ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);
    bird_sees(
        &bird,
        "show route all 10.2.0.0/24",
        &[
            "BGP.as_path: 65001",
            "BGP.next_hop: 10.99.0.1",
            "BGP.origin: IGP",
        ],
    );
    bird_sees(
        &bird,
        "show route all fd00:2::/64",
        &["BGP.as_path: 65001", "BGP.next_hop: fd00:99::1"],
    );

    bird.cli("disable more").unwrap();
    pair.kernel_has(&[V4, V6]);
    bird.cli("disable six").unwrap();
    pair.kernel_has(&[V4]);
    bird.cli("enable six").unwrap();
    pair.kernel_has(&[V4, V6]);

    speaker
        .reload(&crate::fixture::config(
            &peer("bird", local, ""),
            "\"fd00:2::/64\"",
        ))
        .unwrap();
    eventually(SOON, "BIRD lost the withdrawn network", || {
        let routes = bird.cli("show route").map_err(|e| e.to_string())?;
        (!routes.contains("10.2.0.0/24") && routes.contains("fd00:2::/64"))
            .then_some(())
            .ok_or(routes)
    });
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn routes_go_both_ways_over_ipv4() {
    check_exchange("10.99.0.2", "10.99.0.1");
}

#[test]
fn routes_go_both_ways_over_ipv6() {
    check_exchange("fd00:99::2", "fd00:99::1");
}

#[test]
fn a_restarted_bird_comes_back() {
    let pair = Pair::new();
    let mut bird = over_ipv4(&pair);
    let mut speaker = pair.speaker(&peer("bird", "10.99.0.2", ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);

    bird.process().kill().unwrap();
    pair.kernel_has(&[]);
    eventually(SOON, "the log tells", || speaker.says(&["session down"]));

    let bird = over_ipv4(&pair);
    pair.kernel_has(&[V4, V4_MORE, V6]);
    bird_sees(&bird, "show route", &["10.2.0.0/24", "fd00:2::/64"]);
    assert_eq!(speaker.logged(&["session established"]), 2);
}

/// The only link: the routes go at once, the session with its Hold Timer, and both come back without help.
#[test]
fn a_link_that_comes_back_brings_session_and_routes_back() {
    let pair = Pair::new();
    let _bird = over_ipv4(&pair);
    let peers = peer("bird", "10.99.0.2", "").replace("holdTimeSeconds = 9", "holdTimeSeconds = 3");
    let mut speaker = pair.speaker(&peers);
    pair.kernel_has(&[V4, V4_MORE, V6]);
    pair.peer.run("ip link set eth0 down").unwrap();
    pair.kernel_has(&[]);
    eventually(SOON, "the hold timer expires", || {
        speaker.says(&["session down", "hold timer expired"])
    });
    pair.peer.run("ip link set eth0 up").unwrap();
    // IPv6 addresses do not outlive their link's administrative state.
    pair.peer.add_address("eth0", "fd00:99::2/64").unwrap();
    pair.kernel_has(&[V4, V4_MORE, V6]);
    assert_eq!(speaker.logged(&["session established"]), 2);
}

/// Forwarding outlives the process: not one route event for what stays, and what went meanwhile is swept.
#[test]
fn a_killed_speaker_leaves_its_routes_and_adopts_them() {
    let pair = Pair::new();
    let bird = over_ipv4(&pair);
    let peers = peer("bird", "10.99.0.2", "");
    let mut speaker = pair.speaker(&peers);
    pair.kernel_has(&[V4, V4_MORE, V6]);
    let monitor =
        Process::start(&pair.us, pair.dir(), "monitor", &["ip", "monitor", "route"]).unwrap();

    speaker.process().kill().unwrap();
    bird.cli("disable more").unwrap();
    throughout(Duration::from_secs(2), "routes stay without us", || {
        pair.kernel_has_now(&[V4, V4_MORE, V6])
    });

    let speaker = pair.speaker(&peers);
    pair.kernel_has(&[V4, V6]);
    bird_sees(&bird, "show route", &["10.2.0.0/24", "fd00:2::/64"]);
    // One process after the other writes this log.
    assert_eq!(speaker.logged(&["session established"]), 2);

    eventually(SOON, "the monitor shows the swept route", || {
        let log = monitor.log();
        log.contains("Deleted 10.1.1.0/24").then_some(()).ok_or(log)
    });
    let events = monitor.log();
    for (prefix, _) in [V4, V6] {
        assert!(
            !events.contains(prefix),
            "{prefix} was not left alone:\n{events}"
        );
    }
}

#[test]
fn sigterm_says_goodbye_and_leaves_the_routes() {
    let pair = Pair::new();
    let bird = over_ipv4(&pair);
    let mut speaker = pair.speaker(&peer("bird", "10.99.0.2", ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);
    speaker.stop().unwrap();
    bird_sees(
        &bird,
        "show protocols all rb",
        &["Received: Administrative shutdown"],
    );
    pair.kernel_has_now(&[V4, V4_MORE, V6]).unwrap();
}

/// RFC 9003 with words of either side.
#[test]
fn either_end_says_why_it_goes() {
    let pair = Pair::new();
    let mut bird = over_ipv4(&pair);
    let mut speaker = pair.speaker(&peer("bird", "10.99.0.2", ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);
    bird.cli("disable rb \"Rack-7-is-moved\"").unwrap();
    eventually(SOON, "the log has BIRD's words", || {
        speaker.says(&["session down", "Rack-7-is-moved"])
    });
    bird.cli("enable rb").unwrap();
    pair.kernel_has(&[V4, V4_MORE, V6]);
    speaker.stop().unwrap();
    eventually(SOON, "BIRD has ours", || {
        let log = bird.process().log();
        log.contains("stopped by its operator")
            .then_some(())
            .ok_or(log)
    });
}

#[test]
fn sigint_is_sigterm() {
    let pair = Pair::new();
    let mut speaker = pair.speaker("");
    eventually(SOON, "it runs", || speaker.says(&["speaker started"]));
    speaker.process().signal(Signal::SIGINT).unwrap();
    let status = speaker.process().wait(Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{status}");
}

/// Half-open: the peer's host dies and is back while nobody could hear of it. We believe in the old session until the new
/// one's connection comes (RFC 4271 §8.1.5, §6.8) or the Hold Time ends.
#[test]
fn a_peer_that_dies_unheard_comes_back() {
    let pair = Pair::new();
    let mut bird = over_ipv4(&pair);
    let speaker = pair.speaker(&peer("bird", "10.99.0.2", ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);
    pair.peer.run("ip link set eth0 down").unwrap();
    bird.process().signal(Signal::SIGKILL).unwrap();
    drop(bird);
    assert_eq!(speaker.logged(&["session down"]), 0, "nobody told us");
    pair.peer.run("ip link set eth0 up").unwrap();
    pair.peer
        .run("ip -6 address add fd00:99::2/64 dev eth0 nodad")
        .ok();
    let _bird = over_ipv4(&pair);
    eventually(SOON, "there is another session", || {
        match speaker.logged(&["session established"]) {
            2 => Ok(()),
            n => Err(format!("{n} sessions")),
        }
    });
    pair.kernel_has(&[V4, V4_MORE, V6]);
    assert_eq!(speaker.logged(&["session down"]), 1);
}
