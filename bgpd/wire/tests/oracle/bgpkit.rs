//! bgpkit-parser 0.23.0: generated messages and those captured from five daemons. It knows more than zettabgp does
//! (AS4_PATH, extended communities, IPv6 next hops for IPv4, RFC 9072, the names of RFC 7606's faults), so that it sees
//! what that one cannot.
//!
//! Where the two disagree, and what the comparison leaves out:
//!
//! | what | bgpkit-parser | ours | by |
//! |---|---|---|---|
//! | a default route in a session without ADD-PATH | tries whether it reads as a path identifier | what was negotiated | RFC 7911 §4 |
//! | N bit of graceful restart | drops it | keeps it | RFC 8538 §2 |

use std::path::Path;

use bgp_wire::{
    Capability, DecodeContext, HEADER_LEN, NextHop, Nlri, Open, Origin, PathAttributes,
    SegmentKind, Update, Verdict, decode_update,
};
use bgpkit_parser::models::{self, AsPathSegment, AsnLength, BgpUpdateMessage, NextHopAddress};
use bgpkit_parser::parser::bgp::messages::{parse_bgp_open_message, parse_bgp_update_message};
use bytes::Bytes;

use crate::child::check_agreement;
use crate::generator::{self, Rng};

const MESSAGES: u64 = 6_000;
/// The N bit among the flags of graceful restart.
const NOTIFICATIONS: u8 = 1 << 2;

/// What the child does.
pub fn run(role: &str) {
    match role {
        "bgpkit updates" => {
            for seed in 0..MESSAGES {
                let (ctx, messages) = generator::updates(&mut Rng(seed));
                for message in messages {
                    compare(&format!("seed {seed}"), &message.bytes[HEADER_LEN..], &ctx);
                }
            }
            eprintln!("compared {MESSAGES}");
        }
        "bgpkit opens" => {
            for seed in 0..MESSAGES {
                compare_open(&format!("seed {seed}"), &generator::open(&mut Rng(seed)));
            }
            eprintln!("compared {MESSAGES}");
        }
        "bgpkit captures" => eprintln!("compared {}", captures()),
        _ => {}
    }
}

#[test]
fn updates_read_the_same() {
    check_agreement("bgpkit updates", MESSAGES);
}

#[test]
fn opens_read_the_same() {
    check_agreement("bgpkit opens", MESSAGES);
}

#[test]
fn captures_read_the_same() {
    check_agreement("bgpkit captures", 5);
}

/// Every OPEN and UPDATE of sessions without ADD-PATH; how many daemons there are.
fn captures() -> u64 {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut daemons = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for session in text.split("# -- ").skip(1) {
            let about = session.lines().next().unwrap();
            let ctx = DecodeContext {
                four_octet_as: !about.contains("without four-octet AS numbers"),
                ebgp: false,
                add_path: [false; 2],
                families: [true; 2],
                extended_next_hop: true,
            };
            for line in session.lines().filter(|line| line.starts_with("ff")) {
                let octet = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
                let message: Vec<u8> = (0..line.len()).step_by(2).map(octet).collect();
                let body = &message[HEADER_LEN..];
                match message[18] {
                    1 => compare_open(about, &Open::decode(body).unwrap()),
                    2 if !about.contains("knows every capability") => compare(line, body, &ctx),
                    _ => {}
                }
            }
        }
        daemons += 1;
    }
    daemons
}

fn compare(name: &str, body: &[u8], ctx: &DecodeContext) {
    let width = if ctx.four_octet_as {
        AsnLength::Bits32
    } else {
        AsnLength::Bits16
    };
    let ours = decode_update(body, ctx);
    let [add_path, _] = ctx.add_path;
    if !add_path && has_default_route(&ours) {
        return;
    }
    let theirs = parse_bgp_update_message(Bytes::copy_from_slice(body), add_path, &width).unwrap();
    compare_prefixes(name, &ours, &theirs);
    if let Some(attributes) = &ours.attributes {
        let warnings = theirs.attributes.validation_warnings();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        compare_path(name, attributes, &theirs);
        compare_values(name, attributes, &theirs.attributes);
    }
    // What it writes reads as what it has read.
    let written = theirs.encode(width).unwrap();
    let again = decode_update(&written, ctx);
    assert_eq!(again.verdict, ours.verdict, "{name}: {:?}", again.faults);
    assert_eq!(again.attributes, ours.attributes, "{name}");
    compare_prefixes(name, &again, &theirs);
}

fn has_default_route(update: &Update<'_>) -> bool {
    let mp = update.mp_reach.map(|mp| mp.nlri);
    let all = [
        Some(update.withdrawn),
        Some(update.announced),
        mp,
        update.mp_unreach,
    ];
    let mut prefixes = all.into_iter().flatten().flatten();
    prefixes.any(|nlri| nlri.prefix.prefix_len() == 0)
}

