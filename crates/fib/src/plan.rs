//! The pure half: wants of all sources, a shadow of the kernel, and the operations that make one into the other.
//!
//! Owns the shadow. Never speaks to the kernel: the writer carries out [`Op`]s and reports back through
//! [`Ledger::done`], and hands dumps to [`Ledger::observe`].

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::route::{InstalledRoute, RouteChange, RouteKey, RouteSpec, RouteState, Source};

/// What the kernel holds under a key of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Believed {
    /// No route of ours.
    Absent,
    /// This route of ours.
    Exact(RouteSpec),
    /// A route of ours with attributes that we never write, or several under one key.
    Odd,
}

/// One kernel request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Create exclusively: a route that exists already is somebody else's.
    Add(RouteSpec),
    /// Replace our own route.
    Replace(RouteSpec),
    /// Delete our own route.
    Delete(RouteKey),
}

impl Op {
    pub(crate) fn key(&self) -> RouteKey {
        match self {
            Op::Add(spec) | Op::Replace(spec) => spec.key(),
            Op::Delete(key) => *key,
        }
    }
}

#[derive(Clone, Debug)]
struct Shadow {
    believed: Believed,
    /// Adopted and claimed by nobody yet.
    stale: bool,
    failure: Option<String>,
}

/// Desired state, shadow and adoption state.
#[derive(Debug)]
pub(crate) struct Ledger {
    wants: BTreeMap<(IpNet, Source), RouteSpec>,
    shadow: BTreeMap<RouteKey, Shadow>,
    failed: BTreeSet<RouteKey>,
    unfinished: BTreeSet<Source>,
}

