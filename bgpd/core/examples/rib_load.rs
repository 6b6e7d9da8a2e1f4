//! How fast the RIB alone is: decoded UPDATEs in, encoded UPDATEs out, no sockets. Each case runs in its own process,
//! since it prints its memory: `cargo run --release -p bgp-core --example rib_load -- CASE`, where CASE is `one`
//! (1 peer × 1,000,000 prefixes → 1 sink), `ten` (10 × 100,000 distinct, all to all) or `thirty` (30 × 100,000 overlapping).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement: reads the clock, prints, and stops at what it did not expect"
)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bgp_core::policy::{Builtin, Chain};
use bgp_core::rib::{Event, FamilyUpdate, Output, PeerUp, Rib, RibConfig, SessionId, TableId};
use bgp_wire::{
    AttributeEditor, DecodeContext, EncodeContext, Family, MAX_MESSAGE_LEN, NextHop, Nlri, Origin,
    decode_update, encode_reach, frame,
};

const PER_SET: u32 = 10;
/// A /24 takes four octets of a message of 4096.
const WITHDRAWN_PER_UPDATE: usize = 1018;
const UPDATES_PER_EVENT: usize = 64;
/// Octets under way to a session.
const PERMITS: u32 = 128 << 10;

fn peer_up(session: u64) -> PeerUp {
    PeerUp {
        session: SessionId(session),
        name: format!("p{session}").into(),
        table: TableId(0),
        remote_as: 65000 + session as u32,
        local_as: 64999,
        bgp_id: Ipv4Addr::from(session as u32),
        address: Ipv4Addr::from(0xc000_0200 + session as u32).into(),
        families: [true, false],
        next_hop_self: [Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 254))), None],
        encode: EncodeContext {
            four_octet_as: true,
            add_path: [false; 2],
            max_len: MAX_MESSAGE_LEN,
            extended_next_hop: false,
        },
        import: Chain::new(&[Builtin::AcceptAll]),
        export: Chain::new(&[Builtin::AcceptAll]),
        relation: Default::default(),
    }
}

/// The messages of one peer: prefixes from `first` on, ten per attribute set.
fn messages(session: u64, first: u32, count: u32) -> Vec<Vec<u8>> {
    let mut encoded = Vec::new();
    let next_hop = NextHop::V4(Ipv4Addr::from(0xc000_0200 + session as u32));
    for set in 0..count / PER_SET {
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(&[65000 + session as u32, 100_000 + set, 200_000 + set % 977]);
        editor.set_communities(&[set]);
        let nlri: Vec<Nlri> = (0..PER_SET)
            .map(|i| (0x0100_0000 + (first + set * PER_SET + i)) << 8)
            .map(|addr| {
                Nlri::new(
                    ipnet::Ipv4Net::new(Ipv4Addr::from(addr), 24)
                        .unwrap()
                        .into(),
                )
            })
            .collect();
        let context = peer_up(session).encode;
        encode_reach(
            Family::Ipv4Unicast,
            &editor.build(),
            &next_hop,
            &nlri,
            &context,
            &mut encoded,
        )
        .unwrap();
    }
    encoded.into_iter().map(|e| e.bytes).collect()
}

fn decode(message: &[u8]) -> FamilyUpdate {
    let context = DecodeContext {
        four_octet_as: true,
        ebgp: true,
        add_path: [false; 2],
        families: [true, false],
        extended_next_hop: false,
    };
    let update = decode_update(
        frame(message, MAX_MESSAGE_LEN).unwrap().unwrap().body,
        &context,
    );
    FamilyUpdate {
        family: Family::Ipv4Unicast,
        withdrawn: vec![],
        announced: update.announced.iter().collect(),
        attributes: update.attributes.zip(update.next_hop.map(NextHop::V4)),
    }
}

#[derive(Default)]
struct Totals {
    longest_event: Duration,
    longest_slice: Duration,
    messages: u64,
    bytes: u64,
}

/// Does all work there is; what is sent is permitted again at once.
fn work(rib: &mut Rib, totals: &mut Totals) {
    let mut out = Vec::new();
    loop {
        let begun = Instant::now();
        let more = rib.work(&mut out);
        totals.longest_slice = totals.longest_slice.max(begun.elapsed());
        let mut sent: HashMap<SessionId, u32> = HashMap::new();
        for output in out.drain(..) {
            if let Output::Send(session, message) = output {
                *sent.entry(session).or_default() += message.bytes.len() as u32;
                totals.messages += 1;
                totals.bytes += message.bytes.len() as u64;
            }
        }
        let again = !sent.is_empty();
        for (session, count) in sent {
            rib.handle(0, Event::Permit(session, count), &mut out);
        }
        if !more && !again {
            return;
        }
    }
}

fn event(rib: &mut Rib, event: Event, totals: &mut Totals) {
    let mut out = Vec::new();
    let begun = Instant::now();
    rib.handle(0, event, &mut out);
    totals.longest_event = totals.longest_event.max(begun.elapsed());
}

fn withdraw(message: &[u8]) -> FamilyUpdate {
    let mut update = decode(message);
    update.withdrawn = std::mem::take(&mut update.announced);
    update.attributes = None;
    update
}

