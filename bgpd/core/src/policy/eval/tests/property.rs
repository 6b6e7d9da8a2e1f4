//! Random policies and routes: evaluation against an oracle, remembered against direct.

use proptest::prelude::*;

use super::*;

/// What the words of a specification say, in the plainest way: no tries, no split, no machine for paths.
mod oracle {
    use super::*;

    fn holds(rule: &PolicyMatch, route: &RouteView<'_>) -> bool {
        let view = &route.route;
        let attributes = view.attributes;
        let family = match view.family {
            Family::Ipv4Unicast => AddressFamily::Ipv4Unicast,
            Family::Ipv6Unicast => AddressFamily::Ipv6Unicast,
        };
        let asns: Vec<String> = attributes.as_path().asns().map(|a| a.to_string()).collect();
        let any_of = |list: &Option<Vec<String>>, found: &dyn Fn(&str) -> bool| {
            list.as_ref().is_none_or(|l| l.iter().any(|t| found(t)))
        };
        let communities = |text: &str| {
            let pattern: CommunityPattern = text.parse().unwrap();
            attributes.communities().any(|c| pattern.matches(c))
        };
        let large = |text: &str| {
            let text = text.split(':').collect::<Vec<_>>();
            attributes.large_communities().any(|c| {
                let parts = [c.global, c.local1, c.local2].map(|p| p.to_string());
                text.iter().zip(parts).all(|(t, p)| *t == "*" || *t == p)
            })
        };
        rule.prefixes
            .as_ref()
            .is_none_or(|l| l.iter().any(|r| r.contains(&route.prefix)))
            && rule.families.as_ref().is_none_or(|l| l.contains(&family))
            && rule
                .as_path
                .as_ref()
                .is_none_or(|text| match text.as_str() {
                    "^1" => asns.first().is_some_and(|a| a == "1"),
                    "2$" => asns.last().is_some_and(|a| a == "2"),
                    "^$" => asns.is_empty(),
                    "1 2" => asns.windows(2).any(|w| w == ["1", "2"]),
                    other => panic!("{other}"),
                })
            && rule.as_path_length.is_none_or(|range| {
                let len = asns.len() as u16;
                range.ge.is_none_or(|ge| ge <= len) && range.le.is_none_or(|le| len <= le)
            })
            && any_of(&rule.communities, &communities)
            && any_of(&rule.large_communities, &large)
            && rule
                .next_hops
                .as_ref()
                .is_none_or(|cidrs| match view.next_hop {
                    Some(NextHop::V4(a)) => cidrs.iter().any(|c| c.contains(&IpAddr::V4(a))),
                    _ => false,
                })
            && any_of(&rule.peers, &|name| view.peer == Some(name))
            && rule
                .sources
                .as_ref()
                .is_none_or(|l| l.contains(&view.source))
    }

    /// Whether the route passes, by which rule of which policy, and what it looks like then.
    pub(super) fn evaluate(
        chain: &[BgpRoutePolicySpec],
        route: &RouteView<'_>,
    ) -> (bool, Option<(usize, Option<usize>)>, Changed) {
        let mut editor = route.route.attributes.edit();
        let (mut next_hop, mut sets_med) = (None, false);
        for (p, policy) in chain.iter().enumerate() {
            for (r, rule) in policy.rules.iter().enumerate() {
                if !holds(&rule.conditions, route) {
                    continue;
                }
                let set = &rule.changes;
                set.local_pref
                    .map(|v| editor.set_local_pref(Some(v)).build());
                set.med.map(|v| editor.set_med(Some(v)).build());
                sets_med |= set.med.is_some();
                if let Some(prepend) = set.prepend_as {
                    let asn = prepend.as_number.unwrap_or(route.route.local_as);
                    editor.prepend_as(asn, prepend.count);
                }
                if let Some(list) = &set.communities.set {
                    let list = list
                        .iter()
                        .map(|t| t.parse::<CommunityPattern>().unwrap().value);
                    editor.set_communities(&list.collect::<Vec<_>>());
                }
                for text in &set.communities.remove {
                    let pattern: CommunityPattern = text.parse().unwrap();
                    for value in editor.build().communities().filter(|c| pattern.matches(*c)) {
                        editor.remove_community(value);
                    }
                }
                for text in &set.communities.add {
                    editor.add_community(text.parse::<CommunityPattern>().unwrap().value);
                }
                next_hop = set.next_hop.or(next_hop);
                if let Some(action) = rule.action {
                    let pass = action == PolicyAction::Accept;
                    return finish(
                        pass,
                        Some((p, Some(r))),
                        editor.build(),
                        (next_hop, sets_med),
                        route,
                    );
                }
            }
            if policy.default_action != DefaultAction::Next {
                let pass = policy.default_action == DefaultAction::Accept;
                return finish(
                    pass,
                    Some((p, None)),
                    editor.build(),
                    (next_hop, sets_med),
                    route,
                );
            }
        }
        finish(false, None, editor.build(), (next_hop, sets_med), route)
    }

