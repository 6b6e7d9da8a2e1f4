//! GoBGP as the peer.

use std::time::Duration;

use roadbed_tests::gobgp::Gobgp;
use roadbed_tests::wait::{eventually, throughout};
use serde_json::Value;

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
const V4_MORE: (&str, &str) = ("10.1.1.0/24", "via 10.99.0.2 dev eth0");
const V6: (&str, &str) = ("fd00:1::/64", "via fd00:99::2 dev eth0");

/// AS 65002 with us as its only neighbour, which dials; `more` are further lines of the neighbour.
pub(crate) fn gobgp_config(remote: &str, more: &str) -> String {
    let family = |name: &str| {
        format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n"
        )
    };
    format!(
        "[global.config]
as = 65002
router-id = \"10.99.0.2\"
[[neighbors]]
[neighbors.config]
neighbor-address = \"{remote}\"
peer-as = 65001
{more}
[neighbors.timers.config]
hold-time = 9
keepalive-interval = 3
[neighbors.transport.config]
passive-mode = true
{}{}",
        family("ipv4-unicast"),
        family("ipv6-unicast")
    )
}

pub(crate) fn announce(gobgp: &Gobgp<'_>, (prefix, via): (&str, &str), more: &str) {
    let next_hop = via.split(' ').nth(1).unwrap();
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    gobgp
        .cli(&format!(
            "global rib -a {family} add {prefix} nexthop {next_hop} {more}"
        ))
        .unwrap();
}

/// The only path that GoBGP has to a prefix; null without one.
fn path(gobgp: &Gobgp<'_>, prefix: &str) -> Result<Value, String> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let rib = gobgp
        .json(&format!("global rib -a {family}"))
        .map_err(|error| error.to_string())?;
    Ok(rib[prefix][0].clone())
}

/// A path attribute's object, by its type code.
fn attribute(path: &Value, code: u64) -> Value {
    let mut attributes = path["attrs"].as_array().into_iter().flatten();
    attributes
        .find(|attribute| attribute["type"] == code)
        .cloned()
        .unwrap_or_default()
}

/// Routes both ways, their withdrawal, both kinds of soft reset, and why we went; over either transport.
fn check_exchange(local: &str, remote: &str) {
    let pair = Pair::new();
    let gobgp = Gobgp::start(&pair.peer, pair.dir(), &gobgp_config(remote, "")).unwrap();
    for route in [V4, V4_MORE, V6] {
        announce(&gobgp, route, "");
    }
    pair.default_routes();
    if !local.contains(':') {
        // Left to itself it names ::ffff:10.99.0.2 as next hop: no address that we could send to, even where a default
        // route leads everywhere.
        gobgp.cli("global rib -a ipv6 add fd00:7::/64").unwrap();
    }
    let mut speaker = pair.speaker(&peer("gobgp", local, ""));
    pair.kernel_has(&[V4, V4_MORE, V6]);
    for (prefix, next_hop) in [("10.2.0.0/24", "10.99.0.1"), ("fd00:2::/64", "fd00:99::1")] {
        eventually(SOON, &format!("GoBGP has {prefix}"), || {
            let found = path(&gobgp, prefix)?;
            let as_path = &attribute(&found, 2)["as_paths"][0]["asns"];
            let hop = match attribute(&found, 3) {
                Value::Null => attribute(&found, 14),
                next_hop => next_hop,
            };
            let right = *as_path == serde_json::json!([65001]) && hop["nexthop"] == next_hop;
            right.then_some(()).ok_or(found.to_string())
        });
    }

    gobgp.cli("global rib -a ipv4 del 10.1.1.0/24").unwrap();
    pair.kernel_has(&[V4, V6]);
    gobgp.cli("global rib -a ipv6 del fd00:1::/64").unwrap();
    pair.kernel_has(&[V4]);
    announce(&gobgp, V6, "");
    pair.kernel_has(&[V4, V6]);

    for way in ["softresetin", "softresetout"] {
        gobgp.cli(&format!("neighbor {remote} {way}")).unwrap();
    }
    throughout(Duration::from_secs(1), "soft resets lose nothing", || {
        pair.kernel_has_now(&[V4, V6])?;
        match path(&gobgp, "10.2.0.0/24")? {
            Value::Null => Err("our network is gone".to_owned()),
            _ => Ok(()),
        }
    });
    let networks = config(&peer("gobgp", local, ""), "\"fd00:2::/64\"");
    speaker.reload(&networks).unwrap();
    eventually(SOON, "GoBGP lost the withdrawn network", || {
        match path(&gobgp, "10.2.0.0/24")? {
            Value::Null => Ok(()),
            found => Err(found.to_string()),
        }
    });
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);

    gobgp
        .cli(&format!("neighbor {remote} disable maintenance"))
        .unwrap();
    eventually(SOON, "the log tells why it went", || {
        speaker.says(&["session down", "Cease", "Administrative Shutdown"])
    });
    pair.kernel_has(&[]);
    gobgp.cli(&format!("neighbor {remote} enable")).unwrap();
    pair.kernel_has(&[V4, V6]);
    speaker.stop().unwrap();
}

