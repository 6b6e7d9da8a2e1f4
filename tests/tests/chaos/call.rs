//! One plugin call, which may be killed on its way.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use roadbed_tests::pod::{Call, IFNAME, PluginRun};
use roadbed_tests::site::Site;

use crate::N1;

/// What became of a call.
pub(crate) enum Called {
    /// Nobody waits for its answer any more.
    Killed,
    /// It answered.
    Ended(PluginRun),
}

/// Calls the plugin; kills it after `life`, if that is given and it has not ended.
pub(crate) fn call(site: &Site, call: &Call, life: Option<Duration>) -> Called {
    let mut child = site
        .lab()
        .command(N1, &["/usr/local/bin/roadbed"])
        .unwrap()
        .env("CNI_COMMAND", call.command)
        .env("CNI_CONTAINERID", &call.container_id)
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", IFNAME)
        .env("CNI_PATH", "/usr/local/bin")
        .env("CNI_ARGS", &call.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its environment does not read on.
    let _ = child.stdin.take().unwrap().write_all(&call.stdin);
    let mut killed = false;
    if let Some(life) = life {
        std::thread::sleep(life);
        killed = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
    }
    // Until the pipes are closed, which is when the plugin itself has ended.
    let output = child.wait_with_output().unwrap();
    if killed {
        return Called::Killed;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Called::Ended(PluginRun {
        ok: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}
