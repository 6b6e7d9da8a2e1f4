use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const POOL: &str = "apiVersion: roadbed.dev/v1alpha1
kind: IPPool
metadata:
  name: pods-v4
spec:
  cidr: 10.244.0.0/16
  blockSize: 26
";

fn errors(text: &str) -> String {
    match parse(text, "f.yaml") {
        Ok(objects) => panic!("accepted {objects:?}\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// The whole report of a manifest, line by line.
fn check(text: &str, expected: &[&str]) {
    let found = errors(text);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected, "\n{text}");
}

/// The report of a pool whose `spec` is this.
fn check_pool(spec: &str, expected: &[&str]) {
    let text = format!(
        "apiVersion: roadbed.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: p}}\nspec: {spec}\n"
    );
    let expected: Vec<String> = expected.iter().map(|e| format!("f.yaml:{e}")).collect();
    check(
        &text,
        &expected.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn documents_in_their_order() {
    let text = format!(
        "%YAML 1.2\n# pools\n---\n{POOL}---\n# nothing\n--- # the settings\napiVersion: roadbed.dev/v1alpha1\nkind: BGPConfig\nmetadata: {{name: default}}\nspec: {{asNumber: 65001}}\n...\n---\n"
    );
    let objects = parse(&text, "f.yaml").unwrap();
    let names: Vec<String> = objects
        .iter()
        .map(|o| format!("{}/{}", o.kind, o.metadata.name))
        .collect();
    assert_eq!(names, ["IPPool/pods-v4", "BGPConfig/default"]);
    assert_eq!(
        objects[0].spec,
        json!({"cidr": "10.244.0.0/16", "blockSize": 26})
    );
    assert_eq!(parse("", "f.yaml").unwrap(), []);
    assert_eq!(parse("\u{feff}# only a comment\n", "f.yaml").unwrap(), []);
}

#[test]
fn json_and_lists() {
    let one = r#"{"apiVersion": "roadbed.dev/v1alpha1", "kind": "BGPPeer",
        "metadata": {"name": "tor", "labels": {"rack": "1"}},
        "spec": {"address": "10.0.0.1", "asNumber": 65100}}"#;
    let objects = parse(one, "f.json").unwrap();
    assert_eq!(objects[0].kind, Kind::BGPPeer);
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{one}]}}"#);
    assert_eq!(parse(&list, "f.json").unwrap(), objects);
    let wrong = list.replace("65100", "0");
    check(
        &wrong,
        &[
            "f.yaml:3:53: BGPPeer/tor: items[0].spec.asNumber: AS 0 is reserved (RFC 7607): use 1 to 4294967294",
        ],
    );
}

#[test]
fn the_envelope() {
    check(
        "kind: IPPool\nspec: {cidr: 10.0.0.0/16}\nspeck: 1\n",
        &[
            "f.yaml:3:1: IPPool: speck: unknown field: did you mean spec?",
            "f.yaml:1:1: IPPool: apiVersion: is missing: write roadbed.dev/v1alpha1",
            "f.yaml:1:1: IPPool: metadata: is missing",
        ],
    );
    check(
        &POOL.replace("v1alpha1", "v9"),
        &[
            "f.yaml:1:13: IPPool/pods-v4: apiVersion: is the text \"roadbed.dev/v9\": write roadbed.dev/v1alpha1",
        ],
    );
    check(
        &POOL.replace("IPPool", "IpPool"),
        &["f.yaml:2:7: IpPool/pods-v4: kind: is the text \"IpPool\": did you mean IPPool?"],
    );
    check(
        &POOL.replace("IPPool", "Pod"),
        &[
            "f.yaml:2:7: Pod/pods-v4: kind: is the text \"Pod\": known are BGPConfig, IPPool, IPBlock, BGPRoutePolicy, BGPPeer",
        ],
    );
    check(
        &POOL.replace("pods-v4", "Pods_v4"),
        &[
            "f.yaml:4:9: IPPool/Pods_v4: metadata.name: \"Pods_v4\" is not a valid name: use lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters",
        ],
    );
    check(
        &POOL.replace("pods-v4", "7"),
        &["f.yaml:4:9: IPPool: metadata.name: is the number 7: expected a text (quote it)"],
    );
    check(
        "- a\n- b\n",
        &["f.yaml:1:1: is a list: a resource is a mapping with apiVersion, kind, metadata, spec"],
    );
    check(
        "apiVersion: roadbed.dev/v1alpha1\nkind: BGPConfig\nmetadata: {name: mine}\nspec: {}\n",
        &[
            "f.yaml:3:18: BGPConfig/mine: metadata.name: there is one BGPConfig and its name is \"default\", not \"mine\"",
        ],
    );
}

