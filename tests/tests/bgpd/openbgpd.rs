//! OpenBGPD as the peer.

use std::time::Duration;

use roadbed_tests::openbgpd::Openbgpd;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{Pair, SOON, config, peer};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
const V4_MORE: (&str, &str) = ("10.1.1.0/24", "via 10.99.0.2 dev eth0");
const V6: (&str, &str) = ("fd00:1::/64", "via fd00:99::2 dev eth0");
const V6_MORE: (&str, &str) = ("fd00:1:1::/64", "via fd00:99::2 dev eth0");

/// AS 65002, passive, both families, whatever the transport; `more` are further lines of its neighbour.
fn openbgpd_config(remote: &str, networks: &[&str], more: &str) -> String {
    let networks: String = networks
        .iter()
        .map(|network| format!("network {network}\n"))
        .collect();
    format!(
        "AS 65002
router-id 10.99.0.2
listen on 10.99.0.2
listen on fd00:99::2
holdtime 9
{networks}neighbor {remote} {{
  remote-as 65001
  passive
  announce IPv4 unicast
  announce IPv6 unicast
{more}
}}
allow from any
allow to any
"
    )
}

fn start(pair: &Pair, config: &str) -> Openbgpd {
    Openbgpd::start(&pair.peer, pair.dir(), config).unwrap()
}

#[track_caller]
fn sees(openbgpd: &Openbgpd, prefix: &str, words: &[&str]) {
    let line = format!("show rib detail {prefix}");
    eventually(SOON, &format!("OpenBGPD has {prefix}: {words:?}"), || {
        openbgpd.shows(&line, words)
    });
}

fn lacks(openbgpd: &Openbgpd, prefix: &str) -> Result<(), String> {
    let rib = openbgpd.cli("show rib").map_err(|e| e.to_string())?;
    (!rib.contains(prefix)).then_some(()).ok_or(rib)
}

/// How many UPDATEs brought prefixes, in what `show neighbor` says.
fn updates_received(statistics: &str) -> u32 {
    let after = statistics.split("Update statistics: Sent Received Pending Prefixes ");
    let numbers: Vec<u32> = after
        .last()
        .into_iter()
        .flat_map(|text| text.split(' '))
        .filter_map(|word| word.parse().ok())
        .collect();
    // Prefixes sent and received, updates sent and received.
    numbers[3]
}

