//! ADD-PATH of a peer (RFC 7911): several paths per prefix, from it and to it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::BgpPeerSpec;
use crate::problem::Problems;

/// Most paths of a prefix that may be picked one by one: nobody forwards over more.
const MAX_BEST: u8 = 16;

/// What to offer for one family. Each direction is in force only if the peer wants the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddPath {
    /// Take several paths per prefix; default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receive: bool,
    /// Which paths the peer is sent; default `none`, which is the best one without an identifier.
    #[serde(default, skip_serializing_if = "SendPaths::is_none")]
    pub send: SendPaths,
}

/// Which paths of a prefix a peer is sent: `none`, `all`, `best-N` with N from 1 to 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SendPaths {
    /// No ADD-PATH.
    #[default]
    None,
    /// The best ones, this many.
    Best(u8),
    /// Every path that may be used.
    All,
}

/// Not a selection of paths.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{0}\" is no selection of paths: write none, all, or best-N with N from 1 to {MAX_BEST}")]
pub struct SendPathsError(String);

impl SendPaths {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_none(&self) -> bool {
        *self == SendPaths::None
    }
}

impl fmt::Display for SendPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendPaths::None => f.write_str("none"),
            SendPaths::Best(count) => write!(f, "best-{count}"),
            SendPaths::All => f.write_str("all"),
        }
    }
}

impl From<SendPaths> for String {
    fn from(paths: SendPaths) -> Self {
        paths.to_string()
    }
}

impl TryFrom<String> for SendPaths {
    type Error = SendPathsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let count = text.strip_prefix("best-").map(str::parse::<u8>);
        let paths = match (text.as_str(), count) {
            ("none", _) => SendPaths::None,
            ("all", _) => SendPaths::All,
            (_, Some(Ok(count @ 1..=MAX_BEST))) => SendPaths::Best(count),
            _ => return Err(SendPathsError(text)),
        };
        // One way to write each: not best-02, not best-+2.
        if paths.to_string() == text {
            Ok(paths)
        } else {
            Err(SendPathsError(text))
        }
    }
}

pub(super) fn validate(spec: &BgpPeerSpec, path: &str, problems: &mut Problems) {
    for family in spec.add_path.keys() {
        if !spec.families.contains(family) {
            problems.add(
                format!("{path}.addPath.{family}"),
                format!("{family} is not one of this peer's families"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_have_one_spelling() {
        let read = |text: &str| SendPaths::try_from(text.to_owned());
        for (text, paths) in [
            ("none", SendPaths::None),
            ("all", SendPaths::All),
            ("best-1", SendPaths::Best(1)),
            ("best-16", SendPaths::Best(16)),
        ] {
            assert_eq!(read(text), Ok(paths));
            assert_eq!(String::from(paths), text);
        }
        for wrong in [
            "", "ALL", "best", "best-", "best-0", "best-17", "best-02", "best-+2", "best-300",
            "best--1",
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("best-N"), "{error}");
        }
    }

    #[test]
    fn what_is_not_said_is_off() {
        let read = |json: &str| serde_json::from_str::<AddPath>(json);
        assert_eq!(read("{}").unwrap(), AddPath::default());
        let both = AddPath {
            receive: true,
            send: SendPaths::Best(2),
        };
        let text = r#"{"receive":true,"send":"best-2"}"#;
        assert_eq!(read(text).unwrap(), both);
        assert_eq!(serde_json::to_string(&both).unwrap(), text);
        assert!(read(r#"{"sends":"all"}"#).is_err());
        assert!(read(r#"{"send":"best-99"}"#).is_err());
    }
}
