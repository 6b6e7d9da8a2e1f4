use roadbed_api::Kind;
use serde_json::{Value, json};

use super::document;

/// Objects that are accepted, with each field of their kind at least once.
pub fn accepted() -> Vec<(Kind, Value)> {
    let all = [
        (Kind::IPPool, "pods-v4", json!({ "cidr": "10.244.0.0/16" })),
        (
            Kind::IPPool,
            "pods-v6",
            json!({
                "cidr": "fd00:244::/48",
                "blockSize": 120,
                "disabled": true,
                "nodeSelector": {
                    "matchLabels": { "rack": "r1" },
                    "matchExpressions": [{ "key": "row", "operator": "In", "values": ["a", "b"] }],
                },
            }),
        ),
        (
            Kind::IPBlock,
            "10-244-0-64-26",
            json!({
                "cidr": "10.244.0.64/26",
                "pool": "pods-v4",
                "owner": { "node": "n1" },
                "state": "Confirmed",
            }),
        ),
        (Kind::BGPConfig, "default", config()),
        (Kind::BGPPeer, "tor", peer()),
        (
            Kind::BGPPeer,
            "appliances",
            json!({
                "listenRange": "fd00:1::/64",
                "asNumber": "external",
                "maxSessions": 10,
                "multihopTtl": 255,
                "holdTimeSeconds": 0,
                "nextHop": "keep",
                "passive": false,
            }),
        ),
        (
            Kind::BGPPeer,
            "reflector",
            json!({ "address": "fd00:255::1", "asNumber": "internal", "routeReflectorClient": true }),
        ),
        (Kind::BGPRoutePolicy, "empty", json!({})),
        (Kind::BGPRoutePolicy, "all", policy()),
    ];
    let document = |(kind, name, spec)| (kind, document(kind, name, &spec));
    all.into_iter().map(document).collect()
}

fn config() -> Value {
    json!({
        "asNumber": 4_294_967_294_u32,
        "listenPort": 0,
        "clusterId": "10.0.0.1",
        "nodePrefixes": ["10.255.0.0/24", "fd00:255::/64"],
        "acceptDefaultRoute": true,
        "nodeMesh": "Enabled",
        "bmp": {
            "noc": { "address": "192.0.2.9" },
            "noc-6": {
                "address": "fd00::9", "port": 5000, "sourceAddress": "fd00::1",
                "connectRetrySeconds": 720, "routeMonitoring": "both", "statisticsSeconds": 0,
            },
        },
        "aggregates": [{ "prefix": "10.8.0.0/16", "summaryOnly": true }, { "prefix": "::/0" }],
        "alwaysCompareMed": true,
        "missingMedAsWorst": true,
        "maxPaths": 64,
        "maxPathsIbgp": 1,
        "multipathAsPathRelax": true,
        "linkBandwidth": "ignore",
        "gracefulShutdown": true,
    })
}

fn peer() -> Value {
    json!({
        "nodeSelector": { "matchExpressions": [{ "key": "rack", "operator": "Exists" }] },
        "address": "192.0.2.1",
        "asNumber": 65101,
        "port": 65535,
        "localAsNumber": 65000,
        "sourceAddress": "192.0.2.2",
        "families": ["ipv4-unicast", "ipv6-unicast"],
        "holdTimeSeconds": 3,
        "keepaliveTimeSeconds": 1,
        "connectRetrySeconds": 1,
        "passive": true,
        "password": "correct-horse",
        "ttlSecurityHops": 254,
        "maxPrefixes": {
            "ipv4-unicast": { "limit": 4_294_967_295_u32, "action": "idle", "restartSeconds": 1, "warnPercent": 100 },
        },
        "maxPrefixesOut": { "ipv6-unicast": { "limit": 1, "action": "warn" } },
        "nextHop": "self",
        "asOverride": true,
        "allowedOwnAs": 10,
        "removePrivateAs": true,
        "role": "route-server-client",
        "roleStrict": true,
        "asMigration": { "noPrepend": true, "replaceAs": true, "dualAs": false },
        "enforceFirstAs": false,
        "extendedNextHop": true,
        "defaultOriginate": { "ipv4-unicast": "if-present" },
        "gracefulShutdown": true,
        "shutdown": "back at noon – Müller",
        "addPath": {
            "ipv4-unicast": { "receive": true, "send": "best-16" },
            "ipv6-unicast": { "send": "all" },
        },
        "importPolicies": ["from-tor", "default"],
        "exportPolicies": ["accept-all"],
    })
}

fn policy() -> Value {
    json!({
        "defaultAction": "next",
        "rules": [
            {
                "name": "one of each – ü",
                "match": {
                    "prefixes": [{ "prefix": "10.0.0.0/8", "ge": 16, "le": 24 }, { "prefix": "10.0.0.0/8" }],
                    "families": ["ipv4-unicast"],
                    "asPath": "^65101 (64512-65534)+ .*$",
                    "asPathLength": { "ge": 0, "le": 65535 },
                    "communities": ["65000:1", "*:*", "no-export"],
                    "largeCommunities": ["65000:*:2"],
                    "extendedCommunities": ["rt:65000:1", "soo:192.0.2.1:*", "0x0002fde800000001"],
                    "nextHops": ["192.0.2.0/24", "fd00::/64"],
                    "peers": ["tor"],
                    "sources": ["ownBlock", "node", "service", "static", "learned"],
                },
                "set": {
                    "localPref": 0,
                    "med": 4_294_967_295_u32,
                    "prependAs": { "asNumber": 65009, "count": 32 },
                    "communities": { "add": ["65001:7", "blackhole"], "remove": ["65001:*"] },
                    "largeCommunities": { "set": [] },
                    "extendedCommunities": { "set": ["rt:4200000000:1"] },
                    "nextHop": "2001:db8::1",
                },
                "action": "accept",
            },
            { "set": { "nextHop": "self", "prependAs": { "count": 1 } } },
            { "action": "reject" },
        ],
    })
}
