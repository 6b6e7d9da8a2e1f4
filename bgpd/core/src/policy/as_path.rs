//! AS path patterns as a machine: one bit per step of the pattern, all steps at once.
//!
//! A position automaton (Glushkov): no state but the steps themselves, so a pattern costs what it is long and a path
//! is read once, whatever the pattern. Never backtracks, never allocates while matching.

use bgp_wire::{AsPath, SegmentKind};
use roadbed_api::kinds::{AsPathNode, AsPathPattern, AsTerm, MAX_STEPS};

/// A set of steps; bit n is step n.
type Steps = u128;
const _: () = assert!(MAX_STEPS <= Steps::BITS as usize);

/// A compiled [`AsPathPattern`].
#[derive(Clone, Debug, Default)]
pub struct AsPathMatcher {
    /// Which AS numbers each step matches.
    terms: Vec<AsTerm>,
    /// Which steps may come after each.
    follow: Vec<Steps>,
    /// Steps that a match may begin with at the start of the path.
    first: Steps,
    /// Steps that a match may begin with anywhere.
    first_anywhere: Steps,
    /// Steps that a match may end with at the end of the path.
    last: Steps,
    /// Steps that a match may end with anywhere.
    last_anywhere: Steps,
    /// The empty path matches.
    empty: bool,
    /// Every path matches.
    all: bool,
}

/// A part of a pattern under construction.
struct Fragment {
    first: Steps,
    last: Steps,
    nullable: bool,
}

impl Fragment {
    const EMPTY: Fragment = Fragment {
        first: 0,
        last: 0,
        nullable: true,
    };
}

impl AsPathMatcher {
    /// Compiles a pattern. Steps beyond [`MAX_STEPS`], which no parsed pattern has, match nothing.
    pub fn new(pattern: &AsPathPattern) -> Self {
        let mut matcher = Self::default();
        for alternative in &pattern.alternatives {
            let part = matcher.fragment(&alternative.node);
            matcher.first |= part.first;
            matcher.last |= part.last;
            if !alternative.from_start {
                matcher.first_anywhere |= part.first;
            }
            if !alternative.to_end {
                matcher.last_anywhere |= part.last;
            }
            if part.nullable {
                matcher.empty = true;
                matcher.all |= !(alternative.from_start && alternative.to_end);
            }
        }
        matcher
    }

    /// Whether a path matches.
    pub fn matches(&self, path: AsPath<'_>) -> bool {
        if self.all {
            return true;
        }
        let mut run = Run {
            matcher: self,
            active: 0,
            at_start: true,
        };
        for segment in path.segments() {
            match segment.kind {
                SegmentKind::Sequence => {
                    for asn in segment.asns() {
                        if run.step(|term| term.matches(asn)) {
                            return true;
                        }
                    }
                }
                // A set is one step of the path, and any of its members may match.
                SegmentKind::Set => {
                    if run.step(|term| segment.asns().any(|asn| term.matches(asn))) {
                        return true;
                    }
                }
            }
        }
        if run.at_start {
            return self.empty;
        }
        run.active & self.last != 0
    }

    fn fragment(&mut self, node: &AsPathNode) -> Fragment {
        match node {
            AsPathNode::As(term) => {
                let step = self.terms.len();
                if step >= MAX_STEPS {
                    return Fragment {
                        nullable: false,
                        ..Fragment::EMPTY
                    };
                }
                self.terms.push(term.clone());
                self.follow.push(0);
                Fragment {
                    first: 1 << step,
                    last: 1 << step,
                    nullable: false,
                }
            }
            AsPathNode::Sequence(nodes) => {
                let mut whole = Fragment::EMPTY;
                for node in nodes {
                    let part = self.fragment(node);
                    whole = self.then(whole, part);
                }
                whole
            }
            AsPathNode::Either(nodes) => {
                let mut whole = Fragment {
                    nullable: false,
                    ..Fragment::EMPTY
                };
                for node in nodes {
                    let part = self.fragment(node);
                    whole.first |= part.first;
                    whole.last |= part.last;
                    whole.nullable |= part.nullable;
                }
                whole
            }
            AsPathNode::Repeat { node, min, max } => self.repeat(node, *min, *max),
        }
    }

    /// Copies: `min` that must be there, then optional ones up to `max`, or the last one looping.
    fn repeat(&mut self, node: &AsPathNode, min: u8, max: Option<u8>) -> Fragment {
        let copies = max.unwrap_or(min).max(1);
        let mut whole = Fragment::EMPTY;
        for copy in 1..=copies {
            let mut part = self.fragment(node);
            if max.is_none() && copy == copies {
                self.link(part.last, part.first);
            }
            part.nullable |= copy > min;
            whole = self.then(whole, part);
        }
        whole
    }

