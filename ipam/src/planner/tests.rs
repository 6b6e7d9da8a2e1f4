use proptest::prelude::*;
use roadbed_api::Timestamp;

use super::*;
use crate::pools::PoolProblem;

fn pool(name: &str, cidr: &str, block_len: u8) -> PoolView {
    PoolView {
        name: name.into(),
        cidr: cidr.parse().unwrap(),
        block_len,
        usable: Ok(()),
    }
}

fn block(cidr: &str, node: &str, state: BlockState, created: u64) -> Resource<IpBlockSpec> {
    new_block(cidr.parse().unwrap(), "p", node, state, created)
}

fn new_block(
    cidr: IpNet,
    pool: &str,
    node: &str,
    state: BlockState,
    created: u64,
) -> Resource<IpBlockSpec> {
    let mut block = pending_block(node, cidr, pool);
    block.metadata.uid = Some(format!("u{created}"));
    block.metadata.resource_version = Some(created.to_string());
    block.metadata.creation_timestamp = Some(Timestamp(format!("{created:09}")));
    block.spec.state = state;
    block
}

fn used(in_use: u64, cooling: u64) -> Usage {
    Usage {
        capacity: 64,
        in_use,
        cooling,
    }
}

/// Plans for node `a` with a listing and shows the actions as words.
fn check(
    pools: &[PoolView],
    all: &[Resource<IpBlockSpec>],
    usages: &[(&str, Usage)],
    expected: &[&str],
) -> Vec<PlanProblem> {
    let usage = usages
        .iter()
        .map(|(c, u)| (c.parse().unwrap(), *u))
        .collect();
    let own: Vec<_> = all
        .iter()
        .filter(|b| b.spec.owner.node == "a")
        .cloned()
        .collect();
    let plan = plan(
        &View {
            node: "a",
            pools,
            own_blocks: &own,
            usage: &usage,
            all_blocks: Some(all),
        },
        &Tuning::default(),
    );
    let found: Vec<String> = plan
        .actions
        .iter()
        .map(|a| match a {
            Action::NeedListing => "list".to_owned(),
            Action::Claim { pool, .. } => format!("claim {pool}"),
            Action::Confirm { name } => format!("confirm {name}"),
            Action::Release { name } => format!("release {name}"),
            Action::Delete { name } => format!("delete {name}"),
        })
        .collect();
    assert_eq!(found, expected);
    plan.problems
}

#[test]
fn life_of_a_block() {
    use BlockState::{Confirmed, Pending, Releasing};
    let p = [pool("p", "10.0.0.0/24", 26)];
    let off = [PoolView {
        usable: Err(PoolProblem::Disabled),
        ..p[0].clone()
    }];
    let (x, y) = ("10.0.0.0/26", "10.0.0.64/26");
    let one = |state| vec![block(x, "a", state, 1)];
    check(&p, &[], &[], &["claim p"]);
    check(&p, &one(Pending), &[], &["confirm 10-0-0-0-26"]);
    check(&p, &one(Confirmed), &[], &[]);
    check(&p, &one(Confirmed), &[(x, used(48, 0))], &[]);
    check(&p, &one(Confirmed), &[(x, used(49, 0))], &["claim p"]);
    check(&p, &one(Confirmed), &[(x, used(40, 9))], &["claim p"]);
    check(&p, &one(Releasing), &[], &["delete 10-0-0-0-26", "claim p"]);
    check(
        &p,
        &one(Releasing),
        &[(x, used(1, 0))],
        &["confirm 10-0-0-0-26", "claim p"],
    );
    // Disabled or deleted: back when empty, never before.
    for pools in [&off[..], &[]] {
        check(pools, &one(Pending), &[], &["delete 10-0-0-0-26"]);
        check(pools, &one(Confirmed), &[], &["release 10-0-0-0-26"]);
        check(pools, &one(Confirmed), &[(x, used(0, 1))], &[]);
        let problems = check(pools, &one(Confirmed), &[(x, used(1, 0))], &[]);
        assert!(
            problems[0].to_string().contains("1 addresses in use"),
            "{problems:?}"
        );
    }
    // The pool was made anew with another block size.
    let recut = [pool("p", "10.0.0.0/24", 27)];
    check(
        &recut,
        &one(Confirmed),
        &[],
        &["release 10-0-0-0-26", "claim p"],
    );
    // A second block goes back with room to spare only.
    let two = [block(x, "a", Confirmed, 1), block(y, "a", Confirmed, 2)];
    check(&p, &two, &[(x, used(33, 0))], &[]);
    check(&p, &two, &[(x, used(32, 0))], &["release 10-0-0-64-26"]);
    check(&p, &two, &[(y, used(32, 0))], &["release 10-0-0-0-26"]);
    check(&p, &two, &[], &["release 10-0-0-64-26"]);
}

