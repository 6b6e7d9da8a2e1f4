//! From `BGPRoutePolicy` resources to what routes are evaluated with.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bgp_wire::{Family, LargeCommunity};
use roadbed_api::kinds::{
    AddressFamily, BgpRoutePolicySpec, CommunityPattern, DefaultAction, ExtCommunityPattern,
    LargeCommunityPattern, PolicyAction, PolicyMatch, PolicySource,
};
use roadbed_api::{Problems, Resource, Spec};

use super::Builtin;
use super::as_path::AsPathMatcher;
use super::chain::{Chain, Step};
use super::edit::{Edit, exact_community, exact_ext, exact_large};
use super::sets::{PrefixSet, ValueSet};

/// Compiled policies by name. Policies that equal those of an earlier set compare equal, so that an unchanged chain
/// stays the same chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    by_name: BTreeMap<Arc<str>, Arc<CompiledPolicy>>,
}

/// There is no route policy of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no route policy \"{}\": known are {}", name.escape_default(), known.join(", "))]
pub struct UnknownPolicy {
    /// The name asked for.
    pub name: String,
    /// Every name that there is.
    pub known: Vec<String>,
}

/// A route policy ready to be asked. Equality, order and hash are those of its name and spec.
pub struct CompiledPolicy {
    pub(super) name: Arc<str>,
    pub(super) rules: Box<[Rule]>,
    pub(super) default: DefaultAction,
    spec: BgpRoutePolicySpec,
}

pub(super) struct Rule {
    pub(super) name: Option<Arc<str>>,
    /// What the prefix decides; everything else is the same for all prefixes of one attribute set.
    pub(super) prefixes: Option<Box<PrefixSet>>,
    /// The cheap ones first.
    pub(super) conditions: Box<[Condition]>,
    pub(super) edit: Option<Edit>,
    pub(super) action: Option<PolicyAction>,
}

/// One condition on what is not the prefix.
pub(super) enum Condition {
    /// Per family, whether it is one of them.
    Families([bool; 2]),
    /// Bit n: the source `PolicySource::ALL[n]`.
    Sources(u8),
    Length(u16, u16),
    /// Sorted.
    Peers(Vec<Arc<str>>),
    NextHops(Box<PrefixSet>),
    Communities(ValueSet<u32, CommunityPattern>),
    Large(ValueSet<LargeCommunity, LargeCommunityPattern>),
    Ext(ValueSet<u64, ExtCommunityPattern>),
    AsPath(AsPathMatcher),
}

/// Validates and compiles policies.
///
/// # Errors
/// Every problem of every policy, each with the path `BGPRoutePolicy/NAME.spec...`.
pub fn compile(policies: &[Resource<BgpRoutePolicySpec>]) -> Result<PolicySet, Problems> {
    let mut problems = Problems::new();
    let mut by_name: BTreeMap<Arc<str>, &BgpRoutePolicySpec> = BTreeMap::new();
    for policy in policies {
        let path = format!("BGPRoutePolicy/{}", policy.name());
        policy.spec.validate(&format!("{path}.spec"), &mut problems);
        let name = policy.name();
        if Builtin::named(name).is_some() {
            let message = format!("\"{name}\" is a built-in route policy: choose another name");
            problems.add(format!("{path}.metadata.name"), message);
        }
        if by_name.insert(name.into(), &policy.spec).is_some() {
            problems.add(
                format!("{path}.metadata.name"),
                "is given twice: keep one of them",
            );
        }
    }
    problems.into_result()?;
    let compiled = by_name.into_iter().map(|(name, spec)| {
        let policy = CompiledPolicy::new(name.clone(), spec);
        (name, Arc::new(policy))
    });
    Ok(PolicySet {
        by_name: compiled.collect(),
    })
}

impl PolicySet {
    /// The policy of a name; built-in ones are not here.
    pub fn get(&self, name: &str) -> Option<&Arc<CompiledPolicy>> {
        self.by_name.get(name)
    }

