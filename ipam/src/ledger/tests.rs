mod property;

use std::convert::Infallible;

use tempfile::TempDir;

use super::*;

const BOOT: &str = "0b1a";

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn key(id: &str) -> AttachmentKey {
    AttachmentKey {
        network: "pods".into(),
        container_id: id.into(),
        ifname: "eth0".into(),
    }
}

fn block(cidr: &str) -> ConfirmedBlock {
    ConfirmedBlock {
        cidr: cidr.parse().unwrap(),
        pool: "p".into(),
    }
}

fn wired(id: &str, addresses: &[&str], ifindex: u32) -> KernelAttachment {
    KernelAttachment {
        host_ifname: host_ifname(&key(id)),
        key: key(id),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        host_ifindex: ifindex,
    }
}

/// A run directory, and a ledger in it.
struct Bench {
    dir: TempDir,
    ledger: Ledger,
    blocks: Vec<ConfirmedBlock>,
}

fn open(path: &Path, boot: &str, kernel: &[KernelAttachment]) -> Opened {
    let ask = || Ok::<_, Infallible>(kernel.to_vec());
    Ledger::open(path, boot, LedgerSettings::default(), ask, secs(1)).unwrap()
}

impl Bench {
    fn new(blocks: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(&dir.path().join("ledger.db"), BOOT, &[]);
        assert!(matches!(opened.outcome, OpenOutcome::Rebuilt(_)));
        Self {
            dir,
            ledger: opened.ledger,
            blocks: blocks.iter().map(|b| block(b)).collect(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("ledger.db")
    }

    fn reserve(&mut self, id: &str, cookie: &str, now: u64) -> Result<Reserved, ReserveError> {
        let mut families: Vec<Family> = self.blocks.iter().map(|b| Family::of(&b.cidr)).collect();
        families.dedup();
        let request = AddressRequest {
            key: &key(id),
            cookie,
            pod: None,
            families: &families,
            blocks: &self.blocks,
            chosen: &[],
            foreign: false,
        };
        self.ledger.reserve(&request, secs(now + 30), secs(now))
    }

    fn add(&mut self, id: &str, now: u64) -> Row {
        self.reserve(id, id, now).unwrap();
        self.ledger.commit(&key(id), id, 7).unwrap()
    }

    /// The next process of the same boot.
    fn reopen(&mut self, kernel: &[KernelAttachment]) -> (OpenOutcome, Reconciled) {
        let opened = open(&self.path(), BOOT, kernel);
        self.ledger = opened.ledger;
        (opened.outcome, opened.reconciled)
    }

    fn kernel(&self) -> Vec<KernelAttachment> {
        let rows = self.ledger.list().into_iter();
        rows.map(|r| KernelAttachment {
            key: r.key,
            addresses: r.addresses,
            host_ifname: r.host_ifname,
            host_ifindex: r.host_ifindex.unwrap_or(7),
        })
        .collect()
    }
}

#[test]
fn one_address_per_family_or_none() {
    let mut bench = Bench::new(&["10.0.0.0/30", "fd00::/127"]);
    for id in ["a", "b"] {
        let row = bench.add(id, 1);
        assert!(
            row.addresses[0].is_ipv4() && row.addresses[1].is_ipv6(),
            "{row:?}"
        );
    }
    let error = bench.reserve("c", "c", 1).unwrap_err();
    assert!(
        matches!(
            error,
            ReserveError::PoolFull {
                family: Family::V6,
                in_use: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("IPPool p: 1 blocks"), "{error}");
    let usage = bench.ledger.usage(&bench.blocks[0].cidr, secs(1));
    assert_eq!(
        (usage.capacity, usage.in_use, usage.cooling),
        (4, 2, 0),
        "nothing is held"
    );
    let none = AddressRequest {
        key: &key("d"),
        cookie: "d",
        pod: None,
        families: &[Family::V6],
        blocks: &bench.blocks[..1],
        chosen: &[],
        foreign: false,
    };
    let error = bench.ledger.reserve(&none, secs(9), secs(1)).unwrap_err();
    assert!(
        matches!(error, ReserveError::NoBlock { family: Family::V6 }),
        "{error}"
    );
}

#[test]
fn every_address_is_used_over_all_blocks_in_turn() {
    let mut bench = Bench::new(&["10.0.0.0/26", "10.0.1.0/32", "10.0.2.0/31"]);
    let mut seen = BTreeSet::new();
    for i in 0..67 {
        assert!(seen.insert(bench.add(&format!("c{i}"), 1).addresses[0]));
    }
    let error = bench.reserve("more", "x", 1).unwrap_err();
    assert!(
        matches!(
            error,
            ReserveError::PoolFull {
                blocks: 3,
                capacity: 67,
                in_use: 67,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        seen.contains(&"10.0.0.0".parse().unwrap()) && seen.contains(&"10.0.0.63".parse().unwrap())
    );
}

#[test]
fn the_oldest_released_comes_first_and_only_when_cool() {
    let mut bench = Bench::new(&["10.0.0.0/30"]);
    let rows: Vec<Row> = (0..4).map(|i| bench.add(&format!("c{i}"), 1)).collect();
    for (at, i) in [(10, 2), (11, 0), (12, 3)] {
        bench
            .ledger
            .release(&rows[i].key, secs(at))
            .unwrap()
            .unwrap();
    }
    let error = bench.reserve("n", "n", 39).unwrap_err();
    assert!(
        matches!(
            error,
            ReserveError::PoolFull {
                in_use: 1,
                cooling: 3,
                ..
            }
        ),
        "{error}"
    );
    // The order outlives the process.
    let kernel = bench.kernel();
    assert_eq!(bench.reopen(&kernel).0, OpenOutcome::Adopted);
    for (at, i) in [(40, 2), (41, 0), (42, 3)] {
        assert_eq!(
            bench.add(&format!("n{i}"), at).addresses,
            rows[i].addresses,
            "{at}"
        );
    }
}

#[test]
fn a_chosen_address_is_held_once_and_inside_a_block_unless_it_is_foreign() {
    let mut bench = Bench::new(&["10.0.0.0/29", "fd00::/125"]);
    let chosen = |bench: &mut Bench, id: &str, cookie: &str, chosen: &[&str], foreign: bool| {
        let chosen: Vec<IpAddr> = chosen.iter().map(|a| a.parse().unwrap()).collect();
        let request = AddressRequest {
            key: &key(id),
            cookie,
            pod: None,
            families: &[Family::V4, Family::V6],
            blocks: &bench.blocks,
            chosen: &chosen,
            foreign,
        };
        let reserved = bench.ledger.reserve(&request, secs(30), secs(1));
        reserved.map(|r| r.row.addresses).map_err(|e| e.to_string())
    };
    // The other family comes as usual.
    let first = chosen(&mut bench, "a", "1", &["10.0.0.5"], false).unwrap();
    assert_eq!(first[0].to_string(), "10.0.0.5");
    assert!(first.len() == 2 && first[1].is_ipv6(), "{first:?}");
    assert_eq!(
        chosen(&mut bench, "a", "1", &["10.0.0.5"], false).unwrap(),
        first
    );
    let taken = chosen(&mut bench, "b", "2", &["10.0.0.5"], false).unwrap_err();
    assert!(taken.contains("10.0.0.5 is pods/a/eth0's"), "{taken}");
    let outside = chosen(&mut bench, "b", "2", &["10.9.9.9"], false).unwrap_err();
    assert!(outside.contains("10.9.9.9 is in no block"), "{outside}");
    assert!(bench.ledger.get(&key("b")).is_none(), "nothing is held");

    // An IPAM plugin's is taken as it is, and kept from others.
    let foreign = chosen(&mut bench, "b", "2", &["10.9.9.9"], true).unwrap();
    assert_eq!(foreign, ["10.9.9.9".parse::<IpAddr>().unwrap()]);
    assert!(chosen(&mut bench, "c", "3", &["10.9.9.9"], true).is_err());
    // Chosen anew in the same namespace, it replaces.
    let moved = chosen(&mut bench, "b", "2", &["10.9.9.8"], true).unwrap();
    assert_eq!(moved[0].to_string(), "10.9.9.8");
    assert!(bench.ledger.owner(&foreign[0]).is_none());
    // Whoever comes without a choice never gets what is held.
    let rest: Vec<IpAddr> = (0..7)
        .map(|i| bench.add(&format!("r{i}"), 2).addresses[0])
        .collect();
    assert!(!rest.contains(&first[0]), "{rest:?}");
}

#[test]
fn a_boot_starts_somewhere_else() {
    let first = |boot: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(&dir.path().join("l"), boot, &[]).ledger;
        let request = AddressRequest {
            key: &key("a"),
            cookie: "a",
            pod: None,
            families: &[Family::V4],
            blocks: &[block("10.0.0.0/20")],
            chosen: &[],
            foreign: false,
        };
        ledger
            .reserve(&request, secs(9), secs(1))
            .unwrap()
            .row
            .addresses[0]
    };
    assert_eq!(first("one"), first("one"));
    assert_ne!(first("one"), first("two"));
}

#[test]
fn two_phases() {
    let mut bench = Bench::new(&["10.0.0.0/29"]);
    let first = bench.reserve("a", "ns1", 1).unwrap();
    assert_eq!(
        (first.row.state, &first.replaced),
        (AttachmentState::Wiring, &None)
    );
    let again = bench.reserve("a", "ns1", 5).unwrap();
    assert_eq!(again.row.addresses, first.row.addresses);
    assert_eq!(again.row.deadline, Some(secs(35)), "renewed");
    assert!(matches!(
        bench.ledger.commit(&key("a"), "ns2", 7),
        Err(CommitError::OtherNamespace)
    ));
    assert!(matches!(
        bench.ledger.commit(&key("b"), "ns1", 7),
        Err(CommitError::NotReserved)
    ));
    let row = bench.ledger.commit(&key("a"), "ns1", 7).unwrap();
    assert_eq!(
        (row.state, row.host_ifindex, row.deadline),
        (AttachmentState::Committed, Some(7), None)
    );
    assert_eq!(
        bench.ledger.commit(&key("a"), "ns1", 7).unwrap(),
        row,
        "once more"
    );
    let repeated = bench.reserve("a", "ns1", 50).unwrap();
    assert_eq!((repeated.row, repeated.replaced), (row.clone(), None));
    // Another namespace under the same container: new addresses, the old row to unwire.
    let other = bench.reserve("a", "ns2", 60).unwrap();
    assert_eq!(other.replaced, Some(row.clone()));
    assert_ne!(other.row.addresses, row.addresses);
    assert_eq!(
        bench.ledger.usage(&bench.blocks[0].cidr, secs(60)).cooling,
        1
    );
    // What expires is held until it is unwired, and not when it was renewed meanwhile.
    assert_eq!(bench.ledger.expired(secs(89)), []);
    let late = bench.ledger.expired(secs(90));
    assert_eq!(late, [other.row]);
    let renewed = bench.reserve("a", "ns2", 90).unwrap().row;
    assert!(!bench.ledger.release_row(&late[0], secs(91)).unwrap());
    assert!(bench.ledger.release_row(&renewed, secs(91)).unwrap());
    assert_eq!(
        bench.ledger.release(&key("a"), secs(92)).unwrap(),
        None,
        "twice is no error"
    );
    assert!(!bench.ledger.block_in_use(&bench.blocks[0].cidr));
}

#[test]
fn the_kernel_knows_better() {
    let mut bench = Bench::new(&["10.0.0.0/28"]);
    let (a, b) = (bench.add("a", 1), bench.add("b", 1));
    bench.reserve("w", "w", 1).unwrap();
    let x = a.addresses[0].to_string();
    let y = b.addresses[0].to_string();
    // The two have each other's address, one of them another index; "w" has no veth yet; "n" has no row.
    let kernel = [
        wired("a", &[&y], 7),
        wired("b", &[&x], 8),
        wired("n", &["10.0.0.77"], 9),
    ];
    let (outcome, done) = bench.reopen(&kernel);
    assert_eq!(outcome, OpenOutcome::Adopted);
    assert_eq!(
        (done.corrected.len(), done.added.len(), done.released.len()),
        (2, 1, 0)
    );
    assert_eq!(bench.ledger.owner(&b.addresses[0]).unwrap().key, key("a"));
    assert_eq!(bench.ledger.get(&key("b")).unwrap().host_ifindex, Some(8));
    assert_eq!(
        bench.ledger.get(&key("w")).unwrap().state,
        AttachmentState::Wiring
    );
    // Gone, and one address twice: the first has it.
    let done = bench
        .ledger
        .reconcile(
            &[wired("a", &[&y], 7), wired("m", &[&y, "10.0.0.78"], 9)],
            secs(2),
        )
        .unwrap();
    let gone: Vec<&str> = done
        .released
        .iter()
        .map(|r| r.key.container_id.as_str())
        .collect();
    assert_eq!(gone, ["b", "n"]);
    assert_eq!(done.conflicts, [(key("m"), b.addresses[0])]);
    assert_eq!(bench.ledger.get(&key("m")).unwrap().addresses.len(), 1);
    assert_eq!(
        bench.reopen(&bench.kernel()).1,
        Reconciled::default(),
        "the file says the same"
    );
}

#[test]
fn a_deleted_route_does_not_free_the_address() {
    let mut bench = Bench::new(&["10.0.0.0/28", "fd00::/124"]);
    let row = bench.add("a", 1);
    let v6 = row.addresses[1].to_string();
    for routes in [&[][..], &[&*v6]] {
        let (_, done) = bench.reopen(&[wired("a", routes, 7)]);
        assert_eq!(done, Reconciled::default());
        assert_eq!(bench.ledger.get(&row.key), Some(&row));
    }
    // Unless the kernel routes it to somebody else.
    let v4 = row.addresses[0].to_string();
    let (_, done) = bench.reopen(&[wired("a", &[&v6], 7), wired("b", &[&v4], 8)]);
    assert_eq!(done.corrected[0].addresses, row.addresses[1..]);
    assert_eq!(bench.ledger.owner(&row.addresses[0]).unwrap().key, key("b"));
}

#[test]
fn a_rebuilt_row_keeps_its_address() {
    let mut bench = Bench::new(&["10.0.0.0/28"]);
    std::fs::remove_file(bench.path()).unwrap();
    bench.reopen(&[wired("a", &["10.0.0.5"], 7), wired("bare", &[], 8)]);
    // An ADD that was between its phases may go on, if it is the same veth and we know what it has.
    assert!(matches!(
        bench.ledger.commit(&key("a"), "ns", 6),
        Err(CommitError::NotReserved)
    ));
    assert!(matches!(
        bench.ledger.commit(&key("bare"), "ns", 8),
        Err(CommitError::NotReserved)
    ));
    let again = bench.reserve("a", "ns", 1).unwrap();
    assert_eq!(again.row.addresses, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        (again.row.state, again.replaced.is_some()),
        (AttachmentState::Wiring, true)
    );
    assert_eq!(
        bench.reserve("bare", "ns", 1).unwrap().row.addresses.len(),
        1
    );
}

#[test]
fn another_boot_starts_from_the_kernel() {
    let mut bench = Bench::new(&["10.0.0.0/28"]);
    bench.add("a", 1);
    let kernel = [wired("z", &["10.0.0.9"], 3)];
    let opened = open(&bench.path(), "other", &kernel);
    assert_eq!(opened.outcome, OpenOutcome::NewBoot);
    assert_eq!(opened.ledger.list().len(), 1);
    assert_eq!(opened.ledger.list()[0].key, key("z"));
}

#[test]
fn without_the_kernel_there_is_no_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ask = || Err("no netlink");
    let error = Ledger::open(
        &dir.path().join("l"),
        BOOT,
        LedgerSettings::default(),
        ask,
        secs(1),
    );
    assert!(matches!(error, Err(LedgerError::Kernel(_))));
    let ask = || Ok::<_, Infallible>(Vec::new());
    let path = dir.path().join("missing/l");
    let error = Ledger::open(&path, BOOT, LedgerSettings::default(), ask, secs(1)).unwrap_err();
    assert!(error.to_string().contains("missing/l"), "{error}");
}

/// Whatever is found at the path, the ledger has what the kernel has, and no address of it is free.
fn check_damage(damage: impl FnOnce(&Path), unharmed: bool) {
    let mut bench = Bench::new(&["10.0.0.0/29"]);
    for i in 0..5 {
        bench.add(&format!("c{i}"), 1);
    }
    let before = bench.ledger.list();
    let kernel = bench.kernel();
    let path = bench.path();
    // Closing writes everything into the one file.
    bench.ledger = open(&bench.dir.path().join("other.db"), BOOT, &[]).ledger;
    damage(&path);
    let (outcome, _) = bench.reopen(&kernel);
    assert!(
        unharmed || matches!(outcome, OpenOutcome::Rebuilt(_)),
        "{outcome:?}"
    );
    let held = |rows: &[Row]| -> BTreeMap<AttachmentKey, Vec<IpAddr>> {
        rows.iter()
            .map(|r| (r.key.clone(), r.addresses.clone()))
            .collect()
    };
    assert_eq!(held(&bench.ledger.list()), held(&before));
    for i in 0..3 {
        let taken = bench.add(&format!("n{i}"), 100).addresses[0];
        assert!(!before.iter().any(|r| r.addresses.contains(&taken)));
    }
    assert!(bench.reserve("n4", "x", 100).is_err());
}

#[test]
fn a_damaged_file_is_rebuilt() {
    check_damage(|p| std::fs::remove_file(p).unwrap(), false);
    check_damage(|p| std::fs::write(p, b"").unwrap(), false);
    check_damage(|p| std::fs::write(p, [0x5a; 9000]).unwrap(), false);
    check_damage(
        |p| {
            std::fs::remove_file(p).unwrap();
            std::fs::create_dir(p).unwrap();
        },
        false,
    );
    check_damage(
        |p| {
            let conn = rusqlite::Connection::open(p).unwrap();
            conn.pragma_update(None, "user_version", 2).unwrap();
        },
        false,
    );
    check_damage(
        |p| {
            let conn = rusqlite::Connection::open(p).unwrap();
            conn.execute_batch("DROP TABLE addresses").unwrap();
        },
        false,
    );
    check_damage(
        |p| {
            let conn = rusqlite::Connection::open(p).unwrap();
            conn.execute_batch("DELETE FROM attachments; DELETE FROM addresses")
                .unwrap();
        },
        true,
    );
}
