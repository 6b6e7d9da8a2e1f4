//! Three namespaces in a row: the speaker under test in the middle, a router on either side. A route from one side is
//! seen on the other, with what the speaker made of it.

use std::path::PathBuf;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;
use serde_json::Value;

use crate::fixture::{Pair, SOON, config};

/// Our networks, for peers that ask for both families.
const NETWORKS: &str = "\"10.2.0.0/24\"";

/// What the left side's router announces, besides what a test makes of it.
pub(crate) const LEFT: &str = "10.1.0.0/24";

/// A row of three: left 10.99.0.2 – 10.99.0.1, us, 10.98.0.1 – 10.98.0.2 right; fd00:99:: and fd00:98:: likewise.
pub(crate) struct Three {
    pub(crate) left: Pair,
    right: Ns,
}

impl Three {
    pub(crate) fn new() -> Self {
        let (left, right) = (Pair::new(), Ns::new("right").unwrap());
        Ns::link(
            (&left.us, "eth1", &["10.98.0.1/24", "fd00:98::1/64"]),
            (&right, "eth0", &["10.98.0.2/24", "fd00:98::2/64"]),
        )
        .unwrap();
        right
            .run("ip route add 10.99.0.0/16 via 10.98.0.1")
            .unwrap();
        left.peer
            .run("ip route add 10.98.0.0/24 via 10.99.0.1")
            .unwrap();
        Self { left, right }
    }

    pub(crate) fn speaker(&self, peers: &str) -> Bgpd {
        Bgpd::start(&self.left.us, self.left.dir(), &config(peers, NETWORKS)).unwrap()
    }

    /// Other peers by SIGHUP.
    pub(crate) fn reload(speaker: &Bgpd, peers: &str) {
        speaker.reload(&config(peers, NETWORKS)).unwrap();
    }

    /// Other lines of `[bgp]`, and other peers.
    pub(crate) fn reload_with(speaker: &Bgpd, bgp: &str, peers: &str) {
        speaker
            .reload(&config(&format!("{bgp}\n{peers}"), NETWORKS))
            .unwrap();
    }

    pub(crate) fn left_bird(&self, config: &str) -> Bird {
        Bird::start(&self.left.peer, self.left.dir(), config).unwrap()
    }

    pub(crate) fn right(&self) -> &Ns {
        &self.right
    }

    fn right_dir(&self) -> PathBuf {
        let dir = self.left.dir().join("right");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn right_bird(&self, config: &str) -> Bird {
        Bird::start(&self.right, &self.right_dir(), config).unwrap()
    }

    pub(crate) fn right_frr(&self, config: &str) -> Frr {
        // FRR's user has to reach the directory below.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.left.dir(), mode).unwrap();
        Frr::start(&self.right, &self.right_dir(), config).unwrap()
    }
}

/// One of our peers: the left side's router is 10.99.0.2, the right side's 10.98.0.2.
pub(crate) fn ours(name: &str, asn: u32, more: &str) -> String {
    let address = if name == "left" {
        "10.99.0.2"
    } else {
        "10.98.0.2"
    };
    let policies = ["importPolicies", "exportPolicies"]
        .into_iter()
        .filter(|field| !more.contains(field))
        .map(|field| format!("{field} = [\"accept-all\"]\n"))
        .collect::<String>();
    format!(
        "[peers.{name}]\naddress = \"{address}\"\nasNumber = {asn}\nfamilies = [\"ipv4-unicast\"]\n\
         holdTimeSeconds = 9\nconnectRetrySeconds = 1\n{policies}{more}\n"
    )
}

/// A BIRD of one static route per prefix; `options` are of its protocol, `filter` what it does to what it exports.
pub(crate) fn bird(side: &str, asn: u32, routes: &[&str], options: &str, filter: &str) -> String {
    let (local, remote) = if side == "left" {
        ("10.99.0.2", "10.99.0.1")
    } else {
        ("10.98.0.2", "10.98.0.1")
    };
    let routes: String = routes
        .iter()
        .map(|prefix| format!("route {prefix} blackhole; "))
        .collect();
    // Recursive: next hops beyond us are shown as they were sent.
    format!(
        "log stderr all;
        router id {local};
        protocol device {{ scan time 1; }}
        protocol static {{ ipv4; {routes} }}
        filter rb_out {{ if source != RTS_STATIC then reject; {filter} accept; }}
        protocol bgp rb {{
            local {local} as {asn};
            neighbor {remote} as 65001;
            passive yes; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
            {options}
            ipv4 {{ import all; export filter rb_out; gateway recursive; }};
        }}"
    )
}

/// An FRR on the right; `more` are lines of its neighbour.
pub(crate) fn frr(asn: u32, routes: &[&str], more: &str) -> String {
    let networks: String = routes
        .iter()
        .map(|prefix| format!("  network {prefix}\n"))
        .collect();
    let more: String = more
        .lines()
        .map(|line| format!(" neighbor 10.98.0.1 {line}\n"))
        .collect();
    format!(
        "hostname frr
router bgp {asn}
 bgp router-id 10.98.0.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor 10.98.0.1 remote-as 65001
 neighbor 10.98.0.1 passive
 neighbor 10.98.0.1 advertisement-interval 0
{more} address-family ipv4 unicast
{networks}  neighbor 10.98.0.1 activate
 exit-address-family
"
    )
}

/// Waits until this holds.
#[track_caller]
pub(crate) fn soon(what: &str, check: impl FnMut() -> Result<(), String>) {
    eventually(SOON, what, check);
}

/// Waits until BIRD's answer about a prefix holds all of `words`.
#[track_caller]
pub(crate) fn bird_has(bird: &Bird, prefix: &str, words: &[&str]) {
    eventually(SOON, &format!("BIRD has {prefix} with {words:?}"), || {
        bird.shows(&format!("show route all {prefix}"), words)
    });
}

/// Whether BIRD has nothing about a prefix.
pub(crate) fn bird_lacks(bird: &Bird, prefix: &str) -> Result<(), String> {
    let answer = bird.cli("show route").map_err(|e| e.to_string())?;
    (!answer.contains(prefix)).then_some(()).ok_or(answer)
}

/// Waits until FRR's only path to a prefix has these values, by JSON pointer; null: it has none.
#[track_caller]
pub(crate) fn frr_has(frr: &Frr, prefix: &str, expected: &[(&str, Value)]) {
    eventually(SOON, &format!("FRR has {prefix} with {expected:?}"), || {
        let answer = frr_path(frr, prefix)?;
        let same = expected
            .iter()
            .all(|(pointer, value)| answer.pointer(pointer).unwrap_or(&Value::Null) == value);
        same.then_some(()).ok_or_else(|| answer.to_string())
    });
}

/// Whether FRR has nothing about a prefix.
pub(crate) fn frr_lacks(frr: &Frr, prefix: &str) -> Result<(), String> {
    match frr_path(frr, prefix)? {
        Value::Null => Ok(()),
        path => Err(path.to_string()),
    }
}

fn frr_path(frr: &Frr, prefix: &str) -> Result<Value, String> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let text = frr
        .cli(&format!("show bgp {family} unicast {prefix} json"))
        .map_err(|e| e.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    Ok(answer["paths"][0].clone())
}
