//! Objects as the API server writes them, without what Roadbed does not read: a list of 5,000 Nodes has some 100 MB of
//! `managedFields` and images.

use std::collections::BTreeMap;

use roadbed_api::names::API_VERSION;
use roadbed_api::{Kind, Metadata, Object, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Metadata of any object; the rest of it is skipped while it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) creation_timestamp: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Anything that has metadata.
pub(crate) trait Wire: DeserializeOwned + Clone + Send + 'static {
    fn meta(&self) -> &Meta;
}

/// One of our custom resources.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Custom {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Option<Value>,
}

impl Wire for Custom {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Custom {
    /// The object as stores give it.
    pub(crate) fn into_object(self, kind: Kind) -> Object {
        let Meta {
            name,
            uid,
            resource_version,
            creation_timestamp,
            labels,
            annotations,
        } = self.metadata;
        Object {
            kind,
            metadata: Metadata {
                name,
                labels,
                annotations,
                uid: Some(uid),
                resource_version: Some(resource_version),
                creation_timestamp: creation_timestamp.map(fixed_width),
            },
            // An object without a spec is one without fields.
            spec: match self.spec {
                Value::Null => json!({}),
                spec => spec,
            },
            status: self.status,
        }
    }
}

/// `2026-11-21T03:24:04Z` with the microseconds that the server does not keep, so that the order of the text is the
/// order in time.
fn fixed_width(time: String) -> Timestamp {
    let parsed: Result<jiff::Timestamp, _> = time.parse();
    Timestamp(parsed.map_or(time, |t| format!("{t:.6}")))
}

/// The document that creates an object. What the server sets is left out: it refuses a `resourceVersion`.
pub(crate) fn creation(object: &Object) -> Value {
    let Metadata {
        name,
        labels,
        annotations,
        ..
    } = &object.metadata;
    json!({
        "apiVersion": API_VERSION,
        "kind": object.kind.as_str(),
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": object.spec,
    })
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(crate) struct Page<T> {
    pub(crate) metadata: PageMeta,
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    pub(crate) items: Vec<T>,
}

/// Version and continuation of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PageMeta {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) more: Option<String>,
}

/// Go writes an empty list as `null` where it was never made.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_writes_becomes_an_object() {
        let text = r#"{"apiVersion":"roadbed.dev/v1alpha1","kind":"IPPool","metadata":{"name":"p","uid":"u",
            "resourceVersion":"7","generation":2,"creationTimestamp":"2026-11-21T03:24:04Z",
            "managedFields":[{"manager":"kubectl"}],"finalizers":["x/y"]},"spec":{"cidr":"10.0.0.0/16"}}"#;
        let custom: Custom = serde_json::from_str(text).unwrap();
        let object = custom.into_object(Kind::IPPool);
        assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
        let created = object.metadata.creation_timestamp.clone().unwrap();
        assert_eq!(created.0, "2026-11-21T03:24:04.000000Z");
        assert_eq!(object.spec, json!({"cidr": "10.0.0.0/16"}));
        assert_eq!(object.status, None);
        assert!(
            creation(&object)["metadata"]
                .get("resourceVersion")
                .is_none()
        );
        let page: Page<Custom> =
            serde_json::from_str(r#"{"metadata":{"resourceVersion":"9"},"items":null}"#).unwrap();
        assert_eq!((page.items.len(), page.metadata.more), (0, None));
    }
}
