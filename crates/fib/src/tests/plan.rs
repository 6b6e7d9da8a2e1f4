//! The ledger against a trivial model of the kernel.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{device, unreachable, via};
use crate::plan::{Believed, Conditions, Ledger, Op, Written};
use crate::route::{RouteChange, RouteKey, RouteSpec, RouteState, Source};

const ALL_ALIVE: Conditions<'static> = Conditions {
    dead: &|_| false,
    at_leisure: false,
};

/// One route per key; `Err` is another protocol's.
#[derive(Clone, Default, Debug)]
struct Kernel {
    routes: BTreeMap<RouteKey, Result<Written, ()>>,
}

impl Kernel {
    fn carry_out(&mut self, op: &Op) -> Result<(), String> {
        let key = op.key();
        let foreign = matches!(self.routes.get(&key), Some(Err(())));
        match op {
            Op::Add(_) if self.routes.contains_key(&key) => return Err("exists".into()),
            Op::Add(spec) => drop(self.routes.insert(key, Ok(spec.clone()))),
            Op::Replace(spec) => {
                assert!(!foreign, "replaced a foreign route: {op:?}");
                self.routes.insert(key, Ok(spec.clone()));
            }
            Op::Delete(_) => {
                assert!(!foreign, "deleted a foreign route: {op:?}");
                assert!(
                    self.routes.remove(&key).is_some(),
                    "deleted what was not there: {op:?}"
                );
            }
        }
        Ok(())
    }

    fn dump(&self) -> Vec<(RouteKey, Believed)> {
        let ours = |(key, route): (&RouteKey, &Result<Written, ()>)| {
            Some((*key, Believed::Exact(route.as_ref().ok()?.clone())))
        };
        self.routes.iter().filter_map(ours).collect()
    }
}

fn run<'a>(
    ledger: &mut Ledger,
    kernel: &mut Kernel,
    keys: impl IntoIterator<Item = &'a RouteKey> + Clone,
) -> Vec<Op> {
    let plan = ledger.plan(keys, ALL_ALIVE);
    assert_eq!(plan.next_hops, vec![]);
    let ops = plan.routes;
    for op in &ops {
        let answer = kernel.carry_out(op);
        ledger.done(op.clone(), answer);
    }
    ops
}

fn apply(ledger: &mut Ledger, kernel: &mut Kernel, changes: Vec<RouteChange>) -> Vec<Op> {
    let keys = ledger.apply(changes);
    run(ledger, kernel, &keys)
}

fn adopted(routes: &[RouteSpec], sources: &[Source]) -> (Ledger, Kernel) {
    let mut kernel = Kernel::default();
    kernel.routes.extend(
        routes
            .iter()
            .map(|route| (route.key(), Ok(route.clone().into()))),
    );
    let mut ledger = Ledger::new(sources.iter().copied());
    let keys = ledger.observe(kernel.dump());
    assert_eq!(
        ledger.plan(&keys, ALL_ALIVE).routes,
        vec![],
        "adoption deletes nothing"
    );
    (ledger, kernel)
}

#[test]
fn sweep_waits_for_all_sources() {
    let kept = device("10.0.0.1/32", 3);
    let stale = via("10.5.0.0/16", "10.0.0.9", Some(2), 20);
    let (mut ledger, mut kernel) =
        adopted(&[kept.clone(), stale.clone()], &[Source::Pod, Source::Bgp]);
    let ops = apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::want(Source::Pod, kept.clone())],
    );
    assert_eq!(ops, vec![], "confirmed as it is: nothing to write");
    assert!(ledger.finish(Source::Pod).is_empty());
    assert!(
        ledger.finish(Source::Pod).is_empty(),
        "one source counts once"
    );
    let keys = ledger.finish(Source::Bgp);
    assert_eq!(
        run(&mut ledger, &mut kernel, &keys),
        vec![Op::Delete(stale.key())]
    );
    assert_eq!(ledger.dump().len(), 1);
}

