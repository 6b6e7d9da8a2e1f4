//! Every option of a peer and of the speaker, and what a change of it does to a session that is up.
//!
//! All changes come with one reload, each on a session of its own, and all go with another.

use std::time::Duration;

use roadbed_api::document::fields_of;
use roadbed_api::kinds::{BgpConfigSpec, BgpPeerSpec};
use roadbed_tests::wait::eventually;

use super::reloaded;
use crate::fixture::{OUR_NETWORKS, Pair, SOON, config};
use crate::script::{Script, open};

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The session goes on.
    Live,
    /// It ends with a Cease, since the OPEN or the connection must be another one, or since that is the wish.
    Ends,
    /// It goes on when both ends sign from then on.
    LiveSigned,
    /// The option is not for this file.
    Cluster,
}
use Effect::{Cluster, Ends, Live, LiveSigned};

/// One option, `-` and what of it where that makes a difference: lines that a peer has besides, before and after the change. A line takes the place of one with its key.
struct Row(
    &'static str,
    Effect,
    &'static [&'static str],
    &'static [&'static str],
);

/// Makes the session one of iBGP.
const IBGP: &str = "asNumber = 65001";
const POLICY: &str = "rules = [{ name = \"all\", action = \"accept\" }]";

const PEER: &[Row] = &[
    Row("nodeSelector", Cluster, &[], &[]),
    Row("address", Ends, &[], &["address = \"10.99.9.9\""]),
    Row(
        "listenRange",
        Ends,
        &[],
        &["address", "passive", "listenRange = \"10.99.9.0/28\""],
    ),
    Row(
        "maxSessions",
        Live,
        &["address", "passive", "listenRange = \"ADDRESS/32\""],
        &[
            "address",
            "passive",
            "listenRange = \"ADDRESS/32\"",
            "maxSessions = 7",
        ],
    ),
    Row("asNumber", Ends, &[], &["asNumber = 65003"]),
    Row("port", Ends, &[], &["port = 1179"]),
    Row("localAsNumber", Ends, &[], &["localAsNumber = 65009"]),
    Row(
        "sourceAddress",
        Ends,
        &[],
        &["sourceAddress = \"10.99.0.1\""],
    ),
    Row("families", Ends, &[], &["families = [\"ipv4-unicast\"]"]),
    Row("holdTimeSeconds", Ends, &[], &["holdTimeSeconds = 100"]),
    Row(
        "keepaliveTimeSeconds",
        Live,
        &[],
        &["keepaliveTimeSeconds = 2"],
    ),
    Row(
        "connectRetrySeconds",
        Live,
        &[],
        &["connectRetrySeconds = 7"],
    ),
    Row("passive", Live, &[], &["passive = false"]),
    Row(
        "password",
        LiveSigned,
        &[],
        &["password = \"correct-horse\""],
    ),
    Row("ttlSecurityHops", Live, &[], &["ttlSecurityHops = 254"]),
    Row("multihopTtl", Live, &[], &["multihopTtl = 7"]),
    Row(
        "maxPrefixes",
        Live,
        &[],
        &["maxPrefixes.ipv4-unicast = { limit = 5, action = \"idle\" }"],
    ),
    Row(
        "maxPrefixesOut",
        Live,
        &[],
        &["maxPrefixesOut.ipv6-unicast = { limit = 5, action = \"warn\" }"],
    ),
    Row(
        "routeReflectorClient",
        Live,
        &[IBGP],
        &[IBGP, "routeReflectorClient = true"],
    ),
    Row("nextHop", Live, &[], &["nextHop = \"keep\""]),
    Row("asOverride", Live, &[], &["asOverride = true"]),
    Row("allowedOwnAs", Live, &[], &["allowedOwnAs = 2"]),
    Row("removePrivateAs", Live, &[], &["removePrivateAs = true"]),
    Row("role", Ends, &[], &["role = \"provider\""]),
    Row(
        "roleStrict",
        Ends,
        &["role = \"provider\""],
        &["role = \"provider\"", "roleStrict = true"],
    ),
    Row(
        "asMigration",
        Live,
        &["localAsNumber = 65009"],
        &[
            "localAsNumber = 65009",
            "asMigration = { noPrepend = true, replaceAs = true }",
        ],
    ),
    Row("enforceFirstAs", Live, &[], &["enforceFirstAs = false"]),
    Row(
        "addPath",
        Ends,
        &[],
        &["addPath.ipv4-unicast = { receive = true }"],
    ),
    Row(
        "addPath-send",
        Live,
        &["addPath.ipv4-unicast = { send = \"best-2\" }"],
        &["addPath.ipv4-unicast = { send = \"all\" }"],
    ),
    Row("extendedNextHop", Ends, &[], &["extendedNextHop = true"]),
    Row(
        "defaultOriginate",
        Live,
        &[],
        &["defaultOriginate.ipv4-unicast = \"always\""],
    ),
    Row("gracefulShutdown", Live, &[], &["gracefulShutdown = true"]),
    Row("shutdown", Ends, &[], &["shutdown = \"back at nine\""]),
    Row("importPolicies", Live, &[], &["importPolicies = [\"all\"]"]),
    Row(
        "exportPolicies",
        Live,
        &[],
        &["exportPolicies = [\"all\", \"reject-all\"]"],
    ),
];

