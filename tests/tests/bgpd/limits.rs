//! Bounds on prefixes, and peers that are admitted by where they connect from.

use std::fmt::Write;
use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{NOTIFICATION, OPEN, Script, open};

/// BIRD at 10.99.0.2 as AS 65002, which dials; `first` prefixes at once, `more` with `enable more`.
fn bird(pair: &Pair, first: u8, more: u8, options: &str) -> Bird {
    let networks = |second: u8, count: u8| {
        (0..count).fold(String::new(), |mut text, i| {
            write!(text, "route 10.{second}.{i}.0/24 blackhole; ").unwrap();
            text
        })
    };
    let config = format!(
        "log stderr all;
        router id 10.99.0.2;
        protocol device {{ scan time 1; }}
        protocol static initial {{ ipv4; {} }}
        protocol static more {{ disabled; ipv4; {} }}
        protocol bgp rb {{
            local 10.99.0.2 as 65002;
            neighbor 10.99.0.1 as 65001;
            hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
            {options}
            ipv4 {{ import all; export where source = RTS_STATIC; }};
        }}",
        networks(10, first),
        networks(11, more),
    );
    Bird::start(&pair.peer, pair.dir(), &config).unwrap()
}

fn learned(pair: &Pair) -> usize {
    routes(&pair.us, PROTOCOL).unwrap().len()
}

#[track_caller]
fn learns(pair: &Pair, count: usize) {
    eventually(SOON, &format!("{count} learned routes"), || {
        let found = learned(pair);
        (found == count).then_some(()).ok_or(found)
    });
}

#[track_caller]
fn says(speaker: &mut Bgpd, words: &[&str]) {
    eventually(SOON, "the log tells", || speaker.says(words));
}

fn limited(keys: &str) -> String {
    peer("one", "10.99.0.2", &format!("passive = true\n{keys}"))
}

const WARN: &str = "maxPrefixes.ipv4-unicast = { limit = 10, warnPercent = 80, action = \"warn\" }";
const IDLE: &str = "maxPrefixes.ipv4-unicast = { limit = 10, warnPercent = 80, action = \"idle\" }";

