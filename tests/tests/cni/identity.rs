//! What an attachment is told apart by: network, container, interface, and the namespace that it was made in.

use roadbed_tests::bench::Bench;
use roadbed_tests::cni::{Container, NetworkList, Runtime, refusal};
use roadbed_tests::pod::{NETWORK, Pod, network};
use serde_json::{Value, json};

use super::{N1, SOON, in_use, wired};

fn list(network_name: &str) -> NetworkList {
    NetworkList::new("1.1.0", network_name, vec![network()])
}

fn pod(bench: &Bench, name: &str) -> (Pod, Container) {
    let pod = Pod::new(N1, name);
    pod.make(&bench.site).unwrap();
    (pod, Container::pod(name))
}

/// Both addresses of a result answer from the node.
fn check_reached(bench: &Bench, result: &Value) {
    for ip in result["ips"].as_array().unwrap() {
        let address = ip["address"].as_str().unwrap().split('/').next().unwrap();
        let ping = format!("ping -n -c 1 -W 2 {address}");
        bench.site.run(N1, &ping).unwrap();
    }
}

#[test]
fn a_repeated_add_is_the_first_one() {
    let bench = Bench::solo().unwrap();
    let (_pod, web) = pod(&bench, "web");
    let mut runtime = Runtime::new(&bench.site, N1);
    let first = runtime.add(&list(NETWORK), &web).unwrap();
    assert_eq!(runtime.add(&list(NETWORK), &web).unwrap(), first);
    // Broken meanwhile, it is mended, with the same addresses.
    let inside = "ip netns exec web ip address flush dev eth0";
    bench.site.run(N1, inside).unwrap();
    let mended = runtime.add(&list(NETWORK), &web).unwrap();
    assert_eq!(mended["ips"], first["ips"]);
    runtime.check(&list(NETWORK), &web).unwrap();
    check_reached(&bench, &mended);
    assert_eq!(wired(&bench.site), (1, 2, 1));
    assert_eq!(in_use(&bench.site), 2);
}

#[test]
fn an_old_id_with_a_new_namespace_is_wired_anew() {
    let bench = Bench::solo().unwrap();
    let (old, web) = pod(&bench, "web");
    let mut runtime = Runtime::new(&bench.site, N1);
    runtime.add(&list(NETWORK), &web).unwrap();
    // The DEL is lost; the former namespace lives on beside the new one.
    let (_new, elsewhere) = pod(&bench, "again");
    let moved = Container {
        netns: elsewhere.netns,
        ..web.clone()
    };
    let result = runtime.add(&list(NETWORK), &moved).unwrap();
    runtime.check(&list(NETWORK), &moved).unwrap();
    check_reached(&bench, &result);
    assert_eq!(wired(&bench.site), (1, 2, 1));
    assert_eq!(in_use(&bench.site), 2);
    let left = bench.site.run(N1, "ip -n web -o link").unwrap();
    assert!(!left.contains("eth0"), "{left}");
    // And so when it went before.
    old.unmake(&bench.site).unwrap();
    let (_third, third) = pod(&bench, "third");
    let moved = Container {
        netns: third.netns,
        ..web
    };
    let result = runtime.add(&list(NETWORK), &moved).unwrap();
    check_reached(&bench, &result);
    assert_eq!(wired(&bench.site), (1, 2, 1));
}

