//! Namespaces: creation without fork, identity, refusal of what is not one, clean-up.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use roadbed_hostnet::netns::{run_in, visit};
use roadbed_hostnet::{NamedNetNs, NetNs, Netlink, NetlinkError, sysctl};

#[test]
fn a_named_namespace_is_new_usable_and_gone_after_drop() {
    let ns = common::netns("life");
    let path = ns.path().to_owned();
    let here = NetNs::current().unwrap();
    assert!(!ns.ns().is_same(&here).unwrap());
    assert!(ns.ns().is_same(&NetNs::open(&path).unwrap()).unwrap());
    assert_ne!(ns.ns().cookie().unwrap(), here.cookie().unwrap());
    assert_eq!(
        ns.ns().cookie().unwrap(),
        NetNs::open(&path).unwrap().cookie().unwrap()
    );

    let links = Netlink::open_in(ns.ns()).unwrap().links("").unwrap();
    assert_eq!(
        links.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        ["lo"]
    );
    let shown = std::process::Command::new("ip")
        .args(["netns", "exec", ns.name(), "true"])
        .status()
        .unwrap();
    assert!(shown.success(), "ip netns can enter it");

    drop(ns);
    assert!(!path.exists());
}

#[test]
fn a_taken_name_is_refused_and_the_owner_keeps_it() {
    let ns = common::netns("taken");
    let error = NamedNetNs::create(ns.name()).unwrap_err();
    assert!(error.is_exists(), "{error}");
    assert!(NetNs::open(ns.path()).is_ok());
}

#[test]
fn deleting_twice_says_so() {
    let name = common::name("twice");
    NamedNetNs::create(&name).unwrap().leave();
    assert!(NamedNetNs::delete(&name).unwrap());
    assert!(!NamedNetNs::delete(&name).unwrap());
}

#[test]
fn a_creation_cut_short_can_be_deleted() {
    let ns = common::netns("dir");
    let name = common::name("stub");
    let path = ns.path().with_file_name(&name);
    std::fs::write(&path, "").unwrap();
    assert!(matches!(
        NetNs::open(&path),
        Err(NetlinkError::NotANetNs { .. })
    ));
    assert!(NamedNetNs::delete(&name).unwrap());
    assert!(!path.exists());
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    for bad in ["", ".", "..", "a/b", "../x", "a\0"] {
        assert!(
            matches!(NamedNetNs::create(bad), Err(NetlinkError::Invalid { .. })),
            "{bad:?}"
        );
    }
}

fn check_refused(path: impl AsRef<Path>, expected: &str) {
    let path = path.as_ref();
    let text = NetNs::open(path).unwrap_err().to_string();
    assert!(
        text.contains(&path.display().to_string()),
        "{text}: must name the path"
    );
    assert!(text.contains(expected), "{text}: expected {expected:?}");
}

#[test]
fn what_is_not_a_network_namespace_is_refused_by_path() {
    check_refused("/run/netns/rbt-does-not-exist", "No such file");
    check_refused("/proc/self/ns/uts", "a namespace of another type");
    check_refused("/etc/passwd", "not a namespace at all");
    check_refused("/dev/null", "not a namespace at all");
    check_refused("/run", "not a namespace at all");
}

#[test]
fn run_in_leaves_the_callers_thread_where_it_was_and_passes_panics_on() {
    let ns = common::netns("runin");
    let before = NetNs::current().unwrap().identity().unwrap();
    let inside = run_in(ns.ns(), || NetNs::current().unwrap().identity().unwrap()).unwrap();
    assert_eq!(inside, ns.ns().identity().unwrap());
    let panicked = std::panic::catch_unwind(|| run_in(ns.ns(), || panic!("inside")));
    assert!(panicked.is_err());
    assert_eq!(NetNs::current().unwrap().identity().unwrap(), before);
}

#[test]
fn a_visit_ends_where_it_began_whatever_happens_inside() {
    let ns = common::netns("visit");
    let home = NetNs::current().unwrap();
    let here = || NetNs::current().unwrap().identity().unwrap();
    let (before, there) = (here(), ns.ns().identity().unwrap());
    assert_eq!(visit(&home, ns.ns(), here).unwrap(), there);
    assert_eq!(here(), before);
    let inside = visit(&home, ns.ns(), || Netlink::open().unwrap().netns_cookie());
    assert_eq!(inside.unwrap().unwrap(), ns.ns().cookie().unwrap());
    let panicked = std::panic::catch_unwind(|| visit(&home, ns.ns(), || panic!("inside")));
    assert!(panicked.is_err());
    assert_eq!(here(), before);
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    let ns = common::netns("sysctl");
    let outside = sysctl::read("net/ipv4/ip_default_ttl").unwrap();
    sysctl::ensure_in(ns.ns(), &[("net/ipv4/ip_default_ttl", "77")]).unwrap();
    let inside = run_in(ns.ns(), || sysctl::read("net/ipv4/ip_default_ttl").unwrap()).unwrap();
    assert_eq!(inside, "77");
    assert_eq!(sysctl::read("net/ipv4/ip_default_ttl").unwrap(), outside);
    assert!(
        !run_in(ns.ns(), || sysctl::ensure("net/ipv4/ip_default_ttl", "77")
            .unwrap())
        .unwrap()
    );
    let error = sysctl::ensure_in(ns.ns(), &[("net/ipv4/no_such", "1")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("net/ipv4/no_such"), "{error}");
}
