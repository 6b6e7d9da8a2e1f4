//! What pods send each other: over our wiring, over the same made by hand, over Debian's `bridge`.
//!
//! ```text
//!  node:  pod ── our host veth ── routes ── our host veth ── pod
//!  "ref": the same by `ip`, in a namespace without an agent
//!  node:  pod ── cni0 ── pod
//! ```

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::call::Plugin;
use crate::node::{Node, Pod, sh};

/// The namespace with the hand-made wiring.
const REFERENCE: &str = "ref";
const SECONDS: u64 = 1;
const PORT: u16 = 7001;
/// Keys of `ip -j` that say nothing about what a link does.
const NUMBERS: [&str; 7] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "link",
    "ifname",
    "operstate",
    "permaddr",
];

/// What the hand-made node is set to.
const SETTINGS: &str = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv4.conf.all.ignore_routes_with_linkdown=1 net.ipv6.conf.all.ignore_routes_with_linkdown=1";
/// What the hand-made node drops: all that a pod may not send.
const RULES: &str = r#"table inet roadbed {
    comment "made by hand"
    chain from-pod {
        meta nfproto ipv6 icmpv6 type 133-137 counter drop
        meta nfproto ipv4 ip saddr 0.0.0.0/8 counter drop
        meta nfproto ipv6 ip6 saddr :: counter drop
        fib saddr . iif oif missing counter drop
    }
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        iifname "rb*" jump from-pod
    }
}"#;

/// A wired pair of pods.
struct Wired {
    name: &'static str,
    /// Namespace that forwards; `None`: the node itself.
    host: Option<&'static str>,
    pods: [Pod; 2],
    addresses: [Vec<IpAddr>; 2],
    links: [String; 2],
}

/// A ratio with its 95 % interval.
pub(crate) struct Ratio {
    name: &'static str,
    mean: f64,
    low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// What was found.
pub(crate) struct Paths {
    /// Between our kernel objects and the hand-made ones.
    pub(crate) differences: Vec<String>,
    /// Ours and bridge's, of the hand-made wiring's.
    pub(crate) throughput: [Ratio; 2],
    /// Round trips per second, likewise.
    pub(crate) rate: [Ratio; 2],
    /// Gbit/s and round trips per second: medians of ours, by hand, bridge.
    absolute: [[f64; 3]; 2],
}

pub(crate) fn run(node: &Node, ours: &Plugin, runs: usize) -> Result<Paths> {
    let wired = [
        by_plugin(node, ours, "roadbed")?,
        by_hand(node)?,
        by_plugin(node, &Plugin::bridge(node), "bridge")?,
    ];
    let differences = differences(&objects(&wired[0])?, &objects(&wired[1])?);
    let mut gigabits: [Vec<f64>; 3] = Default::default();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for run in 0..runs {
        let order = if run % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] };
        for which in order {
            gigabits[which].push(throughput(&wired[which])?);
            rates[which].push(round_trips(&wired[which])?);
        }
    }
    let of = |name, values: &[Vec<f64>; 3], which: usize| ratio(name, &values[which], &values[1]);
    let medians =
        |values: &[Vec<f64>; 3]| [0, 1, 2].map(|which| crate::report::median(&values[which]));
    Ok(Paths {
        differences,
        throughput: [of("roadbed", &gigabits, 0), of("bridge", &gigabits, 2)],
        rate: [of("roadbed", &rates, 0), of("bridge", &rates, 2)],
        absolute: [medians(&gigabits), medians(&rates)],
    })
}

fn by_plugin(node: &Node, plugin: &Plugin, name: &'static str) -> Result<Wired> {
    let [a, b] = pods(node, name)?;
    let mut links = [String::new(), String::new()];
    let mut addresses = [vec![], vec![]];
    for (i, pod) in [&a, &b].into_iter().enumerate() {
        let added = plugin.add(pod)?;
        links[i] = added.host_ifname()?;
        let result: Value = serde_json::from_slice(&added.stdout)?;
        for ip in result["ips"].as_array().context("no ips")? {
            let text = ip["address"].as_str().context("no address")?;
            addresses[i].push(text.split('/').next().unwrap_or(text).parse()?);
        }
    }
    Ok(Wired {
        name,
        host: None,
        pods: [a, b],
        addresses,
        links,
    })
}

