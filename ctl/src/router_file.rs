//! The file of a standalone router, as far as route policies need it: `[bgp]` and `[policies.NAME]`. What else is in it, and
//! where a mistake is, `roadbed-bgpd --check` says.

use std::collections::BTreeMap;
use std::path::Path;

use roadbed_api::{Kind, Metadata, Object};
use serde::Deserialize;

use crate::error::CtlError;

/// Largest file taken, in bytes.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct RouterFile {
    bgp: Option<serde_json::Value>,
    #[serde(default)]
    policies: BTreeMap<String, serde_json::Value>,
}

/// Whether a path names such a file.
pub fn is_router_file(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "toml")
}

/// The resources that the file's tables are.
///
/// # Errors
/// A file that cannot be read or is no TOML, and policies that are wrong.
pub fn load(path: &Path) -> Result<Vec<Object>, CtlError> {
    let wrong = |reason: String| CtlError::File {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    if size.len() > MAX_BYTES {
        return Err(wrong(format!("is larger than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let file: RouterFile =
        toml::from_str(&text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
    let object = |kind, name: String, spec| Object {
        kind,
        metadata: Metadata {
            name,
            ..Metadata::default()
        },
        spec,
        status: None,
    };
    let bgp = file
        .bgp
        .map(|spec| object(Kind::BGPConfig, "default".to_owned(), spec));
    let policies = file.policies.into_iter();
    let policies: Vec<Object> = policies
        .map(|(name, spec)| object(Kind::BGPRoutePolicy, name, spec))
        .collect();
    let problems: Vec<String> = policies
        .iter()
        .filter_map(|policy| policy.validate().err())
        .map(|error| format!("{}: {error}", path.display()))
        .collect();
    match problems.is_empty() {
        true => Ok(bgp.into_iter().chain(policies).collect()),
        false => Err(CtlError::Refused(problems)),
    }
}
