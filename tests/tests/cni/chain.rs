//! Debian's plugins after ours in one list.

use roadbed_tests::bench::Bench;
use roadbed_tests::cni::{Container, NetworkList, Runtime, refusal};
use roadbed_tests::pod::{NETWORK, Pod, network};
use roadbed_tests::probe::{PORT, Sent};
use roadbed_tests::site::json_lines;
use serde_json::{Value, json};

use super::{N1, wired};

/// A pod with ours and `plugin` in its list, wired.
fn chained(
    bench: &Bench,
    plugin: Value,
    container: Container,
) -> (Runtime<'_>, NetworkList, Value) {
    let pod = Pod::new(N1, &container.id);
    pod.make(&bench.site).unwrap();
    let list = NetworkList::new("1.0.0", NETWORK, vec![network(), plugin]);
    let mut runtime = Runtime::new(&bench.site, N1);
    let result = runtime.add(&list, &container).unwrap();
    (runtime, list, result)
}

fn v4(result: &Value) -> String {
    let net = result["ips"][0]["address"].as_str().unwrap();
    net.trim_end_matches("/32").to_owned()
}

#[test]
fn portmap_publishes_a_port() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
    let ports = json!([{"hostPort": PORT, "containerPort": PORT, "protocol": "tcp"}]);
    let web = Container::pod("web").capability("portMappings", ports);
    let (mut runtime, list, result) = chained(&bench, portmap, web.clone());

    // Its CHECK is of no use with two families: 1.1.1 looks for the IPv4 rules in the IPv6 table.
    let rules = site.run(N1, "iptables-save -t nat").unwrap();
    let target = format!("--to-destination {}:{PORT}", v4(&result));
    assert!(rules.contains(&target), "{rules}");
    let pod = Pod::new(N1, "web");
    let _listener = pod.listen(site).unwrap();
    // From the router above, to the node's own address.
    let helper = site.helper();
    let argv = [helper.as_str(), "probe", "send", "172.31.0.1"];
    let sent: Vec<Sent> = json_lines(&site.exec("r1", &argv).unwrap()).unwrap();
    let verdict = sent[0].outcome.as_ref().unwrap();
    assert!(verdict.intact, "{verdict:?}");
    assert_eq!(verdict.seen.to_string(), "172.31.0.0");
    runtime.del(&list, &web).unwrap();
    let rules = site.run(N1, "iptables-save -t nat").unwrap();
    assert!(!rules.contains(&target), "{rules}");
    assert_eq!(wired(site), (0, 0, 0));
}

#[test]
fn bandwidth_limits_the_pod() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let bandwidth = json!({
        "type": "bandwidth",
        "ingressRate": 1_000_000, "ingressBurst": 1_000_000,
        "egressRate": 1_000_000, "egressBurst": 1_000_000,
    });
    let web = Container::pod("web");
    let (mut runtime, list, _) = chained(&bench, bandwidth, web.clone());
    runtime.check(&list, &web).unwrap();
    let host = Pod::new(N1, "web").host_ifname();
    let shapers = site.run(N1, &format!("tc qdisc show dev {host}")).unwrap();
    assert!(
        shapers.contains("tbf") && shapers.contains("ingress"),
        "{shapers}"
    );
    runtime.del(&list, &web).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
    let links = site.run(N1, "ip -o link show type ifb").unwrap();
    assert_eq!(links, "", "{links}");
}

#[test]
fn tuning_sets_what_it_is_asked() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let tuning = json!({
        "type": "tuning",
        "mtu": 1400,
        "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"},
    });
    let web = Container::pod("web");
    let (mut runtime, list, result) = chained(&bench, tuning, web.clone());
    runtime.check(&list, &web).unwrap();
    let inside = site.run(N1, "ip -n web -o link show eth0").unwrap();
    assert!(inside.contains("mtu 1400"), "{inside}");
    site.run(N1, &format!("ping -n -c 1 -W 2 {}", v4(&result)))
        .unwrap();
    runtime.del(&list, &web).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
}

#[test]
fn a_mac_that_tuning_changes_is_named_by_check() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let tuning = json!({"type": "tuning", "mac": "02:00:00:00:00:09"});
    let web = Container::pod("web");
    let (mut runtime, list, result) = chained(&bench, tuning, web.clone());
    let found = refusal(runtime.check(&list, &web)).unwrap();
    let host = Pod::new(N1, "web").host_ifname();
    let said = format!("static neighbour {} on {host} points to", v4(&result));
    assert_eq!((found.plugin.as_str(), found.code), ("roadbed", 110));
    assert!(found.message.contains(&said), "{found}");
    runtime.del(&list, &web).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
}
