//! What is decided per route: the best of several paths, and policies. `make bench-micro` runs it.

use std::net::Ipv4Addr;

use bgp_core::policy::{
    AttributeEditor, AttributeView, Chain, Changed, Direction, Family, Memo, NextHop, Origin,
    PathAttributes, compile,
};
use bgp_core::rib::best::{Candidate, select};
use divan::{Bencher, black_box};
use ipnet::IpNet;
use roadbed_api::kinds::{BgpRoutePolicySpec, PolicySource};
use roadbed_api::{Metadata, Resource};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Paths that differ in nothing before the BGP Identifier: every step has to look at all of them.
fn tied(count: u32) -> Vec<Candidate> {
    (1..=count)
        .map(|n| Candidate {
            ineligible: None,
            local: false,
            local_pref: 100,
            as_path_len: 3,
            origin: 0,
            med: 0,
            neighbor_as: Some(65000 + n),
            ebgp: true,
            igp_cost: 10,
            bgp_id: 1000 - n,
            cluster_list_len: 0,
            peer_address: Ipv4Addr::from(0x0a00_0000 + n).into(),
            path_id: 0,
        })
        .collect()
}

const CANDIDATES: [u32; 3] = [2, 8, 30];

/// The shortest AS_PATH wins: most paths drop out early.
#[divan::bench(args = CANDIDATES)]
fn best_path_by_as_path(bencher: Bencher<'_, '_>, candidates: u32) {
    let mut paths = tied(candidates);
    paths[candidates as usize / 2].as_path_len = 2;
    bencher.bench_local(|| select(black_box(&paths)));
}

#[divan::bench(args = CANDIDATES)]
fn best_path_by_identifier(bencher: Bencher<'_, '_>, candidates: u32) {
    let paths = tied(candidates);
    bencher.bench_local(|| select(black_box(&paths)));
}

/// Different MEDs from two neighbouring ASes: compared within each.
#[divan::bench(args = CANDIDATES)]
fn best_path_with_med(bencher: Bencher<'_, '_>, candidates: u32) {
    let mut paths = tied(candidates);
    for (n, path) in (0..).zip(&mut paths) {
        path.med = 100 - n;
        path.neighbor_as = Some(65000 + n % 2);
    }
    bencher.bench_local(|| select(black_box(&paths)));
}

fn chain(rules: Vec<Value>) -> Chain {
    let spec = json!({"rules": rules, "defaultAction": "reject"});
    let spec: BgpRoutePolicySpec = serde_json::from_value(spec).expect("a valid spec");
    let policies = compile(&[Resource::new(Metadata::named("p"), spec)]).expect("a valid policy");
    policies.chain(&["p"]).expect("it was compiled")
}

/// One rule that takes the fabric's prefixes and marks them.
fn small() -> Chain {
    chain(vec![json!({
        "match": {"prefixes": [{"prefix": "10.244.0.0/16", "ge": 26, "le": 26}]},
        "set": {"localPref": 200, "communities": {"add": ["65000:2"]}},
        "action": "accept",
    })])
}

/// A hundred rules of mixed conditions; the last one accepts.
fn long() -> Chain {
    let mut rules: Vec<Value> = (0..99)
        .map(|n| match n % 3 {
            0 => json!({
                "match": {"prefixes": [{"prefix": format!("10.{n}.0.0/16"), "le": 32}], "communities": [format!("65000:{n}")]},
                "action": "reject",
            }),
            1 => json!({"match": {"asPath": format!("^65{n:03} .* 4200000001$")}, "action": "reject"}),
            _ => json!({"match": {"communities": [format!("65001:{n}")]}, "set": {"med": n}}),
        })
        .collect();
    rules.push(json!({"set": {"localPref": 200}, "action": "accept"}));
    chain(rules)
}

const SMALL: &str = "1 rule";
const LONG: &str = "100 rules";

fn named(name: &str) -> Chain {
    if name == LONG { long() } else { small() }
}

fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[65101, 4_200_000_001, 65121])
        .set_communities(&[0xfde9_0001, 0xfde9_0002])
        .build()
}

fn view(attributes: &PathAttributes) -> AttributeView<'_> {
    AttributeView {
        attributes,
        next_hop: Some(NextHop::V4([10, 0, 0, 1].into())),
        peer: Some("tor1"),
        source: PolicySource::Learned,
        family: Family::Ipv4Unicast,
        local_as: 65001,
    }
}

fn prefix() -> IpNet {
    "10.244.1.0/26".parse().expect("a prefix")
}

/// Attributes that were never seen: all rules, and the changed set is built.
#[divan::bench(args = [SMALL, LONG])]
fn policy_new_attributes(bencher: Bencher<'_, '_>, rules: &str) {
    let (chain, attributes, prefix) = (named(rules), attributes(), prefix());
    bencher.bench_local(|| {
        let verdict = chain.attribute_part(&view(black_box(&attributes)));
        let finished = chain.finish(&verdict, Direction::Export, &prefix);
        black_box(chain.apply(&finished.changes, &view(&attributes)))
    });
}

/// Attributes that the memo knows: only what depends on the prefix.
#[divan::bench(args = [SMALL, LONG])]
fn policy_known_attributes(bencher: Bencher<'_, '_>, rules: &str) {
    let (chain, attributes, prefix) = (named(rules), attributes(), prefix());
    let mut memo: Memo<u32, Changed> = Memo::new(1024);
    bencher.bench_local(|| {
        let (finished, changed) = memo.evaluate(
            1,
            7,
            &chain,
            Direction::Export,
            black_box(&prefix),
            || view(&attributes),
            |changed| changed,
            &mut Vec::new(),
        );
        assert!(finished.result.is_ok());
        black_box(changed.is_some())
    });
}
