//! Judging one attribute by its flags, length and value (RFC 7606 §3 and §7, and the specifications of newer attributes).

use super::DecodeContext;
use crate::attrs::{AsWidth, Origin, PathFault, Tlv, attr_type, check_as_path, flag};
use crate::notification::update_error;

/// What becomes of an attribute. Numbers are UPDATE error subcodes, for when it ends the session.
pub(super) enum Judgement {
    /// Use it.
    Keep,
    /// Leave it out silently: nothing is wrong.
    Drop,
    /// Attribute-discard.
    Discard(&'static str),
    /// Treat-as-withdraw.
    Withdraw(u8, &'static str),
    /// Session reset.
    Reset(u8, &'static str),
}

use Judgement::{Discard, Drop, Keep, Reset, Withdraw};

/// The Optional and Transitive bits that the specification of a known attribute asks for.
fn specified_flags(kind: u8) -> Option<u8> {
    const WELL_KNOWN: u8 = flag::TRANSITIVE;
    const OPTIONAL: u8 = flag::OPTIONAL;
    const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
    Some(match kind {
        attr_type::ORIGIN
        | attr_type::AS_PATH
        | attr_type::NEXT_HOP
        | attr_type::LOCAL_PREF
        | attr_type::ATOMIC_AGGREGATE => WELL_KNOWN,
        attr_type::MULTI_EXIT_DISC
        | attr_type::ORIGINATOR_ID
        | attr_type::CLUSTER_LIST
        | attr_type::MP_REACH_NLRI
        | attr_type::MP_UNREACH_NLRI => OPTIONAL,
        attr_type::AGGREGATOR
        | attr_type::COMMUNITIES
        | attr_type::EXTENDED_COMMUNITIES
        | attr_type::AS4_PATH
        | attr_type::AS4_AGGREGATOR
        | attr_type::LARGE_COMMUNITIES
        | attr_type::ONLY_TO_CUSTOMER => OPTIONAL_TRANSITIVE,
        _ => return None,
    })
}

/// Whether this codec interprets attributes of the type.
pub(crate) fn is_known(kind: u8) -> bool {
    specified_flags(kind).is_some()
}

pub(super) fn judge(tlv: &Tlv<'_>, ctx: &DecodeContext) -> Judgement {
    let flags = tlv.flags & (flag::OPTIONAL | flag::TRANSITIVE);
    match specified_flags(tlv.kind) {
        None => judge_unknown(flags),
        Some(specified) if specified != flags => {
            Withdraw(update_error::ATTRIBUTE_FLAGS, "attribute flags wrong")
        }
        Some(_) => judge_value(tlv, ctx),
    }
}

/// RFC 4271 §5: pass on what is transitive, quietly ignore what is not; an unknown well-known attribute is a
/// contradiction (§6.3, not revised by RFC 7606).
fn judge_unknown(flags: u8) -> Judgement {
    if flags & flag::OPTIONAL == 0 {
        Reset(
            update_error::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            "unknown well-known attribute",
        )
    } else if flags & flag::TRANSITIVE == 0 {
        Drop
    } else {
        Keep
    }
}

fn judge_value(tlv: &Tlv<'_>, ctx: &DecodeContext) -> Judgement {
    let value = tlv.value;
    match tlv.kind {
        attr_type::ORIGIN => match value {
            [code] if Origin::from_code(*code).is_some() => Keep,
            [_] => Withdraw(update_error::INVALID_ORIGIN, "ORIGIN value undefined"),
            _ => bad_length("ORIGIN length wrong"),
        },
        attr_type::AS_PATH => match check_as_path(value, ctx.width(), false) {
            Ok(()) => Keep,
            Err(fault) => Withdraw(update_error::MALFORMED_AS_PATH, fault.reason()),
        },
        attr_type::NEXT_HOP => exactly::<4>(value, "NEXT_HOP length wrong"),
        attr_type::MULTI_EXIT_DISC => exactly::<4>(value, "MULTI_EXIT_DISC length wrong"),
        attr_type::LOCAL_PREF if ctx.ebgp => Discard("LOCAL_PREF from an external peer"),
        attr_type::LOCAL_PREF => exactly::<4>(value, "LOCAL_PREF length wrong"),
        attr_type::ATOMIC_AGGREGATE if value.is_empty() => Keep,
        attr_type::ATOMIC_AGGREGATE => Discard("ATOMIC_AGGREGATE has a value"),
        attr_type::AGGREGATOR => judge_aggregator(value, ctx.width()),
        attr_type::COMMUNITIES => list::<4>(value, "COMMUNITIES length wrong"),
        attr_type::ORIGINATOR_ID if ctx.ebgp => Discard("ORIGINATOR_ID from an external peer"),
        attr_type::ORIGINATOR_ID => exactly::<4>(value, "ORIGINATOR_ID length wrong"),
        attr_type::CLUSTER_LIST if ctx.ebgp => Discard("CLUSTER_LIST from an external peer"),
        attr_type::CLUSTER_LIST => list::<4>(value, "CLUSTER_LIST length wrong"),
        attr_type::EXTENDED_COMMUNITIES => list::<8>(value, "EXTENDED_COMMUNITIES length wrong"),
        attr_type::LARGE_COMMUNITIES => list::<12>(value, "LARGE_COMMUNITIES length wrong"),
        attr_type::ONLY_TO_CUSTOMER => exactly::<4>(value, "ONLY_TO_CUSTOMER length wrong"),
        // RFC 6793 §4.1: between four-octet speakers these two have no place.
        attr_type::AS4_PATH | attr_type::AS4_AGGREGATOR if ctx.four_octet_as => {
            Discard("AS4 attribute from a four-octet speaker")
        }
        attr_type::AS4_PATH => judge_as4_path(value),
        attr_type::AS4_AGGREGATOR => match value {
            [0, 0, 0, 0, _, _, _, _] => Discard("AS4_AGGREGATOR with AS 0"),
            value if value.len() == 8 => Keep,
            _ => Discard("AS4_AGGREGATOR length wrong"),
        },
        // MP_REACH_NLRI and MP_UNREACH_NLRI are parsed, not judged.
        _ => Keep,
    }
}

fn bad_length(reason: &'static str) -> Judgement {
    Withdraw(update_error::ATTRIBUTE_LENGTH, reason)
}

fn exactly<const N: usize>(value: &[u8], reason: &'static str) -> Judgement {
    if value.len() == N {
        Keep
    } else {
        bad_length(reason)
    }
}

/// A list that has at least one entry.
fn list<const N: usize>(value: &[u8], reason: &'static str) -> Judgement {
    if !value.is_empty() && value.len().is_multiple_of(N) {
        Keep
    } else {
        bad_length(reason)
    }
}

/// RFC 7606 §7.7; AS 0 by RFC 7607 §2.
fn judge_aggregator(value: &[u8], width: AsWidth) -> Judgement {
    match (width, value) {
        (AsWidth::Two, [0, 0, _, _, _, _]) | (AsWidth::Four, [0, 0, 0, 0, _, _, _, _]) => {
            Discard("AGGREGATOR with AS 0")
        }
        (AsWidth::Two, value) if value.len() == 6 => Keep,
        (AsWidth::Four, value) if value.len() == 8 => Keep,
        _ => Discard("AGGREGATOR length wrong"),
    }
}

/// RFC 6793 §6: a malformed AS4_PATH is discarded and the UPDATE used.
fn judge_as4_path(value: &[u8]) -> Judgement {
    if value.is_empty() {
        return Discard("AS4_PATH empty");
    }
    match check_as_path(value, AsWidth::Four, true) {
        Ok(()) => Keep,
        Err(PathFault::AsZero) => Discard("AS4_PATH contains AS 0"),
        Err(_) => Discard("AS4_PATH malformed"),
    }
}
