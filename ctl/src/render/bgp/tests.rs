use std::collections::BTreeMap;

use roadbed_api::agent::{
    Advertised, BgpSession, ConnectionCounts, FamilyCounts, MessageCounts, PeerReport,
    ReceivedRoute,
};

use super::*;

fn check(found: &str, expected: &str) {
    assert_eq!(found, expected, "\n{found}");
}

fn peer() -> BgpPeer {
    let counts = FamilyCounts {
        received: 12,
        accepted: 9,
        advertised: 2,
        end_of_rib: true,
    };
    BgpPeer {
        report: PeerReport {
            name: "tor1".into(),
            address: "10.1.0.1".into(),
            as_number: 65101,
            local_as_number: 65001,
            state: "Established".into(),
            state_seconds: 192,
            peer_router_id: Some("10.255.1.1".parse().unwrap()),
            hold_time_seconds: Some(90),
            families: BTreeMap::from([(AddressFamily::Ipv4Unicast, counts)]),
            established_count: 2,
            last_error: Some("the peer said \u{1b}[2J".into()),
            update_faults: BTreeMap::from([
                ("attribute-discard: attribute 7: length".into(), 3),
                ("treat-as-withdraw: attribute 1: value".into(), 1),
            ]),
            warnings: vec!["9 of 10 prefixes".into()],
        },
        session: Some(BgpSession {
            keepalive_seconds: 30,
            max_send: 4096,
            max_receive: 65535,
            capabilities: vec!["ipv4-unicast".into(), "route refresh".into()],
            peer_capabilities: vec!["four-octet AS 65101".into()],
        }),
        messages: BTreeMap::from([
            (
                "KEEPALIVE".into(),
                MessageCounts {
                    received: 7,
                    sent: 8,
                },
            ),
            (
                "UPDATE".into(),
                MessageCounts {
                    received: 4,
                    sent: 2,
                },
            ),
        ]),
        connections: ConnectionCounts {
            dialled: 3,
            accepted: 1,
            dropped: 1,
            ..ConnectionCounts::default()
        },
        last_error_seconds: Some(200),
    }
}

fn route(prefix: &str, peer: Option<&str>) -> BgpRoute {
    BgpRoute {
        prefix: prefix.parse().unwrap(),
        origin: match peer {
            Some(_) => RouteOrigin::Bgp,
            None => RouteOrigin::Block,
        },
        peer: peer.map(str::to_owned),
        path_id: 0,
        best: true,
        multipath: false,
        why: "best: the only path".into(),
        rejected: None,
        stale: false,
        age_seconds: 61,
        next_hop: peer.map(|_| "10.1.0.1".to_owned()),
        next_hop_state: match peer {
            Some(_) => NextHopReport::Resolved { igp_cost: 0 },
            None => NextHopReport::Own,
        },
        attributes: RouteAttributes {
            origin: "IGP".into(),
            as_path: if peer.is_some() { "65101" } else { "" }.into(),
            ..RouteAttributes::default()
        },
        received: None,
        advertised: None,
    }
}

fn rib() -> Vec<BgpRoute> {
    let mut second = route("10.244.1.0/26", Some("tor2"));
    second.best = false;
    second.why = "not eligible: rejected by import policy".into();
    second.rejected = Some("denied".into());
    second.stale = true;
    second.next_hop_state = NextHopReport::Unresolved;
    second.attributes.communities = vec!["65000:1".into(), "NO_EXPORT".into()];
    second.attributes.med = Some(7);
    let mut received = second.attributes.clone();
    received.med = Some(9);
    second.received = Some(ReceivedRoute {
        next_hop: Some("10.1.0.9".into()),
        attributes: received,
    });
    vec![
        route("10.244.0.0/26", None),
        route("10.244.1.0/26", Some("tor1")),
        second,
    ]
}

#[test]
fn sessions() {
    check(
        &bgp_peers(&[peer()], false),
        "\
NAME  ADDRESS   AS     STATE        SINCE  MSG IN/OUT  IPV4 IN/OUT  IPV6 IN/OUT
tor1  10.1.0.1  65101  Established  3m12s  11/10       12/2         -
",
    );
    let wide = bgp_peers(&[peer()], true);
    for part in [
        "ipv4-unicast,route refresh",
        "90s",
        "  4 ",
        "the peer said \u{fffd}[2J",
    ] {
        assert!(wide.contains(part), "{wide}\nlacks {part}");
    }
    check(
        &bgp_peers(&[], false),
        "No peers: this node speaks BGP with nobody (no BGPPeer selects it).\n",
    );
}