/// As the plugin and the agent wire, by `ip` alone.
fn by_hand(node: &Node) -> Result<Wired> {
    sh(&format!("ip netns add {REFERENCE}"))?;
    let rules = node.dir.join("reference.nft");
    std::fs::write(&rules, RULES)?;
    for line in [
        "ip link set lo up",
        "ip address add 10.255.0.12/32 dev lo",
        "ip address add fd00:255::12/128 dev lo",
        SETTINGS,
        &format!("nft -f {}", rules.display()),
    ] {
        inside(Some(REFERENCE), line)?;
    }
    let pods = pods(node, "hand")?;
    let links = ["rbhand-a", "rbhand-b"].map(str::to_owned);
    let addresses = [["10.202.0.1", "fd00:202::1"], ["10.202.0.2", "fd00:202::2"]];
    for (i, pod) in pods.iter().enumerate() {
        let (link, [v4, v6], pod) = (&links[i], addresses[i], &pod.name);
        let [host_mac, pod_mac] = [
            format!("0e:00:00:00:00:0{i}"),
            format!("1e:00:00:00:00:0{i}"),
        ];
        let host = [
            format!(
                "ip link add {link} mtu 1500 address {host_mac} type veth peer name eth0 netns {pod} address {pod_mac} mtu 1500"
            ),
            format!("ip link set {link} alias by-hand addrgenmode none"),
            format!(
                "sysctl -qw net.ipv4.conf.{link}.arp_ignore=8 net.ipv4.conf.{link}.accept_redirects=0 \
                 net.ipv4.conf.{link}.send_redirects=0"
            ),
            format!("ip link set {link} up"),
        ];
        for line in host {
            inside(Some(REFERENCE), &line)?;
        }
        for line in [
            "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.accept_ra=0".to_owned(),
            "ip link set eth0 up".to_owned(),
            format!("ip address add {v4}/32 dev eth0"),
            format!("ip neighbour add 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent"),
            "ip route add 169.254.1.1/32 dev eth0 scope link".to_owned(),
            "ip route add default via 169.254.1.1 dev eth0".to_owned(),
            format!("ip address add {v6}/128 dev eth0 nodad"),
            format!("ip neighbour add fe80::1 lladdr {host_mac} dev eth0 nud permanent"),
            "ip route add default via fe80::1 dev eth0".to_owned(),
        ] {
            inside(Some(pod), &line)?;
        }
        for line in [
            format!("ip neighbour add {v4} lladdr {pod_mac} dev {link} nud permanent"),
            format!("ip neighbour add {v6} lladdr {pod_mac} dev {link} nud permanent"),
            format!("ip route add {v4}/32 dev {link} proto 82 scope link src 10.255.0.12"),
            format!("ip -6 route add {v6}/128 dev {link} proto 82 src fd00:255::12"),
        ] {
            inside(Some(REFERENCE), &line)?;
        }
    }
    Ok(Wired {
        name: "by hand",
        host: Some(REFERENCE),
        pods,
        addresses: addresses.map(|pair| pair.iter().filter_map(|a| a.parse().ok()).collect()),
        links,
    })
}

fn pods(node: &Node, name: &str) -> Result<[Pod; 2]> {
    let pods = node.pods(&format!("{name}-"), 2)?;
    pods.try_into().ok().context("two pods")
}

/// Runs a command line in a namespace, or in the node.
fn inside(netns: Option<&str>, line: &str) -> Result<String> {
    match netns {
        Some(name) => sh(&format!("ip netns exec {name} {line}")),
        None => sh(line),
    }
}

