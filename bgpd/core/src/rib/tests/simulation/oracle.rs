//! What must come out, by the plainest means: every speaker looks at every link again and again until nothing changes.
//! Shortest AS_PATH, then lowest BGP Identifier: with these the outcome is unique.

use super::*;

pub(super) fn loc_ribs(links: &[(usize, usize)], origins: &[BTreeSet<IpNet>]) -> Vec<LocRib> {
    let mut ribs: Vec<LocRib> = vec![LocRib::new(); origins.len()];
    loop {
        let next: Vec<LocRib> = (0..origins.len())
            .map(|at| {
                let mut rib = LocRib::new();
                for (a, b) in links.iter().flat_map(|&(a, b)| [(a, b), (b, a)]) {
                    if b != at {
                        continue;
                    }
                    for (prefix, path) in announced(a, b, &ribs[a]) {
                        if path.contains(&asn(at)) {
                            continue;
                        }
                        let key = |path: &Vec<u32>, from: usize| (path.len(), bgp_id(from));
                        let better = rib
                            .get(&prefix)
                            .is_none_or(|(old, from)| key(&path, a) < key(old, *from));
                        if better {
                            rib.insert(prefix, (path, a));
                        }
                    }
                }
                rib.extend(origins[at].iter().map(|prefix| (*prefix, (vec![], at))));
                rib
            })
            .collect();
        if next == ribs {
            return ribs;
        }
        ribs = next;
    }
}

/// What `a` announces to `b`: all but what came from there, with its own AS in front.
pub(super) fn announced(a: usize, b: usize, rib: &LocRib) -> BTreeMap<IpNet, Vec<u32>> {
    rib.iter()
        .filter(|(_, (_, from))| *from != b)
        .map(|(prefix, (path, _))| (*prefix, [&[asn(a)], path.as_slice()].concat()))
        .collect()
}
