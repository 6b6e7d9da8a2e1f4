//! What TCP is told: signatures (RFC 2385), TTL security (RFC 5082), multihop, who dials, from where.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{KEEPALIVE, Script, mandatory, update};
use crate::three::{self, Three, ours};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
/// Longer than several attempts to connect.
const ATTEMPTS: Duration = Duration::from_secs(4);
const KEY: &str = "password = \"correct-horse\"";

/// BIRD as AS 65002 with the session at `local` and further options of it; announces 10.1.0.0/24.
pub(crate) fn bird_config(local: &str, remote: &str, options: &str) -> String {
    format!(
        "log stderr all;
        router id 10.99.0.2;
        protocol device {{ scan time 1; }}
        protocol static one {{ ipv4; route 10.1.0.0/24 blackhole; }}
        protocol bgp rb {{
            local {local} as 65002;
            neighbor {remote} as 65001;
            hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
            {options}
            ipv4 {{ import all; export where source = RTS_STATIC; }};
            ipv6 {{ import all; export none; }};
        }}"
    )
}

fn bird(pair: &Pair, options: &str) -> Bird {
    let config = bird_config("10.99.0.2", "10.99.0.1", options);
    Bird::start(&pair.peer, pair.dir(), &config).unwrap()
}

/// FRR as AS 65002 with further options of its neighbour 10.99.0.1; announces 10.1.0.0/24.
fn frr(pair: &Pair, options: &[&str]) -> Frr {
    frr_with(pair, "10.99.0.1", options)
}

/// As [`frr`], with the neighbour at another address.
fn frr_with(pair: &Pair, remote: &str, options: &[&str]) -> Frr {
    let options: String = options
        .iter()
        .map(|option| format!(" neighbor {remote} {option}\n"))
        .collect();
    let config = format!(
        "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor {remote} remote-as 65001
 neighbor {remote} timers 3 9
 neighbor {remote} timers connect 1
 neighbor {remote} advertisement-interval 0
{options} address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor {remote} activate
 exit-address-family
"
    );
    Frr::start(&pair.peer, pair.dir(), &config).unwrap()
}

/// The peer at 10.99.0.2.
fn speaker(pair: &Pair, more: &str) -> Bgpd {
    pair.speaker(&peer("one", "10.99.0.2", more))
}

#[track_caller]
fn stays_down(speaker: &Bgpd) {
    throughout(ATTEMPTS, "no session comes up", || {
        match speaker.logged(&["session established"]) {
            0 => Ok(()),
            n => Err(format!("{n} sessions")),
        }
    });
}

#[track_caller]
fn never_says_the_key(speaker: &Bgpd) {
    assert!(
        !speaker.log().contains("correct-horse"),
        "{}",
        speaker.log()
    );
}

#[test]
fn md5_with_bird_whoever_dials() {
    for (ours, theirs) in [("passive = true", ""), ("", "passive yes;")] {
        let pair = Pair::new();
        let _bird = bird(&pair, &format!("password \"correct-horse\"; {theirs}"));
        let speaker = speaker(&pair, &format!("{KEY}\n{ours}"));
        pair.kernel_has(&[V4]);
        never_says_the_key(&speaker);
    }
}

#[test]
fn md5_with_frr_whoever_dials() {
    for (ours, theirs) in [("passive = true", None), ("", Some("passive"))] {
        let pair = Pair::new();
        let mut options = vec!["password correct-horse"];
        options.extend(theirs);
        let _frr = frr(&pair, &options);
        let _speaker = speaker(&pair, &format!("{KEY}\n{ours}"));
        pair.kernel_has(&[V4]);
    }
}

#[test]
fn md5_over_ipv6() {
    for (ours, theirs) in [("passive = true", ""), ("", "passive yes;")] {
        let pair = Pair::new();
        let options = format!("password \"correct-horse\"; {theirs}");
        let config = bird_config("fd00:99::2", "fd00:99::1", &options);
        let _bird = Bird::start(&pair.peer, pair.dir(), &config).unwrap();
        let mut speaker = pair.speaker(&peer("one", "fd00:99::2", &format!("{KEY}\n{ours}")));
        eventually(SOON, "the session is up", || {
            speaker.says(&["session established"])
        });
    }
}

