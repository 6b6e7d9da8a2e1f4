//! How many prefixes a session may carry, per family and direction, and what happens beyond.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::AddressFamily;
use crate::problem::Problems;

/// A bound for each family that has one.
pub type PrefixLimits = BTreeMap<AddressFamily, PrefixLimit>;

/// A bound on prefixes of one family in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrefixLimit {
    /// Most prefixes that are in order, at least 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: u32,
    /// Per cent of the limit at which to warn, 1–100; default 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    pub warn_percent: Option<u8>,
    /// What more than that does.
    pub action: LimitAction,
    /// With `idle`: seconds until the session may come back, at least 1; absent: not before the limit is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub restart_seconds: Option<u32>,
}

/// What a count above the limit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitAction {
    /// It is logged and reported, no more.
    Warn,
    /// The session ends (RFC 4486 §4).
    Idle,
}

impl PrefixLimit {
    /// Per cent of the limit at which a warning is due.
    pub fn warn_at_percent(&self) -> u8 {
        self.warn_percent.unwrap_or(75)
    }
}

/// Judges the limits at `path` of a peer with these families.
pub(crate) fn validate(
    limits: &PrefixLimits,
    families: &[AddressFamily],
    path: &str,
    problems: &mut Problems,
) {
    for (family, limit) in limits {
        let path = format!("{path}.{family}");
        if !families.contains(family) {
            problems.add(
                &path,
                format!("{family} is not one of this peer's families"),
            );
        }
        if limit.limit == 0 {
            problems.add(
                format!("{path}.limit"),
                "0 leaves nothing to exchange: use at least 1, or leave the family out of families",
            );
        }
        if let Some(percent) = limit.warn_percent
            && !(1..=100).contains(&percent)
        {
            problems.add(
                format!("{path}.warnPercent"),
                format!("{percent} is not a part of the limit: use 1 to 100"),
            );
        }
        match (limit.restart_seconds, limit.action) {
            (Some(_), LimitAction::Warn) => problems.add(
                format!("{path}.restartSeconds"),
                "is for action idle: with warn the session does not end",
            ),
            (Some(0), LimitAction::Idle) => problems.add(
                format!("{path}.restartSeconds"),
                "0 would reconnect without pause: use at least 1",
            ),
            _ => {}
        }
    }
}
