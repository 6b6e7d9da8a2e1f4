use std::collections::BTreeMap;

use roadbed_api::agent::{
    Attachment, AttachmentKey, AttachmentState, BlockReport, Count, FamilyCounts, NodeStatus,
    PeerReport, PodRef, PoolReport, RouteOrigin, RouteRow, StoreReport,
};
use roadbed_api::kinds::{AddressFamily, BlockState};
use roadbed_api::{Condition, Object, Timestamp, manifest};

use super::*;

fn check(found: &str, expected: &str) {
    assert_eq!(found, expected, "\n{found}");
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        r#type: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Timestamp("2026-11-21T03:24:04.123456Z".into()),
    }
}

fn node() -> NodeStatus {
    let counts = |received, accepted, advertised| FamilyCounts {
        received,
        accepted,
        advertised,
        end_of_rib: true,
    };
    NodeStatus {
        node: "node1".into(),
        version: "0.1.0".into(),
        uptime_seconds: 3723,
        as_number: 65001,
        router_id: Some("10.255.0.1".parse().unwrap()),
        node_addresses: vec![
            "10.255.0.1".parse().unwrap(),
            "fd00:255::1".parse().unwrap(),
        ],
        store: Some(StoreReport {
            home: "sqlite /srv/store.db".into(),
            reachable: true,
            ..StoreReport::default()
        }),
        conditions: vec![
            condition("Ready", "True", "Serving", ""),
            condition(
                "Allocatable",
                "False",
                "PoolFull",
                "pods-v4 has no free slot",
            ),
        ],
        peers: vec![
            PeerReport {
                name: "tor1".into(),
                address: "10.1.0.1".into(),
                as_number: 65101,
                local_as_number: 65001,
                state: "Established".into(),
                state_seconds: 192,
                peer_router_id: Some("10.255.1.1".parse().unwrap()),
                hold_time_seconds: Some(90),
                families: BTreeMap::from([
                    (AddressFamily::Ipv4Unicast, counts(12, 9, 2)),
                    (AddressFamily::Ipv6Unicast, counts(7, 7, 2)),
                ]),
                established_count: 2,
                last_error: Some("hold timer expired".into()),
                update_faults: BTreeMap::from([("attribute-discard AGGREGATOR".into(), 3)]),
                warnings: Vec::new(),
            },
            PeerReport {
                name: "tor2".into(),
                address: "10.2.0.1".into(),
                as_number: 65102,
                local_as_number: 65001,
                state: "Active".into(),
                state_seconds: 9,
                last_error: Some("OPEN has AS 65999\u{1b}[31m, expected 65102".into()),
                ..PeerReport::default()
            },
        ],
    }
}

