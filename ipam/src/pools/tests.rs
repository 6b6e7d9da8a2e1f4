use roadbed_api::Metadata;

use super::*;

fn pool(name: &str, cidr: &str, created: u32) -> Resource<IpPoolSpec> {
    let mut metadata = Metadata::named(name);
    if created > 0 {
        metadata.creation_timestamp =
            Some(Timestamp(format!("2026-11-21T03:24:{created:02}.000000Z")));
    }
    let spec = IpPoolSpec {
        cidr: cidr.parse().unwrap(),
        block_size: None,
        node_selector: None,
        disabled: false,
    };
    Resource::new(metadata, spec)
}

/// Resolves for a node with label `rack=r1`; `expected` has one word per pool, in the order of their names.
fn check(pools: &[Resource<IpPoolSpec>], expected: &[&str]) {
    let labels = BTreeMap::from([("rack".to_owned(), "r1".to_owned())]);
    let mut reversed = pools.to_vec();
    reversed.reverse();
    for pools in [pools, &reversed] {
        let found: Vec<String> = resolve(pools, &labels)
            .iter()
            .map(|view| match &view.usable {
                Ok(()) => "ok".to_owned(),
                Err(PoolProblem::Invalid(_)) => "invalid".to_owned(),
                Err(PoolProblem::Overlaps { other, .. }) => format!("overlaps {other}"),
                Err(PoolProblem::Disabled) => "disabled".to_owned(),
                Err(PoolProblem::NotSelected) => "not selected".to_owned(),
            })
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn who_yields() {
    let change = |mut pool: Resource<IpPoolSpec>, f: fn(&mut IpPoolSpec)| {
        f(&mut pool.spec);
        pool
    };
    let select = |rack: &str| {
        let mut pool = pool("a", "10.0.0.0/16", 1);
        let labels = BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
        pool.spec.node_selector = Some(roadbed_api::LabelSelector {
            match_labels: labels,
            match_expressions: Vec::new(),
        });
        pool
    };
    check(
        &[pool("a", "10.0.0.0/16", 1), pool("b", "fd00::/48", 2)],
        &["ok", "ok"],
    );
    check(
        &[pool("a", "10.0.0.0/16", 2), pool("b", "10.0.1.0/24", 1)],
        &["overlaps b", "ok"],
    );
    check(
        &[pool("a", "10.0.0.0/16", 1), pool("b", "10.0.1.0/24", 1)],
        &["ok", "overlaps a"],
    );
    // A pool without a time is not stored yet.
    check(
        &[pool("a", "10.0.0.0/16", 0), pool("b", "10.0.1.0/24", 1)],
        &["overlaps b", "ok"],
    );
    // Yields to a pool that yields itself, and to a disabled one; not to an invalid one.
    let chain = [
        pool("a", "10.0.0.0/24", 1),
        pool("b", "10.0.0.0/16", 2),
        pool("c", "10.0.1.0/24", 3),
    ];
    check(&chain, &["ok", "overlaps a", "overlaps b"]);
    let disabled = change(pool("a", "10.0.0.0/16", 1), |s| s.disabled = true);
    check(
        &[disabled, pool("b", "10.0.1.0/24", 2)],
        &["disabled", "overlaps a"],
    );
    let invalid = change(pool("a", "10.0.0.0/16", 1), |s| s.block_size = Some(8));
    check(&[invalid, pool("b", "10.0.1.0/24", 2)], &["invalid", "ok"]);
    check(&[select("r1")], &["ok"]);
    check(&[select("r2")], &["not selected"]);
}

#[test]
fn conditions_change_only_with_what_they_say() {
    let labels = BTreeMap::new();
    let now = |s: &str| Timestamp(s.to_owned());
    let mut pools = vec![pool("a", "10.0.0.0/16", 1), pool("b", "10.0.1.0/24", 2)];
    let write = |pools: &mut Vec<Resource<IpPoolSpec>>, at: &str| {
        let view = resolve(pools, &labels).remove(1);
        let new = conditions(&pools[1], &view, &now(at));
        if let Some(new) = &new {
            pools[1].status.conditions.clone_from(new);
        }
        new
    };
    let first = write(&mut pools, "t1").unwrap();
    assert_eq!(
        (first[0].r#type.as_str(), first[0].status.as_str()),
        ("Overlaps", "True")
    );
    assert!(
        first[0].message.contains("older pool a (10.0.0.0/16)"),
        "{}",
        first[0].message
    );
    assert_eq!(write(&mut pools, "t2"), None);
    pools[0].spec.cidr = "10.9.0.0/16".parse().unwrap();
    let second = write(&mut pools, "t3").unwrap();
    assert_eq!(
        (second[0].status.as_str(), &second[0].last_transition_time),
        ("False", &now("t3"))
    );
    assert_eq!(write(&mut pools, "t4"), None);
}

#[test]
fn what_may_be_stored() {
    let check = |new: Resource<IpPoolSpec>, expected: &[&str]| {
        let existing = [pool("a", "10.0.0.0/16", 1), pool("six", "fd00::/48", 2)];
        let found: Vec<String> = check_new_pool(&existing, &new)
            .iter()
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    };
    check(pool("a", "10.0.0.0/16", 0), &[]);
    check(pool("b", "10.1.0.0/16", 0), &[]);
    check(
        pool("b", "10.0.9.0/24", 0),
        &["spec.cidr: 10.0.9.0/24 overlaps 10.0.0.0/16 of IPPool/a"],
    );
    check(
        pool("b", "10.0.0.0/8", 0),
        &["overlaps 10.0.0.0/16 of IPPool/a"],
    );
    check(
        pool("a", "10.5.0.0/16", 0),
        &["spec.cidr: cannot change from 10.0.0.0/16"],
    );
    let mut resized = pool("six", "fd00::/48", 0);
    resized.spec.block_size = Some(124);
    check(
        resized.clone(),
        &["spec.blockSize: cannot change from 122 to 124"],
    );
    resized.spec.block_size = Some(122);
    check(resized.clone(), &[]);
    resized.spec.block_size = Some(64);
    check(
        resized,
        &["spec.blockSize: /64 is out of range", "cannot change"],
    );
}
