//! The demo as a program: what it leaves, what it says when something is wrong.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roadbed_tests::bench::{Files, unique};
use roadbed_tests::two_racks::leftovers::Machine;

const DEMO: &str = env!("CARGO_BIN_EXE_roadbed-demo");

/// One lab's worth of demo runs; whatever happens, it is taken down.
struct Place {
    files: Files,
    name: String,
    before: Machine,
}

impl Place {
    fn new() -> Self {
        Self {
            files: Files::two_racks().unwrap(),
            name: unique(),
            before: Machine::look().unwrap(),
        }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(DEMO);
        command
            .arg(verb)
            .args(["--name", &self.name, "--dir"])
            .arg(self.files.base())
            .arg("--topology")
            .arg(self.files.dir())
            // Where evidence of failures goes.
            .env("TMPDIR", self.files.dir())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, verb: &str, more: &[&str]) -> (bool, String) {
        text(&self.command(verb).args(more).output().unwrap())
    }

    fn lab_dir(&self) -> PathBuf {
        self.files.base().join(&self.name)
    }

    /// No directory, no namespace, no process, no link of the lab.
    fn check_gone(&self) {
        assert!(!self.files.base().exists());
        let ours = format!("clab-{}-", self.name);
        for entry in std::fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten()
        {
            assert!(
                !entry.file_name().to_string_lossy().starts_with(&ours),
                "{entry:?}"
            );
        }
        let base = self.files.base().display().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            assert!(!line.contains(&base), "{line}");
        }
        let now = Machine::look().unwrap();
        assert_eq!(now, self.before);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.command("down").output().ok();
    }
}

fn text(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[track_caller]
fn check_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
}

#[test]
fn it_tells_its_story_and_can_be_left_up() {
    let place = Place::new();
    let (ok, story) = place.run("run", &["--keep"]);
    assert!(ok, "{story}");
    check_contains(
        &story,
        &[
            "✓",
            "every pod reaches every pod: 30 pairs",
            "every node reaches every pod and back",
            "n1-a → n1 → tor1 → spine → tor2 → n3 → n3-a",
            "exactly 6 blocks and 6 loopback addresses",
            "$ roadbedctl status",
            "$ roadbedctl ipam show",
            "$ roadbedctl routes",
            "Look around",
            "Remove it: ",
            "All checks passed in",
        ],
    );
    assert!(!story.contains('✗'), "{story}");
    assert!(place.lab_dir().exists());
    // The commands that it prints are commands that work.
    let printed = story
        .lines()
        .find(|line| line.contains("n3 -- roadbedctl routes"))
        .unwrap();
    let words: Vec<&str> = printed
        .split('#')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let (ok, routes) = text(&Command::new(words[0]).args(&words[1..]).output().unwrap());
    assert!(ok, "{routes}");
    check_contains(&routes, &["65102 65000 65101 65111"]);

    // Twice is refused, with what to do.
    let (ok, refused) = place.run("run", &[]);
    assert!(!ok);
    check_contains(&refused, &["exists: remove it with", "down --name"]);
    assert!(place.lab_dir().exists());
    let (ok, removed) = place.run("down", &[]);
    assert!(ok, "{removed}");
    place.check_gone();
    let (ok, again) = place.run("down", &[]);
    assert!(ok, "{again}");
    check_contains(&again, &["not up"]);
}

#[test]
fn a_failed_check_is_told_with_where_to_look() {
    let place = Place::new();
    // The spine has the routes and does not forward.
    place
        .files
        .replace(
            "spine/frr.conf",
            "\nipv6 forwarding",
            "\nno ipv6 forwarding",
        )
        .unwrap();
    let (ok, story) = place.run("run", &[]);
    assert!(!ok, "{story}");
    check_contains(
        &story,
        &[
            "✗",
            "every pod reaches every pod",
            "pings without an answer",
            "Where to look",
            "roadbed-agent.log",
            "KEEP=1",
        ],
    );
    place.check_gone();
    let evidence = std::fs::read_dir(place.files.dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("roadbed-demo-failed-"))
        .unwrap();
    check_contains(&story, &[&evidence.display().to_string()]);
    let read = |path: &str| std::fs::read_to_string(evidence.join(path)).unwrap();
    check_contains(&read("n1/roadbed-agent.log"), &["session established"]);
    check_contains(&read("n3/state.txt"), &["Established", "proto 82"]);
    check_contains(&read("spine/state.txt"), &["show bgp summary", "65101"]);
}

#[test]
fn an_interrupted_run_cleans_up() {
    let place = Place::new();
    let child = place
        .command("run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Well under way: an agent has its socket.
    while !place.lab_dir().join("store/store.db").exists() {
        assert!(Instant::now() < deadline, "the lab does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let interrupted = Instant::now();
    let (ok, story) = text(&child.wait_with_output().unwrap());
    assert!(!ok, "{story}");
    assert!(interrupted.elapsed() < Duration::from_secs(15), "{story}");
    check_contains(&story, &["interrupted: cleaning up"]);
    place.check_gone();
}
