//! Routes of IPv6 where the other tests have IPv4: reflection, next hops, several paths, bounds. Sessions are over IPv4, or
//! over IPv6 where it says so.

use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::wait::eventually;
use serde_json::json;

use crate::fixture::{Pair, SOON, peer};
use crate::three::{Three, bird, bird_has, frr, frr_has, frr_lacks, ours, soon};

const LEFT: &str = "fd00:1::/48";
const SECOND: &str = "fd00:1:1::/48";
const OURS: &str = "10.2.0.0/24";

/// A BIRD that has these routes of IPv6 and says them over its IPv4 session.
fn left_bird(three: &Three, asn: u32, routes: &[&str], channel: &str) -> Bird {
    let routes = routes
        .iter()
        .map(|route| format!("route {route} blackhole; "));
    let routes: String = routes.collect();
    let config = bird("left", asn, &[], "strict bind yes;", "")
        .replace(
            "protocol bgp rb {",
            &format!("protocol static six {{ ipv6; {routes} }}\nprotocol bgp rb {{"),
        )
        .replace(
            "gateway recursive; };",
            &format!(
                "gateway recursive; }}; ipv6 {{ import all; export filter rb_out; gateway recursive; {channel} }};"
            ),
        );
    three.left_bird(&config)
}

fn right_frr(three: &Three, asn: u32, network: &str, more: &str) -> Frr {
    let six = format!(
        " address-family ipv6 unicast\n  network {network}\n  neighbor 10.98.0.1 activate\n{more}"
    );
    three.right_frr(&(frr(asn, &[], "") + &six))
}

fn both(peer: String) -> String {
    peer.replace("[\"ipv4-unicast\"]", "[\"ipv4-unicast\", \"ipv6-unicast\"]")
}

