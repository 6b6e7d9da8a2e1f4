//! Pools and blocks.

use super::{Rule, cidr, fixed, told};

const POOL_ADVICE: &str =
    "make a pool of another name, disable this one, delete it once it has no blocks";
const BLOCK_ADVICE: &str = "blocks change hands through their owner's agent only";

/// Ranges that no pod gets an address of.
const RESERVED: [&str; 7] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/8",
    "fe80::/10",
    "ff00::/8",
];

pub(super) fn pool() -> Vec<Rule> {
    let mut rules = Vec::from(cidr("spec.cidr"));
    for range in RESERVED {
        rules.push(told(
            "spec.cidr",
            format!(
                "!isCIDR(self) || !(cidr('{range}').containsCIDR(self) || cidr(self).containsCIDR('{range}'))"
            ),
            format!("%s touches {range}, which cannot be given to pods"),
            &["string(cidr(self))"],
        ));
    }
    rules.push(same_cidr(POOL_ADVICE));
    for (version, low, high) in [(4, 20, 32), (6, 116, 128)] {
        rules.push(
            told(
                "spec",
                format!(
                    "!has(self.blockSize) || !isCIDR(self.cidr) || cidr(self.cidr).ip().family() != {version} || (self.blockSize >= {low} && self.blockSize <= {high})"
                ),
                format!("/%s is out of range: a block of %s is /{low} to /{high}"),
                &["string(self.blockSize)", "string(cidr(self.cidr))"],
            )
            .field(".blockSize"),
        );
    }
    let size = block_size("self");
    let former = block_size("oldSelf");
    rules.push(
        told(
            "spec",
            format!("!isCIDR(self.cidr) || {size} >= cidr(self.cidr).prefixLength()"),
            "/%s is larger than the pool %s: a block must fit in its pool",
            &[&format!("string({size})"), "string(cidr(self.cidr))"],
        )
        .field(".blockSize"),
    );
    // Whether it is absent or says the default is one and the same.
    rules.push(
        told(
            "spec",
            format!("self.cidr != oldSelf.cidr || !isCIDR(self.cidr) || {size} == {former}"),
            format!("is /%s and cannot become /%s: {POOL_ADVICE}"),
            &[&format!("string({former})"), &format!("string({size})")],
        )
        .field(".blockSize"),
    );
    rules
}

pub(super) fn block() -> Vec<Rule> {
    let mut rules = Vec::from(cidr("spec.cidr"));
    rules.push(same_cidr(BLOCK_ADVICE));
    rules.push(fixed(
        "spec.pool",
        "self != ''",
        "is empty: name the pool that the block was cut from",
    ));
    rules.push(fixed(
        "spec.owner.node",
        "self != ''",
        "is empty: name the owning node",
    ));
    rules.push(told(
        "spec.owner.node",
        "self == oldSelf",
        format!("is %s and cannot become %s: {BLOCK_ADVICE}"),
        &["oldSelf", "self"],
    ));
    rules
}

/// A range that stays, in whatever spelling.
fn same_cidr(advice: &str) -> Rule {
    told(
        "spec.cidr",
        "!isCIDR(self) || !isCIDR(oldSelf) || cidr(self) == cidr(oldSelf)",
        format!("is %s and cannot become %s: {advice}"),
        &["string(cidr(oldSelf))", "string(cidr(self))"],
    )
}

/// The prefix length of the blocks of a pool, default applied.
fn block_size(spec: &str) -> String {
    format!(
        "(has({spec}.blockSize) ? {spec}.blockSize : cidr({spec}.cidr).ip().family() == 4 ? 26 : 122)"
    )
}
