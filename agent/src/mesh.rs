//! The node mesh of a Kubernetes cluster: iBGP between the InternalIPs of all nodes. One decision for the cluster, kept
//! in the status of `BGPConfig/default`. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use roadbed_api::BgpPeerSpec;
use roadbed_api::kinds::{
    AddressFamily, BgpConfigSpec, BgpConfigStatus, MeshDecision, NodeMesh, PeerAs,
};
use roadbed_kube::Node;
use serde_json::json;

/// Nodes of a mesh at most before somebody should think of route reflectors or ToR peers: each of n nodes has n − 1
/// sessions per family.
pub const MESH_MAX: usize = 100;

/// Facts that the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Settings and what was decided.
    pub config: Option<(&'a BgpConfigSpec, &'a BgpConfigStatus)>,
    /// The decision that this agent last saw: an object that is deleted and made again lacks it.
    pub previous: Option<MeshDecision>,
    /// The cluster has a `BGPPeer`.
    pub peers: bool,
    /// Number of nodes.
    pub nodes: usize,
}

impl Cluster<'_> {
    fn wanted(&self) -> NodeMesh {
        self.config
            .map_or(NodeMesh::Auto, |(spec, _)| spec.node_mesh)
    }

    /// The decision as it is stored.
    fn stored(&self) -> Option<MeshDecision> {
        self.config.and_then(|(_, status)| status.node_mesh)
    }

    /// The decision that counts.
    pub fn decided(&self) -> Option<MeshDecision> {
        self.stored().or(self.previous)
    }

    /// The nodes speak with each other now.
    pub fn in_force(&self) -> bool {
        match self.wanted() {
            NodeMesh::Enabled => true,
            NodeMesh::Disabled => false,
            NodeMesh::Auto => self.decided() == Some(MeshDecision::Enabled),
        }
    }

    /// The decision to write; `None` when the stored one stands.
    pub fn decision(&self) -> Option<MeshDecision> {
        let decision = match self.wanted() {
            NodeMesh::Enabled => MeshDecision::Enabled,
            NodeMesh::Disabled => MeshDecision::Disabled,
            NodeMesh::Auto if self.decided() == Some(MeshDecision::Enabled) => {
                MeshDecision::Enabled
            }
            NodeMesh::Auto if self.peers || self.nodes == 0 || self.nodes > MESH_MAX => {
                return None;
            }
            NodeMesh::Auto => MeshDecision::Enabled,
        };
        (self.stored() != Some(decision)).then_some(decision)
    }

    /// The agent must know all nodes, rather than its own.
    pub fn needs_all_nodes(&self) -> bool {
        self.in_force() || (self.wanted() == NodeMesh::Auto && !self.peers)
    }

    /// A size that an operator should know of.
    pub fn problem(&self) -> Option<String> {
        let nodes = self.nodes;
        if nodes <= MESH_MAX {
            return None;
        }
        if self.in_force() {
            return Some(format!(
                "the node mesh has {nodes} nodes, each with {} sessions per family: beyond {MESH_MAX} use BGPPeers (ToR or route reflectors), then spec.nodeMesh: Disabled",
                nodes - 1
            ));
        }
        (self.wanted() == NodeMesh::Auto && !self.peers).then(|| {
            format!("{nodes} nodes are too many for spec.nodeMesh: Auto of BGPConfig/default, which stops at {MESH_MAX}: create BGPPeers, or set Enabled")
        })
    }
}

/// Sessions with all other nodes, one for each family that both have an address of, and nodes that are left out, with
/// the reason.
///
/// `taken` are addresses that declared peers of this node have: those say more.
pub fn sessions(
    this: &str,
    own: [Option<IpAddr>; 2],
    local_as: u32,
    nodes: &[(&Node, u32)],
    taken: &BTreeSet<IpAddr>,
) -> (Vec<(String, BgpPeerSpec)>, Vec<String>) {
    let mut peers = Vec::new();
    let mut problems = Vec::new();
    let mut strangers = Vec::new();
    // This node's own, too: a Node that somebody left behind may have it.
    let mut seen: BTreeSet<IpAddr> = own.into_iter().flatten().collect();
    for (node, asn) in nodes.iter().filter(|(node, _)| node.name != this) {
        if *asn != local_as {
            problems.push(format!(
                "node {} has AS {asn}, this one {local_as}: the node mesh is iBGP and leaves it out; create BGPPeers between them",
                node.name
            ));
            continue;
        }
        let addresses = node.primary();
        let both = own.into_iter().zip(addresses);
        let mut common = 0;
        for (source, address) in both.filter_map(|(own, other)| Some((own?, other?))) {
            common += 1;
            if !seen.insert(address) {
                problems.push(format!(
                    "node {}: {address} is the InternalIP of another node, too; left out of the node mesh",
                    node.name
                ));
                continue;
            }
            if taken.contains(&address) {
                continue;
            }
            let (suffix, family) = match address {
                IpAddr::V4(_) => ("ipv4", AddressFamily::Ipv4Unicast),
                IpAddr::V6(_) => ("ipv6", AddressFamily::Ipv6Unicast),
            };
            if let Some(spec) = session(source, address, family, local_as) {
                peers.push((format!("mesh-{}-{suffix}", node.name), spec));
            }
        }
        if common == 0 {
            strangers.push(node.name.as_str());
        }
    }
    if let Some((first, others)) = strangers.split_first() {
        let others = match others.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        problems.push(format!(
            "node {first}{others}: no InternalIP of a family that this node has; left out of the node mesh"
        ));
    }
    (peers, problems)
}