#[test]
fn one_session() {
    check(
        &bgp_peer(&peer()),
        "\
Peer             tor1
Address          10.1.0.1
AS               65101 (ours 65001)
State            Established, up 3m12s
Established      2 times
Last error       the peer said \u{fffd}[2J (3m20s ago)
Router ID        10.255.1.1
Timers           hold 90s, keepalive 30s
Longest message  65535 in, 4096 out
In force         ipv4-unicast, route refresh
Peer offers      four-octet AS 65101
ipv4-unicast     12 received, 9 accepted, 2 advertised; End-of-RIB received
Warning          9 of 10 prefixes
Connections      3 dialled, 1 accepted, 0 refused, 0 failed, 0 in collision, 1 sessions dropped

MESSAGES   IN  OUT
KEEPALIVE  7   8
UPDATE     4   2

UPDATE FAULTS      COUNT  WHAT
attribute-discard  3      attribute 7: length
treat-as-withdraw  1      attribute 1: value
",
    );
    let text = bgp_peer(&BgpPeer::default());
    assert!(text.contains("No UPDATE faults"), "{text}");
}

#[test]
fn routes_of_the_rib() {
    check(
        &bgp_routes(&rib(), RouteSide::All, false),
        "\
PREFIX         FROM     NEXT HOP  AS PATH  PREF  MED  BEST  WHY
10.244.0.0/26  (block)  -         -        -     -    yes   best: the only path
10.244.1.0/26  tor1     10.1.0.1  65101    -     -    yes   best: the only path
               tor2     10.1.0.1  65101    -     7    no    not eligible: rejected by import policy (denied)
",
    );
    let mut sharing = rib();
    sharing[2].multipath = true;
    let text = bgp_routes(&sharing, RouteSide::All, false);
    assert!(text.contains("  ecmp  "), "{text}");
    let wide = bgp_routes(&rib(), RouteSide::All, true);
    for part in [
        "65000:1,NO_EXPORT",
        "resolved, cost 0",
        "UNRESOLVED",
        "1m01s",
        "stale",
    ] {
        assert!(wide.contains(part), "{wide}\nlacks {part}");
    }
    check(&bgp_routes(&[], RouteSide::All, false), "No routes.\n");
}

#[test]
fn routes_as_received() {
    let received: Vec<BgpRoute> = rib().split_off(2);
    check(
        &bgp_routes(&received, RouteSide::Received, false),
        "\
PREFIX         FROM  NEXT HOP  AS PATH  PREF  MED  ACCEPTED  WHY
10.244.1.0/26  tor2  10.1.0.9  65101    -     9    no        not eligible: rejected by import policy (denied)
",
    );
}

#[test]
fn routes_as_sent() {
    let mut routes = rib();
    routes.truncate(2);
    routes[0].advertised = Some(Advertised {
        attributes: Some(RouteAttributes {
            as_path: "65001".into(),
            ..RouteAttributes::default()
        }),
        next_hop: None,
        path_id: 0,
        why_not: None,
    });
    routes[1].advertised = Some(Advertised {
        attributes: None,
        next_hop: None,
        path_id: 0,
        why_not: Some("split horizon: the peer is its source".into()),
    });
    check(
        &bgp_routes(&routes, RouteSide::Advertised, false),
        "\
PREFIX         FROM     NEXT HOP  AS PATH  PREF  MED  SENT  WHY
10.244.0.0/26  (block)  self      65001    -     -    yes   best: the only path
10.244.1.0/26  tor1     10.1.0.1  65101    -     -    no    split horizon: the peer is its source
",
    );
}

#[test]
fn stations_have_a_row_each() {
    let station = BmpStationReport {
        name: "noc".into(),
        collector: "192.0.2.9:11019".into(),
        route_monitoring: roadbed_api::kinds::RouteMonitoring::Both,
        state: "synced".into(),
        state_seconds: 192,
        connected_count: 2,
        messages: 77,
        octets: 12345,
        last_error: Some("closed by the collector".into()),
    };
    check(
        &bmp_stations(std::slice::from_ref(&station), true),
        "NAME  COLLECTOR        MONITORS  STATE   SINCE  MESSAGES  CONNECTIONS  OCTETS  LAST ERROR\n\
         noc   192.0.2.9:11019  both      synced  3m12s  77        2            12345   closed by the collector\n",
    );
    let none = "No BMP stations: BGPConfig has none under bmp.\n";
    check(&bmp_stations(&[], false), none);
}

#[test]
fn path_identifiers_as_received_and_as_sent() {
    let mut routes = rib();
    routes.truncate(2);
    routes[1].path_id = 7;
    let advertised = Advertised {
        attributes: Some(routes[1].attributes.clone()),
        next_hop: None,
        path_id: 3,
        why_not: None,
    };
    routes[1].advertised = Some(advertised);
    check(
        &bgp_routes(&routes, RouteSide::All, false),
        "\
PREFIX         FROM     PATH ID  NEXT HOP  AS PATH  PREF  MED  BEST  WHY
10.244.0.0/26  (block)  -        -         -        -     -    yes   best: the only path
10.244.1.0/26  tor1     7        10.1.0.1  65101    -     -    yes   best: the only path
",
    );
    let sent = bgp_routes(&routes[1..], RouteSide::Advertised, false);
    assert!(sent.contains("tor1  3        self"), "{sent}");
}
