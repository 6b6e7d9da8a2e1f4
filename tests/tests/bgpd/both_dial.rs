//! Neither end waits to be called: connections cross, one of the two must be closed (RFC 4271 §6.8), and both ends must
//! keep the same one. Each daemon has its own idea of when to dial again.

use std::time::Duration;

use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::gobgp::Gobgp;
use roadbed_tests::openbgpd::Openbgpd;
use roadbed_tests::wait::throughout;

use crate::fixture::{Pair, peer};

const V4: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");
/// From the third on OpenBGPD waits for half a minute.
const STARTS: usize = 2;

/// The speaker is started again and again beside a daemon that dials all the time; each time routes come, and stay.
fn comes_up_and_stays(pair: &Pair) {
    for round in 1..=STARTS {
        let mut speaker = pair.speaker(&peer("one", "10.99.0.2", ""));
        pair.kernel_has(&[V4]);
        // A session that either end takes for the wrong one goes within moments.
        throughout(Duration::from_secs(1), "the route stays", || {
            pair.kernel_has_now(&[V4])
        });
        // All speakers of this test write the same log.
        let established = speaker.logged(&["session established"]);
        let down = speaker.logged(&["session down"]);
        assert_eq!(established - down, 1, "round {round}\n{}", speaker.log());
        speaker.stop().unwrap();
        // It leaves its routes; the next one would be taken to have learned them.
        pair.us.run("ip route flush proto 82").unwrap();
    }
}

#[test]
fn with_bird() {
    let pair = Pair::new();
    let _bird = Bird::start(
        &pair.peer,
        pair.dir(),
        "log stderr all;
        router id 10.99.0.2;
        protocol device {}
        protocol static { ipv4; route 10.1.0.0/24 blackhole; }
        protocol bgp rb {
            local 10.99.0.2 as 65002;
            neighbor 10.99.0.1 as 65001;
            hold time 9; connect delay time 0; connect retry time 1; error wait time 1, 2;
            ipv4 { import all; export where source = RTS_STATIC; };
        }",
    )
    .unwrap();
    comes_up_and_stays(&pair);
}

#[test]
fn with_frr() {
    let pair = Pair::new();
    let _frr = Frr::start(
        &pair.peer,
        pair.dir(),
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
  network 10.1.0.0/24
  neighbor 10.99.0.1 route-map own out
 exit-address-family
ip prefix-list own permit 10.1.0.0/24
route-map own permit 10
 match ip address prefix-list own
",
    )
    .unwrap();
    comes_up_and_stays(&pair);
}

#[test]
fn with_openbgpd() {
    let pair = Pair::new();
    let _openbgpd = Openbgpd::start(
        &pair.peer,
        pair.dir(),
        "AS 65002
router-id 10.99.0.2
listen on 10.99.0.2
holdtime 9
connect-retry 1
network 10.1.0.0/24
neighbor 10.99.0.1 {
  remote-as 65001
}
allow from any
allow to any
",
    )
    .unwrap();
    comes_up_and_stays(&pair);
}

#[test]
fn with_gobgp() {
    let pair = Pair::new();
    let gobgp = Gobgp::start(
        &pair.peer,
        pair.dir(),
        "[global.config]
as = 65002
router-id = \"10.99.0.2\"
[[neighbors]]
[neighbors.config]
neighbor-address = \"10.99.0.1\"
peer-as = 65001
[neighbors.timers.config]
hold-time = 9
connect-retry = 1
idle-hold-time-after-reset = 1
",
    )
    .unwrap();
    gobgp
        .cli("global rib -a ipv4 add 10.1.0.0/24 nexthop 10.99.0.2")
        .unwrap();
    comes_up_and_stays(&pair);
}
