//! Namespaces of our own, deleted on drop, named so that parallel runs cannot meet.

use std::sync::atomic::{AtomicU32, Ordering};

use roadbed_hostnet::{Link, LinkTarget, MacAddr, NamedNetNs, Netlink, VethSpec};

static COUNTER: AtomicU32 = AtomicU32::new(0);

#[allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]
pub(crate) fn netns(what: &str) -> NamedNetNs {
    NamedNetNs::create(&name(what)).expect("create a namespace (the tests need root)")
}

pub(crate) fn name(what: &str) -> String {
    format!(
        "rbt-{what}-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

pub(crate) const MAC_A: MacAddr = MacAddr([0x02, 0, 0x5e, 0x10, 0, 1]);
pub(crate) const MAC_B: MacAddr = MacAddr([0x02, 0, 0x5e, 0x10, 0, 2]);

/// Two namespaces joined by a veth pair `a` – `b`, both ends up.
#[allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]
pub(crate) struct Pair {
    pub(crate) ns_a: NamedNetNs,
    pub(crate) ns_b: NamedNetNs,
    pub(crate) a: Netlink,
    pub(crate) b: Netlink,
    /// What [`Netlink::veth_create`] said of `a`.
    pub(crate) made: Link,
    pub(crate) index_a: u32,
    pub(crate) index_b: u32,
}

#[allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]
impl Pair {
    pub(crate) fn new(what: &str) -> Self {
        let (ns_a, ns_b) = (netns(what), netns(what));
        let mut a = Netlink::open_in(ns_a.ns()).unwrap();
        let mut b = Netlink::open_in(ns_b.ns()).unwrap();
        let made = a
            .veth_create(&VethSpec {
                name: "a",
                mac: Some(MAC_A),
                peer_name: "b",
                peer_mac: Some(MAC_B),
                peer_ns: Some(ns_b.ns()),
                mtu: Some(1400),
            })
            .unwrap();
        let index_a = made.ifindex;
        let index_b = b.link(LinkTarget::Name("b")).unwrap().ifindex;
        a.link_set_up(LinkTarget::Index(index_a), true).unwrap();
        b.link_set_up(LinkTarget::Index(index_b), true).unwrap();
        let patience = std::time::Duration::from_secs(5);
        a.link_wait_running(LinkTarget::Index(index_a), patience)
            .unwrap();
        b.link_wait_running(LinkTarget::Index(index_b), patience)
            .unwrap();
        Self {
            ns_a,
            ns_b,
            a,
            b,
            made,
            index_a,
            index_b,
        }
    }
}
