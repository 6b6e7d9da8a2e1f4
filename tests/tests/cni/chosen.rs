//! Addresses that somebody chose: the runtime's user, or an IPAM plugin.

use roadbed_tests::bench::Bench;
use roadbed_tests::cni::{Container, NetworkList, Refusal, Runtime, refusal};
use roadbed_tests::pod::{NETWORK, Pod, network};
use serde_json::{Value, json};

use super::{N1, in_use, wired};

fn container(bench: &Bench, name: &str) -> Container {
    Pod::new(N1, name).make(&bench.site).unwrap();
    Container::pod(name)
}

/// The IPv4 block of the node.
fn block(bench: &Bench) -> ipnet::IpNet {
    let blocks = bench.site.ipam(N1).unwrap().blocks;
    let mut cidrs = blocks.iter().map(|block| block.cidr);
    cidrs.find(|cidr| cidr.addr().is_ipv4()).unwrap()
}

fn check_reached(bench: &Bench, result: &Value) {
    for ip in result["ips"].as_array().unwrap() {
        let address = ip["address"].as_str().unwrap().split('/').next().unwrap();
        let ping = format!("ping -n -c 1 -W 2 {address}");
        bench.site.run(N1, &ping).unwrap();
    }
}

#[test]
fn an_address_of_a_block_can_be_asked_for() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut plugin = network();
    plugin["capabilities"] = json!({"ips": true});
    let list = NetworkList::new("1.1.0", NETWORK, vec![plugin]);
    let mut runtime = Runtime::new(site, N1);
    let wanted = block(&bench).hosts().nth(20).unwrap();
    let asks = |name: &str, ip: &str| container(&bench, name).capability("ips", json!([ip]));

    let web = asks("web", &format!("{wanted}/26"));
    let result = runtime.add(&list, &web).unwrap();
    assert_eq!(result["ips"][0]["address"], format!("{wanted}/32"));
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
    assert_eq!(runtime.add(&list, &web).unwrap(), result);
    runtime.check(&list, &web).unwrap();
    check_reached(&bench, &result);

    // What is taken, elsewhere or impossible is refused, and nothing is left of it.
    let mut check = |name: &str, ip: &str, code: u64, part: &str| {
        let found: Refusal = refusal(runtime.add(&list, &asks(name, ip))).unwrap();
        assert_eq!(found.code, code, "{found}");
        assert!(found.message.contains(part), "{found}");
    };
    check("taken", &wanted.to_string(), 103, "pods/web/eth0's");
    check("outside", "10.9.9.9", 102, "in no block of this node");
    check("loopback", "127.0.0.1", 102, "cannot be a pod's");
    check("garbage", "here", 7, "runtimeConfig.ips");
    assert_eq!(wired(site), (1, 2, 1));

    // podman's way.
    let second = block(&bench).hosts().nth(30).unwrap();
    let mut podman = container(&bench, "podman");
    podman.args = format!("IgnoreUnknown=1;K8S_POD_NAME=podman;IP={second}");
    let result = runtime.add(&list, &podman).unwrap();
    assert_eq!(result["ips"][0]["address"], format!("{second}/32"));
    runtime.del(&list, &podman).unwrap();
    runtime.del(&list, &web).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
    assert_eq!(in_use(site), 0);
}

#[test]
fn what_host_local_gave_is_given_back_when_the_rest_fails() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut plugin = network();
    plugin["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": "10.98.4.0/24"}]]});
    plugin["waitSeconds"] = json!(0);
    let list = NetworkList::new("1.0.0", NETWORK, vec![plugin.clone()]);
    let mut runtime = Runtime::new(site, N1);
    let held = || {
        let files = site.run(N1, "ls /var/lib/cni/networks/pods").unwrap();
        files.lines().filter(|name| name.starts_with("10.")).count()
    };
    let web = container(&bench, "web");
    let result = runtime.add(&list, &web).unwrap();
    assert!(
        result["ips"][0]["address"]
            .as_str()
            .unwrap()
            .ends_with("/32")
    );
    check_reached(&bench, &result);
    assert_eq!(held(), 1);

    // Nobody answers; then nobody can be wired.
    bench.kill(N1).unwrap();
    let late = container(&bench, "late");
    assert_eq!(refusal(runtime.add(&list, &late)).unwrap().code, 11);
    assert_eq!(held(), 1);
    bench.start(N1).unwrap();
    site.ready(N1).unwrap();
    site.run(N1, "ip -n late link add eth0 type veth peer name other")
        .unwrap();
    assert_eq!(refusal(runtime.add(&list, &late)).unwrap().code, 100);
    assert_eq!(held(), 1);

    // Its refusals are the pod's.
    plugin["ipam"] = json!({"type": "host-local"});
    let broken = NetworkList::new("1.0.0", NETWORK, vec![plugin.clone()]);
    let found = refusal(runtime.add(&broken, &late)).unwrap();
    assert_eq!(found.code, 999, "{found}");
    assert!(
        found
            .message
            .contains("IPAM plugin host-local: no IP ranges"),
        "{found}"
    );
    plugin["ipam"] = json!({"type": "none-such"});
    let missing = NetworkList::new("1.0.0", NETWORK, vec![plugin]);
    let found = format!("{:#}", runtime.add(&missing, &late).unwrap_err());
    assert!(
        found.contains("none-such: there is none in CNI_PATH"),
        "{found}"
    );

    runtime.del(&list, &web).unwrap();
    assert_eq!((held(), wired(site)), (0, (0, 0, 0)));
}
