//! DELs that come together: one deletion in the kernel for all of them, and each gets its own answer.

use std::time::{Duration, Instant};

use roadbed_api::agent::Released;
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;

use crate::{N1, connected};

const MANY: usize = 24;

fn pods(site: &Site, prefix: &str, count: usize) -> Vec<Pod> {
    (0..count)
        .map(|i| Pod::start(site, N1, &format!("{prefix}{i}")).unwrap())
        .collect()
}

/// Asks the agent, as the plugin would.
fn release(site: &Site, pod: &Pod) -> bool {
    let released: Released = site.agent(N1).unwrap().delete(&pod.key().path()).unwrap();
    released.existed
}

fn host_ends(site: &Site) -> usize {
    let links = site.run(N1, "ip -o link show").unwrap();
    links.lines().filter(|line| line.contains(": rb")).count()
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

#[test]
fn dels_that_come_together_share_the_kernels_waiting() {
    let bench = connected();
    let site = &bench.site;
    let alone = pods(site, "alone", 6);
    let many = pods(site, "many", MANY);
    // One that an operator has taken already, and one whose link is somebody else's by now.
    site.run(N1, &format!("ip link del {}", many[3].host_ifname()))
        .unwrap();
    let foreign = many[7].host_ifname();
    site.run(N1, &format!("ip link set {foreign} alias theirs"))
        .unwrap();
    let single = timed(|| {
        for pod in &alone {
            assert!(release(site, pod));
        }
    }) / 6;
    assert_eq!(host_ends(site), MANY - 1);
    let together = timed(|| {
        std::thread::scope(|scope| {
            for pod in &many {
                scope.spawn(|| release(site, pod));
            }
        });
    });
    println!("one {single:?}, {MANY} {together:?}");
    let links = site.run(N1, "ip -o link show").unwrap();
    assert_eq!(host_ends(site), 1, "{links}");
    assert!(links.contains(&foreign), "{links}");
    assert_eq!(site.attachments(N1).unwrap(), []);
    // Two deletions at best: the first came alone. One for each would be far above.
    let bound = single * u32::try_from(MANY).unwrap() / 3;
    assert!(together < bound, "{together:?}, one alone {single:?}");
}
