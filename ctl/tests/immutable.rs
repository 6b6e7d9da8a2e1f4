//! `roadbedctl apply` refuses the changes that an API server refuses, with the same words.

use roadbed_crds::examples;
use roadbedctl::plan::immutable;

#[test]
fn what_an_api_server_refuses_to_change() {
    let mut seen = 0;
    for example in examples::refused() {
        let Some(before) = &example.before else {
            continue;
        };
        let stored = examples::to_object(example.kind, before);
        let wanted = examples::to_object(example.kind, &example.object);
        wanted.validate().unwrap();
        let expected = format!(
            "{}/{}: {}: {}",
            example.kind, wanted.metadata.name, example.path, example.message
        );
        assert_eq!(immutable(&stored, &wanted), [expected]);
        seen += 1;
    }
    assert!(seen > 0);
}