impl Ledger {
    /// A ledger that sweeps once each of `sources` has finished its adoption.
    pub(crate) fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Ledger {
            wants: BTreeMap::new(),
            shadow: BTreeMap::new(),
            failed: BTreeSet::new(),
            unfinished: sources.into_iter().collect(),
        }
    }

    /// Records what sources say; returns the keys to plan for.
    pub(crate) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = RouteChange>,
    ) -> BTreeSet<RouteKey> {
        let mut touched = BTreeSet::new();
        for change in changes {
            let prefix = change.prefix.trunc();
            let before = match change.route {
                Some(mut route) => {
                    route.prefix = prefix;
                    touched.insert(route.key());
                    self.wants.insert((prefix, change.source), route)
                }
                None => self.wants.remove(&(prefix, change.source)),
            };
            touched.extend(before.map(|route| route.key()));
        }
        touched
    }

    /// The route that should be in the kernel under a key.
    pub(crate) fn desired(&self, key: &RouteKey) -> Option<(Source, &RouteSpec)> {
        Source::ALL.iter().find_map(|source| {
            let spec = self.wants.get(&(key.prefix, *source))?;
            (spec.key() == *key).then_some((*source, spec))
        })
    }

    /// The operations that bring these keys to the desired state. Claims what it finds right: it is no longer stale.
    pub(crate) fn plan<'a>(&mut self, keys: impl IntoIterator<Item = &'a RouteKey>) -> Vec<Op> {
        keys.into_iter()
            .filter_map(|key| self.plan_key(key))
            .collect()
    }

    fn plan_key(&mut self, key: &RouteKey) -> Option<Op> {
        let swept = self.adoption_finished();
        let desired = self.desired(key).map(|(_, spec)| spec.clone());
        let Some(shadow) = self.shadow.get_mut(key) else {
            return desired.map(Op::Add);
        };
        match (desired, &shadow.believed) {
            (Some(spec), Believed::Absent) => Some(Op::Add(spec)),
            (Some(spec), Believed::Exact(have)) if spec.satisfied_by(have) => {
                shadow.stale = false;
                shadow.failure = None;
                self.failed.remove(key);
                None
            }
            (Some(spec), _) => Some(Op::Replace(spec)),
            (None, Believed::Absent) => {
                self.forget(key);
                None
            }
            (None, _) if shadow.stale && !swept => None,
            (None, _) => Some(Op::Delete(*key)),
        }
    }

    /// Records the kernel's answer to an operation.
    pub(crate) fn done(&mut self, op: Op, answer: Result<(), String>) {
        let key = op.key();
        match answer {
            Ok(()) => {
                self.failed.remove(&key);
                match op {
                    Op::Add(spec) | Op::Replace(spec) => {
                        let believed = Believed::Exact(spec);
                        self.shadow.insert(
                            key,
                            Shadow {
                                believed,
                                stale: false,
                                failure: None,
                            },
                        );
                    }
                    Op::Delete(_) => self.forget(&key),
                }
            }
            Err(reason) => {
                self.failed.insert(key);
                let shadow = self.shadow.entry(key).or_insert(Shadow {
                    believed: Believed::Absent,
                    stale: false,
                    failure: None,
                });
                shadow.failure = Some(reason);
            }
        }
    }

    /// Overrides the belief about one key, when an answer of the kernel contradicts it.
    pub(crate) fn believe(&mut self, key: RouteKey, believed: Believed) {
        let failure = self
            .shadow
            .get(&key)
            .and_then(|shadow| shadow.failure.clone());
        self.shadow.insert(
            key,
            Shadow {
                believed,
                stale: false,
                failure,
            },
        );
    }

    /// Takes a complete dump of our protocol as the new truth; returns the keys to plan for: those that differ from
    /// what was believed, those that failed, and routes of ours that nobody wants.
    pub(crate) fn observe(
        &mut self,
        dump: impl IntoIterator<Item = (RouteKey, Believed)>,
    ) -> BTreeSet<RouteKey> {
        let adopting = !self.adoption_finished();
        let mut seen: BTreeMap<RouteKey, Believed> = BTreeMap::new();
        for (key, believed) in dump {
            seen.entry(key)
                .and_modify(|entry| *entry = Believed::Odd)
                .or_insert(believed);
        }
        let mut touched = self.failed.clone();
        for (key, shadow) in &mut self.shadow {
            let now = seen.remove(key).unwrap_or(Believed::Absent);
            // What we wrote may leave the interface open; what comes back names it. Equal enough is left as it was.
            let same = match (&shadow.believed, &now) {
                (Believed::Exact(ours), Believed::Exact(kernel)) => ours.satisfied_by(kernel),
                (before, now) => before == now,
            };
            if !same {
                touched.insert(*key);
            }
            shadow.believed = now;
        }
        for (key, believed) in seen {
            touched.insert(key);
            self.shadow.insert(
                key,
                Shadow {
                    believed,
                    stale: adopting,
                    failure: None,
                },
            );
        }
        touched
    }

    /// A source has said all it wants. Returns the keys to plan for: everything stale, once the last source is done.
    pub(crate) fn finish(&mut self, source: Source) -> BTreeSet<RouteKey> {
        if !self.unfinished.remove(&source) || !self.adoption_finished() {
            return BTreeSet::new();
        }
        self.shadow
            .iter()
            .filter(|(_, shadow)| shadow.stale)
            .map(|(key, _)| *key)
            .collect()
    }

    /// Whether every source has finished, so that what nobody wants may be deleted.
    pub(crate) fn adoption_finished(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Keys whose last operation failed.
    pub(crate) fn failed(&self) -> &BTreeSet<RouteKey> {
        &self.failed
    }

    /// Why a key is not as wanted.
    pub(crate) fn failure(&self, key: &RouteKey) -> Option<&str> {
        self.shadow.get(key)?.failure.as_deref()
    }

    /// Whether the kernel holds a route of ours under this key.
    pub(crate) fn holds(&self, key: &RouteKey) -> bool {
        self.shadow
            .get(key)
            .is_some_and(|shadow| shadow.believed != Believed::Absent)
    }

    /// Every key of ours with its state.
    pub(crate) fn dump(&self) -> Vec<InstalledRoute> {
        let entry = |(key, shadow): (&RouteKey, &Shadow)| {
            let desired = self.desired(key);
            let route = match (&desired, &shadow.believed) {
                (Some((_, spec)), _) => Some((*spec).clone()),
                (None, Believed::Exact(spec)) => Some(spec.clone()),
                _ => None,
            };
            let state = match &shadow.failure {
                Some(reason) => RouteState::Failed(reason.clone()),
                None if shadow.stale => RouteState::Stale,
                None => RouteState::Installed,
            };
            InstalledRoute {
                key: *key,
                source: desired.map(|(source, _)| source),
                route,
                state,
            }
        };
        self.shadow.iter().map(entry).collect()
    }

    fn forget(&mut self, key: &RouteKey) {
        self.shadow.remove(key);
        self.failed.remove(key);
    }
}
