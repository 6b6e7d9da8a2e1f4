//! UPDATE decoding in two phases (RFC 4271 §4.3, RFC 4760, RFC 7606).
//!
//! First every length is validated and every attribute judged, which yields NLRI slices and one [`Verdict`]; then, only
//! when the verdict leaves the routes usable, the attributes are brought into canonical form. Decoding never fails: what
//! to do about a fault is part of the result. Whether the routes themselves are acceptable (AS loops, next hop of our own,
//! policy) is not judged here.

mod mp;
mod validate;

use core::net::Ipv4Addr;

use crate::attrs::{AsWidth, Canonical, NextHop, PathAttributes, Tlv, attr_type};
use crate::family::Family;
use crate::nlri::NlriSlice;
use crate::notification::{Notification, code, update_error};
use crate::read::{Reader, be_u32};

pub(crate) use validate::is_known;
use validate::{Judgement, judge};

/// Most faults that an [`Update`] lists; later ones still count for the verdict.
pub const MAX_FAULTS: usize = 16;

/// What of the session decides how an UPDATE reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeContext {
    /// Both sides sent the four-octet AS capability: AS_PATH has four octets per AS number.
    pub four_octet_as: bool,
    /// The peer is in another AS: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST from it do not count.
    pub ebgp: bool,
    /// Per family in the order of [`Family::ALL`]: we receive path identifiers.
    pub add_path: [bool; 2],
    /// Per family: negotiated. Routes of other families are ignored.
    pub families: [bool; 2],
    /// IPv4 prefixes may come with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl DecodeContext {
    fn width(&self) -> AsWidth {
        if self.four_octet_as {
            AsWidth::Four
        } else {
            AsWidth::Two
        }
    }
}

/// How a fault is treated (RFC 7606 §2), weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Treatment {
    /// Nothing is lost that was asked for: routes of a family that was not negotiated.
    Ignore,
    /// The attribute does not count; the routes do.
    AttributeDiscard,
    /// The routes count as withdrawn.
    TreatAsWithdraw,
    /// The family cannot be trusted any more.
    FamilyDisable,
    /// The session ends.
    SessionReset,
}

/// One fault of an UPDATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttributeFault {
    /// Attribute type; 0 for the message itself (type 0 is reserved).
    pub attr_type: u8,
    /// What was wrong, without values from the wire.
    pub reason: &'static str,
    /// What follows from this fault alone.
    pub treatment: Treatment,
}

/// The strongest treatment that any fault of an UPDATE asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Use everything.
    Ok,
    /// Use everything; some attribute was left out.
    AttributeDiscard,
    /// Withdraw what is announced; [`Update::attributes`] is `None`.
    TreatAsWithdraw,
    /// Remove all routes of the family and ignore it from now on, or reset the session where that is impossible
    /// (RFC 7606 §2). The rest of the message is usable; see [`Update::attributes`].
    FamilyDisable(Family),
    /// Send this and close. Nothing of the message is usable.
    SessionReset(Notification),
}

impl Verdict {
    fn treatment(&self) -> Treatment {
        match self {
            Verdict::Ok => Treatment::Ignore,
            Verdict::AttributeDiscard => Treatment::AttributeDiscard,
            Verdict::TreatAsWithdraw => Treatment::TreatAsWithdraw,
            Verdict::FamilyDisable(_) => Treatment::FamilyDisable,
            Verdict::SessionReset(_) => Treatment::SessionReset,
        }
    }
}

/// MP_REACH_NLRI of a negotiated family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MpReach<'a> {
    /// Family of the prefixes.
    pub family: Family,
    /// Next hop of all of them.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: NlriSlice<'a>,
}

