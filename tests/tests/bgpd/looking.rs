//! `roadbedctl` asks a standalone router.

use std::process::Command;
use std::time::Duration;

use roadbed_api::agent::{BgpPeer, BgpRoute, NodeStatus};
use roadbed_tests::bgpd::{Bgpd, run_to_end};
use roadbed_tests::netns::run;
use roadbed_tests::process::{Process, program};
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
fn sessions_routes_and_dumps() {
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

    let rib: Routes = speaker.ctl_json("bgp rib --received left").unwrap();
    let prefixes: Vec<String> = rib.routes.iter().map(|r| r.prefix.to_string()).collect();
    assert_eq!(prefixes, [LEFT]);
    // FRR sends back what it is sent.
    let not_best = "not the best path";
    eventually(SOON, "FRR's echo is there", || {
        let found = why_not(&speaker, LEFT, "right");
        anyhow::ensure!(found == ["", not_best], "{found:?}");
        Ok(())
    });
    let source = "split horizon: the peer is its source";
    assert_eq!(why_not(&speaker, LEFT, "left"), [source, not_best]);
    let dump = three.left.dir().join("rib.mrt");
    speaker
        .ctl(&format!("bgp dump {}", dump.display()))
        .unwrap();
    assert!(std::fs::metadata(&dump).unwrap().len() > 100);
    let dumped = run(Command::new("bgpdump").arg("-m").arg(&dump)).unwrap();
    for (prefix, path) in [(LEFT, "65002"), ("10.3.0.0/24", "65003")] {
        let line = format!("|{prefix}|{path}|IGP|");
        assert!(dumped.contains(&line), "{dumped}");
    }
    let error = speaker.ctl("ipam show").unwrap_err().to_string();
    let said = "a standalone router has bgp and status";
    assert!(error.contains(said), "{error}");
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

/// A run directory is one router's, and one that somebody asked for has to be had.
#[test]
fn one_router_per_run_directory() {
    let pair = Pair::new();
    let speaker = pair.speaker("");
    let said = eventually(SOON, "it answers", || speaker.ctl("status"));
    assert!(said.contains("its file has no [peers.NAME]"), "{said}");
    let file = pair.dir().join("bgpd.toml");
    let run_dir = pair.dir().join("run");
    let (file, run_dir) = (file.to_str().unwrap(), run_dir.to_str().unwrap());
    let args = ["--config", file, "--run-dir", run_dir];
    let (code, _, said) = run_to_end(&pair.peer, &args).unwrap();
    assert_eq!(code, 1, "{said}");
    for word in ["another roadbed-bgpd (pid ", "run_dir"] {
        assert!(said.contains(word), "{said}");
    }
    throughout(Duration::from_millis(500), "the first one goes on", || {
        speaker.ctl("status").map(drop)
    });
}

/// Without `--run-dir` it is /run/roadbed, here of a mount namespace. A router works while another one has it, and takes it
/// over afterwards; a directory that is deleted is made again.
#[test]
fn the_default_run_directory_is_had_once_it_is_free() {
    let pair = Pair::new();
    let file = pair.dir().join("bgpd.toml");
    std::fs::write(&file, config("", OUR_NETWORKS)).unwrap();
    let [bgpd, ctl] = ["roadbed-bgpd", "roadbedctl"].map(|name| program(name).unwrap());
    let start = format!(
        "env -u ROADBED_RUN_DIR {} --config {}",
        bgpd.display(),
        file.display()
    );
    let own_run = format!("mount -t tmpfs run /run && exec {start}");
    let mut first = Process::start(&pair.us, pair.dir(), "first", &["sh", "-c", &own_run]).unwrap();
    // Runs a command where the process has its /run.
    let beside = |process: &Process, line: &str| {
        let pid = process.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &pid]);
        run(command.args(line.split_whitespace()))
    };
    let status = format!("{} --run-dir /run/roadbed status", ctl.display());
    eventually(SOON, "it has a mount namespace of its own", || {
        first.alive()?;
        anyhow::ensure!(first.log().contains("speaker started"), "{}", first.log());
        Ok(())
    });
    eventually(SOON, "the first one answers", || beside(&first, &status));

    let pid = first.pid().to_string();
    let mut argv = vec!["nsenter", "--mount", "--target", &pid];
    argv.extend(start.split_whitespace());
    let mut second = Process::start(&pair.peer, pair.dir(), "second", &argv).unwrap();
    eventually(SOON, "the second one says why it cannot be asked", || {
        second.alive()?;
        let log = second.log();
        let told = log.contains("speaker started") && log.contains("another roadbed-bgpd (pid ");
        anyhow::ensure!(told, "{log}");
        Ok(())
    });
    first.kill().unwrap();
    eventually(SOON, "it takes the directory over", || {
        beside(&second, &status)
    });
    beside(&second, "rm -r /run/roadbed").unwrap();
    eventually(SOON, "it makes the directory again", || {
        beside(&second, &status)
    });
    second.alive().unwrap();
}
