//! The node's identity: what pools and peers select it by, its addresses, its AS. From the agent's file, and in a
//! Kubernetes cluster from its Node, live.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use roadbed_kube::Node;

use crate::config::AgentConfig;

/// The node as of one moment. The agent's file counts before the Node, but for the AS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Labels that pools and peers select by.
    pub labels: BTreeMap<String, String>,
    /// The node's own addresses: source of what it sends to pods, IPv4 its BGP Identifier.
    pub addresses: Vec<IpAddr>,
    /// Announced addresses: all of the file, of a Node those inside the declared node prefixes. An address
    /// on a link that all nodes share needs no route.
    pub announced: Vec<IpAddr>,
    /// The node's AS, when it has one of its own: of its Node, else of the file.
    pub as_number: Option<u32>,
    /// The AS of the file. In a cluster all agents have one file, so it is that of nodes without an AS of their own.
    pub file_as: Option<u32>,
    /// Fault of the Node's annotation or label of the AS. The node then keeps the AS that it had.
    pub problem: Option<String>,
    /// BGP Identifier; absent: there is no IPv4 address to take it from.
    pub router_id: Option<Ipv4Addr>,
}

impl Identity {
    /// From the file and the Node, if there is one. `before` is who the node was.
    pub fn new(
        config: &AgentConfig,
        node: Option<&Node>,
        node_prefixes: &[IpNet],
        before: &Identity,
    ) -> Self {
        let problem = node.and_then(|n| n.problem.clone());
        let kept = before.as_number.filter(|_| problem.is_some());
        let mut labels = node.map(|n| n.labels.clone()).unwrap_or_default();
        labels.extend(config.labels.clone());
        let internal = node.map(Node::primary).unwrap_or_default();
        let internal: Vec<IpAddr> = internal.into_iter().flatten().collect();
        let (addresses, announced) = match config.node_addresses.is_empty() {
            false => (config.node_addresses.clone(), config.node_addresses.clone()),
            true => {
                let declared = |a: &&IpAddr| node_prefixes.iter().any(|p| p.contains(*a));
                let announced = internal.iter().filter(declared).copied().collect();
                (internal, announced)
            }
        };
        let first_v4 = addresses.iter().find_map(|a| match a {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        Self {
            labels,
            announced,
            as_number: node.and_then(|n| n.as_number).or(kept).or(config.as_number),
            file_as: config.as_number,
            problem,
            router_id: config.router_id.or(first_v4),
            addresses,
        }
    }

    /// The node's own address of each family, IPv4 first.
    pub fn prefsrc(&self) -> [Option<IpAddr>; 2] {
        let first = |v4: bool| self.addresses.iter().copied().find(|a| a.is_ipv4() == v4);
        [first(true), first(false)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> AgentConfig {
        let mut all = serde_json::json!({"node": "n1", "labels": {"rack": "r1"}, "store": {"kind": "memory"}});
        all.as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn node() -> Node {
        Node {
            name: "n1".into(),
            labels: BTreeMap::from([("rack".into(), "other".into()), ("zone".into(), "a".into())]),
            addresses: ["10.200.0.11", "10.200.9.11", "fd00::11"]
                .map(|a| a.parse().unwrap())
                .into(),
            as_number: Some(65001),
            ..Node::default()
        }
    }

    #[test]
    fn a_node_fills_what_the_file_leaves_open() {
        let identity = Identity::new(
            &config(serde_json::json!({})),
            Some(&node()),
            &[],
            &Identity::default(),
        );
        assert_eq!(identity.labels["rack"], "r1");
        assert_eq!(identity.labels["zone"], "a");
        let addresses = ["10.200.0.11", "fd00::11"].map(|a| a.parse::<IpAddr>().unwrap());
        assert_eq!(identity.addresses, addresses);
        assert_eq!(identity.announced, [] as [IpAddr; 0]);
        assert_eq!(identity.router_id, Some([10, 200, 0, 11].into()));
        assert_eq!(identity.as_number, Some(65001));
        let prefixes = ["10.200.0.0/24".parse().unwrap()];
        let declared = Identity::new(
            &config(serde_json::json!({})),
            Some(&node()),
            &prefixes,
            &Identity::default(),
        );
        assert_eq!(declared.announced, addresses[..1]);
    }

    #[test]
    fn the_file_counts_first() {
        let file = serde_json::json!({"node_addresses": ["fd00:255::11"], "as_number": 65009, "router_id": "192.0.2.1"});
        let identity = Identity::new(&config(file), Some(&node()), &[], &Identity::default());
        let loopback: IpAddr = "fd00:255::11".parse().unwrap();
        assert_eq!(identity.prefsrc(), [None, Some(loopback)]);
        assert_eq!(identity.announced, [loopback]);
        assert_eq!(
            (identity.as_number, identity.router_id),
            (Some(65001), Some([192, 0, 2, 1].into()))
        );
        assert_eq!(identity.file_as, Some(65009));
        let alone = Identity::new(
            &config(serde_json::json!({})),
            None,
            &[],
            &Identity::default(),
        );
        assert_eq!((alone.addresses.len(), alone.router_id), (0, None));
    }

    #[test]
    fn a_wrong_as_changes_nothing_and_is_told() {
        let wrong = Node {
            as_number: None,
            problem: Some("Node/n1: wrong".into()),
            ..node()
        };
        let config = config(serde_json::json!({}));
        let before = Identity::new(&config, Some(&node()), &[], &Identity::default());
        let now = Identity::new(&config, Some(&wrong), &[], &before);
        assert_eq!(now.as_number, Some(65001));
        assert_eq!(now.problem.as_deref(), Some("Node/n1: wrong"));
        let new = Identity::new(&config, Some(&wrong), &[], &Identity::default());
        assert_eq!(new.as_number, None);
    }
}