/// One session. What is no pod route stays out of the mesh: a node is no transit for what its ToR told it.
fn session(
    source: IpAddr,
    address: IpAddr,
    family: AddressFamily,
    local_as: u32,
) -> Option<BgpPeerSpec> {
    let minimal = json!({"address": address, "asNumber": local_as});
    let spec: BgpPeerSpec = serde_json::from_value(minimal).ok()?;
    Some(BgpPeerSpec {
        as_number: PeerAs::Number(local_as),
        source_address: Some(source),
        families: vec![family],
        import_policies: vec!["default".to_owned()],
        export_policies: vec!["default".to_owned()],
        ..spec
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mesh: NodeMesh, decided: Option<MeshDecision>) -> (BgpConfigSpec, BgpConfigStatus) {
        let spec = BgpConfigSpec {
            node_mesh: mesh,
            ..BgpConfigSpec::default()
        };
        (spec, BgpConfigStatus { node_mesh: decided })
    }

    #[track_caller]
    fn check(
        mesh: NodeMesh,
        decided: Option<MeshDecision>,
        (peers, nodes): (bool, usize),
        expected: (bool, Option<MeshDecision>),
    ) {
        let (spec, status) = config(mesh, decided);
        let cluster = Cluster {
            config: Some((&spec, &status)),
            previous: None,
            peers,
            nodes,
        };
        assert_eq!((cluster.in_force(), cluster.decision()), expected);
    }

    #[test]
    fn one_decision_that_only_disabled_takes_back() {
        use MeshDecision::{Disabled, Enabled};
        let (auto, on, off) = (NodeMesh::Auto, NodeMesh::Enabled, NodeMesh::Disabled);
        // Undecided: on as long as nobody configured anything.
        check(auto, None, (false, 3), (false, Some(Enabled)));
        check(auto, None, (true, 3), (false, None));
        check(auto, None, (false, 101), (false, None));
        check(auto, None, (false, 0), (false, None));
        // Decided: the first BGPPeer and node 101 change nothing.
        check(auto, Some(Enabled), (true, 3), (true, None));
        check(auto, Some(Enabled), (true, 101), (true, None));
        // Off and back again.
        check(off, Some(Enabled), (false, 3), (false, Some(Disabled)));
        check(off, Some(Disabled), (false, 3), (false, None));
        check(auto, Some(Disabled), (true, 3), (false, None));
        check(auto, Some(Disabled), (false, 3), (false, Some(Enabled)));
        check(on, None, (true, 500), (true, Some(Enabled)));
        let unset = Cluster {
            config: None,
            previous: None,
            peers: false,
            nodes: 3,
        };
        assert_eq!(unset.decision(), Some(Enabled));
        assert!(unset.needs_all_nodes());
        // Deleted, or made again, beside a peer: the decision stands and is written again.
        let (spec, status) = config(auto, None);
        for config in [None, Some((&spec, &status))] {
            let again = Cluster {
                config,
                previous: Some(Enabled),
                peers: true,
                nodes: 101,
            };
            assert_eq!((again.in_force(), again.decision()), (true, Some(Enabled)));
        }
    }

    #[test]
    fn too_many_nodes_are_told() {
        let problem = |mesh, decided, peers, nodes| {
            let (spec, status) = config(mesh, decided);
            let config = Some((&spec, &status));
            let cluster = Cluster {
                config,
                previous: None,
                peers,
                nodes,
            };
            cluster.problem()
        };
        assert_eq!(problem(NodeMesh::Auto, None, false, 100), None);
        let refused = problem(NodeMesh::Auto, None, false, 101).unwrap();
        assert!(refused.contains("101 nodes are too many"), "{refused}");
        let large = problem(NodeMesh::Auto, Some(MeshDecision::Enabled), true, 101).unwrap();
        assert!(large.contains("each with 100 sessions"), "{large}");
        assert_eq!(problem(NodeMesh::Disabled, None, false, 500), None);
    }

    fn node(name: &str, addresses: &[&str]) -> Node {
        Node {
            name: name.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..Node::default()
        }
    }

    #[test]
    fn one_session_per_node_and_family() {
        let nodes = [
            node("n1", &["10.0.0.1", "fd00::1"]),
            node("n2", &["10.0.0.2", "fd00::2"]),
            node("n3", &["10.0.0.3"]),
            node("n4", &["10.0.0.4"]),
            node("n5", &[]),
        ];
        let with_as: Vec<(&Node, u32)> = nodes
            .iter()
            .map(|n| (n, if n.name == "n4" { 65004 } else { 64512 }))
            .collect();
        let taken = BTreeSet::from(["10.0.0.3".parse().unwrap()]);
        let (peers, problems) = sessions("n1", nodes[0].primary(), 64512, &with_as, &taken);
        let names: Vec<&str> = peers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mesh-n2-ipv4", "mesh-n2-ipv6"]);
        assert_eq!(peers[1].1.families, [AddressFamily::Ipv6Unicast]);
        assert_eq!(peers[1].1.address, Some("fd00::2".parse().unwrap()));
        assert_eq!(peers[1].1.source_address, Some("fd00::1".parse().unwrap()));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("node n4 has AS 65004"),
            "{problems:?}"
        );
        assert!(
            problems[1].starts_with("node n5: no InternalIP"),
            "{problems:?}"
        );
    }
}
