//! Runs the speaker on what the resources and the blocks say: peers that select this node, routes of this node.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::kinds::DEFAULT_BGP_PORT;
use roadbed_api::names::DEFAULT_CLUSTER_AS;
use roadbed_api::{BgpPeerSpec, Problems};
use roadbed_bgpd::ask::{Asking, Question, answer, questions};
use roadbed_bgpd::config::{
    Router, aggregates, clashes, contradictions, med_rules, multipath, seed, sessions,
};
use roadbed_bgpd::{
    ImportContext, LocalRoute, Remains, RouteSource, Speaker, SpeakerConfig, SpeakerOptions,
    StartError,
};
use roadbed_fib::{FibEvents, FibHandle};
use roadbed_kube::Node;
use roadbed_store::StoreConfig;
use tokio::sync::{mpsc, oneshot, watch};

use crate::blocks::{BlockView, Blocks};
use crate::config::AgentConfig;
use crate::identity::Identity;
use crate::mesh;
use crate::resources::Resources;
use crate::sync::Known;

/// Pause between attempts to get the listening socket.
const RETRY: Duration = Duration::from_secs(2);

/// Speaks to the task.
#[derive(Clone)]
pub struct Bgp {
    /// Asks the speaker.
    pub asking: Asking,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl Bgp {
    /// Says goodbye to the peers.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.stop.send(reply).await.is_ok() {
            // It has ended by itself otherwise.
            done.await.ok();
        }
    }
}

struct Task {
    node: String,
    /// The node is one of a Kubernetes cluster, which has an AS by default.
    in_cluster: bool,
    known: watch::Receiver<Known>,
    blocks: Blocks,
    /// Until the speaker starts.
    kernel: Option<Remains>,
    speaker: Option<Speaker>,
    problem: Option<String>,
    /// It listens on another port than it should.
    port_taken: bool,
}

/// Starts the task; it runs until it is told to stop.
pub fn start(
    config: &AgentConfig,
    known: watch::Receiver<Known>,
    blocks: Blocks,
    fib: FibHandle,
    events: FibEvents,
) -> Bgp {
    let (asking, questions) = questions();
    let (stop, stopped) = mpsc::channel(1);
    let task = Task {
        node: config.node.clone(),
        in_cluster: matches!(config.store, StoreConfig::Kubernetes(_)),
        known,
        blocks,
        kernel: Some(Remains::none(fib, events)),
        speaker: None,
        problem: None,
        port_taken: false,
    };
    tokio::spawn(task.run(questions, stopped));
    Bgp { asking, stop }
}

impl Task {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut stopped: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let mut known = self.known.clone();
        let mut view = self.blocks.watch();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut retry = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => answer(question, self.speaker.as_ref(), self.problem.as_deref()).await,
                    None => return,
                },
                reply = stopped.recv() => {
                    if let Some(speaker) = self.speaker.take() {
                        speaker.stop("agent stopped").await;
                    }
                    reply.map(|reply| reply.send(()));
                    return;
                }
                changed = known.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.apply().await;
                }
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.apply().await;
                }
                _ = retry.tick(), if self.speaker.is_none() || self.port_taken => self.apply().await,
                _ = second.tick() => if let Some(speaker) = &mut self.speaker {
                    speaker.finish_adoption().await;
                },
            }
        }
    }

    /// Brings the speaker to what is known now.
    async fn apply(&mut self) {
        let (resources, identity) = {
            let known = self.known.borrow();
            (known.resources.clone(), known.identity.clone())
        };
        let Some(resources) = resources else {
            return;
        };
        let problem = self.try_apply(&resources, &identity).await.err();
        if let Some(problem) = problem
            .as_ref()
            .filter(|p| self.problem.as_ref() != Some(p))
        {
            tracing::error!(%problem, "BGP");
        }
        self.problem = problem;
    }

    async fn try_apply(
        &mut self,
        resources: &Resources,
        identity: &Identity,
    ) -> Result<(), String> {
        let options = options(self.in_cluster, identity, resources)?;
        let another = |running: &mut Speaker| !running.options().is_same_speaker(&options);
        if let Some(running) = self.speaker.take_if(another) {
            tracing::warn!(local_as = options.local_as, router_id = %options.router_id, "another AS or BGP Identifier: all sessions are reset");
            self.kernel = running.hand_over("another AS or BGP Identifier").await;
        }
        if self.speaker.is_none() {
            let Some(kernel) = self.kernel.take() else {
                return Err("the speaker ended: restart the agent".into());
            };
            match Speaker::start(options.clone(), kernel) {
                Ok(speaker) => self.speaker = Some(speaker),
                Err(refused) => {
                    let (error, kernel) = *refused;
                    self.kernel = Some(kernel);
                    return Err(start_problem(&error));
                }
            }
            tracing::info!(local_as = options.local_as, router_id = %options.router_id, port = options.listen_port, "speaker started");
        }
        let Some(speaker) = &mut self.speaker else {
            return Ok(());
        };
        let (config, mut problems) = speaker_config(&self.node, identity, resources, &options);
        let adjusted = speaker.adjust(&options).await;
        self.port_taken = adjusted.is_err();
        problems.extend(adjusted.err().map(|error| error.to_string()));
        let routes = origination(identity, &self.blocks.view());
        let closed = "the RIB thread has ended: restart the agent";
        speaker.configure(config).await.map_err(|_| closed)?;
        speaker.originate(&routes).await.map_err(|_| closed)?;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }
}

