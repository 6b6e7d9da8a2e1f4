//! SIGHUP and changes of the file: what they do, and that a session does not notice.

mod options;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::time::Duration;

use roadbed_api::agent::NodeStatus;
use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::bird::Bird;
use roadbed_tests::process::Process;
use roadbed_tests::wait::{eventually, throughout};

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{Script, UPDATE, mandatory, update};
use crate::sockets::bird_config;
use crate::three::{LEFT, Three, bird, bird_has, frr, ours};

/// Puts another file in place and waits until it is in force.
#[track_caller]
fn reloaded(speaker: &mut Bgpd, text: &str) {
    // The changed file is read a second time, whenever that is noticed.
    let by_signal = ["configuration reloaded", "SIGHUP"];
    let before = speaker.logged(&by_signal);
    speaker.reload(text).unwrap();
    eventually(SOON, "the new file is in force", || {
        speaker.process().alive().map_err(|e| e.to_string())?;
        let now = speaker.logged(&by_signal);
        (now > before).then_some(()).ok_or(speaker.log())
    });
}

const ROUTE: (&str, &str) = ("10.1.0.0/24", "via 10.99.0.2 dev eth0");

#[test]
fn a_reload_does_not_reset_what_it_does_not_change() {
    let pair = Pair::new();
    pair.peer.add_address("eth0", "10.99.0.3/16").unwrap();
    let first = peer("one", "10.99.0.2", "passive = true");
    let second = peer("two", "10.99.0.3", "passive = true");
    let mut speaker = pair.speaker(&first);
    let mut one = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    one.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, 0]));
    pair.kernel_has(&[ROUTE]);

    // A network more: the session hears of it.
    let networks = format!("{OUR_NETWORKS}, \"10.2.1.0/24\"");
    speaker.reload(&config(&first, &networks)).unwrap();
    eventually(SOON, "the new network is announced", || {
        let body = one.expect(UPDATE);
        let has = body.windows(4).any(|w| w == [24, 10, 2, 1]);
        has.then_some(()).ok_or(format!("{body:?}"))
    });

    // A peer more: it comes up beside the first.
    speaker
        .reload(&config(&(first.clone() + &second), &networks))
        .unwrap();
    eventually(SOON, "the second peer is there", || {
        speaker.says(&["peer added", "two"])
    });
    let mut two = Script::establish(&pair.peer, "10.99.0.3", "10.99.0.1");

    // A file that is wrong: nothing changes.
    speaker.reload(&config(&first, "\"10.2.0.1/24\"")).unwrap();
    eventually(SOON, "the wrong file is refused by name", || {
        speaker.says(&["reload refused", "router.networks[0]"])
    });
    one.keep_alive(Duration::from_secs(1));
    two.keep_alive(Duration::from_secs(1));

    // A peer less: it is told, the first stays.
    speaker.reload(&config(&first, &networks)).unwrap();
    let words = two.last_words().unwrap();
    assert_eq!(words[..2], [6, 3], "Cease, Peer De-configured: {words:?}");
    one.keep_alive(Duration::from_secs(1));
    pair.kernel_has(&[ROUTE]);
    assert_eq!(speaker.logged(&["session established", "one"]), 1);
    assert_eq!(speaker.logged(&["session down", "one"]), 0);
}

#[test]
fn a_changed_policy_does_not_reset_a_changed_as_does() {
    let pair = Pair::new();
    let before = peer("one", "10.99.0.2", "passive = true");
    let mut speaker = pair.speaker(&before);
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");

    let policy = before.replace("accept-all", "reject-all");
    script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, 0]));
    pair.kernel_has(&[ROUTE]);
    speaker.reload(&config(&policy, OUR_NETWORKS)).unwrap();
    pair.kernel_has(&[]);
    speaker.reload(&config(&before, OUR_NETWORKS)).unwrap();
    pair.kernel_has(&[ROUTE]);
    script.keep_alive(Duration::from_secs(1));
    assert_eq!(speaker.logged(&["session down"]), 0);

    let other_as = before.replace("asNumber = 65002", "asNumber = 65003");
    speaker.reload(&config(&other_as, OUR_NETWORKS)).unwrap();
    let words = script.last_words().unwrap();
    assert_eq!(words[0], 6, "Cease: {words:?}");
    eventually(SOON, "the session is down", || {
        speaker.says(&["session down"])
    });
    pair.kernel_has(&[]);
}

