//! A listen range in the store: who connects from it is a peer of the node.

use anyhow::ensure;
use roadbed_tests::site::Site;

use crate::{N1, SOON, check_contains, fails, files};

const RANGE: &str = "apiVersion: roadbed.dev/v1alpha1
kind: BGPPeer
metadata: {name: rack}
spec: {listenRange: 172.31.0.0/31, asNumber: external, holdTimeSeconds: 9, maxSessions: 4}
";

fn write(site: &Site, text: &str) {
    let path = site.path(N1, "/tmp/peer.yaml").unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn who_connects_from_a_range_is_a_peer() {
    let files = files();
    files.write("resources/peer.yaml", RANGE).unwrap();
    let bench = files.up().unwrap();
    let site = &bench.site;
    site.apply(N1).unwrap();
    site.ready(N1).unwrap();
    site.established(N1).unwrap();
    let peers = site.run(N1, "roadbedctl bgp peers").unwrap();
    check_contains(&peers, &["rack/172.31.0.0", "65101", "Established"]);
    let table = site.run(N1, "roadbedctl get bgppeers").unwrap();
    check_contains(&table, &["rack", "172.31.0.0/31", "external"]);
    let yaml = site.run(N1, "roadbedctl get bgppeers -o yaml").unwrap();
    check_contains(&yaml, &["listenRange: 172.31.0.0/31", "asNumber: external"]);

    // A wrong one is refused, with everything that is wrong with it.
    write(
        site,
        &RANGE.replace(
            "maxSessions: 4",
            "maxSessions: 0, port: 179, adress: 10.0.0.1",
        ),
    );
    let refused = fails(site, &["roadbedctl", "apply", "-f", "/tmp/peer.yaml"]);
    check_contains(
        &refused,
        &[
            "spec.adress: unknown field: did you mean address?",
            "spec.maxSessions: 0 admits nobody",
            "spec.port: is for a peer with an address",
        ],
    );

    // What is no matter of the OPEN changes on the session that is up.
    let sessions = |site: &Site| site.status(N1).unwrap().peers[0].established_count;
    let before = sessions(site);
    let open = RANGE.replace(
        "maxSessions: 4",
        "maxSessions: 5, importPolicies: [accept-all]",
    );
    write(site, &open);
    site.run(N1, "roadbedctl apply -f /tmp/peer.yaml").unwrap();
    site.until(SOON, "the router's loopback is let in", || {
        let text = site.run(
            N1,
            "roadbedctl bgp routes 10.255.0.1 --received rack/172.31.0.0",
        )?;
        ensure!(!text.contains("rejected"), "{text}");
        Ok(())
    })
    .unwrap();
    assert_eq!(sessions(site), before);

    site.run(N1, "roadbedctl delete bgppeer rack").unwrap();
    site.until(SOON, "the session is gone with the range", || {
        let peers = site.status(N1)?.peers;
        ensure!(peers.is_empty(), "{peers:?}");
        Ok(())
    })
    .unwrap();
}
