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
    assert_eq!(code, 2, "{said}");
    for word in words {
        assert!(said.contains(word), "lacks {word}:\n{said}");
    }
}

#[test]
fn a_right_file() {
    let (code, said) = check(&config(&peer("a", "10.99.0.2", ""), OUR_NETWORKS));
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("bgpd.toml: ok, 1 peers, 0 listen ranges"),
        "{said}"
    );
}

/// Every problem on a line of its own, with its place and path, and how many.
#[test]
fn everything_wrong_is_said_at_once() {
    let text = "[bgp]\nasNumber = 0\nrouterId = \"10.99.0.1\"\n\
        [peers.a]\naddress = \"224.0.0.5\"\nasNumber = 65002\nholdTime = 9\nholdTimeSeconds = 2\nimportPolicies = [\"gold\"]\n\
        [peers.b]\naddress = \"10.99.0.2\"\nasNumber = \"65002\"\n\
        [router]\nnetworks = [\"10.2.0.1/24\"]\n";
    let (ns, dir) = (Ns::new("us").unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("bgpd.toml");
    std::fs::write(&path, text).unwrap();
    let expected = "\
        :2:12: bgp.asNumber: AS 0 is reserved (RFC 7607): use 1 to 4294967294\n\
        :5:11: peers.a.address: 224.0.0.5 is not a unicast address\n\
        :7:1: peers.a.holdTime: unknown field: did you mean holdTimeSeconds?\n\
        :8:19: peers.a.holdTimeSeconds: 2 is refused by RFC 4271 §4.2: use 0 (never) or at least 3\n\
        :9:19: peers.a.importPolicies[0]: there is no route policy \"gold\": known are default, accept-all, reject-all\n\
        :12:12: peers.b.asNumber: is the text \"65002\": expected an AS number, external (any AS but ours) or internal (ours)\n\
        :14:13: router.networks[0]: 10.2.0.1/24 has host bits set: write 10.2.0.0/24\n\
        error: 7 problems\n";
    let expected = expected.replace("\n:", &format!("\n{}:", path.display()));
    let expected = format!("{}{expected}", path.display());
    // Started or checked: the same.
    for more in [&["--check"][..], &[]] {
        assert_eq!(run(&ns, &path, more), (2, expected.clone()));
    }
}

#[test]
fn garbage_and_absence() {
    refused(check("\u{0}\u{1}["), &["bgpd.toml:1:", "is no TOML"]);
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
    let (code, said) = run(&ns, &path, &[]);
    assert_eq!(code, 1, "{said}");
    for words in ["TCP port 179 is in use", "listenPort"] {
        assert!(said.contains(words), "lacks {words}:\n{said}");
    }
}

/// The other side's configurations in docs/bgp.md are what its programs take.
#[test]
fn the_recipes_of_other_routers() {
    let doc = include_str!("../../../docs/bgp.md");
    let check = |language: &str, program: &str, args: &[&str]| {
        let blocks: Vec<&str> = doc
            .split(&format!("\n```{language}\n"))
            .skip(1)
            .filter_map(|rest| rest.split("\n```").next())
            .collect();
        assert!(!blocks.is_empty(), "no block of {language}");
        for block in blocks {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("conf");
            std::fs::write(&path, format!("{block}\n")).unwrap();
            let output = std::process::Command::new(program)
                .args(args)
                .arg(&path)
                .output()
                .unwrap();
            let said =
                String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{block}\n{said}");
        }
    };
    check("frr", "vtysh", &["-C", "-f"]);
    check("bird", "bird", &["-p", "-c"]);
}
