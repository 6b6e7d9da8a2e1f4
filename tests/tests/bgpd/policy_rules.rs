//! What each condition picks and each change does, as the routers on either side see it: a BIRD's routes of both families,
//! through one policy, to an external FRR. `roadbedctl bgp policy test` has to say the same of the same file.

use std::collections::{BTreeMap, BTreeSet};

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::frr::Frr;
use roadbed_tests::wait::eventually;
use serde_json::Value;

use crate::fixture::{SOON, config};
use crate::three::{Three, bird, frr, ours, soon};

/// What BIRD announces: plain, but for the last of each family.
const ROUTES: [&str; 7] = [
    "10.20.0.0/16",
    "10.20.1.0/24",
    "10.20.1.128/25",
    "10.21.0.0/24",
    "fd00:20::/32",
    "fd00:20:1::/48",
    "fd00:21::/48",
];
/// These have a longer path, communities of all kinds and a MED.
const MARKED: [&str; 2] = ["10.21.0.0/24", "fd00:21::/48"];
const MARKS: &str = "if net = 10.21.0.0/24 || net = fd00:21::/48 then {
    bgp_path.prepend(64701); bgp_path.prepend(64700); bgp_med = 70;
    bgp_community.add((65002, 1)); bgp_community.add((65002, 2));
    bgp_large_community.add((65002, 1, 1)); bgp_large_community.add((65002, 2, 2));
    bgp_ext_community.add((rt, 65002, 5)); bgp_ext_community.add((ro, 65002, 6));
}";

struct Row {
    speaker: Bgpd,
    _bird: Bird,
    frr: Frr,
    /// Last, or what the others have logged would be gone.
    three: Three,
}

impl Row {
    fn new() -> Self {
        let three = Three::new();
        let (six, v4): (Vec<&str>, Vec<&str>) = ROUTES.iter().partition(|r| r.contains(':'));
        let six = six.iter().map(|route| format!("route {route} blackhole; "));
        let six: String = six.collect();
        let config = bird("left", 65002, &v4, "", MARKS).replace(
            "protocol bgp rb {",
            &format!("protocol static six {{ ipv6; {six} }}\nprotocol bgp rb {{"),
        );
        let config = config.replace(
            "gateway recursive; };",
            "gateway recursive; }; ipv6 { import all; export filter rb_out; };",
        );
        let bird = three.left_bird(&config);
        let six = " address-family ipv6 unicast\n  neighbor 10.98.0.1 activate\n";
        let frr = three.right_frr(&(frr(65003, &[], "") + six));
        let mut speaker = three.speaker(&peers(""));
        eventually(SOON, "it runs", || speaker.says(&["speaker started"]));
        Self {
            three,
            _bird: bird,
            frr,
            speaker,
        }
    }

    /// Puts these rules in, on the way in from BIRD or out to FRR.
    fn reload(&self, way: &str, rules: &str) {
        let policy = format!("[policies.test]\nrules = [{rules}]\n");
        let text = config(&(peers(way) + &policy), "\"10.2.0.0/24\"");
        self.speaker.reload(&text).unwrap();
    }

    /// What FRR has from us, by prefix: the route as JSON.
    fn seen(&self) -> Result<BTreeMap<String, Value>, String> {
        let mut all = BTreeMap::new();
        for route in ROUTES {
            let family = if route.contains(':') { "ipv6" } else { "ipv4" };
            let line = format!("show bgp {family} unicast {route} json");
            let text = self.frr.cli(&line).map_err(|e| e.to_string())?;
            let answer: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            if answer["prefix"] == *route {
                all.insert(route.to_owned(), answer["paths"][0].clone());
            }
        }
        Ok(all)
    }

