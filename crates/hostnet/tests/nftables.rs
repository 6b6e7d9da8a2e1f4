//! Tables on a real kernel: what `nft` reads of them, and whose they are.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Command;

use common::netns;
use roadbed_hostnet::nft::{Chain, Comparison, Expr, Meta, Nft, Table};
use roadbed_hostnet::{NamedNetNs, NetlinkError};

const TABLE: &str = "rbt";

fn table() -> Table {
    let from = |name: &str| {
        [
            Expr::Meta(Meta::InputName),
            Expr::Compare(Comparison::Equal, name.into()),
        ]
    };
    let way_back = [
        Expr::WayBack,
        Expr::Compare(Comparison::Equal, vec![0; 4]),
        Expr::Counter,
        Expr::Drop,
    ];
    let nothing = [
        Expr::Meta(Meta::Family),
        Expr::Compare(Comparison::Equal, vec![2]),
        Expr::Network { offset: 12, len: 4 },
        Expr::Compare(Comparison::Equal, vec![0; 4]),
        Expr::Counter,
        Expr::Drop,
    ];
    Table {
        name: TABLE,
        comment: "mark:1",
        chains: vec![
            Chain {
                name: "inner",
                prerouting: None,
                rules: vec![nothing.to_vec(), way_back.to_vec()],
            },
            Chain {
                name: "outer",
                prerouting: Some(-300),
                rules: vec![[&from("ab")[..], &[Expr::Jump("inner")]].concat()],
            },
        ],
    }
}

fn nft(ns: &NamedNetNs, args: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", ns.name(), "nft"])
        .args(args.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_table_is_written_as_nft_reads_it_and_replaced_at_once() {
    let ns = netns("nft");
    let mut socket = Nft::open_in(ns.ns()).unwrap();
    let table = table();
    assert_eq!(socket.table_look(&table).unwrap(), None);
    let before = socket.generation().unwrap();
    socket.table_replace(&table).unwrap();
    assert_ne!(socket.generation().unwrap(), before);
    let text = nft(&ns, "list ruleset");
    for part in [
        "table inet rbt",
        "comment \"mark:1\"",
        "iifname \"ab*\" jump inner",
        "fib saddr . iif oif missing counter packets 0 bytes 0 drop",
        "ip saddr 0.0.0.0 counter",
        "type filter hook prerouting priority raw; policy accept;",
    ] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    let first = socket.table_look(&table).unwrap().unwrap();
    socket.table_replace(&table).unwrap();
    assert_eq!(nft(&ns, "list ruleset"), text);
    assert_eq!(socket.table_look(&table).unwrap().unwrap(), first);
    // Whatever is changed is seen.
    nft(&ns, "flush chain inet rbt outer");
    assert_ne!(socket.table_look(&table).unwrap().unwrap(), first);
    nft(&ns, "delete chain inet rbt outer");
    assert_eq!(socket.table_look(&table).unwrap(), None);
    assert!(socket.table_delete(&table).unwrap());
    assert!(!socket.table_delete(&table).unwrap());
    assert_eq!(nft(&ns, "list ruleset"), "");
}

#[test]
fn a_table_without_the_mark_is_left_alone() {
    for comment in ["", r#"{comment"mark";}"#] {
        let ns = netns("nftf");
        nft(&ns, &format!("add table inet {TABLE}{comment}"));
        let before = nft(&ns, "list ruleset");
        let mut socket = Nft::open_in(ns.ns()).unwrap();
        let table = table();
        for result in [
            socket.table_replace(&table),
            socket.table_delete(&table).map(drop),
            socket.table_look(&table).map(drop),
        ] {
            assert!(
                matches!(result, Err(NetlinkError::ForeignTable { .. })),
                "{result:?}"
            );
        }
        assert_eq!(nft(&ns, "list ruleset"), before);
    }
}
