use roadbed_api::Kind;
use serde_json::{Value, json};

use super::{Example, new};

pub(super) fn examples() -> Vec<Example> {
    let spec = json!({ "address": "192.0.2.1", "asNumber": 65101 });
    let check = |path, patch, message| new(&spec, Kind::BGPPeer, path, patch, message);
    let range = json!({ "listenRange": "192.0.2.0/24", "asNumber": "external" });
    let range = |path, patch, message| new(&range, Kind::BGPPeer, path, patch, message);
    let has_address = "is for a peer with an address: those of a listenRange connect to us";
    let no_policy = "is empty: name a BGPRoutePolicy or one of default, accept-all, reject-all";
    let endless = "is for action idle: with warn the session does not end";
    let mut examples = vec![
        check(
            "spec.address",
            json!({ "address": null }),
            "is missing: give the peer's address, or a listenRange for peers that connect to us",
        ),
        check(
            "spec.address",
            json!({ "address": "tor.example" }),
            "invalid IP address syntax",
        ),
        check(
            "spec.address",
            json!({ "address": "0.0.0.0" }),
            "0.0.0.0 is not a unicast address",
        ),
        check(
            "spec.address",
            json!({ "address": "224.0.0.5" }),
            "224.0.0.5 is not a unicast address",
        ),
        check(
            "spec.address",
            json!({ "address": "FF02::5" }),
            "ff02::5 is not a unicast address",
        ),
        check(
            "spec.sourceAddress",
            json!({ "sourceAddress": "eth0" }),
            "invalid IP address syntax",
        ),
        check(
            "spec.sourceAddress",
            json!({ "sourceAddress": "2001:db8::2" }),
            "2001:db8::2 and address 192.0.2.1 are of different families",
        ),
        check(
            "spec.sourceAddress",
            json!({ "sourceAddress": "192.0.2.1" }),
            "192.0.2.1 is the peer's own address",
        ),
        check(
            "spec.listenRange",
            json!({ "listenRange": "192.0.2.0/24" }),
            "192.0.2.0/24 contradicts address, which is one peer's: remove one",
        ),
        range(
            "spec.listenRange",
            json!({ "listenRange": "192.0.2.0/" }),
            "invalid IP address syntax",
        ),
        range(
            "spec.listenRange",
            json!({ "listenRange": "192.0.2.7/24" }),
            "192.0.2.7/24 has host bits set: write 192.0.2.0/24",
        ),
        range("spec.port", json!({ "port": 1179 }), has_address),
        range(
            "spec.sourceAddress",
            json!({ "sourceAddress": "192.0.2.9" }),
            has_address,
        ),
        range(
            "spec.connectRetrySeconds",
            json!({ "connectRetrySeconds": 1 }),
            has_address,
        ),
        range("spec.passive", json!({ "passive": true }), has_address),
        check(
            "spec.maxSessions",
            json!({ "maxSessions": 5 }),
            "is for a listenRange: an address has one session",
        ),
        check(
            "spec.holdTimeSeconds",
            json!({ "holdTimeSeconds": 2 }),
            "2 is refused by RFC 4271 §4.2: use 0 (never) or at least 3",
        ),
        check(
            "spec.keepaliveTimeSeconds",
            json!({ "keepaliveTimeSeconds": 90 }),
            "90 must be at least 1 and less than the Hold Time of 90",
        ),
        check(
            "spec.keepaliveTimeSeconds",
            json!({ "holdTimeSeconds": 9, "keepaliveTimeSeconds": 0 }),
            "0 must be at least 1 and less than the Hold Time of 9",
        ),
        check(
            "spec.password",
            json!({ "password": "" }),
            "is empty: leave it out for a session without signatures",
        ),
        // 41 characters of two octets.
        check(
            "spec.password",
            json!({ "password": "ü".repeat(41) }),
            "has 82 bytes: TCP-MD5 takes 1 to 80",
        ),
        check(
            "spec.multihopTtl",
            json!({ "ttlSecurityHops": 1, "multihopTtl": 2 }),
            "contradicts ttlSecurityHops, which sends with TTL 255 and says how far away the peer may be: remove one",
        ),
        check(
            "spec.families",
            json!({ "families": [] }),
            "is empty: name ipv4-unicast, ipv6-unicast or both",
        ),
        check(
            "spec.roleStrict",
            json!({ "roleStrict": true }),
            "asks for a role of ours as well: set role",
        ),
        check(
            "spec.asMigration",
            json!({ "asMigration": { "dualAs": true } }),
            "is about a former AS on this session: set localAsNumber to it",
        ),
        // 128 characters of two octets.
        check(
            "spec.shutdown",
            json!({ "shutdown": "ü".repeat(128) }),
            "has 256 octets: RFC 9003 allows 255",
        ),
        check(
            "spec.shutdown",
            json!({ "shutdown": "back\tsoon" }),
            "has control characters: write plain words",
        ),
        check(
            "spec.shutdown",
            json!({ "shutdown": "back\u{85}soon" }),
            "has control characters: write plain words",
        ),
        check(
            "spec.importPolicies[1]",
            json!({ "importPolicies": ["default", ""] }),
            no_policy,
        ),
        check(
            "spec.exportPolicies[0]",
            json!({ "exportPolicies": [""] }),
            no_policy,
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
        examples.push(check("spec.asNumber", json!({ "asNumber": asn }), message));
        examples.push(check(
            "spec.localAsNumber",
            json!({ "localAsNumber": asn }),
            message,
        ));
    }
    for (field, path, restart) in [
        (
            "maxPrefixes",
            "spec.maxPrefixes.ipv4-unicast",
            "spec.maxPrefixes.ipv4-unicast.restartSeconds",
        ),
        (
            "maxPrefixes",
            "spec.maxPrefixes.ipv6-unicast",
            "spec.maxPrefixes.ipv6-unicast.restartSeconds",
        ),
        (
            "maxPrefixesOut",
            "spec.maxPrefixesOut.ipv4-unicast",
            "spec.maxPrefixesOut.ipv4-unicast.restartSeconds",
        ),
        (
            "maxPrefixesOut",
            "spec.maxPrefixesOut.ipv6-unicast",
            "spec.maxPrefixesOut.ipv6-unicast.restartSeconds",
        ),
    ] {
        let limit = json!({ "limit": 10, "action": "warn", "restartSeconds": 5 });
        examples.push(check(restart, of_family(field, path, &limit), endless));
        let limit = json!({ "limit": 10, "action": "warn" });
        examples.push(other_family(&check, field, path, &limit));
    }
    for (field, path, value) in [
        (
            "defaultOriginate",
            "spec.defaultOriginate.ipv4-unicast",
            json!("always"),
        ),
        (
            "defaultOriginate",
            "spec.defaultOriginate.ipv6-unicast",
            json!("if-present"),
        ),
        (
            "addPath",
            "spec.addPath.ipv4-unicast",
            json!({ "receive": true }),
        ),
        (
            "addPath",
            "spec.addPath.ipv6-unicast",
            json!({ "send": "best-2" }),
        ),
    ] {
        examples.push(other_family(&check, field, path, &value));
    }
    examples
}

/// Something for a family that the peer does not have.
fn other_family(
    check: &impl Fn(&'static str, Value, &'static str) -> Example,
    field: &str,
    path: &'static str,
    value: &Value,
) -> Example {
    let mut patch = of_family(field, path, value);
    if path.ends_with("ipv4-unicast") {
        patch["families"] = json!(["ipv6-unicast"]);
        check(
            path,
            patch,
            "ipv4-unicast is not one of this peer's families",
        )
    } else {
        patch["families"] = json!(["ipv4-unicast"]);
        check(
            path,
            patch,
            "ipv6-unicast is not one of this peer's families",
        )
    }
}

fn of_family(field: &str, path: &str, value: &Value) -> Value {
    let family = path.rsplit('.').next().unwrap_or_default();
    json!({ field: { family: value } })
}
