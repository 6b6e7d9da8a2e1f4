//! Chains: the policies of a peer in one direction, built-in and declared ones. The first that decides counts.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use roadbed_api::kinds::{DefaultAction, PolicyAction, PolicySource};
use smallvec::SmallVec;

use super::compile::CompiledPolicy;
use super::eval::{AttributeVerdict, AttributeView, Decision, Outcome, RouteView, Ruling};
use super::{Builtin, Changed, ImportContext, RejectReason, RouteSource, edit};

/// One policy of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A built-in policy; it decides every route.
    Builtin(Builtin),
    /// A declared policy.
    Named(Arc<CompiledPolicy>),
}

/// A chain of policies; the first one that decides a route counts. An empty chain denies (RFC 8212).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(Arc<[Step]>);

/// Which way a route goes, with what the built-in policies measure it against.
#[derive(Clone, Copy, Debug)]
pub enum Direction<'a> {
    /// From a peer.
    Import(&'a ImportContext),
    /// To a peer.
    Export,
}

/// Who decided about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// A rule.
    Rule {
        /// The policy that has it.
        policy: Arc<str>,
        /// Its position, from 0.
        index: u16,
        /// Its name.
        name: Option<Arc<str>>,
    },
    /// A policy of which no rule decided.
    DefaultAction {
        /// The policy.
        policy: Arc<str>,
    },
    /// A built-in policy.
    Builtin(Builtin),
    /// No policy of the chain: RFC 8212.
    Nobody,
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecidedBy::Rule {
                policy,
                index,
                name: Some(name),
            } => write!(f, "{policy}: rules[{index}] \"{}\"", name.escape_debug()),
            DecidedBy::Rule { policy, index, .. } => write!(f, "{policy}: rules[{index}]"),
            DecidedBy::DefaultAction { policy } => write!(f, "{policy}: defaultAction"),
            DecidedBy::Builtin(builtin) => write!(f, "{}: built in", builtin.as_str()),
            DecidedBy::Nobody => f.write_str("no policy decides (RFC 8212)"),
        }
    }
}

/// What the attributes alone decide of a chain. Good for every prefix with the same [`AttributeView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainVerdict {
    /// One for each step; built-in policies need none.
    steps: SmallVec<[AttributeVerdict; 2]>,
    source: PolicySource,
}

/// Which rules change a route: by step of the chain and index of the rule. Equal changes of equal attributes have
/// equal results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(SmallVec<[(u8, u16); 4]>);

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a chain says of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whether the route passes; [`RejectReason::Denied`] where a declared policy says no.
    pub result: Result<(), RejectReason>,
    /// What to apply with [`Chain::apply`]; empty when the route does not pass.
    pub changes: Changes,
    /// The step that decided and what it said; `None`: none of them did.
    decided: Option<(u8, Option<Ruling>)>,
}

/// Most policies of a chain that are asked.
const MAX_STEPS: usize = 255;

impl From<Vec<Step>> for Chain {
    fn from(mut steps: Vec<Step>) -> Self {
        steps.truncate(MAX_STEPS);
        Self(steps.into())
    }
}

impl Chain {
    /// A chain of built-in policies, in this order.
    pub fn new(policies: &[Builtin]) -> Self {
        Self::from(
            policies
                .iter()
                .copied()
                .map(Step::Builtin)
                .collect::<Vec<_>>(),
        )
    }

    /// The policies, in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether a declared policy is asked before a built-in one decides: then attributes matter.
    pub fn is_declared(&self) -> bool {
        matches!(self.0.first(), Some(Step::Named(_)))
    }

    /// Whether a received prefix is let in by a chain of built-in policies. A declared one needs the attributes too
    /// and denies here: ask [`Chain::finish`].
    ///
    /// # Errors
    /// Why not.
    pub fn import(&self, context: &ImportContext, prefix: &IpNet) -> Result<(), RejectReason> {
        match self.0.first() {
            Some(Step::Builtin(builtin)) => builtin.import(context, prefix),
            Some(Step::Named(_)) | None => Err(RejectReason::Denied),
        }
    }