    fn then(&mut self, a: Fragment, b: Fragment) -> Fragment {
        self.link(a.last, b.first);
        let if_nullable = |nullable, steps| if nullable { steps } else { 0 };
        Fragment {
            first: a.first | if_nullable(a.nullable, b.first),
            last: b.last | if_nullable(b.nullable, a.last),
            nullable: a.nullable && b.nullable,
        }
    }

    fn link(&mut self, from: Steps, to: Steps) {
        for step in bits(from) {
            if let Some(follow) = self.follow.get_mut(step) {
                *follow |= to;
            }
        }
    }
}

/// How far a path has been read.
struct Run<'a> {
    matcher: &'a AsPathMatcher,
    active: Steps,
    at_start: bool,
}

impl Run<'_> {
    /// Reads one step of the path; true when the pattern has matched already.
    fn step(&mut self, matches: impl Fn(&AsTerm) -> bool) -> bool {
        let matcher = self.matcher;
        let mut reachable = match self.at_start {
            true => matcher.first,
            false => matcher.first_anywhere,
        };
        for step in bits(self.active) {
            reachable |= matcher.follow.get(step).copied().unwrap_or(0);
        }
        self.active = bits(reachable)
            .filter(|step| matcher.terms.get(*step).is_some_and(&matches))
            .fold(0, |active, step| active | 1 << step);
        self.at_start = false;
        self.active & matcher.last_anywhere != 0
    }
}

