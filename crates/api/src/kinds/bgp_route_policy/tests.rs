use super::*;
use crate::{Metadata, Object};

fn problems(spec: serde_json::Value) -> Vec<String> {
    let spec: BgpRoutePolicySpec = serde_json::from_value(spec).unwrap();
    let mut problems = Problems::new();
    spec.validate("spec", &mut problems);
    let found = problems.iter();
    found
        .map(|p| format!("{}: {}", p.path, p.message))
        .collect()
}

fn check(spec: serde_json::Value, expected: &[&str]) {
    let found = problems(spec.clone());
    assert_eq!(found.len(), expected.len(), "{spec}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not {expected}");
    }
}

/// A spec with one rule.
fn rule(rule: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "rules": [rule] })
}

fn matching(conditions: serde_json::Value) -> serde_json::Value {
    rule(serde_json::json!({"match": conditions, "action": "accept"}))
}

fn setting(changes: serde_json::Value) -> serde_json::Value {
    rule(serde_json::json!({ "set": changes }))
}

#[test]
fn a_policy_with_everything_is_valid_and_comes_back_as_it_was() {
    let spec = serde_json::json!({
        "rules": [
            {
                "name": "pods",
                "match": {
                    "prefixes": [{"prefix": "10.244.0.0/16", "ge": 26, "le": 26}, {"prefix": "fd00:244::/48", "le": 122}],
                    "families": ["ipv4-unicast", "ipv6-unicast"],
                    "asPath": "^65101 (65[0-9]+ )*65121$",
                    "asPathLength": {"ge": 1, "le": 5},
                    "communities": ["65000:1", "65000:*", "no-export"],
                    "largeCommunities": ["65000:1:2"],
                    "extendedCommunities": ["rt:65000:1"],
                    "nextHops": ["10.0.0.0/24"],
                    "peers": ["tor1"],
                    "sources": ["ownBlock", "node", "service", "static", "learned"],
                },
                "set": {
                    "localPref": 200,
                    "med": 10,
                    "prependAs": {"asNumber": 65001, "count": 2},
                    "communities": {"add": ["65000:1"], "remove": ["65000:*"]},
                    "largeCommunities": {"set": []},
                    "extendedCommunities": {"set": ["rt:65000:1"]},
                    "nextHop": "self",
                },
                "action": "accept",
            },
            {"set": {"nextHop": "10.0.0.1"}},
            {"action": "reject"},
        ],
        "defaultAction": "next",
    });
    check(spec.clone(), &[]);
    let parsed: BgpRoutePolicySpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), spec);
}

#[test]
fn the_empty_policy_rejects() {
    check(serde_json::json!({}), &[]);
    let spec: BgpRoutePolicySpec = serde_json::from_str("{}").unwrap();
    assert_eq!(spec.default_action, DefaultAction::Reject);
    assert_eq!(serde_json::to_string(&spec).unwrap(), "{}");
}

#[test]
fn every_condition_is_checked_where_it_stands() {
    use serde_json::json;
    check(
        matching(json!({"prefixes": [
            {"prefix": "10.244.0.1/16"},
            {"prefix": "10.244.0.0/16", "ge": 15},
            {"prefix": "10.244.0.0/16", "le": 33},
            {"prefix": "10.244.0.0/16", "ge": 27, "le": 26},
        ]})),
        &[
            "spec.rules[0].match.prefixes[0].prefix: 10.244.0.1/16 has host bits set: write 10.244.0.0/16",
            "spec.rules[0].match.prefixes[1].ge: /15 is out of range: inside 10.244.0.0/16 there are /16 to /32",
            "spec.rules[0].match.prefixes[2].le: /33 is out of range",
            "spec.rules[0].match.prefixes[3].ge: /27 is longer than le, /26",
        ],
    );
    check(
        matching(json!({"families": ["ipv6-unicast"], "prefixes": [{"prefix": "10.0.0.0/8"}]})),
        &["spec.rules[0].match.prefixes[0].prefix: 10.0.0.0/8 never matches"],
    );
    check(
        matching(json!({"asPath": "65101+", "asPathLength": {"ge": 3, "le": 2}})),
        &[
            "spec.rules[0].match.asPath: at character 6: a repetition",
            "spec.rules[0].match.asPathLength.ge: 3 is more than le, 2",
        ],
    );
    check(
        matching(json!({"asPathLength": {}})),
        &["spec.rules[0].match.asPathLength: give ge"],
    );
    check(
        matching(json!({
            "communities": ["65000:1", "x"],
            "largeCommunities": ["1:2"],
            "extendedCommunities": ["rt:1"],
            "nextHops": ["10.0.0.1/24"],
            "peers": [""],
        })),
        &[
            "spec.rules[0].match.communities[1]: \"x\" is not a community",
            "spec.rules[0].match.largeCommunities[0]: \"1:2\" is not a large community",
            "spec.rules[0].match.extendedCommunities[0]: \"rt:1\" is not an extended community",
            "spec.rules[0].match.nextHops[0]: 10.0.0.1/24 has host bits set",
            "spec.rules[0].match.peers[0]: is empty",
        ],
    );
    for field in [
        "prefixes",
        "families",
        "communities",
        "largeCommunities",
        "extendedCommunities",
        "nextHops",
        "peers",
        "sources",
    ] {
        let expected = format!("spec.rules[0].match.{field}: is empty and would match no route");
        check(matching(json!({ field: [] })), &[&expected]);
    }
}