/// RFC 4456, with the next hops that routes came with.
#[test]
fn clients_hear_of_each_other() {
    let three = Three::new();
    let bird = left_bird(&three, 65001, &[LEFT], "");
    let frr = right_frr(&three, 65001, "fd00:3::/48", "");
    let peers = |client: &str| {
        both("clusterId = \"192.0.2.77\"\n".to_owned() + &ours("left", 65001, client))
            + &both(ours("right", 65001, client))
    };
    let speaker = three.speaker(&peers(""));
    frr_has(&frr, OURS, &[("/valid", json!(true))]);
    Three::reload(&speaker, &peers("routeReflectorClient = true"));
    frr_has(
        &frr,
        LEFT,
        &[
            ("/originatorId", json!("10.99.0.2")),
            ("/clusterList/list", json!(["192.0.2.77"])),
            ("/nexthops/0/ip", json!("fd00:99::2")),
        ],
    );
    bird_has(
        &bird,
        "fd00:3::/48",
        &[
            "BGP.originator_id: 10.98.0.2",
            "BGP.cluster_list: 192.0.2.77",
            "BGP.next_hop: fd00:98::2",
        ],
    );
    Three::reload(&speaker, &peers(""));
    soon("what was reflected is withdrawn", || frr_lacks(&frr, LEFT));
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn next_hops_to_external_and_internal_peers() {
    let (auto, keep, own) = ("", "nextHop = \"keep\"", "nextHop = \"self\"");
    let (received, ours_there) = ("fd00:99::2", "fd00:98::1");
    // Each differs from the one before it.
    for (asn, modes) in [
        (
            65003,
            [(auto, ours_there), (keep, received), (own, ours_there)],
        ),
        (
            65001,
            [(auto, received), (own, ours_there), (keep, received)],
        ),
    ] {
        let three = Three::new();
        let _bird = left_bird(&three, 65002, &[LEFT], "");
        let frr = right_frr(&three, asn, "fd00:3::/48", "");
        let peers = |more: &str| both(ours("left", 65002, "")) + &both(ours("right", asn, more));
        let mut speaker = three.speaker(&peers(""));
        eventually(SOON, "it runs", || speaker.says(&["speaker started"]));
        for (mode, next_hop) in modes {
            Three::reload(&speaker, &peers(mode));
            frr_has(&frr, LEFT, &[("/nexthops/0/ip", json!(next_hop))]);
        }
        assert_eq!(speaker.logged(&["session down"]), 0);
    }
}

/// RFC 7911: two upstreams, and a peer that takes both paths.
#[test]
fn all_paths_go_to_who_takes_them() {
    let three = Three::new();
    three.left.peer.add_address("eth0", "10.99.0.3/16").unwrap();
    three
        .left
        .peer
        .add_address("eth0", "fd00:99::3/64")
        .unwrap();
    let _one = left_bird(&three, 65002, &[LEFT], "");
    let second = bird("left", 65003, &[], "strict bind yes;", "bgp_path.prepend(65003);")
        .replace("10.99.0.2", "10.99.0.3")
        .replace(
            "protocol bgp rb {",
            &format!("protocol static six {{ ipv6; route {LEFT} blackhole; }}\nprotocol bgp rb {{"),
        )
        .replace(
            "passive yes;",
            "",
        )
        .replace(
            "gateway recursive; };",
            "gateway recursive; }; ipv6 { import all; export filter rb_out; next hop address fd00:99::3; };",
        );
    let dir = three.left.dir().join("second");
    std::fs::create_dir_all(&dir).unwrap();
    let _second = Bird::start(&three.left.peer, &dir, &second).unwrap();
    let frr = right_frr(&three, 65004, "fd00:3::/48", "");
    let other = ours("left", 65003, "passive = true")
        .replace("peers.left", "peers.other")
        .replace("10.99.0.2", "10.99.0.3");
    let all = "addPath.ipv6-unicast = { receive = true, send = \"all\" }";
    let peers = |more: &str| {
        both(ours("left", 65002, "")) + &both(other.clone()) + &both(ours("right", 65004, more))
    };
    let speaker = three.speaker(&peers(all));
    let ids = || -> Result<Vec<u64>, String> {
        let line = format!("show bgp ipv6 unicast {LEFT} json");
        let text = frr.cli(&line).map_err(|e| e.to_string())?;
        let answer: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let paths = answer["paths"].as_array().into_iter().flatten();
        Ok(paths
            .map(|path| path["addpathRxId"].as_u64().unwrap_or(0))
            .collect())
    };
    eventually(SOON, "FRR has both paths", || {
        let ids = ids()?;
        let right = ids.len() == 2 && ids[0] != ids[1] && !ids.contains(&0);
        right.then_some(()).ok_or(format!("{ids:?}"))
    });
    // Without, only the best one, after another session.
    Three::reload(&speaker, &peers(""));
    frr_has(&frr, LEFT, &[("/aspath/string", json!("65001 65002"))]);
    eventually(SOON, "and no other", || match ids()?.as_slice() {
        [0] => Ok(()),
        ids => Err(format!("{ids:?}")),
    });
}

/// RFC 4486, by family: IPv6 has a bound, IPv4 has none.
#[test]
fn a_bound_of_its_own() {
    let three = Three::new();
    let bird = left_bird(&three, 65002, &[LEFT, SECOND], "");
    let limit = |n: u32| format!("maxPrefixes.ipv6-unicast = {{ limit = {n}, action = \"idle\" }}");
    let peers = |n: u32| both(ours("left", 65002, &limit(n)));
    let mut speaker = three.speaker(&peers(1));
    eventually(SOON, "the session ends", || {
        speaker.says(&["more prefixes than their limit", "ipv6-unicast", "limit=1"])
    });
    eventually(SOON, "BIRD knows why", || {
        let words = ["Received: Maximum number of prefixes reached"];
        bird.shows("show protocols all rb", &words)
    });
    Three::reload(&speaker, &peers(2));
    let via = "via fd00:99::2 dev eth0";
    three.left.kernel_has(&[(LEFT, via), (SECOND, via)]);
}

/// Ours, once the kernel has made sure that it is nobody else's.
fn link_local(pair: &Pair) -> String {
    eventually(SOON, "there is a link-local address", || {
        let addresses = "ip -6 -br address show dev eth0 scope link -tentative";
        let line = pair.us.run(addresses).map_err(|e| e.to_string())?;
        let mut words = line.split_whitespace();
        let found = words.find_map(|word| word.strip_suffix("/64"));
        found.map(str::to_owned).ok_or(line)
    })
}

/// RFC 2545 §3: to a peer on our link the link-local address as well, over a session of IPv6.
#[test]
fn the_link_local_address_goes_along() {
    let pair = Pair::new();
    let text = "log stderr all;
        router id 10.99.0.2;
        protocol device { scan time 1; }
        protocol bgp rb {
            local fd00:99::2 as 65002;
            neighbor fd00:99::1 as 65001;
            passive yes; hold time 9;
            ipv6 { import all; export none; };
        }";
    let link_local = link_local(&pair);
    let bird = Bird::start(&pair.peer, pair.dir(), text).unwrap();
    let _speaker = pair.speaker(&peer("bird", "fd00:99::2", ""));
    let both = format!("BGP.next_hop: fd00:99::1 {link_local}");
    bird_has(&bird, "fd00:2::/64", &[&both]);

    let pair = Pair::new();
    let text = "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 timers bgp 3 9
 neighbor fd00:99::1 remote-as 65001
 neighbor fd00:99::1 passive
 address-family ipv6 unicast
  neighbor fd00:99::1 activate
 exit-address-family
";
    let link_local = self::link_local(&pair);
    let frr = Frr::start(&pair.peer, pair.dir(), text).unwrap();
    let _speaker = pair.speaker(&peer("frr", "fd00:99::2", ""));
    frr_has(
        &frr,
        "fd00:2::/64",
        &[
            ("/nexthops/0/ip", json!("fd00:99::1")),
            ("/nexthops/0/scope", json!("global")),
            ("/nexthops/1/ip", json!(link_local)),
            ("/nexthops/1/scope", json!("link-local")),
        ],
    );
}
