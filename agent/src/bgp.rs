//! Runs the speaker on what the resources and the blocks say: peers that select this node, routes of this node.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::Problems;
use roadbed_api::kinds::DEFAULT_BGP_PORT;
use roadbed_bgpd::ask::{Asking, Question, answer, questions};
use roadbed_bgpd::config::{
    Router, aggregates, clashes, contradictions, med_rules, multipath, seed, sessions,
};
use roadbed_bgpd::{
    ImportContext, LocalRoute, Remains, RouteSource, Speaker, SpeakerConfig, SpeakerOptions,
    StartError,
};
use roadbed_fib::{FibEvents, FibHandle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::blocks::{BlockView, Blocks};
use crate::config::AgentConfig;
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
    config: AgentConfig,
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
        config: config.clone(),
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
        let Some(resources) = self.known.borrow().resources.clone() else {
            return;
        };
        let problem = self.try_apply(&resources).await.err();
        if let Some(problem) = problem
            .as_ref()
            .filter(|p| self.problem.as_ref() != Some(p))
        {
            tracing::error!(%problem, "BGP");
        }
        self.problem = problem;
    }

    async fn try_apply(&mut self, resources: &Arc<Resources>) -> Result<(), String> {
        let options = options(&self.config, resources)?;
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
        let (config, mut problems) = speaker_config(&self.config, resources, &options);
        let adjusted = speaker.adjust(&options).await;
        self.port_taken = adjusted.is_err();
        problems.extend(adjusted.err().map(|error| error.to_string()));
        let routes = origination(&self.config, &self.blocks.view());
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
fn options(config: &AgentConfig, resources: &Resources) -> Result<SpeakerOptions, String> {
    let bgp = resources.bgp.as_ref().map(|c| &c.spec);
    let local_as = config
        .as_number
        .or(bgp.and_then(|b| b.as_number))
        .ok_or("no AS: set as_number in the agent's file or asNumber in BGPConfig/default")?;
    let router_id = config.bgp_id().ok_or(
        "no BGP Identifier: set router_id or an IPv4 address in node_addresses in the agent's file",
    )?;
    Ok(SpeakerOptions {
        local_as,
        router_id,
        cluster_id: bgp.and_then(|b| b.cluster_id).unwrap_or(router_id),
        listen_port: bgp.and_then(|b| b.listen_port).unwrap_or(DEFAULT_BGP_PORT),
        seed: seed(),
    })
}

/// Peers and listen ranges that select this node, and what is wrong with any. A policy that does not exist lets nothing
/// pass until it does.
fn speaker_config(
    config: &AgentConfig,
    resources: &Resources,
    options: &SpeakerOptions,
) -> (SpeakerConfig, Vec<String>) {
    let mut problems = Vec::new();
    let mut peers: Vec<_> = resources
        .peers
        .iter()
        .filter(|peer| {
            let selector = peer.spec.node_selector.as_ref();
            selector.is_none_or(|s| s.matches(&config.labels))
        })
        .map(|peer| (peer.name(), &peer.spec))
        .collect();
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
        prefsrc: config.prefsrc(),
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
fn origination(config: &AgentConfig, view: &BlockView) -> Vec<LocalRoute> {
    let blocks = view.blocks.iter().map(|block| LocalRoute {
        prefix: block.cidr,
        source: RouteSource::OwnBlock,
        attributes: None,
    });
    let node = config.node_addresses.iter().map(|address| LocalRoute {
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

    fn config() -> AgentConfig {
        let json = serde_json::json!({
            "node": "n1", "labels": {"rack": "r1"}, "node_addresses": ["10.255.0.11"], "store": {"kind": "memory"},
        });
        serde_json::from_value(json).unwrap()
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
        let (speaker, problems) = speaker_config(&config(), &resources, &options);
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
        let mut config = config();
        assert!(
            options(&config, &Resources::default())
                .unwrap_err()
                .contains("as_number")
        );
        config.as_number = Some(65001);
        assert_eq!(
            options(&config, &Resources::default()).unwrap().listen_port,
            179
        );
        config.node_addresses.clear();
        assert!(
            options(&config, &Resources::default())
                .unwrap_err()
                .contains("router_id")
        );
    }
}
