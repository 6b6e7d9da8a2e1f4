//! The files are up to date, the schemas are structural, and every rule has an example that both sides refuse.

use std::path::{Path, PathBuf};

use roadbed_api::Kind;
use roadbed_api::resource::ObjectError;
use serde_json::Value;

use crate::rules::{Rule, Words, rules};
use crate::{definition, examples, file_name, to_yaml};

mod fits;
mod structure;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_files_are_what_is_generated() {
    let folder = repository().join("deploy/manifests/crds");
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut expected: Vec<String> = Kind::ALL.map(file_name).into();
    expected.sort();
    assert_eq!(found, expected);
    for kind in Kind::ALL {
        let generated = definition(kind).unwrap();
        let text = to_yaml(&generated).unwrap();
        let file = std::fs::read_to_string(folder.join(file_name(kind))).unwrap();
        assert!(file == text, "{} is old: run make crds", file_name(kind));
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, generated, "{kind}: the YAML reads back differently");
    }
}

#[test]
fn every_rule_has_an_example() {
    let examples = examples::refused();
    for kind in Kind::ALL {
        for rule in rules(kind) {
            let found = examples.iter().any(|e| {
                e.kind == kind && field(&rule) == normal(e.path) && says(&rule.words, e.message)
            });
            assert!(
                found,
                "{kind} {}: no example of {:?}",
                field(&rule),
                rule.words
            );
        }
    }
}

/// The field that a rule is about, as validation names it.
fn field(rule: &Rule) -> String {
    // A rule of the whole object can be about nothing else, and cannot name it.
    if rule.place.is_empty() {
        return "metadata.name".to_owned();
    }
    let below = rule.field.replace("['", ".").replace("']", "");
    format!("{}{below}", rule.place)
        .trim_start_matches('.')
        .to_owned()
}

/// A path without numbers of entries and names of stations.
fn normal(path: &str) -> String {
    let mut normal = path.replace(".bmp.noc", ".bmp{}");
    for digit in '0'..='9' {
        normal = normal.replace(&format!("[{digit}]"), "[]");
    }
    normal
}

/// Whether the words can become this message.
fn says(words: &Words, message: &str) -> bool {
    let (Words::Fixed(text) | Words::Told(text, _)) = words;
    let mut rest = message;
    let mut pieces = text.split("%s");
    let first = pieces.next().unwrap();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || text.ends_with("%s")
}

#[test]
fn our_own_validation_says_the_same() {
    for example in examples::refused().iter().filter(|e| e.before.is_none()) {
        let object = examples::to_object(example.kind, &example.object);
        let found = match object.validate() {
            Err(ObjectError::Invalid { problems, .. }) => problems
                .iter()
                .any(|p| p.path == example.path && p.message == example.message),
            Err(ObjectError::Shape { source, .. }) => source.to_string() == example.message,
            _ => false,
        };
        assert!(found, "{example:?}: {:?}", object.validate());
    }
}

#[test]
fn what_is_accepted_is_accepted_here() {
    let before = examples::refused()
        .into_iter()
        .filter_map(|e| Some((e.kind, e.before?)));
    for (kind, document) in examples::accepted().into_iter().chain(before) {
        let object = examples::to_object(kind, &document);
        object.validate().unwrap();
        fits::check(&definition(kind).unwrap(), &document).unwrap();
    }
}