    /// Whether a route is sent by a chain of built-in policies. A declared one needs the attributes too and denies
    /// here: ask [`Chain::finish`].
    ///
    /// # Errors
    /// Why not.
    pub fn export(&self, source: RouteSource) -> Result<(), RejectReason> {
        match self.0.first() {
            Some(Step::Builtin(builtin)) => builtin.export(source.into()),
            Some(Step::Named(_)) | None => Err(RejectReason::Denied),
        }
    }

    /// The part that the attributes decide, to be remembered per attribute set, peer, source and chain.
    pub fn attribute_part(&self, route: &AttributeView<'_>) -> ChainVerdict {
        let part = |step: &Step| match step {
            Step::Builtin(_) => AttributeVerdict::default(),
            Step::Named(policy) => policy.attribute_part(route),
        };
        ChainVerdict {
            steps: self.0.iter().map(part).collect(),
            source: route.source,
        }
    }

    /// The rest for one prefix. `verdict` is this chain's.
    pub fn finish(
        &self,
        verdict: &ChainVerdict,
        direction: Direction<'_>,
        prefix: &IpNet,
    ) -> Finished {
        let mut changes = Changes::default();
        for ((i, step), part) in (0u8..).zip(&*self.0).zip(&verdict.steps) {
            let policy = match step {
                Step::Builtin(builtin) => {
                    let result = match direction {
                        Direction::Import(context) => builtin.import(context, prefix),
                        Direction::Export => builtin.export(verdict.source),
                    };
                    return Finished::new(result, changes, Some((i, None)));
                }
                Step::Named(policy) => policy,
            };
            let ruling = policy.finish(part, prefix, |rule| changes.0.push((i, rule)));
            let result =
                match ruling {
                    Ruling::Rule(PolicyAction::Accept, _)
                    | Ruling::Default(DefaultAction::Accept) => Ok(()),
                    Ruling::Rule(PolicyAction::Reject, _)
                    | Ruling::Default(DefaultAction::Reject) => Err(RejectReason::Denied),
                    Ruling::Default(DefaultAction::Next) => continue,
                };
            return Finished::new(result, changes, Some((i, Some(ruling))));
        }
        Finished::new(Err(RejectReason::Denied), changes, None)
    }

    /// What the changes make of a route.
    pub fn apply(&self, changes: &Changes, route: &AttributeView<'_>) -> Changed {
        let edits =
            changes
                .0
                .iter()
                .filter_map(|(step, rule)| match self.0.get(usize::from(*step))? {
                    Step::Named(policy) => policy.edit(*rule),
                    Step::Builtin(_) => None,
                });
        edit::apply(edits, route.attributes, route.family, route.local_as)
    }

    /// Who decided.
    pub fn decided_by(&self, finished: &Finished) -> DecidedBy {
        let Some((step, ruling)) = finished.decided else {
            return DecidedBy::Nobody;
        };
        match (self.0.get(usize::from(step)), ruling) {
            (Some(Step::Builtin(builtin)), _) => DecidedBy::Builtin(*builtin),
            (Some(Step::Named(policy)), Some(ruling)) => policy.decided_by(ruling),
            _ => DecidedBy::Nobody,
        }
    }

    /// Evaluates one route, remembering nothing.
    pub fn evaluate(&self, route: &RouteView<'_>, direction: Direction<'_>) -> Outcome {
        let verdict = self.attribute_part(&route.route);
        let finished = self.finish(&verdict, direction, &route.prefix);
        let decision = match finished.result {
            Ok(()) => Decision::Accept(self.apply(&finished.changes, &route.route)),
            Err(_) => Decision::Reject,
        };
        Outcome {
            decision,
            by: self.decided_by(&finished),
        }
    }
}

impl Finished {
    fn new(
        result: Result<(), RejectReason>,
        changes: Changes,
        decided: Option<(u8, Option<Ruling>)>,
    ) -> Self {
        let changes = match result {
            Ok(()) => changes,
            Err(_) => Changes::default(),
        };
        Self {
            result,
            changes,
            decided,
        }
    }
}
