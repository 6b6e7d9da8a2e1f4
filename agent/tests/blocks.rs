//! Blocks of several nodes on one store: who gets which, what becomes of them when pools change.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_agent::blocks::{self, BlockView, Blocks, Manners};
use roadbed_agent::config::AgentConfig;
use roadbed_agent::snapshot::Snapshots;
use roadbed_agent::sync::Known;
use roadbed_agent::{ledger, sync};
use roadbed_api::agent::{AttachmentKey, ReserveRequest};
use roadbed_api::kinds::{IpBlockSpec, IpPoolSpec};
use roadbed_api::{Kind, Metadata, Resource};
use roadbed_store::{Labels, MemoryStore, Store};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    blocks: Blocks,
    ledger: ledger::LedgerHandle,
    known: watch::Receiver<Known>,
    _dir: tempfile::TempDir,
}

fn node(name: &str, store: &Arc<dyn Store>) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(dir.path(), name, "boot").unwrap();
    let (ledger, _) = ledger::open(&dir.path().join("ledger.db"), "boot", Duration::ZERO).unwrap();
    let config = serde_json::json!({"node": name, "store": {"kind": "memory"}});
    let config: AgentConfig = serde_json::from_value(config).unwrap();
    let known = sync::start(&config, store.clone(), None, snapshots);
    let blocks = blocks::start(
        name,
        Manners::FILE,
        store.clone(),
        ledger.clone(),
        known.clone(),
    );
    Node {
        blocks,
        ledger,
        known,
        _dir: dir,
    }
}

impl Node {
    async fn until(&self, what: &str, holds: impl Fn(&BlockView) -> bool) -> Arc<BlockView> {
        let mut view = self.blocks.watch();
        let found = tokio::time::timeout(PATIENCE, view.wait_for(|view| holds(view))).await;
        match found {
            Ok(view) => view.unwrap().clone(),
            Err(_) => panic!("{what}: {:?}", self.blocks.view()),
        }
    }

    async fn reserve(&self, container: u32) -> Result<Vec<std::net::IpAddr>, String> {
        let request = ReserveRequest {
            key: AttachmentKey {
                network: "pods".into(),
                container_id: format!("c{container}"),
                ifname: "eth0".into(),
            },
            netns: "/run/netns/x".into(),
            netns_cookie: container.to_string(),
            pod: None,
            mtu: None,
            mac: None,
            addresses: Vec::new(),
            foreign: false,
        };
        let reserved = self.ledger.reserve(&request, &self.blocks.view()).await;
        reserved.map(|r| r.row.addresses).map_err(|e| e.to_string())
    }
}

async fn pool(store: &Arc<dyn Store>, name: &str, cidr: &str, block_size: u8) {
    let spec = IpPoolSpec {
        cidr: cidr.parse().unwrap(),
        block_size: Some(block_size),
        node_selector: None,
        disabled: false,
    };
    store
        .create(Resource::new(Metadata::named(name), spec).to_object())
        .await
        .unwrap();
}

