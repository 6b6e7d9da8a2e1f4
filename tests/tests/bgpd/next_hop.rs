//! Next hops of the kernel's own truth: routes go when theirs cannot be reached, and come back with it. The session is on
//! another link and sees none of it.

use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{Pair, SOON, peer};
use crate::script::{Script, attribute, mandatory, update};

const BEYOND: [u8; 4] = [10, 98, 0, 2];
const ROUTE: (&str, &str) = ("10.1.0.0/24", "via 10.98.0.2 dev eth1");
const NLRI: [u8; 4] = [24, 10, 1, 0];

/// A second link, over which the announced next hop lies.
fn two_links() -> Pair {
    let pair = Pair::new();
    Ns::link(
        (&pair.us, "eth1", &["10.98.0.1/24"]),
        (&pair.peer, "eth1", &["10.98.0.2/24"]),
    )
    .unwrap();
    pair
}

fn with_session() -> (Pair, Bgpd, Script) {
    let pair = two_links();
    let speaker = pair.speaker(&peer("script", "10.99.0.2", "passive = true"));
    let script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    (pair, speaker, script)
}

#[test]
fn a_link_that_goes_down_takes_its_routes_and_brings_them_back() {
    let (pair, speaker, mut script) = with_session();
    script.send(&update(&mandatory(BEYOND), &NLRI));
    pair.kernel_has(&[ROUTE]);
    for _ in 0..2 {
        pair.us.run("ip link set eth1 down").unwrap();
        pair.kernel_has(&[]);
        script.keep_alive(Duration::from_millis(500));
        pair.kernel_has_now(&[]).unwrap();
        pair.us.run("ip link set eth1 up").unwrap();
        pair.kernel_has(&[ROUTE]);
    }
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// The other end goes down: our address stays, the carrier is lost.
#[test]
fn lost_carrier_takes_routes_and_its_return_brings_them_back() {
    let (pair, speaker, mut script) = with_session();
    script.send(&update(&mandatory(BEYOND), &NLRI));
    pair.kernel_has(&[ROUTE]);
    for _ in 0..2 {
        pair.peer.run("ip link set eth1 down").unwrap();
        pair.kernel_has(&[]);
        script.keep_alive(Duration::from_millis(500));
        pair.peer.run("ip link set eth1 up").unwrap();
        pair.kernel_has(&[ROUTE]);
    }
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn a_next_hop_that_nothing_leads_to_is_not_used_until_something_does() {
    let (pair, speaker, mut script) = with_session();
    script.send(&update(&mandatory([10, 97, 0, 2]), &NLRI));
    script.send(&update(&mandatory(BEYOND), &[24, 10, 1, 1]));
    let other = ("10.1.1.0/24", ROUTE.1);
    pair.kernel_has(&[other]);
    throughout(
        Duration::from_secs(1),
        "only the resolved one is used",
        || pair.kernel_has_now(&[other]),
    );
    script.keep_alive(Duration::from_millis(100));
    // Recursive: the route's next hop is resolved through another route, whose gateway the kernel is given.
    pair.us
        .run("ip route add 10.97.0.0/24 via 10.98.0.2")
        .unwrap();
    pair.kernel_has(&[ROUTE, other]);
    pair.us.run("ip route del 10.97.0.0/24").unwrap();
    pair.kernel_has(&[other]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Our own routes never resolve a next hop (it would hold itself up).
#[test]
fn a_learned_route_does_not_resolve_a_next_hop() {
    let (pair, _speaker, mut script) = with_session();
    script.send(&update(&mandatory(BEYOND), &[24, 10, 97, 0]));
    script.send(&update(&mandatory([10, 97, 0, 2]), &NLRI));
    let learned = ("10.97.0.0/24", ROUTE.1);
    pair.kernel_has(&[learned]);
    throughout(Duration::from_secs(1), "no route through our own", || {
        pair.kernel_has_now(&[learned])
    });
    script.keep_alive(SOON / 20);
}

#[test]
fn the_better_of_two_paths_is_used_and_the_other_after_it() {
    let pair = two_links();
    pair.peer.add_address("eth0", "10.99.0.3/16").unwrap();
    let one = peer("one", "10.99.0.2", "passive = true");
    let other = peer("other", "10.99.0.3", "passive = true");
    let _speaker = pair.speaker(&(one + &other));
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let mut other = Script::establish(&pair.peer, "10.99.0.3", "10.99.0.1");
    let mut longer = mandatory([10, 99, 0, 3]);
    longer[1] = attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xea, 0, 0, 0xfd, 0xeb]);
    other.send(&update(&longer, &NLRI));
    pair.kernel_has(&[(ROUTE.0, "via 10.99.0.3 dev eth0")]);
    script.send(&update(&mandatory(BEYOND), &NLRI));
    pair.kernel_has(&[ROUTE]);
    pair.us.run("ip link set eth1 down").unwrap();
    pair.kernel_has(&[(ROUTE.0, "via 10.99.0.3 dev eth0")]);
    pair.us.run("ip link set eth1 up").unwrap();
    pair.kernel_has(&[ROUTE]);
    other.keep_alive(Duration::from_millis(100));
}

/// Routes of an internal peer whose next hop is behind two links: they follow the routes that lead to it. Ours, of another
/// protocol, are as good as an IGP's.
fn follows_foreign_routes(pair: &Pair) {
    let peers = peer("internal", "10.99.0.2", "").replace("65002", "65001");
    let speaker = pair.speaker(&peers);
    let at = |gateway: [&str; 2], device: &str| {
        let via = gateway.map(|address| format!("via {address} dev {device}"));
        [
            ("10.1.0.0/24", via[0].clone()),
            ("fd00:1::/64", via[1].clone()),
        ]
    };
    let near = at(["10.99.0.2", "fd00:99::2"], "eth0");
    let far = at(["10.98.0.2", "fd00:98::2"], "eth1");
    type Step<'a> = (&'a [&'a str], Option<&'a [(&'a str, String); 2]>);
    let steps: [Step<'_>; 5] = [
        (
            &[
                "route add 10.97.0.0/24 via 10.98.0.2 proto ospf",
                "-6 route add fd00:97::/64 via fd00:98::2 proto ospf",
            ],
            Some(&far),
        ),
        (
            &[
                "route add 10.97.0.2/32 via 10.99.0.2",
                "-6 route add fd00:97::2/128 via fd00:99::2",
            ],
            Some(&near),
        ),
        (
            &["route del 10.97.0.2/32", "-6 route del fd00:97::2/128"],
            Some(&far),
        ),
        (
            &["route del 10.97.0.0/24", "-6 route del fd00:97::/64"],
            None,
        ),
        (
            &[
                "route add 10.97.0.0/24 via 10.99.0.2",
                "-6 route add fd00:97::/64 via fd00:99::2",
            ],
            Some(&near),
        ),
    ];
    for (commands, expected) in steps {
        for command in commands {
            pair.us.run(&format!("ip {command}")).unwrap();
        }
        let routes: Vec<(&str, &str)> = expected
            .into_iter()
            .flatten()
            .map(|(to, via)| (*to, via.as_str()))
            .collect();
        pair.kernel_has(&routes);
    }
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

fn two_links_of_both_families() -> Pair {
    let pair = two_links();
    pair.us.add_address("eth1", "fd00:98::1/64").unwrap();
    pair.peer.add_address("eth1", "fd00:98::2/64").unwrap();
    pair
}

#[test]
fn next_hops_of_an_internal_bird_follow_foreign_routes() {
    let pair = two_links_of_both_families();
    let _bird = Bird::start(
        &pair.peer,
        pair.dir(),
        "log stderr all;
        router id 10.99.0.2;
        protocol device {}
        protocol static four { ipv4; route 10.1.0.0/24 blackhole; }
        protocol static six { ipv6; route fd00:1::/64 blackhole; }
        protocol bgp rb {
            local 10.99.0.2 as 65001;
            neighbor 10.99.0.1 as 65001;
            passive yes; hold time 9;
            ipv4 { import all; export filter { bgp_next_hop = 10.97.0.2; accept; }; };
            ipv6 { import all; export filter { bgp_next_hop = fd00:97::2; accept; }; };
        }",
    )
    .unwrap();
    follows_foreign_routes(&pair);
}

#[test]
fn next_hops_of_an_internal_frr_follow_foreign_routes() {
    let pair = two_links_of_both_families();
    let _frr = Frr::start(
        &pair.peer,
        pair.dir(),
        "hostname frr
router bgp 65001
 bgp router-id 10.99.0.2
 no bgp default ipv4-unicast
 no bgp network import-check
 timers bgp 3 9
 neighbor 10.99.0.1 remote-as 65001
 neighbor 10.99.0.1 passive
 neighbor 10.99.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor 10.99.0.1 activate
  neighbor 10.99.0.1 route-map beyond out
 exit-address-family
 address-family ipv6 unicast
  network fd00:1::/64
  neighbor 10.99.0.1 activate
  neighbor 10.99.0.1 route-map beyond6 out
 exit-address-family
route-map beyond permit 10
 set ip next-hop 10.97.0.2
route-map beyond6 permit 10
 set ipv6 next-hop global fd00:97::2
",
    )
    .unwrap();
    follows_foreign_routes(&pair);
}

/// A peer that announces its link, parts of it, and its own addresses, as `redistribute connected` does: the connected route
/// leads there already, and a route by way of what is inside of it would cut off all others.
#[test]
fn a_link_that_is_announced_over_itself() {
    let pair = Pair::new();
    let link = [
        "10.99.0.0/16",
        "10.99.0.0/24",
        "10.99.0.2/32",
        "fd00:99::/64",
        "fd00:99::/112",
        "fd00:99::2/128",
    ];
    let static_routes = |v6: bool| -> String {
        let all = link
            .iter()
            .chain(&["10.1.0.0/24", "fd00:1::/64", "0.0.0.0/0", "10.0.0.0/8"]);
        let of = all.filter(|route| route.contains(':') == v6);
        of.map(|route| format!("route {route} blackhole; "))
            .collect()
    };
    let text = format!(
        "log stderr all;
        router id 10.99.0.2;
        protocol device {{ scan time 1; }}
        protocol static four {{ ipv4; {} }}
        protocol static six {{ ipv6; {} }}
        protocol bgp rb {{
            local 10.99.0.2 as 65002;
            neighbor 10.99.0.1 as 65001;
            passive yes; hold time 9; connect delay time 1;
            ipv4 {{ import all; export where source = RTS_STATIC; }};
            ipv6 {{ import all; export where source = RTS_STATIC; }};
        }}",
        static_routes(false),
        static_routes(true)
    );
    let bird = Bird::start(&pair.peer, pair.dir(), &text).unwrap();
    let speaker = pair.speaker(&peer("bird", "10.99.0.2", ""));
    let (four, six) = ("via 10.99.0.2 dev eth0", "via fd00:99::2 dev eth0");
    // What is less specific than the link leads there as ever.
    let expected = [
        ("10.1.0.0/24", four),
        ("default", four),
        ("10.0.0.0/8", four),
        ("fd00:1::/64", six),
    ];
    pair.kernel_has(&expected);
    throughout(Duration::from_secs(1), "the link stays out of it", || {
        pair.kernel_has_now(&expected)
    });
    // And what comes later goes there, too.
    bird.configure(&text.replace(
        "route 10.1.0.0/24",
        "route 10.1.1.0/24 blackhole; route 10.1.0.0/24",
    ))
    .unwrap();
    let later = [&expected[..], &[("10.1.1.0/24", four)]].concat();
    pair.kernel_has(&later);
    assert_eq!(speaker.logged(&["kernel refused"]), 0);
    assert_eq!(speaker.logged(&["session down"]), 0);
    drop((bird, speaker));

    let pair = Pair::new();
    let text = "hostname frr
router bgp 65002
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor fd00:99::1 remote-as 65001
 neighbor fd00:99::1 passive
 address-family ipv4 unicast
  neighbor fd00:99::1 activate
  network 10.1.0.0/24
  redistribute connected
 exit-address-family
 address-family ipv6 unicast
  neighbor fd00:99::1 activate
  network fd00:1::/64
  redistribute connected
 exit-address-family
";
    let frr = Frr::start(&pair.peer, pair.dir(), text).unwrap();
    let speaker = pair.speaker(&peer("frr", "fd00:99::2", ""));
    let expected = [("10.1.0.0/24", four), ("fd00:1::/64", six)];
    eventually(SOON, "FRR announces the link", || {
        let line = "show bgp ipv6 unicast neighbors fd00:99::1 advertised-routes";
        frr.shows(line, &["fd00:99::/64"])
    });
    pair.kernel_has(&expected);
    throughout(Duration::from_secs(1), "the link stays out of it", || {
        pair.kernel_has_now(&expected)
    });
    assert_eq!(speaker.logged(&["kernel refused"]), 0);
}
