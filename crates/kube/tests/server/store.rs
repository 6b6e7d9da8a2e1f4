//! The suite of every home, and demands on this one alone.

use std::time::Duration;

use roadbed_store::conformance::{Traits, suite};
use roadbed_store::{StoreError, WatchEvent};
use serde_json::json;

use crate::bed::{block, connect, fresh, ids, kubectl};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_all_homes() {
    let traits = Traits {
        bounded_history: false,
        distinct_times: false,
    };
    suite(traits, fresh).await;
}

/// A storm of writers: every write that is told to have won is there, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_conflicts_loses_no_write() {
    const WRITERS: usize = 16;
    const WRITES: usize = 10;
    let (a, b) = fresh().await;
    a.create(block(1)).await.unwrap();
    let writers = (0..WRITERS).map(|i| {
        let store = if i % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move {
            let mut lost = 0;
            for _ in 0..WRITES {
                loop {
                    let mut object = store.get(block(1).kind, "b1").await.unwrap().unwrap();
                    let count: usize = object.spec["pool"]
                        .as_str()
                        .and_then(|p| p.strip_prefix('p'))
                        .and_then(|n| n.parse().ok())
                        .unwrap_or(0);
                    object.spec["pool"] = json!(format!("p{}", count + 1));
                    match store.update(object).await {
                        Ok(_) => break,
                        Err(StoreError::Conflict { .. }) => lost += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            lost
        })
    });
    let mut lost = 0;
    for writer in writers.collect::<Vec<_>>() {
        lost += writer.await.unwrap();
    }
    let object = a.get(block(1).kind, "b1").await.unwrap().unwrap();
    assert_eq!(object.spec["pool"], json!(format!("p{}", WRITERS * WRITES)));
    println!(
        "{} writes won, {lost} lost and were decided again",
        WRITERS * WRITES
    );
    assert!(lost > 0, "nobody met anybody: the test shows nothing");
}

/// Fields that belong to others stay when we write.
#[tokio::test]
async fn what_others_wrote_stays() {
    let (a, _) = fresh().await;
    a.create(block(1)).await.unwrap();
    let patch = r#"{"metadata":{"finalizers":["example.com/keep"],"labels":{"theirs":"1"}}}"#;
    kubectl(&["patch", "ipblock", "b1", "--type=merge", "-p", patch]).unwrap();
    let mut read = a.get(block(1).kind, "b1").await.unwrap().unwrap();
    assert_eq!(read.metadata.labels["theirs"], "1");
    read.spec["pool"] = json!("q");
    let written = a.update(read).await.unwrap();
    let status = json!({"capacity": 64, "inUse": 1});
    a.update_status(written.kind, "b1", &ids(&written).0, status)
        .await
        .unwrap();
    let finalizers = [
        "get",
        "ipblock",
        "b1",
        "-o",
        "jsonpath={.metadata.finalizers}",
    ];
    assert_eq!(kubectl(&finalizers).unwrap(), "[\"example.com/keep\"]");
    let patch = r#"{"metadata":{"finalizers":[]}}"#;
    kubectl(&["patch", "ipblock", "b1", "--type=merge", "-p", patch]).unwrap();
}

/// More objects than a page has, as pages and as a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_are_whole() {
    const COUNT: u32 = 620;
    let (a, b) = fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..COUNT {
        let store = a.clone();
        let mut object = block(i % 250);
        object.metadata.name = format!("b{i}");
        tasks.spawn(async move { store.create(object).await.unwrap() });
        if tasks.len() >= 32 {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
    let labels = Default::default();
    let pages = b.list(block(1).kind, &labels).await.unwrap();
    let (stream, mut changes) = b.list_and_watch(block(1).kind, &labels).await.unwrap();
    assert_eq!(pages.objects.len(), COUNT as usize);
    assert_eq!(pages.objects, stream.objects);
    let mut first = stream.objects[0].clone();
    first.spec["pool"] = json!("q");
    let updated = a.update(first).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), changes.next()).await;
    assert_eq!(event.unwrap().unwrap().unwrap(), WatchEvent::Put(updated));
    fresh().await;
}

#[tokio::test]
async fn a_kind_that_the_server_does_not_know_is_told_as_such() {
    let store = connect().await;
    let crd = "deploy/manifests/crds/roadbed.dev_bgproutepolicies.yaml";
    let crd = format!("{}/../../{crd}", env!("CARGO_MANIFEST_DIR"));
    kubectl(&["delete", "-f", &crd]).unwrap();
    let asked = store
        .list(roadbed_api::Kind::BGPRoutePolicy, &Default::default())
        .await;
    kubectl(&["apply", "--server-side", "-f", &crd]).unwrap();
    kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=20s",
        "-f",
        &crd,
    ])
    .unwrap();
    let error = asked.unwrap_err();
    assert!(error.is_away(), "it may come: {error}");
    let text = error.to_string();
    assert!(
        text.contains("does not know BGPRoutePolicy: apply the CRDs of roadbed.dev/v1alpha1"),
        "{text}"
    );
}
