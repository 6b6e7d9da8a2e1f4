//! Whether an object fits a schema, but for its patterns, formats and rules; and that all manifests of the docs do.

use std::path::Path;

use roadbed_api::Kind;
use roadbed_api::names::API_VERSION;
use serde_json::Value;

use super::repository;
use crate::definition;

/// The first thing that does not fit.
pub(super) fn check(definition: &Value, object: &Value) -> Result<(), String> {
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for (name, value) in object.as_object().unwrap() {
        if name != "metadata" {
            fits(&schema["properties"][name.as_str()], value, name)?;
        }
    }
    Ok(())
}

fn fits(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{path}: {value} {what}"));
    let right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        None if schema["x-kubernetes-int-or-string"] == true => value.is_u64() || value.is_string(),
        _ => return fault("is of a field that is not there"),
    };
    if !right {
        return fault("is of another type");
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return fault("is none of the values");
    }
    let size = value
        .as_u64()
        .or_else(|| value.as_str().map(|s| s.chars().count() as u64));
    let size = size.or_else(|| value.as_array().map(|a| a.len() as u64));
    let size = size.or_else(|| value.as_object().map(|a| a.len() as u64));
    for (low, high) in [
        ("minimum", "maximum"),
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("", "maxProperties"),
    ] {
        let counts = match high {
            "maximum" => value.is_u64(),
            "maxLength" => value.is_string(),
            "maxItems" => value.is_array(),
            _ => value.is_object(),
        };
        let bound = |keyword: &str| schema[keyword].as_u64().filter(|_| counts);
        if bound(low) > size || bound(high).is_some_and(|high| size > Some(high)) {
            return fault("is out of bounds");
        }
    }
    if let Some(map) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !map.contains_key(required.as_str().unwrap()) {
                return fault(&format!("lacks {required}"));
            }
        }
        for (name, value) in map {
            let property = &schema["properties"][name.as_str()];
            let below = if property.is_null() {
                &schema["additionalProperties"]
            } else {
                property
            };
            fits(below, value, &format!("{path}.{name}"))?;
        }
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], value, &format!("{path}[{i}]"))?;
    }
    Ok(())
}

#[test]
fn manifests_in_the_docs_fit() {
    let mut seen = 0;
    for file in std::fs::read_dir(repository().join("docs")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            seen += of_a_page(&path);
        }
    }
    assert!(seen >= 10, "only {seen} manifests found");
}

fn of_a_page(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for document in block.split("---\n").filter(|d| d.contains(API_VERSION)) {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let kind: Kind = object["kind"].as_str().unwrap().parse().unwrap();
            if let Err(error) = check(&definition(kind).unwrap(), &object) {
                panic!(
                    "{}: {kind} {}: {error}",
                    path.display(),
                    object["metadata"]["name"]
                );
            }
            seen += 1;
        }
    }
    seen
}

#[test]
fn what_does_not_fit_is_found() {
    for (object, fault) in [
        (
            serde_json::json!({ "spec": { "asNumber": 1, "adress": "::1" } }),
            "is of a field that is not there",
        ),
        (
            serde_json::json!({ "spec": { "asNumber": 1, "nextHop": "none" } }),
            "is none of the values",
        ),
        (
            serde_json::json!({ "spec": { "asNumber": 1, "port": 0 } }),
            "is out of bounds",
        ),
        (
            serde_json::json!({ "spec": { "asNumber": 1, "port": "179" } }),
            "is of another type",
        ),
        (serde_json::json!({ "spec": {} }), "lacks \"asNumber\""),
    ] {
        let error = check(&definition(Kind::BGPPeer).unwrap(), &object).unwrap_err();
        assert!(error.contains(fault), "{error}");
    }
}