/// A decoded UPDATE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    /// Withdrawn IPv4 prefixes of the message body.
    pub withdrawn: NlriSlice<'a>,
    /// Announced IPv4 prefixes of the message body; their next hop is [`Update::next_hop`].
    pub announced: NlriSlice<'a>,
    /// NEXT_HOP, when present and well-formed.
    pub next_hop: Option<Ipv4Addr>,
    /// MP_REACH_NLRI, when present and of a negotiated family.
    pub mp_reach: Option<MpReach<'a>>,
    /// MP_UNREACH_NLRI, when present and of a negotiated family.
    pub mp_unreach: Option<NlriSlice<'a>>,
    /// The attributes that belong to every announced prefix. `None` when there are none, or when they cannot be used: then
    /// every announced prefix is to be treated as withdrawn, whatever the verdict adds to that.
    pub attributes: Option<PathAttributes>,
    /// What to do with the message.
    pub verdict: Verdict,
    /// At most [`MAX_FAULTS`]; empty, and unallocated, for a message without fault.
    pub faults: Vec<AttributeFault>,
}

impl Update<'_> {
    /// The family that this message marks the end of the initial update of (RFC 4724 §2), when it is such a marker.
    pub fn end_of_rib(&self) -> Option<Family> {
        let only_withdrawals = self.verdict == Verdict::Ok
            && self.faults.is_empty()
            && self.withdrawn.is_empty()
            && self.announced.is_empty()
            && self.mp_reach.is_none()
            && self.next_hop.is_none()
            && self.attributes.is_none();
        if !only_withdrawals {
            return None;
        }
        match self.mp_unreach {
            None => Some(Family::Ipv4Unicast),
            Some(nlri) if nlri.is_empty() => Some(nlri.family()),
            Some(_) => None,
        }
    }

    fn empty() -> Self {
        Self {
            withdrawn: NlriSlice::empty(Family::Ipv4Unicast),
            announced: NlriSlice::empty(Family::Ipv4Unicast),
            next_hop: None,
            mp_reach: None,
            mp_unreach: None,
            attributes: None,
            verdict: Verdict::Ok,
            faults: Vec::new(),
        }
    }

    fn record(&mut self, attr_type: u8, reason: &'static str, treatment: Treatment) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(AttributeFault {
                attr_type,
                reason,
                treatment,
            });
        }
    }

    fn raise(&mut self, attr_type: u8, reason: &'static str, verdict: Verdict) {
        self.record(attr_type, reason, verdict.treatment());
        if verdict.treatment() > self.verdict.treatment() {
            self.verdict = verdict;
        }
    }

    /// Ends in a session reset: whatever was found so far is dropped, except the faults.
    fn reset(mut self, attr_type: u8, reason: &'static str, notification: Notification) -> Self {
        let verdict = Verdict::SessionReset(notification);
        self.record(attr_type, reason, Treatment::SessionReset);
        Update {
            faults: self.faults,
            verdict,
            ..Update::empty()
        }
    }
}

/// A fault that ends the session.
struct Fatal {
    attr_type: u8,
    reason: &'static str,
    notification: Notification,
}

impl Fatal {
    fn new(attr_type: u8, reason: &'static str, subcode: u8, data: &[u8]) -> Self {
        Self {
            attr_type,
            reason,
            notification: Notification::with_data(code::UPDATE_MESSAGE, subcode, data.to_vec()),
        }
    }
}

/// Reads the body of an UPDATE. Never fails and never panics; see [`Verdict`].
pub fn decode_update<'a>(body: &'a [u8], ctx: &DecodeContext) -> Update<'a> {
    let Some((withdrawn, attributes, nlri)) = split(body) else {
        return Update::empty().reset(
            0,
            "lengths contradict the message length",
            Notification::new(code::UPDATE_MESSAGE, update_error::MALFORMED_ATTRIBUTE_LIST),
        );
    };
    let mut walk = Walk {
        ctx,
        update: Update::empty(),
        canonical: Canonical::new(),
        seen: Seen::default(),
        reach_seen: false,
        others_seen: false,
        withdraw_cause: None,
    };
    let outcome = walk
        .classic(withdrawn, nlri)
        .and_then(|()| walk.attributes(attributes))
        .and_then(|()| walk.conclude());
    match outcome {
        Ok(()) => walk.finish(),
        Err(fatal) => walk
            .update
            .reset(fatal.attr_type, fatal.reason, fatal.notification),
    }
}

