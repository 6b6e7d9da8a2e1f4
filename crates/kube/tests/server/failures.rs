//! A server that goes, forgets, falls silent or refuses.

use std::time::{Duration, Instant};

use roadbed_store::{Labels, Store, StoreError, WatchEvent, WatchStream};
use serde_json::json;

use crate::bed::{as_user, block, drive, fresh, kubectl};

async fn next(stream: &mut WatchStream, seconds: u64) -> Result<WatchEvent, StoreError> {
    tokio::time::timeout(Duration::from_secs(seconds), stream.next())
        .await
        .unwrap_or_else(|_| panic!("no event within {seconds} s"))
        .expect("the stream goes on")
}

/// The store answers again.
async fn back(store: &dyn Store) {
    let begin = Instant::now();
    while let Err(error) = store.list(block(1).kind, &Labels::new()).await {
        assert!(error.is_away(), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A watch outlives a restart, or says that it does not: no change is missed in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_change() {
    let (a, b) = fresh().await;
    let kind = block(1).kind;
    let created = a.create(block(1)).await.unwrap();
    let (listing, mut stream) = b.list_and_watch(kind, &Labels::new()).await.unwrap();
    assert_eq!(listing.objects, std::slice::from_ref(&created));
    if drive(&["restart", "apiserver"]).is_none() {
        return;
    }
    back(&*a).await;
    let mut changed = created;
    changed.spec["pool"] = json!("q");
    let changed = a.update(changed).await.unwrap();
    match next(&mut stream, 20).await {
        Ok(event) => assert_eq!(event, WatchEvent::Put(changed)),
        Err(error) => {
            assert!(
                error.is_away() || matches!(error, StoreError::Compacted { .. }),
                "{error}"
            );
            let (listing, _) = b.list_and_watch(kind, &Labels::new()).await.unwrap();
            assert_eq!(listing.objects, [changed]);
        }
    }
}

/// 410 Gone: the server has forgotten the version that a watch goes on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_version_asks_for_a_list() {
    let (a, b) = fresh().await;
    let kind = block(1).kind;
    let mut object = a.create(block(1)).await.unwrap();
    let old = b.list(kind, &Labels::new()).await.unwrap().resume;
    for n in 0..5 {
        object.spec["pool"] = json!(format!("p{n}"));
        object = a.update(object).await.unwrap();
    }
    if drive(&["etcd-compact"]).is_none() {
        return;
    }
    // The cache of the running server still has the changes.
    drive(&["restart", "apiserver"]);
    back(&*b).await;
    let error = match b.watch(kind, &Labels::new(), old).await {
        Ok(mut stream) => next(&mut stream, 20).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
}

/// A server that was stopped accepts connections and answers nothing: calls end, and the watch goes on afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_holds_nobody() {
    let (a, b) = fresh().await;
    let kind = block(1).kind;
    let mut object = a.create(block(1)).await.unwrap();
    let (_, mut stream) = b.list_and_watch(kind, &Labels::new()).await.unwrap();
    if drive(&["stop", "apiserver"]).is_none() {
        return;
    }
    let begin = Instant::now();
    let error = a.list(kind, &Labels::new()).await.unwrap_err();
    let waited = begin.elapsed();
    drive(&["cont", "apiserver"]);
    assert!(error.is_away(), "{error}");
    assert!(
        error.to_string().contains("no answer within 15 s"),
        "{error}"
    );
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    back(&*a).await;
    object.spec["pool"] = json!("q");
    let changed = a.update(object).await.unwrap();
    assert_eq!(
        next(&mut stream, 20).await.unwrap(),
        WatchEvent::Put(changed)
    );
}

/// Tokens of ServiceAccounts are rotated in their file. One that has expired is an absence that passes by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_read_again() {
    kubectl(&["create", "serviceaccount", "rotating"]).ok();
    let rules = [
        "--clusterrole=cluster-admin",
        "--serviceaccount=default:rotating",
    ];
    kubectl(
        &[
            ["create", "clusterrolebinding", "rotating"].as_slice(),
            &rules,
        ]
        .concat(),
    )
    .ok();
    let token = kubectl(&["create", "token", "rotating"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "expired").unwrap();
    let cluster = "{.clusters[0].cluster}";
    let read = |path: &str| {
        kubectl(&["config", "view", "--raw", "-o", &format!("jsonpath={path}")]).unwrap()
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": serde_json::from_str::<serde_json::Value>(&read(cluster)).unwrap()}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"tokenFile": file}}],
    });
    let path = dir.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let store = as_user(path.to_str().unwrap()).await;
    let error = store.list(block(1).kind, &Labels::new()).await.unwrap_err();
    assert!(error.is_away(), "{error}");
    assert!(
        error
            .to_string()
            .contains("does not accept our credentials"),
        "{error}"
    );
    std::fs::write(&file, token.trim()).unwrap();
    let begin = Instant::now();
    while let Err(error) = store.list(block(1).kind, &Labels::new()).await {
        assert!(error.is_away(), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(90), "{error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("the new token counts after {} s", begin.elapsed().as_secs());
    kubectl(&[
        "delete",
        "clusterrolebinding/rotating",
        "serviceaccount/rotating",
    ])
    .unwrap();
}

/// An account without rights is told what it lacks.
#[tokio::test]
async fn a_refusal_names_the_right() {
    kubectl(&["create", "serviceaccount", "nobody"]).ok();
    let token = kubectl(&["create", "token", "nobody"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let mut config: serde_json::Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "-o", "json"]).unwrap())
            .unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    std::fs::write(&path, config.to_string()).unwrap();
    let store = as_user(path.to_str().unwrap()).await;
    let error = store.list(block(1).kind, &Labels::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("cannot list resource \"ipblocks\""),
        "{error}"
    );
    assert!(
        store
            .update_status(block(1).kind, "b1", "u", json!({}))
            .await
            .is_err()
    );
    kubectl(&["delete", "serviceaccount/nobody"]).unwrap();
}