    /// Every policy, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CompiledPolicy>> {
        self.by_name.values()
    }

    /// How many policies.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The chain that a peer's `importPolicies` or `exportPolicies` name, built-in policies included.
    ///
    /// # Errors
    /// A name that is neither declared nor built in.
    pub fn chain<N: AsRef<str>>(&self, names: &[N]) -> Result<Chain, UnknownPolicy> {
        let steps = names.iter().map(|name| {
            let name = name.as_ref();
            let declared = || self.get(name).cloned().map(Step::Named);
            let step = Builtin::named(name).map(Step::Builtin).or_else(declared);
            step.ok_or_else(|| UnknownPolicy {
                name: name.to_owned(),
                known: Builtin::ALL
                    .map(Builtin::as_str)
                    .into_iter()
                    .chain(self.by_name.keys().map(|name| &**name))
                    .map(str::to_owned)
                    .collect(),
            })
        });
        steps.collect::<Result<Vec<Step>, _>>().map(Chain::from)
    }
}

impl CompiledPolicy {
    /// Entries of a spec that cannot be read were refused by the validation.
    fn new(name: Arc<str>, spec: &BgpRoutePolicySpec) -> Self {
        let rules = spec.rules.iter().map(|rule| Rule {
            name: rule.name.as_deref().map(Arc::from),
            prefixes: rule
                .conditions
                .prefixes
                .as_deref()
                .map(|ranges| Box::new(PrefixSet::new(ranges))),
            conditions: conditions(&rule.conditions).into(),
            edit: Edit::new(&rule.changes),
            action: rule.action,
        });
        Self {
            name,
            rules: rules.collect(),
            default: spec.default_action,
            spec: spec.clone(),
        }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was compiled from.
    pub fn spec(&self) -> &BgpRoutePolicySpec {
        &self.spec
    }

    fn key(&self) -> (&str, &BgpRoutePolicySpec) {
        (&self.name, &self.spec)
    }
}

fn conditions(spec: &PolicyMatch) -> Vec<Condition> {
    fn parsed<P: std::str::FromStr>(list: &[String]) -> Vec<P> {
        list.iter().filter_map(|entry| entry.parse().ok()).collect()
    }
    let mut found = Vec::new();
    if let Some(families) = &spec.families {
        found.push(Condition::Families(Family::ALL.map(|family| {
            families.contains(&match family {
                Family::Ipv4Unicast => AddressFamily::Ipv4Unicast,
                Family::Ipv6Unicast => AddressFamily::Ipv6Unicast,
            })
        })));
    }
    if let Some(sources) = &spec.sources {
        let bits = sources.iter().map(|source| source_bit(*source));
        found.push(Condition::Sources(bits.fold(0, |all, bit| all | bit)));
    }
    if let Some(range) = spec.as_path_length {
        let (least, most) = (range.ge.unwrap_or(0), range.le.unwrap_or(u16::MAX));
        found.push(Condition::Length(least, most));
    }
    if let Some(peers) = &spec.peers {
        let mut peers: Vec<Arc<str>> = peers.iter().map(|peer| Arc::from(&**peer)).collect();
        peers.sort_unstable();
        found.push(Condition::Peers(peers));
    }
    if let Some(cidrs) = &spec.next_hops {
        found.push(Condition::NextHops(Box::new(PrefixSet::inside(cidrs))));
    }
    if let Some(list) = &spec.communities {
        let set = ValueSet::new(parsed(list), exact_community);
        found.push(Condition::Communities(set));
    }
    if let Some(list) = &spec.large_communities {
        found.push(Condition::Large(ValueSet::new(parsed(list), exact_large)));
    }
    if let Some(list) = &spec.extended_communities {
        found.push(Condition::Ext(ValueSet::new(parsed(list), exact_ext)));
    }
    if let Some(pattern) = &spec.as_path {
        // One that cannot be read matches no path.
        let matcher = pattern.parse().map(|pattern| AsPathMatcher::new(&pattern));
        found.push(Condition::AsPath(matcher.unwrap_or_default()));
    }
    found
}

/// The bit of a source in [`Condition::Sources`].
pub(super) fn source_bit(source: PolicySource) -> u8 {
    let position = PolicySource::ALL.iter().position(|s| *s == source);
    position.map_or(0, |position| 1 << position)
}

impl PartialEq for CompiledPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for CompiledPolicy {}

impl PartialOrd for CompiledPolicy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CompiledPolicy {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for CompiledPolicy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for CompiledPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompiledPolicy")
            .field(&self.name)
            .field(&self.spec)
            .finish()
    }
}
