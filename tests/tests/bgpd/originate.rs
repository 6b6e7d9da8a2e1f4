//! What the speaker announces of its own accord: default routes, aggregates, declared routes.

use std::time::Duration;

use roadbed_tests::wait::throughout;
use serde_json::json;

use crate::three::{LEFT, Three, bird, bird_has, bird_lacks, frr, frr_has, frr_lacks, ours};

const DEFAULT: &str = "0.0.0.0/0";

#[test]
fn a_default_route_for_who_is_to_have_one() {
    let three = Three::new();
    let left = three.left_bird(&bird("left", 65002, &[LEFT], "", ""));
    let right = three.right_frr(&frr(65003, &[], ""));
    let peers = |right: &str| ours("left", 65002, "") + &ours("right", 65003, right);
    let with = |when: &str| {
        format!("exportPolicies = [\"reject-all\"]\ndefaultOriginate.ipv4-unicast = \"{when}\"")
    };
    let speaker = three.speaker(&peers(&with("always")));
    frr_has(
        &right,
        DEFAULT,
        &[
            ("/aspath/string", json!("65001")),
            ("/nexthops/0/ip", json!("10.98.0.1")),
        ],
    );
    three.left.kernel_has(&[(LEFT, "via 10.99.0.2 dev eth0")]);
    throughout(Duration::from_secs(1), "nothing else, nowhere else", || {
        frr_lacks(&right, LEFT)?;
        bird_lacks(&left, DEFAULT)
    });

    Three::reload(&speaker, &peers(&with("if-present")));
    crate::three::soon("no default route is used here", || {
        frr_lacks(&right, DEFAULT)
    });
    left.configure(&bird("left", 65002, &[LEFT, DEFAULT], "", ""))
        .unwrap();
    frr_has(&right, DEFAULT, &[("/aspath/string", json!("65001"))]);
    left.configure(&bird("left", 65002, &[LEFT], "", ""))
        .unwrap();
    crate::three::soon("it goes with the other", || frr_lacks(&right, DEFAULT));

    // The other way round: BIRD is to have one, FRR is not.
    let other = ours("left", 65002, &with("always")) + &ours("right", 65003, "");
    Three::reload(&speaker, &other);
    bird_has(&left, DEFAULT, &["BGP.as_path: 65001\n"]);
    throughout(Duration::from_secs(1), "not the other one", || {
        frr_lacks(&right, DEFAULT)
    });
    Three::reload(
        &speaker,
        &(ours("left", 65002, "") + &ours("right", 65003, "")),
    );
    crate::three::soon("nobody asks for one", || bird_lacks(&left, DEFAULT));
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// IPv6, over sessions of IPv4.
#[test]
fn a_default_route_of_ipv6() {
    const DEFAULT: &str = "::/0";
    let three = Three::new();
    let left = bird("left", 65002, &[], "", "").replace(
        "ipv4 { import all;",
        "ipv6 { import all; export none; }; ipv4 { import all;",
    );
    let left = three.left_bird(&left);
    let activate = " address-family ipv6 unicast\n  neighbor 10.98.0.1 activate\n";
    let right = three.right_frr(&(frr(65003, &[], "") + activate));
    let peers = |left: &str, right: &str| {
        let both = "[\"ipv4-unicast\", \"ipv6-unicast\"]";
        let all = ours("left", 65002, left) + &ours("right", 65003, right);
        all.replace("[\"ipv4-unicast\"]", both)
    };
    let with = "exportPolicies = [\"reject-all\"]\ndefaultOriginate.ipv6-unicast = \"always\"";
    let speaker = three.speaker(&peers(with, ""));
    bird_has(
        &left,
        DEFAULT,
        &["BGP.as_path: 65001\n", "BGP.next_hop: fd00:99::1"],
    );
    frr_has(&right, "10.2.0.0/24", &[("/valid", json!(true))]);
    throughout(Duration::from_secs(1), "the other one has none", || {
        frr_lacks(&right, DEFAULT)
    });
    Three::reload(&speaker, &peers("", with));
    frr_has(
        &right,
        DEFAULT,
        &[("/aspath/string", json!("65001")), ("/valid", json!(true))],
    );
    crate::three::soon("not any more", || bird_lacks(&left, DEFAULT));
    frr_lacks(&right, "0.0.0.0/0").unwrap();
    Three::reload(&speaker, &peers("", ""));
    crate::three::soon("nobody asks for one", || frr_lacks(&right, DEFAULT));
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn an_aggregate_in_place_of_what_is_inside() {
    let three = Three::new();
    let left = three.left_bird(&bird(
        "left",
        65002,
        &[LEFT, "10.1.1.0/24", "10.66.0.0/24"],
        "",
        "",
    ));
    let right = three.right_frr(&frr(65003, &[], ""));
    let peers = ours("left", 65002, "") + &ours("right", 65003, "");
    let with = |aggregates: &str| format!("aggregates = [{aggregates}]");
    let speaker = three.speaker(&peers);
    frr_has(&right, LEFT, &[("/aspath/string", json!("65001 65002"))]);

    let summary = "{ prefix = \"10.1.0.0/16\", summaryOnly = true }, { prefix = \"10.66.0.0/16\" }";
    Three::reload_with(&speaker, &with(summary), &peers);
    frr_has(
        &right,
        "10.1.0.0/16",
        &[
            ("/aspath/string", json!("65001")),
            ("/atomicAggregate", json!(true)),
            ("/aggregatorAs", json!(65001)),
            ("/aggregatorId", json!("10.99.0.1")),
        ],
    );
    crate::three::soon("what is inside is withdrawn", || {
        frr_lacks(&right, LEFT)?;
        frr_lacks(&right, "10.1.1.0/24")
    });
    for prefix in ["10.66.0.0/16", "10.66.0.0/24"] {
        frr_has(&right, prefix, &[("/valid", json!(true))]);
    }
    // What nothing inside leads to must not follow a default route back to whom we told the aggregate.
    let refused = |expected: &[&str]| {
        let kernel = "ip route show table main proto 82 type unreachable";
        let found = three.left.us.run(kernel).map_err(|e| e.to_string())?;
        let all = expected.iter().all(|prefix| found.contains(prefix));
        let same = all && found.lines().count() == expected.len();
        same.then_some(()).ok_or(found)
    };
    crate::three::soon("the rest is refused", || {
        refused(&["10.1.0.0/16", "10.66.0.0/16"])
    });
    // Both directions alike; a router does not take its own route back for a contributor of another.
    bird_has(&left, "10.1.0.0/16", &["BGP.as_path: 65001\n"]);

    left.configure(&bird(
        "left",
        65002,
        &["10.1.1.0/24", "10.66.0.0/24"],
        "",
        "",
    ))
    .unwrap();
    throughout(Duration::from_secs(1), "one is enough", || {
        frr_lacks(&right, LEFT)?;
        right
            .shows("show bgp ipv4 unicast 10.1.0.0/16 json", &["\"bestpath\""])
            .map_err(|e| e.to_string())
    });
    left.configure(&bird("left", 65002, &["10.66.0.0/24"], "", ""))
        .unwrap();
    crate::three::soon("it goes with the last", || {
        frr_lacks(&right, "10.1.0.0/16")?;
        refused(&["10.66.0.0/16"])
    });
    left.configure(&bird("left", 65002, &[LEFT, "10.66.0.0/24"], "", ""))
        .unwrap();
    frr_has(&right, "10.1.0.0/16", &[("/valid", json!(true))]);
    Three::reload(&speaker, &peers);
    frr_has(&right, LEFT, &[("/aspath/string", json!("65001 65002"))]);
    crate::three::soon("no aggregates", || {
        frr_lacks(&right, "10.1.0.0/16")?;
        frr_lacks(&right, "10.66.0.0/16")
    });
    assert_eq!(speaker.logged(&["session down"]), 0);
}

#[test]
fn declared_routes_say_what_is_declared() {
    let three = Three::new();
    let left = three.left_bird(&bird("left", 65001, &[], "", ""));
    let right = three.right_frr(&frr(65003, &[], ""));
    let sources = "exportPolicies = [\"own\"]";
    let peers = ours("left", 65001, "")
        + &ours("right", 65003, sources)
        + "[policies.own]\nrules = [{ match = { sources = [\"static\"] }, action = \"accept\" }]\n";
    let speaker = three.speaker(&peers);
    frr_has(&right, "10.2.0.0/24", &[("/valid", json!(true))]);
    let announce = |set: &str| {
        let config = crate::fixture::config(&peers, "\"10.2.0.0/24\"");
        let announced =
            format!("announcements = [{{ prefix = \"10.2.9.0/24\", set = {{ {set} }} }}]\n");
        speaker.reload(&(config + &announced)).unwrap();
    };
    announce("med = 50, localPref = 300, communities = { add = [\"65001:7\"] }");
    frr_has(
        &right,
        "10.2.9.0/24",
        &[
            ("/metric", json!(50)),
            ("/community/string", json!("65001:7")),
        ],
    );
    let words = ["BGP.local_pref: 300", "BGP.med: 50", "(65001,7)"];
    bird_has(&left, "10.2.9.0/24", &words);
    let plain = [("/community", json!(null)), ("/valid", json!(true))];
    frr_has(&right, "10.2.0.0/24", &plain);
    announce("med = 51");
    frr_has(
        &right,
        "10.2.9.0/24",
        &[("/metric", json!(51)), ("/community", json!(null))],
    );
    Three::reload(&speaker, &peers);
    crate::three::soon("it is not announced any more", || {
        frr_lacks(&right, "10.2.9.0/24")
    });
    assert_eq!(speaker.logged(&["session down"]), 0);
}