async fn stored_blocks(store: &Arc<dyn Store>) -> Vec<Resource<IpBlockSpec>> {
    let listing = store.list(Kind::IPBlock, &Labels::new()).await.unwrap();
    listing.objects.iter().map(|o| o.typed().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_gets_blocks_of_its_own() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let nodes: Vec<Node> = (0..4).map(|i| node(&format!("n{i}"), &store)).collect();
    pool(&store, "v4", "10.244.0.0/24", 26).await;
    pool(&store, "v6", "fd00:244::/120", 122).await;
    let mut seen = BTreeSet::new();
    for node in &nodes {
        let view = node
            .until("a block per family", |view| view.blocks.len() == 2)
            .await;
        assert!(view.waiting_for().is_empty());
        for block in &view.blocks {
            assert!(seen.insert(block.cidr), "{} is owned twice", block.cidr);
        }
    }
    assert_eq!(stored_blocks(&store).await.len(), 8);
    // Both pools are cut up: a fifth node is told so.
    let late = node("late", &store);
    let view = late
        .until("told that the pool is full", |view| {
            view.problems.len() == 2
        })
        .await;
    assert!(
        view.problems
            .iter()
            .any(|p| p.to_string().contains("IPPool/v4 (10.244.0.0/24) is full"))
    );
    assert_eq!(view.waiting_for().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_block_comes_before_the_last_is_full_and_goes_back_when_empty() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    pool(&store, "v4", "10.244.0.0/24", 28).await;
    let node = node("n1", &store);
    node.until("the first block", |view| view.blocks.len() == 1)
        .await;
    for container in 0..13 {
        node.reserve(container).await.unwrap();
        node.blocks.plan_soon();
    }
    let view = node
        .until("the second block", |view| view.blocks.len() == 2)
        .await;
    let ranges: Vec<IpNet> = view.blocks.iter().map(|b| b.cidr).collect();
    let mut given = BTreeSet::new();
    for container in 0..40 {
        let address = loop {
            match node.reserve(container).await {
                Ok(addresses) => break addresses[0],
                // The planner is about to add a block.
                Err(error) => {
                    assert!(error.contains("no free IPv4 address"), "{error}");
                    node.blocks.plan_soon();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        given.insert(address);
    }
    assert_eq!(given.len(), 40, "no address twice");
    assert!(ranges.iter().all(|r| given.iter().any(|a| r.contains(a))));
    for container in 0..40 {
        let key = AttachmentKey {
            network: "pods".into(),
            container_id: format!("c{container}"),
            ifname: "eth0".into(),
        };
        node.ledger.release(&key).await.unwrap();
    }
    node.blocks.plan_soon();
    node.until("one block left", |view| view.own.len() == 1)
        .await;
    assert_eq!(stored_blocks(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_younger_of_two_overlapping_pools_is_marked_and_left_alone() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    pool(&store, "older", "10.244.0.0/16", 26).await;
    pool(&store, "younger", "10.244.128.0/17", 26).await;
    let node = node("n1", &store);
    let view = node.until("a block", |view| view.blocks.len() == 1).await;
    assert_eq!(view.blocks[0].pool, "older");
    let mut known = node.known.clone();
    let marked = known.wait_for(|known| {
        let pools = known.resources.iter().flat_map(|r| &r.pools);
        let overlaps = |p: &&Resource<IpPoolSpec>, status: &str| {
            p.status
                .conditions
                .iter()
                .any(|c| c.r#type == "Overlaps" && c.status == status)
        };
        let of = |name: &str, status: &str| {
            pools
                .clone()
                .any(|p| p.name() == name && overlaps(&p, status))
        };
        of("older", "False") && of("younger", "True")
    });
    tokio::time::timeout(PATIENCE, marked)
        .await
        .expect("the conditions are written")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_a_deleted_pool_go_back_once_empty() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    pool(&store, "v4", "10.244.0.0/24", 26).await;
    let node = node("n1", &store);
    node.until("a block", |view| view.blocks.len() == 1).await;
    node.reserve(1).await.unwrap();
    let pool = store.get(Kind::IPPool, "v4").await.unwrap().unwrap();
    let (uid, revision) = (
        pool.metadata.uid.unwrap(),
        pool.metadata.resource_version.unwrap(),
    );
    store
        .delete(Kind::IPPool, "v4", &uid, &revision)
        .await
        .unwrap();
    let view = node
        .until("told of the stranded block", |view| {
            !view.problems.is_empty()
        })
        .await;
    assert!(
        view.problems[0]
            .to_string()
            .contains("still has 1 addresses in use"),
        "{:?}",
        view.problems
    );
    assert_eq!(stored_blocks(&store).await.len(), 1);
    let key = AttachmentKey {
        network: "pods".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
    };
    node.ledger.release(&key).await.unwrap();
    node.blocks.plan_soon();
    node.until("no block left", |view| view.own.is_empty())
        .await;
    assert!(stored_blocks(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_told_how_full_a_block_is() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    pool(&store, "v4", "10.244.0.0/24", 28).await;
    let node = node("n1", &store);
    node.until("the first block", |view| view.blocks.len() == 1)
        .await;
    let told = async {
        loop {
            let blocks = store.list(Kind::IPBlock, &Labels::new()).await.unwrap();
            let block: Resource<IpBlockSpec> = blocks.objects[0].typed().unwrap();
            if block.status.observed.is_some() {
                return block.status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!((status.capacity, status.in_use), (16, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_in_the_store_is_seen_while_pods_come_and_go() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    pool(&store, "v4", "10.244.0.0/24", 26).await;
    let node = node("n1", &store);
    let blocks = node.blocks.clone();
    let churn = tokio::spawn(async move {
        loop {
            blocks.plan_soon();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..6 {
        let owns = |view: &BlockView| view.blocks.len() == 1;
        node.until("a block", owns).await;
        // An operator takes it away, as it is: a status may be written meanwhile.
        let deleted = loop {
            let block = stored_blocks(&store).await.remove(0);
            let (name, meta) = (block.name(), &block.metadata);
            let uid = meta.uid.clone().unwrap();
            let revision = meta.resource_version.clone().unwrap();
            if store
                .delete(Kind::IPBlock, name, &uid, &revision)
                .await
                .is_ok()
            {
                break uid;
            }
        };
        node.until("another block", |view| {
            let uid = view
                .own
                .first()
                .and_then(|block| block.metadata.uid.as_ref());
            owns(view) && uid.is_some_and(|uid| *uid != deleted)
        })
        .await;
    }
    churn.abort();
}
