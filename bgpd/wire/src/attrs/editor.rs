//! Changing path attributes: what import rules, export rules and route reflection do to them.

use core::net::Ipv4Addr;

use smallvec::SmallVec;

use super::as_path::{SEQUENCE, sequence};
use super::canonical::Canonical;
use super::{AsWidth, LargeCommunity, Origin, PathAttributes, Tlv, attr_type, flag};

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
const OPTIONAL_NON_TRANSITIVE: u8 = flag::OPTIONAL;

struct Entry {
    flags: u8,
    kind: u8,
    value: SmallVec<[u8; 32]>,
}

/// A copy of path attributes under change. An attribute whose value would exceed 65535 octets is left out of the result;
/// [`crate::encode_reach`] refuses what does not fit a message long before that.
pub struct AttributeEditor {
    entries: SmallVec<[Entry; 12]>,
}

impl From<&PathAttributes> for AttributeEditor {
    fn from(attributes: &PathAttributes) -> Self {
        Self {
            entries: attributes
                .tlvs()
                .map(|tlv| Entry {
                    flags: tlv.flags & !flag::EXTENDED_LENGTH,
                    kind: tlv.kind,
                    value: SmallVec::from_slice(tlv.value),
                })
                .collect(),
        }
    }
}

impl AttributeEditor {
    /// Attributes of a route that starts here: an origin and an empty AS path.
    pub fn new(origin: Origin) -> Self {
        let mut editor = Self {
            entries: SmallVec::new(),
        };
        editor.set_origin(origin);
        editor.set_as_path_sequence(&[]);
        editor
    }

    /// Sets ORIGIN.
    pub fn set_origin(&mut self, origin: Origin) -> &mut Self {
        self.set(attr_type::ORIGIN, WELL_KNOWN, &[origin.code()])
    }

    /// Sets or removes LOCAL_PREF.
    pub fn set_local_pref(&mut self, value: Option<u32>) -> &mut Self {
        self.set_word(attr_type::LOCAL_PREF, WELL_KNOWN, value)
    }

    /// Sets or removes MULTI_EXIT_DISC.
    pub fn set_med(&mut self, value: Option<u32>) -> &mut Self {
        self.set_word(attr_type::MULTI_EXIT_DISC, OPTIONAL_NON_TRANSITIVE, value)
    }

    /// Sets or removes ORIGINATOR_ID.
    pub fn set_originator_id(&mut self, value: Option<Ipv4Addr>) -> &mut Self {
        let bits = value.map(Ipv4Addr::to_bits);
        self.set_word(attr_type::ORIGINATOR_ID, OPTIONAL_NON_TRANSITIVE, bits)
    }

    /// Sets or removes ONLY_TO_CUSTOMER (RFC 9234).
    pub fn set_only_to_customer(&mut self, asn: Option<u32>) -> &mut Self {
        self.set_word(attr_type::ONLY_TO_CUSTOMER, OPTIONAL_TRANSITIVE, asn)
    }

    /// Puts an AS number in front of the path `count` times, opening a new segment where the first is a set or full.
    pub fn prepend_as(&mut self, asn: u32, count: u8) -> &mut Self {
        let old = self.take(attr_type::AS_PATH);
        let mut repeated = core::iter::repeat_n(asn, usize::from(count));
        // Room in the first segment, when it is a sequence.
        let (in_first, first_len, rest) = match old.as_slice() {
            [SEQUENCE, len, rest @ ..] => ((255 - len).min(count), *len, rest),
            all => (0, 0, all),
        };
        let mut value: SmallVec<[u8; 32]> = SmallVec::new();
        let new_segment = usize::from(count - in_first);
        value.extend_from_slice(&sequence(repeated.by_ref().take(new_segment)));
        if first_len > 0 {
            value.extend_from_slice(&[SEQUENCE, first_len + in_first]);
        }
        repeated.for_each(|asn| value.extend_from_slice(&asn.to_be_bytes()));
        value.extend_from_slice(rest);
        self.set(attr_type::AS_PATH, WELL_KNOWN, &value)
    }

    /// Replaces the AS path by one sequence; empty for routes of this AS.
    pub fn set_as_path_sequence(&mut self, asns: &[u32]) -> &mut Self {
        self.set(
            attr_type::AS_PATH,
            WELL_KNOWN,
            &sequence(asns.iter().copied()),
        )
    }

    /// Puts a cluster identifier in front of CLUSTER_LIST (RFC 4456 §8).
    pub fn prepend_cluster_id(&mut self, id: Ipv4Addr) -> &mut Self {
        let mut list = self.take(attr_type::CLUSTER_LIST);
        list.insert_from_slice(0, &id.octets());
        self.set(attr_type::CLUSTER_LIST, OPTIONAL_NON_TRANSITIVE, &list)
    }

    /// Replaces COMMUNITIES; no values remove the attribute.
    pub fn set_communities(&mut self, values: &[u32]) -> &mut Self {
        let list: SmallVec<[[u8; 4]; 8]> = values.iter().map(|value| value.to_be_bytes()).collect();
        self.set_list(attr_type::COMMUNITIES, list.as_flattened())
    }

