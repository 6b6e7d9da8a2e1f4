//! OPEN against settings, one rule at a time.

use bgp_wire::AS_TRANS;

use super::*;

fn settings(local_as: u32, remote_as: u32, id: u8) -> PeerSettings {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    PeerSettings::new(local_as, remote_as, Ipv4Addr::new(10, 0, 0, id), families)
}

/// Negotiates as AS 65001 with router id 10.0.0.1 against the OPEN of AS 65002, router id 10.0.0.2, after `ours`
/// and `theirs` changed both sides.
fn check(
    ours: impl FnOnce(&mut PeerSettings),
    theirs: impl FnOnce(&mut Open),
) -> Result<Negotiated, OpenError> {
    let mut local = settings(65001, 65002, 1);
    ours(&mut local);
    let mut open = local_open(&settings(65002, 65001, 2));
    theirs(&mut open);
    negotiate(&local, &open)
}

fn refused(result: Result<Negotiated, OpenError>) -> (u8, u8, Vec<u8>) {
    let notification = result.expect_err("the OPEN is refused").notification();
    (notification.code, notification.subcode, notification.data)
}

#[test]
fn two_default_speakers_agree_on_everything() {
    let agreed = check(|_| {}, |_| {}).expect("agreed");
    assert_eq!(agreed.families, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
    assert_eq!(
        (agreed.peer_as, agreed.ebgp, agreed.four_octet_as),
        (65002, true, true)
    );
    assert_eq!(
        (agreed.hold_time.as_secs(), agreed.keepalive.as_secs()),
        (90, 30)
    );
    assert!(agreed.route_refresh && agreed.enhanced_route_refresh);
    assert_eq!((agreed.max_send, agreed.max_receive), (65535, 65535));
    assert_eq!(agreed.decode_context().families, [true, true]);
    assert_eq!(agreed.encode_context().max_len, 65535);
}

#[test]
fn what_we_send_reads_back() {
    for asn in [65001, 4_200_000_001] {
        let open = local_open(&settings(asn, 65002, 1));
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        assert_eq!(
            Open::decode(&bytes[bgp_wire::HEADER_LEN..]).expect("valid"),
            open
        );
    }
}

/// RFC 5492: capabilities are optional. RFC 4760 §8, RFC 6793 §4.2.2, RFC 8654 §4: what then holds.
#[test]
fn a_peer_without_capabilities_speaks_ipv4_and_two_octets() {
    let agreed = check(|_| {}, |open| open.capabilities.clear()).expect("agreed");
    assert_eq!(agreed.families, [Family::Ipv4Unicast]);
    assert!(!agreed.four_octet_as && !agreed.route_refresh && !agreed.enhanced_route_refresh);
    assert_eq!((agreed.max_send, agreed.max_receive), (4096, 65535));
}

/// RFC 5492 §5.
#[test]
fn no_common_family_names_what_we_need() {
    let ipv6_only = |ours: &mut PeerSettings| ours.families = vec![Family::Ipv6Unicast];
    let result = check(ipv6_only, |open| open.capabilities.clear());
    assert_eq!(refused(result), (2, 7, vec![1, 4, 0, 2, 0, 1]));
    let evpn = |open: &mut Open| {
        open.capabilities = vec![Capability::MultiProtocol { afi: 25, safi: 70 }];
    };
    let result = check(|_| {}, evpn);
    assert_eq!(
        refused(result).1,
        7,
        "a family we do not know still counts as a multiprotocol capability"
    );
}

/// RFC 4271 §6.2; RFC 6793: four octets and AS_TRANS; RFC 7607: AS 0.
#[test]
fn as_numbers() {
    let result = check(|ours| ours.set_remote(65009), |_| {});
    let words = result.clone().expect_err("wrong AS").to_string();
    assert_eq!(
        words,
        "the peer says it is AS 65002, but asNumber 65009 is configured: correct one of the two"
    );
    assert_eq!(refused(result), (2, 2, vec![]));

    let big = 4_200_000_001;
    let four_octets = |open: &mut Open| *open = local_open(&settings(big, 65001, 2));
    let agreed = check(|ours| ours.set_remote(big), four_octets).expect("agreed");
    assert_eq!(agreed.peer_as, big);

    // AS_TRANS and no capability: nobody's real number.
    let trans = |open: &mut Open| {
        open.my_as_2octet = AS_TRANS;
        open.my_as = AS_TRANS.into();
        open.capabilities.clear();
    };
    assert_eq!(refused(check(|ours| ours.set_remote(big), trans)).1, 2);
    assert_eq!(
        refused(check(|ours| ours.set_remote(u32::from(AS_TRANS)), trans)).1,
        2
    );

    let zero = |open: &mut Open| {
        open.capabilities = vec![Capability::FourOctetAs(0)];
    };
    assert_eq!(refused(check(|ours| ours.set_remote(0), zero)).1, 2);
}

/// RFC 6286.
#[test]
fn identifiers() {
    let same = |open: &mut Open| open.bgp_id = Ipv4Addr::new(10, 0, 0, 1);
    assert!(
        check(|_| {}, same).is_ok(),
        "another AS may use our identifier (RFC 6286)"
    );
    let internal = |ours: &mut PeerSettings| ours.local_as = 65002;
    assert_eq!(refused(check(internal, same)).1, 3);
    assert!(check(internal, |_| {}).is_ok_and(|agreed| !agreed.ebgp));
    assert_eq!(
        refused(check(|_| {}, |open| open.bgp_id = Ipv4Addr::UNSPECIFIED)).1,
        3
    );
}

#[test]
fn hold_time_and_keepalive() {
    let times = |hold: u16, keepalive: Option<u16>, theirs: u16| {
        let ours = |ours: &mut PeerSettings| {
            ours.hold_time = hold;
            ours.keepalive = keepalive;
        };
        let agreed = check(ours, |open| open.hold_time = theirs).expect("agreed");
        (agreed.hold_time.as_millis(), agreed.keepalive.as_millis())
    };
    assert_eq!(times(90, None, 9), (9_000, 3_000));
    assert_eq!(times(4, None, 90), (4_000, 1_333));
    assert_eq!(times(90, Some(10), 90), (90_000, 10_000));
    assert_eq!(
        times(90, Some(60), 90),
        (90_000, 30_000),
        "never above a third"
    );
    assert_eq!(times(90, Some(0), 90), (90_000, 1_000), "never a busy loop");
    assert_eq!(times(0, Some(10), 90), (0, 0));
    assert_eq!(times(90, None, 0), (0, 0));
    for bad in [1, 2] {
        assert_eq!(
            refused(check(|_| {}, |open| open.hold_time = bad)),
            (2, 6, vec![])
        );
    }
}

/// RFC 2918, RFC 7313, RFC 8654.
#[test]
fn switches_must_be_on_at_both_ends() {
    let off = |ours: &mut PeerSettings| {
        ours.route_refresh = false;
        ours.extended_message = false;
    };
    let agreed = check(off, |_| {}).expect("agreed");
    assert!(!agreed.route_refresh && !agreed.enhanced_route_refresh);
    assert_eq!((agreed.max_send, agreed.max_receive), (4096, 4096));
    let sent = local_open(&{
        let mut ours = settings(65001, 65002, 1);
        off(&mut ours);
        ours
    });
    let codes: Vec<u8> = sent.capabilities.iter().map(Capability::code).collect();
    assert_eq!(codes, [1, 1, 65, 64]);
}

/// Dynamic and unnumbered peers: any AS on one side of the border, and never one of the reserved numbers (RFC 7607,
/// RFC 6793 §9).
#[test]
fn an_as_of_a_kind() {
    let ours = |remote: RemoteAs, local_as: u32| {
        move |ours: &mut PeerSettings| {
            ours.local_as = local_as;
            ours.set_remote(remote);
        }
    };
    let agreed = check(ours(RemoteAs::External, 65001), |_| {}).expect("another AS");
    assert_eq!((agreed.peer_as, agreed.ebgp), (65002, true));
    let agreed = check(ours(RemoteAs::Internal, 65002), |_| {}).expect("our AS");
    assert_eq!((agreed.peer_as, agreed.ebgp), (65002, false));

    let result = check(ours(RemoteAs::External, 65002), |_| {});
    let words = result.clone().expect_err("our AS").to_string();
    assert!(words.contains("asNumber external is configured"), "{words}");
    assert_eq!(refused(result), (2, 2, vec![]));
    assert_eq!(
        refused(check(ours(RemoteAs::Internal, 65001), |_| {})),
        (2, 2, vec![])
    );
    for reserved in [0, u32::from(AS_TRANS)] {
        let theirs = move |open: &mut Open| {
            open.capabilities = vec![Capability::FourOctetAs(reserved)];
        };
        for remote in [RemoteAs::External, RemoteAs::Asn(reserved)] {
            assert_eq!(refused(check(ours(remote, 65001), theirs)), (2, 2, vec![]));
        }
    }
    // RFC 6286: an identifier of our own is a fault within one AS only.
    let same = |open: &mut Open| open.bgp_id = Ipv4Addr::new(10, 0, 0, 1);
    assert!(check(ours(RemoteAs::External, 65001), same).is_ok());
    assert_eq!(refused(check(ours(RemoteAs::Internal, 65002), same)).1, 3);
}

#[test]
fn nothing_new_is_offered_unless_it_is_set() {
    let codes = |settings: &PeerSettings| -> Vec<u8> {
        let open = local_open(settings);
        open.capabilities.iter().map(Capability::code).collect()
    };
    let mut ours = settings(65001, 65002, 1);
    assert_eq!(codes(&ours), [1, 1, 65, 64, 2, 70, 6]);
    ours.add_path = [BOTH; 2];
    ours.extended_next_hop = true;
    ours.role = Some(Role::Provider);
    assert_eq!(codes(&ours), [1, 1, 65, 64, 2, 70, 6, 5, 69, 9]);
    // What concerns IPv4 only, or a border between two AS, is not said where there is none.
    ours.families = vec![Family::Ipv6Unicast];
    ours.set_remote(RemoteAs::Internal);
    assert_eq!(codes(&ours), [1, 65, 64, 2, 70, 6, 69]);
    ours.add_path = [BOTH, AddPath::default()];
    assert_eq!(codes(&ours), [1, 65, 64, 2, 70, 6]);
}

const BOTH: AddPath = AddPath {
    send: true,
    receive: true,
};

/// Directions that we want, the peer's capabilities, and what is on the wire: from us, to us, each as IPv4, IPv6.
fn check_add_path(
    wanted: [AddPath; 2],
    theirs: &[&[(u16, u8, u8)]],
    send: [bool; 2],
    receive: [bool; 2],
) {
    let agreed = check(
        |ours| ours.add_path = wanted,
        |open| {
            let capabilities = theirs.iter().map(|entries| entries.to_vec());
            open.capabilities
                .extend(capabilities.map(Capability::AddPath));
        },
    )
    .expect("agreed");
    assert_eq!(agreed.encode_context().add_path, send, "send: {theirs:?}");
    assert_eq!(
        agreed.decode_context().add_path,
        receive,
        "receive: {theirs:?}"
    );
}

/// RFC 7911 §4.
#[test]
fn add_path_per_family_and_direction() {
    let (on, off) = ([true; 2], [false; 2]);
    let only_send = AddPath {
        send: true,
        receive: false,
    };
    let only_receive = AddPath {
        send: false,
        receive: true,
    };
    check_add_path([BOTH; 2], &[], off, off);
    check_add_path([BOTH; 2], &[&[(1, 1, 3), (2, 1, 3)]], on, on);
    check_add_path([AddPath::default(); 2], &[&[(1, 1, 3)]], off, off);
    // 1 is "I receive", 2 is "I send".
    check_add_path([BOTH; 2], &[&[(1, 1, 1)]], [true, false], off);
    check_add_path([BOTH; 2], &[&[(1, 1, 2)]], off, [true, false]);
    check_add_path([only_send; 2], &[&[(1, 1, 2), (2, 1, 2)]], off, off);
    check_add_path([only_send; 2], &[&[(1, 1, 3), (2, 1, 1)]], on, off);
    check_add_path([only_receive; 2], &[&[(1, 1, 3), (2, 1, 2)]], off, on);
    check_add_path(
        [only_send, only_receive],
        &[&[(1, 1, 3), (2, 1, 3)]],
        [true, false],
        [false, true],
    );
    // Families that we do not carry say nothing about those that we do.
    check_add_path([BOTH; 2], &[&[(1, 128, 3), (25, 70, 3)]], off, off);
}

/// RFC 7911 §4: other directions than 1 to 3 make a capability one that is not understood.
#[test]
fn add_path_with_undefined_directions_is_ignored() {
    let (on, off) = ([true; 2], [false; 2]);
    for undefined in [0, 4, 7, 255] {
        check_add_path([BOTH; 2], &[&[(1, 1, 3), (2, 1, undefined)]], off, off);
        check_add_path([BOTH; 2], &[&[(1, 1, 3), (1, 128, undefined)]], off, off);
        let good: &[_] = &[(1, 1, 3), (2, 1, 3)];
        check_add_path([BOTH; 2], &[good, &[(1, 1, undefined)]], on, on);
    }
}

#[test]
fn of_several_add_path_entries_for_a_family_the_last_counts() {
    let (v4, off) = ([true, false], [false; 2]);
    check_add_path([BOTH; 2], &[&[(1, 1, 3), (1, 1, 1)]], v4, off);
    check_add_path([BOTH; 2], &[&[(1, 1, 3)], &[(1, 1, 2)]], off, v4);
    check_add_path([BOTH; 2], &[&[(1, 1, 3)], &[(1, 1, 3)]], v4, v4);
}

#[test]
fn no_add_path_for_a_family_that_was_not_agreed_on() {
    let agreed = check(
        |ours| ours.add_path = [BOTH; 2],
        |open| {
            open.capabilities = vec![
                Capability::MultiProtocol { afi: 2, safi: 1 },
                Capability::FourOctetAs(65002),
                Capability::AddPath(vec![(1, 1, 3), (2, 1, 3)]),
            ];
        },
    )
    .expect("agreed");
    assert_eq!(agreed.add_path_send, [false, true]);
    assert_eq!(agreed.add_path_receive, [false, true]);
}

/// Two speakers with any settings read what the other writes.
#[test]
fn both_ends_agree_on_path_identifiers() {
    for ours in 0..16u8 {
        for theirs in 0..16u8 {
            let wanted = |bits: u8| {
                [0, 2].map(|shift| AddPath {
                    send: bits >> shift & 1 != 0,
                    receive: bits >> shift & 2 != 0,
                })
            };
            let (mut a, mut b) = (settings(65001, 65002, 1), settings(65002, 65001, 2));
            (a.add_path, b.add_path) = (wanted(ours), wanted(theirs));
            let at_a = negotiate(&a, &local_open(&b)).expect("agreed");
            let at_b = negotiate(&b, &local_open(&a)).expect("agreed");
            assert_eq!(at_a.add_path_send, at_b.add_path_receive);
            assert_eq!(at_a.add_path_receive, at_b.add_path_send);
        }
    }
}

/// RFC 8950 §4.
#[test]
fn extended_next_hops() {
    let over_ipv6 = |entries: &[(u16, u16, u16)]| {
        let entries = entries.to_vec();
        move |open: &mut Open| open.capabilities.push(Capability::ExtendedNextHop(entries))
    };
    // What we want, what the peer offers, what we may write, what we read.
    let check = |ours: bool, entries: Option<&[(u16, u16, u16)]>, expected: (bool, bool)| {
        let agreed = check(
            |settings| settings.extended_next_hop = ours,
            |open| {
                if let Some(entries) = entries {
                    over_ipv6(entries)(open);
                }
            },
        )
        .expect("agreed");
        let found = (
            agreed.encode_context().extended_next_hop,
            agreed.decode_context().extended_next_hop,
        );
        assert_eq!(found, expected, "{ours} {entries:?}");
    };
    check(true, Some(&[(1, 1, 2)]), (true, true));
    check(false, Some(&[(1, 1, 2)]), (false, false));
    check(true, None, (false, true));
    check(true, Some(&[]), (false, true));
    // VPN routes, another direction, and values beyond an octet are not IPv4 unicast over IPv6.
    let others: &[_] = &[(1, 128, 2), (2, 1, 1), (1, 1, 1), (1, 257, 2)];
    check(true, Some(others), (false, true));
    check(true, Some(&[(1, 128, 2), (1, 1, 2)]), (true, true));

    let ipv6_only = super::negotiate(
        &PeerSettings {
            families: vec![Family::Ipv6Unicast],
            extended_next_hop: true,
            ..settings(65001, 65002, 1)
        },
        &local_open(&PeerSettings {
            extended_next_hop: true,
            ..settings(65002, 65001, 2)
        }),
    )
    .expect("agreed");
    assert!(!ipv6_only.extended_next_hop && !ipv6_only.extended_next_hop_receive);
}

/// Our role, whether it is strict, the roles that the peer names; the peer's role, or the refusal.
fn check_role(
    ours: Option<Role>,
    strict: bool,
    theirs: &[u8],
    expected: Result<Option<Role>, &str>,
) {
    let result = check(
        |settings| {
            settings.role = ours;
            settings.role_strict = strict;
        },
        |open| {
            open.capabilities
                .extend(theirs.iter().map(|code| Capability::Role(*code)));
        },
    );
    if let Err(error) = &result {
        let sent = error.notification();
        assert_eq!((sent.code, sent.subcode, sent.data.len()), (2, 11, 0));
    }
    let found = result
        .map(|agreed| agreed.peer_role)
        .map_err(|error| error.to_string());
    assert_eq!(
        found,
        expected.map_err(str::to_owned),
        "{ours:?} {strict} {theirs:?}"
    );
}

/// RFC 9234 §4.2, table 2: one role fits each, and nothing else does.
#[test]
fn roles_come_in_pairs() {
    let pairs = [(0, 3), (1, 2), (2, 1), (3, 0), (4, 4)];
    for (code, fitting) in pairs {
        let ours = Role::from_code(code);
        for theirs in 0..=255 {
            let result = check(
                |settings| settings.role = ours,
                |open| open.capabilities.push(Capability::Role(theirs)),
            );
            match result {
                Ok(agreed) => {
                    assert_eq!(theirs, fitting, "{ours:?}");
                    assert_eq!(agreed.peer_role, Role::from_code(fitting));
                }
                Err(error) => {
                    assert_ne!(theirs, fitting, "{ours:?}");
                    assert_eq!(error.notification().subcode, 11);
                }
            }
        }
    }
    assert_eq!(Role::from_code(5), None);
}

/// RFC 9234 §4.2.
#[test]
fn roles_missing_repeated_and_contradicting() {
    let customer = Some(Role::Customer);
    let provider = Ok(Some(Role::Provider));
    check_role(customer, false, &[0], provider);
    check_role(customer, true, &[0], provider);
    check_role(customer, false, &[], provider);
    check_role(
        customer,
        true,
        &[],
        Err("the peer names no role, and strict roles are configured"),
    );
    check_role(
        customer,
        false,
        &[4],
        Err("the peer says that it is our peer, but it is configured as our provider"),
    );
    check_role(
        customer,
        false,
        &[77],
        Err("the peer says that it is our role 77, but it is configured as our provider"),
    );
    // The same role twice is one; two roles are none, whatever ours is.
    check_role(customer, true, &[0, 0, 0], provider);
    let two = Err("the peer names several roles: provider, customer");
    check_role(customer, false, &[0, 3, 0], two);
    check_role(None, false, &[3, 0], two);
    // Without a role of ours, the peer's means nothing to us.
    check_role(None, false, &[0], Ok(None));
    check_role(None, false, &[99], Ok(None));
    check_role(None, true, &[], Ok(None));
}

#[test]
fn within_one_as_there_are_no_roles() {
    let internal = |settings: &mut PeerSettings| {
        settings.local_as = 65002;
        settings.role = Some(Role::Provider);
        settings.role_strict = true;
    };
    let agreed = check(internal, |_| {}).expect("agreed");
    assert_eq!((agreed.ebgp, agreed.peer_role), (false, None));
}