#[test]
fn withdraw_of_what_was_never_wanted_spares_the_stale() {
    let stale = device("10.0.0.1/32", 3);
    let (mut ledger, mut kernel) =
        adopted(std::slice::from_ref(&stale), &[Source::Pod, Source::Bgp]);
    assert_eq!(
        apply(
            &mut ledger,
            &mut kernel,
            vec![RouteChange::withdraw(Source::Bgp, stale.prefix)]
        ),
        vec![]
    );
    assert_eq!(ledger.dump()[0].state, RouteState::Stale);
}

#[test]
fn best_source_holds_the_key_and_the_next_takes_over() {
    let (mut ledger, mut kernel) = adopted(&[], &[]);
    let pod = device("10.0.0.1/32", 3);
    let bgp = via("10.0.0.1/32", "10.9.0.1", Some(2), 0);
    apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::want(Source::Bgp, bgp.clone())],
    );
    let ops = apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::want(Source::Pod, pod.clone())],
    );
    assert_eq!(ops, vec![Op::Replace(pod.clone().into())]);
    let ops = apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::withdraw(Source::Pod, pod.prefix)],
    );
    assert_eq!(ops, vec![Op::Replace(bgp.into())]);
}

#[test]
fn metrics_coexist_and_a_changed_metric_moves_the_route() {
    let (mut ledger, mut kernel) = adopted(&[], &[]);
    let block = unreachable("10.0.0.0/26");
    let bgp = via("10.0.0.0/26", "10.9.0.1", Some(2), 20);
    let both = vec![
        RouteChange::want(Source::Block, block),
        RouteChange::want(Source::Bgp, bgp.clone()),
    ];
    assert_eq!(apply(&mut ledger, &mut kernel, both).len(), 2);
    assert_eq!(kernel.routes.len(), 2);
    let moved = RouteSpec {
        metric: 30,
        ..bgp.clone()
    };
    let ops = apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::want(Source::Bgp, moved.clone())],
    );
    assert_eq!(ops, vec![Op::Delete(bgp.key()), Op::Add(moved.into())]);
}

#[test]
fn ipv6_metric_zero_is_the_kernels_1024() {
    assert_eq!(RouteKey::new("fd00::/64".parse().unwrap(), 0).metric, 1024);
    assert_eq!(RouteKey::new("10.0.0.0/8".parse().unwrap(), 0).metric, 0);
}

