//! The file and the port: what a wrong one gets.

use std::path::Path;

use roadbed_tests::bgpd::run_to_end;
use roadbed_tests::netns::Ns;

use crate::fixture::{OUR_NETWORKS, config, peer};

/// Runs `--check` on a text: exit code and what it says.
fn check(text: &str) -> (i32, String) {
    let (ns, dir) = (Ns::new("us").unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("bgpd.toml");
    std::fs::write(&path, text).unwrap();
    run(&ns, &path, &["--check"])
}

fn run(ns: &Ns, path: &Path, more: &[&str]) -> (i32, String) {
    let mut args = vec!["--config", path.to_str().unwrap()];
    args.extend(more);
    let (code, out, err) = run_to_end(ns, &args).unwrap();
    (code, out + &err)
}

#[track_caller]
fn refused((code, said): (i32, String), words: &[&str]) {
    assert_ne!(code, 0, "{said}");
    for word in words {
        assert!(said.contains(word), "lacks {word}:\n{said}");
    }
}

#[test]
fn a_right_file() {
    let (code, said) = check(&config(&peer("a", "10.99.0.2", ""), OUR_NETWORKS));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("bgpd.toml: ok, 1 peers"), "{said}");
}

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let text = config(&peer("a", "10.99.0.2", "holdTime = 3"), OUR_NETWORKS);
    let line = 1 + text.lines().position(|l| l == "holdTime = 3").unwrap();
    refused(
        check(&text),
        &[
            "bgpd.toml",
            &format!("line {line}"),
            "unknown field `holdTime`",
        ],
    );
}

#[test]
fn wrong_values_are_named_together() {
    let text = "[bgp]\nasNumber = 0\n\
        [peers.a]\naddress = \"224.0.0.5\"\nasNumber = 23456\nport = 0\nholdTimeSeconds = 2\nnodeSelector = {}\n\
        [router]\nnetworks = [\"10.2.0.1/24\"]\n";
    refused(
        check(text),
        &[
            "bgp.asNumber",
            "bgp.routerId",
            "peers.a.address",
            "peers.a.asNumber",
            "peers.a.port",
            "peers.a.holdTimeSeconds",
            "peers.a.nodeSelector",
            "router.networks[0]",
            "10.2.0.0/24",
        ],
    );
}

#[test]
fn garbage_and_absence() {
    refused(check("\u{0}\u{1}["), &["bgpd.toml", "line 1"]);
    refused(check(""), &["bgpd.toml", "bgp"]);
    let ns = Ns::new("us").unwrap();
    for more in [&["--check"][..], &[]] {
        refused(
            run(&ns, Path::new("/nonexistent/bgpd.toml"), more),
            &["cannot read /nonexistent/bgpd.toml", "No such file"],
        );
    }
}

#[test]
fn a_port_in_use() {
    let (ns, dir) = (Ns::new("us").unwrap(), tempfile::tempdir().unwrap());
    let _taken = ns
        .within(|| std::net::TcpListener::bind("[::]:179"))
        .unwrap();
    let path = dir.path().join("bgpd.toml");
    std::fs::write(&path, config("", OUR_NETWORKS)).unwrap();
    refused(
        run(&ns, &path, &[]),
        &["TCP port 179 is in use", "listenPort"],
    );
}