#[test]
fn a_pending_block_yields_to_what_it_overlaps() {
    use BlockState::{Confirmed, Pending};
    let p = [pool("p", "10.0.0.0/24", 26)];
    let mine = block("10.0.0.0/26", "a", Pending, 5);
    let with = |state, created| vec![mine.clone(), block("10.0.0.0/25", "b", state, created)];
    check(
        &p,
        &with(Confirmed, 9),
        &[],
        &["delete 10-0-0-0-26", "claim p"],
    );
    check(
        &p,
        &with(Pending, 4),
        &[],
        &["delete 10-0-0-0-26", "claim p"],
    );
    check(
        &p,
        &with(Pending, 5),
        &[],
        &["delete 10-0-0-0-26", "claim p"],
    );
    check(&p, &with(Pending, 6), &[], &["confirm 10-0-0-0-26"]);
}

#[test]
fn a_listing_is_asked_for_only_when_needed() {
    let p = [pool("p", "10.0.0.0/24", 26)];
    let usage = BTreeMap::new();
    let actions = |own: &[Resource<IpBlockSpec>], all: Option<&[Resource<IpBlockSpec>]>| {
        plan(
            &View {
                node: "a",
                pools: &p,
                own_blocks: own,
                usage: &usage,
                all_blocks: all,
            },
            &Tuning::default(),
        )
        .actions
    };
    let pending = [block("10.0.0.0/26", "a", BlockState::Pending, 1)];
    let confirmed = [block("10.0.0.0/26", "a", BlockState::Confirmed, 1)];
    assert_eq!(actions(&[], None), [Action::NeedListing]);
    assert_eq!(actions(&pending, None), [Action::NeedListing]);
    assert_eq!(
        actions(&pending, Some(&[])),
        [Action::NeedListing],
        "listed too early"
    );
    assert_eq!(actions(&confirmed, None), []);
}

#[test]
fn a_full_pool_is_named() {
    let p = [pool("p", "10.0.0.0/25", 26)];
    let all = [
        block("10.0.0.0/26", "b", BlockState::Confirmed, 1),
        block("10.0.0.64/28", "c", BlockState::Confirmed, 2),
    ];
    let problems = check(&p, &all, &[], &[]);
    let text = problems[0].to_string();
    assert!(
        text.contains("IPPool/p (10.0.0.0/25) is full: 2 blocks lie in its 2 slots"),
        "{text}"
    );
}

/// A store and nodes that act on it in any order, each with its own, possibly old, idea of the pools.
struct World {
    blocks: BTreeMap<String, Resource<IpBlockSpec>>,
    clock: u64,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    name: String,
    pools: Vec<PoolView>,
    listing: Option<Vec<Resource<IpBlockSpec>>>,
    seen: BTreeMap<String, Resource<IpBlockSpec>>,
    todo: Vec<Action>,
    usage: BTreeMap<IpNet, Usage>,
}

fn pool_sets() -> Vec<Vec<PoolView>> {
    let six = pool("six", "fd00::/120", 122);
    vec![
        vec![pool("p", "10.0.0.0/23", 26), six.clone()],
        vec![pool("p", "10.0.0.0/23", 27), six.clone()],
        vec![pool("q", "10.0.0.0/24", 25)],
        vec![
            PoolView {
                usable: Err(PoolProblem::Disabled),
                ..pool("p", "10.0.0.0/23", 26)
            },
            six,
        ],
    ]
}

impl World {
    fn plan(&self, n: usize) -> Plan {
        let node = &self.nodes[n];
        let own: Vec<_> = self
            .blocks
            .values()
            .filter(|b| b.spec.owner.node == node.name)
            .cloned()
            .collect();
        plan(
            &View {
                node: &node.name,
                pools: &node.pools,
                own_blocks: &own,
                usage: &node.usage,
                all_blocks: node.listing.as_deref(),
            },
            &Tuning::default(),
        )
    }