#[test]
fn a_limit_that_warns_ends_nothing() {
    let pair = Pair::new();
    let bird = bird(&pair, 7, 1, "");
    let mut speaker = pair.speaker(&limited(WARN));
    learns(&pair, 7);
    assert_eq!(speaker.logged(&["prefixes"]), 0);
    bird.cli("enable more").unwrap();
    says(
        &mut speaker,
        &[
            "close to their limit",
            "ipv4-unicast",
            "count=8",
            "limit=10",
        ],
    );

    let pair = Pair::new();
    let _bird = self::bird(&pair, 11, 0, "");
    let mut speaker = pair.speaker(&limited(WARN));
    says(
        &mut speaker,
        &["more prefixes than their limit", "count=11"],
    );
    learns(&pair, 11);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// The session ends as RFC 4486 says, and stays down until the limit is raised.
#[test]
fn a_limit_that_idles_waits_for_another() {
    let pair = Pair::new();
    let bird = bird(&pair, 9, 2, "");
    let mut speaker = pair.speaker(&limited(IDLE));
    learns(&pair, 9);
    bird.cli("enable more").unwrap();
    says(&mut speaker, &["session down", "Cease"]);
    eventually(SOON, "BIRD knows why", || {
        bird.shows(
            "show protocols all rb",
            &["Received: Maximum number of prefixes reached"],
        )
    });
    learns(&pair, 0);
    throughout(Duration::from_secs(5), "it stays down", || {
        match speaker.logged(&["session established"]) {
            1 => Ok(()),
            n => Err(format!("{n} sessions")),
        }
    });
    let raised = limited(&IDLE.replace("limit = 10", "limit = 11"));
    speaker.reload(&config(&raised, OUR_NETWORKS)).unwrap();
    learns(&pair, 11);
}

#[test]
fn with_bird_too_the_session_restarts_after_the_pause() {
    let pair = Pair::new();
    let bird = bird(&pair, 9, 2, "");
    let restart = IDLE.replace("\"idle\"", "\"idle\", restartSeconds = 2");
    let mut speaker = pair.speaker(&limited(&restart));
    learns(&pair, 9);
    bird.cli("enable more").unwrap();
    says(&mut speaker, &["session down", "Cease"]);
    bird.cli("disable more").unwrap();
    learns(&pair, 9);
    assert!(speaker.logged(&["session established"]) >= 2);
}

/// A limit that is lowered below the present count counts at once.
#[test]
fn a_lowered_limit_ends_the_session() {
    let pair = Pair::new();
    let _bird = bird(&pair, 9, 0, "");
    let mut speaker = pair.speaker(&limited(IDLE));
    learns(&pair, 9);
    let lowered = limited(&IDLE.replace("limit = 10", "limit = 5"));
    speaker.reload(&config(&lowered, OUR_NETWORKS)).unwrap();
    says(&mut speaker, &["session down", "Cease"]);
    learns(&pair, 0);
}

/// FRR at 10.99.0.2 as AS 65002, which dials, with so many prefixes. It sends us our own route back, so there is always one
/// more.
fn frr(pair: &Pair, count: u8) -> Frr {
    let networks = (0..count).fold(String::new(), |mut text, i| {
        writeln!(text, "  network 10.10.{i}.0/24").unwrap();
        text
    });
    let config = format!(
        "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.99.0.1 remote-as 65001
 neighbor 10.99.0.1 timers 3 9
 neighbor 10.99.0.1 timers connect 1
 neighbor 10.99.0.1 advertisement-interval 0
 address-family ipv4 unicast
{networks} exit-address-family
"
    );
    Frr::start(&pair.peer, pair.dir(), &config).unwrap()
}

#[test]
fn with_frr_the_session_restarts_after_the_pause() {
    let pair = Pair::new();
    let frr = frr(&pair, 12);
    let restart = IDLE.replace("\"idle\"", "\"idle\", restartSeconds = 4");
    let mut speaker = pair.speaker(&limited(&restart));
    says(&mut speaker, &["session down", "Cease"]);
    eventually(SOON, "FRR knows why", || {
        frr.shows(
            "show bgp neighbors 10.99.0.1 json",
            &["\"lastErrorCodeSubcode\":\"0601\""],
        )
    });
    throughout(Duration::from_secs(2), "the pause lasts", || match speaker
        .logged(&["session established"])
    {
        1 => Ok(()),
        n => Err(format!("{n} sessions")),
    });
    frr.configure(&[
        "router bgp 65002",
        "address-family ipv4 unicast",
        "no network 10.10.0.0/24",
        "no network 10.10.1.0/24",
        "no network 10.10.2.0/24",
    ])
    .unwrap();
    learns(&pair, 9);
}

/// Ours are two prefixes, one of each family.
#[test]
fn a_limit_on_what_is_sent() {
    let pair = Pair::new();
    let bird = bird(&pair, 1, 0, "");
    let file = |networks: &str| {
        let out = IDLE
            .replace("maxPrefixes", "maxPrefixesOut")
            .replace("limit = 10", "limit = 1");
        config(&limited(&out), networks)
    };
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &file(OUR_NETWORKS)).unwrap();
    learns(&pair, 1);
    says(&mut speaker, &["close to their limit", "advertised=true"]);
    let networks = format!("{OUR_NETWORKS}, \"10.2.1.0/24\"");
    speaker.reload(&file(&networks)).unwrap();
    says(
        &mut speaker,
        &["session down", "more than 1 ipv4-unicast prefixes"],
    );
    eventually(SOON, "BIRD is told", || {
        bird.shows("show protocols all rb", &["Received: Administrative reset"])
    });
}

/// Outwards, too: a warning ends nothing, and with a pause the session comes back.
#[test]
fn a_limit_on_what_is_sent_warns_or_restarts() {
    let three = "\"10.2.0.0/24\", \"10.2.1.0/24\", \"10.2.2.0/24\"";
    let file = |action: &str, networks: &str| {
        let bound = format!("maxPrefixesOut.ipv4-unicast = {{ limit = 2, action = {action} }}");
        config(&limited(&bound), networks)
    };
    let pair = Pair::new();
    let bird = bird(&pair, 1, 0, "");
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &file("\"warn\"", three)).unwrap();
    says(
        &mut speaker,
        &[
            "more prefixes than their limit",
            "count=3",
            "advertised=true",
        ],
    );
    eventually(SOON, "BIRD has all of them", || {
        let words = ["10.2.0.0/24", "10.2.1.0/24", "10.2.2.0/24"];
        bird.shows("show route protocol rb", &words)
    });
    assert_eq!(speaker.logged(&["session down"]), 0);

    speaker
        .reload(&file("\"idle\", restartSeconds = 2", three))
        .unwrap();
    says(&mut speaker, &["session down", "more than 2 ipv4-unicast"]);
    speaker
        .reload(&file("\"idle\", restartSeconds = 2", "\"10.2.0.0/24\""))
        .unwrap();
    eventually(SOON, "it came back", || {
        match speaker.logged(&["session established"]) {
            0 | 1 => Err("not yet"),
            _ => Ok(()),
        }
    });
    learns(&pair, 1);
}

