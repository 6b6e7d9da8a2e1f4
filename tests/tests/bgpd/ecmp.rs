//! Two top-of-rack routers that announce the same: both carry traffic, and what happens when one of them goes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::netns::Ns;
use roadbed_tests::process::Process;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::SOON;

/// Announced by both; every address of it answers at both.
const V4: &str = "10.1.0.0/24";
const V6: &str = "fd00:1::/64";

/// Ours on `eth1` towards the one ToR and on `eth2` towards the other; 10.2.0.1 is our own address.
struct Rack {
    us: Ns,
    tors: [Ns; 2],
    dir: tempfile::TempDir,
}

impl Rack {
    fn new() -> Self {
        let us = Ns::new("us").unwrap();
        let tors = ["tor1", "tor2"].map(|name| Ns::new(name).unwrap());
        for (n, tor) in (1..).zip(&tors) {
            let v4 = |host| format!("10.8{n}.0.{host}/24");
            let v6 = |host| format!("fd00:8{n}::{host}/64");
            Ns::link(
                (&us, &format!("eth{n}"), &[&v4(1), &v6(1)]),
                (tor, "eth0", &[&v4(2), &v6(2)]),
            )
            .unwrap();
            tor.run(&format!("ip route add local {V4} dev lo")).unwrap();
        }
        us.add_address("lo", "10.2.0.1/32").unwrap();
        Self {
            us,
            tors,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A directory for one of the programs.
    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn speaker(&self, config: &str) -> Bgpd {
        Bgpd::start(&self.us, &self.dir("us"), config).unwrap()
    }

    /// A ToR (0 or 1) on BIRD; `paths` are further lines of its export filters.
    fn bird(&self, tor: u8, asn: u32, paths: &str) -> Bird {
        self.bird_with(tor, asn, paths, "")
    }

    /// As [`Rack::bird`], with further static routes of IPv4.
    fn bird_with(&self, tor: u8, asn: u32, paths: &str, routes: &str) -> Bird {
        let n = tor + 1;
        let config = format!(
            "log stderr all;
            router id 10.8{n}.0.2;
            protocol device {{}}
            protocol kernel {{ ipv4 {{ import none; export filter {{ if source = RTS_BGP then accept; reject; }}; }}; }}
            protocol static four {{ ipv4; route {V4} blackhole; {routes} }}
            protocol static six {{ ipv6; route {V6} blackhole; }}
            protocol bgp rb {{
                local 10.8{n}.0.2 as {asn};
                neighbor 10.8{n}.0.1 as 65001;
                passive yes; hold time 9;
                ipv4 {{ import all; export filter {{ if source != RTS_STATIC then reject; {paths} accept; }}; }};
                ipv6 {{ import all; export filter {{ if source != RTS_STATIC then reject; {paths} accept; }}; }};
            }}"
        );
        Bird::start(
            &self.tors[usize::from(tor)],
            &self.dir(&format!("tor{n}")),
            &config,
        )
        .unwrap()
    }

    /// A ToR on FRR that says how fast its way is, in Mbit/s.
    fn frr(&self, tor: u8, bandwidth: &str) -> Frr {
        self.frr_in(65002, tor, bandwidth)
    }

    /// As [`Rack::frr`], in this AS.
    fn frr_in(&self, asn: u32, tor: u8, bandwidth: &str) -> Frr {
        let n = tor + 1;
        let config = format!(
            "hostname tor{n}
bgp route-map delay-timer 1
router bgp {asn}
 bgp router-id 10.8{n}.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor 10.8{n}.0.1 remote-as 65001
 neighbor 10.8{n}.0.1 passive
 neighbor 10.8{n}.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network {V4}
  neighbor 10.8{n}.0.1 route-map fast out
 exit-address-family
route-map fast permit 10
{bandwidth}
"
        );
        Frr::start(
            &self.tors[usize::from(tor)],
            &self.dir(&format!("tor{n}")),
            &config,
        )
        .unwrap()
    }

    /// Waits until the kernel has this for the prefix; an empty text: nothing.
    #[track_caller]
    fn kernel_has(&self, prefix: &str, expected: &str) {
        eventually(SOON, &format!("{prefix} goes {expected:?}"), || {
            let found = routes(&self.us, PROTOCOL).map_err(|error| error.to_string())?;
            let found = found.get(prefix).map_or("", String::as_str);
            (found == expected).then_some(()).ok_or(found.to_owned())
        });
    }

    /// Links that packets to the addresses of [`V4`] leave by.
    fn links_used(&self) -> BTreeSet<String> {
        let out = |host| {
            let line = format!("ip route get 10.1.0.{host} from 10.2.0.1");
            let answer = self.us.run(&line).unwrap();
            let mut words = answer.split_whitespace();
            words.find(|word| *word == "dev");
            words.next().unwrap().to_owned()
        };
        (1..=32).map(out).collect()
    }

    /// Sixteen addresses answer.
    fn all_answer(&self) -> Result<(), String> {
        for host in 1..=16 {
            let ping = format!("ping -n -c 1 -W 1 -I 10.2.0.1 10.1.0.{host}");
            self.us.run(&ping).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn groups(&self) -> String {
        self.us.run("ip nexthop show proto 82").unwrap()
    }
}

/// `more` are lines of `[bgp]`; the ASes are those of the two ToRs.
fn config(more: &str, asns: [u32; 2]) -> String {
    let [first, second] = asns;
    let peer = |n: u8, asn: u32| {
        format!(
            "[peers.tor{n}]\naddress = \"10.8{n}.0.2\"\nasNumber = {asn}\nholdTimeSeconds = 9\n\
             connectRetrySeconds = 1\nimportPolicies = [\"accept-all\"]\n"
        )
    };
    format!(
        "[bgp]\nasNumber = 65001\nrouterId = \"10.2.0.1\"\n{more}\n{}{}[router]\nnetworks = [\"10.2.0.0/24\"]\n",
        peer(1, first),
        peer(2, second)
    )
}

const BOTH: &str = "via 10.81.0.2 dev eth1, via 10.82.0.2 dev eth2";
const FIRST: &str = "via 10.81.0.2 dev eth1";
const SECOND: &str = "via 10.82.0.2 dev eth2";
const BOTH6: &str = "via fd00:81::2 dev eth1, via fd00:82::2 dev eth2";

#[test]
fn traffic_outlives_a_tor_a_link_and_the_speaker() {
    let rack = Rack::new();
    let _one = rack.frr(0, "");
    let mut two = rack.bird(1, 65002, "");
    let mut speaker = rack.speaker(&config("", [65002; 2]));
    rack.kernel_has(V4, BOTH);
    eventually(SOON, "the ToRs know the way back", || rack.all_answer());
    let both = BTreeSet::from(["eth1".to_owned(), "eth2".to_owned()]);
    assert_eq!(rack.links_used(), both);

    // The ToR's end goes down: its packets go the other way with what the kernel does by itself.
    rack.tors[0].run("ip link set eth0 down").unwrap();
    eventually(SOON, "all goes by the second ToR", || rack.all_answer());
    rack.kernel_has(V4, SECOND);
    rack.tors[0].run("ip link set eth0 up").unwrap();
    rack.kernel_has(V4, BOTH);
    eventually(SOON, "both carry again", || {
        rack.all_answer()?;
        (rack.links_used() == both)
            .then_some(())
            .ok_or("one link")
            .map_err(str::to_owned)
    });

    // The speaker is killed: what it wrote stays, and is taken over as it is.
    let groups = rack.groups();
    assert_eq!(groups.matches("group").count(), 1, "{groups}");
    speaker.process().kill().unwrap();
    rack.kernel_has(V4, BOTH);
    let _speaker = rack.speaker(&config("", [65002; 2]));
    throughout(Duration::from_secs(3), "the group stays what it is", || {
        (rack.groups() == groups).then_some(()).ok_or(rack.groups())
    });
    eventually(SOON, "all answer again", || rack.all_answer());

    // A ToR's daemon dies while its link lives.
    two.process().kill().unwrap();
    rack.kernel_has(V4, FIRST);
    assert_eq!(rack.groups(), "", "a single next hop is a plain route");
    rack.all_answer().unwrap();
}

/// Its daemon dies and its link lives on, so that the kernel has nothing to tell: only the end of the session does.
#[test]
fn one_write_takes_all_routes_off_a_dead_tor() {
    let rack = Rack::new();
    // Else the kernel itself repeats every route when their group changes.
    rack.us
        .run("sysctl -qw net.ipv4.nexthop_compat_mode=0")
        .unwrap();
    let prefixes: Vec<String> = (0..10_000)
        .map(|i| format!("10.{}.{}.{}/32", 100 + i / 65536, i / 256 % 256, i % 256))
        .collect();
    let lines: Vec<String> = prefixes
        .iter()
        .map(|prefix| format!("route {prefix} blackhole;"))
        .collect();
    let lines = lines.join("\n");
    let _one = rack.bird_with(0, 65002, "", &lines);
    let mut two = rack.bird_with(1, 65002, "", &lines);
    let _speaker = rack.speaker(&config("", [65002; 2]));
    let through_groups = || {
        let text = rack.us.run("ip route show proto 82").unwrap();
        (text.lines().count(), text.matches("nhid").count())
    };
    eventually(SOON, "all routes go through a group", || {
        let found = through_groups();
        (found == (10_001, 10_001))
            .then_some(())
            .ok_or(format!("{found:?}"))
    });
    let dir = rack.dir("monitor");
    let monitor = Process::start(
        &rack.us,
        &dir,
        "monitor",
        &["ip", "monitor", "route", "nexthop"],
    );
    let monitor = monitor.unwrap();
    eventually(SOON, "the monitor listens", || {
        // What changes nothing is told to nobody.
        for change in ["add", "del"] {
            let line = format!("ip route {change} 10.77.0.0/16 via 10.81.0.9");
            rack.us.run(&line).unwrap();
        }
        let heard = monitor.log().contains("10.77.0.0/16");
        heard.then_some(()).ok_or("not yet")
    });
    two.process().kill().unwrap();
    eventually(SOON, "nothing goes by the dead one", || {
        let groups = rack.groups();
        (!groups.contains("10.82.0.2")).then_some(()).ok_or(groups)
    });
    let written = || {
        let log = monitor.log();
        let ours = log.lines().filter(|line| line.contains("proto 82"));
        ours.count()
    };
    throughout(Duration::from_secs(2), "no route was written", || {
        let written = written();
        (written <= 8).then_some(()).ok_or(written)
    });
    assert!(written() > 0, "the monitor shows what is written");
    assert_eq!(through_groups(), (10_001, 10_001));
}

#[test]
fn both_families_share_and_limits_change_without_a_reset() {
    let rack = Rack::new();
    let _tors = [rack.bird(0, 65002, ""), rack.bird(1, 65002, "")];
    let speaker = rack.speaker(&config("maxPaths = 1", [65002; 2]));
    rack.kernel_has(V4, FIRST);
    speaker.reload(&config("", [65002; 2])).unwrap();
    rack.kernel_has(V4, BOTH);
    rack.kernel_has(V6, BOTH6);
    speaker.reload(&config("maxPaths = 1", [65002; 2])).unwrap();
    rack.kernel_has(V4, FIRST);
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn tors_of_different_ases_share_when_as_paths_are_relaxed() {
    let rack = Rack::new();
    let _tors = [rack.bird(0, 65002, ""), rack.bird(1, 65003, "")];
    relaxed(&rack);
    let rack = Rack::new();
    let _tors = (rack.frr(0, ""), rack.bird(1, 65003, ""));
    relaxed(&rack);
}

fn relaxed(rack: &Rack) {
    let speaker = rack.speaker(&config("multipathAsPathRelax = true", [65002, 65003]));
    rack.kernel_has(V4, BOTH);
    speaker.reload(&config("", [65002, 65003])).unwrap();
    rack.kernel_has(V4, FIRST);
    speaker
        .reload(&config("multipathAsPathRelax = true", [65002, 65003]))
        .unwrap();
    rack.kernel_has(V4, BOTH);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn link_bandwidth_of_frr_becomes_weights() {
    let rack = Rack::new();
    let _one = rack.frr(0, " set extcommunity bandwidth 1000");
    let two = rack.frr(1, " set extcommunity bandwidth 3000");
    let speaker = rack.speaker(&config("", [65002; 2]));
    let weighted = "via 10.81.0.2 dev eth1 weight 85, via 10.82.0.2 dev eth2 weight 256";
    rack.kernel_has(V4, weighted);
    let four_times = [
        "route-map fast permit 10",
        "set extcommunity bandwidth 4000",
    ];
    two.configure(&four_times).unwrap();
    rack.kernel_has(
        V4,
        "via 10.81.0.2 dev eth1, via 10.82.0.2 dev eth2 weight 4",
    );
    speaker
        .reload(&config("linkBandwidth = \"ignore\"", [65002; 2]))
        .unwrap();
    rack.kernel_has(V4, BOTH);
    speaker.reload(&config("", [65002; 2])).unwrap();
    rack.kernel_has(
        V4,
        "via 10.81.0.2 dev eth1, via 10.82.0.2 dev eth2 weight 4",
    );
    let none = [
        "route-map fast permit 10",
        "no set extcommunity bandwidth 4000",
    ];
    two.configure(&none).unwrap();
    rack.kernel_has(V4, BOTH);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Internal peers, each with a next hop of its own that only other routes of the kernel lead to.
#[test]
fn recursive_next_hops_come_go_and_move() {
    let rack = Rack::new();
    let next_hop = |n: u8| {
        format!(
            "if net.type = NET_IP4 then bgp_next_hop = 10.9{n}.0.2; else bgp_next_hop = fd00:9{n}::2;"
        )
    };
    let _tors = [
        rack.bird(0, 65001, &next_hop(1)),
        rack.bird(1, 65001, &next_hop(2)),
    ];
    let speaker = rack.speaker(&config("", [65001; 2]));
    eventually(SOON, "both sessions are there", || {
        let count = speaker.logged(&["session established"]);
        (count == 2).then_some(()).ok_or(count)
    });
    rack.kernel_has(V4, "");
    let ip = |line: &str| rack.us.run(&format!("ip {line}")).unwrap();
    ip("route add 10.91.0.0/24 via 10.81.0.2");
    rack.kernel_has(V4, FIRST);
    ip("route add 10.92.0.0/24 via 10.82.0.2");
    rack.kernel_has(V4, BOTH);
    // Internal paths have a bound of their own.
    speaker
        .reload(&config("maxPathsIbgp = 1", [65001; 2]))
        .unwrap();
    rack.kernel_has(V4, FIRST);
    speaker.reload(&config("", [65001; 2])).unwrap();
    rack.kernel_has(V4, BOTH);
    // One of them moves behind the other's router, to another router of its link, and away.
    ip("route replace 10.91.0.0/24 via 10.82.0.2");
    rack.kernel_has(V4, SECOND);
    ip("route replace 10.91.0.0/24 via 10.81.0.9");
    rack.kernel_has(V4, "via 10.81.0.9 dev eth1, via 10.82.0.2 dev eth2");
    ip("route del 10.91.0.0/24");
    rack.kernel_has(V4, SECOND);
    ip("route add 10.91.0.0/24 via 10.81.0.2");
    rack.kernel_has(V4, BOTH);
    // A dearer way is no equal one (RFC 4271 §9.1.2.2 e).
    ip("route del 10.91.0.0/24");
    ip("route add 10.91.0.0/24 via 10.81.0.2 metric 50");
    rack.kernel_has(V4, SECOND);
    ip("route del 10.92.0.0/24");
    rack.kernel_has(V4, FIRST);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Two FRRs of our own AS, and the bound on internal paths.
#[test]
fn internal_paths_of_frr_share() {
    let rack = Rack::new();
    let [_one, two] = [0, 1].map(|tor| rack.frr_in(65001, tor, ""));
    let speaker = rack.speaker(&config("", [65001; 2]));
    rack.kernel_has(V4, BOTH);
    speaker
        .reload(&config("maxPathsIbgp = 1", [65001; 2]))
        .unwrap();
    rack.kernel_has(V4, FIRST);
    // Of external paths it is not the bound.
    speaker.reload(&config("maxPaths = 1", [65001; 2])).unwrap();
    rack.kernel_has(V4, BOTH);
    let longer = ["route-map fast permit 10", "set as-path prepend 65009"];
    two.configure(&longer).unwrap();
    rack.kernel_has(V4, FIRST);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// The community as BIRD writes it: the first way twice as fast as the second.
#[test]
fn bandwidths_of_bird_are_weights() {
    let rack = Rack::new();
    // Transitive, AS 65002: 250 and 125 MB/s as IEEE 754.
    let says = |octets: &str| {
        format!(
            "if net.type = NET_IP4 then bgp_ext_community.add((generic, 0x0004fdea, {octets}));"
        )
    };
    let _tors = [
        rack.bird(0, 65002, &says("0x4d6e6b28")),
        rack.bird(1, 65002, &says("0x4cee6b28")),
    ];
    let speaker = rack.speaker(&config("", [65002; 2]));
    rack.kernel_has(
        V4,
        "via 10.81.0.2 dev eth1 weight 2, via 10.82.0.2 dev eth2",
    );
    speaker
        .reload(&config("linkBandwidth = \"ignore\"", [65002; 2]))
        .unwrap();
    rack.kernel_has(V4, BOTH);
    assert_eq!(speaker.logged(&["session down"]), 0);
}
