//! The test binary again, as a child process with an address space limit and a deadline.

use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Tells the child what to do.
pub const ROLE: &str = "BGP_WIRE_ORACLE_ROLE";
/// Enough for the comparison, little enough to end an endless allocation soon.
const CHILD_KIB: u32 = 400_000;
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How a child ended; `None` when it had to be killed at the deadline.
pub fn run_child(role: &str, deadline: Duration) -> (Option<ExitStatus>, String) {
    let exe = std::env::current_exe().unwrap();
    let stderr = tempfile();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -v {CHILD_KIB} && ulimit -c 0 && exec \"$0\" \"$@\""
        ))
        .arg(exe)
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    (status, contents(stderr))
}

/// An unlinked file: a pipe could fill up and block the child.
fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!(
        "bgp-wire-oracle-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn contents(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// The child must say that it got through: a test filter that matches nothing succeeds as well.
pub fn check_agreement(role: &str, messages: u64) {
    let (status, stderr) = run_child(role, DEADLINE);
    assert!(status.is_some_and(|s| s.success()), "{stderr}");
    assert!(stderr.contains(&format!("compared {messages}")), "{stderr}");
}
