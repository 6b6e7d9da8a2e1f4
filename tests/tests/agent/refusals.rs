//! Wrong input: each gets a message that names the field or the object and says what to do.

use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use roadbed_tests::bench::{Bench, pool};
use roadbed_tests::pod::{Pod, listen};
use roadbed_tests::site::STORE;
use rusqlite::Connection;

use crate::{N1, SOON, check_contains, connected, fails, files, status_shows};

#[test]
fn a_second_agent_on_one_run_directory_is_told_who_has_it() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pod = Pod::start(site, N1, "web").unwrap();
    let pid = site.lab().status(N1).unwrap().programs[0].pid.unwrap();
    let text = fails(site, &["roadbed-agent"]);
    check_contains(
        &text,
        &["run_dir", "/run/roadbed", &format!("pid {pid}"), "stop it"],
    );
    // The first one goes on as if nothing had been.
    assert!(site.agent(N1).unwrap().probe("/readyz").unwrap().ok);
    assert_eq!(site.attachments(N1).unwrap().len(), 1);
    pod.del(site).unwrap();
    // With a directory of its own it may run, as far as it gets: the port is taken then.
    let other = [
        "timeout",
        "1",
        "roadbed-agent",
        "--run-dir",
        "/run/other",
        "--state-dir",
        "/run/other-state",
    ];
    let text = fails(site, &other);
    check_contains(&text, &["port 179 is in use", "listenPort"]);
}

#[test]
fn wrong_settings_name_file_and_field() {
    let bench = files().up().unwrap();
    let site = &bench.site;
    let check = |from: &str, to: &str, parts: &[&str]| {
        let right =
            std::fs::read_to_string(site.path(N1, "/etc/roadbed/agent.toml").unwrap()).unwrap();
        let wrong = right.replace(from, to);
        assert_ne!(right, wrong);
        std::fs::write(site.path(N1, "/tmp/agent.toml").unwrap(), wrong).unwrap();
        let checked = fails(
            site,
            &["roadbed-agent", "--check", "--config", "/tmp/agent.toml"],
        );
        let started = fails(site, &["roadbed-agent", "--config", "/tmp/agent.toml"]);
        assert_eq!(checked, started);
        check_contains(&checked, &["/tmp/agent.toml"]);
        check_contains(&checked, parts);
    };
    check("node =", "nodee = \"x\"\nnode =", &["nodee"]);
    check("node = \"n1\"\n", "", &["node"]);
    check("10.255.0.11", "10.255.0.256", &["node_addresses"]);
    check(
        "as_number = 65111",
        "as_number = 23456",
        &["as_number", "23456"],
    );
    check(
        "cool_down",
        "run_dir = \"relative\"\ncool_down",
        &["run_dir", "relative", "absolute"],
    );
    check("\"sqlite\"", "\"oracle\"", &["oracle"]);
    let right = site.run(N1, "roadbed-agent --check").unwrap();
    check_contains(&right, &["ok", "n1"]);
    let missing = fails(site, &["roadbed-agent", "--config", "/tmp/none.toml"]);
    check_contains(&missing, &["/tmp/none.toml"]);
}

#[test]
fn wrong_resources_name_file_and_field_and_nothing_is_written() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let before = site.ctl(N1, &["get", "all", "-o", "name"]).unwrap();
    let check = |text: &str, parts: &[&str]| {
        // A right pool comes first: all or nothing.
        let both = format!("{}---\n{text}", pool("a", "10.77.0.0/16", 26));
        std::fs::write(site.path(N1, "/tmp/wrong.yaml").unwrap(), both).unwrap();
        let said = fails(
            site,
            &[
                "roadbedctl",
                "--store",
                STORE,
                "apply",
                "-f",
                "/tmp/wrong.yaml",
            ],
        );
        check_contains(&said, &["/tmp/wrong.yaml"]);
        check_contains(&said, parts);
        assert_eq!(site.ctl(N1, &["get", "all", "-o", "name"]).unwrap(), before);
    };
    check(
        &pool("p", "10.78.0.0/16", 26).replace("blockSize", "blokSize"),
        &["blokSize", "blockSize"],
    );
    check(
        &pool("p", "10.78.0.0/16", 12),
        &["spec.blockSize", "/12 is out of range", "/20 to /32"],
    );
    check(
        &pool("p", "fd00:78::/48", 64),
        &["spec.blockSize", "/64 is out of range", "/116 to /128"],
    );
    check(
        &pool("p", "10.78.0.1/16", 26),
        &["spec.cidr", "10.78.0.0/16"],
    );
    check(
        &pool("p", "10.77.128.0/17", 26),
        &[
            "IPPool/p",
            "overlaps 10.77.0.0/16 of IPPool/a",
            "share no address",
        ],
    );
    check(
        &pool("p", "10.244.4.0/24", 26),
        &[
            "IPPool/p",
            "overlaps 10.244.0.0/16 of IPPool/pods-v4",
            "the store",
        ],
    );
    let peer = "apiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: p}\nspec: {address: 192.0.2.1, asNumber: 0}\n";
    check(peer, &["spec.asNumber"]);
}

