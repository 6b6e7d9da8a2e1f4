use bgp_wire::{AttributeEditor, LargeCommunity, Origin};
use roadbed_api::kinds::{
    AddressFamily, BgpRoutePolicySpec, CommunityPattern, LengthRange, ListChange, NextHopChange,
    PolicyMatch, PolicyRule, PolicySet as Set, PrefixRange, PrependAs,
};
use roadbed_api::{Metadata, Resource};

use super::*;
use crate::policy::{Builtin, Chain, Direction, ImportContext, Memo, PolicySet, compile};

mod property;

fn resource(name: &str, spec: BgpRoutePolicySpec) -> Resource<BgpRoutePolicySpec> {
    Resource::new(Metadata::named(name), spec)
}

fn policy(rules: Vec<PolicyRule>) -> Arc<CompiledPolicy> {
    let spec = BgpRoutePolicySpec {
        rules,
        default_action: DefaultAction::Reject,
    };
    let set = compile(&[resource("p", spec)]).unwrap();
    set.get("p").unwrap().clone()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn large(local2: u32) -> LargeCommunity {
    LargeCommunity {
        global: 65000,
        local1: 1,
        local2,
    }
}

/// 65101 65121, communities 65000:1 and no-export, one large and one extended community, by way of tor1.
fn attributes() -> PathAttributes {
    AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&[65101, 65121])
        .set_communities(&[0xfde8_0001, 0xffff_ff01])
        .set_large_communities(&[large(2)])
        .set_ext_communities(&[[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]])
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

fn route(attributes: &PathAttributes) -> RouteView<'_> {
    RouteView {
        prefix: "10.244.1.0/26".parse().unwrap(),
        route: view(attributes),
    }
}

fn accept(conditions: PolicyMatch) -> PolicyRule {
    PolicyRule {
        conditions,
        action: Some(PolicyAction::Accept),
        ..PolicyRule::default()
    }
}

#[test]
fn each_condition_alone() {
    let attributes = attributes();
    let check = |conditions: PolicyMatch, expected: bool| {
        let text = format!("{conditions:?}");
        let outcome = policy(vec![accept(conditions)]).evaluate(&route(&attributes));
        assert_eq!(outcome.decision != Decision::Reject, expected, "{text}");
        let by_rule = matches!(outcome.by, DecidedBy::Rule { index: 0, .. });
        assert_eq!(by_rule, expected, "{text}: {:?}", outcome.by);
    };
    let any = PolicyMatch::default;
    check(any(), true);
    let prefixes = |text: &str, ge, le| PolicyMatch {
        prefixes: Some(vec![PrefixRange {
            prefix: text.parse().unwrap(),
            ge,
            le,
        }]),
        ..any()
    };
    check(prefixes("10.244.0.0/16", Some(26), Some(26)), true);
    check(prefixes("10.244.0.0/16", None, None), false);
    check(prefixes("10.244.1.0/26", None, None), true);
    check(prefixes("10.244.0.0/16", Some(27), None), false);
    check(prefixes("fd00::/8", Some(26), None), false);
    for (families, expected) in [
        (vec![AddressFamily::Ipv4Unicast], true),
        (vec![AddressFamily::Ipv6Unicast], false),
        (AddressFamily::all(), true),
    ] {
        let families = Some(families);
        check(PolicyMatch { families, ..any() }, expected);
    }
    for (pattern, expected) in [("^65101 65121$", true), ("65102", false), ("^$", false)] {
        let as_path = Some(pattern.to_owned());
        check(PolicyMatch { as_path, ..any() }, expected);
    }
    for (ge, le, expected) in [
        (Some(2), Some(2), true),
        (Some(3), None, false),
        (None, Some(1), false),
        (None, Some(2), true),
    ] {
        let as_path_length = Some(LengthRange { ge, le });
        check(
            PolicyMatch {
                as_path_length,
                ..any()
            },
            expected,
        );
    }
    for (list, expected) in [
        (&["65000:1"][..], true),
        (&["65000:2", "no-export"], true),
        (&["65000:2"], false),
        (&["65000:*"], true),
        (&["65001:*"], false),
        (&["*:1"], true),
    ] {
        let communities = Some(strings(list));
        check(
            PolicyMatch {
                communities,
                ..any()
            },
            expected,
        );
    }
    for (list, expected) in [
        (&["65000:1:2"][..], true),
        (&["65000:1:3"], false),
        (&["65000:*:2"], true),
        (&["1:*:*", "*:*:3"], false),
    ] {
        let large_communities = Some(strings(list));
        check(
            PolicyMatch {
                large_communities,
                ..any()
            },
            expected,
        );
    }
    for (list, expected) in [
        (&["rt:65000:1"][..], true),
        (&["soo:65000:1"], false),
        (&["rt:65000:*"], true),
        (&["rt:65001:*", "0x0002fde800000002"], false),
    ] {
        let extended_communities = Some(strings(list));
        check(
            PolicyMatch {
                extended_communities,
                ..any()
            },
            expected,
        );
    }
    for (cidr, expected) in [
        ("10.0.0.0/24", true),
        ("10.0.1.0/24", false),
        ("::/0", false),
    ] {
        let next_hops = Some(vec![cidr.parse().unwrap()]);
        check(PolicyMatch { next_hops, ..any() }, expected);
    }
    for (list, expected) in [(&["tor2", "tor1"][..], true), (&["tor2"], false)] {
        let peers = Some(strings(list));
        check(PolicyMatch { peers, ..any() }, expected);
    }
    for source in PolicySource::ALL {
        let sources = Some(vec![source]);
        check(
            PolicyMatch { sources, ..any() },
            source == PolicySource::Learned,
        );
    }
    // All conditions that are given must hold.
    check(
        PolicyMatch {
            communities: Some(strings(&["65000:1"])),
            peers: Some(strings(&["tor2"])),
            ..any()
        },
        false,
    );
}

