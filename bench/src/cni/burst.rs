//! A node that starts: as many pods as one node has, 16 at a time, then all of them gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::call::Plugin;
use crate::node::{Node, Pod};
use crate::pairs::{Calls, SETTLE, gone, millis};

/// Calls at a time.
const AT_A_TIME: usize = 16;

/// Milliseconds of every burst of each plugin: all ADDs, and all DELs until the last link is gone.
pub(crate) fn run(
    node: &Node,
    plugins: [&Plugin; 2],
    pods: usize,
    bursts: usize,
) -> Result<[Calls; 2]> {
    let pods = node.pods("burst", pods)?;
    let mut calls = [Calls::default(), Calls::default()];
    for burst in 0..bursts {
        let order = if burst % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let plugin = plugins[which];
            std::thread::sleep(SETTLE);
            let start = Instant::now();
            let links = all(&pods, |pod| plugin.add(pod)?.host_ifname())?;
            calls[which].add.push(millis(start.elapsed()));
            let start = Instant::now();
            all(&pods, |pod| plugin.del(pod).map(drop))?;
            links.iter().for_each(|link| gone(link));
            calls[which].del.push(millis(start.elapsed()));
        }
    }
    Ok(calls)
}

/// Does `work` for every pod, 16 at a time.
fn all<T: Send>(pods: &[Pod], work: impl Fn(&Pod) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let take = || -> Result<Vec<T>> {
            let mut done = Vec::new();
            while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push(work(pod)?);
            }
            Ok(done)
        };
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(take)).collect();
        let mut done = Vec::new();
        for thread in threads {
            done.extend(thread.join().ok().context("a thread has panicked")??);
        }
        Ok(done)
    })
}