#[test]
fn a_wrong_missing_or_unexpected_key_keeps_bird_out() {
    for (ours, theirs) in [
        (KEY, "password \"wrong\";"),
        (KEY, ""),
        ("", "password \"correct-horse\";"),
    ] {
        let pair = Pair::new();
        let _bird = bird(&pair, theirs);
        stays_down(&speaker(&pair, ours));
    }
}

#[test]
fn a_wrong_or_missing_key_keeps_frr_out() {
    for theirs in [&["password wrong"][..], &[]] {
        let pair = Pair::new();
        let _frr = frr(&pair, theirs);
        stays_down(&speaker(&pair, KEY));
    }
}

/// A key comes, changes and goes on both ends, within the Hold Time: the session stays, and so does that of another peer.
#[test]
fn a_changed_key_resets_nothing() {
    let pair = Pair::new();
    pair.peer.add_address("eth0", "10.99.0.3/16").unwrap();
    let file = |key: &str| {
        let one = peer("one", "10.99.0.2", &format!("passive = true\n{key}"));
        let other = peer("other", "10.99.0.3", "passive = true");
        config(&(one + &other), OUR_NETWORKS)
    };
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &file("")).unwrap();
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let mut other = Script::establish(&pair.peer, "10.99.0.3", "10.99.0.1");
    let mut learned = Vec::new();
    for (i, key) in ["first-key", "second-key", ""].into_iter().enumerate() {
        let line = match key {
            "" => String::new(),
            key => format!("password = \"{key}\""),
        };
        speaker.reload(&file(&line)).unwrap();
        eventually(SOON, "the file is read", || {
            match speaker.logged(&["configuration reloaded"]) {
                n if n > i => Ok(()),
                n => Err(format!("{n} reloads")),
            }
        });
        script.sign(key);
        // What arrives was signed as the speaker asks, and what keeps the session alive, too.
        let third = u8::try_from(i).unwrap();
        script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, third]));
        learned.push(format!("10.1.{third}.0/24"));
        let routes: Vec<(&str, &str)> = learned.iter().map(|to| (&**to, V4.1)).collect();
        pair.kernel_has(&routes);
        other.keep_alive(Duration::from_secs(1));
        script.keep_alive(Duration::from_secs(4));
        other.keep_alive(Duration::from_millis(100));
    }
    assert_eq!(speaker.logged(&["session established"]), 2);
    speaker.stop().unwrap();
    assert!(!speaker.log().contains("-key"), "{}", speaker.log());
}

/// The listening socket asks for a key from the moment on that the file has it.
#[test]
fn a_key_that_only_one_end_has_ends_the_session() {
    let pair = Pair::new();
    let bird = bird(&pair, "");
    let mut speaker = speaker(&pair, "passive = true");
    pair.kernel_has(&[V4]);
    let file = |key: &str| {
        let peers = peer("one", "10.99.0.2", &format!("{key}\npassive = true"));
        config(&peers, OUR_NETWORKS)
    };
    // From now on the listening socket asks for the key; the connection, too, which BIRD does not know.
    speaker.reload(&file(KEY)).unwrap();
    eventually(SOON, "unsigned segments end the session", || {
        speaker.says(&["session down", "hold timer expired"])
    });
    throughout(ATTEMPTS, "it does not come back", || {
        match speaker.logged(&["session established"]) {
            1 => Ok(()),
            n => Err(format!("{n} sessions")),
        }
    });
    std::fs::write(
        pair.dir().join("bird.conf"),
        bird_config("10.99.0.2", "10.99.0.1", "password \"correct-horse\";"),
    )
    .unwrap();
    bird.cli("configure").unwrap();
    pair.kernel_has(&[V4]);
    assert_eq!(speaker.logged(&["session established"]), 2);
    never_says_the_key(&speaker);
}

