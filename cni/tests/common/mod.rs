//! A node in miniature for the plugin binary: a namespace as the host, one as the pod, and a scripted agent.
#![allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, AttachmentState, Reservation};
use roadbed_api::names;
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{LinkTarget, MacAddr, NamedNetNs, Netlink, Route};
use serde_json::{Value, json};
use tempfile::TempDir;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What the scripted agent does with a request.
pub(crate) enum Reply {
    Json(u16, Value),
    /// Reads the request and never answers.
    Silence,
    /// Reads the request and closes the connection.
    Hangup,
}

type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

pub(crate) struct Node {
    pub(crate) host: NamedNetNs,
    pub(crate) pod: NamedNetNs,
    pub(crate) run_dir: TempDir,
    agent: Option<Agent>,
}

struct Agent {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct Output {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: stdout {:?}, stderr {}", self.stdout, self.stderr))
    }

    /// Asserts failure with this code and these parts of the message.
    pub(crate) fn check_error(&self, code: u32, parts: &[&str]) {
        let error = self.json();
        assert!(!self.ok, "{error}");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["cniVersion"].is_string(), "{error}");
        for part in parts {
            assert!(
                error["msg"].as_str().unwrap().contains(part),
                "{error}: expected {part:?}"
            );
        }
    }

    pub(crate) fn check_ok(&self) {
        assert!(self.ok, "stdout {:?}, stderr {}", self.stdout, self.stderr);
    }
}

pub(crate) fn key() -> AttachmentKey {
    AttachmentKey {
        network: "pods".into(),
        container_id: "c0ffee".into(),
        ifname: "eth0".into(),
    }
}

pub(crate) fn mac(side: u8) -> MacAddr {
    MacAddr(names::attachment_mac(&key(), side))
}

pub(crate) fn reservation(state: AttachmentState) -> Reservation {
    let key = key();
    Reservation {
        state,
        addresses: vec![
            "10.244.0.5".parse().unwrap(),
            "fd00:244::5".parse().unwrap(),
        ],
        mtu: 1450,
        host_ifname: names::host_ifname(&key),
        host_alias: names::ifalias(&key),
        host_mac: mac(0).to_string(),
        pod_mac: mac(1).to_string(),
        gateway_v4: names::GATEWAY_V4,
        gateway_v6: names::GATEWAY_V6,
        key,
    }
}

/// A healthy agent's answer; scripts change what they care about.
pub(crate) fn healthy(request: &str) -> Reply {
    let reserved = reservation(AttachmentState::Wiring);
    match request.split(' ').next().unwrap() {
        "POST" if request.ends_with("/commit") => Reply::Json(
            200,
            json!({
                "key": reserved.key,
                "state": "committed",
                "addresses": reserved.addresses,
                "hostIfname": reserved.host_ifname,
            }),
        ),
        "POST" => Reply::Json(200, json!(reserved)),
        "DELETE" => Reply::Json(200, json!({"existed": true})),
        _ if request == "GET /readyz" => Reply::Json(200, json!({"ok": true})),
        _ => refuse(404, "notFound", "no such thing"),
    }
}

pub(crate) fn refuse(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(status, json!({"code": code, "message": message}))
}

impl Node {
    pub(crate) fn new(what: &str) -> Self {
        let make = |part: &str| {
            let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("rbt-{what}-{part}-{}-{counter}", std::process::id());
            NamedNetNs::create(&name).expect("create a namespace (the tests need root)")
        };
        Self {
            host: make("host"),
            pod: make("pod"),
            run_dir: tempfile::tempdir().unwrap(),
            agent: None,
        }
    }

    pub(crate) fn with_agent(what: &str) -> Self {
        let mut node = Self::new(what);
        node.start_agent(|request, _| healthy(request));
        node
    }

    pub(crate) fn start_agent(
        &mut self,
        script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) {
        self.agent = None;
        self.agent = Some(Agent::start(self.socket(), Arc::new(script)));
    }

    pub(crate) fn stop_agent(&mut self) {
        self.agent = None;
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.path().join(names::SOCKET_NAME)
    }

    /// Requests so far, as "METHOD path" or "METHOD path body".
    pub(crate) fn seen(&self) -> Vec<String> {
        self.agent
            .as_ref()
            .map(|agent| agent.seen.lock().unwrap().clone())
            .unwrap_or_default()
    }

