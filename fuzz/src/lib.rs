//! What must hold for any UPDATE, shared by the codec targets.

use bgp_wire::{
    DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN, NextHop, Nlri, NlriSlice,
    PathAttributes, Treatment, Update, Verdict, decode_update, encode_reach, encode_unreach,
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

/// Decodes a body and checks what the result promises.
pub fn check_update(body: &[u8], ctx: &DecodeContext) {
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
    for nlri in slice.iter() {
        assert_eq!(Family::of(&nlri.prefix), slice.family());
        assert_eq!(nlri.prefix, nlri.prefix.trunc());
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
    let _ = format!("{}{attributes:?}", attributes.as_path());
    let _ = attributes.communities().count() + attributes.large_communities().count();
    let _ = (attributes.aggregator(), attributes.only_to_customer());
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
