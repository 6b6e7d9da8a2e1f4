use roadbed_api::Kind;
use serde_json::json;

use super::{Example, document, new};

pub(super) fn examples() -> Vec<Example> {
    let spec = json!({ "asNumber": 65001 });
    let check = |path, patch, message| new(&spec, Kind::BGPConfig, path, patch, message);
    vec![
        Example {
            object: document(Kind::BGPConfig, "other", &spec),
            ..check(
                "metadata.name",
                json!({}),
                "there is one BGPConfig and its name is \"default\", not \"other\"",
            )
        },
        check(
            "spec.asNumber",
            json!({ "asNumber": 0 }),
            "AS 0 is reserved (RFC 7607): use 1 to 4294967294",
        ),
        check(
            "spec.asNumber",
            json!({ "asNumber": 23456 }),
            "AS 23456 is AS_TRANS (RFC 6793): use the real AS number",
        ),
        check(
            "spec.asNumber",
            json!({ "asNumber": 4_294_967_295_u32 }),
            "AS 4294967295 is reserved (RFC 7300): use 1 to 4294967294",
        ),
        check(
            "spec.routerId",
            json!({ "routerId": "10.0.0.1" }),
            "no two nodes may share it: set router_id in each agent's file, or leave it to the first IPv4 address in node_addresses",
        ),
        check(
            "spec.nodePrefixes[0]",
            json!({ "nodePrefixes": ["10.255.0.0"] }),
            "invalid IP address syntax",
        ),
        check(
            "spec.nodePrefixes[1]",
            json!({ "nodePrefixes": ["fd00::/64", "10.255.0.1/24"] }),
            "10.255.0.1/24 has host bits set: write 10.255.0.0/24",
        ),
        check(
            "spec.bmp.noc.address",
            json!({ "bmp": { "noc": { "address": "noc.example" } } }),
            "invalid IP address syntax",
        ),
        check(
            "spec.bmp.noc.address",
            json!({ "bmp": { "noc": { "address": "224.0.0.1" } } }),
            "224.0.0.1 is not the address of a collector",
        ),
        check(
            "spec.bmp.noc.address",
            json!({ "bmp": { "noc": { "address": "ff02::1" } } }),
            "ff02::1 is not the address of a collector",
        ),
        check(
            "spec.bmp.noc.sourceAddress",
            json!({ "bmp": { "noc": { "address": "192.0.2.9", "sourceAddress": "lo" } } }),
            "invalid IP address syntax",
        ),
        check(
            "spec.bmp.noc.sourceAddress",
            json!({ "bmp": { "noc": { "address": "192.0.2.9", "sourceAddress": "fd00::1" } } }),
            "fd00::1 is of another family than 192.0.2.9",
        ),
        check(
            "spec.aggregates[0].prefix",
            json!({ "aggregates": [{ "prefix": "10.8.0.0/33" }] }),
            "invalid IP address syntax",
        ),
        check(
            "spec.aggregates[0].prefix",
            json!({ "aggregates": [{ "prefix": "10.8.1.0/16", "summaryOnly": true }] }),
            "10.8.1.0/16 has host bits set: write 10.8.0.0/16",
        ),
    ]
}
