//! The resources beside the labs are valid, and say what the topology says.

use std::fs;
use std::path::Path;

use roadbed_api::manifest;

#[test]
fn the_resources_of_two_racks_are_valid() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("two-racks/resources");
    let mut objects = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        match manifest::parse(&text, &path.display().to_string()) {
            Ok(parsed) => objects.extend(parsed),
            Err(errors) => panic!("{errors}"),
        }
    }
    // Two pools, the shared settings, one peer per node.
    assert_eq!(objects.len(), 6);
}