/// With `ttl security on` BIRD sends with 255 and takes nothing that lost any of it.
#[test]
fn ttl_security_with_bird_whoever_dials() {
    for (ours, theirs) in [("passive = true", ""), ("", "passive yes;")] {
        let pair = Pair::new();
        let _bird = bird(&pair, &format!("ttl security on; {theirs}"));
        let _speaker = speaker(&pair, &format!("ttlSecurityHops = 1\n{ours}"));
        pair.kernel_has(&[V4]);
    }
}

#[test]
fn ttl_security_with_frr_whoever_dials() {
    for (ours, theirs) in [("passive = true", None), ("", Some("passive"))] {
        let pair = Pair::new();
        let mut options = vec!["ttl-security hops 1"];
        options.extend(theirs);
        let _frr = frr(&pair, &options);
        let _speaker = speaker(&pair, &format!("ttlSecurityHops = 1\n{ours}"));
        pair.kernel_has(&[V4]);
    }
}

/// A peer that sends with TTL 1, as eBGP does by default, is dropped.
#[test]
fn ttl_security_is_asked_of_both() {
    let pair = Pair::new();
    let _bird = bird(&pair, "");
    stays_down(&speaker(&pair, "ttlSecurityHops = 1"));
    let pair = Pair::new();
    let bird = bird(&pair, "ttl security on;");
    let _speaker = speaker(&pair, "passive = true");
    // Whatever arrives in the moment before BIRD has set the bound still counts: our OPEN, never what follows it.
    throughout(ATTEMPTS, "BIRD has no session", || {
        let state = bird.cli("show protocols rb").map_err(|e| e.to_string())?;
        match state.contains("Established") {
            true => Err(state),
            false => pair.kernel_has_now(&[]),
        }
    });
}

#[test]
fn ttl_security_over_ipv6() {
    let pair = Pair::new();
    let config = bird_config("fd00:99::2", "fd00:99::1", "ttl security on;");
    let _bird = Bird::start(&pair.peer, pair.dir(), &config).unwrap();
    let mut speaker = pair.speaker(&peer("one", "fd00:99::2", "ttlSecurityHops = 1"));
    eventually(SOON, "the session is up", || {
        speaker.says(&["session established"])
    });
}

/// us 10.97.0.1 – router – 10.98.0.2 the peer.
fn routed() -> (Pair, Ns) {
    let pair = Pair::new();
    let router = Ns::new("router").unwrap();
    Ns::link(
        (&pair.us, "wan", &["10.97.0.1/24"]),
        (&router, "left", &["10.97.0.254/24"]),
    )
    .unwrap();
    Ns::link(
        (&pair.peer, "wan", &["10.98.0.2/24"]),
        (&router, "right", &["10.98.0.254/24"]),
    )
    .unwrap();
    router.run("sysctl -qw net.ipv4.ip_forward=1").unwrap();
    pair.us
        .run("ip route add 10.98.0.0/24 via 10.97.0.254")
        .unwrap();
    pair.peer
        .run("ip route add 10.97.0.0/24 via 10.98.0.254")
        .unwrap();
    (pair, router)
}

/// BIRD beyond the router.
fn behind_a_router(ours: &str, theirs: &str) -> (Pair, Ns, Bird, Bgpd) {
    let (pair, router) = routed();
    let config = bird_config("10.98.0.2", "10.97.0.1", theirs);
    let bird = Bird::start(&pair.peer, pair.dir(), &config).unwrap();
    let speaker = pair.speaker(&peer("far", "10.98.0.2", ours));
    (pair, router, bird, speaker)
}

#[track_caller]
fn comes_up(speaker: &mut Bgpd) {
    eventually(SOON, "the session is up", || {
        speaker.says(&["session established"])
    });
}