    /// Waits until FRR has exactly these.
    #[track_caller]
    fn picks(&self, way: &str, condition: &str, expected: &[&str]) {
        let rules = format!("{{ match = {{ {condition} }}, action = \"accept\" }}");
        self.reload(way, &rules);
        soon(&format!("{way}, {condition}: FRR has {expected:?}"), || {
            let seen = self.seen()?;
            let found: BTreeSet<&str> = seen.keys().map(String::as_str).collect();
            let same = found == expected.iter().copied().collect();
            same.then_some(()).ok_or(format!("{found:?}"))
        });
    }

    /// Waits until the marked routes are at FRR with these values, by JSON pointer.
    #[track_caller]
    fn changes(&self, way: &str, set: &str, expected: &[(&str, Value)]) {
        self.reload(
            way,
            &format!("{{ set = {{ {set} }}, action = \"accept\" }}"),
        );
        soon(&format!("{way}, {set}: FRR has {expected:?}"), || {
            let seen = self.seen()?;
            for prefix in MARKED {
                let route = seen.get(prefix).ok_or("not there")?;
                for (pointer, value) in expected {
                    let found = route.pointer(pointer).unwrap_or(&Value::Null);
                    if found != value {
                        return Err(format!("{prefix} {pointer}: {found}"));
                    }
                }
            }
            Ok(())
        });
    }

    /// The first line of what the offline test says of a marked route, on the file that is in force.
    fn offline(&self, more: &str) -> String {
        let file = self.three.left.dir().join("bgpd.toml");
        let line = format!(
            "bgp policy test -f {} --policy test --prefix 10.21.0.0/24 --community 65002:1,65002:2 {more}",
            file.display()
        );
        let said = self.speaker.ctl(&line).unwrap();
        said.lines().next().unwrap_or_default().to_owned()
    }
}

/// Both sessions carry both families; the policy `test` is on one `way`.
fn peers(way: &str) -> String {
    let of = |name: &str, asn: u32, more: &str| {
        let peer = ours(name, asn, more);
        peer.replace("[\"ipv4-unicast\"]", "[\"ipv4-unicast\", \"ipv6-unicast\"]")
    };
    let named = |field: &str| format!("{field} = [\"test\"]");
    let (left, right) = match way {
        "import" => (named("importPolicies"), String::new()),
        "export" => (String::new(), named("exportPolicies")),
        _ => (String::new(), String::new()),
    };
    of("left", 65002, &left) + &of("right", 65003, &right)
}

