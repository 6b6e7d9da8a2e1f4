//! What a session's packets look like on the wire.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::netns::{Ns, run};
use roadbed_tests::process::Process;
use roadbed_tests::wait::eventually;

use crate::fixture::{Pair, SOON, peer};
use crate::script::{Script, open};

/// Records what comes and goes at port 179 of `eth0`; the second value is the file.
fn capture(ns: &Ns, dir: &Path) -> (Process, String) {
    let file = dir.join("bgp.pcap").to_str().unwrap().to_owned();
    let argv = [
        "dumpcap",
        "-q",
        "-i",
        "eth0",
        "-f",
        "tcp port 179",
        "-w",
        &file,
    ];
    let process = Process::start(ns, dir, "dumpcap", &argv).unwrap();
    eventually(SOON, "dumpcap records", || {
        let log = process.log();
        log.contains("File:").then_some(()).ok_or(log)
    });
    (process, file)
}

/// A packet.
#[derive(Debug)]
struct Sent {
    dscp: String,
    syn: bool,
    /// Octets of BGP.
    len: u32,
}

/// Each packet so far from this address. A refusal by the kernel, before the speaker listens, is none of ours.
fn sent_by(file: &str, from: &str) -> Result<Vec<Sent>, String> {
    let (family, field) = match from.contains(':') {
        true => ("ipv6", "ipv6.tclass.dscp"),
        false => ("ip", "ip.dsfield.dscp"),
    };
    let filter = format!("{family}.src == {from} && tcp.flags.reset == 0");
    let text = run(Command::new("tshark")
        .args(["-n", "-r", file, "-Y", &filter])
        .args([
            "-T",
            "fields",
            "-e",
            field,
            "-e",
            "tcp.flags.syn",
            "-e",
            "tcp.len",
        ]))
    .map_err(|error| error.to_string())?;
    let row = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Sent {
            dscp: fields.next()?,
            syn: matches!(fields.next()?.as_str(), "1" | "True"),
            len: fields.next()?.parse().ok()?,
        })
    };
    Ok(text.lines().filter_map(row).collect())
}

/// A peer that waits for us to dial, and is Established.
fn answered(pair: &Pair, at: &str) -> Script {
    let address = SocketAddr::new(at.parse().unwrap(), 179);
    let listener = pair.peer.within(|| TcpListener::bind(address)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = eventually(SOON, "we dial", || listener.accept());
    stream.set_nonblocking(false).unwrap();
    let mut script = Script::on(stream);
    script.greet(&open(65002, [10, 99, 0, 2]));
    script
}

/// All of them CS6 (RFC 4594 §3.1: routing protocols), from the first on.
fn check_dscp(us: &str, they: &str, passive: bool) {
    let pair = Pair::new();
    let (dumpcap, file) = capture(&pair.peer, pair.dir());
    let more = if passive { "passive = true" } else { "" };
    let _speaker: Bgpd = pair.speaker(&peer("one", they, more));
    let _script = match passive {
        true => Script::establish(&pair.peer, they, us),
        false => answered(&pair, they),
    };
    eventually(SOON, "packets of ours, marked", || {
        let packets = sent_by(&file, us)?;
        let syn = packets.first().is_some_and(|packet| packet.syn);
        // OPEN and KEEPALIVE at the least.
        let messages = packets.iter().filter(|packet| packet.len > 0).count();
        if messages < 2 || !syn {
            return Err(format!("{packets:?}\n{}", dumpcap.log()));
        }
        for packet in &packets {
            assert_eq!(packet.dscp, "48", "{packets:?}");
        }
        Ok(())
    });
}

#[test]
fn packets_are_marked_as_those_of_routing_protocols() {
    for passive in [true, false] {
        check_dscp("10.99.0.1", "10.99.0.2", passive);
        check_dscp("fd00:99::1", "fd00:99::2", passive);
    }
}