/// The same for `[bgp]`, which has no lines but these and its AS and Identifier.
const SPEAKER: &[(&str, &str)] = &[
    // Another speaker: every session ends; see `another_as_or_identifier_is_another_speaker`.
    ("asNumber", ""),
    ("routerId", ""),
    ("listenPort", "listenPort = 1179"),
    ("clusterId", "clusterId = \"10.99.0.9\""),
    ("nodePrefixes", "nodePrefixes = [\"10.0.0.0/8\"]"),
    ("acceptDefaultRoute", "acceptDefaultRoute = true"),
    // Of Kubernetes clusters.
    ("nodeMesh", ""),
    // `[bmp.NAME]`
    ("bmp", ""),
    (
        "aggregates",
        "aggregates = [{ prefix = \"10.2.0.0/16\", summaryOnly = true }]",
    ),
    ("alwaysCompareMed", "alwaysCompareMed = true"),
    ("missingMedAsWorst", "missingMedAsWorst = true"),
    ("maxPaths", "maxPaths = 2"),
    ("maxPathsIbgp", "maxPathsIbgp = 2"),
    ("multipathAsPathRelax", "multipathAsPathRelax = true"),
    ("linkBandwidth", "linkBandwidth = \"ignore\""),
    ("gracefulShutdown", "gracefulShutdown = true"),
];

fn address(i: usize) -> String {
    format!("10.99.1.{}", i + 1)
}

/// A line, and its key.
fn key(line: &str) -> &str {
    line.split([' ', '.']).next().unwrap_or(line)
}

/// The table of row `i`; a line that is a key alone takes that key out.
fn peer(i: usize, more: &[&str]) -> String {
    let usual = [
        "address = \"ADDRESS\"",
        "asNumber = 65002",
        "holdTimeSeconds = 180",
        "passive = true",
    ];
    let kept = usual
        .iter()
        .filter(|l| !more.iter().any(|m| key(m) == key(l)));
    let lines: Vec<&str> = kept
        .chain(more.iter().filter(|line| line.contains('=')))
        .copied()
        .collect();
    format!("[peers.{}]\n{}\n", PEER[i].0, lines.join("\n")).replace("ADDRESS", &address(i))
}

fn file(changed: bool) -> String {
    let peers: String = PEER
        .iter()
        .enumerate()
        .map(|(i, Row(_, _, before, after))| peer(i, if changed { after } else { before }))
        .collect();
    config(&format!("{peers}[policies.all]\n{POLICY}"), OUR_NETWORKS)
}

/// Fails when a field has no row: say there what a change of it does, and in docs/bgp.md.
fn complete(fields: &[&str], rows: Vec<&str>) {
    for field in fields {
        assert!(
            rows.contains(field),
            "{field} is new: add a row for it to {}",
            file!()
        );
    }
    for row in rows {
        assert!(fields.contains(&row), "{row} is no field any more");
    }
}

