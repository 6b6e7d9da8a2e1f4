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
        &["unknown kind \"pods\": known are BGPConfig, IPPool, IPBlock, BGPPeer, all"],
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
