//! Every attribute that this codec knows, and three that it does not, times every way to be wrong, in three kinds of
//! session: one table per session, one row per attribute.
//!
//! Every message announces an IPv4 prefix as well, so that a treatment other than session reset has something to show.

use super::*;

/// An attribute that is in order, and a value of the right length that is not.
struct Sample {
    name: &'static str,
    kind: u8,
    flags: u8,
    value: &'static [u8],
    bad: Option<&'static [u8]>,
}

const fn sample(
    name: &'static str,
    kind: u8,
    flags: u8,
    value: &'static [u8],
    bad: Option<&'static [u8]>,
) -> Sample {
    Sample {
        name,
        kind,
        flags,
        value,
        bad,
    }
}

/// Next hop 2001:db8::1 with one octet of length too few.
const BAD_REACH: &[u8] = &[
    0, 2, 1, 15, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20, 1, 0x0d,
    0xb8, 0, 1,
];

fn samples(wide: bool) -> Vec<Sample> {
    let reach = &MP_REACH[3..];
    let (path, zero_path): (&[u8], &[u8]) = if wide {
        (&AS_PATH[3..], &[2, 1, 0, 0, 0, 0])
    } else {
        (&[2, 1, 0xfd, 0xe9], &[2, 1, 0, 0])
    };
    let (aggregator, zero_aggregator): (&[u8], &[u8]) = if wide {
        (&[0, 0, 0xfd, 0xe9, 10, 0, 0, 1], &[0, 0, 0, 0, 10, 0, 0, 1])
    } else {
        (&[0xfd, 0xe9, 10, 0, 0, 1], &[0, 0, 10, 0, 0, 1])
    };
    vec![
        sample("ORIGIN", 1, 0x40, &[0], Some(&[3])),
        sample("AS_PATH", 2, 0x40, path, Some(zero_path)),
        sample("NEXT_HOP", 3, 0x40, &[192, 0, 2, 1], Some(&[0; 4])),
        sample("MULTI_EXIT_DISC", 4, 0x80, &[0, 0, 0, 5], None),
        sample("LOCAL_PREF", 5, 0x40, &[0, 0, 0, 100], None),
        sample("ATOMIC_AGGREGATE", 6, 0x40, &[], None),
        sample("AGGREGATOR", 7, 0xc0, aggregator, Some(zero_aggregator)),
        sample("COMMUNITIES", 8, 0xc0, &[0xfd, 0xe9, 0, 1], None),
        sample("ORIGINATOR_ID", 9, 0x80, &[10, 0, 0, 9], None),
        sample("CLUSTER_LIST", 10, 0x80, &[10, 0, 0, 9], None),
        sample("MP_REACH_NLRI", 14, 0x80, reach, Some(BAD_REACH)),
        sample(
            "MP_UNREACH_NLRI",
            15,
            0x80,
            &[0, 2, 1, 16, 0x20, 1],
            Some(&[0, 2, 1, 129, 0x20, 1]),
        ),
        sample(
            "EXTENDED_COMMUNITIES",
            16,
            0xc0,
            &[0, 2, 0xfd, 0xe9, 0, 0, 0, 9],
            None,
        ),
        sample(
            "AS4_PATH",
            17,
            0xc0,
            &[2, 1, 0, 0, 0xfd, 0xe9],
            Some(&[2, 1, 0, 0, 0, 0]),
        ),
        sample(
            "AS4_AGGREGATOR",
            18,
            0xc0,
            &[0, 1, 0, 0, 10, 0, 0, 1],
            Some(&[0; 8]),
        ),
        sample("LARGE_COMMUNITIES", 32, 0xc0, &[1; 12], None),
        sample("ONLY_TO_CUSTOMER", 35, 0xc0, &[0, 0, 0xfd, 0xe9], None),
        sample("unknown-transitive", 99, 0xc0, &[1, 2, 3], None),
        sample("unknown-optional", 100, 0x80, &[1, 2, 3], None),
        sample("unknown-well-known", 101, 0x40, &[1, 2, 3], None),
    ]
}

/// What a row says about, in the order of its columns.
const WAYS: [&str; 12] = [
    "valid",
    "optional",
    "transitive",
    "partial",
    "extended",
    "short",
    "long",
    "empty",
    "value",
    "missing",
    "twice",
    "cut",
];