    pub(crate) fn in_host(&self) -> Netlink {
        Netlink::open_in(self.host.ns()).unwrap()
    }

    pub(crate) fn in_pod(&self) -> Netlink {
        Netlink::open_in(self.pod.ns()).unwrap()
    }

    pub(crate) fn conf(&self) -> Value {
        json!({
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "roadbed",
            "runDir": self.run_dir.path(),
            "waitSeconds": 0,
        })
    }

    pub(crate) fn conf_with(&self, changes: Value) -> Value {
        let mut conf = self.conf();
        conf.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        conf
    }

    /// Runs the plugin as a runtime does, inside the host's namespace. `changes` overrides the environment.
    pub(crate) fn run(&self, command: &str, stdin: &str, changes: &[(&str, &str)]) -> Output {
        let netns = self.pod.path().to_str().unwrap();
        let vars = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0",
            ),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        run_in(self.host.ns(), || {
            let mut child = Command::new(env!("CARGO_BIN_EXE_roadbed"))
                .env_clear()
                .envs(vars)
                .envs(changes.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // The plugin may refuse before it has read everything.
            let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
            let output = child.wait_with_output().unwrap();
            Output {
                ok: output.status.success(),
                stdout: String::from_utf8(output.stdout).unwrap(),
                stderr: String::from_utf8(output.stderr).unwrap(),
            }
        })
        .unwrap()
    }

    pub(crate) fn call(&self, command: &str) -> Output {
        self.run(command, &self.conf().to_string(), &[])
    }

    /// What the agent does between commit and its answer.
    pub(crate) fn wire_host_end(&self) {
        let mut host = self.in_host();
        let name = names::host_ifname(&key());
        let near = host.link(LinkTarget::Name(&name)).unwrap().ifindex;
        for address in reservation(AttachmentState::Committed).addresses {
            host.neigh_replace(near, address, mac(1)).unwrap();
            let route = Route::on_link(IpNet::from(address), near);
            let protocol = names::ROUTE_PROTOCOL;
            host.route_add(&Route { protocol, ..route }).unwrap();
        }
    }

    /// ADD, and what the agent does of it.
    pub(crate) fn add(&self) -> Value {
        let output = self.call("ADD");
        output.check_ok();
        self.wire_host_end();
        output.json()
    }

    /// Neither namespace has anything but its loopback.
    pub(crate) fn check_clean(&self) {
        for (place, mut netlink) in [("host", self.in_host()), ("pod", self.in_pod())] {
            let names: Vec<String> = netlink
                .links("")
                .unwrap()
                .into_iter()
                .map(|link| link.name)
                .collect();
            assert_eq!(names, ["lo"], "{place}");
        }
    }

    pub(crate) fn note(&self) -> PathBuf {
        self.run_dir
            .path()
            .join(names::NOTES_DIR)
            .join(names::host_ifname(&key()) + ".json")
    }
}

impl Agent {
    fn start(socket: PathBuf, script: Arc<Script>) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, log) = (stop.clone(), seen.clone());
        let thread = thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Some((request, body)) = read_request(&mut stream) else {
                    continue;
                };
                log.lock().unwrap().push(match &body {
                    Value::Null => request.clone(),
                    body => format!("{request} {body}"),
                });
                match script(&request, &body) {
                    Reply::Silence => silent.push(stream),
                    Reply::Hangup => {}
                    Reply::Json(status, value) => {
                        let text = value.to_string();
                        let head = format!(
                            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                            text.len()
                        );
                        let _ = stream.write_all((head + &text).as_bytes());
                    }
                }
            }
        });
        Self {
            stop,
            seen,
            socket,
            thread: Some(thread),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener; if the test moved the socket away, its thread ends with the process.
        if UnixStream::connect(&self.socket).is_ok() {
            let _ = self.thread.take().unwrap().join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn read_request(stream: &mut UnixStream) -> Option<(String, Value)> {
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let request = head
        .lines()
        .next()
        .unwrap()
        .strip_suffix(" HTTP/1.1")
        .unwrap()
        .to_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some((request, serde_json::from_slice(&body).unwrap_or_default()))
}
