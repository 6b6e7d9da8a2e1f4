//! The plugin killed before each of its messages to kernel and agent in turn.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use roadbed_api::agent::AttachmentState;
use roadbed_tests::bench::Bench;
use roadbed_tests::cni::{Container, NetworkList, Runtime};
use roadbed_tests::pod::{NETWORK, Pod, network};
use roadbed_tests::site::Site;

use super::{N1, in_use, wired};

/// More messages than an ADD sends from one thread.
const MESSAGES: usize = 64;

/// ADD with SIGKILL before the `nth` message of any of its threads; whether it lived.
fn add_killed(site: &Site, pod: &Pod, nth: usize) -> bool {
    let inject = format!("inject=sendto:signal=KILL:when={nth}");
    under_strace(site, pod, "ADD", &["-o", "/dev/null", "-e", &inject])
}

/// The programs that a call started, itself included, as `strace` tells them.
fn programs_of(site: &Site, pod: &Pod, command: &'static str) -> String {
    let options = ["-o", "/run/trace", "-e", "trace=execve"];
    // CHECK has no result to compare with here, and says so.
    let done = under_strace(site, pod, command, &options);
    assert_eq!(done, command != "CHECK", "{command}");
    std::fs::read_to_string(site.path(N1, "/run/trace").unwrap()).unwrap()
}

/// A call of the plugin under `strace`; whether it succeeded.
fn under_strace(site: &Site, pod: &Pod, command: &'static str, options: &[&str]) -> bool {
    let call = pod.call(command);
    let strace = ["strace", "-f", "-qq"].iter().chain(options);
    let argv: Vec<&str> = strace.chain(&["/usr/local/bin/roadbed"]).copied().collect();
    let mut child = site
        .lab()
        .command(N1, &argv)
        .unwrap()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &call.container_id)
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", &call.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It may be dead by now.
    let _ = child.stdin.take().unwrap().write_all(&call.stdin);
    child.wait().unwrap().success()
}

#[test]
fn killed_anywhere_it_leaves_what_del_and_add_can_deal_with() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let list = NetworkList::new("1.1.0", NETWORK, vec![network()]);
    let mut runtime = Runtime::new(site, N1);
    let mut survived = false;
    let mut unmarked = 0;
    for nth in 1..=MESSAGES {
        let pod = Pod::new(N1, &format!("p{nth}"));
        let container = Container::pod(&pod.name);
        pod.make(site).unwrap();
        survived = add_killed(site, &pod, nth);
        let link = format!("ip -o link show {}", pod.host_ifname());
        if let Ok(link) = site.run(N1, &link) {
            unmarked += usize::from(!link.contains("alias roadbed:1:"));
        }
        // Either is what a runtime may do next.
        if nth % 2 == 0 {
            let result = runtime.add(&list, &container).unwrap();
            let address = result["ips"][0]["address"].as_str().unwrap();
            let ping = format!("ping -n -c 1 -W 2 {}", address.trim_end_matches("/32"));
            site.run(N1, &ping).unwrap();
            runtime.check(&list, &container).unwrap();
        }
        runtime.del(&list, &container).unwrap();
        assert_eq!(wired(site), (0, 0, 0), "killed before message {nth}");
        assert_eq!(in_use(site), 0, "killed before message {nth}");
        let inside = site
            .run(N1, &format!("ip -n {} -o link", pod.name))
            .unwrap();
        assert_eq!(inside.lines().count(), 1, "{inside}");
        pod.unmake(site).unwrap();
        if survived {
            break;
        }
    }
    assert!(survived, "an ADD sends more than {MESSAGES} messages");
    assert!(unmarked > 0, "no kill hit the moment before the mark");
}

/// Nobody comes back: no DEL, no other ADD.
#[test]
fn what_a_killed_plugin_left_is_collected() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let mut left = 0;
    for nth in 1..MESSAGES {
        let pod = Pod::new(N1, &format!("p{nth}"));
        pod.make(site).unwrap();
        if add_killed(site, &pod, nth) {
            let mut runtime = Runtime::new(site, N1);
            let list = NetworkList::new("1.1.0", NETWORK, vec![network()]);
            runtime.del(&list, &Container::pod(&pod.name)).unwrap();
            break;
        }
        left += 1;
    }
    assert!(left > 4, "{left} moments");
    assert!(in_use(site) > 0 && wired(site).0 > 0, "there is something");
    // A reservation holds for 30 s; what the agent was still asked to do has made attachments of some.
    site.until(Duration::from_secs(60), "reservations expire", || {
        let attachments = site.attachments(N1)?;
        let wiring = attachments
            .iter()
            .filter(|a| a.state != AttachmentState::Committed);
        ensure!(wiring.count() == 0, "{attachments:?}");
        Ok(())
    })
    .unwrap();
    let whole = site.attachments(N1).unwrap();
    let links = site.run(N1, "ip -o link").unwrap();
    let links: Vec<&str> = links.lines().filter(|line| line.contains(": rb")).collect();
    assert_eq!(links.len(), whole.len(), "{links:?} {whole:?}");
    assert!(
        links.iter().all(|line| line.contains("alias roadbed:1:")),
        "{links:?}"
    );
}

#[test]
fn it_starts_no_other_program() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let pod = Pod::new(N1, "alone");
    pod.make(site).unwrap();
    for command in ["ADD", "CHECK", "DEL"] {
        let programs = programs_of(site, &pod, command);
        assert_eq!(
            programs.matches("execve(").count(),
            1,
            "{command}: {programs}"
        );
    }
}

#[test]
fn without_the_agent_del_removes_what_a_killed_plugin_left() {
    let bench = Bench::solo().unwrap();
    let site = &bench.site;
    let list = NetworkList::new("1.1.0", NETWORK, vec![network()]);
    let mut pods = Vec::new();
    for nth in 2..12 {
        let pod = Pod::new(N1, &format!("p{nth}"));
        pod.make(site).unwrap();
        add_killed(site, &pod, nth);
        pods.push(pod);
    }
    let links = site.run(N1, "ip -o link").unwrap();
    let left = links.lines().filter(|line| line.contains(": rb"));
    assert!(left.clone().any(|line| !line.contains("alias")), "{links}");
    bench.kill(N1).unwrap();
    for pod in &pods {
        let mut runtime = Runtime::new(site, N1);
        runtime.del(&list, &Container::pod(&pod.name)).unwrap();
    }
    let links = site.run(N1, "ip -o link").unwrap();
    assert!(!links.contains(": rb"), "{links}");
}