/// The wire form for one way, `None` where the attribute has no such way. The list of attributes around it may change too.
fn spoil(way: &str, sample: &Sample) -> Option<Vec<u8>> {
    let tlv = |flags: u8, value: &[u8]| {
        let mut bytes = vec![flags, sample.kind];
        if flags & 0x10 != 0 {
            bytes.push(0);
        }
        bytes.push(value.len() as u8);
        bytes.extend_from_slice(value);
        bytes
    };
    let plain = tlv(sample.flags, sample.value);
    let value = sample.value;
    Some(match way {
        "valid" => plain,
        "optional" => tlv(sample.flags ^ 0x80, value),
        "transitive" => tlv(sample.flags ^ 0x40, value),
        "partial" => tlv(sample.flags | 0x20, value),
        "extended" => tlv(sample.flags | 0x10, value),
        "short" => tlv(sample.flags, value.split_last()?.1),
        // 255 is no prefix length either.
        "long" => tlv(sample.flags, &[value, &[255]].concat()),
        "empty" if value.is_empty() => return None,
        "empty" => tlv(sample.flags, &[]),
        "value" => tlv(sample.flags, sample.bad?),
        "missing" => Vec::new(),
        "twice" => [plain.clone(), plain].concat(),
        // It stands last, and says that it is one octet longer than the list.
        "cut" => {
            let mut bytes = plain;
            bytes[2] += 1;
            bytes
        }
        other => panic!("no way called {other}"),
    })
}

/// `ok` without fault, `D` attribute-discard, `W` treat-as-withdraw, `F` family-disable, `Rn` session reset with subcode
/// n, `-` no such way.
fn check_table(ctx: &DecodeContext, table: &str) {
    let samples = samples(ctx.four_octet_as);
    let mut rows = table.lines().filter(|line| !line.trim().is_empty());
    for sample in &samples {
        let row: Vec<&str> = rows
            .next()
            .expect("a row per attribute")
            .split_whitespace()
            .collect();
        assert_eq!(row.first(), Some(&sample.name));
        assert_eq!(row.len(), 1 + WAYS.len(), "{}", sample.name);
        for (way, expected) in WAYS.into_iter().zip(&row[1..]) {
            let name = format!("{} {way}", sample.name);
            let Some(attribute) = spoil(way, sample) else {
                assert_eq!(*expected, "-", "{name}");
                continue;
            };
            let path =
                [&[0x40, 2, 4, 2, 1, 0xfd, 0xe9][..], AS_PATH][usize::from(ctx.four_octet_as)];
            let mut list: Vec<&[u8]> = [ORIGIN, path, NEXT_HOP]
                .into_iter()
                .filter(|other| other[1] != sample.kind)
                .collect();
            list.push(&attribute);
            let body = body(&[], &list, NLRI);
            let update = decode_update(&body, ctx);
            let found = match verdict(&update) {
                Expect::Ok => "ok".to_owned(),
                Discard => "D".to_owned(),
                Withdraw => "W".to_owned(),
                Expect::Disable(_) => "F".to_owned(),
                Reset(subcode) => format!("R{subcode}"),
            };
            assert_eq!(found, *expected, "{name}: {:?}", update.faults);
            // Faults name the attribute, and the prefix is never lost without a reset.
            let named = update
                .faults
                .iter()
                .any(|fault| fault.attr_type == sample.kind);
            assert_eq!(named, found != "ok", "{name}: {:?}", update.faults);
            let prefixes = usize::from(!found.starts_with('R'));
            assert_eq!(update.announced.iter().count(), prefixes, "{name}");
            let usable = matches!(found.as_str(), "ok" | "D" | "F");
            assert_eq!(update.attributes.is_some(), usable, "{name}");
            if found == "D" && way != "twice" {
                let attributes = update.attributes.expect("usable");
                assert_eq!(attributes.raw(sample.kind), None, "{name}: discarded");
            }
        }
    }
    assert_eq!(rows.next(), None, "a row without its attribute");
}

#[test]
fn from_an_internal_peer() {
    check_table(
        &IBGP,
        //                   valid opt tra par ext sho lon emp val mis twi cut
        "
        ORIGIN               ok    W   W   ok  ok  W   W   W   W   W   D   W
        AS_PATH              ok    W   W   ok  ok  W   W   ok  W   W   D   W
        NEXT_HOP             ok    W   W   ok  ok  W   W   W   W   W   D   W
        MULTI_EXIT_DISC      ok    W   W   ok  ok  W   W   W   -   ok  D   W
        LOCAL_PREF           ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ATOMIC_AGGREGATE     ok    W   W   ok  ok  -   D   -   -   ok  D   W
        AGGREGATOR           ok    W   W   ok  ok  D   D   D   D   ok  D   W
        COMMUNITIES          ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ORIGINATOR_ID        ok    W   W   ok  ok  W   W   W   -   ok  D   W
        CLUSTER_LIST         ok    W   W   ok  ok  W   W   W   -   ok  D   W
        MP_REACH_NLRI        ok    W   W   ok  ok  F   F   R9  R9  ok  R1  W
        MP_UNREACH_NLRI      ok    W   W   ok  ok  F   F   R9  F   ok  R1  W
        EXTENDED_COMMUNITIES ok    W   W   ok  ok  W   W   W   -   ok  D   W
        AS4_PATH             D     W   W   D   D   D   D   D   D   ok  D   W
        AS4_AGGREGATOR       D     W   W   D   D   D   D   D   D   ok  D   W
        LARGE_COMMUNITIES    ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ONLY_TO_CUSTOMER     ok    W   W   ok  ok  W   W   W   -   ok  D   W
        unknown-transitive   ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-optional     ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-well-known   R2    ok  R2  R2  R2  R2  R2  R2  -   ok  R2  W
        ",
    );
}

/// LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST do not count (RFC 7606 §7.5, §7.9, §7.10), whatever they say.
#[test]
fn from_an_external_peer() {
    check_table(
        &EBGP,
        //                   valid opt tra par ext sho lon emp val mis twi cut
        "
        ORIGIN               ok    W   W   ok  ok  W   W   W   W   W   D   W
        AS_PATH              ok    W   W   ok  ok  W   W   ok  W   W   D   W
        NEXT_HOP             ok    W   W   ok  ok  W   W   W   W   W   D   W
        MULTI_EXIT_DISC      ok    W   W   ok  ok  W   W   W   -   ok  D   W
        LOCAL_PREF           D     W   W   D   D   D   D   D   -   ok  D   W
        ATOMIC_AGGREGATE     ok    W   W   ok  ok  -   D   -   -   ok  D   W
        AGGREGATOR           ok    W   W   ok  ok  D   D   D   D   ok  D   W
        COMMUNITIES          ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ORIGINATOR_ID        D     W   W   D   D   D   D   D   -   ok  D   W
        CLUSTER_LIST         D     W   W   D   D   D   D   D   -   ok  D   W
        MP_REACH_NLRI        ok    W   W   ok  ok  F   F   R9  R9  ok  R1  W
        MP_UNREACH_NLRI      ok    W   W   ok  ok  F   F   R9  F   ok  R1  W
        EXTENDED_COMMUNITIES ok    W   W   ok  ok  W   W   W   -   ok  D   W
        AS4_PATH             D     W   W   D   D   D   D   D   D   ok  D   W
        AS4_AGGREGATOR       D     W   W   D   D   D   D   D   D   ok  D   W
        LARGE_COMMUNITIES    ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ONLY_TO_CUSTOMER     ok    W   W   ok  ok  W   W   W   -   ok  D   W
        unknown-transitive   ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-optional     ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-well-known   R2    ok  R2  R2  R2  R2  R2  R2  -   ok  R2  W
        ",
    );
}

/// The AS4 attributes count here, and a malformed one is discarded (RFC 6793 §6).
#[test]
fn from_a_two_octet_speaker() {
    check_table(
        &NARROW,
        //                   valid opt tra par ext sho lon emp val mis twi cut
        "
        ORIGIN               ok    W   W   ok  ok  W   W   W   W   W   D   W
        AS_PATH              ok    W   W   ok  ok  W   W   ok  W   W   D   W
        NEXT_HOP             ok    W   W   ok  ok  W   W   W   W   W   D   W
        MULTI_EXIT_DISC      ok    W   W   ok  ok  W   W   W   -   ok  D   W
        LOCAL_PREF           ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ATOMIC_AGGREGATE     ok    W   W   ok  ok  -   D   -   -   ok  D   W
        AGGREGATOR           ok    W   W   ok  ok  D   D   D   D   ok  D   W
        COMMUNITIES          ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ORIGINATOR_ID        ok    W   W   ok  ok  W   W   W   -   ok  D   W
        CLUSTER_LIST         ok    W   W   ok  ok  W   W   W   -   ok  D   W
        MP_REACH_NLRI        ok    W   W   ok  ok  F   F   R9  R9  ok  R1  W
        MP_UNREACH_NLRI      ok    W   W   ok  ok  F   F   R9  F   ok  R1  W
        EXTENDED_COMMUNITIES ok    W   W   ok  ok  W   W   W   -   ok  D   W
        AS4_PATH             ok    W   W   ok  ok  D   D   D   D   ok  D   W
        AS4_AGGREGATOR       ok    W   W   ok  ok  D   D   D   D   ok  D   W
        LARGE_COMMUNITIES    ok    W   W   ok  ok  W   W   W   -   ok  D   W
        ONLY_TO_CUSTOMER     ok    W   W   ok  ok  W   W   W   -   ok  D   W
        unknown-transitive   ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-optional     ok    R2  ok  ok  ok  ok  ok  ok  -   ok  D   W
        unknown-well-known   R2    ok  R2  R2  R2  R2  R2  R2  -   ok  R2  W
        ",
    );
}