/// Everything that the kernel knows of the first pod's link, names and numbers of this pod taken out.
fn objects(wired: &Wired) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let pod = Some(wired.pods[0].name.as_str());
    let link = wired.links[0].as_str();
    for (end, netns, device) in [("pod", pod, "eth0"), ("host", wired.host, link)] {
        for what in [
            "-d link show",
            "address show",
            "-4 route show",
            "-6 route show",
            "neighbour show",
        ] {
            let text = inside(netns, &format!("ip -j {what} dev {device}"))?;
            let shown: Value = serde_json::from_str(if text.is_empty() { "[]" } else { &text })
                .with_context(|| text.clone())?;
            for item in shown.as_array().into_iter().flatten() {
                flatten(&format!("{end} {what}"), item, &mut found);
            }
        }
        for family in ["ipv4", "ipv6"] {
            // But for the random secret of every interface, which cannot even be read.
            let files =
                format!("grep -rs --exclude=stable_secret . /proc/sys/net/{family}/conf/{device}");
            for line in inside(netns, &files)?.lines() {
                let setting = line.rsplit('/').next().unwrap_or(line);
                found.insert(format!("{end} {family} setting {setting}"));
            }
        }
    }
    // Rules without their counts.
    for line in inside(wired.host, "nft -s list ruleset")?.lines() {
        if !line.contains("comment") {
            found.insert(format!("host rule {}", line.trim()));
        }
    }
    let mut names = vec![(link.to_owned(), "LINK")];
    let macs = [("pod", "PODMAC"), ("host", "HOSTMAC")];
    for ((netns, device), (_, token)) in [(pod, "eth0"), (wired.host, link)].into_iter().zip(macs) {
        let text = inside(netns, &format!("ip -j link show dev {device}"))?;
        let shown: Value = serde_json::from_str(&text)?;
        names.push((
            shown[0]["address"].as_str().context("no MAC")?.to_owned(),
            token,
        ));
    }
    for (address, token) in wired.addresses[0].iter().zip(["POD4", "POD6"]) {
        names.push((address.to_string(), token));
    }
    for (own, token) in [("10.255.0.1", "NODE4"), ("fd00:255::1", "NODE6")] {
        names.push((
            format!("{own}{}", if wired.host.is_some() { 2 } else { 1 }),
            token,
        ));
    }
    let named = |line: &String| {
        names.iter().fold(line.clone(), |line, (name, token)| {
            line.replace(name, token)
        })
    };
    let mut lines: BTreeSet<String> = found.iter().map(named).collect();
    // Made of the MAC, in the one encoding or the other; the alias names the pod.
    lines.retain(|line| !line.contains("fe80::") || line.contains("fe80::1\""));
    lines.retain(|line| !line.contains(".ifalias "));
    Ok(lines)
}

/// One line per value, its place before it; elements of lists by their content.
fn flatten(place: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            // Of an address or a route, all together make one fact.
            let whole = place.ends_with("route show dev")
                || fields.contains_key("local")
                || fields.contains_key("dst");
            let kept = fields
                .iter()
                .filter(|(key, _)| !NUMBERS.contains(&key.as_str()));
            if whole {
                let facts: Vec<String> =
                    kept.map(|(key, value)| format!("{key}={value}")).collect();
                into.insert(format!("{place} {}", facts.join(" ")));
            } else {
                kept.for_each(|(key, value)| flatten(&format!("{place}.{key}"), value, into));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| flatten(place, item, into)),
        other => {
            into.insert(format!("{place} {other}"));
        }
    }
}

