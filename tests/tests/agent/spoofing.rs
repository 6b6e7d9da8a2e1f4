//! What a pod says it is: forged sources, neighbour discovery and router advertisements, against rules that are there,
//! gone, and somebody else's.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendmsg,
    socket,
};
use roadbed_api::names::attachment_mac;
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{MacAddr, NetNs};
use roadbed_tests::bench::Bench;
use roadbed_tests::pod::Pod;
use roadbed_tests::site::Site;

use crate::{N1, SOON, check_contains, connected, status_shows};

const PORT: u16 = 9999;
const HONEST: &[u8] = b"honest";
/// A router that is none.
const ROGUE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
/// What an operator gave the host end, so that link-local sources have a way back.
const HOST_END: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
/// Packets of one link may overtake each other on two processors, for far less than this.
const OVERTAKING: Duration = Duration::from_millis(100);

fn inside<T: Send>(site: &Site, pod: &Pod, work: impl FnOnce() -> T + Send) -> T {
    let path = site.path(N1, &format!("/run/netns/{}", pod.name)).unwrap();
    run_in(&NetNs::open(&path).unwrap(), work).unwrap()
}

/// Internet checksum (RFC 1071) over the IPv6 pseudo-header and the message.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, message: &[u8]) -> [u8; 2] {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    let octets = [
        &from.octets()[..],
        &to.octets(),
        &len,
        &[0, 0, 0, protocol],
        message,
    ]
    .concat();
    let sum: u32 = octets
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes = [PORT.to_be_bytes(), PORT.to_be_bytes(), len.to_be_bytes()].concat();
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, hops: u8, message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], protocol, hops];
    [&head, &from.octets()[..], &to.octets(), message].concat()
}

/// Sends a whole packet, its header included, from the namespace of the calling thread.
fn send_raw(to: IpAddr, packet: &[u8]) {
    let family = match to {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let raw = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
    let iov = [IoSlice::new(packet)];
    let none = MsgFlags::empty();
    let sent = match to {
        IpAddr::V4(to) => {
            let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
            sendmsg(raw.as_raw_fd(), &iov, &[], none, Some(&to))
        }
        IpAddr::V6(to) => {
            // The pod's only interface beside loopback.
            let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
            let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to, 0, 0, scope));
            sendmsg(raw.as_raw_fd(), &iov, &[], none, Some(&to))
        }
    };
    assert_eq!(sent.unwrap(), packet.len());
}