fn start_problem(error: &StartError) -> String {
    format!("the speaker cannot start, trying again: {error}")
}

/// Who this node is in BGP.
fn options(
    in_cluster: bool,
    identity: &Identity,
    resources: &Resources,
) -> Result<SpeakerOptions, String> {
    let bgp = resources.bgp.as_ref().map(|c| &c.spec);
    if let (None, Some(problem)) = (identity.as_number, &identity.problem) {
        return Err(problem.clone());
    }
    let local_as = identity
        .as_number
        .or(bgp.and_then(|b| b.as_number))
        .or(in_cluster.then_some(DEFAULT_CLUSTER_AS))
        .ok_or("no AS: set as_number in the agent's file or asNumber in BGPConfig/default")?;
    let router_id = identity.router_id.ok_or(match in_cluster {
        true => "no BGP Identifier: the Node has no IPv4 InternalIP; set router_id in the agent's file",
        false => "no BGP Identifier: set router_id or an IPv4 address in node_addresses in the agent's file",
    })?;
    Ok(SpeakerOptions {
        local_as,
        router_id,
        cluster_id: bgp.and_then(|b| b.cluster_id).unwrap_or(router_id),
        listen_port: bgp.and_then(|b| b.listen_port).unwrap_or(DEFAULT_BGP_PORT),
        seed: seed(),
    })
}

/// Sessions of the node mesh that this node has, and what is wrong with it.
pub fn mesh(
    node: &str,
    identity: &Identity,
    resources: &Resources,
    local_as: u32,
) -> (Vec<(String, BgpPeerSpec)>, Vec<String>) {
    let cluster = resources.cluster();
    let mut problems: Vec<String> = cluster.problem().into_iter().collect();
    if !cluster.in_force() {
        return (Vec::new(), problems);
    }
    let bgp = resources.bgp.as_ref().map(|c| &c.spec);
    let usual = identity
        .file_as
        .or(bgp.and_then(|b| b.as_number))
        .unwrap_or(DEFAULT_CLUSTER_AS);
    let nodes: Vec<(&Node, u32)> = resources
        .nodes
        .iter()
        .map(|n| (n, n.as_number.unwrap_or(usual)))
        .collect();
    let taken = resources
        .peers
        .iter()
        .filter(|peer| selects(&peer.spec, identity))
        .filter_map(|peer| peer.spec.address)
        .collect();
    // The others know this node by the InternalIPs of its Node, whatever addresses the file gives it.
    let own = resources.nodes.iter().find(|n| n.name == node);
    let own = own.map_or_else(|| identity.prefsrc(), Node::primary);
    let (peers, found) = mesh::sessions(node, own, local_as, &nodes, &taken);
    problems.extend(found);
    problems.extend(resources.nodes.iter().filter_map(|n| n.problem.clone()));
    (peers, problems)
}

fn selects(peer: &BgpPeerSpec, identity: &Identity) -> bool {
    let selector = peer.node_selector.as_ref();
    selector.is_none_or(|s| s.matches(&identity.labels))
}

