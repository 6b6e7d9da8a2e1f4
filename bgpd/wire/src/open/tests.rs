use super::*;
use crate::capability::capability_code;
use crate::frame::{MAX_MESSAGE_LEN, frame};

const FIXED: [u8; 9] = [4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1];

/// A body with the given bytes from the parameter length on.
fn body(parameters: &[u8]) -> Vec<u8> {
    [&FIXED[..], parameters].concat()
}

fn check_refused(name: &str, body: &[u8], subcode: u8, data: &[u8]) {
    let error = Open::decode(body).expect_err(name);
    let n = error.notification;
    assert_eq!(
        (n.code, n.subcode, &n.data[..]),
        (2, subcode, data),
        "{name}"
    );
}

fn check_capability(bytes: &[u8], expected: Option<Capability>) {
    let len = bytes.len() as u8;
    let found = Open::decode(&body(&[&[len + 2, 2, len], bytes].concat()));
    match expected {
        Some(expected) => assert_eq!(found.unwrap().capabilities, [expected], "{bytes:?}"),
        None => {
            let n = found.expect_err("must be refused").notification;
            assert_eq!((n.code, n.subcode), (2, 0), "{bytes:?}");
        }
    }
}

#[test]
fn what_no_peer_may_say() {
    let changed = |at: usize, bytes: &[u8]| {
        let mut body = body(&[0]);
        body[at..at + bytes.len()].copy_from_slice(bytes);
        body
    };
    assert!(Open::decode(&body(&[0])).is_ok());
    check_refused("version 3", &changed(0, &[3]), 1, &[0, 4]);
    check_refused("version 5", &changed(0, &[5]), 1, &[0, 4]);
    check_refused("AS 0", &changed(1, &[0, 0]), 2, &[]);
    check_refused("hold time 1", &changed(3, &[0, 1]), 6, &[]);
    check_refused("hold time 2", &changed(3, &[0, 2]), 6, &[]);
    check_refused("identifier 0", &changed(5, &[0; 4]), 3, &[]);
    for hold_time in [0u16, 3, 65535] {
        let open = Open::decode(&changed(3, &hold_time.to_be_bytes())).unwrap();
        assert_eq!(open.hold_time, hold_time);
    }
    for cut in 1..10 {
        check_refused("cut", &body(&[0])[..cut], 0, &[]);
    }
    check_refused("empty", &[], 0, &[]);
    check_refused(
        "AS 0 in the capability",
        &body(&[8, 2, 6, 65, 4, 0, 0, 0, 0]),
        2,
        &[],
    );
    check_refused("parameter 1", &body(&[3, 1, 1, 0]), 4, &[]);
    check_refused("length too long", &body(&[1]), 0, &[]);
    check_refused("length too short", &body(&[0, 2, 0]), 0, &[]);
    check_refused("parameter overruns", &body(&[2, 2, 1]), 0, &[]);
    check_refused("parameter cut", &body(&[1, 2]), 0, &[]);
    check_refused("capability overruns", &body(&[4, 2, 2, 1, 4]), 0, &[]);
    check_refused("capability cut", &body(&[3, 2, 1, 1]), 0, &[]);
    check_refused("extended cut", &body(&[255, 255, 0]), 0, &[]);
    check_refused("extended length", &body(&[255, 255, 0, 9, 2, 0, 0]), 0, &[]);
    check_refused(
        "extended in extended",
        &body(&[255, 255, 0, 3, 255, 0, 0]),
        4,
        &[],
    );
}

#[test]
fn capabilities_one_by_one() {
    use Capability as C;
    check_capability(
        &[1, 4, 0, 2, 7, 1],
        Some(C::MultiProtocol { afi: 2, safi: 1 }),
    );
    check_capability(&[1, 3, 0, 2, 1], None);
    check_capability(&[2, 0], Some(C::RouteRefresh));
    check_capability(
        &[2, 1, 9],
        Some(C::Unknown {
            code: 2,
            value: vec![9],
        }),
    );
    check_capability(&[6, 0], Some(C::ExtendedMessage));
    check_capability(&[70, 0], Some(C::EnhancedRouteRefresh));
    check_capability(&[65, 4, 0, 1, 0, 0], Some(C::FourOctetAs(65536)));
    check_capability(&[65, 2, 0, 1], None);
    check_capability(&[9, 1, 3], Some(C::Role(3)));
    check_capability(&[9, 2, 3, 3], None);
    check_capability(
        &[5, 6, 0, 1, 0, 1, 0, 2],
        Some(C::ExtendedNextHop(vec![(1, 1, 2)])),
    );
    check_capability(&[5, 5, 0, 1, 0, 1, 0], None);
    check_capability(&[69, 4, 0, 1, 1, 3], Some(C::AddPath(vec![(1, 1, 3)])));
    check_capability(&[69, 3, 0, 1, 1], None);
    let restart = |flags, restart_time, families| C::GracefulRestart {
        flags,
        restart_time,
        families,
    };
    check_capability(&[64, 2, 0xc0, 120], Some(restart(12, 120, vec![])));
    check_capability(
        &[64, 6, 0x8f, 0xff, 0, 2, 1, 128],
        Some(restart(8, 4095, vec![(2, 1, 128)])),
    );
    check_capability(&[64, 1, 0], None);
    check_capability(&[64, 3, 0, 0, 0], None);
    let names = |host: &str, domain: &str| C::Fqdn {
        host: host.into(),
        domain: domain.into(),
    };
    check_capability(&[73, 4, 1, b'a', 1, b'b'], Some(names("a", "b")));
    check_capability(&[73, 2, 0, 0], Some(names("", "")));
    // Names are informational: no session fails for them.
    for broken in [
        &[73u8, 1, 0][..],
        &[73, 2, 5, b'a'],
        &[73, 3, 1, 0xff, 0],
        &[73, 3, 0, 0, 0],
    ] {
        let value = broken[2..].to_vec();
        check_capability(broken, Some(C::Unknown { code: 73, value }));
    }
    check_capability(
        &[71, 3, 1, 2, 3],
        Some(C::Unknown {
            code: 71,
            value: vec![1, 2, 3],
        }),
    );
}

