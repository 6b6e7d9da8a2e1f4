//! The speaker as a route reflector (RFC 4456) between BIRD and FRR.

use std::time::Duration;

use roadbed_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::fixture::SOON;
use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, frr_lacks, ours};

const RIGHT: &str = "10.3.0.0/24";
const CLIENT: &str = "routeReflectorClient = true";

/// Internal peers that are no clients do not hear of each other's routes. As soon as one of them is a client, both do; no
/// session is reset.
#[test]
fn routes_of_and_to_clients_are_reflected_and_those_between_others_are_not() {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65001, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65001, &[RIGHT], ""));
    let cluster = "clusterId = \"192.0.2.77\"\n";
    let peers = |left: &str, right: &str| {
        cluster.to_owned() + &ours("left", 65001, left) + &ours("right", 65001, right)
    };
    let mut speaker = three.speaker(&peers("", ""));
    bird_has(&bird, "10.2.0.0/24", &["BGP.local_pref: 100"]);
    frr_has(&frr, "10.2.0.0/24", &[("/locPrf", json!(100))]);
    throughout(Duration::from_secs(1), "nothing is reflected", || {
        bird_lacks(&bird, RIGHT).and_then(|()| frr_lacks(&frr, LEFT))
    });

    let reflected = |cluster: &str| {
        let list = format!("BGP.cluster_list: {cluster}\n");
        bird_has(
            &bird,
            RIGHT,
            &[
                "BGP.originator_id: 10.98.0.2",
                &list,
                "BGP.next_hop: 10.98.0.2",
                "BGP.local_pref: 100",
            ],
        );
        frr_has(
            &frr,
            LEFT,
            &[
                ("/originatorId", json!("10.99.0.2")),
                ("/clusterList/list", json!([cluster])),
                ("/nexthops/0/ip", json!("10.99.0.2")),
                ("/valid", json!(true)),
            ],
        );
    };
    for (left, right) in [(CLIENT, ""), ("", CLIENT), (CLIENT, CLIENT)] {
        Three::reload(&speaker, &peers(left, right));
        reflected("192.0.2.77");
    }
    // Another cluster: no OPEN says it.
    let other = peers(CLIENT, CLIENT).replace("192.0.2.77", "192.0.2.78");
    Three::reload(&speaker, &other);
    reflected("192.0.2.78");
    Three::reload(&speaker, &peers("", ""));
    eventually(SOON, "what was reflected is withdrawn", || {
        bird_lacks(&bird, RIGHT).and_then(|()| frr_lacks(&frr, LEFT))
    });
    // Our own routes and sessions had no part in it.
    frr_has(&frr, "10.2.0.0/24", &[("/locPrf", json!(100))]);
    assert_eq!(speaker.logged(&["session established"]), 2);
    assert_eq!(speaker.logged(&["session down"]), 0);
    speaker.process().alive().unwrap();
}

/// Next hops are the originator's even when the client asks for ours: RFC 4456 §10.
#[test]
fn next_hop_self_leaves_reflected_routes_alone() {
    let three = Three::new();
    let bird = three.left_bird(&bird("left", 65001, &[LEFT], "", ""));
    let frr = three.right_frr(&frr(65001, &[], ""));
    let own = format!("{CLIENT}\nnextHop = \"self\"");
    let _speaker = three.speaker(&(ours("left", 65001, CLIENT) + &ours("right", 65001, &own)));
    frr_has(
        &frr,
        LEFT,
        &[
            ("/nexthops/0/ip", json!("10.99.0.2")),
            // Without clusterId, the cluster is named after us.
            ("/clusterList/list", json!(["10.99.0.1"])),
        ],
    );
    bird_has(&bird, "10.2.0.0/24", &["BGP.next_hop: 10.99.0.1"]);
}

/// A second reflector, FRR, of our own cluster: what it reflects has been here (RFC 4456 §8). The route's origin is a client
/// of that one alone, beyond us only for its packets.
#[test]
fn what_another_reflector_of_our_cluster_says_is_a_loop() {
    let three = Three::new();
    let client = bird("left", 65001, &[LEFT], "", "").replace(
        "neighbor 10.99.0.1 as 65001;",
        "neighbor 10.98.0.2 as 65001; multihop 2;",
    );
    let forward = "sysctl -qw net.ipv4.ip_forward=1";
    three.left.us.run(forward).unwrap();
    let bird = three.left_bird(&client);
    let frr = three.right_frr(&frr(65001, &[RIGHT], ""));
    let cluster = |id: &str| {
        let router = ["router bgp 65001", &format!("bgp cluster-id {id}")];
        frr.configure(&router).unwrap();
        frr.cli("clear bgp *").unwrap();
    };
    frr.configure(&[
        "router bgp 65001",
        "neighbor 10.99.0.2 remote-as 65001",
        "neighbor 10.99.0.2 timers connect 1",
        "address-family ipv4 unicast",
        "neighbor 10.99.0.2 activate",
        "neighbor 10.99.0.2 route-reflector-client",
    ])
    .unwrap();
    cluster("10.99.0.1");
    let _speaker = three.speaker(&ours("right", 65001, ""));
    frr_has(&frr, LEFT, &[("/valid", json!(true))]);
    three.left.kernel_has(&[(RIGHT, "via 10.98.0.2 dev eth1")]);
    throughout(Duration::from_secs(1), "a loop is not used", || {
        three
            .left
            .kernel_has_now(&[(RIGHT, "via 10.98.0.2 dev eth1")])
    });
    cluster("192.0.2.9");
    three.left.kernel_has(&[
        (LEFT, "via 10.99.0.2 dev eth0"),
        (RIGHT, "via 10.98.0.2 dev eth1"),
    ]);
    bird_has(&bird, RIGHT, &["BGP.local_pref: 100"]);
}