#[test]
fn multihop_reaches_over_a_router() {
    for ours in ["multihopTtl = 2", "multihopTtl = 2\npassive = true"] {
        let (pair, _router, bird, mut speaker) = behind_a_router(ours, "multihop 2;");
        comes_up(&mut speaker);
        eventually(SOON, "BIRD has our network", || {
            bird.shows("show route 10.2.0.0/24", &["10.2.0.0/24"])
        });
        its_way_comes_and_goes(&pair);
        assert_eq!(speaker.logged(&["session down"]), 0);
    }
}

/// The way to the next hop goes and comes back, within the Hold Time.
#[track_caller]
fn its_way_comes_and_goes(pair: &Pair) {
    reached_through_the_router(pair);
    let way = "10.98.0.0/24 via 10.97.0.254";
    pair.us.run(&format!("ip route del {way}")).unwrap();
    eventually(SOON, "without a way there is no route", || {
        let found = routes(&pair.us, PROTOCOL).map_err(|error| error.to_string())?;
        let gone = !found.contains_key("10.1.0.0/24");
        gone.then_some(()).ok_or(format!("{found:?}"))
    });
    pair.us.run(&format!("ip route add {way}")).unwrap();
    reached_through_the_router(pair);
}

#[track_caller]
fn reached_through_the_router(pair: &Pair) {
    eventually(SOON, "its network is reached through the router", || {
        let found = routes(&pair.us, PROTOCOL).map_err(|error| error.to_string())?;
        let via = found.get("10.1.0.0/24");
        via.is_some_and(|via| via == "via 10.97.0.254 dev wan")
            .then_some(())
            .ok_or(format!("{found:?}"))
    });
}

#[test]
fn frr_is_reached_over_a_router() {
    for (ours, theirs) in [
        ("multihopTtl = 2", "ebgp-multihop 2"),
        ("ttlSecurityHops = 2", "ttl-security hops 2"),
    ] {
        let (pair, _router) = routed();
        let _frr = frr_with(&pair, "10.97.0.1", &["passive", theirs]);
        let speaker = pair.speaker(&peer("far", "10.98.0.2", ours));
        its_way_comes_and_goes(&pair);
        assert_eq!(speaker.logged(&["session down"]), 0);
    }
}

#[test]
fn without_multihop_no_packet_passes_a_router() {
    let (_pair, _router, _bird, speaker) = behind_a_router("", "multihop 2;");
    stays_down(&speaker);
    let (_pair, _router, _bird, speaker) = behind_a_router("multihopTtl = 1", "multihop 2;");
    stays_down(&speaker);
}

/// Two hops away is in order when two are allowed, and dropped when one is.
#[test]
fn ttl_security_counts_hops() {
    let secured = "multihop 2; ttl security on;";
    let (_pair, _router, _bird, mut speaker) = behind_a_router("ttlSecurityHops = 2", secured);
    comes_up(&mut speaker);
    let (_pair, _router, _bird, speaker) = behind_a_router("ttlSecurityHops = 1", secured);
    stays_down(&speaker);
}

#[test]
fn passive_waits() {
    let pair = Pair::new();
    let bird = bird(&pair, "passive yes;");
    let speaker = speaker(&pair, "passive = true");
    stays_down(&speaker);
    std::fs::write(
        pair.dir().join("bird.conf"),
        bird_config("10.99.0.2", "10.99.0.1", ""),
    )
    .unwrap();
    bird.cli("configure").unwrap();
    pair.kernel_has(&[V4]);
}

#[test]
fn passive_waits_for_frr() {
    let pair = Pair::new();
    let frr = frr(&pair, &["passive", "timers connect 1"]);
    let speaker = speaker(&pair, "passive = true");
    stays_down(&speaker);
    frr.configure(&["router bgp 65002", "no neighbor 10.99.0.1 passive"])
        .unwrap();
    pair.kernel_has(&[V4]);
}