    fn finish(
        pass: bool,
        by: Option<(usize, Option<usize>)>,
        attributes: PathAttributes,
        (next_hop, sets_med): (Option<NextHopChange>, bool),
        route: &RouteView<'_>,
    ) -> (bool, Option<(usize, Option<usize>)>, Changed) {
        let changed = match pass {
            false => Changed::default(),
            true => Changed {
                attributes: (attributes != *route.route.attributes).then_some(attributes),
                next_hop,
                sets_med,
            },
        };
        (pass, by, changed)
    }
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(
    values: &'static [T],
) -> impl Strategy<Value = Option<Vec<T>>> {
    let list = prop::collection::vec(prop::sample::select(values), 1..3);
    prop_oneof![2 => Just(None), 1 => list.prop_map(Some)]
}

fn texts(values: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
    some_of(values).prop_map(|list| list.map(|list| strings(&list)))
}

const PREFIXES: [&str; 6] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.2.0.0/16",
    "fd00::/16",
    "fd00:1::/32",
];

fn conditions() -> impl Strategy<Value = PolicyMatch> {
    let range = (0..PREFIXES.len(), 0u8..3).prop_map(|(i, n)| {
        let prefix: IpNet = PREFIXES[i].parse().unwrap();
        let longest = prefix.max_prefix_len();
        let (ge, le) = match n {
            0 => (None, None),
            1 => (Some(prefix.prefix_len() + 1), None),
            _ => (None, Some(longest)),
        };
        PrefixRange { prefix, ge, le }
    });
    let prefixes = prop_oneof![
        1 => Just(None),
        2 => prop::collection::vec(range, 1..3).prop_map(Some)
    ];
    let path = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(&["^1", "2$", "^$", "1 2"][..]).prop_map(|t| Some(t.to_owned()))
    ];
    let length = prop_oneof![
        3 => Just(None),
        1 => (0u16..3).prop_map(|n| Some(LengthRange { ge: Some(n), le: Some(n + 1) }))
    ];
    let families = prop_oneof![
        5 => Just(None),
        1 => Just(Some(vec![AddressFamily::Ipv6Unicast]))
    ];
    let next_hops = prop_oneof![
        4 => Just(None),
        1 => Just(Some(vec!["10.0.0.0/31".parse().unwrap()]))
    ];
    (
        prefixes,
        path,
        length,
        texts(&["65000:1", "65000:*", "no-export"]),
        texts(&["1:1:1", "1:*:2"]),
        texts(&["tor1", "tor2"]),
        some_of(&PolicySource::ALL),
        (families, next_hops),
    )
        .prop_map(
            |(
                prefixes,
                as_path,
                as_path_length,
                communities,
                large_communities,
                peers,
                sources,
                (families, next_hops),
            )| {
                // A prefix outside the families is refused as a contradiction.
                let families = families.filter(|_| prefixes.is_none());
                PolicyMatch {
                    prefixes,
                    as_path,
                    as_path_length,
                    communities,
                    large_communities,
                    peers,
                    sources,
                    families,
                    next_hops,
                    ..PolicyMatch::default()
                }
            },
        )
}

fn changes() -> impl Strategy<Value = Set> {
    let lists = prop_oneof![
        2 => Just(ListChange::default()),
        1 => Just(ListChange { set: Some(strings(&["65000:3"])), ..ListChange::default() }),
        1 => Just(ListChange { add: strings(&["65000:4"]), remove: strings(&["65000:*"]), set: None }),
    ];
    let next_hop = prop::option::of(prop::sample::select(
        &[NextHopChange::Own, NextHopChange::Keep][..],
    ));
    let prepend = prop::option::of(
        (prop::option::of(Just(9u32)), 1u8..4)
            .prop_map(|(as_number, count)| PrependAs { as_number, count }),
    );
    (
        prop::option::of(0u32..3),
        prop::option::of(0u32..3),
        prepend,
        lists,
        next_hop,
    )
        .prop_map(|(local_pref, med, prepend_as, communities, next_hop)| Set {
            local_pref,
            med,
            prepend_as,
            communities,
            next_hop,
            ..Set::default()
        })
}

