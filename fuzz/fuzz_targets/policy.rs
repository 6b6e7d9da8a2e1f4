//! Route policies: specs as JSON text, and specs built from recipes, so that most inputs are valid and get compiled.
//! Each is asked about a few routes directly, as a chain, and through a memo; all three must agree.
//!
//! The last octet chooses: even, the rest is the JSON of a spec (a file that ends in a newline, octet 10, is a seed as
//! it is); odd, the rest is a recipe.
#![no_main]

use arbitrary::{Result, Unstructured};
use bgp_core::policy::{
    AttributeEditor, AttributeView, Changed, Decision, Direction, Family, LargeCommunity, Memo,
    NextHop, Origin, PathAttributes, RouteView, compile,
};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use roadbed_api::kinds::{BgpRoutePolicySpec, PolicySource};
use roadbed_api::{Metadata, Problems, Resource, Spec};
use serde_json::{Map, Value, json};

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_last() else {
        return;
    };
    if choice % 2 == 0 {
        if let Ok(spec) = serde_json::from_slice(rest) {
            check(spec);
        }
    } else if let Ok(spec) = recipe(&mut Unstructured::new(rest)) {
        if let Ok(spec) = serde_json::from_value(spec) {
            check(spec);
        }
    }
});

fn check(spec: BgpRoutePolicySpec) {
    let written = serde_json::to_value(&spec).expect("a spec can be written");
    let read: BgpRoutePolicySpec = serde_json::from_value(written).expect("what was written reads");
    assert_eq!(read, spec);
    let mut problems = Problems::new();
    spec.validate("spec", &mut problems);
    let resource = Resource::new(Metadata::named("p"), spec);
    let set = match compile(&[resource]) {
        Ok(set) => set,
        Err(found) => {
            assert!(!problems.is_empty());
            assert!(
                found
                    .iter()
                    .all(|p| p.path.starts_with("BGPRoutePolicy/p.spec"))
            );
            return;
        }
    };
    assert!(problems.is_empty());
    let policy = set.get("p").expect("it was compiled");
    let chain = set.chain(&["p"]).expect("it was compiled");
    let mut memo: Memo<usize, Changed> = Memo::new(64);
    for (key, attributes) in routes().iter().enumerate() {
        for prefix in [
            "10.244.1.0/26",
            "10.244.0.0/16",
            "0.0.0.0/0",
            "10.244.1.0/26",
            "192.0.2.1/32",
        ] {
            let route = RouteView {
                prefix: prefix.parse::<IpNet>().expect("a prefix"),
                route: AttributeView {
                    attributes,
                    next_hop: (key != 0).then_some(NextHop::V4([10, 0, 0, 1].into())),
                    peer: (key != 0).then_some("tor1"),
                    source: PolicySource::ALL[key % PolicySource::ALL.len()],
                    family: Family::Ipv4Unicast,
                    local_as: 65001,
                },
            };
            let direct = policy.evaluate(&route);
            let chained = chain.evaluate(&route, Direction::Export);
            assert_eq!(direct.decision, chained.decision);
            let (finished, value) = memo.evaluate(
                1,
                key,
                &chain,
                Direction::Export,
                &route.prefix,
                || route.route,
                |c| c,
                &mut Vec::new(),
            );
            match &direct.decision {
                Decision::Reject => assert!(finished.result.is_err() && value.is_none()),
                Decision::Accept(changed) => {
                    assert!(finished.result.is_ok());
                    assert_eq!(value.cloned().unwrap_or_default(), *changed);
                    if let Some(attributes) = &changed.attributes {
                        assert_eq!(&attributes.edit().build(), attributes);
                    }
                }
            }
            assert_eq!(chain.decided_by(&finished), chained.by);
            let _ = direct.by.to_string();
        }
    }
}

fn routes() -> [PathAttributes; 3] {
    let large = |local2| LargeCommunity {
        global: 65000,
        local1: 1,
        local2,
    };
    [
        AttributeEditor::new(Origin::Igp).build(),
        AttributeEditor::new(Origin::Igp)
            .set_as_path_sequence(&[65101, 65121])
            .set_communities(&[0xfde8_0001, 0xffff_ff01])
            .build(),
        AttributeEditor::new(Origin::Incomplete)
            .set_as_path_sequence(&[65101, 65001, 4_200_000_000, 65121])
            .set_med(Some(5))
            .set_large_communities(&[large(1), large(2)])
            .set_ext_communities(&[[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]])
            .build(),
    ]
}