    /// Sets or removes AGGREGATOR: AS number and router.
    pub fn set_aggregator(&mut self, value: Option<(u32, Ipv4Addr)>) -> &mut Self {
        match value {
            Some((asn, router)) => {
                let value = [asn.to_be_bytes(), router.octets()].concat();
                self.set(attr_type::AGGREGATOR, OPTIONAL_TRANSITIVE, &value)
            }
            None => self.remove(attr_type::AGGREGATOR),
        }
    }

    /// Sets or removes ATOMIC_AGGREGATE.
    pub fn set_atomic_aggregate(&mut self, on: bool) -> &mut Self {
        match on {
            true => self.set(attr_type::ATOMIC_AGGREGATE, WELL_KNOWN, &[]),
            false => self.remove(attr_type::ATOMIC_AGGREGATE),
        }
    }

    /// Adds one community.
    pub fn add_community(&mut self, value: u32) -> &mut Self {
        let mut list = self.take(attr_type::COMMUNITIES);
        list.extend_from_slice(&value.to_be_bytes());
        // The canonical form sorts and drops repetitions.
        self.set(attr_type::COMMUNITIES, OPTIONAL_TRANSITIVE, &list)
    }

    /// Removes one community, and the attribute with the last of them.
    pub fn remove_community(&mut self, value: u32) -> &mut Self {
        let octets = value.to_be_bytes();
        let list = self.take(attr_type::COMMUNITIES);
        let kept: SmallVec<[[u8; 4]; 8]> = list
            .as_chunks::<4>()
            .0
            .iter()
            .copied()
            .filter(|entry| *entry != octets)
            .collect();
        if kept.is_empty() {
            return self;
        }
        let kept = kept.as_flattened();
        self.set(attr_type::COMMUNITIES, OPTIONAL_TRANSITIVE, kept)
    }

    /// Replaces LARGE_COMMUNITIES (RFC 8092); no values remove the attribute.
    pub fn set_large_communities(&mut self, values: &[LargeCommunity]) -> &mut Self {
        let list: SmallVec<[u8; 96]> = values
            .iter()
            .flat_map(|value| [value.global, value.local1, value.local2])
            .flat_map(u32::to_be_bytes)
            .collect();
        self.set_list(attr_type::LARGE_COMMUNITIES, &list)
    }

    /// Replaces EXTENDED COMMUNITIES (RFC 4360); no values remove the attribute.
    pub fn set_ext_communities(&mut self, values: &[[u8; 8]]) -> &mut Self {
        self.set_list(attr_type::EXTENDED_COMMUNITIES, values.as_flattened())
    }

    /// Removes an attribute by type.
    pub fn remove(&mut self, kind: u8) -> &mut Self {
        self.entries.retain(|entry| entry.kind != kind);
        self
    }

    /// Sets any attribute that this codec does not interpret. Types that it does interpret, or that belong to the message
    /// (NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI), are left alone: their values must stay valid.
    pub fn set_unknown(&mut self, kind: u8, flags: u8, value: &[u8]) -> &mut Self {
        if !crate::update::is_known(kind) {
            self.set(kind, flags & !flag::EXTENDED_LENGTH, value);
        }
        self
    }

    /// Removes what RFC 4271 §5 forbids to pass on: attributes that this codec does not know and that are not
    /// transitive.
    pub fn drop_unknown_nontransitive(&mut self) -> &mut Self {
        self.entries.retain(|entry| {
            crate::update::is_known(entry.kind) || entry.flags & flag::TRANSITIVE != 0
        });
        self
    }

    /// Sets Partial on transitive attributes that this codec does not know (RFC 4271 §5).
    pub fn mark_unknown_partial(&mut self) -> &mut Self {
        for entry in &mut self.entries {
            if !crate::update::is_known(entry.kind)
                && entry.flags & OPTIONAL_TRANSITIVE == OPTIONAL_TRANSITIVE
            {
                entry.flags |= flag::PARTIAL;
            }
        }
        self
    }

    /// The attributes in canonical form.
    pub fn build(&self) -> PathAttributes {
        let mut canonical = Canonical::new();
        for entry in &self.entries {
            if entry.value.len() <= usize::from(u16::MAX) {
                canonical.push(Tlv {
                    flags: entry.flags,
                    kind: entry.kind,
                    value: &entry.value,
                });
            }
        }
        canonical.build(AsWidth::Four)
    }

    /// Sets a list of communities, or removes it when it is empty. The canonical form sorts it and drops repetitions.
    fn set_list(&mut self, kind: u8, list: &[u8]) -> &mut Self {
        match list.is_empty() {
            true => self.remove(kind),
            false => self.set(kind, OPTIONAL_TRANSITIVE, list),
        }
    }

    fn set_word(&mut self, kind: u8, flags: u8, value: Option<u32>) -> &mut Self {
        match value {
            Some(value) => self.set(kind, flags, &value.to_be_bytes()),
            None => self.remove(kind),
        }
    }

    fn set(&mut self, kind: u8, flags: u8, value: &[u8]) -> &mut Self {
        self.remove(kind);
        self.entries.push(Entry {
            flags,
            kind,
            value: SmallVec::from_slice(value),
        });
        self
    }

    /// Takes the value of an attribute out, to be put back changed; empty when absent.
    fn take(&mut self, kind: u8) -> SmallVec<[u8; 32]> {
        match self.entries.iter().position(|entry| entry.kind == kind) {
            Some(position) => self.entries.swap_remove(position).value,
            None => SmallVec::new(),
        }
    }
}