/// Withdrawn routes, path attributes, NLRI; `None` when the two length fields do not fit the message.
fn split(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut reader = Reader::new(body);
    let len = reader.u16()?;
    let withdrawn = reader.take(usize::from(len))?;
    let len = reader.u16()?;
    let attributes = reader.take(usize::from(len))?;
    Some((withdrawn, attributes, reader.rest()))
}

/// Which attribute types have occurred.
#[derive(Default)]
struct Seen {
    low: u128,
    high: u128,
}

impl Seen {
    /// Whether this is the first occurrence.
    fn insert(&mut self, kind: u8) -> bool {
        let half = if kind < 128 {
            &mut self.low
        } else {
            &mut self.high
        };
        let bit = 1u128 << (kind & 127);
        let first = *half & bit == 0;
        *half |= bit;
        first
    }

    fn contains(&self, kind: u8) -> bool {
        let half = if kind < 128 { self.low } else { self.high };
        half & (1u128 << (kind & 127)) != 0
    }
}

/// What a treat-as-withdraw would be as a session reset (RFC 7606 §5.2).
struct WithdrawCause<'a> {
    attr_type: u8,
    subcode: u8,
    data: &'a [u8],
}

/// The one pass over the message.
struct Walk<'a, 'c> {
    ctx: &'c DecodeContext,
    update: Update<'a>,
    canonical: Canonical<'a>,
    seen: Seen,
    /// Announced prefixes were located, be it of a family that is ignored.
    reach_seen: bool,
    /// There is an attribute other than MP_UNREACH_NLRI.
    others_seen: bool,
    withdraw_cause: Option<WithdrawCause<'a>>,
}

