//! The client against scripted listeners: what a healthy, a slow, a lying and a dying agent look like to it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use roadbed_api::agent::{ErrorCode, Probe, Released};
use roadbed_client::{AgentClient, ClientError};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

/// Answers one connection with `script`; joins to what the client had sent.
struct Agent {
    _dir: TempDir,
    socket: PathBuf,
    thread: JoinHandle<String>,
}

fn agent(script: impl FnOnce(&mut UnixStream) + Send + 'static) -> Agent {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let request = read_request(&mut stream);
        script(&mut stream);
        request
    });
    Agent {
        _dir: dir,
        socket,
        thread,
    }
}

fn says(answer: impl Into<Vec<u8>>) -> Agent {
    let answer = answer.into();
    agent(move |stream| drop(stream.write_all(&answer)))
}

fn json(status: &str, body: &str) -> Agent {
    says(format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.push(byte[0]);
    }
    let mut text = String::from_utf8(request).unwrap();
    if let Some(length) = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
    {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        text.push_str(&String::from_utf8(body).unwrap());
    }
    text
}

impl Agent {
    fn client(&self) -> AgentClient {
        AgentClient::new(&self.socket)
            .with_timeout(Duration::from_secs(5))
            .with_max_body(1024)
    }

    fn get(&self) -> Result<Released, ClientError> {
        self.client().get("/v1/thing")
    }
}

