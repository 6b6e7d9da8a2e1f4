//! STATUS while the agent is replaced again and again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use roadbed_tests::bench::Bench;
use roadbed_tests::pod::{Pod, plugin};

use super::N1;

const RESTARTS: usize = 20;

#[test]
fn a_restart_of_the_agent_never_makes_the_node_unready() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let call = Pod::new(N1, "none").call("STATUS");
    let done = AtomicBool::new(false);
    let asked = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let run = plugin(site, N1, &call).unwrap();
                assert!(run.ok, "{}", run.stdout);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..RESTARTS {
            bench.kill(N1).unwrap();
            bench.start(N1).unwrap();
            let before = asked.load(Ordering::Relaxed);
            site.until(super::SOON, "STATUS was asked meanwhile", || {
                let now = asked.load(Ordering::Relaxed);
                anyhow::ensure!(asking.is_finished() || now > before + 1);
                Ok(())
            })
            .unwrap();
        }
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap();
    });
    site.ready(N1).unwrap();
}
