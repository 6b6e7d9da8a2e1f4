//! `bgp` commands on answers that are streams: whole ones, refused ones, and ones that break off.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use serde_json::json;

/// Answers one request with these bytes; gives its request line back.
struct Once {
    dir: tempfile::TempDir,
    thread: JoinHandle<String>,
}

impl Once {
    fn new(answer: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("agent.sock")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(&answer).unwrap();
            request
        });
        Self { dir, thread }
    }

    /// Exit code, standard output, standard error, and what the agent was asked.
    fn run(self, args: &[&str]) -> (u8, String, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let run_dir = self.dir.path().display().to_string();
        let line = ["roadbedctl", "--run-dir", &run_dir];
        let code = roadbedctl::run(line.iter().chain(args).copied(), &mut out, &mut err);
        let request = self.thread.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err), request)
    }
}

fn chunked(chunks: &[&[u8]], ends: bool) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend_from_slice(chunk);
        answer.extend(b"\r\n");
    }
    if ends {
        answer.extend(b"0\r\n\r\n");
    }
    answer
}

fn route(prefix: &str, peer: &str, best: bool) -> Vec<u8> {
    let route = json!({
        "prefix": prefix, "origin": "bgp", "peer": peer, "best": best, "why": if best { "best" } else { "not best" },
        "ageSeconds": 5, "nextHop": "10.1.0.1", "nextHopState": {"state": "resolved", "igpCost": 0},
        "attributes": {"origin": "IGP", "asPath": "65101"}
    });
    format!("{route}\n").into_bytes()
}

#[test]
fn routes_are_asked_for_and_put_in_order() {
    let lines = [
        route("10.244.1.0/26", "a", false),
        route("10.244.1.0/26", "b", true),
        route("10.244.0.0/26", "a", true),
    ];
    let chunks: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let args = ["bgp", "routes", "10.244.0.0/16", "--received", "tor 1"];
    let (code, out, err, request) = Once::new(chunked(&chunks, true)).run(&args);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        request,
        "GET /v1/bgp/rib?prefix=10.244.0.0%2F16&received=tor%201 HTTP/1.1"
    );
    let first: Vec<&str> = out.lines().filter_map(|l| l.get(..19)).collect();
    assert_eq!(
        first,
        [
            "PREFIX         FROM",
            "10.244.0.0/26  a   ",
            "10.244.1.0/26  b   ",
            "               a   "
        ],
        "{out}"
    );
    let (code, out, ..) = Once::new(chunked(&chunks, true)).run(&["bgp", "rib", "-o", "name"]);
    assert_eq!((code, out.as_str()), (0, "10.244.0.0/26\n10.244.1.0/26\n"));
}

#[test]
fn nothing_found_and_a_stream_that_breaks_off_are_failures() {
    let args = ["bgp", "routes", "10.9.0.0/16", "--received", "tor1"];
    let (code, out, err, _) = Once::new(chunked(&[], true)).run(&args);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("tor1 has sent no route inside or around 10.9.0.0/16"),
        "{err}"
    );
    let line = route("10.244.1.0/26", "a", true);
    let (code, out, _, _) = Once::new(chunked(&[&line], false)).run(&["bgp", "rib"]);
    assert_eq!((code, out.as_str()), (1, ""), "half a table is not shown");
}

#[test]
fn a_dump_replaces_the_file_only_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rib.mrt");
    let path = file.display().to_string();
    let files = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    let (code, out, ..) = Once::new(chunked(&[b"abc", b"defg"], true)).run(&["bgp", "dump", &path]);
    assert_eq!((code, out), (0, format!("{path}: 7 octets\n")));
    assert_eq!(std::fs::read(&file).unwrap(), b"abcdefg");
    let (code, _, err, _) = Once::new(chunked(&[b"xyz"], false)).run(&["bgp", "dump", &path]);
    assert_eq!(code, 1);
    assert!(
        err.contains("in the middle of the dump") && err.contains(&path),
        "{err}"
    );
    assert_eq!(
        (std::fs::read(&file).unwrap().as_slice(), files(dir.path())),
        (&b"abcdefg"[..], 1)
    );
    let refused = json!({"code": "notReady", "message": "the speaker does not run"}).to_string();
    let answer = format!(
        "HTTP/1.1 503 X\r\ncontent-length: {}\r\n\r\n{refused}",
        refused.len()
    );
    let (code, _, err, _) = Once::new(answer.into_bytes()).run(&["bgp", "dump", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("the speaker does not run"), "{err}");
    assert_eq!(files(dir.path()), 1);
}
