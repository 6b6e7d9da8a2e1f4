//! The agent as its container runs it: three capabilities, `/proc/sys` read-only. What it cannot set, the plugin does.

use std::process::{Child, Stdio};

use anyhow::ensure;
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;

use crate::{N1, SOON, check_contains, connected, status_shows};

/// NET_BIND_SERVICE, NET_ADMIN, NET_RAW: bits 10, 12 and 13.
const CAPABILITIES: &str = "0000000000003400";
const CONFINED: &str = "mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec setpriv --bounding-set=-all,+net_admin,+net_raw,+net_bind_service --inh-caps=-all roadbed-agent";

/// Killed on drop.
struct Confined(Child);

impl Drop for Confined {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(site: &Site) -> Confined {
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(site.log_dir(N1).join("roadbed-agent.log"))
        .unwrap();
    let child = site
        .lab()
        .command(N1, &["unshare", "--mount", "sh", "-ec", CONFINED])
        .unwrap()
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Confined(child)
}

fn setting(site: &Site, name: &str) -> String {
    let value = site.run(N1, &format!("sysctl -n {name}")).unwrap();
    value.trim().to_owned()
}

/// What the agent wants of the whole host.
const WANTED: [&str; 6] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv4.conf.all.ignore_routes_with_linkdown",
    "net.ipv6.conf.all.ignore_routes_with_linkdown",
];

#[test]
fn with_three_capabilities_and_settings_that_it_cannot_write() {
    let bench = connected();
    let site = &bench.site;
    bench.kill(N1).unwrap();
    for name in WANTED {
        site.run(N1, &format!("sysctl -qw {name}=0")).unwrap();
    }
    site.run(N1, "ip -6 route add default via fe80::1 dev eth1 proto ra")
        .unwrap();
    let _agent = start(site);
    let status = site
        .until(SOON, "the confined agent runs", || {
            ensure!(site.agent(N1)?.probe("/readyz")?.ok, "not ready");
            let pid = site.run(N1, "cat /run/roadbed/agent.lock")?;
            let proc = format!("/proc/{}", pid.trim());
            site.run(N1, &format!("cat {proc}/status {proc}/mountinfo"))
        })
        .unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        check_contains(&status, &[&format!("{set}:\t{CAPABILITIES}")]);
    }
    status_shows(
        site,
        &["AntiSpoofing=True", "SpeakerRunning=True", "Established"],
    );
    assert_eq!(setting(site, "net.ipv4.ip_forward"), "0");

    let pod = Pod::start(site, N1, "web").unwrap();
    for name in WANTED {
        assert_eq!(setting(site, name), "1", "{name}");
    }
    // A host that forwards would lose a default route that was advertised to it.
    assert_eq!(setting(site, "net.ipv6.conf.eth1.accept_ra"), "2");
    let dev = pod.host_ifname();
    for (name, value) in [
        ("forwarding", "1"),
        ("arp_ignore", "8"),
        ("send_redirects", "0"),
    ] {
        let name = format!("net.ipv4.conf.{dev}.{name}");
        assert_eq!(setting(site, &name), value, "{name}");
    }
    for address in &pod.addresses {
        site.until(SOON, format!("{address} is reached from outside"), || {
            site.run("r1", &format!("ping -n -c 1 -W 1 {address}"))
        })
        .unwrap();
    }
    // What takes most: the name that the kernel has for the pod's namespace, without entering it.
    site.run(N1, &format!("ip link set {dev} address 02:00:00:00:0b:ad"))
        .unwrap();
    site.until(SOON, "the host end has its neighbours again", || {
        let neighbours = site.run(N1, &format!("ip neigh show nud permanent dev {dev}"))?;
        for address in &pod.addresses {
            ensure!(neighbours.contains(&address.to_string()), "{neighbours}");
        }
        Ok(())
    })
    .unwrap();
    pod.del(site).unwrap();
    assert_eq!(site.attachments(N1).unwrap(), []);
    let log = site.agent_log(N1);
    assert!(
        !log.contains("denied") && !log.contains("not permitted"),
        "{log}"
    );
}