#[test]
fn what_a_route_lacks_matches_nothing() {
    let none = AttributeEditor::new(Origin::Igp).build();
    let mut own = route(&none);
    own.route.peer = None;
    own.route.next_hop = None;
    own.route.source = PolicySource::OwnBlock;
    let all = PolicyMatch::default;
    for conditions in [
        PolicyMatch {
            communities: Some(strings(&["*:*"])),
            ..all()
        },
        PolicyMatch {
            large_communities: Some(strings(&["*:*:*"])),
            ..all()
        },
        PolicyMatch {
            peers: Some(strings(&["tor1"])),
            ..all()
        },
        PolicyMatch {
            next_hops: Some(vec!["0.0.0.0/0".parse().unwrap()]),
            ..all()
        },
    ] {
        let text = format!("{conditions:?}");
        let outcome = policy(vec![accept(conditions)]).evaluate(&own);
        assert_eq!(outcome.decision, Decision::Reject, "{text}");
    }
}

fn changed(sets: &[Set], family: Family) -> Changed {
    let mut rules: Vec<PolicyRule> = sets
        .iter()
        .map(|set| PolicyRule {
            changes: set.clone(),
            ..PolicyRule::default()
        })
        .collect();
    rules.push(accept(PolicyMatch::default()));
    let attributes = attributes();
    let mut route = route(&attributes);
    route.route.family = family;
    match policy(rules).evaluate(&route).decision {
        Decision::Accept(changed) => changed,
        Decision::Reject => panic!("the last rule accepts"),
    }
}

#[test]
fn each_change_alone() {
    let change = |set: Set| changed(&[set], Family::Ipv4Unicast).attributes.unwrap();
    let base = Set::default;
    let after = change(Set {
        local_pref: Some(200),
        med: Some(10),
        ..base()
    });
    assert_eq!(
        (after.hot().local_pref, after.hot().med),
        (Some(200), Some(10))
    );
    let prepend = |as_number, count| {
        let prepend_as = Some(PrependAs { as_number, count });
        change(Set {
            prepend_as,
            ..base()
        })
        .as_path()
        .to_string()
    };
    assert_eq!(prepend(None, 2), "65001 65001 65101 65121");
    assert_eq!(prepend(Some(7), 1), "7 65101 65121");
    let list = |add: &[&str], remove: &[&str], set: Option<&[&str]>| ListChange {
        add: strings(add),
        remove: strings(remove),
        set: set.map(strings),
    };
    let communities = |communities| -> Vec<u32> {
        change(Set {
            communities,
            ..base()
        })
        .communities()
        .collect()
    };
    assert_eq!(
        communities(list(&["65000:2"], &[], None)),
        [0xfde8_0001, 0xfde8_0002, 0xffff_ff01]
    );
    assert_eq!(
        communities(list(&["65000:2"], &["65000:*"], None)),
        [0xfde8_0002, 0xffff_ff01]
    );
    assert!(communities(list(&[], &["*:*"], None)).is_empty());
    assert_eq!(
        communities(list(&[], &[], Some(&["blackhole"]))),
        [0xffff_029a]
    );
    assert!(communities(list(&[], &[], Some(&[]))).is_empty());
    let large_communities = list(&["65000:1:3"], &["65000:*:2"], None);
    let after = change(Set {
        large_communities,
        ..base()
    });
    assert_eq!(after.large_communities().collect::<Vec<_>>(), [large(3)]);
    let extended_communities = list(&[], &["rt:65000:*"], None);
    let after = change(Set {
        extended_communities,
        ..base()
    });
    assert_eq!(after.ext_communities().count(), 0);
    assert_eq!(after.communities().count(), 2, "the others stay");
}