/// Whatever the code, what is not understood ends no session; what changes how messages are read must have a length that
/// its specification allows.
#[test]
fn every_code_with_every_length() {
    for code in 0..=255 {
        for len in 0..=40u8 {
            let allowed = match code {
                capability_code::MULTI_PROTOCOL | capability_code::FOUR_OCTET_AS => len == 4,
                capability_code::ROLE => len == 1,
                capability_code::EXTENDED_NEXT_HOP => len.is_multiple_of(6),
                capability_code::ADD_PATH => len.is_multiple_of(4),
                capability_code::GRACEFUL_RESTART => len >= 2 && (len - 2).is_multiple_of(4),
                _ => true,
            };
            let capability = [&[code, len], &vec![1; len.into()][..]].concat();
            let size = capability.len() as u8;
            let body = body(&[&[size + 2, 2, size], &capability[..]].concat());
            match Open::decode(&body) {
                Ok(open) => {
                    assert!(allowed, "{code}, {len} octets");
                    let codes = open.capabilities.iter().map(Capability::code);
                    assert!(codes.eq([code]));
                }
                Err(error) => {
                    assert!(!allowed, "{code}, {len} octets: {error}");
                    let n = error.notification;
                    assert_eq!((n.code, n.subcode, n.data.len()), (2, 0, 0));
                }
            }
        }
    }
}

#[test]
fn the_capability_decides_the_as_number() {
    let open = Open::decode(&body(&[8, 2, 6, 65, 4, 0, 1, 0, 0])).unwrap();
    assert_eq!((open.my_as, open.my_as_2octet), (65536, 65001));
    let open = Open::decode(&body(&[0])).unwrap();
    assert_eq!((open.my_as, open.my_as_2octet), (65001, 65001));
    assert_eq!(
        (Open::two_octet(65535), Open::two_octet(65536)),
        (65535, AS_TRANS)
    );
}

/// One capability per parameter, all in one parameter, and the extended encoding (RFC 9072) read the same.
#[test]
fn three_ways_to_write_capabilities() {
    let separate = body(&[12, 2, 2, 2, 0, 2, 6, 65, 4, 0, 0, 0xfd, 0xe9]);
    let together = body(&[10, 2, 8, 2, 0, 65, 4, 0, 0, 0xfd, 0xe9]);
    let extended = body(&[255, 255, 0, 11, 2, 0, 8, 2, 0, 65, 4, 0, 0, 0xfd, 0xe9]);
    // RFC 9072 §2: the one-octet length before type 255 does not count.
    let odd_length = body(&[1, 255, 0, 11, 2, 0, 8, 2, 0, 65, 4, 0, 0, 0xfd, 0xe9]);
    for bytes in [separate, together, extended, odd_length] {
        let open = Open::decode(&bytes).unwrap();
        assert_eq!(
            open.capabilities,
            [Capability::RouteRefresh, Capability::FourOctetAs(65001)]
        );
    }
}

#[test]
fn many_capabilities_go_into_the_extended_encoding_and_never_beyond_a_message() {
    let blob = |len| Capability::Unknown {
        code: 200,
        value: vec![7; len],
    };
    let encode = |capabilities: Vec<Capability>| {
        let open = Open {
            my_as: 65001,
            my_as_2octet: 65001,
            hold_time: 90,
            bgp_id: [10, 0, 0, 1].into(),
            capabilities,
        };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        let found = frame(&bytes, MAX_MESSAGE_LEN).unwrap().unwrap();
        (
            found.body.to_vec(),
            Open::decode(found.body).unwrap().capabilities.len(),
        )
    };
    // 253 octets of capabilities still fit the old form, 254 do not.
    let (body, _) = encode(vec![blob(251)]);
    assert_eq!(body[9..12], [255, 2, 253]);
    let (body, count) = encode(vec![blob(252)]);
    assert_eq!(body[9..16], [255, 255, 1, 1, 2, 0, 254]);
    assert_eq!(count, 1);
    let (_, count) = encode(vec![blob(255); 40]);
    assert_eq!(count, 15, "4061 octets hold 15 capabilities of 257");
    let (_, count) = encode(vec![blob(256), Capability::RouteRefresh]);
    assert_eq!(count, 1, "a value that has no wire form is left out");
}
