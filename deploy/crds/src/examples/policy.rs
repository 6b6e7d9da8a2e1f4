use roadbed_api::Kind;
use roadbed_api::kinds::BUILTIN_POLICIES;
use serde_json::{Value, json};

use super::{Example, document, new};

pub(super) fn examples() -> Vec<Example> {
    let spec = json!({});
    let kind = Kind::BGPRoutePolicy;
    // One rule, which is `rules[0]`.
    let check =
        |path, rule: Value, message| new(&spec, kind, path, json!({ "rules": [rule] }), message);
    let matching = |path, conditions: Value, message| {
        check(
            path,
            json!({ "match": conditions, "action": "accept" }),
            message,
        )
    };
    let setting = |path, changes: Value, message| check(path, json!({ "set": changes }), message);
    let empty = "is empty and would match no route: leave it out to match every route";
    let replaces = "replaces all communities: write add and remove without it, or put all into it";
    let mut examples = vec![
        Example {
            object: document(kind, BUILTIN_POLICIES[1], &spec),
            ..new(
                &spec,
                kind,
                "metadata.name",
                json!({}),
                "\"accept-all\" is a built-in route policy: choose another name",
            )
        },
        check(
            "spec.rules[0]",
            json!({ "match": { "families": ["ipv6-unicast"] }, "set": { "communities": { "add": [] } } }),
            "does nothing: give it an action (accept or reject), something to set, or both",
        ),
        check(
            "spec.rules[0].set",
            json!({ "action": "reject", "set": { "largeCommunities": { "set": [] } } }),
            "a rejected route is not changed: leave it out or accept",
        ),
        check(
            "spec.rules[0].name",
            json!({ "name": "", "action": "accept" }),
            "use 1 to 63 printable characters",
        ),
        check(
            "spec.rules[0].name",
            json!({ "name": "two\nlines", "action": "accept" }),
            "use 1 to 63 printable characters",
        ),
        matching(
            "spec.rules[0].match.prefixes",
            json!({ "prefixes": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.families",
            json!({ "families": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.communities",
            json!({ "communities": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.largeCommunities",
            json!({ "largeCommunities": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.extendedCommunities",
            json!({ "extendedCommunities": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.nextHops",
            json!({ "nextHops": [] }),
            empty,
        ),
        matching("spec.rules[0].match.peers", json!({ "peers": [] }), empty),
        matching(
            "spec.rules[0].match.sources",
            json!({ "sources": [] }),
            empty,
        ),
        matching(
            "spec.rules[0].match.asPathLength",
            json!({ "asPathLength": {} }),
            "give ge, le or both",
        ),
        matching(
            "spec.rules[0].match.asPathLength.ge",
            json!({ "asPathLength": { "ge": 5, "le": 4 } }),
            "5 is more than le, 4: no path is that long",
        ),
        setting(
            "spec.rules[0].set.communities.set",
            json!({ "communities": { "set": [], "add": ["65000:1"] } }),
            replaces,
        ),
        setting(
            "spec.rules[0].set.largeCommunities.set",
            json!({ "largeCommunities": { "set": ["65000:1:1"], "remove": ["65000:1:*"] } }),
            replaces,
        ),
        setting(
            "spec.rules[0].set.extendedCommunities.set",
            json!({ "extendedCommunities": { "set": ["rt:65000:1"], "add": ["soo:65000:1"] } }),
            replaces,
        ),
        setting(
            "spec.rules[0].set.nextHop",
            json!({ "nextHop": "me" }),
            "\"me\" is not a next hop: write self, keep or an address",
        ),
        setting(
            "spec.rules[0].set.nextHop",
            json!({ "nextHop": "127.0.0.1" }),
            "127.0.0.1 is not an address that packets can be sent to",
        ),
        setting(
            "spec.rules[0].set.nextHop",
            json!({ "nextHop": "ff02::1" }),
            "ff02::1 is not an address that packets can be sent to",
        ),
    ];
    for (asn, message) in [
        (0, "AS 0 is reserved (RFC 7607): use 1 to 4294967294"),
        (
            23456,
            "AS 23456 is AS_TRANS (RFC 6793): use the real AS number",
        ),
        (
            u32::MAX,
            "AS 4294967295 is reserved (RFC 7300): use 1 to 4294967294",
        ),
    ] {
        examples.push(setting(
            "spec.rules[0].set.prependAs.asNumber",
            json!({ "prependAs": { "asNumber": asn, "count": 2 } }),
            message,
        ));
    }
    examples
}
