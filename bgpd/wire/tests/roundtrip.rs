//! Properties: what is encoded decodes to the same, and no bytes whatsoever make a decoder panic.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a broken invariant should stop there"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp_wire::{
    AttributeEditor, Capability, DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN,
    MAX_MESSAGE_LEN, MessageType, NextHop, Nlri, Notification, Open, Origin, PathAttributes,
    RouteRefresh, Verdict, decode_update, encode_reach, encode_unreach, frame,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

fn capability() -> impl Strategy<Value = Capability> {
    let families = || vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..6);
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::MultiProtocol { afi, safi }),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        Just(Capability::ExtendedMessage),
        any::<u8>().prop_map(Capability::Role),
        vec(any::<(u16, u16, u16)>(), 0..5).prop_map(Capability::ExtendedNextHop),
        families().prop_map(Capability::AddPath),
        (0u8..16, 0u16..4096, families()).prop_map(|(flags, restart_time, families)| {
            Capability::GracefulRestart {
                flags,
                restart_time,
                families,
            }
        }),
        ("[a-zé]{0,60}", "[a-z.]{0,60}")
            .prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        (128u8..=255, vec(any::<u8>(), 0..256))
            .prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

prop_compose! {
    fn open()(
        my_as in 1u32..,
        hold_time in prop_oneof![Just(0u16), 3u16..],
        bgp_id in 1u32..,
        mut capabilities in vec(capability(), 0..14),
        wide in any::<bool>(),
    ) -> Open {
        let my_as = if wide { my_as } else { my_as % 65535 + 1 };
        if wide {
            capabilities.insert(0, Capability::FourOctetAs(my_as));
        }
        Open {
            my_as,
            my_as_2octet: Open::two_octet(my_as),
            hold_time,
            bgp_id: Ipv4Addr::from(bgp_id),
            capabilities,
        }
    }
}

fn prefix(family: Family) -> BoxedStrategy<IpNet> {
    match family {
        Family::Ipv4Unicast => (any::<u32>(), 0u8..=32)
            .prop_map(|(bits, len)| IpNet::V4(Ipv4Net::new(Ipv4Addr::from(bits), len).unwrap()))
            .boxed(),
        Family::Ipv6Unicast => (any::<u128>(), 0u8..=128)
            .prop_map(|(bits, len)| IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits), len).unwrap()))
            .boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)]
}

prop_compose! {
    fn attributes()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        path in prop_oneof![9 => vec(1u32.., 0..9), 1 => vec(1u32.., 0..300)],
        prepend in proptest::option::of((1u32.., any::<u8>())),
        med in any::<Option<u32>>(),
        local_pref in any::<Option<u32>>(),
        communities in vec(any::<u32>(), 0..80),
        originator in any::<Option<u32>>(),
        clusters in vec(any::<u32>(), 0..4),
        otc in any::<Option<u32>>(),
        unknown in proptest::option::of((128u8..=255, vec(any::<u8>(), 0..300))),
    ) -> PathAttributes {
        let mut editor = AttributeEditor::new(origin);
        editor
            .set_as_path_sequence(&path)
            .set_med(med)
            .set_local_pref(local_pref)
            .set_communities(&communities)
            .set_originator_id(originator.map(Ipv4Addr::from))
            .set_only_to_customer(otc);
        if let Some((asn, count)) = prepend {
            editor.prepend_as(asn, count);
        }
        for id in clusters {
            editor.prepend_cluster_id(id.into());
        }
        if let Some((kind, value)) = unknown {
            editor.set_unknown(kind, 0xc0, &value).mark_unknown_partial();
        }
        editor.build()
    }
}

fn next_hop(family: Family, extended: bool) -> BoxedStrategy<NextHop> {
    let v4 = (0x0100_0000u32..0xe000_0000)
        .prop_map(|bits| NextHop::V4(bits.into()))
        .prop_filter("a host's address", NextHop::is_usable);
    let v6 = (any::<u64>(), any::<Option<u64>>()).prop_map(|(global, local)| NextHop::V6 {
        global: Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(global)),
        link_local: local.map(|l| Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(l))),
    });
    match (family, extended) {
        (Family::Ipv4Unicast, false) => v4.boxed(),
        (Family::Ipv4Unicast, true) => prop_oneof![v4, v6].boxed(),
        (Family::Ipv6Unicast, _) => v6.boxed(),
    }
}

