//! What the speaker shows: sessions at length, and routes with all that is known of them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

use super::report::{PeerReport, RouteOrigin};
use crate::kinds::RouteMonitoring;

/// Answer to `GET /v1/bgp/peers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeers {
    /// The node that answers.
    pub node: String,
    /// In the order of their names.
    pub peers: Vec<BgpPeer>,
}

/// Answer to `GET /v1/bgp/peers/{name}`: all that is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeer {
    /// As in the node's status.
    #[serde(flatten)]
    pub report: PeerReport,
    /// What both sides agreed on, while Established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<BgpSession>,
    /// Messages by type, as RFC 4271 §4 and RFC 2918 call them.
    #[serde(default)]
    pub messages: BTreeMap<String, MessageCounts>,
    /// TCP connections.
    #[serde(default)]
    pub connections: ConnectionCounts,
    /// Seconds since `lastError`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_seconds: Option<u64>,
}

/// What both sides of a session agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpSession {
    /// Seconds between our KEEPALIVEs, before jitter.
    pub keepalive_seconds: u64,
    /// Longest message that we may send, octets.
    pub max_send: u64,
    /// Longest message that the peer may send, octets.
    pub max_receive: u64,
    /// What is in force, in words.
    pub capabilities: Vec<String>,
    /// What the peer offered, in words, in its order.
    pub peer_capabilities: Vec<String>,
}

/// Answer to `GET /v1/bgp/bmp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmpStations {
    /// The node that answers.
    pub node: String,
    /// In the order of their names.
    pub stations: Vec<BmpStationReport>,
}

/// A BMP station and its connection to the collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmpStationReport {
    /// As in `BGPConfig`.
    pub name: String,
    /// Address and port of the collector.
    pub collector: String,
    /// Which side of the import policy is told.
    pub route_monitoring: RouteMonitoring,
    /// `connecting`, `sending` (what is there), `synced` (what changes), or `waiting` for the next attempt.
    pub state: String,
    /// Seconds since it is in that state.
    pub state_seconds: u64,
    /// Connections so far.
    pub connected_count: u64,
    /// BMP messages written.
    pub messages: u64,
    /// Octets written.
    pub octets: u64,
    /// Why the last connection or attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Messages of one type since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// TCP connections since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionCounts {
    /// Dialled by us.
    pub dialled: u64,
    /// Of the peer, taken.
    pub accepted: u64,
    /// Of the peer, refused at once.
    pub refused: u64,
    /// Ended before Established, collisions not counted.
    pub failed: u64,
    /// Closed because another one to the same peer was better (RFC 4271 §6.8).
    pub collisions: u64,
    /// Sessions that left Established.
    pub dropped: u64,
}

/// One path: a line of the answer to `GET /v1/bgp/rib`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoute {
    /// Destination.
    pub prefix: IpNet,
    /// Where it comes from.
    pub origin: RouteOrigin,
    /// The peer that sent it; absent for a route of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Path identifier as received (RFC 7911).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub path_id: u32,
    /// Whether it is the best path of its prefix.
    pub best: bool,
    /// Whether it shares the traffic of the best path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multipath: bool,
    /// Why it is or is not best: the deciding step of RFC 4271 §9.1.2, or why it is not eligible.
    pub why: String,
    /// Why the import policy rejects it; absent when it is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// Left over from an ended session, or not repeated by the refresh under way.
    #[serde(default)]
    pub stale: bool,
    /// Seconds since it was received.
    pub age_seconds: u64,
    /// Next hop; absent: this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Whether the next hop resolves.
    pub next_hop_state: NextHopReport,
    /// After relation and import policy.
    pub attributes: RouteAttributes,
    /// As received, where that was changed on the way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<ReceivedRoute>,
    /// What a peer is sent of it, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<Advertised>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Whether a next hop resolves (RFC 4271 §9.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum NextHopReport {
    /// This node itself.
    Own,
    /// A foreign route leads there.
    Resolved {
        /// Cost of that route; 0 when directly connected.
        #[serde(rename = "igpCost")]
        igp_cost: u32,
    },
    /// No foreign route leads there.
    Unresolved,
    /// Not answered yet.
    Pending,
}

/// A route as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedRoute {
    /// Next hop as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Attributes as received.
    pub attributes: RouteAttributes,
}

/// Path attributes in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAttributes {
    /// ORIGIN.
    pub origin: String,
    /// AS_PATH, as `65101 65000`.
    pub as_path: String,
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Communities (RFC 1997), the well-known ones by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// Extended communities (RFC 4360).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_communities: Vec<String>,
    /// Large communities (RFC 8092).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_communities: Vec<String>,
    /// ORIGINATOR_ID (RFC 4456).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_list: Vec<Ipv4Addr>,
    /// AGGREGATOR: AS and router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// ATOMIC_AGGREGATE is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic_aggregate: bool,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_to_customer: Option<u32>,
}

