//! The files are up to date, the schemas are structural, and every rule has an example that both sides refuse.

use std::path::{Path, PathBuf};

use roadbed_api::Kind;
use serde_json::Value;

use crate::{definition, file_name, to_yaml};

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