/// What every OPEN says takes other sessions. The kernel keeps what it has until the peers have said what they have; what is
/// not let in again goes then, and nothing else ever does.
#[test]
fn another_as_or_identifier_is_another_speaker() {
    const VIA_LEFT: &str = "via 10.99.0.2 dev eth0";
    const RIGHT: &str = "10.3.0.0/24";
    let three = Three::new();
    let left =
        |asn: &str| bird("left", 65002, &[LEFT, "10.1.1.0/24"], "", "").replace("as 65001;", asn);
    let bird = three.left_bird(&left("as 65001;"));
    let frr = three.right_frr(&frr(65003, &[RIGHT], ""));
    let peers = |left: &str| ours("left", 65002, left) + &ours("right", 65003, "");
    let mut speaker = three.speaker(&peers(""));
    let right = (RIGHT, "via 10.98.0.2 dev eth1");
    let second = ("10.1.1.0/24", VIA_LEFT);
    three.left.kernel_has(&[(LEFT, VIA_LEFT), second, right]);
    bird_has(&bird, RIGHT, &["BGP.as_path: 65001 65003\n"]);

    let log = three.left.dir().join("ip.log");
    let mut monitor = Process::start(
        &three.left.us,
        three.left.dir(),
        "ip",
        &["ip", "-o", "monitor", "route"],
    )
    .unwrap();
    let file = |identity: &str, peers: &str| {
        let text = config(peers, "\"10.2.0.0/24\"");
        text.replace("asNumber = 65001\nrouterId = \"10.99.0.1\"", identity)
    };
    let only = "importPolicies = [\"only\"]";
    let policy = format!(
        "[policies.only]\nrules = [{{ match = {{ prefixes = [{{ prefix = \"{LEFT}\" }}] }}, action = \"accept\" }}]\n"
    );
    let another = "asNumber = 65001\nrouterId = \"10.99.0.77\"";
    speaker
        .reload(&file(another, &(peers(only) + &policy)))
        .unwrap();
    three.left.kernel_has(&[(LEFT, VIA_LEFT), right]);
    eventually(SOON, "BIRD hears the other Identifier", || {
        let words = ["Established", "Neighbor ID:      10.99.0.77"];
        bird.shows("show protocols all rb", &words)
    });
    bird_has(&bird, RIGHT, &["BGP.as_path: 65001 65003\n"]);
    assert_eq!(speaker.logged(&["session established"]), 4);
    let status: NodeStatus = speaker.ctl_json("status").unwrap();
    assert_eq!(status.router_id, Some([10, 99, 0, 77].into()));
    eventually(SOON, "the monitor tells", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let gone = log.lines().filter(|line| line.contains("Deleted 10."));
        let gone: Vec<&str> = gone.collect();
        match gone.as_slice() {
            [one] if one.contains("10.1.1.0/24") => Ok(()),
            _ => Err(log),
        }
    });
    monitor.kill().unwrap();

    // Another AS.
    bird.configure(&left("as 65010;")).unwrap();
    frr.configure(&["router bgp 65003", "neighbor 10.98.0.1 remote-as 65010"])
        .unwrap();
    let another = "asNumber = 65010\nrouterId = \"10.99.0.77\"";
    speaker.reload(&file(another, &peers(""))).unwrap();
    three.left.kernel_has(&[(LEFT, VIA_LEFT), second, right]);
    bird_has(&bird, RIGHT, &["BGP.as_path: 65010 65003\n"]);
    let reset = speaker.logged(&["another AS or BGP Identifier: all sessions are reset"]);
    assert_eq!(reset, 2);
    speaker.stop().unwrap();
}

/// With a port that is taken as well it goes on where it was, and moves once it can.
#[test]
fn another_identifier_and_a_port_that_is_taken() {
    let pair = Pair::new();
    let peers = peer("one", "10.99.0.2", "passive = true");
    let mut speaker = pair.speaker(&peers);
    let _script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let taken = pair
        .us
        .within(|| TcpListener::bind("0.0.0.0:1180"))
        .unwrap();
    let text = config(&format!("listenPort = 1180\n{peers}"), OUR_NETWORKS);
    reloaded(
        &mut speaker,
        &text.replace("routerId = \"10.99.0.1\"", "routerId = \"10.99.0.77\""),
    );
    let says = |words: &[&str]| {
        eventually(SOON, &format!("the status has {words:?}"), || {
            let said = speaker.ctl("status")?;
            let all = words.iter().all(|word| said.contains(word));
            anyhow::ensure!(all, "{said}");
            Ok(())
        });
    };
    says(&["10.99.0.77", "ConfigurationInForce=False", "1180 is in use"]);
    let _script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    drop(taken);
    says(&["10.99.0.77", "ConfigurationInForce=True"]);
    let to = ("10.99.0.1", 1180);
    assert!(pair.peer.within(|| TcpStream::connect(to)).is_ok());
}

/// Another port is listened on at once; one that is taken changes nothing.
#[test]
fn another_port_touches_no_session() {
    let pair = Pair::new();
    let peers = peer("one", "10.99.0.2", "passive = true");
    let mut speaker = pair.speaker(&peers);
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    let with = |port: u16| config(&format!("listenPort = {port}\n{peers}"), OUR_NETWORKS);
    let listens = |port: u16| {
        let to = ("10.99.0.1", port);
        pair.peer.within(|| TcpStream::connect(to)).is_ok()
    };
    assert!(listens(179) && !listens(1179));
    reloaded(&mut speaker, &with(1179));
    assert!(listens(1179) && !listens(179));
    let taken = pair
        .us
        .within(|| TcpListener::bind("0.0.0.0:1180"))
        .unwrap();
    reloaded(&mut speaker, &with(1180));
    eventually(SOON, "the status tells", || {
        let said = speaker.ctl("status")?;
        let words = ["ConfigurationInForce=False", "1180 is in use"];
        anyhow::ensure!(words.iter().all(|word| said.contains(word)), "{said}");
        Ok(())
    });
    assert!(listens(1179));
    drop(taken);
    reloaded(&mut speaker, &with(0));
    assert!(!listens(1179));
    script.keep_alive(Duration::from_millis(500));
    assert_eq!(speaker.logged(&["session established"]), 1);
    assert_eq!(speaker.logged(&["session down"]), 0);
}