fn specs() -> impl Strategy<Value = Vec<BgpRoutePolicySpec>> {
    let rule = (conditions(), changes(), 0u8..3).prop_map(|(conditions, changes, action)| {
        let action =
            [None, Some(PolicyAction::Accept), Some(PolicyAction::Reject)][usize::from(action)];
        let changes = match action {
            Some(PolicyAction::Reject) => Set::default(),
            _ => changes,
        };
        let action = action.or(changes.is_empty().then_some(PolicyAction::Accept));
        PolicyRule {
            name: None,
            conditions,
            changes,
            action,
        }
    });
    let default = prop::sample::select(
        &[
            DefaultAction::Accept,
            DefaultAction::Reject,
            DefaultAction::Next,
        ][..],
    );
    let spec =
        (prop::collection::vec(rule, 0..6), default).prop_map(|(mut rules, default_action)| {
            // Rules behind one that decides everything are refused.
            let end = rules
                .iter()
                .position(|r| r.action.is_some() && r.conditions == PolicyMatch::default());
            if let Some(end) = end {
                rules.truncate(end + 1);
            }
            BgpRoutePolicySpec {
                rules,
                default_action,
            }
        });
    prop::collection::vec(spec, 1..4)
}

#[derive(Clone, Debug)]
struct Input {
    attributes: PathAttributes,
    peer: Option<&'static str>,
    source: PolicySource,
    next_hop: Option<NextHop>,
}

fn input() -> impl Strategy<Value = Input> {
    let path = prop::collection::vec(1u32..4, 0..4);
    let communities = prop::collection::vec(
        prop::sample::select(&[0xfde8_0001, 0xfde8_0002, 0xffff_ff01][..]),
        0..3,
    );
    let large = prop::collection::vec((Just(1u32), 1u32..3, 1u32..3), 0..3);
    let peer = prop::option::of(prop::sample::select(&["tor1", "tor2", "tor3"][..]));
    let next_hop = prop::option::of((0u8..4).prop_map(|n| NextHop::V4([10, 0, 0, n].into())));
    (
        path,
        communities,
        large,
        peer,
        prop::sample::select(&PolicySource::ALL[..]),
        next_hop,
    )
        .prop_map(|(path, communities, large, peer, source, next_hop)| {
            let large: Vec<LargeCommunity> = large
                .into_iter()
                .map(|(global, local1, local2)| LargeCommunity {
                    global,
                    local1,
                    local2,
                })
                .collect();
            let attributes = AttributeEditor::new(Origin::Igp)
                .set_as_path_sequence(&path)
                .set_communities(&communities)
                .set_large_communities(&large)
                .build();
            Input {
                attributes,
                peer,
                source,
                next_hop,
            }
        })
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (0..PREFIXES.len(), 0u8..3).prop_map(|(i, longer)| {
        let prefix: IpNet = PREFIXES[i].parse().unwrap();
        IpNet::new(prefix.addr(), prefix.prefix_len() + longer * 4).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// The oracle, direct evaluation and remembered evaluation say the same, whatever is remembered when.
    #[test]
    fn remembered_is_direct_is_as_the_words_say(
        specs in specs(),
        inputs in prop::collection::vec(input(), 1..4),
        asked in prop::collection::vec((0usize..4, prefix()), 1..24),
        capacity in 1usize..6,
    ) {
        let names: Vec<String> = (0..specs.len()).map(|i| format!("p{i}")).collect();
        let resources: Vec<_> = names.iter().zip(&specs).map(|(n, s)| resource(n, s.clone())).collect();
        let set = compile(&resources).unwrap();
        let chain = set.chain(&names).unwrap();
        let mut memo: Memo<(usize, Family), Changed> = Memo::new(capacity);
        for (which, prefix) in asked {
            let which = which % inputs.len();
            let input = &inputs[which];
            let family = Family::of(&prefix);
            let route = RouteView {
                prefix,
                route: AttributeView {
                    attributes: &input.attributes,
                    next_hop: input.next_hop,
                    peer: input.peer,
                    source: input.source,
                    family,
                    local_as: 65001,
                },
            };
            let (pass, by, changed) = oracle::evaluate(&specs, &route);
            let expected_by = match by {
                None => DecidedBy::Nobody,
                Some((p, None)) => DecidedBy::DefaultAction { policy: names[p].as_str().into() },
                Some((p, Some(r))) => DecidedBy::Rule {
                    policy: names[p].as_str().into(),
                    index: r as u16,
                    name: None,
                },
            };
            let direct = chain.evaluate(&route, Direction::Export);
            let expected = match pass {
                true => Decision::Accept(changed.clone()),
                false => Decision::Reject,
            };
            prop_assert_eq!(&direct.decision, &expected);
            prop_assert_eq!(&direct.by, &expected_by);
            let (finished, value) = memo.evaluate(
                1,
                (which, family),
                &chain,
                Direction::Export,
                &prefix,
                || route.route,
                |changed| changed,
                &mut Vec::new(),
            );
            prop_assert_eq!(finished.result.is_ok(), pass);
            prop_assert_eq!(chain.decided_by(&finished), expected_by);
            prop_assert_eq!(value.cloned().unwrap_or_default(), changed);
            if let [only] = &resources[..] {
                let alone = set.get(only.name()).unwrap().evaluate(&route);
                prop_assert_eq!(alone.decision, expected);
            }
        }
    }
}
