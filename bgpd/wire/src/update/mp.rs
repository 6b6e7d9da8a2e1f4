//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760, RFC 2545, RFC 8950).

use super::{Fatal, MpReach, Tlv, Verdict, Walk};
use crate::attrs::{NextHop, attr_type};
use crate::family::Family;
use crate::nlri::NlriSlice;
use crate::notification::update_error;
use crate::read::Reader;

impl<'a> Walk<'a, '_> {
    pub(super) fn mp_reach(&mut self, tlv: &Tlv<'a>, whole: &[u8]) -> Result<(), Fatal> {
        let fatal = |reason| Fatal::new(tlv.kind, reason, update_error::OPTIONAL_ATTRIBUTE, whole);
        let Some((afi, safi, next_hop, nlri)) = split_reach(tlv.value) else {
            return Err(fatal("MP_REACH_NLRI truncated"));
        };
        let family = Family::from_afi_safi(afi, safi).filter(|f| f.pick(self.ctx.families));
        let Some(family) = family else {
            self.reach_seen |= !nlri.is_empty();
            self.update
                .raise(tlv.kind, "family not negotiated", Verdict::Ok);
            return Ok(());
        };
        let len_is_right = match family {
            Family::Ipv4Unicast => match next_hop.len() {
                4 => true,
                16 | 32 => self.ctx.extended_next_hop,
                _ => false,
            },
            Family::Ipv6Unicast => matches!(next_hop.len(), 16 | 32),
        };
        // RFC 7606 §7.11: with a wrong next hop length the NLRI cannot be located.
        let Some(next_hop) = NextHop::read(next_hop).filter(|_| len_is_right) else {
            return Err(fatal("MP_REACH_NLRI next hop length wrong"));
        };
        let Some(nlri) = NlriSlice::validate(nlri, family, family.pick(self.ctx.add_path)) else {
            self.update.raise(
                tlv.kind,
                "MP_REACH_NLRI prefixes malformed",
                Verdict::FamilyDisable(family),
            );
            return Ok(());
        };
        self.reach_seen |= !nlri.is_empty();
        self.update.mp_reach = Some(MpReach {
            family,
            next_hop,
            nlri,
        });
        if !nlri.is_empty() && !next_hop.is_usable() {
            self.withdraw(
                attr_type::MP_REACH_NLRI,
                "MP_REACH_NLRI next hop is no host address",
                update_error::OPTIONAL_ATTRIBUTE,
                &[],
            );
        }
        Ok(())
    }

    pub(super) fn mp_unreach(&mut self, tlv: &Tlv<'a>, whole: &[u8]) -> Result<(), Fatal> {
        let mut reader = Reader::new(tlv.value);
        let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
            return Err(Fatal::new(
                tlv.kind,
                "MP_UNREACH_NLRI truncated",
                update_error::OPTIONAL_ATTRIBUTE,
                whole,
            ));
        };
        let family = Family::from_afi_safi(afi, safi).filter(|f| f.pick(self.ctx.families));
        let Some(family) = family else {
            self.update
                .raise(tlv.kind, "family not negotiated", Verdict::Ok);
            return Ok(());
        };
        match NlriSlice::validate(reader.rest(), family, family.pick(self.ctx.add_path)) {
            Some(nlri) => self.update.mp_unreach = Some(nlri),
            None => self.update.raise(
                tlv.kind,
                "MP_UNREACH_NLRI prefixes malformed",
                Verdict::FamilyDisable(family),
            ),
        }
        Ok(())
    }
}

/// AFI, SAFI, next hop, NLRI. The reserved octet between the last two (once a count of SNPAs) is ignored, but must be
/// there.
fn split_reach(value: &[u8]) -> Option<(u16, u8, &[u8], &[u8])> {
    let mut reader = Reader::new(value);
    let afi = reader.u16()?;
    let safi = reader.u8()?;
    let len = reader.u8()?;
    let next_hop = reader.take(usize::from(len))?;
    reader.u8()?;
    Some((afi, safi, next_hop, reader.rest()))
}
