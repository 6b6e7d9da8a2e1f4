//! SIGHUP: what changes, and that a session does not notice.

use roadbed_tests::wait::eventually;

use crate::fixture::{OUR_NETWORKS, Pair, SOON, config, peer};
use crate::script::{Script, UPDATE, mandatory, update};

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
    one.keep_alive(std::time::Duration::from_secs(1));
    two.keep_alive(std::time::Duration::from_secs(1));

    // A peer less: it is told, the first stays.
    speaker.reload(&config(&first, &networks)).unwrap();
    let words = two.last_words().unwrap();
    assert_eq!(words[..2], [6, 3], "Cease, Peer De-configured: {words:?}");
    one.keep_alive(std::time::Duration::from_secs(1));
    pair.kernel_has(&[ROUTE]);
    assert_eq!(speaker.logged(&["session established", "one"]), 1);
    assert_eq!(speaker.logged(&["session down", "one"]), 0);
}

#[test]
fn a_changed_hold_time_does_not_reset_a_changed_as_does() {
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
    script.keep_alive(std::time::Duration::from_secs(1));
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
