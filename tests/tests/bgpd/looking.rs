//! `roadbedctl` asks a standalone router.

use std::time::Duration;

use roadbed_api::agent::{BgpPeer, BgpRoute, NodeStatus, RouteReport};
use roadbed_tests::bgpd::{Bgpd, run_to_end};
use roadbed_tests::wait::{eventually, throughout};
use serde::Deserialize;

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{Script, attribute, mandatory, update};
use crate::three::{LEFT, Three, bird, bird_has, frr, frr_has, ours};

#[derive(Deserialize)]
struct Routes {
    routes: Vec<BgpRoute>,
}

/// Why a peer is not sent each path of a prefix; empty for the one that it is sent.
#[track_caller]
pub(crate) fn why_not(speaker: &Bgpd, prefix: &str, peer: &str) -> Vec<String> {
    let line = format!("bgp routes {prefix} --advertised {peer}");
    let found: Routes = speaker.ctl_json(&line).unwrap();
    let said = found.routes.into_iter().filter_map(|r| r.advertised);
    said.map(|a| a.why_not.unwrap_or_default()).collect()
}

#[test]
fn sessions_routes_and_what_the_kernel_has() {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65002, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65003, &["10.3.0.0/24"], ""));
    let speaker = three.speaker(&(ours("left", 65002, "") + &ours("right", 65003, "")));
    frr_has(&frr, LEFT, &[]);
    bird_has(&bird, "10.3.0.0/24", &[]);
    three.left.kernel_has(&[
        (LEFT, "via 10.99.0.2 dev eth0"),
        ("10.3.0.0/24", "via 10.98.0.2 dev eth1"),
    ]);

    let status: NodeStatus = speaker.ctl_json("status").unwrap();
    assert_eq!(
        (status.as_number, status.router_id, status.store),
        (65001, Some([10, 99, 0, 1].into()), None)
    );
    let said = speaker.ctl("status").unwrap();
    for word in ["ConfigurationInForce=True", "left", "right", "Established"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = speaker.ctl("bgp peers").unwrap();
    assert_eq!(said.matches("Established").count(), 2, "{said}");
    let peer: BgpPeer = speaker.ctl_json("bgp peer left").unwrap();
    assert_eq!(peer.report.state, "Established");

    let all: RouteReport = speaker.ctl_json("routes").unwrap();
    let learned = all.routes.iter().filter(|row| row.peer.is_some());
    let installed = learned.filter(|row| row.best && row.installed == Some(true));
    assert_eq!(installed.count(), 2, "{all:?}");
    let rib: Routes = speaker.ctl_json("bgp rib --received left").unwrap();
    let prefixes: Vec<String> = rib.routes.iter().map(|r| r.prefix.to_string()).collect();
    assert_eq!(prefixes, [LEFT]);
    // FRR sends back what it is sent.
    let not_best = "not the best path";
    assert_eq!(why_not(&speaker, LEFT, "right"), ["", not_best]);
    let source = "split horizon: the peer is its source";
    assert_eq!(why_not(&speaker, LEFT, "left"), [source, not_best]);
    let dump = three.left.dir().join("rib.mrt");
    speaker
        .ctl(&format!("bgp dump {}", dump.display()))
        .unwrap();
    assert!(std::fs::metadata(&dump).unwrap().len() > 100);
    let error = speaker.ctl("ipam show").unwrap_err().to_string();
    assert!(
        error.contains("/v1/ipam is not part of this API"),
        "{error}"
    );
}

/// RFC 7606: the counter names the attribute and why, while the routes that are in order are there.
#[test]
fn faults_are_counted_by_what_is_wrong() {
    let pair = Pair::new();
    let speaker = pair.speaker(&peer("script", "10.99.0.2", "passive = true"));
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let with = |more: Vec<u8>| [mandatory([10, 99, 0, 2]), vec![more]].concat();
    let short_aggregator = with(attribute(0xc0, 7, &[1, 2]));
    script.send(&update(&short_aggregator, &[24, 10, 1, 0]));
    script.send(&update(&short_aggregator, &[24, 10, 1, 1]));
    let mut origin = mandatory([10, 99, 0, 2]);
    origin[0] = attribute(0x40, 1, &[9]);
    script.send(&update(&origin, &[24, 10, 1, 2]));
    eventually(SOON, "all are counted", || {
        let peer: BgpPeer = speaker.ctl_json("bgp peer script")?;
        let faults = peer.report.update_faults;
        let count = |words: [&str; 2]| {
            let named = faults
                .iter()
                .filter(|(name, _)| words.iter().all(|word| name.contains(word)));
            named.map(|(_, count)| count).sum::<u64>()
        };
        anyhow::ensure!(
            count(["attribute-discard", "AGGREGATOR"]) == 2,
            "{faults:?}"
        );
        anyhow::ensure!(count(["treat-as-withdraw", "ORIGIN"]) == 1, "{faults:?}");
        Ok(())
    });
    let via = "via 10.99.0.2 dev eth0";
    pair.kernel_has(&[("10.1.0.0/24", via), ("10.1.1.0/24", via)]);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn a_refused_reload_is_shown_until_the_file_is_right() {
    let pair = Pair::new();
    let good = peer("other", "10.99.0.2", "");
    let speaker = pair.speaker(&good);
    let says = |words: [&str; 2]| {
        eventually(SOON, &format!("the status has {words:?}"), || {
            let said = speaker.ctl("status")?;
            let all = words.iter().all(|word| said.contains(word));
            anyhow::ensure!(all, "{said}");
            Ok(())
        });
    };
    says(["ConfigurationInForce=True", "other"]);
    let wrong = good.replace("holdTimeSeconds = 9", "holdTimeSeconds = 2");
    speaker.reload(&config(&wrong, OUR_NETWORKS)).unwrap();
    says(["ConfigurationInForce=False (Refused)", "holdTimeSeconds"]);
    speaker.reload(&config(&good, OUR_NETWORKS)).unwrap();
    says(["ConfigurationInForce=True", "other"]);
}

/// A run directory is one router's. One that somebody asked for has to be had; a second router without it works all the
/// same.
#[test]
fn one_router_per_run_directory() {
    let pair = Pair::new();
    let speaker = pair.speaker("");
    eventually(SOON, "it answers", || speaker.ctl("status"));
    let file = pair.dir().join("bgpd.toml");
    let run_dir = pair.dir().join("run");
    let (file, run_dir) = (file.to_str().unwrap(), run_dir.to_str().unwrap());
    let args = ["--config", file, "--run-dir", run_dir];
    let (code, _, said) = run_to_end(&pair.peer, &args).unwrap();
    assert_eq!(code, 1, "{said}");
    for word in ["another Roadbed daemon (pid ", "run_dir"] {
        assert!(said.contains(word), "{said}");
    }
    throughout(Duration::from_millis(500), "the first one goes on", || {
        speaker.ctl("status").map(drop)
    });
}
