//! Which values of a route policy are legal, and which of them contradict each other.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use ipnet::IpNet;

use super::{
    AsPathPattern, BgpRoutePolicySpec, CommunityPattern, ExtCommunityPattern,
    LargeCommunityPattern, LengthRange, ListChange, NextHopChange, PolicyAction, PolicyMatch,
    PolicyRule, PolicySet, PrefixRange,
};
use crate::kinds::AddressFamily;
use crate::kinds::bgp_config::validate_asn;
use crate::problem::Problems;

pub(super) const MAX_RULES: usize = 1000;
pub(super) const MAX_PREFIXES: usize = 10_000;
pub(super) const MAX_ENTRIES: usize = 1000;
pub(super) const MAX_NAME: usize = 63;
pub(super) const MAX_PREPEND: u8 = 32;

pub(super) fn policy(spec: &BgpRoutePolicySpec, path: &str, problems: &mut Problems) {
    let path = format!("{path}.rules");
    bounded(&spec.rules, MAX_RULES, &path, problems);
    let mut names = BTreeMap::new();
    let mut decided = None;
    for (i, rule) in spec.rules.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(first) = decided {
            problems.add(
                &path,
                format!("is never asked: rules[{first}] has no condition and decides every route"),
            );
        } else if rule.action.is_some() && rule.conditions.is_empty() {
            decided = Some(i);
        }
        if let Some(name) = &rule.name {
            let at = format!("{path}.name");
            if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control)
            {
                problems.add(at, format!("use 1 to {MAX_NAME} printable characters"));
            } else if let Some(first) = names.insert(name.as_str(), i) {
                problems.add(
                    at,
                    format!(
                        "\"{}\" is the name of rules[{first}] too",
                        name.escape_default()
                    ),
                );
            }
        }
        self::rule(rule, &path, problems);
    }
}

fn rule(rule: &PolicyRule, path: &str, problems: &mut Problems) {
    conditions(&rule.conditions, &format!("{path}.match"), problems);
    changes(&rule.changes, &format!("{path}.set"), problems);
    match (rule.action, rule.changes.is_empty()) {
        (None, true) => problems.add(
            path,
            "does nothing: give it an action (accept or reject), something to set, or both",
        ),
        (Some(PolicyAction::Reject), false) => problems.add(
            format!("{path}.set"),
            "a rejected route is not changed: leave it out or accept",
        ),
        _ => {}
    }
}

fn conditions(conditions: &PolicyMatch, path: &str, problems: &mut Problems) {
    let at = |field: &str| format!("{path}.{field}");
    if let Some(prefixes) = given(
        &conditions.prefixes,
        MAX_PREFIXES,
        &at("prefixes"),
        problems,
    ) {
        for (i, range) in prefixes.iter().enumerate() {
            prefix_range(range, &format!("{path}.prefixes[{i}]"), problems);
        }
    }
    if let Some(families) = given(&conditions.families, 2, &at("families"), problems)
        && let Some(prefixes) = &conditions.prefixes
    {
        for (i, range) in prefixes.iter().enumerate() {
            let family = match range.prefix {
                IpNet::V4(_) => AddressFamily::Ipv4Unicast,
                IpNet::V6(_) => AddressFamily::Ipv6Unicast,
            };
            if !families.contains(&family) {
                problems.add(
                    format!("{path}.prefixes[{i}].prefix"),
                    format!(
                        "{} never matches: {family} is not in families",
                        range.prefix
                    ),
                );
            }
        }
    }
    if let Some(pattern) = &conditions.as_path
        && let Err(error) = pattern.parse::<AsPathPattern>()
    {
        problems.add(at("asPath"), error.to_string());
    }
    if let Some(LengthRange { ge, le }) = conditions.as_path_length {
        match (ge, le) {
            (None, None) => problems.add(at("asPathLength"), "give ge, le or both"),
            (Some(ge), Some(le)) if ge > le => problems.add(
                at("asPathLength.ge"),
                format!("{ge} is more than le, {le}: no path is that long"),
            ),
            _ => {}
        }
    }
    if let Some(list) = given(
        &conditions.communities,
        MAX_ENTRIES,
        &at("communities"),
        problems,
    ) {
        patterns::<CommunityPattern>(list, &at("communities"), problems);
    }
    if let Some(list) = given(
        &conditions.large_communities,
        MAX_ENTRIES,
        &at("largeCommunities"),
        problems,
    ) {
        patterns::<LargeCommunityPattern>(list, &at("largeCommunities"), problems);
    }
    if let Some(list) = given(
        &conditions.extended_communities,
        MAX_ENTRIES,
        &at("extendedCommunities"),
        problems,
    ) {
        patterns::<ExtCommunityPattern>(list, &at("extendedCommunities"), problems);
    }
    if let Some(cidrs) = given(
        &conditions.next_hops,
        MAX_ENTRIES,
        &at("nextHops"),
        problems,
    ) {
        for (i, cidr) in cidrs.iter().enumerate() {
            host_bits(cidr, format!("{path}.nextHops[{i}]"), problems);
        }
    }
    if let Some(peers) = given(&conditions.peers, MAX_ENTRIES, &at("peers"), problems) {
        for (i, peer) in peers.iter().enumerate() {
            if peer.is_empty() {
                problems.add(
                    format!("{path}.peers[{i}]"),
                    "is empty: write the name of a peer",
                );
            }
        }
    }
    given(&conditions.sources, MAX_ENTRIES, &at("sources"), problems);
}

