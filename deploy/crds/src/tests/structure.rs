//! The schemas have the form that Kubernetes calls structural.

use roadbed_api::Kind;
use serde_json::Value;

use crate::definition;

const KEYWORDS: [&str; 20] = [
    "additionalProperties",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
];

fn walk(node: &Value, path: &str) {
    let map = node
        .as_object()
        .unwrap_or_else(|| panic!("{path} is {node}"));
    for keyword in map.keys() {
        assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: {keyword}");
    }
    let has = |keyword: &str| map.contains_key(keyword);
    let int_or_string = node["x-kubernetes-int-or-string"] == true;
    assert_ne!(has("type"), int_or_string, "{path}: one type");
    match node["type"].as_str() {
        Some("object") => {
            assert!(
                !(has("properties") && has("additionalProperties")),
                "{path}"
            );
            let no_properties = serde_json::Map::new();
            let properties = node["properties"].as_object().unwrap_or(&no_properties);
            for required in node["required"].as_array().into_iter().flatten() {
                assert!(
                    properties.contains_key(required.as_str().unwrap()),
                    "{path}: {required}"
                );
            }
            for (name, property) in properties {
                walk(property, &format!("{path}.{name}"));
            }
            if has("additionalProperties") {
                walk(&node["additionalProperties"], &format!("{path}{{}}"));
            }
        }
        Some("array") => walk(&node["items"], &format!("{path}[]")),
        Some("integer") => {
            assert!(
                ["int32", "int64"].contains(&node["format"].as_str().unwrap()),
                "{path}"
            );
            assert!(has("minimum"), "{path} may be negative");
        }
        Some("string") if has("format") => {
            let known = ["cidr", "date-time", "ipv4"];
            assert!(known.contains(&node["format"].as_str().unwrap()), "{path}");
        }
        Some("string" | "boolean") => {}
        None if int_or_string => {}
        other => panic!("{path}: {other:?}"),
    }
    for rule in node["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        assert_ne!(
            rule["message"].is_null(),
            rule["messageExpression"].is_null(),
            "{path}: {rule}"
        );
    }
}

#[test]
fn schemas_are_structural() {
    for kind in Kind::ALL {
        let definition = definition(kind).unwrap();
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        walk(schema, kind.as_str());
        for place in ["spec", "status"] {
            assert!(schema["properties"][place].is_object(), "{kind}");
        }
    }
}

#[test]
fn every_field_is_described() {
    fn walk(node: &Value, path: &str) {
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Of maps by family the keys say it.
            let said = property["description"].is_string()
                || name.ends_with("-unicast")
                || path.ends_with(".metadata");
            assert!(said, "{path} has no description");
            walk(property, &path);
        }
        for below in ["items", "additionalProperties"] {
            if node[below].is_object() {
                walk(&node[below], &format!("{path}.{below}"));
            }
        }
    }
    for kind in Kind::ALL {
        let definition = definition(kind).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(schema["description"].is_string(), "{kind}");
        walk(schema, kind.as_str());
    }
}

#[test]
fn columns_and_selectable_fields_are_fields() {
    for kind in Kind::ALL {
        let definition = definition(kind).unwrap();
        let version = &definition["spec"]["versions"][0];
        let columns = version["additionalPrinterColumns"].as_array().into_iter();
        let fields = version["selectableFields"].as_array().into_iter();
        for entry in columns.flatten().chain(fields.flatten()) {
            let path = entry["jsonPath"].as_str().unwrap();
            if path.starts_with(".metadata.") {
                continue;
            }
            let pointer = path.replace('.', "/properties/");
            let field = version["schema"]["openAPIV3Schema"]
                .pointer(&pointer)
                .unwrap();
            let kind_of = entry["type"].as_str().unwrap_or("string");
            let same = field["type"] == kind_of || field["type"].is_null();
            assert!(same, "{kind} {path} is no {kind_of}");
        }
    }
}