#[test]
fn a_foreign_holder_is_a_failure_until_it_goes() {
    let (mut ledger, mut kernel) = adopted(&[], &[]);
    let spec = via("10.0.0.0/26", "10.9.0.1", Some(2), 20);
    kernel.routes.insert(spec.key(), Err(()));
    apply(
        &mut ledger,
        &mut kernel,
        vec![RouteChange::want(Source::Bgp, spec.clone())],
    );
    assert_eq!(ledger.failure(&spec.key()), Some("exists"));
    kernel.routes.remove(&spec.key());
    let failed = ledger.failed().clone();
    assert_eq!(
        run(&mut ledger, &mut kernel, &failed),
        vec![Op::Add(spec.clone().into())]
    );
    assert!(ledger.failed().is_empty() && ledger.failure(&spec.key()).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Change(RouteChange),
    /// Somebody deletes whatever is under the key of this spec.
    Vandal(RouteSpec),
    /// Somebody adds a foreign route there if it is free.
    Foreign(RouteSpec),
    Audit,
    Finish(Source),
}

fn spec() -> impl Strategy<Value = RouteSpec> {
    let prefixes = prop::sample::select(vec![
        "10.0.0.0/24",
        "10.0.1.0/24",
        "fd00::/64",
        "10.0.0.7/32",
    ]);
    (prefixes, 0..4_u8, prop::sample::select(vec![0, 20, 1024])).prop_map(
        |(prefix, shape, metric)| {
            let spec = match shape {
                0 => device(prefix, 3),
                1 => unreachable(prefix),
                2 => via(prefix, "10.9.0.1", None, 0),
                _ => via(prefix, "10.9.0.2", Some(4), 0),
            };
            RouteSpec { metric, ..spec }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let source = prop::sample::select(Source::ALL.to_vec());
    prop_oneof![
        6 => (source.clone(), spec()).prop_map(|(source, spec)| Step::Change(RouteChange::want(source, spec))),
        3 => (source.clone(), spec()).prop_map(|(source, spec)| Step::Change(RouteChange::withdraw(source, spec.prefix))),
        1 => spec().prop_map(Step::Vandal),
        1 => spec().prop_map(Step::Foreign),
        1 => Just(Step::Audit),
        1 => source.prop_map(Step::Finish),
    ]
}

proptest! {
    /// Whatever happened, after all sources finished and an audit, the kernel holds exactly what is wanted wherever no
    /// foreign route holds the key; foreign routes are as they were; and a second diff is empty.
    #[test]
    fn converges_to_the_model(
        start in prop::collection::vec(spec(), 0..6),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let (mut ledger, mut kernel) = adopted(&start, &Source::ALL);
        let mut wants: BTreeMap<(ipnet::IpNet, Source), RouteSpec> = BTreeMap::new();
        let mut foreign = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Change(change) => {
                    match &change.route {
                        Some(spec) => drop(wants.insert((change.prefix, change.source), spec.clone())),
                        None => drop(wants.remove(&(change.prefix, change.source))),
                    }
                    // The writer sees vandals through the monitor before it deletes: an audit stands for that here.
                    let keys = ledger.observe(kernel.dump());
                    run(&mut ledger, &mut kernel, &keys);
                    apply(&mut ledger, &mut kernel, vec![change]);
                }
                Step::Vandal(spec) => {
                    kernel.routes.remove(&spec.key());
                    foreign.remove(&spec.key());
                }
                Step::Foreign(spec) => {
                    if let std::collections::btree_map::Entry::Vacant(free) = kernel.routes.entry(spec.key()) {
                        free.insert(Err(()));
                        foreign.insert(spec.key());
                    }
                }
                Step::Audit => {
                    let keys = ledger.observe(kernel.dump());
                    run(&mut ledger, &mut kernel, &keys);
                }
                Step::Finish(source) => {
                    let keys = ledger.observe(kernel.dump());
                    run(&mut ledger, &mut kernel, &keys);
                    let keys = ledger.finish(source);
                    run(&mut ledger, &mut kernel, &keys);
                }
            }
        }
        for source in Source::ALL {
            let keys = ledger.observe(kernel.dump());
            run(&mut ledger, &mut kernel, &keys);
            let keys = ledger.finish(source);
            run(&mut ledger, &mut kernel, &keys);
        }
        let keys = ledger.observe(kernel.dump());
        run(&mut ledger, &mut kernel, &keys);

        let mut expected: BTreeMap<RouteKey, RouteSpec> = BTreeMap::new();
        for ((_, _), spec) in &wants {
            expected.entry(spec.key()).or_insert_with(|| spec.clone());
        }
        for key in &foreign {
            prop_assert_eq!(kernel.routes.get(key), Some(&Err(())));
            expected.remove(key);
        }
        let ours: BTreeMap<RouteKey, Written> =
            kernel.routes.iter().filter_map(|(key, route)| Some((*key, route.as_ref().ok()?.clone()))).collect();
        prop_assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, spec) in &expected {
            prop_assert!(Written::from(spec.clone()).satisfied_by(&ours[key]), "{:?} is not {:?}", ours[key], spec);
        }
        let again = ledger.observe(kernel.dump());
        let ops: Vec<_> = ledger.plan(&again, ALL_ALIVE).routes.into_iter().filter(|op| !foreign.contains(&op.key())).collect();
        prop_assert_eq!(ops, vec![]);
    }
}
