//! What rules change of a route: compiled changes, and their application one rule after the other.

use bgp_wire::{AttributeEditor, Family, LargeCommunity, Origin, PathAttributes};
use roadbed_api::kinds::{
    CommunityPattern, ExtCommunityPattern, LargeCommunityPattern, ListChange, NextHopChange,
    PolicySet,
};

/// What the rules that applied have made of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The attributes, where they differ from those that came.
    pub attributes: Option<PathAttributes>,
    /// The next hop that the last rule with one asks for; `None`: as BGP itself has it.
    pub next_hop: Option<NextHopChange>,
    /// A rule says what the MED is, be it what it was.
    pub sets_med: bool,
}

/// The changes of one rule.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    local_pref: Option<u32>,
    med: Option<u32>,
    /// The AS (none: our own) and how often.
    prepend: Option<(Option<u32>, u8)>,
    communities: ListEdit<u32, CommunityPattern>,
    large: ListEdit<LargeCommunity, LargeCommunityPattern>,
    ext: ListEdit<u64, ExtCommunityPattern>,
    next_hop: Option<NextHopChange>,
}

#[derive(Clone, Debug)]
struct ListEdit<T, P> {
    add: Vec<T>,
    remove: Vec<P>,
    set: Option<Vec<T>>,
}

impl<T: Copy, P: std::str::FromStr> ListEdit<T, P> {
    /// Entries that cannot be read were refused before.
    fn new(change: &ListChange, exact: impl Fn(&P) -> Option<T>) -> Self {
        let values = |list: &[String]| -> Vec<T> {
            let patterns = list.iter().filter_map(|entry| entry.parse().ok());
            patterns.filter_map(|pattern| exact(&pattern)).collect()
        };
        Self {
            add: values(&change.add),
            remove: change
                .remove
                .iter()
                .filter_map(|e| e.parse().ok())
                .collect(),
            set: change.set.as_deref().map(values),
        }
    }

    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty() && self.set.is_none()
    }

    fn apply(
        &self,
        list: &mut Option<Vec<T>>,
        current: impl FnOnce() -> Vec<T>,
        matches: impl Fn(&P, &T) -> bool,
    ) {
        if self.is_empty() {
            return;
        }
        let list = list.get_or_insert_with(current);
        if let Some(set) = &self.set {
            list.clone_from(set);
        }
        list.retain(|value| !self.remove.iter().any(|pattern| matches(pattern, value)));
        list.extend_from_slice(&self.add);
    }
}

pub(super) fn exact_community(pattern: &CommunityPattern) -> Option<u32> {
    pattern.is_exact().then_some(pattern.value)
}

pub(super) fn exact_large(pattern: &LargeCommunityPattern) -> Option<LargeCommunity> {
    let [global, local1, local2] = pattern.parts;
    Some(LargeCommunity {
        global: global?,
        local1: local1?,
        local2: local2?,
    })
}

pub(super) fn exact_ext(pattern: &ExtCommunityPattern) -> Option<u64> {
    pattern.is_exact().then_some(pattern.value)
}

pub(super) fn large_matches(pattern: &LargeCommunityPattern, value: &LargeCommunity) -> bool {
    pattern.matches([value.global, value.local1, value.local2])
}

impl Edit {
    /// `None` when nothing is changed.
    pub(super) fn new(set: &PolicySet) -> Option<Self> {
        (!set.is_empty()).then(|| Self {
            local_pref: set.local_pref,
            med: set.med,
            prepend: set.prepend_as.map(|p| (p.as_number, p.count)),
            communities: ListEdit::new(&set.communities, exact_community),
            large: ListEdit::new(&set.large_communities, exact_large),
            ext: ListEdit::new(&set.extended_communities, exact_ext),
            next_hop: set.next_hop,
        })
    }
}

/// What a route that starts here says, with these changes; `None`: no more than that it starts here.
pub fn attributes_of(set: &PolicySet) -> Option<PathAttributes> {
    let plain = AttributeEditor::new(Origin::Igp).build();
    // Neither the family nor our AS has a part in what such a route may say.
    apply(Edit::new(set).iter(), &plain, Family::Ipv4Unicast, 0).attributes
}

/// Applies the changes of some rules, in their order.
pub(super) fn apply<'a>(
    edits: impl Iterator<Item = &'a Edit>,
    attributes: &PathAttributes,
    family: Family,
    local_as: u32,
) -> Changed {
    let mut editor: Option<AttributeEditor> = None;
    let (mut communities, mut large, mut ext) = (None, None, None);
    let (mut next_hop, mut sets_med) = (None, false);
    for edit in edits {
        let editor = editor.get_or_insert_with(|| attributes.edit());
        if edit.local_pref.is_some() {
            editor.set_local_pref(edit.local_pref);
        }
        if edit.med.is_some() {
            editor.set_med(edit.med);
            sets_med = true;
        }
        if let Some((asn, count)) = edit.prepend {
            editor.prepend_as(asn.unwrap_or(local_as), count);
        }
        edit.communities.apply(
            &mut communities,
            || attributes.communities().collect(),
            |pattern, value| pattern.matches(*value),
        );
        edit.large.apply(
            &mut large,
            || attributes.large_communities().collect(),
            large_matches,
        );
        edit.ext.apply(
            &mut ext,
            || {
                attributes
                    .ext_communities()
                    .map(u64::from_be_bytes)
                    .collect()
            },
            |pattern, value| pattern.matches(*value),
        );
        match edit.next_hop {
            // No IPv4 next hop can be sent with an IPv6 prefix.
            Some(NextHopChange::Address(address))
                if address.is_ipv4() && family == Family::Ipv6Unicast => {}
            Some(change) => next_hop = Some(change),
            None => {}
        }
    }
    let Some(mut editor) = editor else {
        return Changed::default();
    };
    if let Some(list) = communities {
        editor.set_communities(&list);
    }
    if let Some(list) = large {
        editor.set_large_communities(&list);
    }
    if let Some(list) = ext {
        let octets: Vec<[u8; 8]> = list.into_iter().map(u64::to_be_bytes).collect();
        editor.set_ext_communities(&octets);
    }
    let built = editor.build();
    Changed {
        attributes: (built != *attributes).then_some(built),
        next_hop,
        sets_med,
    }
}