/// Signatures are asked for there as well.
#[test]
fn another_port_knows_the_keys() {
    let pair = Pair::new();
    let signed = peer(
        "one",
        "10.99.0.2",
        "passive = true\npassword = \"correct-horse\"",
    );
    let mut speaker = pair.speaker(&signed);
    eventually(SOON, "it runs", || speaker.says(&["speaker started"]));
    let moved = config(&format!("listenPort = 1179\n{signed}"), OUR_NETWORKS);
    reloaded(&mut speaker, &moved);
    let dials = |key: &str| bird_config("10.99.0.2", "10.99.0.1 port 1179", key);
    let bird = Bird::start(&pair.peer, pair.dir(), &dials("password \"wrong\";")).unwrap();
    throughout(Duration::from_secs(3), "a wrong key is not heard", || {
        pair.kernel_has_now(&[])
    });
    bird.configure(&dials("password \"correct-horse\";"))
        .unwrap();
    pair.kernel_has(&[ROUTE]);
}

/// The file with this route policy for what the peer sends.
fn importing(policy: &str) -> String {
    let peer = peer("one", "10.99.0.2", "passive = true");
    config(&peer.replace("accept-all", policy), OUR_NETWORKS)
}

/// Writes that nobody tells the speaker of: in place, by rename, broken, gone, and right again.
#[test]
fn a_changed_file_is_read_again() {
    let pair = Pair::new();
    let mut speaker = Bgpd::start(&pair.us, pair.dir(), &importing("accept-all")).unwrap();
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, 0]));
    pair.kernel_has(&[ROUTE]);
    let path = pair.dir().join("bgpd.toml");

    fs::write(&path, importing("reject-all")).unwrap();
    pair.kernel_has(&[]);
    let beside = pair.dir().join(".bgpd.toml.swp");
    fs::write(&beside, importing("accept-all")).unwrap();
    fs::rename(&beside, &path).unwrap();
    pair.kernel_has(&[ROUTE]);

    // Everything that is wrong is said, and changes nothing.
    let wrong = importing("gold").replace("holdTimeSeconds", "holdTime");
    fs::write(&path, &wrong).unwrap();
    for words in [
        &[
            "reload refused",
            "peers.one.holdTime: unknown field: did you mean holdTimeSeconds?",
        ],
        &[
            "reload refused",
            "peers.one.importPolicies[0]: there is no route policy",
        ],
        &["reload refused", "running on with the settings in force"],
    ] {
        eventually(SOON, "the wrong file is refused", || speaker.says(words));
    }
    fs::remove_file(&path).unwrap();
    eventually(SOON, "the missing file is refused", || {
        speaker.says(&["reload refused", "cannot read"])
    });
    script.keep_alive(Duration::from_millis(500));
    pair.kernel_has(&[ROUTE]);
    fs::write(&path, importing("reject-all")).unwrap();
    pair.kernel_has(&[]);

    script.keep_alive(Duration::from_millis(500));
    assert_eq!(speaker.logged(&["session down"]), 0);
    assert_eq!(speaker.logged(&["session established"]), 1);
}

/// As a ConfigMap is mounted: the file is a link through a link, and the latter is swapped.
#[test]
fn a_link_that_points_elsewhere_is_followed() {
    let pair = Pair::new();
    let version = |n: u32, policy: &str| {
        let dir = pair.dir().join(format!("..v{n}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("bgpd.toml"), importing(policy)).unwrap();
        symlink(&dir, pair.dir().join("..data_tmp")).unwrap();
        fs::rename(pair.dir().join("..data_tmp"), pair.dir().join("..data")).unwrap();
    };
    version(1, "accept-all");
    symlink("..data/bgpd.toml", pair.dir().join("bgpd.toml")).unwrap();
    // Writes through the links what is there already.
    let speaker = Bgpd::start(&pair.us, pair.dir(), &importing("accept-all")).unwrap();
    let mut script = Script::establish(&pair.peer, "10.99.0.2", "10.99.0.1");
    script.send(&update(&mandatory([10, 99, 0, 2]), &[24, 10, 1, 0]));
    pair.kernel_has(&[ROUTE]);
    version(2, "reject-all");
    pair.kernel_has(&[]);
    fs::remove_dir_all(pair.dir().join("..v1")).unwrap();
    version(3, "accept-all");
    pair.kernel_has(&[ROUTE]);
    script.keep_alive(Duration::from_millis(500));
    assert_eq!(speaker.logged(&["session down"]), 0);
}
