//! DELs wait for their link to go, and not until the kernel is through with it; those beyond what is deleted at a time go together.
//! Each gets its own answer.

use std::time::{Duration, Instant};

use roadbed_api::agent::Released;
use roadbed_hostnet::{LinkTarget, NamedNetNs, Netlink, VethSpec};
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;

use crate::{N1, connected};

/// More than the agent deletes at a time.
const MANY: usize = 96;

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

/// How long the kernel keeps whoever deletes a veth.
fn kept() -> Duration {
    let ns = NamedNetNs::create(&format!("rbt-kept-{}", std::process::id())).unwrap();
    let mut netlink = Netlink::open_in(ns.ns()).unwrap();
    let times = (0..6).map(|_| {
        let veth = VethSpec {
            name: "a",
            mac: None,
            peer_name: "b",
            peer_mac: None,
            peer_ns: None,
            mtu: None,
        };
        let link = LinkTarget::Index(netlink.veth_create(&veth).unwrap().ifindex);
        netlink.link_set_up(link, true).unwrap();
        timed(|| assert!(netlink.link_delete(link).unwrap()))
    });
    times.sum::<Duration>() / 6
}

#[test]
fn dels_do_not_wait_until_the_kernel_is_through() {
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
    let kept = kept();
    println!("one {single:?}, {MANY} {together:?}; the kernel keeps {kept:?}");
    let links = site.run(N1, "ip -o link show").unwrap();
    assert_eq!(host_ends(site), 1, "{links}");
    assert!(links.contains(&foreign), "{links}");
    assert_eq!(site.attachments(N1).unwrap(), []);
    // Waiting for the kernel, one would take as long, and many in rows of some.
    assert!(single < kept / 2, "{single:?}, the kernel keeps {kept:?}");
    let bound = kept * u32::try_from(MANY).unwrap() / 3;
    assert!(together < bound, "{together:?}, the kernel keeps {kept:?}");
}