fn prefix_range(range: &PrefixRange, path: &str, problems: &mut Problems) {
    let PrefixRange { prefix, ge, le } = range;
    host_bits(prefix, format!("{path}.prefix"), problems);
    let (own, longest) = (prefix.prefix_len(), prefix.max_prefix_len());
    let mut out_of_range = false;
    for (field, value) in [("ge", ge), ("le", le)] {
        if let Some(value) = value.filter(|v| !(own..=longest).contains(v)) {
            out_of_range = true;
            problems.add(
                format!("{path}.{field}"),
                format!("/{value} is out of range: inside {prefix} there are /{own} to /{longest}"),
            );
        }
    }
    if let (Some(ge), Some(le), false) = (ge, le, out_of_range)
        && ge > le
    {
        problems.add(
            format!("{path}.ge"),
            format!("/{ge} is longer than le, /{le}: no prefix matches"),
        );
    }
}

pub(crate) fn changes(set: &PolicySet, path: &str, problems: &mut Problems) {
    let at = |field: &str| format!("{path}.{field}");
    if let Some(prepend) = set.prepend_as {
        if let Some(asn) = prepend.as_number {
            validate_asn(asn, &at("prependAs.asNumber"), problems);
        }
        if !(1..=MAX_PREPEND).contains(&prepend.count) {
            problems.add(
                at("prependAs.count"),
                format!("{} is out of range: use 1 to {MAX_PREPEND}", prepend.count),
            );
        }
    }
    list::<CommunityPattern>(
        &set.communities,
        CommunityPattern::is_exact,
        &at("communities"),
        problems,
    );
    list::<LargeCommunityPattern>(
        &set.large_communities,
        LargeCommunityPattern::is_exact,
        &at("largeCommunities"),
        problems,
    );
    list::<ExtCommunityPattern>(
        &set.extended_communities,
        ExtCommunityPattern::is_exact,
        &at("extendedCommunities"),
        problems,
    );
    if let Some(NextHopChange::Address(address)) = set.next_hop
        && (address.is_unspecified() || address.is_multicast() || address.is_loopback())
    {
        problems.add(
            at("nextHop"),
            format!("{address} is not an address that packets can be sent to"),
        );
    }
}

fn list<P: FromStr<Err: Display>>(
    change: &ListChange,
    is_exact: impl Fn(&P) -> bool,
    path: &str,
    problems: &mut Problems,
) {
    let set = change.set.as_deref().unwrap_or_default();
    for (field, entries) in [("add", &change.add[..]), ("set", set)] {
        let at = format!("{path}.{field}");
        bounded(entries, MAX_ENTRIES, &at, problems);
        for (i, pattern) in patterns::<P>(entries, &at, problems) {
            if !is_exact(&pattern) {
                problems.add(
                    format!("{at}[{i}]"),
                    format!(
                        "{} names many: only match and remove may have *",
                        entries[i].escape_default()
                    ),
                );
            }
        }
    }
    let at = format!("{path}.remove");
    bounded(&change.remove, MAX_ENTRIES, &at, problems);
    patterns::<P>(&change.remove, &at, problems);
    if change.set.is_some() && !(change.add.is_empty() && change.remove.is_empty()) {
        problems.add(
            format!("{path}.set"),
            "replaces all communities: write add and remove without it, or put all into it",
        );
    }
}

/// The patterns that can be read, each with its position.
fn patterns<P: FromStr<Err: Display>>(
    entries: &[String],
    path: &str,
    problems: &mut Problems,
) -> Vec<(usize, P)> {
    let mut found = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        match entry.parse() {
            Ok(pattern) => found.push((i, pattern)),
            Err(error) => problems.add(
                format!("{path}[{i}]"),
                format!("\"{}\" {error}", entry.escape_default()),
            ),
        }
    }
    found
}

fn host_bits(cidr: &IpNet, path: String, problems: &mut Problems) {
    if *cidr != cidr.trunc() {
        problems.add(
            path,
            format!("{cidr} has host bits set: write {}", cidr.trunc()),
        );
    }
}

fn bounded<T>(entries: &[T], most: usize, path: &str, problems: &mut Problems) {
    if entries.len() > most {
        problems.add(
            path,
            format!("has {} entries: at most {most}", entries.len()),
        );
    }
}

/// A list condition that is given. An empty one would never hold, which nobody means.
fn given<'a, T>(
    list: &'a Option<Vec<T>>,
    most: usize,
    path: &str,
    problems: &mut Problems,
) -> Option<&'a [T]> {
    let list = list.as_deref()?;
    if list.is_empty() {
        problems.add(
            path,
            "is empty and would match no route: leave it out to match every route",
        );
    }
    bounded(list, most, path, problems);
    Some(list)
}
