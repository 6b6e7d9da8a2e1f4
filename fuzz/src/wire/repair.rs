//! Makes mutated bytes plausible again, so that most inputs get past the lengths: framing, the two lengths of an
//! UPDATE, lengths of attributes and prefixes. Types, flags and values stay as the mutation left them.

use bgp_wire::{HEADER_LEN, flag};

/// Repairs an input of [`super::codec`] in place.
pub fn repair(input: &mut [u8]) {
    let Some((session, mut stream)) = input.split_first_mut() else {
        return;
    };
    let add_path = *session & 4 != 0;
    while is_framed(stream) {
        let len = header(stream);
        let (message, rest) = stream.split_at_mut(len);
        let (header, body) = message.split_at_mut(HEADER_LEN);
        match header[18] {
            1 => open(body),
            2 => update(body, add_path),
            _ => {}
        }
        stream = rest;
    }
    update(stream, add_path);
}

/// Whether a message was meant: most of a marker is there.
fn is_framed(stream: &[u8]) -> bool {
    stream.len() >= HEADER_LEN && stream[..16].iter().filter(|b| **b == 0xff).count() >= 8
}

/// Mends a header; returns the length of the message, at most what is there.
fn header(stream: &mut [u8]) -> usize {
    stream[..16].fill(0xff);
    let mut kind = stream[18];
    if !(1..=5).contains(&kind) {
        kind = 1 + kind % 5;
    }
    let least = [29, 23, 21, 19, 23][usize::from(kind) - 1];
    let mut len = usize::from(u16::from_be_bytes([stream[16], stream[17]]));
    if stream.len() < least {
        kind = 4;
    }
    if kind == 4 {
        len = HEADER_LEN;
    } else if !(least..=stream.len()).contains(&len) {
        len = stream.len().min(4096);
    }
    stream[16..18].copy_from_slice(&(len as u16).to_be_bytes());
    stream[18] = kind;
    len
}

fn open(body: &mut [u8]) {
    let Some((fixed, parameters)) = body.split_at_mut_checked(10) else {
        return;
    };
    fixed[0] = 4;
    fixed[9] = parameters.len().min(255) as u8;
    let mut rest = parameters;
    while let [kind, len, value @ ..] = rest {
        *kind = 2;
        *len = usize::from(*len).min(value.len()) as u8;
        let (value, next) = value.split_at_mut(usize::from(*len));
        capabilities(value);
        rest = next;
    }
}

fn capabilities(mut rest: &mut [u8]) {
    while let [_, len, value @ ..] = rest {
        *len = usize::from(*len).min(value.len()) as u8;
        rest = &mut value[usize::from(*len)..];
    }
}

fn update(body: &mut [u8], add_path: bool) {
    let Some(room) = body.len().checked_sub(4) else {
        return;
    };
    let withdrawn = length(body, room, room + 1);
    let (withdrawn, rest) = body[2..].split_at_mut(withdrawn);
    prefixes(withdrawn, add_path);
    let room = rest.len() - 2;
    let len = length(rest, room, usize::MAX);
    let (list, announced) = rest[2..].split_at_mut(len);
    attributes(list);
    prefixes(announced, add_path);
}

/// Mends the length in the first two octets: folded into `fold`, at most `room`.
fn length(bytes: &mut [u8], room: usize, fold: usize) -> usize {
    let mut len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    if len > room {
        len = (len % fold).min(room);
    }
    bytes[..2].copy_from_slice(&(len as u16).to_be_bytes());
    len
}

fn attributes(mut rest: &mut [u8]) {
    while rest.len() >= 3 {
        let extended = rest[0] & flag::EXTENDED_LENGTH != 0 && rest.len() >= 4;
        if !extended {
            rest[0] &= !flag::EXTENDED_LENGTH;
        }
        let at = if extended { 4 } else { 3 };
        let room = rest.len() - at;
        let len = if extended {
            length(&mut rest[2..], room, usize::MAX)
        } else {
            rest[2] = usize::from(rest[2]).min(room) as u8;
            usize::from(rest[2])
        };
        rest = &mut rest[at + len..];
    }
}

/// Prefix lengths of IPv4 that fit; what cannot be mended becomes default routes.
fn prefixes(mut rest: &mut [u8], add_path: bool) {
    let id = if add_path { 4 } else { 0 };
    while rest.len() > id {
        let bits = &mut rest[id];
        *bits = if *bits > 32 { *bits % 33 } else { *bits };
        let len = id + 1 + usize::from(*bits).div_ceil(8);
        if len > rest.len() {
            rest[id] = 0;
            rest = &mut rest[id + 1..];
        } else {
            rest = &mut rest[len..];
        }
    }
}
