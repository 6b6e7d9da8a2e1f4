//! UPDATEs built from recipes. Most attributes come out valid, some are spoiled in one way, so that the fuzzer spends its
//! time behind the length checks instead of in front of them.
//!
//! A recipe is read front to back in octets, so that seeds can be written by hand: session; attribute count; per
//! attribute its type selector, a spoiler, an element count and the value's octets; counts and octets of withdrawn and
//! announced prefixes; a spoiler for the lengths. When the input ends, everything left is zero.

use bgp_wire::attr_type as t;

use super::{Octets, check_update, context};

/// Type, specified flags, octets per list element.
const KINDS: [(u8, u8, usize); 19] = [
    (t::ORIGIN, 0x40, 0),
    (t::AS_PATH, 0x40, 0),
    (t::NEXT_HOP, 0x40, 0),
    (t::MULTI_EXIT_DISC, 0x80, 0),
    (t::LOCAL_PREF, 0x40, 0),
    (t::ATOMIC_AGGREGATE, 0x40, 0),
    (t::AGGREGATOR, 0xc0, 0),
    (t::COMMUNITIES, 0xc0, 4),
    (t::ORIGINATOR_ID, 0x80, 0),
    (t::CLUSTER_LIST, 0x80, 4),
    (t::MP_REACH_NLRI, 0x80, 0),
    (t::MP_UNREACH_NLRI, 0x80, 0),
    (t::EXTENDED_COMMUNITIES, 0xc0, 8),
    (t::AS4_PATH, 0xc0, 0),
    (t::AS4_AGGREGATOR, 0xc0, 0),
    (t::LARGE_COMMUNITIES, 0xc0, 12),
    (t::ONLY_TO_CUSTOMER, 0xc0, 0),
    (99, 0xc0, 1),
    (100, 0x80, 1),
];

/// Runs one input; says whether a path attribute was judged.
pub fn run(input: &[u8]) -> bool {
    let mut u = Octets::new(input);
    let session = u.octet();
    check_update(&body(&mut u, session), &context(session))
}

/// The body of an UPDATE for the session that `session` stands for (see [`context`]).
pub fn body(u: &mut Octets<'_>, session: u8) -> Vec<u8> {
    let wide = session & 1 != 0;
    let mut attributes = Vec::new();
    for _ in 0..u.below(24) {
        attribute(u, session, wide, &mut attributes);
    }
    let mut withdrawn = Vec::new();
    prefixes(u, 32, session & 4 != 0, &mut withdrawn);
    let mut announced = Vec::new();
    prefixes(u, 32, session & 4 != 0, &mut announced);

    let spoiler = u.octet();
    let skew = |len: usize, which: u8| {
        let delta = u16::from(spoiler & 7);
        let len = len as u16;
        match spoiler >> 6 {
            s if s == which => len.wrapping_add(delta),
            3 if which == 2 => len.wrapping_sub(delta),
            _ => len,
        }
    };
    let mut body = skew(withdrawn.len(), 1).to_be_bytes().to_vec();
    body.extend_from_slice(&withdrawn);
    body.extend_from_slice(&skew(attributes.len(), 2).to_be_bytes());
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&announced);
    body
}

fn attribute(u: &mut Octets<'_>, session: u8, wide: bool, out: &mut Vec<u8>) {
    let selector = u.octet();
    let spoiler = u.octet();
    let (mut kind, mut flags, element) = KINDS[usize::from(selector) % KINDS.len()];
    let mut value = Vec::new();
    match kind {
        t::ORIGIN => value.push(u.below(4)),
        t::AS_PATH => path(u, if wide { 4 } else { 2 }, &mut value),
        t::AS4_PATH => path(u, 4, &mut value),
        t::ATOMIC_AGGREGATE => {}
        t::AGGREGATOR => u.copy(if wide { 8 } else { 6 }, &mut value),
        t::AS4_AGGREGATOR => u.copy(8, &mut value),
        t::MP_REACH_NLRI => mp_reach(u, session, &mut value),
        t::MP_UNREACH_NLRI => {
            let v6 = u.octet() & 1 == 0;
            value.extend_from_slice(&[0, 1 + u8::from(v6), 1]);
            mp_prefixes(u, v6, session, &mut value);
        }
        _ if element > 0 => {
            let n = usize::from(u.below(16));
            u.copy(n * element, &mut value);
        }
        _ => u.copy(4, &mut value),
    }
    let mut declared = value.len();
    // One attribute in four is spoiled.
    if spoiler >= 192 {
        match spoiler % 8 {
            0 => flags ^= 0x80,
            1 => flags ^= 0x40,
            2 => flags ^= 0x20,
            3 => declared += usize::from(u.below(8)),
            4 => declared = declared.saturating_sub(usize::from(u.below(8))),
            5 => drop(value.pop()),
            6 => value.push(u.octet()),
            _ => kind = u.octet(),
        }
        if matches!(spoiler % 8, 5 | 6) {
            declared = value.len();
        }
    }
    if declared > 255 || spoiler & 0x20 != 0 {
        out.extend_from_slice(&[flags | 0x10, kind]);
        out.extend_from_slice(&(declared as u16).to_be_bytes());
    } else {
        out.extend_from_slice(&[flags, kind, declared as u8]);
    }
    out.extend_from_slice(&value);
}

fn path(u: &mut Octets<'_>, width: usize, out: &mut Vec<u8>) {
    for _ in 0..u.below(5) {
        let shape = u.octet();
        // Mostly sets and sequences, sometimes anything.
        let kind = if shape >= 240 { shape } else { 1 + (shape & 1) };
        let count = u.below(12);
        out.extend_from_slice(&[kind, count]);
        for _ in 0..count {
            let at = out.len();
            u.copy(width, out);
            // AS 0 ends the interest in a path; keep it rare.
            if shape & 0x40 == 0 && out[at..].iter().all(|b| *b == 0) {
                out[at] = 1;
            }
        }
    }
}

fn mp_reach(u: &mut Octets<'_>, session: u8, out: &mut Vec<u8>) {
    let shape = u.octet();
    let v6 = shape & 1 == 0;
    let len = match shape >> 5 {
        0..=2 => 16,
        3 | 4 => 32,
        5 => 4,
        _ => shape & 31,
    };
    out.extend_from_slice(&[0, 1 + u8::from(v6), 1, len]);
    u.copy(usize::from(len), out);
    out.push(0);
    mp_prefixes(u, v6, session, out);
}

fn mp_prefixes(u: &mut Octets<'_>, v6: bool, session: u8, out: &mut Vec<u8>) {
    if v6 {
        prefixes(u, 128, session & 8 != 0, out);
    } else {
        prefixes(u, 32, session & 4 != 0, out);
    }
}

fn prefixes(u: &mut Octets<'_>, max: u8, add_path: bool, out: &mut Vec<u8>) {
    for _ in 0..u.below(16) {
        if add_path {
            u.copy(4, out);
        }
        let len = u.octet();
        // 255 stays too long on purpose.
        let len = if len == 255 { len } else { len % (max + 1) };
        out.push(len);
        u.copy(usize::from(len.min(max)).div_ceil(8), out);
    }
}