/// Routes both ways, their withdrawal, and refreshes (RFC 2918), in a frame (RFC 7313) when that is agreed on; over either
/// transport.
///
/// The routes that OpenBGPD announces are of the transport's family: as next hop of the other family it names its loopback
/// address, and we use no such route, even where a default route leads everywhere. What we announce is of both.
fn check_exchange(
    (local, remote): (&str, &str),
    one: (&str, &str),
    more: (&str, &str),
    enhanced: bool,
) {
    let pair = Pair::new();
    let refresh = if enhanced { "yes" } else { "no" };
    let options = format!("  announce enhanced refresh {refresh}");
    let file = |networks: &[&str]| openbgpd_config(remote, networks, &options);
    let openbgpd = start(&pair, &file(&[V4.0, V6.0, more.0]));
    pair.default_routes();
    let speaker = pair.speaker(&peer("openbgpd", local, ""));
    pair.kernel_has(&[one, more]);
    for (prefix, next_hop) in [("10.2.0.0/24", "10.99.0.1"), ("fd00:2::/64", "fd00:99::1")] {
        let via = format!("Nexthop {next_hop} ");
        sees(&openbgpd, prefix, &["65001\n", &via, "Origin IGP"]);
    }
    openbgpd.reload(&file(&[V4.0, V6.0])).unwrap();
    pair.kernel_has(&[one]);
    openbgpd.reload(&file(&[one.0, more.0])).unwrap();
    pair.kernel_has(&[one, more]);

    let statistics = || -> Result<String, String> {
        let shown = openbgpd
            .cli(&format!("show neighbor {remote}"))
            .map_err(|error| error.to_string())?;
        Ok(shown.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    // One of each family, sent and received.
    let before = statistics().unwrap();
    assert!(before.contains("End-of-Rib 2 2"), "{before}");
    assert!(updates_received(&before) == 2, "{before}");
    openbgpd.cli(&format!("neighbor {remote} refresh")).unwrap();
    eventually(SOON, "both families are sent again", || {
        let shown = statistics()?;
        let frames = match enhanced {
            true => "Request 2 0 Begin-of-RR 0 2 End-of-RR 0 2",
            false => "Request 2 0 Begin-of-RR 0 0 End-of-RR 0 0",
        };
        let again = updates_received(&shown) == 4 && shown.contains(frames);
        again.then_some(()).ok_or(shown)
    });
    throughout(Duration::from_secs(1), "a refresh loses nothing", || {
        openbgpd
            .shows("show rib", &["10.2.0.0/24", "fd00:2::/64"])
            .map_err(|error| error.to_string())?;
        pair.kernel_has_now(&[one, more])
    });
    speaker
        .reload(&config(&peer("openbgpd", local, ""), "\"fd00:2::/64\""))
        .unwrap();
    eventually(SOON, "OpenBGPD lost the withdrawn network", || {
        lacks(&openbgpd, "10.2.0.0/24")
    });
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn routes_go_both_ways_over_ipv4() {
    check_exchange(("10.99.0.2", "10.99.0.1"), V4, V4_MORE, true);
}

#[test]
fn routes_go_both_ways_over_ipv6() {
    check_exchange(("fd00:99::2", "fd00:99::1"), V6, V6_MORE, false);
}

/// RFC 9003, both ways, whole sentences and not ASCII alone.
#[test]
fn either_end_says_why_it_goes() {
    let pair = Pair::new();
    let openbgpd = start(&pair, &openbgpd_config("10.99.0.1", &[V4.0], ""));
    let mut speaker = pair.speaker(&peer("openbgpd", "10.99.0.2", ""));
    pair.kernel_has(&[V4]);
    openbgpd
        .cli("neighbor 10.99.0.1 clear Rack-7-is-moved:-Grüße")
        .unwrap();
    eventually(SOON, "the log has OpenBGPD's words", || {
        speaker.says(&["session down", "Rack-7-is-moved:-Grüße"])
    });
    pair.kernel_has(&[V4]);
    assert_eq!(speaker.logged(&["session established"]), 2);
    speaker.stop().unwrap();
    eventually(SOON, "OpenBGPD has ours", || {
        openbgpd.shows("show neighbor 10.99.0.1", &["stopped by its operator"])
    });
}

/// RFC 9234: the session with its counterpart, ONLY_TO_CUSTOMER on what goes down, and a refusal of what does not fit.
#[test]
fn roles() {
    let pair = Pair::new();
    let theirs = |role: &str| {
        openbgpd_config(
            "10.99.0.1",
            &[V4.0],
            &format!("  announce policy {role} enforce"),
        )
    };
    let ours = |role: &str| {
        peer(
            "openbgpd",
            "10.99.0.2",
            &format!("role = \"{role}\"\nroleStrict = true"),
        )
    };
    let openbgpd = start(&pair, &theirs("customer"));
    let mut speaker = pair.speaker(&ours("provider"));
    pair.kernel_has(&[V4]);
    sees(&openbgpd, "10.2.0.0/24", &["65001\n", "OTC: 65001"]);

    // A new role resets the session, and OpenBGPD still is a customer.
    speaker
        .reload(&config(&ours("customer"), "\"10.2.0.0/24\""))
        .unwrap();
    eventually(
        SOON,
        "we refuse a customer as our provider, or it us",
        || {
            speaker
                .says(&["did not come up", "the peer says that it is our customer"])
                .or_else(|_| speaker.says(&["OPEN Message Error/Role Mismatch"]))
        },
    );
    pair.kernel_has(&[]);
}