#[test]
fn a_get_is_one_plain_request() {
    let agent = json("200 OK", r#"{"existed":true}"#);
    assert!(agent.get().unwrap().existed);
    let request = agent.thread.join().unwrap();
    assert_eq!(
        request,
        "GET /v1/thing HTTP/1.1\r\nHost: roadbed\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn a_post_carries_its_json() {
    let agent = json("201 Created", r#"{"existed":false}"#);
    let answer: Released = agent
        .client()
        .post("/v1/x", &Released { existed: true })
        .unwrap();
    assert!(!answer.existed);
    let request = agent.thread.join().unwrap();
    assert!(request.starts_with("POST /v1/x HTTP/1.1\r\n"), "{request}");
    assert!(
        request.ends_with("Content-Length: 16\r\n\r\n{\"existed\":true}"),
        "{request}"
    );
}

#[test]
fn a_delete_may_be_answered_in_chunks() {
    let agent = says(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"existed\r\n7\r\n\":true}\r\n0\r\n\r\n",
    );
    assert!(agent.client().delete::<Released>("/v1/x").unwrap().existed);
    assert!(agent.thread.join().unwrap().starts_with("DELETE /v1/x "));
}

#[test]
fn a_refusal_brings_the_agents_words() {
    let agent = json(
        "507 Insufficient Storage",
        r#"{"code":"poolFull","message":"pool pods-v4 is full: add a pool"}"#,
    );
    let error = agent.get().unwrap_err();
    assert_eq!(error.api().unwrap().code, ErrorCode::PoolFull);
    assert!(
        error
            .to_string()
            .contains("pool pods-v4 is full: add a pool"),
        "{error}"
    );
    assert!(!error.is_away());
}

#[test]
fn a_refusal_without_words_names_path_and_status() {
    let error = json("404 Not Found", "nginx says no").get().unwrap_err();
    assert!(
        matches!(error, ClientError::Status { status: 404, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("/v1/thing"), "{error}");
}

#[test]
fn a_probe_is_read_from_503_too() {
    let agent = json(
        "503 Service Unavailable",
        r#"{"ok":false,"waitingFor":["no block is confirmed"]}"#,
    );
    let probe = agent.client().probe("/readyz").unwrap();
    assert_eq!(
        probe,
        Probe {
            ok: false,
            waiting_for: vec!["no block is confirmed".into()]
        }
    );
}

fn check_protocol(answer: &[u8]) {
    let error = says(answer).get().unwrap_err();
    assert!(
        matches!(error, ClientError::Protocol(_)),
        "{:?}: {error:?}",
        String::from_utf8_lossy(answer)
    );
    assert!(!error.is_away());
}

#[test]
fn garbage_is_named_as_not_http() {
    check_protocol(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    check_protocol(b"\xff\xfe\xfd\n\n\n");
    check_protocol(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    check_protocol(&[b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(5000)].concat());
}

#[test]
fn an_answer_that_stops_short_means_the_agent_went_away() {
    for cut in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"exis",
    ] {
        let error = says(cut).get().unwrap_err();
        assert!(
            matches!(error, ClientError::Closed { .. }) && error.is_away(),
            "{cut:?}: {error:?}"
        );
    }
}

#[test]
fn a_wrong_shape_is_a_version_question() {
    let error = json("200 OK", r#"{"existed":"yes"}"#).get().unwrap_err();
    assert!(matches!(error, ClientError::Json { .. }), "{error:?}");
    assert!(error.to_string().contains("same version"), "{error}");
}

#[test]
fn an_oversized_answer_stops_at_the_bound() {
    let endless = agent(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    assert!(matches!(
        endless.get().unwrap_err(),
        ClientError::TooLarge { limit: 1024 }
    ));
    endless.thread.join().unwrap();
    let announced = says(
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n".to_owned()
            + &" ".repeat(2000),
    );
    assert!(matches!(
        announced.get().unwrap_err(),
        ClientError::TooLarge { .. }
    ));
}

#[test]
fn the_deadline_covers_an_agent_that_trickles() {
    let trickle = agent(|stream| {
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let started = Instant::now();
    let client = trickle.client().with_timeout(Duration::from_millis(200));
    let error = client.get::<Released>("/v1/thing").unwrap_err();
    assert!(
        matches!(error, ClientError::Timeout { .. }) && error.is_away(),
        "{error:?}"
    );
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(190)..Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn the_deadline_covers_a_listener_with_a_full_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&socket).unwrap()).unwrap();
    listener.listen(0).unwrap();
    // A backlog of 0 takes one connection; from the second on, connect(2) itself waits.
    let _first = UnixStream::connect(&socket).unwrap();
    let started = Instant::now();
    let client = AgentClient::new(&socket).with_timeout(Duration::from_millis(100));
    let error = client.get::<Released>("/v1/x").unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_missing_socket_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let error = AgentClient::new(&socket)
        .get::<Released>("/v1/x")
        .unwrap_err();
    assert!(
        matches!(error, ClientError::NotRunning { .. }) && error.is_away(),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("is roadbed-agent running on this node?")
            && text.contains(socket.to_str().unwrap()),
        "{text}"
    );
    drop(UnixListener::bind(&socket).unwrap());
    let error = AgentClient::new(&socket)
        .get::<Released>("/v1/x")
        .unwrap_err();
    assert!(
        matches!(error, ClientError::NotRunning { .. }),
        "refused: {error:?}"
    );
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    let error = AgentClient::new(&socket)
        .get::<Released>("/v1/x")
        .unwrap_err();
    assert!(
        matches!(error, ClientError::NotRunning { .. }),
        "a plain file: {error:?}"
    );
}

#[test]
fn a_path_too_long_for_a_socket_is_its_own_error() {
    let error = AgentClient::new("/".to_owned() + &"x".repeat(200))
        .get::<Released>("/v1/x")
        .unwrap_err();
    assert!(matches!(error, ClientError::SocketPath { .. }), "{error:?}");
    assert!(error.to_string().contains("runDir"), "{error}");
}

#[test]
fn a_request_path_cannot_smuggle_a_header() {
    for bad in ["", "v1", "/v1/a b", "/v1/a\r\nX: y", "/v1/é"] {
        let error = AgentClient::new("/nonexistent")
            .get::<Released>(bad)
            .unwrap_err();
        assert!(
            matches!(error, ClientError::BadRequestPath(_)),
            "{bad:?}: {error:?}"
        );
    }
}

#[test]
fn lines_come_one_by_one_and_end_with_the_stream() {
    let agent = agent(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for chunk in ["{\"existed\":", "true}\n\n{\"existed\":false}\n", "\n"] {
            stream
                .write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())
                .unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let lines = agent
        .client()
        .lines::<Released>("/v1/watch", Some(Duration::from_secs(5)))
        .unwrap();
    let values: Vec<bool> = lines.map(|line| line.unwrap().existed).collect();
    assert_eq!(values, [true, false]);
}

#[test]
fn a_stream_reports_its_first_fault_and_ends() {
    let check = |body: &str, expected: fn(&ClientError) -> bool| {
        let agent = says(format!(
            "HTTP/1.1 200 OK\r\n\r\n{{\"existed\":true}}\n{body}"
        ));
        let mut lines = agent
            .client()
            .lines::<Released>("/v1/watch", Some(Duration::from_secs(5)))
            .unwrap();
        assert!(lines.next().unwrap().unwrap().existed);
        let error = lines.next().unwrap().unwrap_err();
        assert!(expected(&error), "{body:?}: {error:?}");
        assert!(lines.next().is_none());
    };
    check("{\"existed\":tr", |e| {
        matches!(e, ClientError::Closed { .. })
    });
    check("nonsense\n", |e| matches!(e, ClientError::Json { .. }));
    let refused = json(
        "403 Forbidden",
        r#"{"code":"forbidden","message":"root only"}"#,
    );
    let error = refused
        .client()
        .lines::<Released>("/v1/watch", None)
        .err()
        .unwrap();
    assert_eq!(error.api().unwrap().code, ErrorCode::Forbidden);
}

#[test]
fn a_silent_stream_times_out_on_idle() {
    let agent = agent(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        thread::sleep(Duration::from_millis(500));
    });
    let mut lines = agent
        .client()
        .lines::<Released>("/v1/watch", Some(Duration::from_millis(50)))
        .unwrap();
    assert!(matches!(
        lines.next().unwrap().unwrap_err(),
        ClientError::Timeout { .. }
    ));
}
