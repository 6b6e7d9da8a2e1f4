//! Rules by source address on a real kernel.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::IpAddr;

use common::netns;
use roadbed_hostnet::netns::run_in;
use roadbed_hostnet::{Netlink, SourceRule};

#[test]
fn rules_are_added_once_and_only_those_by_source_are_listed() {
    let ns = netns("rule");
    let mut netlink = Netlink::open_in(ns.ns()).unwrap();
    assert_eq!(
        netlink.rules().unwrap(),
        [],
        "the kernel's own have no source"
    );
    let rules = ["10.9.0.1", "fd00:9::1"].map(|from| SourceRule {
        from: from.parse::<IpAddr>().unwrap(),
        table: 82_003,
        priority: 820,
    });
    for rule in &rules {
        netlink.rule_add(rule).unwrap();
        let again = netlink.rule_add(rule).unwrap_err();
        assert!(again.is_exists(), "{again}");
    }
    // Of other people, and of other kinds.
    for other in ["from 10.9.0.0/24 lookup 7", "from 10.9.0.2 iif lo lookup 7"] {
        let words = format!("rule add {other}");
        let ran = run_in(ns.ns(), || {
            std::process::Command::new("ip")
                .args(words.split(' '))
                .status()
        });
        assert!(ran.unwrap().unwrap().success(), "{other}");
    }
    assert_eq!(netlink.rules().unwrap(), rules);
}
