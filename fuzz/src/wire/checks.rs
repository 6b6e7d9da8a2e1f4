//! What must hold for any UPDATE, shared by the codec targets.

use bgp_wire::{
    DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN, NextHop, Nlri, NlriSlice,
    Origin, PathAttributes, SegmentKind, Treatment, Update, Verdict, attr_type, decode_update,
    encode_reach, encode_unreach,
};

/// The session that one octet of fuzzer input stands for.
pub fn context(bits: u8) -> DecodeContext {
    let bit = |n: u8| bits & (1 << n) != 0;
    DecodeContext {
        four_octet_as: bit(0),
        ebgp: bit(1),
        add_path: [bit(2), bit(3)],
        // Families are on unless asked otherwise: a family that is off is a dead end for the fuzzer.
        families: [!bit(4), !bit(5)],
        extended_next_hop: bit(6),
    }
}

/// Decodes a body and checks what the result promises. Says whether an attribute was judged, in which case the result
/// shows it, save for attributes that are dropped without a word.
pub fn check_update(body: &[u8], ctx: &DecodeContext) -> bool {
    let update = decode_update(body, ctx);
    check_verdict(&update);
    let slices = [
        Some(update.withdrawn),
        Some(update.announced),
        update.mp_reach.map(|mp| mp.nlri),
        update.mp_unreach,
    ];
    for slice in slices.into_iter().flatten() {
        check_nlri(&slice);
    }
    if let Some(mp) = update.mp_reach {
        let _ = format!("{} {}", mp.family, mp.next_hop);
    }
    if let Some(attributes) = &update.attributes {
        check_canonical(attributes);
        if let Some(next_hop) = update.next_hop {
            check_reencode(attributes, NextHop::V4(next_hop), update.announced);
        }
        if let Some(mp) = update.mp_reach {
            check_reencode(attributes, mp.next_hop, mp.nlri);
        }
    }
    let _ = update.end_of_rib();
    update.attributes.is_some()
        || update.next_hop.is_some()
        || update.mp_reach.is_some()
        || update.mp_unreach.is_some()
        || update.faults.iter().any(|fault| fault.attr_type != 0)
}

fn check_verdict(update: &Update<'_>) {
    let strongest = update.faults.iter().map(|f| f.treatment).max();
    match &update.verdict {
        Verdict::Ok => assert!(strongest.unwrap_or(Treatment::Ignore) == Treatment::Ignore),
        Verdict::TreatAsWithdraw => assert!(update.attributes.is_none()),
        Verdict::SessionReset(notification) => {
            assert_eq!(notification.code, 3);
            assert!(update.attributes.is_none() && update.announced.is_empty());
        }
        Verdict::AttributeDiscard | Verdict::FamilyDisable(_) => assert!(strongest.is_some()),
    }
}

fn check_nlri(slice: &NlriSlice<'_>) {
    let mut octets = 0;
    assert_eq!(slice.iter().len(), slice.len());
    assert_eq!(slice.iter().count(), slice.len());
    for nlri in *slice {
        assert_eq!(Family::of(&nlri.prefix), slice.family());
        assert_eq!(nlri.prefix, nlri.prefix.trunc());
        assert_eq!(Nlri::new(nlri.prefix).prefix, nlri.prefix);
        octets += nlri.wire_len(false);
    }
    assert!(octets <= slice.len_bytes());
    assert_eq!(octets == 0, slice.is_empty());
}

const WIDE: DecodeContext = DecodeContext {
    four_octet_as: true,
    ebgp: false,
    add_path: [true, true],
    families: [true, true],
    extended_next_hop: true,
};

/// Canonical bytes read as themselves, without fault.
fn check_canonical(attributes: &PathAttributes) {
    // AS4 attributes alone leave nothing, and a wide path may outgrow the length field.
    let len = attributes.as_bytes().len();
    let Some(len) = u16::try_from(len).ok().filter(|len| *len > 0) else {
        return;
    };
    let mut body = vec![0, 0];
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(attributes.as_bytes());
    let again = decode_update(&body, &WIDE);
    assert_eq!(again.verdict, Verdict::Ok, "{:?}", again.faults);
    let again = again.attributes.expect("there were attributes");
    assert_eq!(&again, attributes);
    assert_eq!(again.hot(), attributes.hot());
    assert_eq!(&attributes.edit().build(), attributes);
    check_as_path(attributes);
    check_values(attributes);
}