#[test]
fn routes_go_both_ways_over_ipv4() {
    check_exchange("10.99.0.2", "10.99.0.1");
}

#[test]
fn routes_go_both_ways_over_ipv6() {
    check_exchange("fd00:99::2", "fd00:99::1");
}

/// TCP-MD5, and every attribute that a policy of ours may set, as GoBGP decodes it.
#[test]
fn what_policies_set_arrives_over_a_signed_session() {
    let pair = Pair::new();
    let key = "auth-password = \"correct-horse\"";
    let gobgp = Gobgp::start(&pair.peer, pair.dir(), &gobgp_config("10.99.0.1", key)).unwrap();
    announce(
        &gobgp,
        V4,
        "origin egp aspath 4200000001,3356 community 65002:1 large-community 65002:1:2 rt 65002:9 med 30",
    );
    let more =
        "password = \"correct-horse\"\nexportPolicies = [\"out\"]\nimportPolicies = [\"in\"]";
    let peer = peer("gobgp", "10.99.0.2", more).replace("importPolicies = [\"accept-all\"]\n", "");
    let policies = r#"
[[policies.out.rules]]
match = { sources = ["static"] }
set = { med = 77, prependAs = { asNumber = 4200000005, count = 2 }, communities = { add = ["65001:7"] }, largeCommunities = { add = ["65001:8:9"] }, extendedCommunities = { add = ["rt:65001:10"] } }
action = "accept"
# Every value that GoBGP set has to be there.
[[policies.in.rules]]
match = { asPath = "^65002 4200000001 3356$", communities = ["65002:1"], largeCommunities = ["65002:1:2"], extendedCommunities = ["rt:65002:9"], nextHops = ["10.99.0.2/32"] }
action = "accept"
"#;
    let file = config(&peer, OUR_NETWORKS) + policies;
    let _speaker = roadbed_tests::bgpd::Bgpd::start(&pair.us, pair.dir(), &file).unwrap();
    pair.kernel_has(&[V4]);
    eventually(SOON, "GoBGP has our network as the policy wants it", || {
        let found = path(&gobgp, "10.2.0.0/24")?;
        let path = attribute(&found, 2)["as_paths"][0]["asns"].to_string();
        let right = path == "[65001,4200000005,4200000005]"
            && attribute(&found, 4)["metric"] == 77
            && attribute(&found, 8)["communities"] == serde_json::json!([(65001_u64 << 16) + 7])
            && attribute(&found, 16).to_string().contains("65001:10")
            && attribute(&found, 32)["value"][0]["LocalData2"] == 9;
        right.then_some(()).ok_or(found.to_string())
    });
}

/// What must not be used: AS_SET (RFC 9774), AS 0 (RFC 7607), our own AS.
#[test]
fn paths_that_are_not_used() {
    let pair = Pair::new();
    let gobgp = Gobgp::start(&pair.peer, pair.dir(), &gobgp_config("10.99.0.1", "")).unwrap();
    let via = V4.1;
    for (prefix, path) in [
        ("10.1.0.0/24", "3356"),
        ("10.1.1.0/24", "3356,{64600,64601}"),
        ("10.1.2.0/24", "0,3356"),
        ("10.1.3.0/24", "3356,65001"),
    ] {
        announce(&gobgp, (prefix, via), &format!("aspath {path}"));
    }
    let speaker = pair.speaker(&peer("gobgp", "10.99.0.2", ""));
    pair.kernel_has(&[V4]);
    throughout(Duration::from_secs(1), "the others stay out", || {
        pair.kernel_has_now(&[V4])
    });
    // It had said all four.
    gobgp
        .shows(
            "neighbor 10.99.0.1 adj-out",
            &[
                "65002 3356 {64600,64601}",
                "65002 0 3356",
                "65002 3356 65001",
            ],
        )
        .unwrap();
    assert_eq!(speaker.logged(&["session down"]), 0);
}