#[test]
fn a_limit_that_warns_of_frr() {
    let pair = Pair::new();
    let _frr = frr(&pair, 11);
    let mut speaker = pair.speaker(&limited(WARN));
    says(
        &mut speaker,
        &["more prefixes than their limit", "limit=10"],
    );
    learns(&pair, 11);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Whoever has the limit, the other end knows why the session went.
#[test]
fn limits_of_either_end_with_frr() {
    let frr = |pair: &Pair, more: &str| {
        let config = format!(
            "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 neighbor 10.99.0.1 remote-as 65001
 neighbor 10.99.0.1 timers 3 9
 neighbor 10.99.0.1 timers connect 1
 address-family ipv4 unicast
  neighbor 10.99.0.1 {more}
 exit-address-family
"
        );
        Frr::start(&pair.peer, pair.dir(), &config).unwrap()
    };
    // FRR counts a prefix only when the next one comes.
    let four = format!("{OUR_NETWORKS}, \"10.2.1.0/24\", \"10.2.2.0/24\", \"10.2.3.0/24\"");

    let pair = Pair::new();
    let _frr = frr(&pair, "maximum-prefix 2");
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &config(&limited(""), &four)).unwrap();
    says(
        &mut speaker,
        &["session down", "Maximum Number of Prefixes Reached"],
    );

    let pair = Pair::new();
    let frr = frr(&pair, "soft-reconfiguration inbound");
    let out = IDLE
        .replace("maxPrefixes", "maxPrefixesOut")
        .replace("limit = 10", "limit = 2");
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &config(&limited(&out), &four)).unwrap();
    says(&mut speaker, &["session down", "more than 2 ipv4-unicast"]);
    eventually(SOON, "FRR is told", || {
        frr.shows(
            "show bgp neighbors 10.99.0.1 json",
            &["\"lastErrorCodeSubcode\":\"0604\""],
        )
    });
}

fn range(keys: &str) -> String {
    format!(
        "[peers.rack]\nlistenRange = \"10.99.0.0/28\"\nholdTimeSeconds = 9\n\
         importPolicies = [\"accept-all\"]\n{keys}\n"
    )
}

#[test]
fn a_dynamic_peer_comes_and_goes() {
    let pair = Pair::new();
    let mut speaker = pair.speaker(&range("asNumber = \"external\""));
    let bird = bird(&pair, 1, 0, "");
    learns(&pair, 1);
    says(
        &mut speaker,
        &["dynamic peer added", "range=rack", "10.99.0.2"],
    );
    says(&mut speaker, &["session established", "rack/10.99.0.2"]);
    bird.cli("disable rb").unwrap();
    learns(&pair, 0);
    bird.cli("enable rb").unwrap();
    learns(&pair, 1);
    assert_eq!(speaker.logged(&["session established"]), 2);
    speaker.reload(&config("", OUR_NETWORKS)).unwrap();
    eventually(SOON, "BIRD knows that it is no peer any more", || {
        bird.shows("show protocols all rb", &["Received: Peer de-configured"])
    });
    learns(&pair, 0);
}

#[test]
fn a_range_admits_its_as_and_its_addresses() {
    for (keys, from) in [
        ("asNumber = \"internal\"", "10.99.0.2"),
        ("asNumber = 65003", "10.99.0.2"),
    ] {
        let pair = Pair::new();
        let _speaker = pair.speaker(&range(keys));
        let mut script = Script::connect(&pair.peer, from, "10.99.0.1");
        script.send(&open(65002, [10, 99, 0, 2]));
        let words = script.last_words().unwrap();
        assert_eq!(words[..2], [2, 2], "Bad Peer AS: {words:?}");
    }
    let pair = Pair::new();
    pair.peer.add_address("eth0", "10.99.0.16/16").unwrap();
    let _speaker = pair.speaker(&range("asNumber = 65002"));
    let mut stranger = Script::connect(&pair.peer, "10.99.0.16", "10.99.0.1");
    assert_eq!(stranger.next_kind(), None, "outside of the range");
    let _peer = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
}