#[derive(Clone, Debug)]
struct Route {
    family: Family,
    attributes: PathAttributes,
    next_hop: NextHop,
    nlri: Vec<Nlri>,
    ctx: EncodeContext,
}

fn route() -> impl Strategy<Value = Route> {
    (family(), any::<bool>(), any::<bool>()).prop_flat_map(|(family, extended, add_path)| {
        (
            attributes(),
            next_hop(family, extended),
            vec((any::<u32>(), prefix(family)), 0..900),
            any::<bool>(),
            prop_oneof![Just(MAX_MESSAGE_LEN), Just(MAX_EXTENDED_MESSAGE_LEN)],
        )
            .prop_map(
                move |(attributes, next_hop, prefixes, four_octet_as, max_len)| Route {
                    family,
                    attributes,
                    next_hop,
                    nlri: prefixes
                        .into_iter()
                        .map(|(id, prefix)| {
                            Nlri::with_path_id(if add_path { id } else { 0 }, prefix)
                        })
                        .collect(),
                    ctx: EncodeContext {
                        four_octet_as,
                        add_path: [add_path; 2],
                        max_len,
                        extended_next_hop: extended,
                    },
                },
            )
    })
}

fn reader(ctx: &EncodeContext) -> DecodeContext {
    DecodeContext {
        four_octet_as: ctx.four_octet_as,
        ebgp: false,
        add_path: ctx.add_path,
        families: [true; 2],
        extended_next_hop: ctx.extended_next_hop,
    }
}

/// Frames one encoded message and returns its body.
fn body(bytes: &[u8], max_len: usize) -> &[u8] {
    let found = frame(bytes, max_len).unwrap().unwrap();
    assert_eq!((found.kind, found.len), (MessageType::Update, bytes.len()));
    found.body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn opens(open in open()) {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        let found = frame(&bytes, MAX_MESSAGE_LEN).unwrap().unwrap();
        prop_assert_eq!(found.kind, MessageType::Open);
        prop_assert_eq!(Open::decode(found.body), Ok(open));
    }

    #[test]
    fn notifications(code in any::<u8>(), subcode in any::<u8>(), data in vec(any::<u8>(), 0..600)) {
        let notification = Notification::with_data(code, subcode, data);
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        let found = frame(&bytes, MAX_MESSAGE_LEN).unwrap().unwrap();
        prop_assert_eq!(found.kind, MessageType::Notification);
        prop_assert!(!notification.to_string().contains(char::is_control));
        prop_assert_eq!(Notification::decode(found.body), notification);
    }

    #[test]
    fn refreshes(afi in any::<u16>(), safi in any::<u8>(), subtype in any::<u8>()) {
        let refresh = RouteRefresh { family_raw: (afi, safi), subtype };
        let mut bytes = Vec::new();
        refresh.encode(&mut bytes);
        let found = frame(&bytes, MAX_MESSAGE_LEN).unwrap().unwrap();
        prop_assert_eq!(found.kind, MessageType::RouteRefresh);
        prop_assert_eq!(RouteRefresh::decode(found.body), Ok(refresh));
    }

    #[test]
    fn announcements(route in route()) {
        let Route { family, attributes, next_hop, nlri, ctx } = route;
        let mut messages = Vec::new();
        encode_reach(family, &attributes, &next_hop, &nlri, &ctx, &mut messages).unwrap();
        let mut found = Vec::new();
        for (position, message) in messages.iter().enumerate() {
            let update = decode_update(body(&message.bytes, ctx.max_len), &reader(&ctx));
            prop_assert_eq!(&update.verdict, &Verdict::Ok, "{:?}", update.faults);
            // Between two-octet speakers only adjacent sequences may come back joined.
            let decoded = update.attributes.unwrap();
            prop_assert!(decoded.as_path().asns().eq(attributes.as_path().asns()));
            prop_assert_eq!(decoded.hot(), attributes.hot());
            if ctx.four_octet_as {
                prop_assert_eq!(&decoded, &attributes);
            }
            let (hop, slice) = match update.mp_reach {
                Some(mp) => (mp.next_hop, mp.nlri),
                None => (NextHop::V4(update.next_hop.unwrap()), update.announced),
            };
            prop_assert_eq!(hop, next_hop);
            prop_assert_eq!(slice.iter().count(), message.prefixes);
            found.extend(slice.iter());
            // The recorded offset is where the next hop is.
            let (at, len) = message.next_hop_at.unwrap();
            prop_assert_eq!(&message.bytes[at..at + len], &next_hop.octets().0[..len]);
            // No message could have taken the first prefix of its successor.
            if position + 1 < messages.len() {
                let next = nlri[found.len()].wire_len(family.pick(ctx.add_path));
                prop_assert!(message.bytes.len() + next > ctx.max_len);
            }
        }
        prop_assert_eq!(found, nlri);
    }

    #[test]
    fn withdrawals(route in route()) {
        let Route { family, nlri, ctx, .. } = route;
        let mut messages = Vec::new();
        encode_unreach(family, &nlri, &ctx, &mut messages);
        let mut found = Vec::new();
        for message in &messages {
            let update = decode_update(body(&message.bytes, ctx.max_len), &reader(&ctx));
            prop_assert_eq!(&update.verdict, &Verdict::Ok);
            prop_assert!(update.attributes.is_none() && update.end_of_rib().is_none());
            found.extend(update.mp_unreach.unwrap_or(update.withdrawn).iter());
        }
        prop_assert_eq!(found, nlri);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200), bits in any::<u8>()) {
        decode_all(&bytes, &context(bits));
    }
}

