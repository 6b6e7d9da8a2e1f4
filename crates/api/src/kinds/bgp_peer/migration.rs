//! Options of a peer while its side or ours is being moved: another AS, a drain, a shutdown.

use serde::{Deserialize, Serialize};

use super::BgpPeerSpec;
use crate::problem::Problems;

/// Longest Shutdown Communication, octets (RFC 9003 §2).
pub(super) const MAX_COMMUNICATION: usize = 255;

/// We have moved to another AS, and the peer has not been told (RFC 7705): the session has our former AS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AsMigration {
    /// Do not put the former AS in front of what the peer sends; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_prepend: bool,
    /// Send the former AS alone, without the real one behind it; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace_as: bool,
    /// Try the real AS when the peer refuses the former one, and the other way round; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dual_as: bool,
}

/// When a peer is sent a default route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DefaultOriginate {
    /// Always.
    Always,
    /// While a default route is used here.
    IfPresent,
}

pub(super) fn validate(spec: &BgpPeerSpec, path: &str, problems: &mut Problems) {
    if spec.as_migration.is_some() && spec.local_as_number.is_none() {
        problems.add(
            format!("{path}.asMigration"),
            "is about a former AS on this session: set localAsNumber to it",
        );
    }
    if let Some(text) = &spec.shutdown {
        let problem = if text.len() > MAX_COMMUNICATION {
            format!(
                "has {} octets: RFC 9003 allows {MAX_COMMUNICATION}",
                text.len()
            )
        } else if text.contains(char::is_control) {
            "has control characters: write plain words".to_owned()
        } else {
            String::new()
        };
        if !problem.is_empty() {
            problems.add(format!("{path}.shutdown"), problem);
        }
    }
    for family in spec.default_originate.keys() {
        if !spec.families.contains(family) {
            problems.add(
                format!("{path}.defaultOriginate.{family}"),
                format!("{family} is not one of this peer's families"),
            );
        }
    }
}