/// Full is full, until one goes.
#[test]
fn a_range_has_a_limit_and_forgets_who_left() {
    let pair = Pair::new();
    for last in [3, 4] {
        pair.peer
            .add_address("eth0", &format!("10.99.0.{last}/16"))
            .unwrap();
    }
    let mut speaker = pair.speaker(&range("asNumber = 65002\nmaxSessions = 2"));
    let first = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let mut second = Script::establish(&pair.peer, "10.99.0.3", "10.99.0.1");
    let mut third = Script::connect(&pair.peer, "10.99.0.4", "10.99.0.1");
    assert_eq!(third.next_kind(), None);
    says(&mut speaker, &["listen range is full", "10.99.0.4"]);
    drop(first);
    eventually(SOON, "there is room again", || {
        let mut third = Script::connect(&pair.peer, "10.99.0.4", "10.99.0.1");
        third.send(&open(65002, [10, 99, 0, 4]));
        match third.next_kind() {
            Some(OPEN) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    second.keep_alive(Duration::from_secs(1));
    let goodbye = speaker.stop();
    goodbye.unwrap();
    let words = second.last_words().unwrap();
    assert_eq!(words[..2], [6, 2], "{NOTIFICATION}: {words:?}");
}

#[test]
fn a_range_with_a_key() {
    let pair = Pair::new();
    let _bird = bird(&pair, 1, 0, "password \"correct-horse\";");
    let keys = "asNumber = 65002\npassword = \"correct-horse\"";
    let speaker = pair.speaker(&range(keys));
    learns(&pair, 1);
    assert!(!speaker.log().contains("correct-horse"));

    let pair = Pair::new();
    let _frr = Frr::start(
        &pair.peer,
        pair.dir(),
        "router bgp 65002\n bgp router-id 10.99.0.2\n no bgp ebgp-requires-policy\n \
         neighbor 10.99.0.1 remote-as 65001\n neighbor 10.99.0.1 timers connect 1\n \
         neighbor 10.99.0.1 password correct-horse\n",
    )
    .unwrap();
    let mut speaker = pair.speaker(&range(keys));
    says(&mut speaker, &["session established"]);

    let pair = Pair::new();
    let _bird = bird(&pair, 1, 0, "password \"wrong\";");
    let speaker = pair.speaker(&range(keys));
    throughout(Duration::from_secs(4), "nobody comes in", || match speaker
        .logged(&["dynamic peer added"])
    {
        0 => Ok(()),
        n => Err(format!("{n} peers")),
    });
}

/// Of IPv6, with signatures and TTL security (RFC 5082) as well: who comes from further away is not heard.
#[test]
fn a_range_of_ipv6_with_a_key_and_ttl_security() {
    let range = "[peers.rack]\nlistenRange = \"fd00:99::/124\"\nasNumber = 65002\n\
                 holdTimeSeconds = 9\nimportPolicies = [\"accept-all\"]\n\
                 password = \"correct-horse\"\nttlSecurityHops = 1\n";
    let bird = |options: &str| {
        format!(
            "log stderr all;
            router id 10.99.0.2;
            protocol device {{ scan time 1; }}
            protocol static six {{ ipv6; route fd00:1::/64 blackhole; }}
            protocol bgp rb {{
                local fd00:99::2 as 65002;
                neighbor fd00:99::1 as 65001;
                hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
                {options}
                ipv6 {{ import all; export where source = RTS_STATIC; }};
            }}"
        )
    };
    let pair = Pair::new();
    let both = bird("password \"correct-horse\"; ttl security on;");
    let bird_there = Bird::start(&pair.peer, pair.dir(), &both).unwrap();
    let speaker = pair.speaker(range);
    pair.kernel_has(&[("fd00:1::/64", "via fd00:99::2 dev eth0")]);
    bird_there
        .configure(&bird("password \"correct-horse\";"))
        .unwrap();
    pair.kernel_has(&[]);
    throughout(Duration::from_secs(3), "with TTL 1 it stays out", || {
        pair.kernel_has_now(&[])
    });
    bird_there.configure(&both).unwrap();
    pair.kernel_has(&[("fd00:1::/64", "via fd00:99::2 dev eth0")]);
    assert!(!speaker.log().contains("correct-horse"));
    drop(bird_there);

    let pair = Pair::new();
    let _frr = Frr::start(
        &pair.peer,
        pair.dir(),
        "router bgp 65002\n bgp router-id 10.99.0.2\n no bgp ebgp-requires-policy\n \
         neighbor fd00:99::1 remote-as 65001\n neighbor fd00:99::1 timers connect 1\n \
         neighbor fd00:99::1 password correct-horse\n neighbor fd00:99::1 ttl-security hops 1\n",
    )
    .unwrap();
    let mut speaker = pair.speaker(range);
    says(&mut speaker, &["session established", "rack/fd00:99::2"]);
}