impl<'a> Walk<'a, '_> {
    /// The prefixes outside the attributes. A syntax error there cannot be contained (RFC 7606 §5.3).
    fn classic(&mut self, withdrawn: &'a [u8], nlri: &'a [u8]) -> Result<(), Fatal> {
        let family = Family::Ipv4Unicast;
        let add_path = family.pick(self.ctx.add_path);
        let read = |bytes, reason| {
            NlriSlice::validate(bytes, family, add_path)
                .ok_or_else(|| Fatal::new(0, reason, update_error::INVALID_NETWORK_FIELD, &[]))
        };
        let withdrawn = read(withdrawn, "withdrawn routes malformed")?;
        let announced = read(nlri, "NLRI malformed")?;
        self.reach_seen |= !announced.is_empty();
        if family.pick(self.ctx.families) {
            self.update.withdrawn = withdrawn;
            self.update.announced = announced;
        } else if !(withdrawn.is_empty() && announced.is_empty()) {
            self.update
                .raise(0, "ipv4-unicast not negotiated", Verdict::Ok);
        }
        Ok(())
    }

    fn attributes(&mut self, bytes: &'a [u8]) -> Result<(), Fatal> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let before = reader.rest();
            let Some(tlv) = Tlv::read(&mut reader) else {
                // RFC 7606 §4: the NLRI is found by the Total Attribute Length all the same.
                self.others_seen = true;
                self.withdraw(
                    before.get(1).copied().unwrap_or(0),
                    "attribute overruns the attribute list",
                    update_error::MALFORMED_ATTRIBUTE_LIST,
                    &[],
                );
                return Ok(());
            };
            let consumed = before.len() - reader.rest().len();
            self.attribute(tlv, before.get(..consumed).unwrap_or_default())?;
        }
        Ok(())
    }

    fn attribute(&mut self, tlv: Tlv<'a>, whole: &'a [u8]) -> Result<(), Fatal> {
        let is_mp = matches!(
            tlv.kind,
            attr_type::MP_REACH_NLRI | attr_type::MP_UNREACH_NLRI
        );
        self.others_seen |= tlv.kind != attr_type::MP_UNREACH_NLRI;
        if !self.seen.insert(tlv.kind) {
            // RFC 7606 §3 (g).
            if is_mp {
                let subcode = update_error::MALFORMED_ATTRIBUTE_LIST;
                return Err(Fatal::new(tlv.kind, "MP attribute repeated", subcode, &[]));
            }
            self.update
                .raise(tlv.kind, "attribute repeated", Verdict::AttributeDiscard);
            return Ok(());
        }
        match judge(&tlv, self.ctx) {
            Judgement::Keep => {}
            Judgement::Drop => return Ok(()),
            Judgement::Discard(reason) => {
                self.update
                    .raise(tlv.kind, reason, Verdict::AttributeDiscard);
                return Ok(());
            }
            Judgement::Withdraw(subcode, reason) => {
                self.withdraw(tlv.kind, reason, subcode, whole);
                // The prefixes of an MP attribute with wrong flags are withdrawn all the same.
                if !is_mp {
                    return Ok(());
                }
            }
            Judgement::Reset(subcode, reason) => {
                return Err(Fatal::new(tlv.kind, reason, subcode, whole));
            }
        }
        match tlv.kind {
            attr_type::MP_REACH_NLRI => self.mp_reach(&tlv, whole),
            attr_type::MP_UNREACH_NLRI => self.mp_unreach(&tlv, whole),
            attr_type::NEXT_HOP => {
                self.update.next_hop = be_u32(tlv.value).map(Ipv4Addr::from_bits);
                Ok(())
            }
            _ => {
                self.canonical.push(tlv);
                Ok(())
            }
        }
    }

    fn withdraw(&mut self, attr_type: u8, reason: &'static str, subcode: u8, data: &'a [u8]) {
        self.update
            .raise(attr_type, reason, Verdict::TreatAsWithdraw);
        self.withdraw_cause.get_or_insert(WithdrawCause {
            attr_type,
            subcode,
            data,
        });
    }

    /// What only the whole message shows.
    fn conclude(&mut self) -> Result<(), Fatal> {
        if self.reach_seen {
            self.check_mandatory();
        } else if let Some(cause) = &self.withdraw_cause
            && self.others_seen
        {
            // RFC 7606 §5.2: without announced prefixes nobody can say that all of them were found.
            return Err(Fatal::new(
                cause.attr_type,
                "attribute error in a message that announces nothing",
                cause.subcode,
                cause.data,
            ));
        }
        Ok(())
    }

    /// RFC 7606 §3 (d): a missing well-known mandatory attribute.
    fn check_mandatory(&mut self) {
        let subcode = update_error::MISSING_WELL_KNOWN_ATTRIBUTE;
        let has_classic = !self.update.announced.is_empty();
        for (kind, needed, reason) in [
            (attr_type::ORIGIN, true, "ORIGIN missing"),
            (attr_type::AS_PATH, true, "AS_PATH missing"),
            (attr_type::NEXT_HOP, has_classic, "NEXT_HOP missing"),
        ] {
            if needed && !self.seen.contains(kind) {
                self.withdraw(kind, reason, subcode, &[]);
            }
        }
        let unusable = self
            .update
            .next_hop
            .is_some_and(|addr| !NextHop::V4(addr).is_usable());
        if has_classic && unusable {
            self.withdraw(
                attr_type::NEXT_HOP,
                "NEXT_HOP is no host address",
                update_error::INVALID_NEXT_HOP,
                &[],
            );
        }
    }

    fn finish(self) -> Update<'a> {
        let mut update = self.update;
        if self.withdraw_cause.is_none() && !self.canonical.is_empty() {
            update.attributes = Some(self.canonical.build(self.ctx.width()));
        }
        update
    }
}

#[cfg(test)]
mod tests;
