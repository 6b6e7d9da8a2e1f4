//! Labs for real: namespaces, FRR, teardown. Needs root and Debian's frr, iproute2 and traceroute.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roadbed_lab::{Lab, LabError, Options, Topology};

const EXE: &str = env!("CARGO_BIN_EXE_roadbed-lab");

const PLAIN: &str = r#"name: plain
topology:
  kinds: {linux: {image: alpine, sysctls: {net.ipv6.conf.default.accept_dad: 0}}}
  nodes:
    a:
      kind: linux
      env: {COLOUR: red}
      binds: ["data:/var/run/data:ro", "file.txt:/etc/deep/file.txt", "__clabDir__/shared:/shared"]
      exec:
        - ip address add 192.0.2.1/24 dev eth1
        - sh -c 'echo $COLOUR > /root/colour'
    b:
      kind: linux
      cmd: sleep 1000
      binds: ["__clabDir__/shared:/shared", "__clabNodeDir__/own:/own"]
      exec: [ip address add 192.0.2.2/24 dev eth1]
  links:
    - endpoints: ["a:eth1", "b:eth1"]
      mtu: 1400
"#;

/// A topology in a directory of its own, and options that keep the test's labs apart from any other.
struct Bench {
    dir: tempfile::TempDir,
    name: String,
}

impl Bench {
    fn new(text: &str) -> Bench {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/seed"), "seed").unwrap();
        fs::write(dir.path().join("file.txt"), "file").unwrap();
        fs::write(dir.path().join("lab.clab.yml"), text).unwrap();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{next}", std::process::id());
        Bench { dir, name }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("lab.clab.yml")
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("labs")
    }

    fn options(&self) -> Options {
        Options {
            name: Some(self.name.clone()),
            base_dir: Some(self.base()),
            lab_exe: Some(EXE.into()),
            down_on_drop: true,
            ..Options::default()
        }
    }

    fn up(&self) -> Lab {
        Lab::up(&Topology::load(&self.file()).unwrap(), &self.options()).unwrap()
    }

    fn cli(&self, verb: &str, rest: &[&str]) -> Command {
        let mut command = Command::new(EXE);
        command
            .arg(verb)
            .arg(self.file())
            .args(["--name", &self.name, "--dir"])
            .arg(self.base())
            .args(rest);
        command
    }

    /// Nothing of the lab is left: directory, namespace names, mounts, processes.
    fn assert_gone(&self) {
        assert!(!self.base().exists(), "{}", self.base().display());
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let ours = format!("clab-{}-", self.name);
        for name in names {
            assert!(
                !name.file_name().to_string_lossy().starts_with(&ours),
                "{name:?}"
            );
        }
        let needle = self.dir.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&needle), "{mounts}");
        assert!(!mounts.contains(&ours), "{mounts}");
        assert_eq!(processes(&needle), Vec::<String>::new());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.cli("down", &["-q"]).output();
    }
}

/// Command lines that hold `needle`.
fn processes(needle: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(needle))
        .collect()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run(lab: &Lab, node: &str, line: &str) -> String {
    let output = lab.exec(node, &["sh", "-c", line]).unwrap();
    assert!(output.status.success(), "{node}: {line}: {}", text(&output));
    text(&output)
}

fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_plain_nodes_come_up_talk_and_go() {
    let bench = Bench::new(PLAIN);
    let lab = bench.up();
    run(&lab, "a", "ping -c 1 -W 2 192.0.2.2");
    assert_eq!(run(&lab, "a", "hostname"), "a\n");
    assert_eq!(
        run(
            &lab,
            "a",
            "cat /root/colour /run/data/seed /etc/deep/file.txt"
        ),
        "red\nseedfile"
    );
    assert!(run(&lab, "a", "ip link show eth1").contains("mtu 1400"));
    assert!(run(&lab, "a", "env").contains("COLOUR=red"));
    // Shared between nodes, read-only where asked for.
    run(&lab, "a", "echo shared > /shared/x");
    assert_eq!(run(&lab, "b", "cat /shared/x"), "shared\n");
    run(&lab, "b", "touch /own/mark");
    assert!(lab.dir().join("b/own/mark").exists());
    assert!(
        !lab.exec("a", &["touch", "/var/run/data/x"])
            .unwrap()
            .status
            .success()
    );
    // Nothing that a node writes lands on the machine or on another node.
    let mark = format!("/usr/local/{}", bench.name);
    for path in [
        mark.as_str(),
        "/tmp/roadbed-mark",
        "/run/roadbed-mark",
        "/dev/shm/roadbed-mark",
    ] {
        run(&lab, "a", &format!("echo x > {path}"));
        assert!(!Path::new(path).exists(), "{path}");
        assert!(
            !lab.exec("b", &["test", "-e", path])
                .unwrap()
                .status
                .success()
        );
    }
    run(
        &lab,
        "a",
        "ip netns add pod && ip netns exec pod ip link set lo up",
    );
    assert!(!Path::new("/run/netns/pod").exists());
    // The outside name is the same namespace.
    let outside = Command::new("ip")
        .args(["-n", lab.netns("a").unwrap(), "address"])
        .output()
        .unwrap();
    assert!(text(&outside).contains("192.0.2.1"));
    // Exit codes pass.
    assert_eq!(
        lab.exec("a", &["sh", "-c", "exit 7"])
            .unwrap()
            .status
            .code(),
        Some(7)
    );
    assert_eq!(
        lab.exec("a", &["no-such-program"]).unwrap().status.code(),
        Some(127)
    );
    assert!(matches!(
        lab.exec("c", &["true"]),
        Err(LabError::NoNode { .. })
    ));
    lab.down().unwrap();
    bench.assert_gone();
}

#[test]
fn a_killed_child_takes_its_command_along() {
    let bench = Bench::new(PLAIN);
    let lab = bench.up();
    let mut child = lab.spawn("a", &["sleep", "4321"]).unwrap();
    let running = |lab: &Lab| run(lab, "a", "ps -e -o args=").contains("sleep 4321");
    eventually(Duration::from_secs(5), "the command runs", || running(&lab));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(Duration::from_secs(5), "the command is gone", || {
        !running(&lab)
    });
}

#[test]
fn programs_can_be_killed_and_started_again() {
    let bench = Bench::new(PLAIN);
    let lab = bench.up();
    let before = lab.status("b").unwrap();
    assert!(before.healthy());
    lab.kill_main("b", Signal::SIGKILL).unwrap();
    eventually(Duration::from_secs(5), "the program is seen dead", || {
        lab.status("b").unwrap().programs[0].state == "killed by SIGKILL"
    });
    let view = lab
        .inspect()
        .into_iter()
        .find(|node| node.name == "b")
        .unwrap();
    assert_eq!(view.state, "sleep killed by SIGKILL");
    assert_eq!(view.addresses, ["eth1 192.0.2.2/24"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        !lab.status("b").unwrap().healthy(),
        "nothing restarts by itself"
    );
    let after = lab.start_main("b").unwrap();
    assert!(after.healthy());
    assert_ne!(after.programs[0].pid, before.programs[0].pid);
    let again = lab.restart_main("b").unwrap();
    assert!(again.healthy());
    assert_ne!(again.programs[0].pid, after.programs[0].pid);
    // The node's links have survived all of it.
    run(&lab, "a", "ping -c 1 -W 2 192.0.2.2");
}

#[test]
fn a_lab_is_up_once_and_two_names_are_two_labs() {
    let bench = Bench::new(PLAIN);
    let lab = bench.up();
    let topology = Topology::load(&bench.file()).unwrap();
    let again = Lab::up(&topology, &bench.options()).err().unwrap();
    assert!(matches!(again, LabError::Exists { .. }));
    assert!(again.to_string().contains("roadbed-lab down"), "{again}");
    let second = Options {
        name: Some(format!("{}-second", bench.name)),
        ..bench.options()
    };
    let second = Lab::up(&topology, &second).unwrap();
    run(&second, "a", "ping -c 1 -W 2 192.0.2.2");
    second.down().unwrap();
    run(&lab, "a", "ping -c 1 -W 2 192.0.2.2");
    drop(lab);
    bench.assert_gone();
}

#[test]
fn a_failing_exec_line_undoes_everything() {
    let bench = Bench::new(&PLAIN.replace("dev eth1]", "dev eth9]"));
    let topology = Topology::load(&bench.file()).unwrap();
    let error = Lab::up(&topology, &bench.options())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("node b") && error.contains("eth9"),
        "{error}"
    );
    bench.assert_gone();
}

