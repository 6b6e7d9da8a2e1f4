//! What is said about wrong values of a peer, with their paths.

use super::*;

/// A peer with these further fields, as JSON.
fn problems(fields: &str) -> Vec<String> {
    problems_of(&format!(
        "{{\"address\": \"192.0.2.1\", \"asNumber\": 65001, {fields}}}"
    ))
}

fn problems_of(text: &str) -> Vec<String> {
    let spec: BgpPeerSpec = serde_json::from_str(text).unwrap();
    let mut problems = Problems::new();
    spec.validate("spec", &mut problems);
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

#[track_caller]
fn check(fields: &str, expected: &[&str]) {
    let found = problems(fields);
    assert_eq!(found.len(), expected.len(), "{fields}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{fields}: {found}");
    }
}

#[test]
fn the_connection() {
    check(r#""password": "s3cret", "ttlSecurityHops": 254"#, &[]);
    check(r#""multihopTtl": 255"#, &[]);
    check(r#""password": """#, &["spec.password: is empty"]);
    check(r#""ttlSecurityHops": 0"#, &["spec.ttlSecurityHops: 0 is"]);
    check(
        r#""ttlSecurityHops": 255"#,
        &["spec.ttlSecurityHops: 255 is"],
    );
    check(r#""multihopTtl": 0"#, &["spec.multihopTtl: 0 reaches"]);
    check(
        r#""ttlSecurityHops": 1, "multihopTtl": 2"#,
        &["spec.multihopTtl: contradicts ttlSecurityHops"],
    );
}

#[test]
fn a_long_password_is_reported_and_not_repeated() {
    let password = "4711".repeat(21);
    let found = problems(&format!("\"password\": \"{password}\""));
    assert_eq!(
        found,
        ["spec.password: has 84 bytes: TCP-MD5 takes 1 to 80"]
    );
}

#[test]
fn limits() {
    check(
        r#""maxPrefixes": {"ipv4-unicast": {"limit": 1, "warnPercent": 100, "action": "idle", "restartSeconds": 1}},
           "maxPrefixesOut": {"ipv6-unicast": {"limit": 5, "action": "warn"}}"#,
        &[],
    );
    check(
        r#""families": ["ipv6-unicast"], "maxPrefixes": {"ipv4-unicast": {"limit": 1, "action": "warn"}}"#,
        &["spec.maxPrefixes.ipv4-unicast: ipv4-unicast is not one"],
    );
    check(
        r#""maxPrefixesOut": {"ipv4-unicast":
             {"limit": 0, "warnPercent": 101, "action": "warn", "restartSeconds": 5}}"#,
        &[
            "spec.maxPrefixesOut.ipv4-unicast.limit: 0 leaves",
            "spec.maxPrefixesOut.ipv4-unicast.warnPercent: 101 is",
            "spec.maxPrefixesOut.ipv4-unicast.restartSeconds: is for action idle",
        ],
    );
    check(
        r#""maxPrefixes": {"ipv6-unicast": {"limit": 9, "action": "idle", "restartSeconds": 0}}"#,
        &["spec.maxPrefixes.ipv6-unicast.restartSeconds: 0 would"],
    );
}

/// An address or a listen range, never both, and of a range nothing that only who dials needs.
#[test]
fn where_peers_are() {
    let check = |text: &str, expected: &[&str]| {
        let text = format!("{{\"asNumber\": \"external\", {text}}}");
        assert_eq!(problems_of(&text), expected, "{text}");
    };
    check(r#""listenRange": "10.0.8.0/24", "maxSessions": 1"#, &[]);
    check(
        r#""passive": false"#,
        &[
            "spec.address: is missing: give the peer's address, or a listenRange for peers that connect to us",
        ],
    );
    check(
        r#""address": "10.0.8.1", "listenRange": "10.0.8.0/24""#,
        &["spec.listenRange: 10.0.8.0/24 contradicts address, which is one peer's: remove one"],
    );
    check(
        r#""listenRange": "10.0.8.1/24", "maxSessions": 0"#,
        &[
            "spec.listenRange: 10.0.8.1/24 has host bits set: write 10.0.8.0/24",
            "spec.maxSessions: 0 admits nobody: use at least 1",
        ],
    );
    let dialled = "is for a peer with an address: those of a listenRange connect to us";
    check(
        r#""listenRange": "10.0.8.0/24", "port": 1790, "sourceAddress": "10.0.8.9", "connectRetrySeconds": 1, "passive": true"#,
        &[
            &format!("spec.port: {dialled}"),
            &format!("spec.sourceAddress: {dialled}"),
            &format!("spec.connectRetrySeconds: {dialled}"),
            &format!("spec.passive: {dialled}"),
        ],
    );
    check(
        r#""address": "192.0.2.1", "maxSessions": 5"#,
        &["spec.maxSessions: is for a listenRange: an address has one session"],
    );
}