#[test]
fn fields() {
    check_pool(
        "{cidr: 10.244.0.0/16, blocksize: 26, colour: red}",
        &[
            "4:29: IPPool/p: spec.blocksize: unknown field: did you mean blockSize?",
            "4:44: IPPool/p: spec.colour: unknown field: known are cidr, blockSize, nodeSelector, disabled",
        ],
    );
    check_pool(
        "{cidr: 10.244.0.0/33}",
        &["4:14: IPPool/p: spec.cidr: is the text \"10.244.0.0/33\": invalid IP address syntax"],
    );
    check_pool(
        "{cidr: 10.244.0.1/16, blockSize: 19, colour: red}",
        &[
            "4:44: IPPool/p: spec.colour: unknown field: known are cidr, blockSize, nodeSelector, disabled",
            "4:14: IPPool/p: spec.cidr: 10.244.0.1/16 has host bits set: write 10.244.0.0/16",
            "4:40: IPPool/p: spec.blockSize: /19 is out of range: a block of 10.244.0.1/16 is /20 to /32",
        ],
    );
    check_pool(
        "{cidr: 10.0.0.0/8, blockSize: 300, disabled: yes}",
        &[
            "4:37: IPPool/p: spec.blockSize: is the number 300: expected a whole number from 0 to 255",
            "4:52: IPPool/p: spec.disabled: is the text \"yes\": expected true or false",
        ],
    );
    check_pool("{}", &["4:7: IPPool/p: spec.cidr: is missing"]);
    check_pool("", &["4:5: IPPool/p: spec.cidr: is missing"]);
    check_pool(
        "[a]",
        &["4:7: IPPool/p: spec: is a list: expected a mapping"],
    );
    check_pool(
        "{cidr: 10.0.0.0/8, nodeSelector: {matchExpressions: [{key: a, operator: Near}]}}",
        &[
            "4:79: IPPool/p: spec.nodeSelector.matchExpressions[0].operator: \"Near\" is not known: use In or NotIn or Exists or DoesNotExist",
        ],
    );
    check(
        "apiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec:\n  address: 10.0.0.1\n  asNumber: 65100\n  importPolicies: [default, mine]\n  families:\n    - ipv5-unicast\n",
        &[
            "f.yaml:9:7: BGPPeer/tor: spec.families[0]: \"ipv5-unicast\" is not known: use ipv4-unicast or ipv6-unicast",
        ],
    );
    check(
        "apiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec:\n  address: 10.0.0.1\n  asNumber: 65100\n  importPolicies: [default, \"\"]\n",
        &[
            "f.yaml:7:29: BGPPeer/tor: spec.importPolicies[1]: is empty: name a BGPRoutePolicy or one of default, accept-all, reject-all",
        ],
    );
}

/// Whatever is wrong with a password, its value is not told.
#[test]
fn passwords_are_not_repeated() {
    for (password, said) in [
        (
            "4711",
            "is a number: a password is a text: put it in quotes",
        ),
        (
            "-47.11",
            "is a number: a password is a text: put it in quotes",
        ),
        ("[4711]", "is a list: expected a text in quotes"),
        ("{a: 4711}", "is a mapping: expected a text in quotes"),
    ] {
        check(
            &format!(
                "apiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: tor}}\nspec:\n  address: 10.0.0.1\n  asNumber: 65100\n  password: {password}\n"
            ),
            &[&format!("f.yaml:7:13: BGPPeer/tor: spec.password: {said}")],
        );
    }
}

#[test]
fn metadata_is_checked_beside_a_wrong_spec() {
    check(
        &POOL.replace("pods-v4", "Pods").replace("26", "many"),
        &[
            "f.yaml:7:14: IPPool/Pods: spec.blockSize: is the text \"many\": expected a whole number from 0 to 255",
            "f.yaml:4:9: IPPool/Pods: metadata.name: \"Pods\" is not a valid name: use lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters",
        ],
    );
}

#[test]
fn every_document_is_looked_at() {
    let text = format!(
        "{}---\n\tnot yaml\n---\n{}---\n{POOL}",
        POOL.replace("26", "19"),
        POOL.replace("pods-v4", "p2").replace("cidr", "cdir"),
    );
    let found = errors(&text);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 5, "{found}");
    assert!(lines[0].starts_with("f.yaml:7:14: IPPool/pods-v4: spec.blockSize: /19 is out of"));
    assert!(lines[1].starts_with("f.yaml:9:"), "{found}");
    assert!(lines[1].contains(": document 2: "), "{found}");
    assert!(lines[2].starts_with("f.yaml:16:3: document 3: IPPool/p2: spec.cdir: unknown field"));
    assert!(lines[3].starts_with("f.yaml:16:3: document 3: IPPool/p2: spec.cidr: is missing"));
    assert_eq!(
        lines[4],
        "f.yaml:22:9: document 4: IPPool/pods-v4: metadata.name: is given twice, first on line 1: keep one"
    );
}