/// BIRD knows us by our second address only.
#[test]
fn the_source_address_is_ours_to_choose() {
    let pair = Pair::new();
    pair.us.add_address("eth0", "10.99.0.7/16").unwrap();
    let config = bird_config("10.99.0.2", "10.99.0.7", "passive yes;");
    let _bird = Bird::start(&pair.peer, pair.dir(), &config).unwrap();
    let _speaker = speaker(&pair, "sourceAddress = \"10.99.0.7\"");
    pair.kernel_has(&[V4]);
}

#[test]
fn frr_sees_the_source_address_that_we_choose() {
    let pair = Pair::new();
    pair.us.add_address("eth0", "10.99.0.7/16").unwrap();
    let _frr = frr_with(&pair, "10.99.0.7", &["passive"]);
    let _speaker = speaker(&pair, "sourceAddress = \"10.99.0.7\"");
    pair.kernel_has(&[V4]);
}

/// What we propose, and what BIRD makes of it.
#[test]
fn the_hold_time_is_per_peer() {
    let pair = Pair::new();
    let _bird = bird(&pair, "hold time 60;");
    let peers = peer("one", "10.99.0.2", "").replace("Seconds = 9", "Seconds = 12");
    let mut speaker = pair.speaker(&peers);
    eventually(SOON, "the lower Hold Time is negotiated", || {
        speaker.says(&["session established", "hold_time_s=12"])
    });
}

/// Two peers with timers of their own: FRR hears a KEEPALIVE each second, BIRD every three.
#[test]
fn timers_are_per_peer_with_frr_and_bird() {
    let three = Three::new();
    let bird = three.left_bird(&three::bird("left", 65002, &[], "", ""));
    let frr = three.right_frr(&three::frr(65003, &[], "timers 20 60"));
    let often = "keepaliveTimeSeconds = 1";
    let right = ours("right", 65003, often).replace("holdTimeSeconds = 9", "holdTimeSeconds = 30");
    let _speaker = three.speaker(&(ours("left", 65002, "") + &right));
    let neighbour = || -> Result<serde_json::Value, String> {
        let text = frr.cli("show bgp neighbors 10.98.0.1 json");
        let text = text.map_err(|error| error.to_string())?;
        let all: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        Ok(all["10.98.0.1"].clone())
    };
    eventually(SOON, "FRR has the Hold Time of its session", || {
        let found = neighbour()?;
        let hold = found["bgpTimerHoldTimeMsecs"].as_u64();
        (hold == Some(30_000))
            .then_some(())
            .ok_or(found.to_string())
    });
    eventually(SOON, "BIRD has that of its own", || {
        bird.shows("show protocols all rb", &["Established", "/9"])
    });
    let heard = || neighbour().unwrap()["messageStats"]["keepalivesRecv"].as_u64();
    let before = heard().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let count = heard().unwrap() - before;
    // A third of its Hold Time would be none or one in this time.
    assert!(count >= 3, "{count} in some four seconds");
}

/// One a second; a third of the Hold Time would be three.
#[test]
fn keepalives_are_per_peer() {
    let pair = Pair::new();
    let _speaker = speaker(&pair, "keepaliveTimeSeconds = 1\npassive = true");
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.expect(KEEPALIVE);
    let start = Instant::now();
    for _ in 0..3 {
        script.expect(KEEPALIVE);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Whether we are dialled within three seconds of starting to listen, by a speaker that was refused before.
fn dialled_again(connect_retry: &str) -> bool {
    let pair = Pair::new();
    let peers = peer("one", "10.99.0.2", "").replace("connectRetrySeconds = 1", connect_retry);
    let mut speaker = pair.speaker(&peers);
    eventually(SOON, "it runs", || speaker.says(&["speaker started"]));
    std::thread::sleep(Duration::from_secs(1));
    let listener = pair
        .peer
        .within(|| TcpListener::bind("10.99.0.2:179"))
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        if listener.accept().is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn the_pause_between_attempts_is_per_peer() {
    assert!(dialled_again("connectRetrySeconds = 1"));
    assert!(!dialled_again("connectRetrySeconds = 60"));
}
