//! Single calls: ADD and DEL of one plugin, then of the other, ABBA.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::net::if_::if_nametoindex;

use crate::call::Plugin;
use crate::node::{Node, Pod};

/// Milliseconds of every call of one plugin.
#[derive(Default)]
pub(crate) struct Calls {
    /// ADD.
    pub(crate) add: Vec<f64>,
    /// DEL, until its process has ended and the link is gone.
    pub(crate) del: Vec<f64>,
}

pub(crate) fn run(node: &Node, plugins: [&Plugin; 2], pairs: usize) -> Result<[Calls; 2]> {
    let pods = node.pods("pair", 2)?;
    let mut calls = [Calls::default(), Calls::default()];
    for pair in 0..pairs {
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            one(plugins[which], &pods[which], &mut calls[which])?;
        }
    }
    Ok(calls)
}

/// Between a DEL and what comes next: the kernel goes on taking the link apart after its name is free, 22 ms as a rule, and
/// lets nobody else at its links meanwhile.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

fn one(plugin: &Plugin, pod: &Pod, calls: &mut Calls) -> Result<()> {
    std::thread::sleep(SETTLE);
    let added = plugin.add(pod)?;
    calls.add.push(millis(added.took));
    let link = added.host_ifname()?;
    let start = Instant::now();
    plugin.del(pod)?;
    gone(&link);
    calls.del.push(millis(start.elapsed()));
    Ok(())
}

/// Returns once there is no link of this name.
pub(crate) fn gone(link: &str) {
    while if_nametoindex(link).is_ok() {
        std::thread::sleep(Duration::from_micros(100));
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