/// Peers and listen ranges that select this node, and what is wrong with any. A policy that does not exist lets nothing
/// pass until it does.
fn speaker_config(
    node: &str,
    identity: &Identity,
    resources: &Resources,
    options: &SpeakerOptions,
) -> (SpeakerConfig, Vec<String>) {
    let (mesh, _) = mesh(node, identity, resources, options.local_as);
    let of_mesh: BTreeSet<&str> = mesh.iter().map(|(name, _)| name.as_str()).collect();
    let mut problems = Vec::new();
    let mut peers: Vec<_> = resources
        .peers
        .iter()
        .filter(|peer| selects(&peer.spec, identity))
        .map(|peer| (peer.name(), &peer.spec))
        .collect();
    peers.retain(|(name, _)| {
        let free = !of_mesh.contains(name);
        if !free {
            problems.push(format!(
                "BGPPeer/{name}: metadata.name: is the name of a session of the node mesh; left out until it has another name"
            ));
        }
        free
    });
    peers.extend(mesh.iter().map(|(name, spec)| (name.as_str(), spec)));
    problems.extend(identity.problem.clone());
    for clash in clashes(&peers) {
        let (name, field, message) = (clash.peer, clash.field, clash.message);
        let then = match clash.excludes {
            true => "; left out until one is deleted or its nodeSelector narrowed",
            false => "",
        };
        problems.push(format!("BGPPeer/{name}: spec.{field}: {message}{then}"));
        peers.retain(|(peer, _)| !clash.excludes || *peer != name);
    }
    let bgp = resources.bgp.as_ref().map(|c| &c.spec);
    let router = Router {
        local_as: options.local_as,
        router_id: options.router_id,
        policies: &resources.policies,
        graceful_shutdown: bgp.is_some_and(|b| b.graceful_shutdown),
    };
    for (name, spec) in &peers {
        let mut found = Problems::new();
        let local_as = Some(options.local_as);
        contradictions(spec, local_as, &resources.policies, "spec", &mut found);
        problems.extend(
            found
                .iter()
                .map(|found| format!("BGPPeer/{name}: {}: {}", found.path, found.message)),
        );
    }
    let (peers, ranges) = sessions(peers, &router);
    let speaker = SpeakerConfig {
        peers,
        ranges,
        import: ImportContext {
            pools: resources.pools.iter().map(|p| p.spec.cidr).collect(),
            node_prefixes: resources.node_prefixes(),
            accept_default_route: bgp.is_some_and(|b| b.accept_default_route),
        },
        med: bgp.map(med_rules).unwrap_or_default(),
        aggregates: bgp.map(aggregates).unwrap_or_default(),
        multipath: bgp.map_or_else(|| multipath(&Default::default()), multipath),
        prefsrc: identity.prefsrc(),
        install_routes: true,
        stations: bgp
            .iter()
            .flat_map(|b| &b.bmp)
            .map(|(name, station)| (name.clone(), station.into()))
            .collect(),
    };
    (speaker, problems)
}

/// Own confirmed blocks and node addresses.
fn origination(identity: &Identity, view: &BlockView) -> Vec<LocalRoute> {
    let blocks = view.blocks.iter().map(|block| LocalRoute {
        prefix: block.cidr,
        source: RouteSource::OwnBlock,
        attributes: None,
    });
    let node = identity.announced.iter().map(|address| LocalRoute {
        prefix: IpNet::from(*address),
        source: RouteSource::Node,
        attributes: None,
    });
    blocks.chain(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadbed_api::{Metadata, Resource};

    fn identity() -> Identity {
        let json = serde_json::json!({
            "node": "n1", "labels": {"rack": "r1"}, "node_addresses": ["10.255.0.11"], "store": {"kind": "memory"},
        });
        let config: AgentConfig = serde_json::from_value(json).unwrap();
        Identity::new(&config, None, &[], &Identity::default())
    }

    fn peer(name: &str, spec: serde_json::Value) -> Resource<roadbed_api::BgpPeerSpec> {
        Resource::new(Metadata::named(name), serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn peers_are_selected_by_labels_and_addresses_are_used_once() {
        let resources = Resources {
            peers: vec![
                peer(
                    "a",
                    serde_json::json!({"address": "192.0.2.1", "asNumber": 65101, "nodeSelector": {"matchLabels": {"rack": "r1"}}}),
                ),
                peer(
                    "b",
                    serde_json::json!({"address": "192.0.2.2", "asNumber": 65101, "nodeSelector": {"matchLabels": {"rack": "r2"}}}),
                ),
                peer(
                    "c",
                    serde_json::json!({"address": "192.0.2.1", "asNumber": 65102}),
                ),
            ],
            ..Resources::default()
        };
        let options = SpeakerOptions {
            local_as: 65001,
            router_id: [10, 255, 0, 11].into(),
            cluster_id: [10, 255, 0, 11].into(),
            listen_port: 179,
            seed: 0,
        };
        let (speaker, problems) = speaker_config("n1", &identity(), &resources, &options);
        assert_eq!(speaker.peers.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("BGPPeer/c: spec.address: ")
                && problems[0].contains("peer \"a\""),
            "{problems:?}"
        );
    }

    #[test]
    fn what_keeps_the_speaker_from_starting_is_named() {
        let mut identity = identity();
        let refused = |identity: &Identity, in_cluster| {
            options(in_cluster, identity, &Resources::default())
                .map(|o| (o.local_as, o.listen_port))
        };
        assert!(refused(&identity, false).unwrap_err().contains("as_number"));
        assert_eq!(refused(&identity, true), Ok((64512, 179)));
        identity.as_number = Some(65001);
        assert_eq!(refused(&identity, false), Ok((65001, 179)));
        identity.router_id = None;
        assert!(refused(&identity, false).unwrap_err().contains("router_id"));
        assert!(refused(&identity, true).unwrap_err().contains("InternalIP"));
    }
}