/// Withdrawals as a daemon sends them that is told of all at once: as many in a message as fit.
fn packed(messages: &[Vec<u8>]) -> Vec<FamilyUpdate> {
    let all: Vec<Nlri> = messages.iter().flat_map(|m| decode(m).announced).collect();
    all.chunks(WITHDRAWN_PER_UPDATE)
        .map(|chunk| FamilyUpdate {
            family: Family::Ipv4Unicast,
            withdrawn: chunk.to_vec(),
            announced: vec![],
            attributes: None,
        })
        .collect()
}

#[inline(never)]
fn withdraw_packed(
    rib: &mut Rib,
    session: u64,
    mut updates: Vec<FamilyUpdate>,
    totals: &mut Totals,
) {
    while !updates.is_empty() {
        let left = updates.split_off(updates.len().min(4));
        event(rib, Event::Update(SessionId(session), updates), totals);
        work(rib, totals);
        updates = left;
    }
}

/// Messages of one peer, as many per event as a session collects.
fn updates(
    rib: &mut Rib,
    session: u64,
    messages: &[&Vec<u8>],
    how: fn(&[u8]) -> FamilyUpdate,
    totals: &mut Totals,
) {
    for chunk in messages.chunks(UPDATES_PER_EVENT) {
        let updates = chunk.iter().map(|m| how(m)).collect();
        event(rib, Event::Update(SessionId(session), updates), totals);
        work(rib, totals);
    }
}

/// Time that this process had a core: what counts where others work on the same machine.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .map(|kb| format!("{} MB", kb / 1024))
        .unwrap()
}

fn main() {
    let (peers, each, stride, sinks) = match std::env::args().nth(1).as_deref() {
        Some("one") => (1, 1_000_000, 0, 1),
        Some("ten") => (10, 100_000, 100_000, 0),
        Some("thirty") => (30, 100_000, 0, 0),
        _ => return println!("rib_load one | ten | thirty"),
    };
    let input: Vec<Vec<Vec<u8>>> = (0..peers)
        .map(|p| messages(u64::from(p) + 1, p * stride, each))
        .collect();
    let before = memory("VmRSS");
    let mut rib = Rib::new(RibConfig {
        local_as: 64999,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        cluster_id: Ipv4Addr::new(10, 0, 0, 1),
        seed: 7,
        assume_next_hops: true,
    });
    let mut totals = Totals::default();
    event(&mut rib, Event::Install(false), &mut totals);
    for session in 1..=u64::from(peers + sinks) {
        event(
            &mut rib,
            Event::PeerUp(Box::new(peer_up(session))),
            &mut totals,
        );
        event(
            &mut rib,
            Event::Permit(SessionId(session), PERMITS),
            &mut totals,
        );
    }
    let begun = on_cpu();
    let mut decoding = Duration::ZERO;
    let chunks = input[0].len().div_ceil(UPDATES_PER_EVENT);
    for chunk in 0..chunks {
        for (session, messages) in (1u64..).zip(&input) {
            let at = chunk * UPDATES_PER_EVENT;
            let end = messages.len().min(at + UPDATES_PER_EVENT);
            let decoded = Instant::now();
            let updates = messages[at..end].iter().map(|m| decode(m)).collect();
            decoding += decoded.elapsed();
            event(
                &mut rib,
                Event::Update(SessionId(session), updates),
                &mut totals,
            );
            // As the RIB thread does: work after some milliseconds of events.
            if session % 4 == 0 || session == u64::from(peers) {
                work(&mut rib, &mut totals);
            }
        }
    }
    work(&mut rib, &mut totals);
    let load = on_cpu() - begun;
    let prefixes = u64::from(peers) * u64::from(each);
    let rate = |time: Duration| prefixes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "load: {prefixes} prefixes in {:.2} s, of it decoding {:.2} s ({:.2} M/s without it); {} messages, {} MB out",
        load.as_secs_f64(),
        decoding.as_secs_f64(),
        rate(load.saturating_sub(decoding)),
        totals.messages,
        totals.bytes >> 20
    );
    println!(
        "longest event {:?}, longest slice {:?}",
        totals.longest_event, totals.longest_slice
    );
    println!(
        "memory: {before} of it input, {} now, {} at most; {:?}",
        memory("VmRSS"),
        memory("VmHWM"),
        rib.summary()
    );

    totals = Totals::default();
    let begun = on_cpu();
    for round in 0..10 {
        for (session, messages) in (1u64..).zip(&input) {
            // Every tenth: what fails together was not learned one after the other.
            let flapping: Vec<&Vec<u8>> = messages.iter().skip(round).step_by(10).collect();
            for how in [withdraw, decode] {
                updates(&mut rib, session, &flapping, how, &mut totals);
            }
        }
    }
    println!(
        "ten flaps of a tenth: {:.2} s with decoding; longest event {:?}, longest slice {:?}",
        (on_cpu() - begun).as_secs_f64(),
        totals.longest_event,
        totals.longest_slice,
    );

    totals = Totals::default();
    let withdrawals: Vec<Vec<FamilyUpdate>> = input.iter().map(|m| packed(m)).collect();
    let begun = on_cpu();
    for (session, withdrawals) in (1u64..).zip(withdrawals) {
        withdraw_packed(&mut rib, session, withdrawals, &mut totals);
    }
    println!(
        "withdraw: {:.3} s; longest event {:?}, longest slice {:?}; {:?}",
        (on_cpu() - begun).as_secs_f64(),
        totals.longest_event,
        totals.longest_slice,
        rib.summary()
    );
}