#[test]
fn an_interrupted_up_undoes_everything() {
    let bench = Bench::new(&PLAIN.replace("ip address add 192.0.2.2/24 dev eth1", "sleep 3600"));
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    let options = Options {
        interrupted: Some(flag),
        progress: Some(Arc::new(move |line| {
            if line == "programs started" {
                seen.store(true, Ordering::Relaxed);
            }
        })),
        ..bench.options()
    };
    let topology = Topology::load(&bench.file()).unwrap();
    let error = Lab::up(&topology, &options).err().unwrap();
    assert!(matches!(error, LabError::Interrupted), "{error}");
    bench.assert_gone();
}

#[test]
fn down_cleans_up_after_a_killed_up() {
    let bench = Bench::new(&PLAIN.replace("ip address add 192.0.2.2/24 dev eth1", "sleep 3600"));
    let mut up = bench
        .cli("up", &["-q"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let log = bench.base().join(&bench.name).join("b/exec.log");
    eventually(Duration::from_secs(20), "the exec line runs", || {
        log.exists()
    });
    let busy = bench.cli("down", &[]).output().unwrap();
    assert!(!busy.status.success());
    assert!(
        text(&busy).contains("being brought up by process"),
        "{}",
        text(&busy)
    );
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(!processes(&bench.dir.path().to_string_lossy()).is_empty());
    let down = bench.cli("down", &[]).output().unwrap();
    assert!(down.status.success(), "{}", text(&down));
    bench.assert_gone();
}

#[test]
fn ctrl_c_undoes_an_up() {
    let bench = Bench::new(&PLAIN.replace("ip address add 192.0.2.2/24 dev eth1", "sleep 3600"));
    let up = bench.cli("up", &[]).stderr(Stdio::piped()).spawn().unwrap();
    let log = bench.base().join(&bench.name).join("b/exec.log");
    eventually(Duration::from_secs(20), "the exec line runs", || {
        log.exists()
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(up.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let output = up.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("interrupted"), "{}", text(&output));
    bench.assert_gone();
}

#[test]
fn the_command_line_works() {
    let bench = Bench::new(PLAIN);
    let up = bench.cli("up", &[]).output().unwrap();
    assert!(up.status.success(), "{}", text(&up));
    assert!(text(&up).contains("exec lines done"), "{}", text(&up));
    let exec = bench
        .cli("exec", &["a", "--", "sh", "-c", "hostname; exit 3"])
        .output()
        .unwrap();
    assert_eq!(
        (exec.status.code(), exec.stdout.as_slice()),
        (Some(3), b"a\n".as_slice())
    );
    let table = text(&bench.cli("inspect", &[]).output().unwrap());
    assert!(
        table.contains("NETNS") && table.contains("192.0.2.1/24"),
        "{table}"
    );
    let json = bench.cli("inspect", &["-o", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json[1]["state"], "running");
    let kill = bench.cli("kill", &["b", "-s", "kill"]).output().unwrap();
    assert!(kill.status.success(), "{}", text(&kill));
    assert!(bench.cli("start", &["b"]).status().unwrap().success());
    assert!(bench.cli("down", &[]).status().unwrap().success());
    bench.assert_gone();
    let again = bench.cli("down", &[]).output().unwrap();
    assert!(
        again.status.success() && text(&again).contains("nothing to do"),
        "{}",
        text(&again)
    );
    let gone = bench.cli("exec", &["a", "--", "true"]).output().unwrap();
    assert!(
        !gone.status.success() && text(&gone).contains("roadbed-lab up"),
        "{}",
        text(&gone)
    );
}

/// The two racks, with BIRD in the agents' place: what the switches accept, pass on and forward.
#[test]
fn the_two_racks_route_blocks_and_loopbacks_only() {
    let bench = Bench::new(PLAIN);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("two-racks/two-racks.clab.yml");
    let options = Options {
        // No agent there: `up` must not mind.
        bin_dir: Some(bench.dir.path().into()),
        env: BTreeMap::from([("EXTRA".to_owned(), "1".to_owned())]),
        ..bench.options()
    };
    let lab = Lab::up(&Topology::load(&file).unwrap(), &options).unwrap();
    let view = lab.inspect();
    assert!(
        view[3].state.starts_with("roadbed-agent exited"),
        "{}",
        view[3].state
    );
    assert!(view[..3].iter().all(|node| node.state == "running"));
    for (index, node) in ["n1", "n2", "n3"].into_iter().enumerate() {
        let (octet, asn) = ([11, 12, 21][index], [65111, 65112, 65121][index]);
        let (tor, link) = ([4, 6, 8][index], [2, 3, 4][index]);
        let tor_as = if index == 2 { 65102 } else { 65101 };
        let conf = format!(
            "router id 10.255.0.{octet};
protocol device {{}}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol kernel {{ ipv6 {{ export where source = RTS_BGP; }}; }}
protocol static {{ ipv4; route 10.244.{index}.0/26 unreachable; route 10.255.0.{octet}/32 unreachable; route 172.31.9.0/24 unreachable; }}
protocol static {{ ipv6; route fd00:244::{index}00/122 unreachable; route fd00:255::{octet}/128 unreachable; route fd00:31:9::/64 unreachable; }}
protocol bgp tor {{ local as {asn}; neighbor 172.31.0.{tor} as {tor_as}; connect retry time 1; error wait time 1, 2;
 ipv4 {{ import all; export all; }};
 ipv6 {{ import all; export all; next hop address fd00:31:0:{link}::2; }}; }}
"
        );
        let pod =
            format!("10.244.{index}.5/32 dev lo; ip address add fd00:244::{index}05/128 dev lo");
        run(
            &lab,
            node,
            &format!(
                "mkdir -p /run/bird; cat > /run/bird.conf <<'X'\n{conf}X\nip address add {pod}; bird -c /run/bird.conf"
            ),
        );
    }
    let table = |family: &str, field: &str| -> Vec<String> {
        let json = run(
            &lab,
            "spine",
            &format!("vtysh -c 'show bgp {family} unicast json'"),
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json[field]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(prefix, _)| prefix.clone())
            .collect()
    };
    let v4 = [
        "10.244.0.0/26",
        "10.244.1.0/26",
        "10.244.2.0/26",
        "10.255.0.11/32",
        "10.255.0.12/32",
        "10.255.0.21/32",
    ];
    let v6 = [
        "fd00:244::/122",
        "fd00:244::100/122",
        "fd00:244::200/122",
        "fd00:255::11/128",
        "fd00:255::12/128",
        "fd00:255::21/128",
    ];
    let limit = Duration::from_secs(30);
    eventually(limit, "the spine has all of IPv4", || {
        table("ipv4", "routes") == v4
    });
    eventually(limit, "the spine has all of IPv6", || {
        table("ipv6", "routes") == v6
    });
    // The kernels forward: node, ToR, spine, ToR, node, each hop answering from an address of its own.
    for (from, to, hops) in [
        (
            "10.244.0.5",
            "10.244.2.5",
            ["172.31.0.4", "172.31.0.0", "172.31.0.3", "10.244.2.5"],
        ),
        (
            "fd00:244::5",
            "fd00:244::205",
            [
                "fd00:31:0:2::1",
                "fd00:31::1",
                "fd00:31:0:1::2",
                "fd00:244::205",
            ],
        ),
    ] {
        let ping = format!("ping -c 1 -W 2 -I {from} {to}");
        eventually(limit, &ping, || {
            lab.exec("n1", &["sh", "-c", &ping])
                .unwrap()
                .status
                .success()
        });
        let trace = run(
            &lab,
            "n1",
            &format!("traceroute -n -q 1 -w 2 -s {from} {to}"),
        );
        let seen: Vec<&str> = trace
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(seen, hops, "{trace}");
        let neighbour = from
            .replace("10.244.0.", "10.244.1.")
            .replace("::5", "::105");
        run(&lab, "n2", &format!("ping -c 1 -W 2 -I {neighbour} {from}"));
    }
    lab.down().unwrap();
    bench.assert_gone();
}