const PATTERNS: [&str; 20] = [
    "^",
    "$",
    "|",
    "(",
    ")",
    "*",
    "+",
    "?",
    "{2}",
    "{1,3}",
    "{2,}",
    " ",
    "_",
    ".",
    "65101",
    "65121",
    "65[0-9]+",
    "[^1]",
    "64512-65534",
    "4200000000",
];
const COMMUNITIES: [&str; 8] = [
    "65000:1",
    "65000:*",
    "*:*",
    "no-export",
    "blackhole",
    "65536:1",
    "1:2",
    "",
];
const LARGE: [&str; 5] = ["65000:1:1", "65000:*:2", "*:*:*", "1:1", "4294967296:1:1"];
const EXT: [&str; 6] = [
    "rt:65000:1",
    "rt:65000:*",
    "soo:192.0.2.1:7",
    "rt:4200000000:7",
    "0x0002fde800000001",
    "rt:1",
];
const CIDRS: [&str; 7] = [
    "10.244.0.0/16",
    "10.244.1.0/26",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "fd00::/8",
    "::/0",
    "10.0.0.1/24",
];
const FAMILIES: [&str; 2] = ["ipv4-unicast", "ipv6-unicast"];
const SOURCES: [&str; 5] = ["ownBlock", "node", "service", "static", "learned"];
const NEXT_HOPS: [&str; 5] = ["self", "keep", "10.0.0.9", "fd00::9", "224.0.0.1"];

fn recipe(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut rules = Vec::new();
    for _ in 0..u.int_in_range(0..=6)? {
        rules.push(rule(u)?);
    }
    let default = *u.choose(&["accept", "reject", "next"])?;
    Ok(json!({"rules": rules, "defaultAction": default}))
}

fn rule(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut conditions = Map::new();
    let mut set = Map::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let (field, value) = condition(u)?;
        conditions.insert(field.to_owned(), value);
    }
    let action = *u.choose(&[None, Some("accept"), Some("reject")])?;
    if action != Some("reject") {
        for _ in 0..u.int_in_range(0..=3)? {
            let (field, value) = change(u)?;
            set.insert(field.to_owned(), value);
        }
    }
    let action = action.or(set.is_empty().then_some("reject"));
    let mut rule = json!({"match": conditions, "set": set});
    if let (Some(action), Some(rule)) = (action, rule.as_object_mut()) {
        rule.insert("action".to_owned(), action.into());
    }
    Ok(rule)
}

fn list(u: &mut Unstructured<'_>, values: &[&'static str]) -> Result<Value> {
    let mut list = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        list.push(Value::from(*u.choose(values)?));
    }
    Ok(list.into())
}

fn condition(u: &mut Unstructured<'_>) -> Result<(&'static str, Value)> {
    Ok(match u.int_in_range(0..=9)? {
        0 | 1 => {
            let mut ranges = Vec::new();
            for _ in 0..u.int_in_range(1..=3)? {
                let mut range = json!({"prefix": *u.choose(&CIDRS)?});
                if u.arbitrary()? {
                    range["ge"] = u.int_in_range(0..=33u8)?.into();
                }
                if u.arbitrary()? {
                    range["le"] = u.int_in_range(20..=130u8)?.into();
                }
                ranges.push(range);
            }
            ("prefixes", ranges.into())
        }
        2 => ("families", list(u, &FAMILIES)?),
        3 => {
            let mut pattern = String::new();
            for _ in 0..u.int_in_range(1..=8)? {
                pattern.push_str(u.choose(&PATTERNS)?);
            }
            ("asPath", pattern.into())
        }
        4 => ("asPathLength", json!({"ge": u.int_in_range(0..=4u16)?})),
        5 => ("communities", list(u, &COMMUNITIES)?),
        6 => ("largeCommunities", list(u, &LARGE)?),
        7 => ("extendedCommunities", list(u, &EXT)?),
        8 => ("nextHops", list(u, &CIDRS)?),
        _ if u.arbitrary()? => ("peers", list(u, &["tor1", "tor2", ""])?),
        _ => ("sources", list(u, &SOURCES)?),
    })
}

fn change(u: &mut Unstructured<'_>) -> Result<(&'static str, Value)> {
    Ok(match u.int_in_range(0..=6)? {
        0 => ("localPref", u.arbitrary::<u32>()?.into()),
        1 => ("med", u.arbitrary::<u32>()?.into()),
        2 => ("prependAs", json!({"count": u.int_in_range(0..=33u8)?})),
        3 => ("communities", lists(u, &COMMUNITIES)?),
        4 => ("largeCommunities", lists(u, &LARGE)?),
        5 => ("extendedCommunities", lists(u, &EXT)?),
        _ => ("nextHop", Value::from(*u.choose(&NEXT_HOPS)?)),
    })
}

fn lists(u: &mut Unstructured<'_>, values: &[&'static str]) -> Result<Value> {
    Ok(match u.int_in_range(0..=3)? {
        0 => json!({"set": list(u, values)?}),
        1 => json!({"set": []}),
        2 => json!({"remove": list(u, values)?}),
        _ => json!({"add": list(u, values)?, "remove": list(u, values)?}),
    })
}
