//! Requests over one connection, against scripted listeners.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use roadbed_api::agent::Released;
use roadbed_client::{AgentClient, ClientError};

/// One request with its body; `None` when the client has closed.
fn request(stream: &mut UnixStream) -> Option<String> {
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).unwrap();
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n{}") {
        if stream.read(&mut byte).unwrap() == 0 {
            return None;
        }
        text.push(char::from(byte[0]));
    }
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// What a listener does with a connection: the answers that it gives, then it closes.
type Script = &'static [&'static str];

const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"existed\":true}";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"existed\":true}\r\n0\r\n\r\n";
const CLOSE: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 16\r\n\r\n{\"existed\":true}";
const TO_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\n{\"existed\":true}";
const REFUSED: &str = "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"exi";

/// Makes requests `/0`, `/1` … of a listener that answers connection after connection so; what came of each, and the
/// requests that each connection brought.
fn check(scripts: &'static [Script], expected: &[&str], brought: &[&[&str]]) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let listening = thread::spawn(move || {
        let mut seen = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = Vec::new();
            for answer in *script {
                let Some(path) = request(&mut stream) else {
                    break;
                };
                requests.push(path);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            seen.push(requests);
        }
        seen
    });
    let client = AgentClient::new(&socket).with_timeout(Duration::from_secs(5));
    let mut client = client.keep();
    let outcome = |n: usize| match client.post::<_, Released>(&format!("/{n}"), &Empty {}) {
        Ok(released) => format!("{}", released.existed),
        Err(ClientError::Status { status, .. }) => status.to_string(),
        Err(ClientError::Closed { .. }) => "closed".into(),
        Err(ClientError::NotRunning { .. }) => "away".into(),
        Err(error) => panic!("{error:?}"),
    };
    let found: Vec<String> = (0..expected.len()).map(outcome).collect();
    drop(client);
    assert_eq!(found, expected, "{scripts:?}");
    assert_eq!(listening.join().unwrap(), brought, "{scripts:?}");
}

#[derive(serde::Serialize)]
struct Empty {}

#[test]
fn one_connection_serves_while_it_is_kept() {
    let three = ["true"; 3];
    check(&[&[KEPT, KEPT, KEPT]], &three, &[&["/0", "/1", "/2"]]);
    check(&[&[CHUNKED, KEPT, CHUNKED]], &three, &[&["/0", "/1", "/2"]]);
    // A refusal is an answer.
    check(&[&[REFUSED, KEPT]], &["409", "true"], &[&["/0", "/1"]]);
}

#[test]
fn another_one_follows_when_it_is_closed() {
    let two = ["true"; 2];
    check(&[&[CLOSE], &[KEPT]], &two, &[&["/0"], &["/1"]]);
    check(&[&[TO_CLOSE], &[KEPT]], &two, &[&["/0"], &["/1"]]);
    // Without a word: the request goes out once more.
    check(&[&[KEPT], &[KEPT]], &two, &[&["/0"], &["/1"]]);
    // In the middle of an answer, too.
    check(&[&[KEPT, HALF], &[KEPT]], &two, &[&["/0", "/1"], &["/1"]]);
    // Once, and not for ever.
    check(
        &[&[KEPT, HALF], &[HALF]],
        &["true", "closed"],
        &[&["/0", "/1"], &["/1"]],
    );
    check(&[&[HALF]], &["closed"], &[&["/0"]]);
}