#[test]
fn every_option_has_a_row() {
    complete(
        fields_of::<BgpPeerSpec>(),
        PEER.iter()
            .map(|r| r.0.split('-').next().unwrap_or(r.0))
            .collect(),
    );
    complete(
        fields_of::<BgpConfigSpec>(),
        SPEAKER.iter().map(|r| r.0).collect(),
    );
}

/// A session of row `i`, with a Hold Time that outlasts the test.
fn session(pair: &Pair, i: usize) -> Script {
    let Row(_, _, before, _) = &PEER[i];
    let asn = if before.contains(&IBGP) { 65001 } else { 65002 };
    let mut bytes = open(asn, [10, 99, 1, u8::try_from(i + 1).unwrap()]);
    bytes[22..24].copy_from_slice(&180_u16.to_be_bytes());
    let mut script = Script::connect(&pair.peer, &address(i), "10.99.0.1");
    script.greet(&bytes);
    script
}

#[test]
fn only_what_must_ends_a_session() {
    let pair = Pair::new();
    let rows: Vec<usize> = (0..PEER.len()).filter(|i| PEER[*i].1 != Cluster).collect();
    for i in &rows {
        pair.peer
            .add_address("eth0", &format!("{}/16", address(*i)))
            .unwrap();
    }
    let mut speaker = roadbed_tests::bgpd::Bgpd::start(&pair.us, pair.dir(), &file(false)).unwrap();
    let mut sessions: Vec<(usize, Script)> =
        rows.iter().map(|i| (*i, session(&pair, *i))).collect();
    eventually(SOON, "all are up", || {
        let up = speaker.logged(&["session established"]);
        (up == rows.len()).then_some(()).ok_or(up)
    });

    reloaded(&mut speaker, &file(true));
    for (i, script) in &mut sessions {
        let Row(name, effect, ..) = &PEER[*i];
        match effect {
            Ends => {
                let words = script.last_words().unwrap_or_default();
                // RFC 4486: Administrative Shutdown, Peer De-configured, Other Configuration Change.
                let subcode = match *name {
                    "shutdown" => 2,
                    "address" | "port" | "sourceAddress" | "listenRange" => 3,
                    _ => 6,
                };
                assert_eq!(words.get(..2), Some(&[6, subcode][..]), "{name}: {words:?}");
            }
            LiveSigned => script.sign("correct-horse"),
            Live | Cluster => {}
        }
    }
    sessions.retain(|(i, _)| PEER[*i].1 != Ends);
    for (_, script) in &mut sessions {
        script.keep_alive(Duration::from_millis(100));
    }
    let ended = PEER.iter().filter(|row| row.1 == Ends).count();
    eventually(SOON, "so many sessions have ended", || {
        let down = speaker.logged(&["session down"]);
        (down >= ended).then_some(()).ok_or(down)
    });
    for Row(name, effect, ..) in PEER {
        let down = speaker.logged(&["session down", &format!("peer={name} ")]);
        assert_eq!(down, usize::from(*effect == Ends), "{name}");
    }

    // And back, and every option of the speaker besides.
    let lines: Vec<&str> = SPEAKER.iter().map(|(_, line)| *line).collect();
    let identity = "asNumber = 65001\nrouterId = \"10.99.0.1\"";
    let more = lines.join("\n");
    let collector = "[bmp.collector]\naddress = \"10.99.0.2\"";
    let all = format!("{identity}\n{more}\n{collector}\n");
    let back = file(false).replacen(identity, &all, 1);
    reloaded(&mut speaker, &back);
    for (i, script) in &mut sessions {
        if PEER[*i].1 == LiveSigned {
            script.sign("");
        }
    }
    for (_, script) in &mut sessions {
        script.keep_alive(Duration::from_millis(100));
    }
    assert_eq!(speaker.logged(&["session down"]), ended);
}
