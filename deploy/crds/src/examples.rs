//! For each rule an object that it refuses, and what is said of it; for each kind objects that are accepted.
//!
//! Data, for tests of all who judge: `Object::validate`, `roadbedctl apply`, and an API server.

mod accepted;
mod blocks;
mod config;
mod peer;
mod policy;

use roadbed_api::names::API_VERSION;
use roadbed_api::{Kind, Metadata, Object};
use serde_json::{Value, json};

pub use accepted::accepted;

/// An object that is refused.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its kind.
    pub kind: Kind,
    /// What is stored under its name when it comes; `None`: nothing, and it is refused as a new object.
    pub before: Option<Value>,
    /// The object as a whole.
    pub object: Value,
    /// The field that is at fault, as our validation names it. An API server writes keys of maps as `bmp[noc]`, and
    /// names no field for `metadata.name`.
    pub path: &'static str,
    /// What is said of the field.
    pub message: &'static str,
}

/// All examples of what is refused.
pub fn refused() -> Vec<Example> {
    let mut examples = blocks::pool();
    examples.extend(blocks::block());
    examples.extend(peer::examples());
    examples.extend(config::examples());
    examples.extend(policy::examples());
    examples
}

/// A whole object as a store has it.
///
/// # Panics
/// When the document is none of this module's.
pub fn to_object(kind: Kind, document: &Value) -> Object {
    let name = document["metadata"]["name"].as_str();
    Object {
        kind,
        metadata: Metadata::named(name.expect("examples have a name")),
        spec: document["spec"].clone(),
        status: None,
    }
}

/// A new object, refused for a field. `patch` (RFC 7396) makes its spec from `spec`.
fn new(
    spec: &Value,
    kind: Kind,
    path: &'static str,
    patch: Value,
    message: &'static str,
) -> Example {
    Example {
        kind,
        before: None,
        object: document(kind, "example", &patched(spec, &patch)),
        path,
        message,
    }
}

fn document(kind: Kind, name: &str, spec: &Value) -> Value {
    let name = if kind == Kind::BGPConfig && name == "example" {
        "default"
    } else {
        name
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": kind.as_str(),
        "metadata": { "name": name },
        "spec": spec,
    })
}

fn patched(value: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut result = value.as_object().cloned().unwrap_or_default();
    for (key, change) in patch {
        if change.is_null() {
            result.remove(key);
        } else {
            let old = result.get(key).cloned().unwrap_or(Value::Null);
            result.insert(key.clone(), patched(&old, change));
        }
    }
    Value::Object(result)
}