#[test]
fn interfaces_and_networks_of_one_pod_live_apart() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let (_pod, first) = pod(&bench, "web");
    let second = first.clone().interface("net1");
    let mut runtime = Runtime::new(site, N1);
    let (pods, storage) = (list(NETWORK), list("storage"));
    let one = runtime.add(&pods, &first).unwrap();
    let two = runtime.add(&storage, &second).unwrap();
    assert_ne!(one["ips"][0]["address"], two["ips"][0]["address"]);
    assert_eq!(wired(site), (2, 4, 2));
    runtime.check(&pods, &first).unwrap();
    runtime.check(&storage, &second).unwrap();
    check_reached(&bench, &one);
    check_reached(&bench, &two);
    // What the pod begins by itself leaves by the first.
    let way = site.run(N1, "ip -n web route get 10.255.0.11").unwrap();
    assert!(way.contains("dev eth0"), "{way}");
    site.run(N1, "ip -n web rule del priority 820").unwrap();
    let found = refusal(runtime.check(&storage, &second)).unwrap();
    assert!(found.message.contains("the rule"), "{found}");

    // GC of one network spares the other's attachments.
    runtime.forget(&storage, &second);
    runtime.gc(&pods).unwrap();
    assert_eq!(wired(site), (2, 4, 2));
    runtime.check(&pods, &first).unwrap();
    runtime.gc(&storage).unwrap();
    assert_eq!(wired(site), (1, 2, 1));
    runtime.check(&pods, &first).unwrap();
    runtime.del(&pods, &first).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
}

#[test]
fn del_comes_when_it_likes() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pods = list(NETWORK);
    let mut runtime = Runtime::new(site, N1);

    // Before its ADD, twice after it, after its namespace.
    let (web_pod, web) = pod(&bench, "web");
    runtime.del(&pods, &web).unwrap();
    runtime.add(&pods, &web).unwrap();
    runtime.del(&pods, &web).unwrap();
    runtime.del(&pods, &web).unwrap();
    runtime.add(&pods, &web).unwrap();
    web_pod.unmake(site).unwrap();
    runtime.del(&pods, &web).unwrap();
    assert_eq!(wired(site), (0, 0, 0));
    assert_eq!(in_use(site), 0);

    // While its ADD is under way: whoever comes last counts, and a DEL after both leaves nothing.
    for round in 0..8 {
        let (racing, container) = pod(&bench, &format!("race{round}"));
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| Runtime::new(site, N1).add(&pods, &container).is_ok());
            std::thread::sleep(std::time::Duration::from_millis(round));
            Runtime::new(site, N1).del(&pods, &container).unwrap();
            adding.join().unwrap();
        });
        runtime.del(&pods, &container).unwrap();
        assert_eq!(wired(site), (0, 0, 0), "round {round}");
        assert_eq!(in_use(site), 0, "round {round}");
        racing.unmake(site).unwrap();
    }
}

#[test]
fn add_after_a_del_without_the_agent_starts_clean() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pods = list(NETWORK);
    let mut runtime = Runtime::new(site, N1);
    let (_pod, web) = pod(&bench, "web");
    runtime.add(&pods, &web).unwrap();
    bench.kill(N1).unwrap();
    runtime.del(&pods, &web).unwrap();
    bench.start(N1).unwrap();
    let result = runtime.add(&pods, &web).unwrap();
    check_reached(&bench, &result);
    site.until(SOON, "one attachment and no note", || {
        anyhow::ensure!(wired(site) == (1, 2, 1), "{:?}", wired(site));
        anyhow::ensure!(in_use(site) == 2, "{} in use", in_use(site));
        Ok(())
    })
    .unwrap();
    runtime.check(&pods, &web).unwrap();
}

#[test]
fn the_runtimes_own_mac_is_used() {
    let bench = Bench::solo().unwrap();
    let mut plugin = network();
    plugin["capabilities"] = json!({"mac": true});
    let list = NetworkList::new("1.0.0", NETWORK, vec![plugin]);
    let (_pod, web) = pod(&bench, "web");
    let web = web.capability("mac", json!("02:11:22:33:44:55"));
    let mut runtime = Runtime::new(&bench.site, N1);
    let result = runtime.add(&list, &web).unwrap();
    assert_eq!(result["interfaces"][1]["mac"], "02:11:22:33:44:55");
    runtime.check(&list, &web).unwrap();
    check_reached(&bench, &result);
}
