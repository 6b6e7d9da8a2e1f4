//! What a speaker announces of its own accord: routes that are declared, and aggregates of others.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::bgp_route_policy::{PolicySet, validate_changes};
use crate::problem::Problems;

/// Most aggregates of one speaker.
pub(super) const MAX_AGGREGATES: usize = 1000;
/// Most declared routes of one speaker.
const MAX_ANNOUNCEMENTS: usize = 100_000;

/// One route in place of many more specific ones (RFC 4271 §9.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BgpAggregate {
    /// Announced while a more specific prefix is known.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Cidr"))]
    pub prefix: IpNet,
    /// More specific prefixes are not announced to anybody; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub summary_only: bool,
}

/// A route that is announced whatever happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpAnnouncement {
    /// The destination.
    pub prefix: IpNet,
    /// What the route says: LOCAL_PREF, MED and communities, as a route policy sets them.
    #[serde(default, skip_serializing_if = "PolicySet::is_empty")]
    pub set: PolicySet,
}

/// Judges the aggregates at `path`.
pub(crate) fn validate_aggregates(list: &[BgpAggregate], path: &str, problems: &mut Problems) {
    let prefixes = list.iter().map(|aggregate| aggregate.prefix);
    validate_prefixes(prefixes, MAX_AGGREGATES, path, problems);
}

impl BgpAnnouncement {
    /// Judges the routes at `path`.
    pub fn validate_all(list: &[BgpAnnouncement], path: &str, problems: &mut Problems) {
        let prefixes = list.iter().map(|route| route.prefix);
        validate_prefixes(prefixes, MAX_ANNOUNCEMENTS, path, problems);
        for (i, route) in list.iter().enumerate() {
            let set = &route.set;
            let path = format!("{path}[{i}].set");
            validate_changes(set, &path, problems);
            let lists = [
                ("communities", &set.communities),
                ("largeCommunities", &set.large_communities),
                ("extendedCommunities", &set.extended_communities),
            ];
            let removing = lists
                .iter()
                .filter(|(_, change)| !change.remove.is_empty())
                .map(|(name, _)| format!("{name}.remove"));
            let others = [
                ("prependAs", set.prepend_as.is_some()),
                ("nextHop", set.next_hop.is_some()),
            ];
            let others = others.iter().filter(|(_, given)| *given);
            for field in removing.chain(others.map(|(name, _)| (*name).to_owned())) {
                problems.add(
                    format!("{path}.{field}"),
                    "has no meaning for a route that starts here: remove it, or use an export policy",
                );
            }
        }
    }
}

fn validate_prefixes(
    prefixes: impl ExactSizeIterator<Item = IpNet>,
    most: usize,
    path: &str,
    problems: &mut Problems,
) {
    if prefixes.len() > most {
        problems.add(
            path,
            format!("has {} entries: use at most {most}", prefixes.len()),
        );
        return;
    }
    let mut seen = BTreeMap::new();
    for (i, prefix) in prefixes.enumerate() {
        let path = format!("{path}[{i}].prefix");
        if prefix != prefix.trunc() {
            problems.add(
                &path,
                format!("{prefix} has host bits set: write {}", prefix.trunc()),
            );
        }
        if let Some(first) = seen.insert(prefix.trunc(), i) {
            problems.add(
                &path,
                format!("{prefix} is that of entry {first} too: keep one"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value, expected: &[&str]) {
        let list: Vec<BgpAnnouncement> = serde_json::from_value(json).unwrap();
        let mut problems = Problems::new();
        BgpAnnouncement::validate_all(&list, "a", &mut problems);
        let found: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn declared_routes() {
        let set =
            serde_json::json!({"med": 5, "localPref": 7, "communities": {"set": ["65000:1"]}});
        check(
            serde_json::json!([{"prefix": "10.0.0.0/8", "set": set}, {"prefix": "::/0"}]),
            &[],
        );
        check(
            serde_json::json!([{"prefix": "10.0.0.1/8"}]),
            &["a[0].prefix"],
        );
        let twice = serde_json::json!([{"prefix": "10.0.0.0/8"}, {"prefix": "10.0.0.0/8"}]);
        check(twice, &["a[1].prefix"]);
        let set = serde_json::json!({"nextHop": "self", "communities": {"remove": ["1:1"]}});
        check(
            serde_json::json!([{"prefix": "10.0.0.0/8", "set": set}]),
            &["a[0].set.communities.remove", "a[0].set.nextHop"],
        );
        let set = serde_json::json!({"communities": {"add": ["65000:*"]}});
        check(
            serde_json::json!([{"prefix": "10.0.0.0/8", "set": set}]),
            &["a[0].set.communities.add[0]"],
        );
    }
}
