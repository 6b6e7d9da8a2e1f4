//! ADD-PATH (RFC 7911) with FRR and BIRD, in either direction.

use std::collections::BTreeMap;

use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;
use serde_json::Value;

use crate::fixture::SOON;
use crate::three::{LEFT, Three, frr, ours};

const BOTH: &str = "addPath.ipv4-unicast = { receive = true, send = \"all\" }";

/// A BIRD at an address that has two routes to [`LEFT`], `one` and `two`, and tells them as `channel` and `filter` say.
/// Several of them fit into one namespace.
fn bird(
    address: &str,
    remote: &str,
    asn: u32,
    remote_as: u32,
    channel: &str,
    filter: &str,
) -> String {
    format!(
        "log stderr all;
        router id {address};
        protocol device {{ scan time 1; }}
        protocol static one {{ ipv4 {{ preference 201; }}; route {LEFT} blackhole; }}
        protocol static two {{ ipv4 {{ preference 200; }}; route {LEFT} blackhole; }}
        filter rb_out {{ if source != RTS_STATIC then reject; {filter} accept; }}
        protocol bgp rb {{
            local {address} as {asn};
            neighbor {remote} as {remote_as};
            strict bind yes; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
            ipv4 {{ import all; export filter rb_out; gateway recursive; {channel} }};
        }}"
    )
}