    /// One node does one thing: plan, list, or carry out one action. `lose` makes a write fail.
    fn step(&mut self, n: usize, lose: bool) {
        if self.nodes[n].todo.is_empty() {
            let todo = self.plan(n).actions;
            assert!(todo.len() <= MAX_ACTIONS);
            let node = &mut self.nodes[n];
            node.todo = todo;
            node.seen = self.blocks.clone();
            node.listing = None;
            return;
        }
        let action = self.nodes[n].todo.remove(0);
        self.clock += 1;
        let clock = self.clock;
        let current = |name: &String| {
            let seen = self.nodes[n].seen.get(name)?;
            let now = self.blocks.get(name)?;
            (now.metadata == seen.metadata && !lose).then(|| now.clone())
        };
        let won = match action {
            Action::NeedListing => {
                self.nodes[n].listing = Some(self.blocks.values().cloned().collect());
                self.nodes[n].todo.clear();
                return;
            }
            Action::Claim { cidr, pool } => {
                let owner = self.nodes[n].name.clone();
                let block = new_block(cidr, &pool, &owner, BlockState::Pending, clock);
                let free = !lose && !self.blocks.contains_key(block.name());
                if free {
                    self.blocks.insert(block.name().to_owned(), block);
                }
                free
            }
            Action::Delete { name } => {
                let found = current(&name);
                if let Some(found) = &found {
                    assert_eq!(self.in_use(n, &found.spec.cidr), 0, "{name} was in use");
                    self.blocks.remove(&name);
                }
                found.is_some()
            }
            Action::Confirm { ref name } | Action::Release { ref name } => {
                let found = current(name);
                if let Some(mut block) = found.clone() {
                    block.spec.state = if matches!(action, Action::Confirm { .. }) {
                        BlockState::Confirmed
                    } else {
                        assert_eq!(self.in_use(n, &block.spec.cidr), 0, "{name} was in use");
                        BlockState::Releasing
                    };
                    block.metadata.resource_version = Some(clock.to_string());
                    self.blocks.insert(name.clone(), block);
                }
                found.is_some()
            }
        };
        if !won {
            self.nodes[n].todo.clear();
        }
    }

    fn in_use(&self, n: usize, cidr: &IpNet) -> u64 {
        self.nodes[n].usage.get(cidr).map_or(0, |u| u.in_use)
    }

    /// Pods come and go, in blocks that are confirmed and not about to change.
    fn set_usage(&mut self, n: usize, in_use: u64) {
        let node = &mut self.nodes[n];
        if !node.todo.is_empty() {
            return;
        }
        node.usage.clear();
        for block in self.blocks.values() {
            if block.spec.owner.node == node.name && block.spec.state == BlockState::Confirmed {
                let capacity = u64::try_from(capacity(&block.spec.cidr)).unwrap();
                let usage = Usage {
                    capacity,
                    in_use: in_use.min(capacity),
                    cooling: 0,
                };
                node.usage.insert(block.spec.cidr, usage);
            }
        }
    }

    fn assert_disjoint(&self) {
        let confirmed: Vec<_> = self
            .blocks
            .values()
            .filter(|b| b.spec.state != BlockState::Pending)
            .collect();
        for (i, a) in confirmed.iter().enumerate() {
            for b in &confirmed[i + 1..] {
                assert!(
                    !overlap(&a.spec.cidr, &b.spec.cidr),
                    "{} and {} overlap",
                    a.name(),
                    b.name()
                );
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step(usize, bool),
    Pools(usize, usize),
    Usage(usize, u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => (0..4usize, prop::bool::weighted(0.1)).prop_map(|(n, l)| Event::Step(n, l)),
        1 => (0..4usize, 0..4usize).prop_map(|(n, p)| Event::Pools(n, p)),
        1 => (0..4usize, 0..70u64).prop_map(|(n, u)| Event::Usage(n, u)),
    ];
    prop::collection::vec(event, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nodes_never_share_a_range_and_come_to_rest(events in events(), last in 0..4usize) {
        let sets = pool_sets();
        let nodes = ["a", "b", "c", "d"].map(|name| Node {
            name: name.into(),
            pools: sets[0].clone(),
            ..Node::default()
        });
        let mut world = World { blocks: BTreeMap::new(), clock: 0, nodes: nodes.into() };
        for event in events {
            match event {
                Event::Step(n, lose) => world.step(n, lose),
                Event::Pools(n, p) => world.nodes[n].pools = sets[p].clone(),
                Event::Usage(n, u) => world.set_usage(n, u),
            }
            world.assert_disjoint();
        }
        for node in &mut world.nodes {
            node.pools = sets[last].clone();
            node.usage.clear();
        }
        for _ in 0..200 {
            for n in 0..4 {
                world.step(n, false);
                world.assert_disjoint();
            }
        }
        for n in 0..4 {
            world.nodes[n].listing = Some(world.blocks.values().cloned().collect());
            prop_assert_eq!(world.plan(n).actions, vec![], "node {} is not at rest", n);
            for pool in sets[last].iter().filter(|p| p.usable.is_ok()) {
                let held = world.blocks.values().filter(|b| {
                    b.spec.owner.node == world.nodes[n].name && b.spec.pool == pool.name
                        && b.spec.state == BlockState::Confirmed
                });
                let slots = 1usize << (pool.block_len - pool.cidr.prefix_len());
                prop_assert!(held.count() == 1 || slots < 4, "node {n} has not one block of {}", pool.name);
            }
        }
    }
}
