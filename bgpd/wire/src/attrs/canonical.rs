//! Writing attributes in canonical form: one scratch buffer, usually on the stack, then one allocation.

use smallvec::SmallVec;

use super::as_path::merge_as4;
use super::{AsWidth, PathAttributes, Tlv, attr_type, flag};
use crate::read::Reader;

/// Received attributes on their way to canonical form. They have passed validation; types do not repeat.
pub(crate) struct Canonical<'a> {
    tlvs: SmallVec<[Tlv<'a>; 16]>,
    sorted: bool,
}

impl<'a> Canonical<'a> {
    pub(crate) fn new() -> Self {
        Self {
            tlvs: SmallVec::new(),
            sorted: true,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tlvs.is_empty()
    }

    #[inline]
    pub(crate) fn push(&mut self, tlv: Tlv<'a>) {
        self.sorted &= self.tlvs.last().is_none_or(|last| last.kind < tlv.kind);
        self.tlvs.push(tlv);
    }

    fn find(&self, kind: u8) -> Option<&'a [u8]> {
        self.tlvs
            .iter()
            .find(|tlv| tlv.kind == kind)
            .map(|tlv| tlv.value)
    }

    pub(crate) fn build(mut self, width: AsWidth) -> PathAttributes {
        if !self.sorted {
            self.tlvs.sort_unstable_by_key(|tlv| tlv.kind);
        }
        // RFC 6793 §4.2.3: an AGGREGATOR that does not hold AS_TRANS was rewritten by somebody who does not know the
        // AS4 attributes, so neither of them can be trusted.
        let as4_trusted = self.find(attr_type::AS4_AGGREGATOR).is_none()
            || self
                .find(attr_type::AGGREGATOR)
                .is_none_or(|value| value.starts_with(&crate::open::AS_TRANS.to_be_bytes()));
        let as4 = |kind| self.find(kind).filter(|_| as4_trusted);

        let mut out: SmallVec<[u8; 512]> = SmallVec::new();
        for tlv in &self.tlvs {
            let flags = canonical_flags(tlv);
            match tlv.kind {
                attr_type::AS4_PATH | attr_type::AS4_AGGREGATOR => {}
                attr_type::AS_PATH if width == AsWidth::Two => {
                    let value = merge_as4(tlv.value, as4(attr_type::AS4_PATH));
                    put_tlv(&mut out, flags, tlv.kind, &value);
                }
                attr_type::AGGREGATOR if width == AsWidth::Two => {
                    let value = wide_aggregator(tlv.value, as4(attr_type::AS4_AGGREGATOR));
                    put_tlv(&mut out, flags, tlv.kind, &value);
                }
                attr_type::COMMUNITIES => put_set::<4>(&mut out, flags, tlv),
                attr_type::EXTENDED_COMMUNITIES => put_set::<8>(&mut out, flags, tlv),
                attr_type::LARGE_COMMUNITIES => put_set::<12>(&mut out, flags, tlv),
                _ => put_tlv(&mut out, flags, tlv.kind, tlv.value),
            }
        }
        PathAttributes::from_canonical(&out)
    }
}

/// Partial means something only on optional transitive attributes, and extended length is decided by the length.
fn canonical_flags(tlv: &Tlv<'_>) -> u8 {
    let both = flag::OPTIONAL | flag::TRANSITIVE;
    if tlv.flags & both == both {
        tlv.flags & (both | flag::PARTIAL)
    } else {
        tlv.flags & both
    }
}

fn wide_aggregator(two_octet: &[u8], as4: Option<&[u8]>) -> [u8; 8] {
    if let Some(value) = as4.and_then(|value| <[u8; 8]>::try_from(value).ok()) {
        return value;
    }
    let mut reader = Reader::new(two_octet);
    let asn = u32::from(reader.u16().unwrap_or(0));
    let router = reader.u32().unwrap_or(0);
    let mut value = [0; 8];
    let (high, low) = value.split_at_mut(4);
    high.copy_from_slice(&asn.to_be_bytes());
    low.copy_from_slice(&router.to_be_bytes());
    value
}

/// Appends a list of which the order means nothing: ascending, each entry once (RFC 8092 §5 asks for the latter).
fn put_set<const N: usize>(out: &mut SmallVec<[u8; 512]>, flags: u8, tlv: &Tlv<'_>) {
    let (entries, _) = tlv.value.as_chunks::<N>();
    if entries.is_sorted_by(|a, b| a < b) {
        return put_tlv(out, flags, tlv.kind, tlv.value);
    }
    let mut sorted: SmallVec<[[u8; N]; 32]> = SmallVec::from_slice(entries);
    sorted.sort_unstable();
    sorted.dedup();
    put_tlv(out, flags, tlv.kind, sorted.as_flattened());
}

/// Appends flags, type and length; `len` octets of value must follow.
pub(crate) fn put_header(out: &mut impl Extend<u8>, flags: u8, kind: u8, len: usize) {
    let flags = flags & !flag::EXTENDED_LENGTH;
    match u8::try_from(len) {
        Ok(len) => out.extend([flags, kind, len]),
        Err(_) => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend([flags | flag::EXTENDED_LENGTH, kind, high, low]);
        }
    }
}

/// Appends one attribute with the shortest length field.
fn put_tlv(out: &mut SmallVec<[u8; 512]>, flags: u8, kind: u8, value: &[u8]) {
    put_header(out, flags, kind, value.len());
    out.extend_from_slice(value);
}