#[test]
fn changes_add_up_over_rules_while_conditions_see_the_route_as_it_came() {
    let add = |community: &str| Set {
        communities: ListChange {
            add: strings(&[community]),
            ..ListChange::default()
        },
        prepend_as: Some(PrependAs {
            as_number: Some(7),
            count: 1,
        }),
        ..Set::default()
    };
    let both = changed(&[add("65000:7"), add("65000:8")], Family::Ipv4Unicast);
    let both = both.attributes.unwrap();
    assert_eq!(both.communities().count(), 4);
    assert_eq!(both.as_path().to_string(), "7 7 65101 65121");

    let attributes = attributes();
    let rules = vec![
        PolicyRule {
            changes: add("65000:7"),
            ..PolicyRule::default()
        },
        accept(PolicyMatch {
            communities: Some(strings(&["65000:7"])),
            ..PolicyMatch::default()
        }),
    ];
    let outcome = policy(rules).evaluate(&route(&attributes));
    assert_eq!(outcome.decision, Decision::Reject);
    assert_eq!(outcome.by.to_string(), "p: defaultAction");
}

#[test]
fn what_stays_the_same_is_no_change() {
    let same = Set {
        communities: ListChange {
            add: strings(&["65000:1"]),
            remove: strings(&["65000:99"]),
            set: None,
        },
        ..Set::default()
    };
    assert_eq!(changed(&[same], Family::Ipv4Unicast), Changed::default());
}

#[test]
fn next_hops() {
    let set = |text: &str| Set {
        next_hop: Some(NextHopChange::try_from(text.to_owned()).unwrap()),
        ..Set::default()
    };
    let check = |sets: &[&str], family, expected: Option<&str>| {
        let sets: Vec<Set> = sets.iter().map(|text| set(text)).collect();
        let found = changed(&sets, family).next_hop.map(|n| n.to_string());
        assert_eq!(found.as_deref(), expected, "{sets:?}");
    };
    check(&[], Family::Ipv4Unicast, None);
    check(&["self"], Family::Ipv4Unicast, Some("self"));
    check(&["self", "keep"], Family::Ipv4Unicast, Some("keep"));
    check(&["10.0.0.9"], Family::Ipv4Unicast, Some("10.0.0.9"));
    check(&["fd00::9"], Family::Ipv4Unicast, Some("fd00::9"));
    check(&["10.0.0.9"], Family::Ipv6Unicast, None);
    check(
        &["fd00::9", "10.0.0.9"],
        Family::Ipv6Unicast,
        Some("fd00::9"),
    );
}

