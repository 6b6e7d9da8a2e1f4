//! The CustomResourceDefinitions: what they refuse, the server refuses with our words.

use roadbed_api::Kind;
use roadbed_crds::examples;
use serde_json::Value;

use crate::bed::{fresh, kubectl};

fn apply(object: &Value) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object.json");
    std::fs::write(&path, ascii(object)).unwrap();
    kubectl(&["apply", "-f", path.to_str().unwrap()])
}

/// JSON with all but printable ASCII escaped: kubectl reads YAML, and so does a server that is sent a server-side apply;
/// both drop control characters.
fn ascii(object: &Value) -> String {
    let text = object.to_string();
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => escaped.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

fn delete(kind: Kind, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    kubectl(&["delete", kind.plural(), name, "--ignore-not-found"]).unwrap();
}

#[tokio::test]
async fn examples_are_refused_with_our_words() {
    fresh().await;
    let mut count = 0;
    for example in examples::refused() {
        if let Some(before) = &example.before {
            apply(before).unwrap();
        }
        let refused = apply(&example.object);
        delete(example.kind, &example.object);
        let text = refused.expect_err(&format!("{} was taken: {}", example.path, example.object));
        assert!(
            text.contains(example.message),
            "{}: {text}\nlacks: {}",
            example.path,
            example.message
        );
        count += 1;
    }
    println!("{count} objects refused with our words");
    assert!(count > 50);
}

#[tokio::test]
async fn valid_objects_are_taken() {
    fresh().await;
    for (kind, object) in examples::accepted() {
        apply(&object).unwrap_or_else(|error| panic!("{object}: {error}"));
        delete(kind, &object);
    }
}
