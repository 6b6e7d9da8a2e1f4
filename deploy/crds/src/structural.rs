//! From JSON Schema to the structural schemas that Kubernetes takes.
//!
//! What has no counterpart there is said another way (an optional value, an enum with a doc comment at each value) or is
//! refused; nothing is left out in silence but defaults: the API server would write them into every object, and a
//! spec keeps apart what is absent and what equals a default.

use serde_json::{Map, Value, json};

/// A schema that has no structural form.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct NotStructural {
    /// Where it stands, as a JSON pointer.
    pub path: String,
    /// What is in the way.
    pub why: String,
}

/// Keywords that are kept as they are.
const KEPT: [&str; 11] = [
    "enum",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "required",
    "type",
    "x-kubernetes-int-or-string",
];
/// Keywords that say nothing to the API server.
const DROPPED: [&str; 3] = ["$schema", "title", "default"];

/// The structural form of a schema without references.
pub(crate) fn structural(schema: Value) -> Result<Value, NotStructural> {
    node(schema, "")
}

fn node(schema: Value, path: &str) -> Result<Value, NotStructural> {
    let refuse = |why: String| {
        Err(NotStructural {
            path: path.to_owned(),
            why,
        })
    };
    let Value::Object(schema) = schema else {
        return refuse(format!("is {schema}, not an object"));
    };
    let mut from = named_values(optional(schema));
    let mut to = Map::new();
    for keyword in KEPT {
        if let Some(value) = from.remove(keyword) {
            to.insert(keyword.to_owned(), value);
        }
    }
    for keyword in DROPPED {
        from.remove(keyword);
    }
    for (keyword, value) in from {
        match (keyword.as_str(), value) {
            ("description", Value::String(text)) => {
                to.insert(keyword, json!(prose(&text)));
            }
            ("format", Value::String(format)) => number_format(&mut to, &format),
            ("properties", Value::Object(properties)) => {
                let mut kept = Map::new();
                for (name, property) in properties {
                    let property = node(property, &format!("{path}/properties/{name}"))?;
                    kept.insert(name, property);
                }
                to.insert(keyword, Value::Object(kept));
            }
            // Unknown fields are the API server's own business: it prunes them, or refuses when asked to be strict.
            ("additionalProperties", Value::Bool(false)) => {}
            ("items" | "additionalProperties", value) => {
                let below = node(value, &format!("{path}/{keyword}"))?;
                to.insert(keyword, below);
            }
            (keyword, value) => return refuse(format!("{keyword}: {value} has no counterpart")),
        }
    }
    Ok(Value::Object(to))
}

/// A value that may be absent: without the null that JSON has for it.
fn optional(mut schema: Map<String, Value>) -> Map<String, Value> {
    let is_null = |s: &Value| s.get("type") == Some(&json!("null"));
    if let Some(Value::Array(either)) = schema.get_mut("anyOf") {
        either.retain(|s| !is_null(s));
        if let [Value::Object(only)] = &mut either[..] {
            let only = std::mem::take(only);
            schema.remove("anyOf");
            for (keyword, value) in only {
                schema.entry(keyword).or_insert(value);
            }
        }
    }
    for keyword in ["type", "enum"] {
        if let Some(Value::Array(values)) = schema.get_mut(keyword) {
            values.retain(|v| !v.is_null() && *v != json!("null"));
        }
    }
    if let Some(Value::Array(types)) = schema.get("type")
        && let [only] = &types[..]
    {
        let only = only.clone();
        schema.insert("type".to_owned(), only);
    }
    schema
}

/// Values with a doc comment each, as one `enum`; the comments go to the description.
fn named_values(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(values)) = schema.get("oneOf") else {
        return schema;
    };
    let constants: Option<Vec<Value>> = values.iter().map(|v| v.get("const").cloned()).collect();
    let Some(constants) = constants.filter(|all| all.iter().all(Value::is_string)) else {
        return schema;
    };
    let text = |v: &Value, keyword: &str| v.get(keyword).and_then(Value::as_str).map(str::to_owned);
    let mut lines: Vec<String> = schema
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .into_iter()
        .collect();
    for value in values {
        if let (Some(name), Some(comment)) = (text(value, "const"), text(value, "description")) {
            lines.push(format!("`{name}`: {comment}"));
        }
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(constants));
    schema.insert("description".to_owned(), json!(lines.join("\n\n")));
    schema
}

/// Formats of Rust's unsigned numbers become those that Kubernetes knows, with the bound that goes.
fn number_format(to: &mut Map<String, Value>, format: &str) {
    let known = match format {
        "uint8" | "uint16" | "int32" => "int32",
        "uint32" => {
            to.entry("maximum").or_insert(json!(u32::MAX));
            "int64"
        }
        "uint64" | "int64" => "int64",
        "cidr" | "ipv4" | "date-time" => format,
        // The others are unknown to the API server, which would warn about them.
        _ => return,
    };
    to.insert("format".to_owned(), json!(known));
}

/// A doc comment as a description: without the line breaks inside a paragraph, and without links to items of Rust.
fn prose(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs
        .join("\n\n")
        .replace("[`", "`")
        .replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        assert_eq!(structural(schema).unwrap(), expected);
    }

    #[test]
    fn optional_values_lose_their_null() {
        check(
            json!({"type": ["string", "null"], "default": null}),
            json!({"type": "string"}),
        );
        check(
            json!({"description": "Ours.", "anyOf": [{"type": "object", "description": "Theirs."}, {"type": "null"}]}),
            json!({"description": "Ours.", "type": "object"}),
        );
    }

    #[test]
    fn values_with_comments_are_an_enum() {
        let values = json!([
            {"const": "A", "type": "string", "description": "First."},
            {"const": "B", "type": "string"},
        ]);
        check(
            json!({"description": "One\nof two, see [`Other`].", "oneOf": values}),
            json!({"description": "One of two, see `Other`.\n\n`A`: First.", "type": "string", "enum": ["A", "B"]}),
        );
    }

    #[test]
    fn unsigned_numbers_keep_their_bounds() {
        check(
            json!({"type": "integer", "format": "uint32", "minimum": 0}),
            json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX}),
        );
        check(
            json!({"type": "integer", "format": "uint16", "minimum": 1, "maximum": 65535}),
            json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}),
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let schema = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
        let error = structural(schema).unwrap_err().to_string();
        assert!(
            error.contains("/properties/a: not:") && error.contains("has no counterpart"),
            "{error}"
        );
    }
}
