//! Events about objects that Roadbed cannot use.
//!
//! All agents find the same fault. The Event's name is made from the object and the finding, so the first one creates
//! it and the others meet it.

use kube::core::params::PostParams;
use kube::core::request::Request;
use roadbed_api::Object;
use roadbed_api::names::API_VERSION;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::failure::{Failure, answer};
use crate::follow::Source;

/// Events about objects without a namespace are kept there.
const PATH: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
/// Findings that wait; what comes beyond them is not told.
const WAITING: usize = 64;
/// Longest note that the API takes, bytes.
const NOTE_MAX: usize = 1024;

/// Writes Events, one after the other, and never makes its caller wait.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<(Object, String)>);

impl Events {
    /// Starts the task that writes; it ends with the last handle. `node` is who reports.
    pub fn start(access: &Access, node: &str) -> Self {
        let (sender, mut findings) = mpsc::channel::<(Object, String)>(WAITING);
        let (source, node) = (Source::new(access.client.clone()), node.to_owned());
        tokio::spawn(async move {
            while let Some((object, note)) = findings.recv().await {
                let name = format!("{}/{}", object.kind, object.metadata.name);
                if let Err(failure) = write(&source, &document(&object, &note, &node)).await {
                    tracing::debug!(object = name, %failure, "Event not written");
                }
            }
        });
        Self(sender)
    }

    /// Tells that an object cannot be used, and why.
    pub fn refused(&self, object: &Object, note: &str) {
        if self.0.try_send((object.clone(), note.to_owned())).is_err() {
            tracing::debug!("too many Events wait: one is left out");
        }
    }
}

async fn write(source: &Source, document: &Value) -> Result<(), Failure> {
    let body = document.to_string().into_bytes();
    let request = Request::new(PATH)
        .create(&PostParams::default(), body)
        .map_err(|e| Failure::Away(e.into()))?;
    match answer(source.client.request::<Value>(request)).await {
        // Somebody else found the same.
        Err(Failure::Status(status)) if status.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

/// An `events.k8s.io/v1` Event, as `kubectl describe` shows it.
fn document(object: &Object, note: &str, node: &str) -> Value {
    let metadata = &object.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let end = (0..=NOTE_MAX.min(note.len()))
        .rev()
        .find(|&i| note.is_char_boundary(i))
        .unwrap_or(0);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{}.{:016x}", metadata.name, hash(&[uid, note])), "namespace": "default"},
        "eventTime": format!("{:.6}", jiff::Timestamp::now()),
        "reportingController": "roadbed.dev/agent",
        "reportingInstance": node,
        "action": "Validate",
        "reason": "Invalid",
        "type": "Warning",
        "note": &note[..end],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": object.kind.as_str(),
            "name": metadata.name,
            "uid": uid,
            "resourceVersion": metadata.resource_version,
        },
    })
}

/// FNV-1a, the same in every agent of every version.
fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadbed_api::{Kind, Metadata};

    #[test]
    fn one_finding_has_one_name_whoever_finds_it() {
        let mut object = Object {
            kind: Kind::IPPool,
            metadata: Metadata::named("pods"),
            spec: json!({}),
            status: None,
        };
        object.metadata.uid = Some("u1".into());
        let name = |object: &Object, note: &str, node: &str| {
            document(object, note, node)["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let first = name(&object, "spec.cidr: wrong", "n1");
        assert!(first.starts_with("pods.") && first.len() == 21, "{first}");
        assert_eq!(first, name(&object, "spec.cidr: wrong", "n2"));
        assert_ne!(first, name(&object, "spec.cidr: else", "n1"));
        object.metadata.uid = Some("u2".into());
        assert_ne!(first, name(&object, "spec.cidr: wrong", "n1"));
        let long = document(&object, &"ä".repeat(600), "n1");
        assert_eq!(long["note"].as_str().unwrap().len(), 1024);
    }
}