#[test]
fn every_change_is_checked_where_it_stands() {
    use serde_json::json;
    check(
        setting(json!({"prependAs": {"asNumber": 0, "count": 33}})),
        &[
            "spec.rules[0].set.prependAs.asNumber: AS 0 is reserved",
            "spec.rules[0].set.prependAs.count: 33 is out of range",
        ],
    );
    check(
        setting(
            json!({"communities": {"add": ["65000:*"], "remove": ["y"], "set": ["no-export"]}}),
        ),
        &[
            "spec.rules[0].set.communities.add[0]: 65000:* names many",
            "spec.rules[0].set.communities.remove[0]: \"y\" is not a community",
            "spec.rules[0].set.communities.set: replaces all",
        ],
    );
    check(
        setting(
            json!({"largeCommunities": {"set": ["1:1:*"]}, "extendedCommunities": {"add": ["rt:1:*"]}}),
        ),
        &[
            "spec.rules[0].set.largeCommunities.set[0]: 1:1:* names many",
            "spec.rules[0].set.extendedCommunities.add[0]: rt:1:* names many",
        ],
    );
    check(
        setting(json!({"nextHop": "224.0.0.1"})),
        &["spec.rules[0].set.nextHop: 224.0.0.1 is not an address"],
    );
}

#[test]
fn contradictions_between_and_inside_rules() {
    use serde_json::json;
    check(rule(json!({})), &["spec.rules[0]: does nothing"]);
    check(
        rule(json!({"set": {"med": 1}, "action": "reject"})),
        &["spec.rules[0].set: a rejected route is not changed"],
    );
    check(
        json!({"rules": [
            {"name": "a", "action": "accept"},
            {"name": "a", "set": {"med": 1}},
            {"name": "", "action": "reject"},
        ]}),
        &[
            "spec.rules[1]: is never asked: rules[0]",
            "spec.rules[1].name: \"a\" is the name of rules[0] too",
            "spec.rules[2]: is never asked: rules[0]",
            "spec.rules[2].name: use 1 to 63",
        ],
    );
    let many = vec![json!({"set": {"med": 1}}); 1001];
    check(
        json!({ "rules": many }),
        &["spec.rules: has 1001 entries: at most 1000"],
    );
}

#[test]
fn unknown_fields_and_words_are_refused() {
    let refused = |text: &str, expected: &str| {
        let error = serde_json::from_str::<BgpRoutePolicySpec>(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    };
    refused(r#"{"rule": []}"#, "unknown field `rule`");
    refused(
        r#"{"rules": [{"match": {"aspath": "1"}}]}"#,
        "unknown field `aspath`",
    );
    refused(
        r#"{"rules": [{"action": "permit"}]}"#,
        "unknown variant `permit`",
    );
    refused(
        r#"{"rules": [{"set": {"nextHop": "peer"}}]}"#,
        "\"peer\" is not a next hop: write self, keep or an address",
    );
}

#[test]
fn a_policy_may_not_take_the_name_of_a_built_in_one() {
    let mut object = Object {
        kind: Kind::BGPRoutePolicy,
        metadata: Metadata::named("default"),
        spec: serde_json::json!({}),
        status: None,
    };
    let error = object.validate().unwrap_err().to_string();
    assert!(
        error.contains("metadata.name: \"default\" is a built-in route policy"),
        "{error}"
    );
    object.metadata.name = "from-tor".to_owned();
    assert!(object.validate().is_ok());
}

#[cfg(feature = "yaml")]
#[test]
fn a_manifest_reads_communities_without_quotes_and_places_problems() {
    let manifest = "apiVersion: roadbed.dev/v1alpha1
kind: BGPRoutePolicy
metadata: {name: from-tor}
spec:
  rules:
    - match: {communities: [65000:1, no-export], sources: [learned]}
      set: {nextHop: self, communities: {add: [65000:59]}}
      action: accept
";
    let objects = crate::manifest::parse(manifest, "f.yaml").unwrap();
    let spec = objects[0].typed::<BgpRoutePolicySpec>().unwrap().spec;
    let conditions = &spec.rules[0].conditions;
    assert_eq!(
        conditions.communities.as_deref().unwrap(),
        ["65000:1", "no-export"]
    );
    assert_eq!(spec.rules[0].changes.communities.add, ["65000:59"]);

    let wrong = manifest.replace("self", "him").replace("learned", "self");
    let errors = crate::manifest::parse(&wrong, "f.yaml").unwrap_err();
    let found: Vec<_> = errors.iter().map(|e| (e.line, e.path.as_str())).collect();
    assert_eq!(
        found,
        [
            (Some(6), "spec.rules[0].match.sources[0]"),
            (Some(7), "spec.rules[0].set.nextHop"),
        ]
    );
}
