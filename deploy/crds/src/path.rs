//! Places in a schema, written as people write the path of a field.

use serde_json::Value;

/// No field is there.
#[derive(Debug, thiserror::Error)]
#[error("no field {part} on the way to {path}")]
pub struct PathError {
    /// The whole path.
    pub path: String,
    /// Where it ends.
    pub part: String,
}

/// The schema of a field: `spec.rules[].name`, and `spec.bmp{}.port` below the values of a map. Nothing is the object.
pub(crate) fn at<'a>(root: &'a mut Value, path: &str) -> Result<&'a mut Value, PathError> {
    let mut node = root;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, below) = match (part.strip_suffix("[]"), part.strip_suffix("{}")) {
            (Some(name), _) => (name, Some("items")),
            (_, Some(name)) => (name, Some("additionalProperties")),
            _ => (part, None),
        };
        let child = node.get_mut("properties").and_then(|all| all.get_mut(name));
        let child = match below {
            Some(below) => child.and_then(|child| child.get_mut(below)),
            None => child,
        };
        node = child.ok_or_else(|| PathError {
            path: path.to_owned(),
            part: part.to_owned(),
        })?;
    }
    Ok(node)
}