/// What a peer is sent of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advertised {
    /// Attributes as sent; absent: the path is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<RouteAttributes>,
    /// Next hop as sent; absent beside attributes: our own address on that session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Path identifier as sent (RFC 7911).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub path_id: u32,
    /// Why the path is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// Which routes `GET /v1/bgp/rib` tells: its query string. At most one of `received` and `advertised`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RibQuery {
    /// Only prefixes inside this one or around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<IpNet>,
    /// Adj-RIB-In of this peer, rejected paths included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// Adj-RIB-Out of this peer; with `prefix` also what it is not sent, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<String>,
}

impl RibQuery {
    /// Path and query string that ask for this.
    pub fn path(&self) -> String {
        let prefix = self.prefix.map(|p| p.to_string());
        let pairs = [
            ("prefix", prefix.as_deref()),
            ("received", self.received.as_deref()),
            ("advertised", self.advertised.as_deref()),
        ];
        let mut path = super::BGP_RIB.to_owned();
        for (name, value) in pairs {
            if let Some(value) = value {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(name);
                path.push('=');
                path.push_str(&percent_encoded(value));
            }
        }
        path
    }
}

/// Path of one peer.
pub fn bgp_peer_path(name: &str) -> String {
    format!("{}/{}", super::BGP_PEERS, percent_encoded(name))
}

/// RFC 3986 §2.1, for whatever a person typed.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T>(value: &T) -> serde_json::Value
    where
        T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let json = serde_json::to_value(value).unwrap();
        assert_eq!(serde_json::from_value::<T>(json.clone()).unwrap(), *value);
        json
    }

    #[test]
    fn a_peer_has_the_fields_of_the_status_and_more() {
        let families = BTreeMap::from([(
            crate::kinds::AddressFamily::Ipv4Unicast,
            super::super::FamilyCounts::default(),
        )]);
        let peer = BgpPeer {
            report: PeerReport {
                name: "tor1".into(),
                families,
                ..PeerReport::default()
            },
            session: Some(BgpSession {
                capabilities: vec!["route refresh".into()],
                ..BgpSession::default()
            }),
            messages: BTreeMap::from([(
                "UPDATE".into(),
                MessageCounts {
                    received: 3,
                    sent: 4,
                },
            )]),
            ..BgpPeer::default()
        };
        let json = round_trip(&peer);
        assert_eq!(json["name"], "tor1");
        assert_eq!(json["messages"]["UPDATE"]["sent"], 4);
        round_trip(&BgpPeers {
            node: "n1".into(),
            peers: vec![peer],
        });
    }

    #[test]
    fn a_route_round_trips() {
        let mut route = BgpRoute {
            prefix: "10.244.0.0/26".parse().unwrap(),
            origin: RouteOrigin::Bgp,
            peer: Some("tor1".into()),
            path_id: 0,
            best: true,
            multipath: false,
            why: "best: the only path".into(),
            rejected: None,
            stale: false,
            age_seconds: 7,
            next_hop: Some("192.0.2.1".into()),
            next_hop_state: NextHopReport::Resolved { igp_cost: 5 },
            attributes: RouteAttributes {
                origin: "IGP".into(),
                communities: vec!["65000:1".into()],
                ..RouteAttributes::default()
            },
            received: None,
            advertised: None,
        };
        let json = round_trip(&route);
        assert_eq!(
            json["nextHopState"],
            serde_json::json!({"state": "resolved", "igpCost": 5})
        );
        assert!(json.get("pathId").is_none() && json.get("advertised").is_none());
        route.next_hop_state = NextHopReport::Own;
        route.path_id = 9;
        route.received = Some(ReceivedRoute::default());
        route.advertised = Some(Advertised {
            attributes: None,
            next_hop: None,
            path_id: 4,
            why_not: Some("not the best path".into()),
        });
        assert_eq!(round_trip(&route)["pathId"], 9);
    }

    #[test]
    fn queries_are_encoded() {
        let check = |query: RibQuery, expected: &str| assert_eq!(query.path(), expected);
        check(RibQuery::default(), "/v1/bgp/rib");
        check(
            RibQuery {
                prefix: Some("fd00::/64".parse().unwrap()),
                advertised: Some("tor 1&x=é".into()),
                ..RibQuery::default()
            },
            "/v1/bgp/rib?prefix=fd00%3A%3A%2F64&advertised=tor%201%26x%3D%C3%A9",
        );
        assert_eq!(bgp_peer_path("a/b"), "/v1/bgp/peers/a%2Fb");
    }
}
