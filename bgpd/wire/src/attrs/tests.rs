use super::*;
use crate::open::AS_TRANS;
use crate::update::{DecodeContext, decode_update};

/// Decodes attributes of an internal peer, with no routes.
fn decode(four_octet_as: bool, attributes: &[&[u8]]) -> PathAttributes {
    let ctx = DecodeContext {
        four_octet_as,
        ebgp: false,
        add_path: [false; 2],
        families: [true; 2],
        extended_next_hop: false,
    };
    let attributes = attributes.concat();
    let mut body = vec![0, 0];
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(&attributes);
    decode_update(&body, &ctx).attributes.unwrap()
}

/// A TLV with a two-octet path of sequences and sets.
fn narrow_path(segments: &[(u8, &[u16])]) -> Vec<u8> {
    let mut value = Vec::new();
    for (kind, asns) in segments {
        value.extend_from_slice(&[*kind, asns.len() as u8]);
        value.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    let [high, low] = (value.len() as u16).to_be_bytes();
    [&[0x50, 2, high, low], &value[..]].concat()
}

fn as4_path(segments: &[(u8, &[u32])]) -> Vec<u8> {
    let mut value = Vec::new();
    for (kind, asns) in segments {
        value.extend_from_slice(&[*kind, asns.len() as u8]);
        value.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    [&[0xc0, 17, value.len() as u8], &value[..]].concat()
}

#[test]
fn canonical_form_is_sorted_and_fixes_flags_and_sets() {
    let attributes = decode(
        true,
        &[
            // Unknown transitive, Partial kept; long length field shortened; low flag bits cleared.
            &[0xff, 200, 0, 2, 1, 2],
            // Unknown non-transitive: ignored (RFC 4271 §5).
            &[0x80, 201, 1, 1],
            &[0xc0, 8, 12, 0, 2, 0, 2, 0, 1, 0, 1, 0, 2, 0, 2],
            &[0x60, 1, 1, 2],
            &[0x40, 3, 4, 192, 0, 2, 1],
            &[0x40, 2, 0],
        ],
    );
    let expected: [&[u8]; 4] = [
        &[0x40, 1, 1, 2],
        &[0x40, 2, 0],
        &[0xc0, 8, 8, 0, 1, 0, 1, 0, 2, 0, 2],
        &[0xe0, 200, 2, 1, 2],
    ];
    assert_eq!(attributes.as_bytes(), expected.concat());
    assert_eq!(attributes.raw(200), Some((0xe0, &[1, 2][..])));
    assert_eq!(attributes.hot().origin, Origin::Incomplete);
}

#[test]
fn accessors_and_hot_fields() {
    let attributes = decode(
        true,
        &[
            &[0x40, 1, 1, 1],
            &[0x40, 2, 20, 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xea],
            &[1, 2, 0, 0, 0xfd, 0xeb, 0, 0, 0xfd, 0xec],
            &[0x80, 4, 4, 0, 0, 0, 5],
            &[0x40, 5, 4, 0, 0, 0, 100],
            &[0x40, 6, 0],
            &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 192, 0, 2, 1],
            &[
                0xc0, 8, 12, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 6, 0xff, 0xff, 0xff, 1,
            ],
            &[0x80, 9, 4, 10, 0, 0, 9],
            &[0x80, 10, 8, 10, 0, 0, 1, 10, 0, 0, 2],
            &[0xc0, 16, 8, 0, 2, 0xfd, 0xe9, 0, 0, 0, 1],
            &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
            &[0xc0, 35, 4, 0, 0, 0xfd, 0xe9],
        ],
    );
    let path = attributes.as_path();
    assert_eq!(path.to_string(), "65001 65002 {65003,65004}");
    assert!(path.contains_as(65004) && !path.contains_as(1) && path.has_as_set());
    assert_eq!((path.count(65002), path.origin_as()), (1, None));
    assert_eq!(
        attributes.aggregator(),
        Some((65001, [192, 0, 2, 1].into()))
    );
    assert!(attributes.atomic_aggregate());
    assert_eq!(attributes.only_to_customer(), Some(65001));
    assert_eq!(attributes.cluster_list().count(), 2);
    assert_eq!(
        attributes.ext_communities().next(),
        Some([0, 2, 0xfd, 0xe9, 0, 0, 0, 1])
    );
    assert_eq!(
        attributes.large_communities().next().unwrap().to_string(),
        "1:2:3"
    );
    let hot = attributes.hot();
    assert_eq!(
        (hot.origin, hot.local_pref, hot.med),
        (Origin::Egp, Some(100), Some(5))
    );
    assert_eq!(
        (hot.as_path_len, hot.neighbor_as),
        (3, Some(65001)),
        "a set counts once"
    );
    assert_eq!(
        (hot.originator_id, hot.cluster_list_len),
        (Some([10, 0, 0, 9].into()), 2)
    );
    assert!(hot.graceful_shutdown && hot.llgr_stale && hot.no_export && hot.has_as_set);
    assert!(!hot.no_advertise && !hot.no_export_subconfed && !hot.no_llgr);
}

#[test]
fn as4_path_fills_in_for_as_trans() {
    let check = |path: &[(u8, &[u16])], as4: Option<&[(u8, &[u32])]>, expected: &str| {
        let path = narrow_path(path);
        let as4 = as4.map(as4_path).unwrap_or_default();
        assert_eq!(
            decode(false, &[&path, &as4]).as_path().to_string(),
            expected
        );
    };
    let trans = AS_TRANS;
    check(&[(2, &[1, 2])], None, "1 2");
    check(&[(2, &[trans, 2])], Some(&[(2, &[70000, 2])]), "70000 2");
    // Two-octet speakers have prepended since: what AS4_PATH lacks comes from the path.
    check(&[(2, &[7, 8, trans])], Some(&[(2, &[70000])]), "7 8 70000");
    check(
        &[(2, &[7, trans]), (1, &[5, 6])],
        Some(&[(1, &[70000, 6])]),
        "7 23456 {70000,6}",
    );
    check(
        &[(1, &[7, 8]), (2, &[trans])],
        Some(&[(2, &[70000])]),
        "{7,8} 70000",
    );
    // Longer than the path: ignored (RFC 6793 §4.2.3). Confederation segments: skipped (§6).
    check(&[(2, &[trans])], Some(&[(2, &[70000, 70001])]), "23456");
    check(
        &[(2, &[1, trans])],
        Some(&[(3, &[9]), (2, &[70000])]),
        "1 70000",
    );
    // The joined sequence is one segment again, and splits where it is full.
    let long: Vec<u16> = vec![9; 255];
    check(
        &[(2, &long), (2, &[trans])],
        Some(&[(2, &[70000])]),
        &format!("{}70000", "9 ".repeat(255)),
    );
}

#[test]
fn as4_aggregator_counts_only_beside_as_trans() {
    let path = narrow_path(&[(2, &[AS_TRANS])]);
    let as4 = as4_path(&[(2, &[70000])]);
    let as4_aggregator = [0xc0, 18, 8, 0, 1, 0x11, 0x70, 10, 0, 0, 1];
    let trans = decode(
        false,
        &[
            &path,
            &[0xc0, 7, 6, 0x5b, 0xa0, 192, 0, 2, 1],
            &as4,
            &as4_aggregator,
        ],
    );
    assert_eq!(trans.aggregator(), Some((70000, [10, 0, 0, 1].into())));
    assert_eq!(trans.as_path().to_string(), "70000");
    // RFC 6793 §4.2.3: with another AGGREGATOR, neither AS4 attribute is current.
    let other = decode(
        false,
        &[
            &path,
            &[0xc0, 7, 6, 0, 9, 192, 0, 2, 1],
            &as4,
            &as4_aggregator,
        ],
    );
    assert_eq!(other.aggregator(), Some((9, [192, 0, 2, 1].into())));
    assert_eq!(other.as_path().to_string(), "23456");
    assert_eq!(other.raw(attr_type::AS4_PATH), None);
    // An AGGREGATOR without AS4_AGGREGATOR does not speak against AS4_PATH.
    let alone = decode(false, &[&path, &[0xc0, 7, 6, 0, 9, 192, 0, 2, 1], &as4]);
    assert_eq!(alone.as_path().to_string(), "70000");
}

#[test]
fn prepending() {
    let check = |start: &[u32], asn, count, expected_segments: &[usize]| {
        let mut editor = AttributeEditor::new(Origin::Igp);
        let attributes = editor
            .set_as_path_sequence(start)
            .prepend_as(asn, count)
            .build();
        let path = attributes.as_path();
        let lens: Vec<usize> = path.segments().map(|s| s.len()).collect();
        assert_eq!(lens, expected_segments);
        let expected = std::iter::repeat_n(asn, usize::from(count)).chain(start.iter().copied());
        assert!(path.asns().eq(expected));
        assert_eq!(
            usize::from(attributes.hot().as_path_len),
            start.len() + usize::from(count)
        );
    };
    check(&[], 65001, 0, &[]);
    check(&[], 65001, 1, &[1]);
    check(&[1, 2], 65001, 3, &[5]);
    check(&[7; 255], 65001, 2, &[2, 255]);
    check(&[7; 250], 65001, 255, &[250, 255]);
    check(&[7; 300], 65001, 1, &[1, 255, 45]);
    // In front of a set, a sequence of its own.
    let set = decode(true, &[&[0x40, 2, 6, 1, 1, 0, 0, 0, 9]]);
    let path = set.edit().prepend_as(65001, 2).build();
    assert_eq!(path.as_path().to_string(), "65001 65001 {9}");
    assert_eq!(path.hot().neighbor_as, Some(65001));
    assert_eq!(set.hot().neighbor_as, None);
}

#[test]
fn editing() {
    let base = AttributeEditor::new(Origin::Igp).build();
    assert_eq!(base.as_bytes(), [0x40, 1, 1, 0, 0x40, 2, 0]);
    let mut editor = base.edit();
    editor
        .set_origin(Origin::Egp)
        .set_med(Some(1))
        .set_med(Some(2))
        .set_local_pref(Some(7))
        .set_originator_id(Some([1, 2, 3, 4].into()))
        .prepend_cluster_id([10, 0, 0, 2].into())
        .prepend_cluster_id([10, 0, 0, 1].into())
        .set_communities(&[9, 3, 9])
        .add_community(5)
        .add_community(3);
    let full = editor.build();
    assert_eq!(full.communities().collect::<Vec<_>>(), [3, 5, 9]);
    let clusters: Vec<String> = full.cluster_list().map(|id| id.to_string()).collect();
    assert_eq!(clusters, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!((full.hot().med, full.hot().local_pref), (Some(2), Some(7)));
    assert_ne!(full, base);
    let back = full
        .edit()
        .set_origin(Origin::Igp)
        .set_med(None)
        .set_local_pref(None)
        .set_originator_id(None)
        .remove(attr_type::CLUSTER_LIST)
        .remove_community(3)
        .remove_community(5)
        .remove_community(77)
        .remove_community(9)
        .build();
    assert_eq!(back, base, "the last community takes the attribute with it");
    assert_eq!(
        full.edit()
            .set_communities(&[])
            .build()
            .communities()
            .count(),
        0
    );
}

#[test]
fn large_and_extended_communities_are_replaced() {
    let large = |local2| LargeCommunity {
        global: 65000,
        local1: 1,
        local2,
    };
    let base = AttributeEditor::new(Origin::Igp).build();
    let ext = |last| [0, 2, 0xfd, 0xe8, 0, 0, 0, last];
    let full = base
        .edit()
        .set_large_communities(&[large(2), large(1), large(2)])
        .set_ext_communities(&[ext(9), ext(3)])
        .build();
    assert_eq!(
        full.large_communities().collect::<Vec<_>>(),
        [large(1), large(2)]
    );
    assert_eq!(full.ext_communities().collect::<Vec<_>>(), [ext(3), ext(9)]);
    for kind in [
        attr_type::LARGE_COMMUNITIES,
        attr_type::EXTENDED_COMMUNITIES,
    ] {
        assert_eq!(full.raw(kind).unwrap().0, 0xc0, "optional transitive");
    }
    let replaced = full
        .edit()
        .set_large_communities(&[large(7)])
        .set_ext_communities(&[])
        .build();
    assert_eq!(replaced.large_communities().collect::<Vec<_>>(), [large(7)]);
    assert_eq!(replaced.raw(attr_type::EXTENDED_COMMUNITIES), None);
    let back = replaced.edit().set_large_communities(&[]).build();
    assert_eq!(back, base, "no values take the attribute with them");
}

#[test]
fn unknown_attributes_on_their_way_out() {
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor
        .set_unknown(99, 0xc0, &[1])
        .set_unknown(100, 0x80, &[2])
        // Types that the codec interprets, or that belong to the message, cannot be forged this way.
        .set_unknown(attr_type::AS_PATH, 0x40, &[9, 9, 9])
        .set_unknown(attr_type::MP_REACH_NLRI, 0x80, &[])
        .set_med(Some(1));
    assert_eq!(editor.build().raw(100), Some((0x80, &[2][..])));
    let sent = editor
        .drop_unknown_nontransitive()
        .mark_unknown_partial()
        .build();
    assert_eq!(sent.raw(99), Some((0xe0, &[1][..])));
    assert_eq!(sent.raw(100), None);
    assert_eq!(
        sent.hot().med,
        Some(1),
        "known non-transitive attributes stay"
    );
    assert!(sent.as_path().is_empty() && sent.raw(attr_type::MP_REACH_NLRI).is_none());
}

#[test]
fn equal_sets_are_equal_however_they_arrive() {
    use std::collections::HashSet;
    let med: &[u8] = &[0x80, 4, 4, 0, 0, 0, 5];
    let origin: &[u8] = &[0x40, 1, 1, 0];
    let wide = decode(true, &[med, origin, &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9]]);
    let narrow = decode(
        false,
        &[
            &narrow_path(&[(2, &[65001])]),
            origin,
            &[0x90, 4, 0, 4, 0, 0, 0, 5],
        ],
    );
    let edited = AttributeEditor::new(Origin::Igp)
        .prepend_as(65001, 1)
        .set_med(Some(5))
        .build();
    let set: HashSet<_> = [wide, narrow, edited].into_iter().collect();
    assert_eq!(set.len(), 1);
}

#[test]
fn next_hops() {
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let check = |next_hop: NextHop, len, usable, text: &str| {
        let (octets, found) = next_hop.octets();
        assert_eq!((found, next_hop.is_usable()), (len, usable), "{text}");
        assert_eq!(NextHop::read(&octets[..found]), Some(next_hop));
        assert_eq!(next_hop.to_string(), text);
    };
    let pair = |global, link_local: Option<&str>| NextHop::V6 {
        global: v6(global),
        link_local: link_local.map(v6),
    };
    check(NextHop::V4([192, 0, 2, 1].into()), 4, true, "192.0.2.1");
    check(NextHop::V4([0, 0, 0, 0].into()), 4, false, "0.0.0.0");
    check(NextHop::V4([239, 1, 1, 1].into()), 4, false, "239.1.1.1");
    check(pair("2001:db8::1", None), 16, true, "2001:db8::1");
    check(
        pair("2001:db8::1", Some("fe80::1")),
        32,
        true,
        "2001:db8::1",
    );
    check(pair("::", Some("fe80::1")), 32, true, "fe80::1");
    check(pair("::", None), 16, false, "::");
    check(pair("ff02::1", None), 16, false, "ff02::1");
    // A second address that is not link-local does not count as one.
    let octets = [v6("2001:db8::1").octets(), v6("2001:db8::2").octets()].concat();
    assert_eq!(NextHop::read(&octets), Some(pair("2001:db8::1", None)));
}
