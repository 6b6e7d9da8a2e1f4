//! What files mean, and the full report of those that are wrong.

mod docs;

use bgp_core::fsm::RemoteAs;
use bgp_core::policy::{Builtin, Chain};
use bgp_core::rib::DefaultOriginate;
use proptest::prelude::*;

use super::*;
use crate::range::RangeConfig;

const VALID: &str = r#"[bgp]
asNumber = 65001
routerId = "10.255.0.1"

[peers.tor]
address = "192.0.2.1"
asNumber = 65101
holdTimeSeconds = 9

[router]
networks = ["10.1.0.0/24"]
"#;

/// The line of [`VALID`] that wrong ones are put in place of.
const HOLD: &str = "holdTimeSeconds = 9";

const RANGE: &str = r#"
[bgp]
asNumber = 65001
routerId = "10.255.0.1"

[peers.rack]
listenRange = "10.0.0.0/24"
asNumber = "external"
password = "s3cret"
maxSessions = 8
"#;

/// The full report of a text, line by line, without the file's name.
#[track_caller]
fn report(text: &str, expected: &[&str]) {
    let error = parse(text, "bgpd.toml").unwrap_err().to_string();
    let found: Vec<&str> = error
        .lines()
        .map(|line| line.strip_prefix("bgpd.toml:").unwrap_or(line))
        .collect();
    assert_eq!(found, expected, "\n{text}");
}

/// The full report of [`VALID`] with `to` in place of `from`.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(VALID.contains(from), "{from} is not in the text");
    report(&VALID.replace(from, to), expected);
}

#[test]
fn a_valid_file() {
    let resolved = parse(VALID, "bgpd.toml").unwrap();
    assert_eq!(
        (resolved.options.local_as, resolved.options.listen_port),
        (65001, 179)
    );
    let peer = &resolved.config.peers["tor"];
    assert_eq!((peer.settings.hold_time, peer.port), (9, 179));
    assert_eq!(peer.import, Chain::new(&[Builtin::Default]));
    assert!(resolved.config.install_routes);
}