/// The ways to look at a path agree with each other.
fn check_as_path(attributes: &PathAttributes) {
    let path = attributes.as_path();
    let _ = format!("{path:?} {attributes:?}");
    let sets = path
        .segments()
        .filter(|segment| segment.kind == SegmentKind::Set);
    assert_eq!(path.has_as_set(), sets.count() > 0);
    assert_eq!(path.is_empty(), path.segments().next().is_none());
    assert!(path.segments().all(|segment| !segment.is_empty()));
    let all: usize = path.segments().map(|segment| segment.len()).sum();
    assert_eq!(path.asns().count(), all);
    for asn in path.asns().take(4) {
        assert!(path.contains_as(asn) && path.count(asn) > 0);
    }
    let last = path.segments().last();
    let origin = last.filter(|segment| segment.kind == SegmentKind::Sequence);
    assert_eq!(
        path.origin_as(),
        origin.and_then(|segment| segment.asns().last())
    );
}

/// Accessors know exactly the attributes that are there.
fn check_values(attributes: &PathAttributes) {
    let has = |kind| attributes.raw(kind).is_some();
    let hot = attributes.hot();
    assert_eq!(Origin::from_code(hot.origin.code()), Some(hot.origin));
    assert_eq!(
        has(attr_type::AGGREGATOR),
        attributes.aggregator().is_some()
    );
    assert_eq!(
        has(attr_type::ATOMIC_AGGREGATE),
        attributes.atomic_aggregate()
    );
    let otc = attributes.only_to_customer();
    assert_eq!(has(attr_type::ONLY_TO_CUSTOMER), otc.is_some());
    assert!(attributes.communities().is_sorted_by(|a, b| a < b));
    assert!(attributes.ext_communities().is_sorted_by(|a, b| a < b));
    assert!(attributes.large_communities().is_sorted_by(|a, b| a < b));
    let shown: String = attributes
        .large_communities()
        .map(|c| c.to_string())
        .collect();
    assert_eq!(has(attr_type::LARGE_COMMUNITIES), !shown.is_empty());
    let clusters = attributes.cluster_list().count();
    assert_eq!(has(attr_type::CLUSTER_LIST), clusters > 0);
    let _ = hot.origin.to_string();
}

/// What is encoded decodes to the same routes, towards either kind of speaker.
fn check_reencode(attributes: &PathAttributes, next_hop: NextHop, nlri: NlriSlice<'_>) {
    let family = nlri.family();
    let nlri: Vec<Nlri> = nlri.iter().collect();
    for four_octet_as in [true, false] {
        let ctx = EncodeContext {
            four_octet_as,
            add_path: [true, true],
            max_len: MAX_EXTENDED_MESSAGE_LEN,
            extended_next_hop: true,
        };
        let mut messages = Vec::new();
        if encode_reach(family, attributes, &next_hop, &nlri, &ctx, &mut messages).is_err() {
            continue;
        }
        let mut found = Vec::new();
        for message in &messages {
            let reader = DecodeContext {
                four_octet_as,
                ..WIDE
            };
            let update = decode_update(&message.bytes[19..], &reader);
            assert_eq!(update.verdict, Verdict::Ok, "{:?}", update.faults);
            let decoded = update.attributes.as_ref().expect("routes have attributes");
            assert!(decoded.as_path().asns().eq(attributes.as_path().asns()));
            assert_eq!(decoded.hot(), attributes.hot());
            assert!(!four_octet_as || decoded == attributes);
            match update.mp_reach {
                Some(mp) => {
                    assert_eq!(mp.next_hop, next_hop);
                    found.extend(mp.nlri.iter());
                }
                None => {
                    assert_eq!(update.next_hop.map(NextHop::V4), Some(next_hop));
                    found.extend(update.announced.iter());
                }
            }
        }
        assert_eq!(found, nlri);
        messages.clear();
        encode_unreach(family, &nlri, &ctx, &mut messages);
        assert_eq!(
            messages.iter().map(|m| m.prefixes).sum::<usize>(),
            nlri.len()
        );
    }
}