#[test]
fn duplicate_keys_are_named() {
    check(
        &format!("{POOL}  cidr: 10.245.0.0/16\n"),
        &["f.yaml:8:3: the key \"cidr\" is given twice: keep one"],
    );
}

#[test]
fn what_is_read_is_bounded() {
    let deep = format!("{}a{}", "[".repeat(200), "]".repeat(200));
    check(
        &deep,
        &["f.yaml:1:33: is nested deeper than the 32 levels that a manifest may have"],
    );

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(9);
        writeln!(bomb, "a{i}: &a{i} [{before}]").unwrap();
    }
    let found = errors(&bomb);
    assert!(
        found.contains("limit of manifests") || found.contains("aliases"),
        "{found}"
    );

    let long = "#".repeat(MAX_BYTES + 1);
    check(
        &long,
        &["f.yaml: has 4194305 bytes: a manifest has at most 4194304; split it into several files"],
    );

    let many = "--- 1\n".repeat(MAX_DOCUMENTS + 1);
    let found = errors(&many);
    assert_eq!(found.lines().count(), MAX_PROBLEMS + 1);
    assert!(
        found.ends_with("f.yaml: further problems are not shown"),
        "{found}"
    );

    let wide: String = (0..1000).map(|i| format!("x{i}: 1, ")).collect();
    let found = errors(&POOL.replace("  blockSize: 26", &format!("  nodeSelector: {{{wide}}}")));
    assert!(found.lines().count() <= 21, "{found}");
}

#[test]
fn aliases_within_reason() {
    let text = "apiVersion: roadbed.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor, labels: &l {rack: r1}}\nspec:\n  nodeSelector: {matchLabels: *l}\n  address: 10.0.0.1\n  asNumber: 65100\n";
    let objects = parse(text, "f.yaml").unwrap();
    assert_eq!(
        objects[0].spec["nodeSelector"]["matchLabels"],
        json!({"rack": "r1"})
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let found = errors("\"a\\u001b[2J\": 1\nkind: \"\\u001b[31m\"\n");
    assert!(!found.contains('\u{1b}'), "{found:?}");
}

#[test]
fn status_is_read_and_shaped() {
    let text = "apiVersion: roadbed.dev/v1alpha1\nkind: IPBlock\nmetadata: {name: 10-0-0-0-26}\nspec: {cidr: 10.0.0.0/26, pool: p, owner: {node: n}, state: Confirmed}\nstatus: {capacity: 64, inUse: 3}\n";
    let objects = parse(text, "f.yaml").unwrap();
    assert_eq!(objects[0].status, Some(json!({"capacity": 64, "inUse": 3})));
    check(
        &text.replace("capacity: 64", "capacity: many"),
        &["f.yaml:5:20: IPBlock/10-0-0-0-26: status.capacity: is the text \"many\": expected u64"],
    );
}

fn arbitrary_object() -> impl Strategy<Value = Object> {
    let pairs =
        || proptest::collection::btree_map("[a-zA-Z~!:# ./_0-9-]{1,12}", any::<String>(), 0..4);
    let metadata = ("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", pairs(), pairs());
    let spec = (any::<[u8; 2]>(), 20u8..=32, any::<bool>(), pairs());
    (metadata, spec).prop_map(
        |((name, labels, annotations), (net, size, disabled, select))| {
            let mut spec = json!({"cidr": format!("10.{}.{}.0/24", net[0], net[1])});
            if size >= 24 {
                spec["blockSize"] = json!(size);
            }
            if disabled {
                spec["disabled"] = json!(true);
            }
            if !select.is_empty() {
                spec["nodeSelector"] = json!({"matchLabels": select});
            }
            Object {
                kind: Kind::IPPool,
                metadata: Metadata {
                    labels,
                    annotations,
                    ..Metadata::named(name)
                },
                spec,
                status: None,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(object in arbitrary_object()) {
        let text = to_yaml(&object);
        let read = parse(&text, "f.yaml");
        if object.validate().is_ok() {
            prop_assert_eq!(read.as_deref(), Ok(&[object][..]), "{}", text);
        } else {
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text, "f.yaml");
    }

    #[test]
    fn no_mutilated_manifest_panics(at in 0..POOL.len(), cut in 0usize..20, insert in "[-:#&*<>|{}\\[\\]\"' \n\t%!.~a0]{0,8}") {
        let mut text = POOL.to_owned();
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &insert);
        if let Err(errors) = parse(&text, "f.yaml") {
            for error in errors.iter() {
                prop_assert!(error.line.is_some_and(|l| l <= text.lines().count() + 1), "{}", error);
            }
        }
    }
}
