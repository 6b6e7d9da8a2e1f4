//! Any damage to the file, and any order of calls, against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Reserve(u8, u8),
    Commit(u8, u8),
    Release(u8),
    Pass(u64),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..8u8, 0..2u8).prop_map(|(k, c)| Op::Reserve(k, c)),
        3 => (0..8u8, 0..2u8).prop_map(|(k, c)| Op::Commit(k, c)),
        4 => (0..8u8).prop_map(Op::Release),
        3 => (0..40u64).prop_map(Op::Pass),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncated_or_overwritten_anywhere(cut in 0..40_000usize, noise in prop::collection::vec(any::<u8>(), 0..64)) {
        check_damage(|p| {
            let mut bytes = std::fs::read(p).unwrap();
            let at = cut % bytes.len();
            if noise.is_empty() {
                bytes.truncate(at);
            }
            for (byte, noise) in bytes[at..].iter_mut().zip(&noise) {
                *byte = *noise;
            }
            std::fs::write(p, bytes).unwrap();
        }, true);
    }

    #[test]
    fn like_a_map_of_keys_to_addresses(ops in ops()) {
        let mut bench = Bench::new(&["10.0.0.0/30", "10.0.0.8/32"]);
        // The model: who holds what, and when each address was given back.
        let mut held: BTreeMap<u8, (u8, IpAddr)> = BTreeMap::new();
        let mut freed: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut now = 1;
        for op in ops {
            match op {
                Op::Pass(time) => now += time,
                Op::Reserve(k, c) => match bench.reserve(&format!("k{k}"), &format!("c{c}"), now) {
                    Ok(Reserved { row, replaced }) => {
                        let address = row.addresses[0];
                        let before = held.insert(k, (c, address));
                        match before {
                            Some((cookie, old)) if cookie == c => prop_assert!(old == address && replaced.is_none()),
                            before => {
                                prop_assert_eq!(replaced.map(|r| r.addresses[0]), before.map(|b| b.1));
                                prop_assert!(freed.get(&address).is_none_or(|at| at + 30 <= now), "{} is warm", address);
                                prop_assert!(held.iter().all(|(o, (_, a))| *o == k || *a != address), "{} twice", address);
                                if let Some((_, old)) = before {
                                    freed.insert(old, now);
                                }
                            }
                        }
                    }
                    Err(ReserveError::PoolFull { in_use, cooling, .. }) => {
                        prop_assert_eq!(in_use, held.len() as u64);
                        let warm = |a: &IpAddr, at: u64| at + 30 > now && !held.values().any(|h| h.1 == *a);
                        prop_assert_eq!(cooling, freed.iter().filter(|(a, at)| warm(a, **at)).count() as u64);
                        prop_assert_eq!(in_use + cooling, 5, "there was a free one");
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                },
                Op::Commit(k, c) => {
                    let done = bench.ledger.commit(&key(&format!("k{k}")), &format!("c{c}"), 7);
                    prop_assert_eq!(done.is_ok(), held.get(&k).is_some_and(|h| h.0 == c));
                }
                Op::Release(k) => {
                    let gone = bench.ledger.release(&key(&format!("k{k}")), secs(now)).unwrap();
                    let expected = held.remove(&k).map(|h| h.1);
                    prop_assert_eq!(gone.map(|r| r.addresses[0]), expected);
                    freed.extend(expected.map(|a| (a, now)));
                }
                Op::Reopen => {
                    let before = bench.ledger.list();
                    let committed: Vec<_> = before.iter().filter(|r| r.host_ifindex.is_some()).collect();
                    let kernel: Vec<_> = bench.kernel().into_iter()
                        .filter(|k| committed.iter().any(|r| r.key == k.key)).collect();
                    prop_assert_eq!(bench.reopen(&kernel), (OpenOutcome::Adopted, Reconciled::default()));
                    prop_assert_eq!(bench.ledger.list(), before);
                }
            }
        }
    }
}