#[test]
fn status_of_a_node() {
    check(
        &status(&node(), false),
        "\
Node        node1
AS          65001
Router ID   10.255.0.1
Addresses   10.255.0.1,fd00:255::1
Store       sqlite /srv/store.db (reachable)
Version     0.1.0, up 1h02m
Conditions  Ready=True
            Allocatable=False (PoolFull): pods-v4 has no free slot

NAME  ADDRESS   AS     STATE        SINCE  IPV4 IN/OUT  IPV6 IN/OUT
tor1  10.1.0.1  65101  Established  3m12s  12/2         7/2
tor2  10.2.0.1  65102  Active       9s     -            -
tor2: OPEN has AS 65999\u{fffd}[31m, expected 65102
",
    );
    let wide = status(&node(), true);
    let lines: Vec<&str> = wide.lines().skip(9).collect();
    check(
        &lines.join("\n"),
        "\
NAME  ADDRESS   AS     STATE        SINCE  IPV4 IN/OUT  IPV6 IN/OUT  LOCAL AS  ROUTER ID   HOLD  UPS  ACCEPTED  UPDATE FAULTS                   LAST ERROR
tor1  10.1.0.1  65101  Established  3m12s  12/2         7/2          65001     10.255.1.1  90s   2    9,7       attribute-discard AGGREGATOR=3  hold timer expired
tor2  10.2.0.1  65102  Active       9s     -            -            65001     -           -     0    -         -                               OPEN has AS 65999\u{fffd}[31m, expected 65102",
    );
}

#[test]
fn status_without_store_and_peers() {
    let node = NodeStatus {
        node: "node2".into(),
        version: "0.1.0".into(),
        as_number: 65002,
        store: Some(StoreReport {
            home: "sqlite /srv/store.db".into(),
            last_error: Some("no such file".into()),
            from_snapshot: true,
            ..StoreReport::default()
        }),
        ..NodeStatus::default()
    };
    check(
        &status(&node, false),
        "\
Node        node2
AS          65002
Router ID   -
Addresses   -
Store       sqlite /srv/store.db (NOT reachable; working from the snapshot)
            no such file
Version     0.1.0, up 0s

No peers: this node speaks BGP with nobody (no BGPPeer selects it).
",
    );
}

fn attachment(id: &str, pod: Option<&str>, addresses: &[&str]) -> Attachment {
    Attachment {
        key: AttachmentKey {
            network: "pods".into(),
            container_id: id.into(),
            ifname: "eth0".into(),
        },
        state: AttachmentState::Committed,
        pod: pod.map(|name| PodRef {
            namespace: "default".into(),
            name: name.into(),
            uid: Some("u-1".into()),
        }),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        host_ifname: "rb0123456789ab".into(),
        host_ifindex: Some(7),
    }
}

fn view() -> IpamView {
    let pool = |name: &str, cidr: &str, block_size, slots, reason: Option<&str>| PoolReport {
        name: name.into(),
        cidr: cidr.parse().unwrap(),
        block_size,
        slots: Count(slots),
        usable: reason.is_none(),
        reason: reason.map(str::to_owned),
    };
    IpamView {
        node: "node1".into(),
        pools: Some(vec![
            pool("pods-v4", "10.244.0.0/16", 26, 1024, None),
            pool(
                "pods-v6",
                "fd00:244::/48",
                122,
                1 << 74,
                Some("overlaps IPPool/old"),
            ),
        ]),
        blocks: Some(vec![BlockReport {
            cidr: "10.244.0.64/26".parse().unwrap(),
            pool: "pods-v4".into(),
            state: BlockState::Confirmed,
            capacity: 64,
            in_use: 2,
            cooling: 1,
        }]),
        attachments: Some(vec![
            attachment(
                "feedfacefeedfaceffff",
                Some("web"),
                &["10.244.0.66", "fd00:244::2"],
            ),
            attachment("c0ffee", None, &["10.244.0.65"]),
        ]),
    }
}

#[test]
fn ipam_of_a_node() {
    check(
        &ipam(&view(), false),
        "\
Pools (node1)
NAME     CIDR           BLOCK SIZE  SLOTS  USABLE
pods-v4  10.244.0.0/16  /26         1024   yes
pods-v6  fd00:244::/48  /122        2^74   no: overlaps IPPool/old

Blocks (node1)
CIDR            POOL     STATE      IN USE  COOLING
10.244.0.64/26  pods-v4  Confirmed  2/64    1

Addresses in use (node1)
ADDRESS      POD          ATTACHMENT              HOST VETH
10.244.0.65  -            pods/c0ffee/eth0        rb0123456789ab
10.244.0.66  default/web  pods/feedfacefeed/eth0  rb0123456789ab
fd00:244::2  default/web  pods/feedfacefeed/eth0  rb0123456789ab
",
    );
    let only_blocks = IpamView {
        pools: None,
        attachments: None,
        blocks: Some(Vec::new()),
        ..view()
    };
    check(
        &ipam(&only_blocks, false),
        "No blocks: this node has none yet.\n",
    );
}

#[test]
fn pods_of_a_node() {
    let list = view().attachments.unwrap();
    check(
        &attachments(&list, false),
        "\
POD          ADDRESSES                NETWORK  CONTAINER     IFNAME  HOST VETH       STATE
default/web  10.244.0.66,fd00:244::2  pods     feedfacefeed  eth0    rb0123456789ab  committed
-            10.244.0.65              pods     c0ffee        eth0    rb0123456789ab  committed
",
    );
    check(
        &attachments(&list[..1], true),
        "\
POD          ADDRESSES                NETWORK  CONTAINER             IFNAME  HOST VETH       STATE      HOST IFINDEX  POD UID
default/web  10.244.0.66,fd00:244::2  pods     feedfacefeedfaceffff  eth0    rb0123456789ab  committed  7             u-1
",
    );
}

#[test]
fn routes_of_a_node() {
    let route =
        |prefix: &str, origin, via: Option<&str>, peer: Option<&str>, best, why: &str| RouteRow {
            prefix: prefix.parse().unwrap(),
            origin,
            peer: peer.map(str::to_owned),
            via: via.map(str::to_owned),
            as_path: peer.map(|_| "65101 65000".to_owned()),
            best,
            why: why.to_owned(),
            installed: best.then_some(true),
            install_error: None,
        };
    let mut rows = vec![
        route(
            "10.244.0.64/26",
            RouteOrigin::Block,
            None,
            None,
            true,
            "only path",
        ),
        route(
            "10.244.0.66/32",
            RouteOrigin::Pod,
            Some("dev rb0123456789ab"),
            None,
            true,
            "local",
        ),
        route(
            "10.244.1.0/26",
            RouteOrigin::Bgp,
            Some("10.1.0.1"),
            Some("tor1"),
            true,
            "AS_PATH length",
        ),
        route(
            "10.244.1.0/26",
            RouteOrigin::Bgp,
            Some("10.2.0.1"),
            Some("tor2"),
            false,
            "longer AS_PATH",
        ),
    ];
    rows[2].installed = Some(false);
    rows[2].install_error = Some("network is unreachable".into());
    check(
        &routes(&rows, false),
        "\
PREFIX          ORIGIN  VIA                 PEER  AS PATH      BEST  INSTALLED
10.244.0.64/26  block   -                   -     -            yes   yes
10.244.0.66/32  pod     dev rb0123456789ab  -     -            yes   yes
10.244.1.0/26   bgp     10.1.0.1            tor1  65101 65000  yes   NO
                bgp     10.2.0.1            tor2  65101 65000  no    -
10.244.1.0/26: not in the kernel: network is unreachable
",
    );
    check(
        &routes(&rows[2..], true),
        "\
PREFIX         ORIGIN  VIA       PEER  AS PATH      BEST  INSTALLED  WHY
10.244.1.0/26  bgp     10.1.0.1  tor1  65101 65000  yes   NO         AS_PATH length; not in the kernel: network is unreachable
               bgp     10.2.0.1  tor2  65101 65000  no    -          longer AS_PATH
",
    );
}

fn objects() -> Vec<Object> {
    let text = "\
apiVersion: roadbed.dev/v1alpha1
kind: IPPool
metadata: {name: pods-v4}
spec: {cidr: 10.244.0.0/16, nodeSelector: {matchLabels: {rack: r1}, matchExpressions: [{key: gpu, operator: DoesNotExist}]}}
---
apiVersion: roadbed.dev/v1alpha1
kind: BGPPeer
metadata: {name: tor1}
spec: {address: 10.1.0.1, asNumber: 65101, holdTimeSeconds: 9}
---
apiVersion: roadbed.dev/v1alpha1
kind: IPBlock
metadata: {name: 10-244-0-64-26}
spec: {cidr: 10.244.0.64/26, pool: pods-v4, owner: {node: node1}, state: Confirmed}
status: {capacity: 64, inUse: 2}
---
apiVersion: roadbed.dev/v1alpha1
kind: BGPConfig
metadata: {name: default}
spec: {asNumber: 65001, nodePrefixes: [10.255.0.0/24]}
";
    let mut objects = manifest::parse(text, "f.yaml").unwrap();
    objects[0].metadata.creation_timestamp = Some(Timestamp("2026-11-21T03:24:04.123456Z".into()));
    objects
}

fn now() -> jiff::Timestamp {
    "2026-11-21T05:30:00Z".parse().unwrap()
}

#[test]
fn resources_by_kind() {
    check(
        &resources(&objects(), false, now()),
        "\
NAME     AS     PORT  NODE PREFIXES  DEFAULT ROUTE  AGE
default  65001  -     10.255.0.0/24  refused        -

NAME     CIDR           BLOCK SIZE  DISABLED  CONDITIONS  AGE
pods-v4  10.244.0.0/16  /26         no        -           2h05m

NAME            CIDR            POOL     NODE   STATE      IN USE  AGE
10-244-0-64-26  10.244.0.64/26  pods-v4  node1  Confirmed  2/64    -

NAME  ADDRESS   AS     FAMILIES                   NODES  AGE
tor1  10.1.0.1  65101  ipv4-unicast,ipv6-unicast  all    -
",
    );
    check(
        &resources(&objects()[..1], true, now()),
        "\
NAME     CIDR           BLOCK SIZE  DISABLED  CONDITIONS  AGE    SLOTS  NODES
pods-v4  10.244.0.0/16  /26         no        -           2h05m  1024   rack=r1,!gpu
",
    );
    check(&resources(&[], false, now()), "No resources.\n");
}

#[test]
fn a_resource_of_a_newer_version_is_still_shown() {
    let mut objects = objects();
    objects.truncate(1);
    objects[0].spec["colour"] = "red".into();
    let text = resources(&objects, false, now());
    assert!(
        text.contains("pods-v4  unreadable spec: unknown field `colour`"),
        "{text}"
    );
    assert!(text.contains("2h05m"), "{text}");
}

#[test]
fn resources_for_apply() {
    let objects = objects();
    let yaml = resources_yaml(&objects);
    assert_eq!(manifest::parse(&yaml, "f.yaml").unwrap(), objects, "{yaml}");
    let json = json(&resources_json(&objects, false));
    assert_eq!(manifest::parse(&json, "f.json").unwrap(), objects, "{json}");
    assert_eq!(resources_json(&objects[..1], true)["kind"], "IPPool");
    check(&names(&objects[..2]), "ippool/pods-v4\nbgppeer/tor1\n");
}

#[test]
fn spans() {
    for (seconds, expected) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m00s"),
        (192, "3m12s"),
        (3599, "59m59s"),
        (18_240, "5h04m"),
        (86_400, "1d0h"),
        (1_047_600, "12d3h"),
    ] {
        assert_eq!(span(seconds), expected);
    }
}