#[test]
fn who_decided() {
    let attributes = attributes();
    let rule = |name: Option<&str>, peer: &str, action| PolicyRule {
        name: name.map(str::to_owned),
        conditions: PolicyMatch {
            peers: Some(strings(&[peer])),
            ..PolicyMatch::default()
        },
        action: Some(action),
        ..PolicyRule::default()
    };
    let spec = |rules, default_action| BgpRoutePolicySpec {
        rules,
        default_action,
    };
    let set = compile(&[
        resource(
            "other",
            spec(
                vec![rule(None, "tor2", PolicyAction::Accept)],
                DefaultAction::Next,
            ),
        ),
        resource(
            "tor",
            spec(
                vec![rule(Some("one"), "tor1", PolicyAction::Reject)],
                DefaultAction::Next,
            ),
        ),
        resource("open", spec(Vec::new(), DefaultAction::Accept)),
        resource("closed", spec(Vec::new(), DefaultAction::Reject)),
    ])
    .unwrap();
    let check = |names: &[&str], accepted: bool, by: &str| {
        let outcome = set
            .chain(names)
            .unwrap()
            .evaluate(&route(&attributes), Direction::Export);
        let found = (outcome.decision != Decision::Reject, outcome.by.to_string());
        assert_eq!(found, (accepted, by.to_owned()), "{names:?}");
    };
    check(&[], false, "no policy decides (RFC 8212)");
    check(&["other"], false, "no policy decides (RFC 8212)");
    check(&["other", "tor"], false, "tor: rules[0] \"one\"");
    check(&["other", "open", "tor"], true, "open: defaultAction");
    check(&["closed", "open"], false, "closed: defaultAction");
    check(
        &["other", "accept-all", "closed"],
        true,
        "accept-all: built in",
    );
    check(&["default"], false, "default: built in");
    let unknown = set.chain(&["open", "nowhere"]).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "there is no route policy \"nowhere\": known are default, accept-all, reject-all, closed, open, other, tor"
    );
}

#[test]
fn equal_policies_make_equal_chains() {
    let spec = |default_action| BgpRoutePolicySpec {
        rules: Vec::new(),
        default_action,
    };
    let chain = |action| {
        let set = compile(&[resource("p", spec(action))]).unwrap();
        set.chain(&["p", "default"]).unwrap()
    };
    assert_eq!(chain(DefaultAction::Next), chain(DefaultAction::Next));
    assert_ne!(chain(DefaultAction::Next), chain(DefaultAction::Accept));
    let builtin = PolicySet::default().chain(&["default"]).unwrap();
    assert_eq!(builtin, Chain::new(&[Builtin::Default]));
    // What the RIB asks without attributes never passes by a declared policy.
    let declared = chain(DefaultAction::Accept);
    assert!(declared.export(RouteSource::Node).is_err());
    let context = ImportContext::default();
    assert!(
        declared
            .import(&context, &"10.0.0.0/8".parse().unwrap())
            .is_err()
    );
}

#[test]
fn problems_of_all_policies_come_together() {
    let wrong = BgpRoutePolicySpec {
        rules: vec![PolicyRule::default()],
        ..BgpRoutePolicySpec::default()
    };
    let fine = BgpRoutePolicySpec::default();
    let problems = compile(&[
        resource("a", wrong.clone()),
        resource("b", wrong),
        resource("default", fine.clone()),
        resource("a", fine),
    ])
    .unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "BGPRoutePolicy/a.spec.rules[0]",
            "BGPRoutePolicy/b.spec.rules[0]",
            "BGPRoutePolicy/default.metadata.name",
            "BGPRoutePolicy/a.metadata.name",
        ]
    );
}

#[test]
fn a_memo_asks_once_and_forgets_with_the_generation() {
    let rules = vec![PolicyRule {
        changes: Set {
            med: Some(5),
            ..Set::default()
        },
        action: Some(PolicyAction::Accept),
        ..PolicyRule::default()
    }];
    let attributes = attributes();
    let chain = Chain::from(vec![crate::policy::Step::Named(policy(rules))]);
    let asked = std::cell::Cell::new(0);
    let mut made = 0;
    let mut memo: Memo<u32, u32> = Memo::new(100);
    let mut forgotten = Vec::new();
    let mut ask = |generation, key, prefix: &str| {
        let (finished, value) = memo.evaluate(
            generation,
            key,
            &chain,
            Direction::Export,
            &prefix.parse().unwrap(),
            || {
                asked.set(asked.get() + 1);
                view(&attributes)
            },
            |_| {
                made += 1;
                made
            },
            &mut forgotten,
        );
        assert!(finished.result.is_ok());
        *value.unwrap()
    };
    assert_eq!(ask(1, 7, "10.0.0.0/8"), 1);
    assert_eq!(ask(1, 7, "10.0.0.0/9"), 1);
    assert_eq!(asked.get(), 2, "once for the verdict, once for the change");
    assert_eq!(ask(1, 8, "10.0.0.0/8"), 2);
    assert_eq!(ask(2, 7, "10.0.0.0/8"), 3);
    forgotten.sort_unstable();
    assert_eq!(forgotten, [1, 2]);
    assert_eq!(memo.clear().collect::<Vec<_>>(), [3]);
    assert!(memo.is_empty());
}