#[test]
fn policies_relations_and_roles() {
    let text = VALID.replace(
        "[router]",
        "importPolicies = [\"from-tor\", \"default\"]\nrole = \"customer\"\nnextHop = \"self\"\nasOverride = true\n
        [policies.from-tor]\nrules = [{match = {communities = [\"65000:1\"]}, action = \"reject\"}]\ndefaultAction = \"next\"\n[router]",
    );
    let resolved = parse(&text, "bgpd.toml").unwrap();
    let peer = &resolved.config.peers["tor"];
    assert!(peer.import.is_declared() && peer.relation.as_override);
    assert!(peer.settings.role.is_some());
}

/// Everything at once: unknown fields, wrong types, wrong values and contradictions, in the order of the text.
#[test]
fn all_that_is_wrong_with_one_file() {
    report(
        r#"colour = "red"

[bgp]
asNumber = 0
routerld = "10.255.0.1"
nodePrefixes = ["10.0.0.1/8"]

[peers.a]
address = "192.0.2.1"
asNumber = "65101"
holdTime = 9

[peers.b]
address = "192.0.2.2"
asNumber = 65102
holdTimeSeconds = 2
families = ["ipv4-unicast"]
maxPrefixes.ipv6-unicast = { limit = 0, action = "warn", colour = "red" }
importPolicies = ["gold", "silver", "bronze"]
nodeSelector = {}

[peers.c]
address = "192.0.2.2"
asNumber = 65102
ttlSecurityHops = 1
multihopTtl = 2
multihopTTL = 1

[peers.d]
asNumber = 65103

[policies.silver]
defaultAction = "maybe"

[policies.bronze]
rules = [{ action = "accept" }, { action = "reject" }]

[router]
networks = ["10.1.0.1/24"]
installroutes = false
"#,
        &[
            "1:1: colour: unknown field: known are bgp, bmp, peers, policies, router",
            "3:1: bgp.routerId: is missing: a router needs a BGP Identifier, usually its IPv4 loopback",
            "4:12: bgp.asNumber: AS 0 is reserved (RFC 7607): use 1 to 4294967294",
            "5:1: bgp.routerld: unknown field: did you mean routerId?",
            "6:17: bgp.nodePrefixes[0]: 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
            "10:12: peers.a.asNumber: is the text \"65101\": expected an AS number, external (any AS but ours) or internal (ours)",
            "11:1: peers.a.holdTime: unknown field: did you mean holdTimeSeconds?",
            "16:19: peers.b.holdTimeSeconds: 2 is refused by RFC 4271 §4.2: use 0 (never) or at least 3",
            "18:28: peers.b.maxPrefixes.ipv6-unicast: ipv6-unicast is not one of this peer's families",
            "18:38: peers.b.maxPrefixes.ipv6-unicast.limit: 0 leaves nothing to exchange: use at least 1, or leave the family out of families",
            "18:58: peers.b.maxPrefixes.ipv6-unicast.colour: unknown field: known are limit, warnPercent, action, restartSeconds",
            "19:19: peers.b.importPolicies[0]: there is no route policy \"gold\": known are default, accept-all, reject-all, bronze, silver",
            "20:16: peers.b.nodeSelector: is for clusters: this file configures one router; remove it",
            "23:11: peers.c.address: 192.0.2.2 is that of peer \"b\" too: keep one",
            "26:15: peers.c.multihopTtl: contradicts ttlSecurityHops, which sends with TTL 255 and says how far away the peer may be: remove one",
            "27:1: peers.c.multihopTTL: unknown field: did you mean multihopTtl?",
            "29:1: peers.d.address: is missing: give the peer's address, or a listenRange for peers that connect to us",
            "33:17: policies.silver.defaultAction: \"maybe\" is not known: use accept or reject or next",
            "36:33: policies.bronze.rules[1]: is never asked: rules[0] has no condition and decides every route",
            "39:13: router.networks[0]: 10.1.0.1/24 has host bits set: write 10.1.0.0/24",
            "40:1: router.installroutes: unknown field: did you mean installRoutes?",
        ],
    );
}

#[test]
fn one_mistake() {
    check(
        HOLD,
        "holdTime = 9",
        &["8:1: peers.tor.holdTime: unknown field: did you mean holdTimeSeconds?"],
    );
    check(
        HOLD,
        "holdTimeSeconds = \"9\"",
        &[
            "8:19: peers.tor.holdTimeSeconds: is the text \"9\": expected a whole number from 0 to 65535",
        ],
    );
    check(
        HOLD,
        "holdTimeSeconds = 70000",
        &[
            "8:19: peers.tor.holdTimeSeconds: is the number 70000: expected a whole number from 0 to 65535",
        ],
    );
    check(
        HOLD,
        "holdTimeSeconds = 0xffff_ffff_ffff_ffff_ff",
        &[
            "8:19: peers.tor.holdTimeSeconds: is the number inf: expected a whole number from 0 to 65535",
        ],
    );
    check(
        HOLD,
        "holdTimeSeconds = 2",
        &[
            "8:19: peers.tor.holdTimeSeconds: 2 is refused by RFC 4271 §4.2: use 0 (never) or at least 3",
        ],
    );
    check(
        HOLD,
        "holdTimeSeconds = 1979-05-27",
        &[
            "8:19: peers.tor.holdTimeSeconds: is a date or a time: expected a whole number from 0 to 65535",
        ],
    );
    check(
        HOLD,
        "passive = \"yes\"",
        &["8:11: peers.tor.passive: is the text \"yes\": expected true or false"],
    );
    check(
        HOLD,
        "families = \"ipv4-unicast\"",
        &["8:12: peers.tor.families: is the text \"ipv4-unicast\": expected a list"],
    );
    check(
        HOLD,
        "families = [\"ipv4\"]",
        &["8:13: peers.tor.families[0]: \"ipv4\" is not known: use ipv4-unicast or ipv6-unicast"],
    );
    check(
        HOLD,
        "nodeSelector = {}",
        &[
            "8:16: peers.tor.nodeSelector: is for clusters: this file configures one router; remove it",
        ],
    );
    check(
        HOLD,
        "routeReflectorClient = true",
        &[
            "8:24: peers.tor.routeReflectorClient: is for iBGP, and AS 65101 makes this peer the other kind: remove it",
        ],
    );
    check(
        HOLD,
        "roleStrict = true",
        &["8:14: peers.tor.roleStrict: asks for a role of ours as well: set role"],
    );
    check(
        HOLD,
        "importPolicies = [\"gold\"]\nport = 0",
        &[
            "8:19: peers.tor.importPolicies[0]: there is no route policy \"gold\": known are default, accept-all, reject-all",
            "9:8: peers.tor.port: 0 is not a TCP port: use 1 to 65535",
        ],
    );
    check(
        "asNumber = 65001\n",
        "",
        &["1:1: bgp.asNumber: is missing: a router needs its own AS"],
    );
    check(
        "asNumber = 65101\n",
        "",
        &["5:1: peers.tor.asNumber: is missing"],
    );
    check(
        "65101",
        "\"extern\"",
        &[
            "7:12: peers.tor.asNumber: is the text \"extern\": expected an AS number, external (any AS but ours) or internal (ours)",
        ],
    );
    check(
        "65101",
        "0",
        &["7:12: peers.tor.asNumber: AS 0 is reserved (RFC 7607): use 1 to 4294967294"],
    );
    check(
        "\"192.0.2.1\"",
        "\"192.0.2\"",
        &["6:11: peers.tor.address: is the text \"192.0.2\": invalid IP address syntax"],
    );
    check(
        "10.1.0.0/24",
        "10.1.0.1/24",
        &["11:13: router.networks[0]: 10.1.0.1/24 has host bits set: write 10.1.0.0/24"],
    );
    check(
        "[bgp]",
        "[bpg]",
        &[
            "1:1: bgp.asNumber: is missing: a router needs its own AS",
            "1:1: bgp.routerId: is missing: a router needs a BGP Identifier, usually its IPv4 loopback",
            "1:2: bpg: unknown field: did you mean bgp?",
        ],
    );
    check(
        "[router]",
        "[[router]]",
        &["10:1: router: is a list: expected a mapping"],
    );
    check(
        "[peers.tor]",
        "[peers]",
        &[
            "6:11: peers.address: is the text \"192.0.2.1\": expected a mapping",
            "7:12: peers.asNumber: is the number 65101: expected a mapping",
            "8:19: peers.holdTimeSeconds: is the number 9: expected a mapping",
        ],
    );
    check(
        "[router]",
        "[peers.\"b.c\"]\naddress = \"192.0.2.1\"\nasNumber = 1\nport = 0\n[router]",
        &[
            "6:11: peers.tor.address: 192.0.2.1 is that of peer \"b.c\" too: keep one",
            "13:8: peers.b.c.port: 0 is not a TCP port: use 1 to 65535",
        ],
    );
    check(
        "[router]",
        "[policies.default]\n[router]",
        &["10:1: policies.default: \"default\" is a built-in route policy: choose another name"],
    );
}

#[test]
fn no_toml() {
    report(
        "",
        &[
            "1:1: bgp.asNumber: is missing: a router needs its own AS",
            "1:1: bgp.routerId: is missing: a router needs a BGP Identifier, usually its IPv4 loopback",
        ],
    );
    report(
        "\u{0}\u{1}[",
        &["1:3: is no TOML: key with no value, expected `=`"],
    );
    check(
        HOLD,
        "holdTimeSeconds 9\npassive = tru",
        &["8:17: is no TOML: key with no value, expected `=`"],
    );
    check(HOLD, "asNumber = 1", &["8:1: is no TOML: duplicate key"]);
    check(HOLD, "[peers.tor]", &["8:8: is no TOML: duplicate key"]);
}

#[test]
fn a_report_is_bounded() {
    let peers: String = (0..1000)
        .map(|i| format!("[peers.p{i}]\ncolour = 1\n"))
        .collect();
    let errors = parse(&peers, "bgpd.toml").unwrap_err();
    assert!(errors.len() <= 101, "{}", errors.len());
    let last = errors.to_string();
    assert!(
        last.ends_with("bgpd.toml: further problems are not shown"),
        "{last}"
    );
}

#[test]
fn no_error_quotes_a_password() {
    for wrong in [
        "password = 4711",
        "password = \"4711",
        "password = [\"4711\"]",
        "password = { a = \"4711\" }",
        "passwords = \"4711é\"",
        "\"password\" = '4711' 5",
        "password = 47-11",
    ] {
        let text = VALID.replace(HOLD, wrong);
        let error = parse(&text, "bgpd.toml").unwrap_err().to_string();
        assert!(
            error.contains("bgpd.toml:8:") && !error.contains("4711"),
            "{wrong}: {error}"
        );
    }
    let resolved = parse(&VALID.replace(HOLD, "password = \"4711\""), "bgpd.toml");
    assert!(!format!("{:?}", resolved.unwrap()).contains("4711"));
}

fn range(from: &str, to: &str) -> RangeConfig {
    let file = parse(&RANGE.replace(from, to), "bgpd.toml").unwrap();
    file.config.ranges["rack"].clone()
}

#[test]
fn a_range_is_a_template() {
    let rack = range("", "");
    assert_eq!(rack.max_sessions, 8);
    assert_eq!(rack.template.settings.remote, RemoteAs::External);
    assert!(rack.template.settings.passive && rack.template.settings.is_ebgp());
    assert!(rack.template.transport.password.is_some());

    let rack = range("\"external\"", "\"internal\"");
    assert_eq!(rack.template.settings.remote, RemoteAs::Internal);
    assert_eq!(rack.template.import, Chain::new(&[Builtin::AcceptAll]));

    let rack = range("\"external\"", "65077\nholdTimeSeconds = 6");
    assert_eq!(rack.template.settings.remote, RemoteAs::Asn(65077));
    assert_eq!(rack.template.settings.hold_time, 6);
    let rack = range("maxSessions = 8", "");
    assert_eq!(rack.max_sessions, 100);
}

#[test]
fn wrong_ranges() {
    let check = |from: &str, to: &str, expected: &[&str]| {
        assert!(RANGE.contains(from), "{from} is not in the text");
        report(&RANGE.replace(from, to), expected);
    };
    check(
        "asNumber = \"external\"",
        "",
        &["6:1: peers.rack.asNumber: is missing"],
    );
    check(
        "\"external\"",
        "0",
        &["8:12: peers.rack.asNumber: AS 0 is reserved (RFC 7607): use 1 to 4294967294"],
    );
    check(
        "maxSessions = 8",
        "passive = true",
        &[
            "10:11: peers.rack.passive: is for a peer with an address: those of a listenRange connect to us",
        ],
    );
    check(
        "maxSessions = 8",
        "maxSessions = 0",
        &["10:15: peers.rack.maxSessions: 0 admits nobody: use at least 1"],
    );
    check(
        "10.0.0.0/24",
        "10.0.0.1/24",
        &["7:15: peers.rack.listenRange: 10.0.0.1/24 has host bits set: write 10.0.0.0/24"],
    );
    check(
        "maxSessions = 8",
        "[peers.b]\nlistenRange = \"10.0.0.0/24\"\nasNumber = 1",
        &["7:15: peers.rack.listenRange: 10.0.0.0/24 is that of peer \"b\" too: keep one"],
    );
    check(
        "maxSessions = 8",
        "[peers.x]\naddress = \"10.0.0.7\"\nasNumber = 1",
        &[
            "10:1: peers.x.password: is missing: the address is inside the listenRange of peer \"rack\", which has one",
        ],
    );
}

#[test]
fn stations_have_tables_of_their_own() {
    let station =
        "[bmp.noc]\naddress = \"192.0.2.9\"\nrouteMonitoring = \"both\"\nconnectRetrySeconds = 5\n";
    let resolved = parse(&format!("{VALID}{station}"), "bgpd.toml").unwrap();
    let noc = &resolved.config.stations["noc"];
    assert_eq!(noc.collector.to_string(), "192.0.2.9:11019");
    assert_eq!(noc.connect_retry.as_secs(), 5);
    let wrong = station
        .replace("= 5", "= 721")
        .replace("[bmp", "[bgp.bmp.x]\naddress = \"::1\"\n[bmp");
    report(
        &format!("{VALID}{wrong}"),
        &[
            "12:6: bgp.bmp: is for clusters: write tables [bmp.NAME]",
            "17:23: bmp.noc.connectRetrySeconds: 721 is not 1 to 720",
        ],
    );
}

#[test]
fn moves_drains_and_what_is_originated() {
    let text = VALID
        .replace(
            HOLD,
            "localAsNumber = 64999\nasMigration = { noPrepend = true, dualAs = true }
            shutdown = \"bye\"\nextendedNextHop = true\ndefaultOriginate = { ipv6-unicast = \"if-present\" }",
        )
        .replace("[peers", "gracefulShutdown = true\nalwaysCompareMed = true\naggregates = [{ prefix = \"10.0.0.0/8\" }]\n[peers")
        + "announcements = [{ prefix = \"10.9.0.0/24\", set = { med = 3 } }]";
    let resolved = parse(&text, "bgpd.toml").unwrap();
    let peer = &resolved.config.peers["tor"];
    let settings = &peer.settings;
    assert_eq!(
        (settings.local_as, settings.other_local_as),
        (64999, Some(65001))
    );
    assert!(settings.extended_next_hop && peer.relation.graceful_shutdown);
    let migration = peer.relation.migration.unwrap();
    assert_eq!((migration.real_as, migration.no_prepend), (65001, true));
    assert_eq!(
        peer.relation.default_originate,
        [None, Some(DefaultOriginate::IfPresent)]
    );
    assert_eq!(peer.shutdown.as_deref(), Some("bye"));
    assert!(resolved.config.med.always_compare && peer.enforce_first_as);
    assert_eq!(resolved.config.aggregates.len(), 1);
    let meds = resolved.local.iter().map(|route| {
        let attributes = route.attributes.as_ref();
        attributes.and_then(|attributes| attributes.hot().med)
    });
    assert_eq!(meds.collect::<Vec<_>>(), [None, Some(3)]);
}

#[test]
fn moves_that_contradict_themselves() {
    check(
        HOLD,
        "asMigration = {}",
        &[
            "8:15: peers.tor.asMigration: is about a former AS on this session: set localAsNumber to it",
        ],
    );
    check(
        HOLD,
        "localAsNumber = 65001\nasMigration = {}",
        &["9:15: peers.tor.asMigration: localAsNumber 65001 is our AS: set it to the former one"],
    );
    check(
        "asNumber = 65101",
        "asNumber = 65001\nlocalAsNumber = 64999\nasMigration = { dualAs = true }",
        &[
            "9:26: peers.tor.asMigration.dualAs: would make peers of one AS, 65001, of an eBGP session: remove it",
        ],
    );
    check(
        "networks = [\"10.1.0.0/24\"]",
        "networks = [\"10.1.0.0/24\"]\nannouncements = [{ prefix = \"10.1.0.0/24\" }]",
        &["12:29: router.announcements[0].prefix: 10.1.0.0/24 is in networks too: keep one"],
    );
}

proptest! {
    /// Any text gets an answer whose places are in it.
    #[test]
    fn no_text_panics(at in 0..VALID.len(), cut in 0..20_usize, put in "[\\[\\]{}=\"'.,# \na-z0-9é]{0,6}") {
        let end = (at + cut).min(VALID.len());
        let text = format!("{}{put}{}", &VALID[..at], &VALID[end..]);
        if let Err(errors) = parse(&text, "f") {
            for error in errors.iter() {
                let lines = text.split('\n').count();
                prop_assert!(error.line.is_some_and(|line| (1..=lines).contains(&line)), "{error}");
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}

#[test]
fn who_shares_traffic() {
    let of = |more: &str| {
        let text = VALID.replace("[bgp]", &format!("[bgp]\n{more}"));
        parse(&text, "bgpd.toml").unwrap().config.multipath
    };
    let default = of("");
    assert_eq!((default.max_paths, default.max_paths_ibgp), (16, 16));
    assert!(default.link_bandwidth && !default.as_path_relax);
    assert!(of("maxPaths = 1\nmaxPathsIbgp = 1").is_off());
    let other = of("multipathAsPathRelax = true\nlinkBandwidth = \"ignore\"");
    assert!(other.as_path_relax && !other.link_bandwidth);
    check(
        "[bgp]",
        "[bgp]\nmaxPaths = 65\nmaxPathsIbgp = 0",
        &[
            "2:12: bgp.maxPaths: 65 is not within 1 (no sharing) to 64",
            "3:16: bgp.maxPathsIbgp: 0 is not within 1 (no sharing) to 64",
        ],
    );
}
