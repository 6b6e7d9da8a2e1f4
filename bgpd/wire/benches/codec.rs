//! UPDATEs to routes and back: five attributes, 1, 100 or 300 prefixes. `make bench-micro` runs it.

use bgp_wire::{
    AttributeEditor, DecodeContext, EncodeContext, Family, MAX_MESSAGE_LEN, NextHop, Nlri, Origin,
    PathAttributes, decode_update, encode_reach,
};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use ipnet::{IpNet, Ipv4Net};

fn main() {
    divan::main();
}

const PREFIXES: [u32; 3] = [1, 100, 300];
const FAMILY: Family = Family::Ipv4Unicast;
const HEADER: usize = bgp_wire::HEADER_LEN;

const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    add_path: [false; 2],
    max_len: MAX_MESSAGE_LEN,
    extended_next_hop: false,
};
const DECODE: DecodeContext = DecodeContext {
    four_octet_as: true,
    ebgp: true,
    add_path: [false; 2],
    families: [true; 2],
    extended_next_hop: false,
};

/// ORIGIN, AS_PATH of three, MED, three communities; NEXT_HOP is the fifth.
fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[65101, 4_200_000_001, 65121])
        .set_med(Some(10))
        .set_communities(&[0xfde9_0001, 0xfde9_0002, 0xfde9_0003])
        .build()
}

fn next_hop() -> NextHop {
    NextHop::V4([192, 0, 2, 1].into())
}

fn nlri(count: u32) -> Vec<Nlri> {
    let blocks = (0..count).map(|n| Ipv4Net::new((0x0af4_0000 + 64 * n).into(), 26));
    blocks
        .flatten()
        .map(|block| Nlri::new(IpNet::V4(block)))
        .collect()
}

fn encoded(count: u32) -> Vec<u8> {
    let mut messages = Vec::new();
    encode_reach(
        FAMILY,
        &attributes(),
        &next_hop(),
        &nlri(count),
        &ENCODE,
        &mut messages,
    )
    .expect("it fits");
    assert_eq!(messages.len(), 1, "in one message");
    messages.remove(0).bytes[HEADER..].to_vec()
}

/// Attributes in canonical form, every prefix looked at.
#[divan::bench(args = PREFIXES)]
fn decode(bencher: Bencher<'_, '_>, prefixes: u32) {
    let body = encoded(prefixes);
    bencher.counter(ItemsCount::new(prefixes)).bench_local(|| {
        let update = decode_update(black_box(&body), &DECODE);
        let sum: u32 = update
            .announced
            .iter()
            .map(|nlri| u32::from(nlri.prefix.prefix_len()))
            .sum();
        black_box((sum, update.attributes))
    });
}

#[divan::bench(args = PREFIXES)]
fn encode(bencher: Bencher<'_, '_>, prefixes: u32) {
    let (attributes, next_hop, nlri) = (attributes(), next_hop(), nlri(prefixes));
    bencher.counter(ItemsCount::new(prefixes)).bench_local(|| {
        let mut messages = Vec::with_capacity(1);
        let _ = encode_reach(
            FAMILY,
            &attributes,
            &next_hop,
            black_box(&nlri),
            &ENCODE,
            &mut messages,
        );
        black_box(messages)
    });
}
