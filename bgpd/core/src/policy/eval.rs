//! Evaluation of one policy, in two parts: what only the attributes decide, the same for every prefix that shares them
//! and so worth remembering, and the rest, a few trie look-ups per prefix.

use std::net::IpAddr;
use std::sync::Arc;

use bgp_wire::{Family, NextHop, PathAttributes};
use ipnet::IpNet;
use roadbed_api::kinds::{DefaultAction, PolicyAction, PolicySource};
use smallvec::SmallVec;

use super::compile::{CompiledPolicy, Condition, Rule, source_bit};
use super::edit::{Changed, large_matches};
use super::{DecidedBy, RouteSource, edit};

/// A route without its prefix.
#[derive(Clone, Copy, Debug)]
pub struct AttributeView<'a> {
    /// The attributes as they came.
    pub attributes: &'a PathAttributes,
    /// The next hop as it came; own routes have none.
    pub next_hop: Option<NextHop>,
    /// The peer that the route was received from; own routes have none.
    pub peer: Option<&'a str>,
    /// Where the route comes from.
    pub source: PolicySource,
    /// The route's family.
    pub family: Family,
    /// Our AS towards the peer that the policy belongs to: what `prependAs` puts in without an AS of its own.
    pub local_as: u32,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct RouteView<'a> {
    /// The prefix, of the family that `route` says.
    pub prefix: IpNet,
    /// All but the prefix.
    pub route: AttributeView<'a>,
}

/// Which rules can still apply, whatever the prefix is. Good for every prefix with the same [`AttributeView`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeVerdict {
    /// Rules of which the conditions hold but for the prefix, in order, up to the first that decides every prefix.
    candidates: SmallVec<[u16; 8]>,
}

/// What a policy says of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// A rule decides.
    Rule(PolicyAction, u16),
    /// No rule decides: the policy's `defaultAction`.
    Default(DefaultAction),
}

/// What becomes of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it passes, and what is changed of it.
    pub decision: Decision,
    /// Who says so.
    pub by: DecidedBy,
}

/// Whether a route passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does, with these changes.
    Accept(Changed),
    /// It does not.
    Reject,
}

impl From<RouteSource> for PolicySource {
    fn from(source: RouteSource) -> Self {
        match source {
            RouteSource::OwnBlock => PolicySource::OwnBlock,
            RouteSource::Node => PolicySource::Node,
            RouteSource::Static => PolicySource::Static,
            RouteSource::Learned => PolicySource::Learned,
        }
    }
}

impl CompiledPolicy {
    /// The part that the attributes decide.
    pub fn attribute_part(&self, route: &AttributeView<'_>) -> AttributeVerdict {
        let mut verdict = AttributeVerdict::default();
        for (index, rule) in (0u16..).zip(&self.rules) {
            if !rule
                .conditions
                .iter()
                .all(|condition| condition.holds(route))
            {
                continue;
            }
            verdict.candidates.push(index);
            if rule.prefixes.is_none() && rule.action.is_some() {
                break;
            }
        }
        verdict
    }

    /// The rest for one prefix: who decides. `applied` is called with the index of each rule that changes something.
    pub fn finish(
        &self,
        verdict: &AttributeVerdict,
        prefix: &IpNet,
        mut applied: impl FnMut(u16),
    ) -> Ruling {
        for &index in &verdict.candidates {
            let Some(rule) = self.rules.get(usize::from(index)) else {
                continue;
            };
            if !rule
                .prefixes
                .as_ref()
                .is_none_or(|set| set.contains(prefix))
            {
                continue;
            }
            if rule.edit.is_some() {
                applied(index);
            }
            if let Some(action) = rule.action {
                return Ruling::Rule(action, index);
            }
        }
        Ruling::Default(self.default)
    }

    /// Evaluates a route by this policy alone; `defaultAction: next` rejects, as no policy follows.
    pub fn evaluate(&self, route: &RouteView<'_>) -> Outcome {
        let verdict = self.attribute_part(&route.route);
        let mut applied: SmallVec<[u16; 8]> = SmallVec::new();
        let ruling = self.finish(&verdict, &route.prefix, |index| applied.push(index));
        let by = self.decided_by(ruling);
        let accepted = matches!(
            ruling,
            Ruling::Rule(PolicyAction::Accept, _) | Ruling::Default(DefaultAction::Accept)
        );
        let decision = match accepted {
            false => Decision::Reject,
            true => {
                let view = &route.route;
                let edits = applied.iter().filter_map(|index| self.edit(*index));
                let changed = edit::apply(edits, view.attributes, view.family, view.local_as);
                Decision::Accept(changed)
            }
        };
        Outcome { decision, by }
    }

    pub(super) fn edit(&self, index: u16) -> Option<&edit::Edit> {
        self.rules.get(usize::from(index))?.edit.as_ref()
    }

    pub(super) fn decided_by(&self, ruling: Ruling) -> DecidedBy {
        let policy = self.name.clone();
        match ruling {
            Ruling::Rule(_, index) => {
                let rule: Option<&Rule> = self.rules.get(usize::from(index));
                let name: Option<Arc<str>> = rule.and_then(|rule| rule.name.clone());
                DecidedBy::Rule {
                    policy,
                    index,
                    name,
                }
            }
            Ruling::Default(_) => DecidedBy::DefaultAction { policy },
        }
    }
}

impl Condition {
    fn holds(&self, route: &AttributeView<'_>) -> bool {
        let attributes = route.attributes;
        match self {
            Condition::Families(families) => route.family.pick(*families),
            Condition::Sources(bits) => bits & source_bit(route.source) != 0,
            Condition::Length(least, most) => {
                (*least..=*most).contains(&attributes.hot().as_path_len)
            }
            Condition::Peers(peers) => route
                .peer
                .is_some_and(|peer| peers.binary_search_by(|name| (**name).cmp(peer)).is_ok()),
            Condition::NextHops(set) => route
                .next_hop
                .is_some_and(|next_hop| set.contains_address(address(next_hop))),
            Condition::Communities(set) => attributes
                .communities()
                .any(|value| set.has(&value, |pattern, value| pattern.matches(*value))),
            Condition::Large(set) => attributes
                .large_communities()
                .any(|value| set.has(&value, large_matches)),
            Condition::Ext(set) => attributes
                .ext_communities()
                .map(u64::from_be_bytes)
                .any(|value| set.has(&value, |pattern, value| pattern.matches(*value))),
            Condition::AsPath(matcher) => matcher.matches(attributes.as_path()),
        }
    }
}

/// The address that `nextHops` looks at: of IPv6 the global one, where there is one.
fn address(next_hop: NextHop) -> IpAddr {
    match next_hop {
        NextHop::V4(address) => address.into(),
        NextHop::V6 {
            global,
            link_local: Some(link_local),
        } if global.is_unspecified() => link_local.into(),
        NextHop::V6 { global, .. } => global.into(),
    }
}

#[cfg(test)]
mod tests;
