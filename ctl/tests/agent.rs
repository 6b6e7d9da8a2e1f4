//! What is shown of an agent's answers, over a socket that answers like one.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// Answers each path with a fixed document until dropped.
struct FakeAgent {
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAgent {
    fn start(answers: Vec<(&'static str, u16, Value)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("agent.sock")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.and_then(|s| serve(s, &answers));
            }
        });
        Self {
            dir,
            stop,
            thread: Some(thread),
        }
    }

    fn run(&self, args: &[&str]) -> (u8, String, String) {
        run(self.dir.path(), args)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(self.dir.path().join("agent.sock"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: UnixStream, answers: &[(&str, u16, Value)]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let found = answers
        .iter()
        .find(|(path, ..)| request == format!("GET {path} HTTP/1.1"));
    let missing = (
        "",
        404,
        json!({"code": "notFound", "message": format!("no {request}")}),
    );
    let (_, status, body) = found.unwrap_or(&missing);
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn run(run_dir: &Path, args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let run_dir = run_dir.display().to_string();
    let line = ["roadbedctl", "--run-dir", &run_dir];
    let code = roadbedctl::run(line.iter().chain(args).copied(), &mut out, &mut err);
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

fn agent() -> FakeAgent {
    let status = json!({
        "node": "node1", "version": "0.1.0", "uptimeSeconds": 61, "asNumber": 65001, "routerId": "10.255.0.1",
        "nodeAddresses": ["10.255.0.1"],
        "store": {"home": "sqlite /srv/store.db", "reachable": true},
        "peers": [{
            "name": "tor1", "address": "10.1.0.1", "asNumber": 65101, "localAsNumber": 65001,
            "state": "Established", "stateSeconds": 192,
            "families": {"ipv4-unicast": {"received": 5, "accepted": 5, "advertised": 2, "endOfRib": true}}
        }]
    });
    let ipam = json!({
        "node": "node1",
        "pools": [{"name": "v4", "cidr": "10.244.0.0/16", "blockSize": 26, "slots": "1024", "usable": true}],
        "blocks": [{"cidr": "10.244.0.0/26", "pool": "v4", "state": "Confirmed", "capacity": 64, "inUse": 1, "cooling": 0}]
    });
    let attachments = json!({"attachments": [{
        "key": {"network": "pods", "containerId": "c1", "ifname": "eth0"},
        "state": "committed", "addresses": ["10.244.0.5"], "hostIfname": "rb0123456789ab"
    }]});
    let route = |prefix: &str| {
        json!({"prefix": prefix, "origin": "bgp", "peer": "tor1", "via": "10.1.0.1", "asPath": "65101",
            "best": true, "why": "only path", "installed": true})
    };
    let routes = json!({"node": "node1", "routes": [route("0.0.0.0/0"), route("10.244.1.0/26"), route("10.245.0.0/26")]});
    FakeAgent::start(vec![
        ("/v1/status", 200, status),
        ("/v1/ipam", 200, ipam),
        ("/v1/attachments", 200, attachments),
        ("/v1/routes", 200, routes),
    ])
}

#[test]
fn reports() {
    let agent = agent();
    let check = |args: &[&str], expected: &str| {
        assert_eq!(
            agent.run(args),
            (0, expected.to_owned(), String::new()),
            "{args:?}"
        );
    };
    check(
        &["status"],
        "\
Node        node1
AS          65001
Router ID   10.255.0.1
Addresses   10.255.0.1
Store       sqlite /srv/store.db (reachable)
Version     0.1.0, up 1m01s

NAME  ADDRESS   AS     STATE        SINCE  IPV4 IN/OUT  IPV6 IN/OUT
tor1  10.1.0.1  65101  Established  3m12s  5/2          -
",
    );
    check(&["status", "-o", "name"], "bgppeer/tor1\n");
    check(
        &["ipam", "show", "--blocks"],
        "\
CIDR           POOL  STATE      IN USE  COOLING
10.244.0.0/26  v4    Confirmed  1/64    0
",
    );
    check(
        &["ipam", "show", "-o", "name"],
        "ippool/v4\nipblock/10-244-0-0-26\n10.244.0.5\n",
    );
    for name in ["pods", "attachments"] {
        check(
            &[name],
            "\
POD  ADDRESSES   NETWORK  CONTAINER  IFNAME  HOST VETH       STATE
-    10.244.0.5  pods     c1         eth0    rb0123456789ab  committed
",
        );
    }
    check(
        &["routes", "10.244.1.7"],
        "\
PREFIX         ORIGIN  VIA       PEER  AS PATH  BEST  INSTALLED
0.0.0.0/0      bgp     10.1.0.1  tor1  65101    yes   yes
10.244.1.0/26  bgp     10.1.0.1  tor1  65101    yes   yes
",
    );
    check(
        &["routes", "10.0.0.0/8", "-o", "name"],
        "0.0.0.0/0\n10.244.1.0/26\n10.245.0.0/26\n",
    );
    check(&["version"], "roadbedctl  0.1.0\nagent       0.1.0\n");
}

#[test]
fn machine_formats_are_complete() {
    let agent = agent();
    let (_, text, _) = agent.run(&["ipam", "show", "-o", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["pools"][0]["slots"], "1024");
    assert_eq!(value["blocks"][0]["inUse"], 1);
    assert_eq!(value["attachments"][0]["key"]["containerId"], "c1");
    let (_, text, _) = agent.run(&["status", "-o", "yaml"]);
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(value["peers"][0]["state"], "Established");
}

#[test]
fn problems() {
    let agent = agent();
    let (code, _, err) = agent.run(&["routes", "fd00::/8"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "node1 has no route inside or around fd00::/8\n")
    );
    let refusing = FakeAgent::start(vec![(
        "/v1/status",
        503,
        json!({"code": "notReady", "message": "the store was never reached"}),
    )]);
    let (code, _, err) = refusing.run(&["status"]);
    assert_eq!(code, 1);
    assert!(err.contains("the store was never reached"), "{err}");
}

#[test]
fn nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let expected = |reason: &str| {
        format!(
            "no agent answers at {} ({reason}): is roadbed-agent (or roadbed-bgpd) running on this node? Another run directory: --run-dir\n",
            socket.display()
        )
    };
    let (code, out, err) = run(dir.path(), &["status"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, expected("no such file or directory"));
    drop(UnixListener::bind(&socket).unwrap());
    for args in [&["status"][..], &["ipam", "show"], &["routes"], &["pods"]] {
        let (code, _, err) = run(dir.path(), args);
        assert_eq!((code, err), (1, expected("connection refused")));
    }
    let (code, out, _) = run(dir.path(), &["version"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "roadbedctl  0.1.0\nagent       none answers\n")
    );
}
