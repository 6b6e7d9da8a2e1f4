//! CHECK against what a real agent wired: each part broken in turn, on either side.

use roadbed_tests::bench::Bench;
use roadbed_tests::cni::{Container, NetworkList, Runtime, refusal};
use roadbed_tests::pod::{NETWORK, Pod, network};
use roadbed_tests::site::Site;

use super::N1;

/// How a pod can come to harm: a command, and what CHECK says then. HOST is the link on the node, V4 and V6 the pod's
/// addresses. `in` runs inside the pod.
const HARM: [(&str, &str); 14] = [
    (
        "in ip address del V4/32 dev eth0",
        "address V4/32 is missing on eth0",
    ),
    (
        "in ip address del V6/128 dev eth0",
        "address V6/128 is missing on eth0",
    ),
    (
        "in ip route del default",
        "route 0.0.0.0/0 via 169.254.1.1 is missing on eth0",
    ),
    (
        "in ip -6 route del default",
        "route ::/0 via fe80::1 is missing on eth0",
    ),
    (
        "in ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:09 nud permanent dev eth0",
        "static neighbour 169.254.1.1 on eth0 points to 02:00:00:00:00:09",
    ),
    (
        "in ip neigh del fe80::1 dev eth0",
        "static neighbour fe80::1 on eth0 is missing",
    ),
    (
        "in ip link set eth0 address 02:00:00:00:00:09",
        "interface eth0 has address 02:00:00:00:00:09",
    ),
    (
        "in ip link set eth0 mtu 1300",
        "interface eth0 has MTU 1300, not",
    ),
    ("in ip link set eth0 down", "interface eth0 is down"),
    ("in ip link del eth0", "host interface HOST is missing"),
    (
        "ip link set HOST mtu 1300",
        "host interface HOST has MTU 1300, not",
    ),
    (
        "ip link set HOST alias mine",
        "host interface HOST has alias",
    ),
    ("ip link set HOST down", "host interface HOST is down"),
    (
        "ip link set HOST name other0",
        "host interface HOST is missing",
    ),
];

#[test]
fn whatever_is_broken_is_named() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let list = NetworkList::new("1.1.0", NETWORK, vec![network()]);
    for (index, (harm, expected)) in HARM.into_iter().enumerate() {
        let name = format!("p{index}");
        broken(site, &list, &name, harm, expected);
    }
}

fn broken(site: &Site, list: &NetworkList, name: &str, harm: &str, expected: &str) {
    let pod = Pod::new(N1, name);
    pod.make(site).unwrap();
    let container = Container::pod(name);
    let mut runtime = Runtime::new(site, N1);
    let result = runtime.add(list, &container).unwrap();
    runtime.check(list, &container).unwrap();
    let fill = |text: &str| {
        let address = |index: usize| {
            let net = result["ips"][index]["address"].as_str().unwrap();
            net.split('/').next().unwrap().to_owned()
        };
        text.replace("HOST", &pod.host_ifname())
            .replace("V4", &address(0))
            .replace("V6", &address(1))
    };
    match fill(harm).strip_prefix("in ") {
        Some(inside) => site.run(N1, &format!("ip netns exec {name} {inside}")),
        None => site.run(N1, &fill(harm)),
    }
    .unwrap();
    let found = refusal(runtime.check(list, &container)).unwrap();
    assert_eq!(found.code, 110, "{harm}: {found}");
    assert!(found.message.contains(&fill(expected)), "{harm}: {found}");
    // DEL of a broken pod is a DEL.
    runtime.del(list, &container).unwrap();
    pod.unmake(site).unwrap();
}