fn differences(ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Vec<String> {
    let only_ours = ours.difference(theirs).map(|line| format!("+ {line}"));
    only_ours
        .chain(theirs.difference(ours).map(|line| format!("- {line}")))
        .collect()
}

/// A server in the second pod; killed on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn server(wired: &Wired, argv: &[String], says: &str) -> Result<Server> {
    let child = Command::new("ip")
        .args(["netns", "exec", &wired.pods[1].name])
        .args(argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut server = Server(child);
    let mut out = BufReader::new(server.0.stdout.take().context("piped")?);
    let mut line = String::new();
    while !line.contains(says) {
        line.clear();
        ensure!(out.read_line(&mut line)? > 0, "{argv:?} does not listen");
    }
    // It goes on writing to a pipe that must not be closed.
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    Ok(server)
}

/// Gbit/s of one TCP connection.
fn throughput(wired: &Wired) -> Result<f64> {
    let argv = ["iperf3", "-s", "-1", "--forceflush"].map(str::to_owned);
    let _server = server(wired, &argv, "listening")?;
    let line = format!("iperf3 -J -t {SECONDS} -c {}", wired.addresses[1][0]);
    let text = inside(Some(&wired.pods[0].name), &line).with_context(|| wired.name)?;
    let shown: Value = serde_json::from_str(&text)?;
    let bits = shown["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.context("iperf3 gives no result")? / 1e9)
}

/// Round trips per second of one TCP connection.
fn round_trips(wired: &Wired) -> Result<f64> {
    let exe = std::env::current_exe()?.display().to_string();
    let to = format!("{}:{PORT}", wired.addresses[1][0]);
    let _server = server(
        wired,
        &[exe.clone(), "pong".to_owned(), to.clone()],
        "listening",
    )?;
    let text = inside(
        Some(&wired.pods[0].name),
        &format!("{exe} ping {to} {SECONDS}"),
    )?;
    Ok(text.trim().parse()?)
}

/// Answers one connection byte by byte.
pub(crate) fn pong(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    std::io::stdout().flush()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Prints round trips per second.
pub(crate) fn ping(address: &str, seconds: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (start, length) = (Instant::now(), Duration::from_secs(seconds));
    let mut byte = [0];
    let mut trips = 0_u64;
    while start.elapsed() < length {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        trips += 1;
    }
    println!("{}", trips as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// The geometric mean of the ratios run by run, with Student's 95 % interval.
fn ratio(name: &'static str, ours: &[f64], theirs: &[f64]) -> Ratio {
    /// Of 1 to 9 degrees of freedom; more are taken for many.
    const STUDENT: [f64; 9] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
    let logs: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a / b).ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let square: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    let deviation = (square / (count - 1.0).max(1.0)).sqrt();
    let student = STUDENT
        .get(logs.len().saturating_sub(2))
        .copied()
        .unwrap_or(2.0);
    let half = student * deviation / count.sqrt();
    Ratio {
        name,
        mean: mean.exp(),
        low: (mean - half).exp(),
        high: (mean + half).exp(),
    }
}

impl Paths {
    pub(crate) fn print(&self) {
        println!(
            "\n| pod → pod | roadbed | by hand | bridge | ratio to by hand: mean (95 % interval) |\n|---|---|---|---|---|"
        );
        for (name, ratios, absolute) in [
            ("TCP, Gbit/s", &self.throughput, self.absolute[0]),
            ("TCP round trips per second", &self.rate, self.absolute[1]),
        ] {
            let ratios: Vec<String> = ratios
                .iter()
                .map(|r| format!("{} {:.2} ({:.2}–{:.2})", r.name, r.mean, r.low, r.high))
                .collect();
            println!(
                "| {name} | {:.2} | {:.2} | {:.2} | {} |",
                absolute[0],
                absolute[1],
                absolute[2],
                ratios.join("; ")
            );
        }
        println!(
            "\nDifferences from the hand-made wiring: {}",
            self.differences.len()
        );
        self.differences
            .iter()
            .for_each(|line| println!("  {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_and_its_interval() {
        let equal = ratio("x", &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        assert_eq!((equal.mean, equal.low, equal.high), (1.0, 1.0, 1.0));
        let noisy = ratio("x", &[1.0, 0.8, 1.25], &[1.0, 1.0, 1.0]);
        assert!((noisy.mean - 1.0).abs() < 1e-9);
        assert!(
            noisy.low < 0.8 && noisy.high > 1.25,
            "{} {}",
            noisy.low,
            noisy.high
        );
    }

    #[test]
    fn what_differs_is_named() {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let found = differences(&set(&["same", "mine"]), &set(&["same", "yours"]));
        assert_eq!(found, ["+ mine", "- yours"]);
    }
}
