//! What the specification asks of every plugin, asked of ours and of Debian's `ptp` and `bridge`: those show that the
//! questions are right.

use roadbed_tests::bench::Bench;
use roadbed_tests::cni::schema::VERSIONS;
use roadbed_tests::cni::{Container, NetworkList, Runtime, refusal};
use roadbed_tests::pod::{Pod, network};
use roadbed_tests::process::program;
use roadbed_tests::site::Site;
use serde_json::{Value, json};

use super::{N1, wired};

/// A plugin under test: its configuration, and what tells it from others.
struct Subject {
    plugin: Value,
    /// The versions of [`VERSIONS`] that it must list.
    versions: &'static [&'static str],
    /// Inside the namespace, a command that breaks what CHECK looks at.
    damage: &'static str,
}

fn host_local(subnet: &str) -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]})
}

fn ours() -> Subject {
    Subject {
        plugin: network(),
        versions: &VERSIONS,
        damage: "ip address del ADDRESS dev eth0",
    }
}

fn delegating() -> Subject {
    let mut plugin = network();
    plugin["ipam"] = host_local("10.98.3.0/24");
    Subject {
        plugin,
        versions: &VERSIONS[..3],
        ..ours()
    }
}

fn ptp() -> Subject {
    Subject {
        plugin: json!({"type": "ptp", "ipam": host_local("10.98.1.0/24")}),
        versions: &VERSIONS[..3],
        damage: "ip address flush dev eth0",
    }
}

fn bridge() -> Subject {
    Subject {
        plugin: json!({"type": "bridge", "bridge": "rbtbr0", "isGateway": true, "ipam": host_local("10.98.2.0/24")}),
        versions: &VERSIONS[..3],
        damage: "ip address flush dev eth0",
    }
}

#[test]
fn ours_does_as_the_specification_says() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    conforms(site, &ours());
    assert_eq!(wired(site), (0, 0, 0));
}

/// What is shipped is one static file (`scripts/static`); the other tests run the one that cargo makes beside them.
#[test]
fn so_does_ours_as_it_is_shipped() {
    let plugin = program("roadbed").unwrap();
    let plugin = plugin.with_file_name("static/roadbed");
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let elf = format!("readelf --program-headers {}", plugin.display());
    let elf = site.run(N1, &elf).unwrap();
    assert!(elf.contains("LOAD") && !elf.contains("INTERP"), "{elf}");
    let copy = format!("cp {} /usr/local/bin/roadbed-static", plugin.display());
    site.run(N1, &copy).unwrap();
    let mut subject = ours();
    subject.plugin["type"] = json!("roadbed-static");
    conforms(site, &subject);
    assert_eq!(wired(site), (0, 0, 0));
}

#[test]
fn so_does_ours_with_addresses_of_host_local() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    conforms(site, &delegating());
    assert_eq!(wired(site), (0, 0, 0));
    let left = site.run(N1, "ls /var/lib/cni/networks/pods").unwrap();
    assert!(!left.contains("10.98.3."), "{left}");
}

#[test]
fn so_do_debians_plugins() {
    let bench = Bench::solo().unwrap();
    conforms(&bench.site, &ptp());
    conforms(&bench.site, &bridge());
}

fn conforms(site: &Site, subject: &Subject) {
    let kind = subject.plugin["type"].as_str().unwrap();
    let listed = Runtime::new(site, N1).versions(kind).unwrap();
    for version in subject.versions {
        assert!(listed.iter().any(|l| l == version), "{kind}: {listed:?}");
        life_of_a_container(site, subject, version);
    }
    faults(site, kind, &subject.plugin);
}

/// Every verb that the version has, for two containers on one network.
fn life_of_a_container(site: &Site, subject: &Subject, version: &str) {
    let kind = subject.plugin["type"].as_str().unwrap();
    let list = NetworkList::new(version, "pods", vec![subject.plugin.clone()]);
    let mut runtime = Runtime::new(site, N1);
    let pods = ["one", "two"].map(|name| Pod::new(N1, name));
    let [one, two] = ["one", "two"].map(Container::pod);
    for pod in &pods {
        pod.make(site).unwrap();
    }
    let since = |since: &str| {
        VERSIONS.iter().position(|v| *v == version) >= VERSIONS.iter().position(|v| *v == since)
    };
    if since("1.1.0") {
        runtime.status(&list).unwrap();
    }
    let result = runtime.add(&list, &one).unwrap();
    runtime.add(&list, &two).unwrap();
    if since("0.4.0") {
        runtime.check(&list, &one).unwrap();
        runtime.check(&list, &two).unwrap();
        let address = result["ips"][0]["address"].as_str().unwrap();
        let damage = subject.damage.replace("ADDRESS", address);
        site.run(N1, &format!("ip netns exec one {damage}"))
            .unwrap();
        let found = refusal(runtime.check(&list, &one)).unwrap();
        assert!(found.code >= 100 || kind != "roadbed", "{found}");
        runtime.check(&list, &two).unwrap();
    }
    if since("1.1.0") {
        runtime.forget(&list, &two);
        runtime.gc(&list).unwrap();
        assert!(link(site, "one", "eth0"));
        assert!(!link(site, "two", "eth0"), "{kind}: GC left it");
    }
    runtime.del(&list, &one).unwrap();
    assert!(!link(site, "one", "eth0"), "{kind} {version}: DEL left it");
    // Twice, without its result, without its namespace: never an error.
    runtime.del(&list, &one).unwrap();
    for pod in &pods {
        pod.unmake(site).unwrap();
    }
    let gone = Container {
        netns: String::new(),
        ..two
    };
    runtime.del(&list, &gone).unwrap();
}

/// Calls that no plugin can serve, each with the code that the specification has for it.
fn faults(site: &Site, kind: &str, plugin: &Value) {
    let runtime = Runtime::new(site, N1);
    let whole = Container::pod("nobody");
    let environment = |but: &str| -> Vec<(&str, String)> {
        let all = [
            ("CNI_CONTAINERID", whole.id.clone()),
            ("CNI_NETNS", whole.netns.clone()),
            ("CNI_IFNAME", whole.ifname.clone()),
        ];
        all.into_iter().filter(|(name, _)| *name != but).collect()
    };
    let conf = |version: &str| {
        let mut conf = plugin.clone();
        conf["cniVersion"] = json!(version);
        conf["name"] = json!("pods");
        conf.to_string()
    };
    let check = |command: &str, missing: &str, stdin: &str, code: u64| {
        let run = runtime
            .execute(kind, command, &environment(missing), stdin.as_bytes())
            .unwrap();
        assert!(
            !run.ok,
            "{kind} {command} without {missing}: {}",
            run.stdout
        );
        let error: Value = serde_json::from_str(&run.stdout).unwrap();
        roadbed_tests::cni::schema::check_error(&error, None).unwrap();
        assert_eq!(error["code"], code, "{kind} {command}: {error}");
    };
    check("ADD", "", &conf("9.9.9"), 1);
    check("ADD", "", "{\"cniVersion\": \"1.0.0\"", 6);
    check("ADD", "", "garbage", 6);
    check("JUMP", "", &conf("1.0.0"), 4);
    for missing in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        check("ADD", missing, &conf("1.0.0"), 4);
        check("CHECK", missing, &conf("1.0.0"), 4);
    }
    check("DEL", "CNI_CONTAINERID", &conf("1.0.0"), 4);
}

fn link(site: &Site, netns: &str, ifname: &str) -> bool {
    let links = site
        .run(N1, &format!("ip -n {netns} -o link show"))
        .unwrap();
    links.contains(&format!(" {ifname}@"))
}