fn compare_prefixes(name: &str, ours: &Update<'_>, theirs: &BgpUpdateMessage) {
    let prefixes = |list: &[models::NetworkPrefix]| -> Vec<Nlri> {
        let nlri = list
            .iter()
            .map(|p| Nlri::with_path_id(p.path_id.unwrap_or(0), p.prefix));
        nlri.collect()
    };
    let attributes = &theirs.attributes;
    let reach = attributes.get_reachable_nlri();
    let unreach = attributes.get_unreachable_nlri();
    let mp = |nlri: Option<&models::Nlri>| nlri.map(|n| prefixes(&n.prefixes));
    assert_eq!(
        ours.withdrawn.iter().collect::<Vec<_>>(),
        prefixes(&theirs.withdrawn_prefixes),
        "{name}"
    );
    assert_eq!(
        ours.mp_unreach.map(|n| n.iter().collect()),
        mp(unreach),
        "{name}"
    );
    if matches!(ours.verdict, Verdict::Ok) {
        assert_eq!(
            ours.announced.iter().collect::<Vec<_>>(),
            prefixes(&theirs.announced_prefixes),
            "{name}"
        );
        assert_eq!(
            ours.mp_reach.map(|mp| mp.nlri.iter().collect()),
            mp(reach),
            "{name}"
        );
        let next_hop = reach
            .and_then(|nlri| nlri.next_hop)
            .map(|next_hop| match next_hop {
                NextHopAddress::Ipv4(addr) => NextHop::V4(addr),
                NextHopAddress::Ipv6(global) => NextHop::V6 {
                    global,
                    link_local: None,
                },
                NextHopAddress::Ipv6LinkLocal(global, local) => NextHop::V6 {
                    global,
                    link_local: Some(local),
                },
                other => panic!("{name}: {other:?}"),
            });
        assert_eq!(ours.mp_reach.map(|mp| mp.next_hop), next_hop, "{name}");
        if reach.is_none() {
            assert_eq!(
                ours.next_hop.map(Into::into),
                attributes.next_hop(),
                "{name}"
            );
        }
    }
}

fn compare_path(name: &str, ours: &PathAttributes, theirs: &BgpUpdateMessage) {
    let numbers = |path: &models::AsPath| -> Vec<(SegmentKind, u32)> {
        let segments = path.segments.iter().flat_map(|segment| {
            let (kind, asns) = match segment {
                AsPathSegment::AsSequence(asns) => (SegmentKind::Sequence, asns),
                AsPathSegment::AsSet(asns) => (SegmentKind::Set, asns),
                other => panic!("{name}: {other:?}"),
            };
            asns.iter().map(move |asn| (kind, u32::from(*asn)))
        });
        segments.collect()
    };
    let path: Vec<(SegmentKind, u32)> = ours
        .as_path()
        .segments()
        .flat_map(|segment| segment.asns().map(move |asn| (segment.kind, asn)))
        .collect();
    let theirs = theirs.attributes.effective_as_path();
    assert_eq!(
        path,
        theirs.as_ref().map(numbers).unwrap_or_default(),
        "{name}"
    );
}

fn compare_values(name: &str, ours: &PathAttributes, theirs: &models::Attributes) {
    let hot = ours.hot();
    let origin = match theirs.origin() {
        models::Origin::IGP => Origin::Igp,
        models::Origin::EGP => Origin::Egp,
        models::Origin::INCOMPLETE => Origin::Incomplete,
    };
    assert_eq!(hot.origin, origin, "{name}");
    assert_eq!(hot.med, theirs.multi_exit_discriminator(), "{name}");
    assert_eq!(hot.local_pref, theirs.local_preference(), "{name}");
    assert_eq!(hot.originator_id, theirs.origin_id(), "{name}");
    assert_eq!(ours.atomic_aggregate(), theirs.atomic_aggregate(), "{name}");
    let aggregator = theirs.aggregator().map(|(asn, id)| (u32::from(asn), id));
    assert_eq!(ours.aggregator(), aggregator, "{name}");
    let otc = theirs.only_to_customer().map(u32::from);
    assert_eq!(ours.only_to_customer(), otc, "{name}");
    let clusters: Vec<u32> = ours.cluster_list().map(u32::from).collect();
    assert_eq!(clusters, theirs.clusters().unwrap_or_default(), "{name}");

    // Extended communities have many types there; they are compared as it writes them.
    let (mut plain, mut large) = (Vec::new(), Vec::new());
    for attribute in theirs {
        match attribute {
            models::AttributeValue::Communities(list) => plain.extend(list.iter().map(community)),
            models::AttributeValue::LargeCommunities(list) => {
                large.extend(list.iter().map(|c| (c.global_admin, c.local_data)));
            }
            _ => {}
        }
    }
    plain.sort_unstable();
    plain.dedup();
    large.sort_unstable();
    large.dedup();
    assert!(ours.communities().eq(plain), "{name}");
    let ours_large = ours
        .large_communities()
        .map(|c| (c.global, [c.local1, c.local2]));
    assert!(ours_large.eq(large), "{name}");
}

fn community(theirs: &models::Community) -> u32 {
    match theirs {
        models::Community::NoExport => 0xffff_ff01,
        models::Community::NoAdvertise => 0xffff_ff02,
        models::Community::NoExportSubConfed => 0xffff_ff03,
        models::Community::Custom(asn, value) => u32::from(*asn) << 16 | u32::from(*value),
    }
}

/// Read by both, and what it writes reads the same.
fn compare_open(name: &str, open: &Open) {
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    let theirs = parse_bgp_open_message(&mut Bytes::copy_from_slice(&bytes[HEADER_LEN..])).unwrap();
    assert_eq!(theirs.asn, open.my_as_2octet, "{name}");
    assert_eq!(theirs.hold_time, open.hold_time, "{name}");
    assert_eq!(theirs.bgp_identifier, open.bgp_id, "{name}");
    let mut codes = Vec::new();
    for parameter in &theirs.opt_params {
        match &parameter.param_value {
            models::ParamValue::Capacities(list) => {
                codes.extend(list.iter().map(|c| u8::from(c.ty)))
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(
        open.capabilities.iter().map(|c| c.code()).eq(codes),
        "{name}"
    );
    let written = Open::decode(&theirs.encode().unwrap()).unwrap();
    let mut expected = open.clone();
    for capability in &mut expected.capabilities {
        if let Capability::GracefulRestart { flags, .. } = capability {
            *flags &= !NOTIFICATIONS;
        }
    }
    assert_eq!(written, expected, "{name}");
}
