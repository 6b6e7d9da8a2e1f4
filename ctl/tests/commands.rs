//! Whole command lines against a store in a temporary directory.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::Path;

use clap::CommandFactory;
use roadbed_api::Object;
use roadbed_api::kinds::block_name;
use roadbed_store::{Labels, Store, StoreConfig};
use roadbedctl::cli::Cli;
use serde_json::json;

struct Done {
    code: u8,
    out: String,
    err: String,
}

impl Done {
    fn ok(self, expected: &str) {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        assert_eq!(self.out, expected);
    }

    fn fails(self, code: u8, expected: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in expected {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
    }
}

fn run(args: &[&str]) -> Done {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("roadbedctl").chain(args.iter().copied());
    let code = roadbedctl::run(args, &mut out, &mut err);
    Done {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// A directory with a store and a file of manifests.
struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Done {
        let store = format!("sqlite:{}", self.path("store.db"));
        let args: Vec<&str> = ["--store", &store]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        run(&args)
    }

    /// Adds an object past the command, as an agent would.
    fn claim(&self, cidr: &str, pool: &str, node: &str) {
        let cidr = cidr.parse().unwrap();
        let object = Object {
            kind: roadbed_api::Kind::IPBlock,
            metadata: roadbed_api::Metadata::named(block_name(&cidr)),
            spec: json!({"cidr": cidr, "pool": pool, "owner": {"node": node}, "state": "Confirmed"}),
            status: None,
        };
        let config = StoreConfig::Sqlite {
            path: self.path("store.db").into(),
        };
        block_on(async {
            let store = roadbed_store::open(&config).await.unwrap();
            store.create(object).await.unwrap();
        });
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn pool(name: &str, cidr: &str, more: &str) -> String {
    format!(
        "---\napiVersion: roadbed.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: \"{cidr}\"{more}}}\n"
    )
}

fn peer(name: &str, asn: u32) -> String {
    format!(
        "---\napiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{address: 10.1.0.1, asNumber: {asn}}}\n"
    )
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_and_wrong_lines() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(
        help.out.contains("Examples:") && help.out.contains("Exit codes:"),
        "{}",
        help.out
    );
    run(&["stats"]).fails(2, &["unrecognized subcommand 'stats'"]);
    run(&["--store", "redis:x", "get", "ippools"]).fails(2, &["--store", "sqlite:PATH"]);
    run(&["get", "pods"]).fails(
        2,
        &["unknown kind \"pods\": known are BGPConfig, IPPool, IPBlock, BGPRoutePolicy, BGPPeer, all"],
    );
    run(&["routes", "10.0.0.0/33"]).fails(2, &["write a prefix"]);
    run(&["delete", "ippool"]).fails(2, &["<NAME>"]);
    run(&["delete"]).fails(2, &["KIND"]);
    run(&["apply"]).fails(2, &["--file <FILE>"]);
    run(&["get", "ippools"]).fails(2, &["--store sqlite:PATH", "ROADBED_STORE"]);
}

#[test]
fn under_the_name_that_kubectl_looks_for() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = roadbedctl::run(
        ["/usr/bin/kubectl-roadbed", "get", "--help"],
        &mut out,
        &mut err,
    );
    let text = String::from_utf8(out).unwrap();
    assert_eq!(code, 0);
    assert!(text.contains("Usage: kubectl roadbed get"), "{text}");
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(&["completion", shell]);
        assert!(
            done.code == 0 && done.out.contains("validate"),
            "{shell}: {}",
            done.err
        );
    }
}

#[test]
fn apply_is_idempotent() {
    let room = Room::new();
    let text = peer("tor1", 65101) + &pool("pods-v4", "10.244.0.0/16", "");
    let file = room.write("all.yaml", &text);
    room.run(&["apply", "-f", &file, "--dry-run"])
        .ok("ippool/pods-v4 created (dry run)\nbgppeer/tor1 created (dry run)\n");
    assert!(
        !Path::new(&room.path("store.db")).exists(),
        "a dry run writes nothing"
    );
    room.run(&["apply", "-f", &file])
        .ok("ippool/pods-v4 created\nbgppeer/tor1 created\n");
    room.run(&["apply", "-f", &file])
        .ok("ippool/pods-v4 unchanged\nbgppeer/tor1 unchanged\n");
    // The same, said otherwise: a default written out.
    let same = pool("pods-v4", "10.244.0.0/16", ", disabled: false");
    let same = room.write("same.yaml", &same);
    room.run(&["apply", "-f", &same])
        .ok("ippool/pods-v4 unchanged\n");
    let changed = peer("tor1", 65102) + &pool("pods-v4", "10.244.0.0/16", ", disabled: true");
    let changed = room.write("changed.yaml", &changed);
    room.run(&["apply", "-f", &changed, "--dry-run"])
        .ok("ippool/pods-v4 configured (dry run)\nbgppeer/tor1 configured (dry run)\n");
    room.run(&["apply", "-f", &file])
        .ok("ippool/pods-v4 unchanged\nbgppeer/tor1 unchanged\n");
    room.run(&["-o", "name", "apply", "-f", &changed])
        .ok("ippool/pods-v4\nbgppeer/tor1\n");
    let shown = room.run(&["get", "bgppeer", "tor1", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["spec"]["asNumber"], 65102);
    assert!(shown["metadata"]["uid"].is_string());
}

#[test]
fn what_get_writes_apply_takes() {
    let room = Room::new();
    let text = peer("tor1", 65101) + &pool("pods-v4", "10.244.0.0/16", "");
    let file = room.write("all.yaml", &text);
    assert_eq!(room.run(&["apply", "-f", &file]).code, 0);
    for format in ["yaml", "json"] {
        let shown = room.run(&["get", "all", "-o", format]).out;
        let again = room.write("again.yaml", &shown);
        room.run(&["apply", "-f", &again])
            .ok("ippool/pods-v4 unchanged\nbgppeer/tor1 unchanged\n");
    }
}

#[test]
fn wrong_manifests_write_nothing() {
    let room = Room::new();
    let good = room.write("dir/a.yaml", &pool("good", "10.1.0.0/16", ""));
    room.write(
        "dir/b.yml",
        &pool("b", "10.2.0.0/16", ", blockSize: 19, colour: red"),
    );
    room.write("dir/c.json", "{\"kind\": \"IPPool\"}");
    room.write("dir/notes.txt", "not a manifest");
    let dir = room.path("dir");
    room.run(&["apply", "-f", &dir]).fails(
        1,
        &[
            "b.yml:5:44: IPPool/b: spec.colour: unknown field",
            "b.yml:5:40: IPPool/b: spec.blockSize: /19 is out of range",
            "c.json:1:1: IPPool: apiVersion: is missing",
        ],
    );
    assert!(!Path::new(&room.path("store.db")).exists());
    room.run(&["apply", "-f", &good, "-f", &good])
        .fails(1, &["IPPool/good: metadata.name: is given twice, also in"]);
    room.run(&["apply", "-f", &room.path("none.yaml")])
        .fails(1, &["none.yaml: cannot be read: No such file"]);
    let empty = room.write("empty.yaml", "# nothing\n---\n");
    room.run(&["apply", "-f", &empty])
        .fails(1, &["no resource in"]);
    let latin = room.path("latin.yaml");
    std::fs::write(&latin, b"caf\xe9").unwrap();
    room.run(&["validate", "-f", &latin])
        .fails(1, &["byte 3 is not UTF-8"]);
}

#[test]
fn overlapping_pools_are_refused() {
    let room = Room::new();
    let file = room.write("a.yaml", &pool("a", "10.244.0.0/16", ""));
    assert_eq!(room.run(&["apply", "-f", &file]).code, 0);
    let text = pool("b", "10.244.128.0/17", "") + &pool("c", "10.245.0.0/16", "");
    let file = room.write("b.yaml", &text);
    room.run(&["apply", "-f", &file]).fails(
        1,
        &["b.yaml: IPPool/b: spec.cidr: 10.244.128.0/17 overlaps 10.244.0.0/16 of IPPool/a in the store"],
    );
    room.run(&["get", "ippools", "-o", "name"]).ok("ippool/a\n");
    let text = pool("d", "fd00::/48", "") + &pool("e", "fd00::/64", "");
    let file = room.write("c.yaml", &text);
    for command in ["apply", "validate"] {
        room.run(&[command, "-f", &file]).fails(
            1,
            &["IPPool/e: spec.cidr: fd00::/64 overlaps fd00::/48 of IPPool/d in"],
        );
    }
    let file = room.write("good.yaml", &pool("d", "fd00::/48", ""));
    room.run(&["validate", "-f", &file]).ok("ippool/d valid\n");
}

#[test]
fn what_cannot_change() {
    let room = Room::new();
    let file = room.write("a.yaml", &pool("a", "10.244.0.0/16", ""));
    assert_eq!(room.run(&["apply", "-f", &file]).code, 0);
    let moved = room.write("b.yaml", &pool("a", "10.245.0.0/16", ""));
    room.run(&["apply", "-f", &moved]).fails(
        1,
        &["IPPool/a: spec.cidr: is 10.244.0.0/16 and cannot become 10.245.0.0/16"],
    );
    let cut = room.write("c.yaml", &pool("a", "10.244.0.0/16", ", blockSize: 27"));
    room.run(&["apply", "-f", &cut]).fails(
        1,
        &["IPPool/a: spec.blockSize: is /26 and cannot become /27"],
    );
    let block = "apiVersion: roadbed.dev/v1alpha1\nkind: IPBlock\nmetadata: {name: mine}\nspec: {cidr: 10.244.0.0/26, pool: a, owner: {node: n}, state: Pending}\n";
    let block = room.write("d.yaml", block);
    room.run(&["validate", "-f", &block]).fails(
        1,
        &["IPBlock/mine: metadata.name: the block 10.244.0.0/26 is named 10-244-0-0-26"],
    );
}

#[test]
fn deleting() {
    let room = Room::new();
    let text = peer("tor1", 65101) + &pool("a", "10.244.0.0/16", "");
    let file = room.write("a.yaml", &text);
    assert_eq!(room.run(&["apply", "-f", &file]).code, 0);
    room.claim("10.244.0.0/26", "a", "node2");
    room.claim("10.244.0.64/26", "a", "node1");
    room.claim("10.244.0.128/26", "a", "node1");
    room.run(&["delete", "ippool", "a"]).fails(
        1,
        &["IPPool/a still has 3 blocks, on node1, node2: disable it"],
    );
    room.run(&["delete", "ipblock", "10-244-0-0-26"])
        .fails(1, &["IPBlock/10-244-0-0-26 belongs to node2"]);
    for name in ["10-244-0-0-26", "10-244-0-64-26", "10-244-0-128-26"] {
        room.run(&["delete", "ipblock", name, "--force"])
            .ok(&format!("ipblock/{name} deleted\n"));
    }
    room.run(&["delete", "-f", &file])
        .ok("bgppeer/tor1 deleted\nippool/a deleted\n");
    room.run(&["delete", "ippool", "a"])
        .fails(1, &["IPPool/a is not in sqlite "]);
    room.run(&["delete", "ippool", "a", "--ignore-not-found"])
        .ok("");
    room.run(&["get", "all"]).ok("No resources.\n");
    room.run(&["get", "ippool", "a"])
        .fails(1, &["IPPool/a is not in sqlite "]);
}

#[test]
fn a_store_that_is_away() {
    let room = Room::new();
    room.run(&["get", "ippools"]).fails(1, &["store.db"]);
    assert!(
        !Path::new(&room.path("store.db")).exists(),
        "reading creates no store"
    );
}

#[test]
fn applies_at_the_same_time_agree() {
    let store = roadbed_store::MemoryStore::new();
    let manifest = |asn: u32| {
        let text = (0..20)
            .map(|i| peer(&format!("tor{i}"), asn + i))
            .collect::<String>();
        roadbedctl::manifests::parse_all(&[("f.yaml".to_owned(), text)]).unwrap()
    };
    let (one, two) = (manifest(65100), manifest(65200));
    block_on(async {
        let (mut first, mut second) = (0, 0);
        let (mut count_first, mut count_second) = (|_: &_, _| first += 1, |_: &_, _| second += 1);
        let both = futures(
            roadbedctl::apply::apply(&store, &one, false, &mut count_first),
            roadbedctl::apply::apply(&store, &two, false, &mut count_second),
        )
        .await;
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert_eq!((first, second), (20, 20));
        let listed = store
            .list(roadbed_api::Kind::BGPPeer, &Labels::new())
            .await
            .unwrap();
        assert_eq!(listed.objects.len(), 20);
    });
}

async fn futures<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    tokio::join!(a, b)
}

const POLICIES: &str = "\
apiVersion: roadbed.dev/v1alpha1
kind: BGPRoutePolicy
metadata: {name: from-tor}
spec:
  rules:
    - name: blackholes
      match: {communities: [blackhole]}
      action: reject
    - set: {med: 10}
    - name: pods
      match:
        prefixes: [{prefix: 10.244.0.0/16, ge: 26, le: 26}]
        asPath: ^65101 (65[0-9]+ )*65121$
        peers: [tor1]
      set:
        localPref: 200
        prependAs: {count: 2}
        communities: {add: [65000:2], remove: [65000:1]}
        nextHop: self
      action: accept
  defaultAction: next
---
apiVersion: roadbed.dev/v1alpha1
kind: BGPConfig
metadata: {name: default}
spec: {asNumber: 65001}
---
apiVersion: roadbed.dev/v1alpha1
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16}
";

#[test]
fn a_policy_is_tested_from_a_file_and_from_the_store() {
    let room = Room::new();
    let file = room.path("policies.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let store = format!("sqlite:{}", room.path("policies.db"));
    let route = [
        "bgp",
        "policy",
        "test",
        "--policy",
        "from-tor",
        "--prefix",
        "10.244.1.0/26",
        "--as-path",
        "65101 65001 65121",
        "--community",
        "65000:1,no-export",
        "--peer",
        "tor1",
        "--next-hop",
        "10.0.0.1",
    ];
    let with = |extra: &[&str]| run(&[&route[..], extra].concat());
    let expected = "\
accept by from-tor: rules[2] \"pods\"

                      BEFORE             AFTER
PREFIX                10.244.1.0/26      10.244.1.0/26
NEXT HOP              10.0.0.1           self
AS PATH               65101 65001 65121  65001 65001 65101 65001 65121
LOCAL PREF            -                  200
MED                   -                  10
COMMUNITIES           65000:1,no-export  65000:2,no-export
";
    with(&["-f", &file]).ok(expected);
    run(&["--store", &store, "apply", "-f", &file, "-o", "name"])
        .ok("bgpconfig/default\nippool/pods\nbgproutepolicy/from-tor\n");
    with(&["--store", &store]).ok(expected);
    run(&["--store", &store, "get", "bgprp", "-o", "name"]).ok("bgproutepolicy/from-tor\n");

    let done = with(&["-f", &file, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["decision"], "accept");
    assert_eq!(
        report["rule"],
        json!({"policy": "from-tor", "index": 2, "name": "pods"})
    );
    assert_eq!(
        report["before"]["communities"],
        json!(["65000:1", "no-export"])
    );
    assert_eq!(report["after"]["localPref"], 200);
    assert_eq!(report["after"]["nextHop"], "self");

    let rejected = with(&["-f", &file, "--community", "blackhole"]);
    assert!(
        rejected
            .out
            .starts_with("reject by from-tor: rules[0] \"blackholes\"\n")
    );
    assert!(!rejected.out.contains("AFTER"), "{}", rejected.out);
}

/// A router's file has the policies, our AS, and much else that does not matter here.
#[test]
fn a_policy_is_tested_from_the_file_of_a_standalone_router() {
    let room = Room::new();
    let file = room.path("bgpd.toml");
    let text = r#"
[bgp]
asNumber = 65001
routerId = "10.255.0.1"
nodePrefixes = ["192.0.2.0/24"]

[[policies.from-tor.rules]]
match = { prefixes = [{ prefix = "10.66.0.0/16", ge = 24, le = 28 }] }
set = { prependAs = { count = 2 } }
action = "accept"

[peers.tor]
address = "192.0.2.1"
asNumber = 65101
importPolicies = ["from-tor"]

[router]
networks = ["10.1.0.0/24"]
"#;
    std::fs::write(&file, text).unwrap();
    let test = |file: &str, policy: &str, prefix: &str| {
        let base = ["bgp", "policy", "test", "-f", file, "--policy", policy];
        run(&[&base[..], &["--prefix", prefix, "--as-path", "65101"]].concat())
    };
    let done = test(&file, "from-tor", "10.66.1.0/26");
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    assert!(
        done.out.starts_with("accept by from-tor: rules[0]\n"),
        "{}",
        done.out
    );
    assert!(done.out.contains("65001 65001 65101"), "{}", done.out);
    let verdict = |policy: &str, prefix: &str| {
        let out = test(&file, policy, prefix).out;
        out.lines().next().unwrap_or_default().to_owned()
    };
    for prefix in ["10.66.0.0/23", "10.66.1.0/29"] {
        let said = "reject by from-tor: defaultAction";
        assert_eq!(verdict("from-tor", prefix), said, "{prefix}");
    }
    assert_eq!(
        verdict("default", "192.0.2.7/32"),
        "accept by default: built in"
    );

    let wrong = room.path("wrong.toml");
    std::fs::write(&wrong, text.replace("ge = 24", "gee = 24")).unwrap();
    test(&wrong, "from-tor", "10.66.1.0/26").fails(1, &["wrong.toml", "from-tor", "gee"]);
    std::fs::write(&wrong, text.replace("le = 28", "le = 8")).unwrap();
    test(&wrong, "from-tor", "10.66.1.0/26").fails(1, &["rules[0].match.prefixes[0]", "le"]);
    std::fs::write(&wrong, "[bgp").unwrap();
    test(&wrong, "from-tor", "10.66.1.0/26").fails(1, &["wrong.toml", "line 1"]);
    let none = room.path("none.toml");
    test(&none, "from-tor", "10.66.1.0/26").fails(1, &["none.toml", "cannot be read"]);
}

#[test]
fn a_policy_test_follows_the_chain_and_its_direction() {
    let room = Room::new();
    let file = room.path("policies.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let check = |args: &[&str], expected: &str| {
        let base = ["bgp", "policy", "test", "-f", &file, "--policy", "from-tor"];
        let done = run(&[&base[..], args].concat());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}");
        assert_eq!(done.out.lines().next(), Some(expected), "{args:?}");
    };
    let pod = ["--prefix", "10.244.1.0/26"];
    check(&pod, "reject by no policy decides (RFC 8212)");
    check(
        &[&pod[..], &["--policy", "accept-all"]].concat(),
        "accept by accept-all: built in",
    );
    check(
        &[&pod[..], &["--policy", "default"]].concat(),
        "accept by default: built in",
    );
    check(
        &["--policy", "default", "--prefix", "192.0.2.0/24"],
        "reject by default: built in",
    );
    let out = ["--policy", "default", "--direction", "export"];
    check(&[&pod[..], &out].concat(), "reject by default: built in");
    check(
        &[&pod[..], &out, &["--source", "ownBlock"]].concat(),
        "accept by default: built in",
    );
}

#[test]
fn a_policy_test_says_what_is_missing() {
    let room = Room::new();
    let file = room.path("policies.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let base = [
        "bgp",
        "policy",
        "test",
        "-f",
        &file,
        "--prefix",
        "10.244.1.0/26",
    ];
    let test = |args: &[&str]| run(&[&base[..], args].concat());
    test(&["--policy", "to-tor"]).fails(
        1,
        &["there is no route policy \"to-tor\": known are default, accept-all, reject-all, from-tor"],
    );
    test(&["--policy", "from-tor", "--as-path", "65101,65121"])
        .fails(2, &["--as-path: \"65101,65121\" is not an AS number"]);
    test(&["--policy", "from-tor", "--community", "65000:*"])
        .fails(2, &["--community: \"65000:*\" names many"]);
    test(&["--policy", "from-tor", "--large-community", "1:2"])
        .fails(2, &["--large-community: \"1:2\" is not a large community"]);
    test(&["--policy", "from-tor", "--source", "peer"]).fails(
        2,
        &["write one of ownBlock, node, service, static, learned"],
    );
    let lone = room.path("lone.yaml");
    let documents = POLICIES.split("---\n").next().unwrap();
    std::fs::write(&lone, documents).unwrap();
    let prefix = ["--prefix", "10.244.1.0/26"];
    let base = ["bgp", "policy", "test", "--policy", "from-tor", "-f", &lone];
    run(&[&base[..], &prefix].concat()).fails(2, &["say --local-as"]);
    assert_eq!(
        run(&[&base[..], &prefix, &["--local-as", "65001"]].concat()).code,
        0
    );
    run(&[
        "bgp",
        "policy",
        "test",
        "--policy",
        "x",
        "--prefix",
        "10.0.0.0/8",
    ])
    .fails(2, &["which store?"]);
}