#[test]
fn of_two_overlapping_pools_written_at_once_exactly_one_is_used() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    for (name, cidr) in [("left", "10.80.0.0/16"), ("right", "10.80.128.0/17")] {
        let path = site.path(N1, &format!("/tmp/{name}.yaml")).unwrap();
        std::fs::write(path, pool(name, cidr, 26)).unwrap();
    }
    let both_written = (1..=5).any(|hold| {
        // A writer holds the store: both look, find no overlap, and wait to write.
        let lock = Connection::open(site.store()).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let apply = |name: &str| {
            let file = format!("/tmp/{name}.yaml");
            let argv = ["roadbedctl", "--store", STORE, "apply", "-f", &file];
            let mut command = site.lab().command(N1, &argv).unwrap();
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let writers = [apply("left"), apply("right")];
        std::thread::sleep(Duration::from_millis(400 * hold));
        lock.execute_batch("ROLLBACK").unwrap();
        let outputs = writers.map(|writer| writer.wait_with_output().unwrap());
        let written = outputs
            .iter()
            .filter(|output| output.status.success())
            .count();
        for output in outputs.iter().filter(|output| !output.status.success()) {
            // Too slow to have looked before: told by the check of `apply`.
            check_contains(&String::from_utf8_lossy(&output.stderr), &["overlaps"]);
        }
        if written < 2 {
            site.ctl(
                N1,
                &[
                    "delete",
                    "-f",
                    "/tmp/left.yaml",
                    "-f",
                    "/tmp/right.yaml",
                    "--ignore-not-found",
                ],
            )
            .unwrap();
        }
        written == 2
    });
    assert!(both_written, "the two were never written at once");

    let yields = site
        .until(SOON, "one of the two yields", || {
            let yaml = |name: &str| site.ctl(N1, &["get", "ippool", name, "-o", "yaml"]);
            let overlaps = |text: &str| {
                let text = text.replace(['"', '\''], "");
                text.contains("type: Overlaps") && text.contains("status: True")
            };
            let (left, right) = (yaml("left")?, yaml("right")?);
            match (overlaps(&left), overlaps(&right)) {
                (true, false) => Ok("left"),
                (false, true) => Ok("right"),
                neither_or_both => anyhow::bail!("{neither_or_both:?}\n{left}\n{right}"),
            }
        })
        .unwrap();
    let used = if yields == "left" { "right" } else { "left" };
    let ipam = site.run(N1, "roadbedctl ipam show").unwrap();
    let line = |name: &str| ipam.lines().find(|line| line.starts_with(name)).unwrap();
    check_contains(
        line(yields),
        &[
            "no: ",
            &format!("overlaps the older pool {used}"),
            "deleted",
        ],
    );
    check_contains(line(used), &["yes"]);
    let report = site.ipam(N1).unwrap();
    let usable: Vec<_> = report
        .pools
        .iter()
        .filter(|p| p.usable)
        .map(|p| p.name.as_str())
        .collect();
    assert!(
        usable.contains(&used) && !usable.contains(&yields),
        "{usable:?}"
    );
    // No block is cut from the one that yields, so it can go; the other one cannot while it has blocks.
    assert!(report.blocks.iter().all(|block| block.pool != yields));
    site.ctl(N1, &["delete", "ippool", yields]).unwrap();
    site.until(SOON, "nothing speaks of an overlap", || {
        let ipam = site.run(N1, "roadbedctl ipam show")?;
        ensure!(!ipam.contains("overlaps"), "{ipam}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_port_in_use_is_told_and_taken_once_it_is_free() {
    let bench = files().up().unwrap();
    let site = &bench.site;
    bench.kill(N1).unwrap();
    let helper = site.helper();
    let other = listen(site, N1, &[&helper, "probe", "listen", "--port", "179"]).unwrap();
    bench.start(N1).unwrap();
    site.apply(N1).unwrap();
    status_shows(
        site,
        &[
            "SpeakerRunning=False",
            "TCP port 179 is in use",
            "listenPort",
        ],
    );
    // Pods do not need it.
    site.ready(N1).unwrap();
    let pod = Pod::start(site, N1, "web").unwrap();
    drop(other);
    site.established(N1).unwrap();
    status_shows(site, &["SpeakerRunning=True"]);
    pod.del(site).unwrap();
}

#[test]
fn a_peer_of_another_as_than_configured_is_told_with_both() {
    let files = files();
    files
        .replace("resources/peer.yaml", "asNumber: 65101", "asNumber: 65109")
        .unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    site.apply(N1).unwrap();
    status_shows(site, &["r1: ", "65101", "65109", "asNumber"]);
    site.ctl(N1, &["get", "bgppeer", "r1", "-o", "yaml"])
        .unwrap();
    // Corrected, the session comes up by itself.
    bench
        .files()
        .replace("resources/peer.yaml", "asNumber: 65109", "asNumber: 65101")
        .unwrap();
    site.apply(N1).unwrap();
    site.established(N1).unwrap();
}

#[test]
fn a_wrong_request_is_refused_in_the_apis_own_words() {
    let bench = connected();
    let agent = bench.site.agent(N1).unwrap();
    let request = serde_json::json!({"key": {"network": "pods", "containerId": "../x", "ifname": "eth0"}, "netns": "/x", "netnsCookie": "1"});
    let error = agent
        .post::<_, serde_json::Value>("/v1/attachments", &request)
        .unwrap_err();
    check_contains(&error.to_string(), &["container ID", "not legal", "400"]);
    let error = agent
        .post::<_, serde_json::Value>("/v1/attachments", &serde_json::json!({"key": 1}))
        .unwrap_err();
    check_contains(&error.to_string(), &["request body", "key"]);
    let error = agent.get::<serde_json::Value>("/v1/nothing").unwrap_err();
    check_contains(&error.to_string(), &["/v1/nothing"]);
    assert!(bench.site.attachments(N1).unwrap().is_empty());
}
