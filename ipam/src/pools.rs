//! Pools as a node sees them: which may be cut, and why the others may not.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use roadbed_api::resource::Spec;
use roadbed_api::{Condition, IpPoolSpec, Problems, Resource, Timestamp};

use crate::family::{Family, overlap};

/// Type of the condition on a pool that yields to an older one.
pub const OVERLAPS: &str = "Overlaps";

/// A pool, resolved for one node.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    /// The pool's name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// Prefix length of its blocks.
    pub block_len: u8,
    /// Whether this node may claim blocks and hand out addresses.
    pub usable: Result<(), PoolProblem>,
}

impl PoolView {
    /// Whether a block is one that this pool, as it is now, would be cut into.
    pub fn cuts(&self, block: &IpNet) -> bool {
        block.prefix_len() == self.block_len && self.cidr.contains(block)
    }
}

/// Why a pool is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolProblem {
    /// The spec is not legal.
    Invalid(Problems),
    /// An older pool covers part of it; for every node.
    Overlaps {
        /// The older pool.
        other: String,
        /// Its range.
        cidr: IpNet,
    },
    /// Somebody disabled it.
    Disabled,
    /// Its node selector does not match this node.
    NotSelected,
}

impl fmt::Display for PoolProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => write!(f, "invalid: {problems}"),
            Self::Overlaps { other, cidr } => write!(
                f,
                "overlaps the older pool {other} ({cidr}): no block is cut from it until one of the two is deleted"
            ),
            Self::Disabled => f.write_str("disabled"),
            Self::NotSelected => f.write_str("its nodeSelector does not match this node"),
        }
    }
}

/// Resolves all pools for a node with these labels, in the order of their names.
///
/// Of two pools that overlap, the older one (creation, then name) is used, by every node; the younger one yields even
/// when the older is disabled or yields itself, so that deleting a pool never makes two others overlap.
pub fn resolve(
    pools: &[Resource<IpPoolSpec>],
    node_labels: &BTreeMap<String, String>,
) -> Vec<PoolView> {
    let mut by_age: Vec<&Resource<IpPoolSpec>> = pools.iter().collect();
    by_age.sort_by_key(|pool| age(pool));
    let mut valid: Vec<&Resource<IpPoolSpec>> = Vec::new();
    let mut views: Vec<PoolView> = Vec::with_capacity(pools.len());
    for pool in by_age {
        let usable = match problems_of(pool).into_result() {
            Err(problems) => Err(PoolProblem::Invalid(problems)),
            Ok(()) => {
                let older = valid
                    .iter()
                    .find(|o| overlap(&o.spec.cidr, &pool.spec.cidr));
                let selected = pool.spec.node_selector.as_ref();
                let usable = match older {
                    Some(older) => Err(PoolProblem::Overlaps {
                        other: older.name().to_owned(),
                        cidr: older.spec.cidr,
                    }),
                    None if pool.spec.disabled => Err(PoolProblem::Disabled),
                    None if selected.is_some_and(|s| !s.matches(node_labels)) => {
                        Err(PoolProblem::NotSelected)
                    }
                    None => Ok(()),
                };
                valid.push(pool);
                usable
            }
        };
        views.push(PoolView {
            name: pool.name().to_owned(),
            cidr: pool.spec.cidr,
            block_len: pool.spec.block_prefix_len(),
            usable,
        });
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

/// The families that a pod of this node gets an address of: those with a usable pool.
pub fn families(pools: &[PoolView]) -> Vec<Family> {
    [Family::V4, Family::V6]
        .into_iter()
        .filter(|f| {
            pools
                .iter()
                .any(|p| p.usable.is_ok() && Family::of(&p.cidr) == *f)
        })
        .collect()
}

/// The conditions that a pool's status should have; `None` when they are there already.
///
/// Every node comes to the same answer, so it does not matter who writes it. Other conditions are kept.
pub fn conditions(
    pool: &Resource<IpPoolSpec>,
    view: &PoolView,
    now: &Timestamp,
) -> Option<Vec<Condition>> {
    let (status, reason, message) = match &view.usable {
        Err(problem @ PoolProblem::Overlaps { .. }) => ("True", "OlderPool", problem.to_string()),
        _ => (
            "False",
            "NoOverlap",
            "no older pool covers part of this one".to_owned(),
        ),
    };
    let old = pool.status.conditions.iter().find(|c| c.r#type == OVERLAPS);
    let since = match old {
        Some(old) if old.status == status && old.message == message && old.reason == reason => {
            return None;
        }
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => now.clone(),
    };
    let new = Condition {
        r#type: OVERLAPS.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
    };
    let others = pool
        .status
        .conditions
        .iter()
        .filter(|c| c.r#type != OVERLAPS);
    Some(others.cloned().chain([new]).collect())
}

/// What is wrong with storing this pool beside the existing ones; for whoever writes pools.
///
/// The pool of the same name, if there is one, is what gets replaced: range and block size must stay.
pub fn check_new_pool(existing: &[Resource<IpPoolSpec>], new: &Resource<IpPoolSpec>) -> Problems {
    let mut problems = problems_of(new);
    for pool in existing {
        if pool.name() == new.name() {
            if pool.spec.cidr != new.spec.cidr {
                problems.add(
                    "spec.cidr",
                    format!(
                        "cannot change from {} to {}: blocks are cut from it; make another pool",
                        pool.spec.cidr, new.spec.cidr
                    ),
                );
            } else if pool.spec.block_prefix_len() != new.spec.block_prefix_len() {
                problems.add(
                    "spec.blockSize",
                    format!(
                        "cannot change from {} to {}: blocks are cut by it; make another pool",
                        pool.spec.block_prefix_len(),
                        new.spec.block_prefix_len()
                    ),
                );
            }
        } else if overlap(&pool.spec.cidr, &new.spec.cidr) {
            problems.add(
                "spec.cidr",
                format!(
                    "{} overlaps {} of IPPool/{}: choose a range outside of it",
                    new.spec.cidr,
                    pool.spec.cidr,
                    pool.name()
                ),
            );
        }
    }
    problems
}

fn problems_of(pool: &Resource<IpPoolSpec>) -> Problems {
    let mut problems = Problems::new();
    pool.metadata.validate(&mut problems);
    pool.spec.validate("spec", &mut problems);
    problems
}

/// Sorts the oldest first; a pool that no store has seen yet is the youngest.
fn age(pool: &Resource<IpPoolSpec>) -> (bool, Option<Timestamp>, String) {
    let created = pool.metadata.creation_timestamp.clone();
    (created.is_none(), created, pool.name().to_owned())
}

#[cfg(test)]
mod tests;