#[test]
fn conditions_pick_routes_of_both_families() {
    let row = Row::new();
    for way in ["import", "export"] {
        let inside = r#"prefixes = [{ prefix = "10.20.0.0/16", ge = 17, le = 24 }, { prefix = "fd00:20::/32", ge = 40 }]"#;
        // Each row expects something else than the one before it.
        row.picks(way, inside, &["10.20.1.0/24", "fd00:20:1::/48"]);
        let itself =
            r#"prefixes = [{ prefix = "10.20.0.0/16" }, { prefix = "fd00:20::/32", le = 32 }]"#;
        row.picks(way, itself, &["10.20.0.0/16", "fd00:20::/32"]);
        row.picks(way, "asPathLength = { ge = 3 }", &MARKED);
        row.picks(way, r#"families = ["ipv6-unicast"]"#, &ROUTES[4..]);
        row.picks(way, r#"asPath = "^65002 64700 64701$""#, &MARKED);
        row.picks(way, r#"nextHops = ["10.99.0.2/32"]"#, &ROUTES[..4]);
        row.picks(way, r#"communities = ["65002:2"]"#, &MARKED);
        row.picks(way, r#"nextHops = ["fd00:99::/64"]"#, &ROUTES[4..]);
        row.picks(way, r#"largeCommunities = ["65002:*:2"]"#, &MARKED);
        row.picks(way, r#"peers = ["left"]"#, &ROUTES);
        row.picks(way, r#"extendedCommunities = ["soo:65002:6"]"#, &MARKED);
        row.picks(way, r#"peers = ["right"]"#, &[]);
        row.picks(way, r#"sources = ["learned"]"#, &ROUTES);
        row.picks(way, r#"sources = ["static"]"#, &[]);
        // Of several conditions all must hold.
        let both = r#"families = ["ipv6-unicast"], communities = ["65002:1"]"#;
        row.picks(way, both, &MARKED[1..]);
    }
    assert_eq!(row.speaker.logged(&["session established"]), 2);
    assert_eq!(row.speaker.logged(&["session down"]), 0);
}

#[test]
fn changes_arrive_as_they_were_set() {
    let row = Row::new();
    let text = |text: &str| Value::String(text.to_owned());
    for way in ["import", "export"] {
        // As they come; AS 65002's MED is not passed on.
        row.changes(
            way,
            "communities = { add = [] }",
            &[
                ("/community/string", text("65002:1 65002:2")),
                ("/largeCommunity/string", text("65002:1:1 65002:2:2")),
                ("/extendedCommunity/string", text("RT:65002:5 SoO:65002:6")),
                ("/aspath/string", text("65001 65002 64700 64701")),
                ("/metric", Value::Null),
            ],
        );
        row.changes(
            way,
            r#"communities = { add = ["65001:9"], remove = ["65002:1"] }"#,
            &[("/community/string", text("65001:9 65002:2"))],
        );
        assert_eq!(row.offline(""), "accept by test: rules[0]");
        row.changes(
            way,
            r#"communities = { set = ["65001:8"] }, largeCommunities = { set = [] }"#,
            &[
                ("/community/string", text("65001:8")),
                ("/largeCommunity", Value::Null),
            ],
        );
        row.changes(
            way,
            r#"largeCommunities = { remove = ["65002:1:*"], add = ["65001:3:3"] }, extendedCommunities = { remove = ["rt:65002:5"], add = ["rt:65001:4"] }"#,
            &[
                ("/largeCommunity/string", text("65001:3:3 65002:2:2")),
                ("/extendedCommunity/string", text("RT:65001:4 SoO:65002:6")),
            ],
        );
        row.changes(
            way,
            "prependAs = { asNumber = 64900, count = 2 }",
            &[(
                "/aspath/string",
                text("65001 64900 64900 65002 64700 64701"),
            )],
        );
    }
    row.changes("export", "med = 33", &[("/metric", 33.into())]);
    assert_eq!(row.speaker.logged(&["session established"]), 2);
    assert_eq!(row.speaker.logged(&["session down"]), 0);
}

/// The next hop on the way out: ours, the received one, a third one, which is of one family only.
#[test]
fn next_hops_of_policies_arrive() {
    let row = Row::new();
    let hop = |prefix: &str, set: &str, expected: &str| {
        row.reload(
            "export",
            &format!("{{ set = {{ nextHop = \"{set}\" }}, action = \"accept\" }}"),
        );
        soon(&format!("{prefix}, {set}: {expected}"), || {
            let seen = row.seen()?;
            let route = seen.get(prefix).ok_or("not there")?;
            let hops = route["nexthops"].as_array().into_iter().flatten();
            let mut hops = hops.filter_map(|hop| hop["ip"].as_str());
            let found = hops.any(|hop| hop == expected);
            found.then_some(()).ok_or(route.to_string())
        });
    };
    // Each differs from the one before it.
    for (set, v4, v6) in [
        ("keep", "10.99.0.2", "fd00:99::2"),
        ("192.0.2.77", "192.0.2.77", "fd00:98::1"),
        ("keep", "10.99.0.2", "fd00:99::2"),
        ("self", "10.98.0.1", "fd00:98::1"),
        ("keep", "10.99.0.2", "fd00:99::2"),
        ("fd00:77::7", "10.98.0.1", "fd00:77::7"),
    ] {
        hop("10.20.1.0/24", set, v4);
        hop("fd00:20:1::/48", set, v6);
    }
    assert_eq!(row.speaker.logged(&["session down"]), 0);
}
