//! One CustomResourceDefinition: the envelope, what `kubectl get` shows, and the schema with its rules.

use roadbed_api::kinds::{BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, IpBlockSpec, IpPoolSpec};
use roadbed_api::names::{API_GROUP, API_GROUP_VERSION};
use roadbed_api::{Kind, Spec};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::bounds::bounds;
use crate::path;
use crate::rules::rules;
use crate::structural::structural;
use crate::{CrdError, NotStructural};

const HEADER: &str = "# Made by `make crds` from crates/api: change it there.\n";

/// Lists whose entries are told apart by a key, and the key.
const KEYED: [(Kind, &str, &str); 2] = [
    (Kind::IPPool, "status.conditions", "type"),
    (Kind::BGPConfig, "spec.aggregates", "prefix"),
];

/// The name of a kind's file.
pub fn file_name(kind: Kind) -> String {
    format!("{API_GROUP}_{}.yaml", kind.plural())
}

/// The file's text. Keys are in alphabetical order, whatever order the maps of `serde_json` were built to keep.
///
/// # Errors
/// The emitter's.
pub fn to_yaml(definition: &Value) -> Result<String, CrdError> {
    let text = serde_saphyr::to_string(&sorted(definition))
        .map_err(|error| CrdError::Yaml(error.to_string()))?;
    // The emitter indents empty lines of a text, too.
    let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
    Ok(format!("{HEADER}{}", lines.collect::<String>()))
}

/// The CustomResourceDefinition of a kind.
///
/// # Errors
/// A schema, bound or rule that does not fit: a mistake in this crate or in `roadbed-api`.
pub fn definition(kind: Kind) -> Result<Value, CrdError> {
    let plural = kind.plural();
    let name = kind.as_str();
    let mut version = json!({
        "name": API_GROUP_VERSION,
        "served": true,
        "storage": true,
        "schema": { "openAPIV3Schema": schema(kind)? },
        "subresources": { "status": {} },
        "additionalPrinterColumns": columns(kind),
    });
    if kind == Kind::IPBlock {
        version["selectableFields"] =
            json!([{ "jsonPath": ".spec.owner.node" }, { "jsonPath": ".spec.pool" }]);
    }
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{API_GROUP}") },
        "spec": {
            "group": API_GROUP,
            "names": {
                "kind": name,
                "listKind": format!("{name}List"),
                "plural": plural,
                "singular": name.to_lowercase(),
                "shortNames": [kind.short_name()],
                "categories": ["roadbed"],
            },
            "scope": "Cluster",
            "versions": [version],
        },
    }))
}

/// The schema of a whole object.
fn schema(kind: Kind) -> Result<Value, CrdError> {
    let (spec, status) = match kind {
        Kind::IPPool => parts::<IpPoolSpec>(),
        Kind::IPBlock => parts::<IpBlockSpec>(),
        Kind::BGPPeer => parts::<BgpPeerSpec>(),
        Kind::BGPConfig => parts::<BgpConfigSpec>(),
        Kind::BGPRoutePolicy => parts::<BgpRoutePolicySpec>(),
    }?;
    let mut root = json!({
        "description": summary(kind),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string", "description": "Group and version of this kind." },
            "kind": { "type": "string", "description": "The kind's name." },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status,
        },
    });
    for (place, keyword, bound) in bounds(kind) {
        path::at(&mut root, place)?[*keyword] = json!(bound);
    }
    for (_, place, key) in KEYED.iter().filter(|(keyed, ..)| *keyed == kind) {
        let list = path::at(&mut root, place)?;
        list["x-kubernetes-list-type"] = json!("map");
        list["x-kubernetes-list-map-keys"] = json!([key]);
    }
    for rule in rules(kind) {
        let node = path::at(&mut root, rule.place)?;
        // What fails a format, unlike a rule, keeps the API server from asking any other rule.
        if rule.is_format()
            && let Some(node) = node.as_object_mut()
        {
            node.remove("format");
        }
        let here = node
            .as_object_mut()
            .map(|node| node.entry("x-kubernetes-validations").or_insert(json!([])));
        if let Some(Value::Array(here)) = here {
            here.push(rule.to_value());
        }
    }
    Ok(root)
}

fn parts<S>() -> Result<(Value, Value), NotStructural>
where
    S: Spec + JsonSchema,
    S::Status: JsonSchema,
{
    Ok((
        structural(inline::<S>())?,
        structural(inline::<S::Status>())?,
    ))
}

/// The schema of a type, without references.
fn inline<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// The doc comment of the kind.
fn summary(kind: Kind) -> Value {
    let kinds = inline::<Kind>();
    let of = |value: &&Value| value.get("const") == Some(&json!(kind.as_str()));
    let found = kinds["oneOf"]
        .as_array()
        .and_then(|all| all.iter().find(of));
    found.map_or(Value::Null, |value| value["description"].clone())
}

/// What `kubectl get` shows beside the name; with `-o wide`, where the priority is 1.
fn columns(kind: Kind) -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
    let wide = |mut column: Value| {
        column["priority"] = json!(1);
        column
    };
    let mut columns = match kind {
        Kind::IPPool => vec![
            column("CIDR", "string", ".spec.cidr"),
            column("Block", "integer", ".spec.blockSize"),
            column("Disabled", "boolean", ".spec.disabled"),
        ],
        Kind::IPBlock => vec![
            column("CIDR", "string", ".spec.cidr"),
            column("Node", "string", ".spec.owner.node"),
            column("State", "string", ".spec.state"),
            column("In use", "integer", ".status.inUse"),
            column("Capacity", "integer", ".status.capacity"),
            wide(column("Pool", "string", ".spec.pool")),
        ],
        Kind::BGPPeer => vec![
            column("Address", "string", ".spec.address"),
            column("AS", "string", ".spec.asNumber"),
            wide(column("Range", "string", ".spec.listenRange")),
            wide(column("Shutdown", "string", ".spec.shutdown")),
        ],
        Kind::BGPConfig => vec![
            column("AS", "integer", ".spec.asNumber"),
            column("Mesh", "string", ".spec.nodeMesh"),
            column("In force", "string", ".status.nodeMesh"),
        ],
        Kind::BGPRoutePolicy => vec![column("Default", "string", ".spec.defaultAction")],
    };
    columns.push(column("Age", "date", ".metadata.creationTimestamp"));
    Value::Array(columns)
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter().map(|(k, v)| (k.clone(), sorted(v)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