proptest! {
    // Each case decodes some thousand messages.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cut_and_every_changed_octet(mut route in route(), seed in any::<u8>()) {
        route.nlri.truncate(3);
        let Route { family, attributes, next_hop, nlri, ctx } = route;
        let mut messages = Vec::new();
        encode_reach(family, &attributes, &next_hop, &nlri, &ctx, &mut messages).unwrap();
        for message in messages {
            let body = &message.bytes[19..];
            for cut in 0..body.len() {
                decode_all(&body[..cut], &reader(&ctx));
            }
            let mut changed = body.to_vec();
            // Long messages are mostly path: a sample of their octets will do.
            for at in (0..body.len()).step_by(body.len() / 400 + 1) {
                for value in [0, 1, 0x7f, 0xff, body[at] ^ 0x10, body[at].wrapping_add(1), seed] {
                    changed[at] = value;
                    decode_all(&changed, &reader(&ctx));
                }
                changed[at] = body[at];
            }
        }
    }

    #[test]
    fn every_cut_and_every_changed_octet_of_an_open(open in open()) {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        for cut in 0..bytes.len() {
            prop_assert_eq!(frame(&bytes[..cut], MAX_MESSAGE_LEN), Ok(None));
            let _ = Open::decode(&bytes[19.min(cut)..cut]);
        }
        for at in 19..bytes.len() {
            let old = bytes[at];
            for value in [0, 1, 0xff, old.wrapping_add(1), old.wrapping_sub(1)] {
                bytes[at] = value;
                let _ = Open::decode(&bytes[19..]);
            }
            bytes[at] = old;
        }
    }
}

fn context(bits: u8) -> DecodeContext {
    let bit = |n: u8| bits & (1 << n) != 0;
    DecodeContext {
        four_octet_as: bit(0),
        ebgp: bit(1),
        add_path: [bit(2), bit(3)],
        families: [bit(4), bit(5)],
        extended_next_hop: bit(6),
    }
}

/// Runs every decoder and walks everything that the results give access to.
fn decode_all(bytes: &[u8], ctx: &DecodeContext) {
    let _ = frame(bytes, MAX_EXTENDED_MESSAGE_LEN);
    let _ = Open::decode(bytes);
    let _ = RouteRefresh::decode(bytes);
    let _ = Notification::decode(bytes).to_string();
    let update = decode_update(bytes, ctx);
    let _ = update.end_of_rib();
    let prefixes = update.withdrawn.iter().count()
        + update.announced.iter().count()
        + update.mp_reach.map_or(0, |mp| mp.nlri.iter().count())
        + update.mp_unreach.map_or(0, |nlri| nlri.iter().count());
    assert!(prefixes <= bytes.len());
    if let Some(attributes) = update.attributes {
        let _ = format!("{} {attributes:?}", attributes.as_path());
        assert_eq!(attributes.edit().build(), attributes);
    }
}
