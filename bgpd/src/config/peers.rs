//! All peers of a router: what contradicts what, and which of them are listen ranges.

use std::collections::BTreeMap;

use bgp_core::policy::PolicySet;
use roadbed_api::Problems;
use roadbed_api::kinds::BgpPeerSpec;

use super::{Router, peer_config, relation};
use crate::range::RangeConfig;
use crate::speaker::PeerConfig;

/// Sessions that a range may have when its spec does not say.
const MAX_SESSIONS: u32 = 100;

/// Reports what of a peer contradicts the router that speaks with it: options for the other kind of session, and names
/// in `importPolicies` and `exportPolicies` that are neither declared nor built in.
pub fn contradictions(
    spec: &BgpPeerSpec,
    local_as: Option<u32>,
    policies: &PolicySet,
    path: &str,
    problems: &mut Problems,
) {
    if let Some(local_as) = local_as {
        relation::validate(spec, local_as, path, problems);
    }
    for (field, names) in [
        ("importPolicies", &spec.import_policies),
        ("exportPolicies", &spec.export_policies),
    ] {
        for (i, name) in names.iter().enumerate() {
            if let Err(unknown) = policies.chain(&[name])
                && !name.is_empty()
            {
                problems.add(format!("{path}.{field}[{i}]"), unknown.to_string());
            }
        }
    }
}

/// A peer that another one of the same router is in the way of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash<'a> {
    /// The one that gives way.
    pub peer: &'a str,
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
    /// It cannot run beside the other.
    pub excludes: bool,
}

/// Every clash among these peers, in their order; of two that want the same address or range, the first keeps it.
pub fn clashes<'a>(peers: &[(&'a str, &'a BgpPeerSpec)]) -> Vec<Clash<'a>> {
    let mut found = Vec::new();
    let mut addresses = BTreeMap::new();
    let mut ranges = BTreeMap::new();
    let mut taken = |peer, field, what: &dyn std::fmt::Display, by: Option<&str>| {
        if let Some(other) = by {
            found.push(Clash {
                peer,
                field,
                message: format!("{what} is that of peer \"{other}\" too: keep one"),
                excludes: true,
            });
        }
    };
    for &(name, spec) in peers {
        if let Some(address) = spec.address {
            let other = addresses.get(&address).copied();
            taken(name, "address", &address, other);
            addresses.entry(address).or_insert(name);
        }
        if let Some(range) = spec.listen_range {
            let other = ranges.get(&range).copied();
            taken(name, "listenRange", &range, other);
            ranges.entry(range).or_insert(name);
        }
    }
    for &(name, spec) in peers {
        let (Some(address), None) = (spec.address, &spec.password) else {
            continue;
        };
        let around = peers.iter().find(|(_, other)| {
            let inside = other.listen_range.is_some_and(|r| r.contains(&address));
            inside && other.password.is_some()
        });
        // The kernel would ask the peer for the key of the range.
        if let Some((range, _)) = around {
            found.push(Clash {
                peer: name,
                field: "password",
                message: format!(
                    "is missing: the address is inside the listenRange of peer \"{range}\", which has one"
                ),
                excludes: false,
            });
        }
    }
    found
}

/// Peers and listen ranges, resolved. Their specs are valid and do not exclude each other.
pub fn sessions<'a>(
    peers: impl IntoIterator<Item = (&'a str, &'a BgpPeerSpec)>,
    router: &Router<'_>,
) -> (BTreeMap<String, PeerConfig>, BTreeMap<String, RangeConfig>) {
    let (mut dialled, mut ranges) = (BTreeMap::new(), BTreeMap::new());
    for (name, spec) in peers {
        if let Some(range) = spec.listen_range {
            // Of no peer: each gets its own.
            let template = peer_config(name, range.network(), spec, router);
            ranges.insert(
                name.to_owned(),
                RangeConfig {
                    name: name.into(),
                    prefix: range,
                    max_sessions: max_sessions(spec),
                    template,
                },
            );
        } else if let Some(address) = spec.address {
            dialled.insert(name.to_owned(), peer_config(name, address, spec, router));
        }
    }
    (dialled, ranges)
}

fn max_sessions(spec: &BgpPeerSpec) -> usize {
    usize::try_from(spec.max_sessions.unwrap_or(MAX_SESSIONS)).unwrap_or(usize::MAX)
}