/// What FRR has of [`LEFT`]: path identifiers as received, by the first AS behind ours.
fn frr_ids(frr: &Frr) -> Result<BTreeMap<u64, u64>, String> {
    let text = frr
        .cli(&format!("show bgp ipv4 unicast {LEFT} json"))
        .map_err(|e| e.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    let paths = answer["paths"].as_array().cloned().unwrap_or_default();
    let ids = paths.iter().map(|path| {
        let asn = path["aspath"]["segments"][0]["list"][1].as_u64();
        Some((asn?, path["addpathRxId"].as_u64().unwrap_or(0)))
    });
    ids.collect::<Option<_>>().ok_or_else(|| answer.to_string())
}

/// Waits until FRR has paths through exactly these, and all that `right` asks of their identifiers.
#[track_caller]
fn frr_has(
    frr: &Frr,
    through: &[u64],
    right: impl Fn(&BTreeMap<u64, u64>) -> bool,
) -> BTreeMap<u64, u64> {
    let what = format!("FRR has {LEFT} through {through:?}");
    let mut found = BTreeMap::new();
    eventually(SOON, &what, || {
        found = frr_ids(frr)?;
        let same = found.keys().copied().eq(through.iter().copied());
        (same && right(&found))
            .then_some(())
            .ok_or(format!("{found:?}"))
    });
    found
}

/// Waits until BIRD has paths with exactly these AS_PATHs.
#[track_caller]
fn bird_has(bird: &Bird, paths: &[&str]) {
    eventually(SOON, &format!("BIRD has {LEFT} with {paths:?}"), || {
        let answer = bird
            .cli(&format!("show route all protocol rb {LEFT}"))
            .map_err(|e| e.to_string())?;
        let found = answer
            .lines()
            .filter_map(|l| l.trim().strip_prefix("BGP.as_path: "));
        let mut found: Vec<&str> = found.collect();
        found.sort_unstable();
        (found == paths).then_some(()).ok_or_else(|| answer.clone())
    });
}

/// Two upstream peers, and FRR that takes all paths: each keeps its identifier whatever becomes of the other, of our
/// choice and of our configuration.
#[test]
fn frr_is_sent_all_paths_and_their_identifiers_stay() {
    let three = Three::new();
    three.left.peer.add_address("eth0", "10.99.0.3/16").unwrap();
    let upstream = |address: &str, asn: u32, filter: &str| {
        let dir = three.left.dir().join(address);
        std::fs::create_dir_all(&dir).unwrap();
        let config = bird(address, "10.99.0.1", asn, 65001, "", filter);
        Bird::start(&three.left.peer, &dir, &config).unwrap()
    };
    let longer = upstream("10.99.0.2", 65002, "bgp_path.prepend(65002);");
    let shorter = upstream("10.99.0.3", 65003, "");
    let frr = three.right_frr(&frr(65004, &[], ""));
    let peers = |add_path: &str| {
        ours("left", 65002, "passive = true")
            + &ours("left", 65003, "passive = true")
                .replace("peers.left", "peers.other")
                .replace("10.99.0.2", "10.99.0.3")
            + &ours("right", 65004, add_path)
    };
    let mut speaker = three.speaker(&peers(BOTH));

    let ids = frr_has(&frr, &[65002, 65003], |ids| ids.values().all(|id| *id != 0));
    assert_ne!(ids[&65002], ids[&65003]);
    // The best path goes: the other becomes it, under its identifier.
    for protocol in ["one", "two"] {
        shorter.cli(&format!("disable {protocol}")).unwrap();
    }
    frr_has(&frr, &[65002], |now| now[&65002] == ids[&65002]);
    shorter.cli("enable one").unwrap();
    let ids = frr_has(&frr, &[65002, 65003], |now| now[&65002] == ids[&65002]);
    // Other selections of paths, and another policy: no session ends.
    Three::reload(&speaker, &peers(&BOTH.replace("all", "best-1")));
    frr_has(&frr, &[65003], |now| now[&65003] == ids[&65003]);
    Three::reload(&speaker, &peers(&BOTH.replace("all", "best-2")));
    frr_has(&frr, &[65002, 65003], |now| *now == ids);
    let rejecting = format!("exportPolicies = [\"reject-all\"]\n{BOTH}");
    Three::reload(&speaker, &peers(&rejecting));
    frr_has(&frr, &[], |_| true);
    Three::reload(&speaker, &peers(BOTH));
    frr_has(&frr, &[65002, 65003], |now| *now == ids);
    assert_eq!(speaker.logged(&["session down"]), 0);

    // Without ADD-PATH the OPEN is another one.
    Three::reload(&speaker, &peers(""));
    eventually(SOON, "the session is reset", || {
        speaker.says(&["session down", "right", "add_path"])
    });
    frr_has(&frr, &[65003], |now| now[&65003] == 0);
    assert_eq!(speaker.logged(&["session down", "left"]), 0);
    drop(longer);
}

/// BIRD tells FRR two paths, FRR (`addpath-tx-all-paths`) tells them us, and we tell them another BIRD.
#[test]
fn frr_sends_all_paths_and_bird_is_sent_them() {
    let three = Three::new();
    let far = Ns::new("far").unwrap();
    Ns::link(
        (three.right(), "eth1", &["10.97.0.1/24"]),
        (&far, "eth0", &["10.97.0.2/24"]),
    )
    .unwrap();
    let dir = three.left.dir().join("far");
    std::fs::create_dir_all(&dir).unwrap();
    let longer = "if proto = \"two\" then bgp_path.prepend(65005);";
    let config = bird(
        "10.97.0.2",
        "10.97.0.1",
        65005,
        65004,
        "add paths tx;",
        longer,
    );
    let source = Bird::start(&far, &dir, &config).unwrap();
    let config = frr(65004, &[], "")
        .replace(
            " address-family ipv4 unicast\n",
            " neighbor 10.97.0.2 remote-as 65005\n neighbor 10.97.0.2 advertisement-interval 0\n address-family ipv4 unicast\n  \
             neighbor 10.97.0.2 activate\n  neighbor 10.98.0.1 addpath-tx-all-paths\n",
        );
    let _frr = three.right_frr(&config);
    let receiver = bird(
        "10.99.0.2",
        "10.99.0.1",
        65002,
        65001,
        "add paths rx;",
        "reject;",
    );
    let receiver = three.left_bird(&receiver);
    let peers = ours("left", 65002, BOTH) + &ours("right", 65004, BOTH);
    let speaker = three.speaker(&peers);

    bird_has(&receiver, &["65001 65004 65005", "65001 65004 65005 65005"]);
    source.cli("disable one").unwrap();
    bird_has(&receiver, &["65001 65004 65005 65005"]);
    source.cli("enable one").unwrap();
    source.cli("disable two").unwrap();
    bird_has(&receiver, &["65001 65004 65005"]);
    source.cli("enable two").unwrap();
    bird_has(&receiver, &["65001 65004 65005", "65001 65004 65005 65005"]);
    // One of the two.
    let best = ours("left", 65002, &BOTH.replace("all", "best-1")) + &ours("right", 65004, BOTH);
    Three::reload(&speaker, &best);
    bird_has(&receiver, &["65001 65004 65005"]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// `add paths on` at both ends: what BIRD sends goes to another BIRD, and our own kernel has the best of it.
#[test]
fn bird_sends_all_paths_and_bird_is_sent_them() {
    let three = Three::new();
    let longer = "if proto = \"two\" then bgp_path.prepend(65002);";
    let source = bird(
        "10.99.0.2",
        "10.99.0.1",
        65002,
        65001,
        "add paths on;",
        longer,
    );
    let source = three.left_bird(&source);
    let receiver = bird(
        "10.98.0.2",
        "10.98.0.1",
        65003,
        65001,
        "add paths on;",
        "reject;",
    );
    let receiver = three.right_bird(&receiver);
    let limit = "maxPrefixes.ipv4-unicast = { limit = 1, warnPercent = 100, action = \"warn\" }";
    let left = ours("left", 65002, &format!("{BOTH}\n{limit}"));
    let mut speaker = three.speaker(&(left + &ours("right", 65003, BOTH)));

    bird_has(&receiver, &["65001 65002", "65001 65002 65002"]);
    eventually(SOON, "each path counts against the limit", || {
        speaker.says(&["more prefixes than their limit", "count=2"])
    });
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    source.cli("disable two").unwrap();
    bird_has(&receiver, &["65001 65002"]);
    source.cli("enable two").unwrap();
    bird_has(&receiver, &["65001 65002", "65001 65002 65002"]);
    for protocol in ["one", "two"] {
        source.cli(&format!("disable {protocol}")).unwrap();
    }
    bird_has(&receiver, &[]);
    three.left.kernel_has(&[]);
}
