use roadbed_api::Kind;
use serde_json::{Value, json};

use super::{Example, document, new, patched};

pub(super) fn pool() -> Vec<Example> {
    let spec = json!({ "cidr": "10.244.0.0/16" });
    let check = |path, patch, message| new(&spec, Kind::IPPool, path, patch, message);
    let change = |from, path, to, message| change(&spec, Kind::IPPool, from, path, to, message);
    vec![
        check(
            "spec.cidr",
            json!({ "cidr": "10.244.0.0" }),
            "invalid IP address syntax",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "10.244.0.1/16" }),
            "10.244.0.1/16 has host bits set: write 10.244.0.0/16",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "fd00:0::1/64" }),
            "fd00::1/64 has host bits set: write fd00::/64",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "0.0.0.0/0" }),
            "0.0.0.0/0 touches 0.0.0.0/8, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "127.1.0.0/16" }),
            "127.1.0.0/16 touches 127.0.0.0/8, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "169.254.0.0/16" }),
            "169.254.0.0/16 touches 169.254.0.0/16, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "239.0.0.0/16" }),
            "239.0.0.0/16 touches 224.0.0.0/3, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "::/96" }),
            "::/96 touches ::/8, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "fe80::/64" }),
            "fe80::/64 touches fe80::/10, which cannot be given to pods",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "ff02::/64" }),
            "ff02::/64 touches ff00::/8, which cannot be given to pods",
        ),
        check(
            "spec.blockSize",
            json!({ "cidr": "10.0.0.0/8", "blockSize": 64 }),
            "/64 is out of range: a block of 10.0.0.0/8 is /20 to /32",
        ),
        check(
            "spec.blockSize",
            json!({ "cidr": "fd00::/48", "blockSize": 64 }),
            "/64 is out of range: a block of fd00::/48 is /116 to /128",
        ),
        check(
            "spec.blockSize",
            json!({ "cidr": "10.244.0.0/28" }),
            "/26 is larger than the pool 10.244.0.0/28: a block must fit in its pool",
        ),
        check(
            "spec.blockSize",
            json!({ "cidr": "fd00::/120", "blockSize": 116 }),
            "/116 is larger than the pool fd00::/120: a block must fit in its pool",
        ),
        change(
            json!({}),
            "spec.cidr",
            json!({ "cidr": "10.245.0.0/16" }),
            "is 10.244.0.0/16 and cannot become 10.245.0.0/16: make a pool of another name, disable this one, delete it once it has no blocks",
        ),
        change(
            json!({}),
            "spec.blockSize",
            json!({ "blockSize": 27 }),
            "is /26 and cannot become /27: make a pool of another name, disable this one, delete it once it has no blocks",
        ),
        change(
            json!({ "blockSize": 28 }),
            "spec.blockSize",
            json!({ "blockSize": null }),
            "is /28 and cannot become /26: make a pool of another name, disable this one, delete it once it has no blocks",
        ),
    ]
}

pub(super) fn block() -> Vec<Example> {
    let spec = json!({
        "cidr": "10.244.0.64/26", "pool": "pods", "owner": { "node": "n1" }, "state": "Pending",
    });
    let check = |path, patch, message| new(&spec, Kind::IPBlock, path, patch, message);
    let change = |path, to, message| change(&spec, Kind::IPBlock, json!({}), path, to, message);
    vec![
        check(
            "spec.cidr",
            json!({ "cidr": "10.244.0.64-26" }),
            "invalid IP address syntax",
        ),
        check(
            "spec.cidr",
            json!({ "cidr": "10.244.0.65/26" }),
            "10.244.0.65/26 has host bits set: write 10.244.0.64/26",
        ),
        check(
            "spec.pool",
            json!({ "pool": "" }),
            "is empty: name the pool that the block was cut from",
        ),
        check(
            "spec.owner.node",
            json!({ "owner": { "node": "" } }),
            "is empty: name the owning node",
        ),
        change(
            "spec.cidr",
            json!({ "cidr": "10.244.0.128/26" }),
            "is 10.244.0.64/26 and cannot become 10.244.0.128/26: blocks change hands through their owner's agent only",
        ),
        change(
            "spec.owner.node",
            json!({ "owner": { "node": "n2" } }),
            "is n1 and cannot become n2: blocks change hands through their owner's agent only",
        ),
    ]
}

/// A change that is refused, from one patch of the spec to a further one.
fn change(
    spec: &Value,
    kind: Kind,
    from: Value,
    path: &'static str,
    to: Value,
    message: &'static str,
) -> Example {
    let stored = patched(spec, &from);
    Example {
        before: Some(document(kind, "example", &stored)),
        ..new(&stored, kind, path, to, message)
    }
}