fn bits(mut steps: Steps) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let step = steps.trailing_zeros();
        steps &= steps.wrapping_sub(1);
        (step < Steps::BITS).then_some(step as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgp_wire::{AttributeEditor, DecodeContext, Origin, PathAttributes, decode_update};

    fn sequence(asns: &[u32]) -> PathAttributes {
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor.set_as_path_sequence(asns).build()
    }

    fn check(pattern: &str, yes: &[&[u32]], no: &[&[u32]]) {
        let matcher = AsPathMatcher::new(&pattern.parse().unwrap());
        for (paths, expected) in [(yes, true), (no, false)] {
            for path in paths {
                let found = matcher.matches(sequence(path).as_path());
                assert_eq!(found, expected, "{pattern} {path:?}");
            }
        }
    }

    #[test]
    fn anchors_and_single_numbers() {
        check("^$", &[&[]], &[&[1]]);
        check("65101", &[&[65101], &[1, 65101, 2]], &[&[], &[651010]]);
        check("_65101_", &[&[65101], &[1, 65101, 2]], &[&[]]);
        check("^65101", &[&[65101, 2]], &[&[2, 65101], &[]]);
        check("65101$", &[&[2, 65101]], &[&[65101, 2], &[]]);
        check("^65101$", &[&[65101]], &[&[65101, 65101], &[]]);
        check(".*", &[&[], &[1, 2]], &[]);
        check("^.*$", &[&[], &[1, 2]], &[]);
        check(".", &[&[1]], &[&[]]);
        check("^.$", &[&[1]], &[&[], &[1, 2]]);
        check("64512-65534", &[&[1, 65000]], &[&[65535]]);
    }

    #[test]
    fn sequences_choices_and_repetitions() {
        check(
            "^65101 (65[0-9]+ )*65121$",
            &[
                &[65101, 65121],
                &[65101, 65001, 65121],
                &[65101, 65121, 65121],
            ],
            &[
                &[65101],
                &[65121],
                &[65101, 64000, 65121],
                &[65101, 65121, 1],
            ],
        );
        check(
            "^(65101)+$",
            &[&[65101], &[65101; 300]],
            &[&[], &[65101, 1]],
        );
        check(
            "^(1|2 3)?4$",
            &[&[4], &[1, 4], &[2, 3, 4]],
            &[&[2, 4], &[1, 2, 3, 4]],
        );
        check("^(1){2,3}$", &[&[1, 1], &[1, 1, 1]], &[&[1], &[1; 4]]);
        check("^(1){2,}$", &[&[1, 1], &[1; 9]], &[&[1], &[]]);
        check("^(1){2}$", &[&[1, 1]], &[&[1], &[1; 3]]);
        check(
            "^(1){0,2} 2$",
            &[&[2], &[1, 2], &[1, 1, 2]],
            &[&[1, 1, 1, 2]],
        );
        check("^(1|2)* 3", &[&[3], &[1, 2, 1, 3, 9]], &[&[1, 4, 3]]);
        check("^1|2$", &[&[1, 9], &[9, 2]], &[&[9, 1], &[2, 9]]);
        check("1 2 1 3", &[&[1, 2, 1, 2, 1, 3]], &[&[1, 2, 1, 2, 3]]);
    }

    #[test]
    fn a_set_is_one_step_that_any_member_matches() {
        let as_path: &[u8] = &[0x40, 2, 16, 2, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        let mut body = vec![0, 0, 0, as_path.len() as u8 + 4, 0x40, 1, 1, 0];
        body.extend_from_slice(as_path);
        let context = DecodeContext {
            four_octet_as: true,
            ebgp: false,
            add_path: [false; 2],
            families: [true; 2],
            extended_next_hop: false,
        };
        let attributes = decode_update(&body, &context).attributes.unwrap();
        for (pattern, expected) in [
            ("^1 2$", true),
            ("^1 3$", true),
            ("^1 2 3$", false),
            ("^1 4$", false),
            ("3", true),
        ] {
            let matcher = AsPathMatcher::new(&pattern.parse().unwrap());
            assert_eq!(matcher.matches(attributes.as_path()), expected, "{pattern}");
        }
    }

    #[test]
    fn the_longest_pattern_over_a_long_path_ends_at_once() {
        let pattern = "((.*)*(1)?(.*)*){30} 2";
        let matcher = AsPathMatcher::new(&pattern.parse().unwrap());
        let path = vec![1; 4000];
        assert!(!matcher.matches(sequence(&path).as_path()));
    }

    /// Every end of a match of `node` that begins at `from`: exponential, but plainly what the words say.
    fn ends(node: &AsPathNode, path: &[u32], from: usize) -> Vec<usize> {
        let mut found = match node {
            AsPathNode::As(term) => match path.get(from) {
                Some(asn) if term.matches(*asn) => vec![from + 1],
                _ => Vec::new(),
            },
            AsPathNode::Sequence(nodes) => nodes.iter().fold(vec![from], |starts, node| {
                starts.iter().flat_map(|s| ends(node, path, *s)).collect()
            }),
            AsPathNode::Either(nodes) => nodes.iter().flat_map(|n| ends(n, path, from)).collect(),
            AsPathNode::Repeat { node, min, max } => {
                let most = max.map_or(usize::from(*min) + path.len(), usize::from);
                let mut starts = vec![from];
                let mut all = Vec::new();
                for times in 0..=most {
                    if times >= usize::from(*min) {
                        all.extend_from_slice(&starts);
                    }
                    starts = starts.iter().flat_map(|s| ends(node, path, *s)).collect();
                    starts.sort_unstable();
                    starts.dedup();
                }
                all
            }
        };
        found.sort_unstable();
        found.dedup();
        found
    }

    fn naive(pattern: &AsPathPattern, path: &[u32]) -> bool {
        pattern.alternatives.iter().any(|a| {
            let starts = if a.from_start { 0..=0 } else { 0..=path.len() };
            starts
                .flat_map(|start| ends(&a.node, path, start))
                .any(|end| !a.to_end || end == path.len())
        })
    }

    fn node_text() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("2".to_owned()),
            Just("1-2".to_owned()),
            Just("[13]".to_owned()),
            Just("1[0-9]?".to_owned()),
            Just(".".to_owned()),
        ];
        leaf.prop_recursive(3, 10, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.join(" ")),
                proptest::collection::vec(inner.clone(), 1..3)
                    .prop_map(|parts| format!("({})", parts.join("|"))),
                (
                    inner,
                    prop_oneof!["\\*", "\\+", "\\?", "\\{2\\}", "\\{1,2\\}", "\\{1,\\}"]
                )
                    .prop_map(|(part, times)| format!("({part}){times}")),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn as_a_naive_matcher_says(
            parts in proptest::collection::vec((proptest::bool::ANY, node_text(), proptest::bool::ANY), 1..3),
            path in proptest::collection::vec(proptest::sample::select(&[1u32, 2, 3, 11][..]), 0..6),
        ) {
            let text: Vec<String> = parts
                .iter()
                .map(|(start, node, end)| {
                    format!("{}{node}{}", if *start { "^" } else { "" }, if *end { "$" } else { "" })
                })
                .collect();
            let text = text.join("|");
            let pattern: Result<AsPathPattern, _> = text.parse();
            proptest::prop_assume!(pattern.is_ok());
            let pattern = pattern.unwrap();
            let matcher = AsPathMatcher::new(&pattern);
            proptest::prop_assert_eq!(
                matcher.matches(sequence(&path).as_path()),
                naive(&pattern, &path),
                "{} {:?}", text, path
            );
        }
    }
}
