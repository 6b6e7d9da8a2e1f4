//! One plugin call, which may be killed on its way.

use std::time::Duration;

use roadbed_tests::pod::{Call, PluginRun, plugin_run, start_plugin};
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
    let mut child = start_plugin(site, N1, call).unwrap();
    let mut killed = false;
    if let Some(life) = life {
        std::thread::sleep(life);
        killed = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
    }
    let run = plugin_run(child).unwrap();
    if killed {
        return Called::Killed;
    }
    Called::Ended(run)
}