fn forge(from: IpAddr, to: IpAddr) {
    let payload = format!("forged {from}");
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
            packet.extend(from.octets().into_iter().chain(to.octets()));
            packet.extend(datagram(payload.as_bytes()));
            send_raw(IpAddr::V4(to), &packet);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut message = datagram(payload.as_bytes());
            let sum = checksum(from, to, 17, &message);
            message[6..8].copy_from_slice(&sum);
            send_raw(IpAddr::V6(to), &ipv6(from, to, 17, 64, &message));
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// Three pods; the first forges, the second listens, the third is who the first says it is.
struct Scene {
    bench: Bench,
    pods: Vec<Pod>,
}

impl Scene {
    fn new() -> Self {
        let bench = connected();
        let site = &bench.site;
        reverse_path_filter(site, 2);
        let pods: Vec<Pod> = ["liar", "listener", "victim"]
            .iter()
            .map(|name| Pod::start(site, N1, name).unwrap())
            .collect();
        let dev = pods[0].host_ifname();
        site.run(N1, &format!("ip address add {HOST_END}/64 dev {dev} nodad"))
            .unwrap();
        site.run(N1, &format!("sysctl -qw net.ipv6.conf.{dev}.accept_ra=2"))
            .unwrap();
        // Nothing that waits for an answer in the pod, and leaves it later.
        let mac = MacAddr(attachment_mac(&pods[0].key(), 0));
        let known = format!("ip neigh add {HOST_END} lladdr {mac} dev eth0 nud permanent");
        let words: Vec<&str> = known.split(' ').collect();
        pods[0].exec(site, &words).unwrap();
        Self { bench, pods }
    }

    /// Sources that the liar may think of: another pod, the router above.
    fn sources(&self, v6: bool) -> [IpAddr; 2] {
        let router: [IpAddr; 2] = [[172, 31, 0, 0].into(), "fd00:31::1".parse().unwrap()];
        [self.pods[2].address(v6).unwrap(), router[usize::from(v6)]]
    }

    /// Which forged sources reach the listener. An honest datagram after them says when all have had their time.
    fn forged_that_arrive(&self, v6: bool) -> Vec<String> {
        let site = &self.bench.site;
        let to = self.pods[1].address(v6).unwrap();
        let listener = inside(site, &self.pods[1], || UdpSocket::bind((to, PORT)).unwrap());
        listener.set_read_timeout(Some(SOON)).unwrap();
        inside(site, &self.pods[0], || {
            for from in self.sources(v6) {
                forge(from, to);
            }
            std::thread::sleep(OVERTAKING);
            let any: IpAddr = match v6 {
                true => Ipv6Addr::UNSPECIFIED.into(),
                false => Ipv4Addr::UNSPECIFIED.into(),
            };
            let honest = UdpSocket::bind((any, 0)).unwrap();
            honest.send_to(HONEST, (to, PORT)).unwrap();
        });
        let mut arrived = Vec::new();
        let mut buffer = [0; 64];
        loop {
            let (len, _) = listener.recv_from(&mut buffer).unwrap();
            if &buffer[..len] == HONEST {
                return arrived;
            }
            arrived.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
        }
    }

    /// Forges a router advertisement and neighbour solicitations from addresses that are not the pod's, then says
    /// what the host made of it: neighbours and routes of the host end.
    fn discovery(&self) -> String {
        let site = &self.bench.site;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let own_mac = [1, 1, 2, 0, 0, 0, 0xba, 0xd0];
        // Type, code, checksum; hop limit, flags, lifetime of 1800 s, reachable time, retransmission (RFC 4861 §4.2).
        let mut advertisement = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        advertisement.extend(own_mac);
        let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
        solicitation.extend(HOST_END.octets());
        solicitation.extend(own_mac);
        inside(site, &self.pods[0], || {
            for (to, mut message) in [(all_nodes, advertisement), (HOST_END, solicitation)] {
                let sum = checksum(ROGUE, to, 58, &message);
                message[2..4].copy_from_slice(&sum);
                send_raw(to.into(), &ipv6(ROGUE, to, 58, 255, &message));
            }
        });
        let dev = self.pods[0].host_ifname();
        let neighbours = site
            .run(N1, &format!("ip -6 neigh show dev {dev}"))
            .unwrap();
        neighbours + &site.run(N1, "ip -6 route show proto ra").unwrap()
    }

    fn nothing_gets_through(&self) {
        for v6 in [false, true] {
            assert_eq!(self.forged_that_arrive(v6), Vec::<String>::new());
        }
        std::thread::sleep(OVERTAKING);
        let made = self.discovery();
        assert!(!made.contains(&ROGUE.to_string()), "{made}");
        let site = &self.bench.site;
        let rules = site.run(N1, "nft list table inet roadbed").unwrap();
        check_contains(&rules, &["comment \"roadbed:1\"", "iifname \"rb*\""]);
        for address in &self.pods[1].addresses {
            let ping = ["ping", "-n", "-c", "1", "-W", "5", &address.to_string()];
            self.pods[0].exec(site, &ping).unwrap();
        }
    }
}

/// Of all links: single ones cannot be below it.
fn reverse_path_filter(site: &Site, value: u8) {
    let setting = format!("sysctl -qw net.ipv4.conf.all.rp_filter={value}");
    site.run(N1, &setting).unwrap();
}

fn rules_stand(site: &Site) {
    site.until(SOON, "the table is there", || {
        site.run(N1, "nft list table inet roadbed")?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn nothing_that_a_pod_forges_gets_through() {
    let scene = Scene::new();
    let site = &scene.bench.site;
    scene.nothing_gets_through();

    // Without the rules all of it does: what is sent here is what it says. Loose filtering happens to be strict on
    // links without an address.
    reverse_path_filter(site, 0);
    scene.bench.kill(N1).unwrap();
    site.run(N1, "nft delete table inet roadbed").unwrap();
    for v6 in [false, true] {
        let expected: Vec<String> = scene
            .sources(v6)
            .iter()
            .map(|from| format!("forged {from}"))
            .collect();
        assert_eq!(scene.forged_that_arrive(v6), expected);
    }
    site.until(SOON, "forged discovery has an effect", || {
        let made = scene.discovery();
        let neighbour = made.contains(&format!("{ROGUE} lladdr"));
        let route = made.contains(&format!("default via {ROGUE}"));
        ensure!(neighbour && route, "{made}");
        Ok(())
    })
    .unwrap();
    let dev = scene.pods[0].host_ifname();
    site.run(
        N1,
        &format!("ip -6 route del default via {ROGUE} dev {dev}"),
    )
    .unwrap();
    site.run(N1, &format!("ip -6 neigh flush dev {dev} nud stale"))
        .unwrap();
    site.run(N1, &format!("ip -6 neigh del {ROGUE} dev {dev}"))
        .ok();

    scene.bench.start(N1).unwrap();
    rules_stand(site);
    scene.nothing_gets_through();
}

#[test]
fn rules_that_somebody_deletes_or_changes_are_back_soon() {
    let scene = Scene::new();
    let site = &scene.bench.site;
    for change in [
        "nft delete table inet roadbed",
        "nft flush ruleset",
        "nft flush chain inet roadbed from-pod",
    ] {
        site.run(N1, change).unwrap();
        site.until(SOON, format!("the rules are back after {change}"), || {
            let rules = site.run(N1, "nft list table inet roadbed")?;
            ensure!(rules.contains("fib saddr . iif oif missing"), "{rules}");
            Ok(())
        })
        .unwrap();
        scene.nothing_gets_through();
    }
    // Rules of others are none of our business.
    site.run(N1, "nft add table inet theirs").unwrap();
    site.run(N1, "nft add chain inet roadbed more").unwrap();
    let theirs = site.run(N1, "nft list table inet theirs").unwrap();
    assert!(theirs.contains("theirs"));
}

#[test]
fn a_table_of_somebody_else_is_left_alone_and_said() {
    let bench = connected();
    let site = &bench.site;
    status_shows(site, &["AntiSpoofing=True"]);
    bench.kill(N1).unwrap();
    site.run(N1, "nft delete table inet roadbed").unwrap();
    site.run(N1, "nft add table inet roadbed").unwrap();
    site.run(N1, "nft add chain inet roadbed theirs").unwrap();
    bench.start(N1).unwrap();
    // Pods are started all the same.
    site.ready(N1).unwrap();
    Pod::start(site, N1, "web").unwrap();
    status_shows(site, &["table inet roadbed is not ours"]);
    let rules = site.run(N1, "nft list table inet roadbed").unwrap();
    assert!(
        rules.contains("chain theirs") && !rules.contains("fib"),
        "{rules}"
    );
    site.run(N1, "nft delete table inet roadbed").unwrap();
    rules_stand(site);
    status_shows(site, &["AntiSpoofing=True"]);
}
