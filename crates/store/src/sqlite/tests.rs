use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use roadbed_api::{Kind, Metadata, Object};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, Pair};
use crate::{StoreConfig, WatchEvent, open, open_or_create};

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("store.db")
}

async fn pair(dir: &TempDir, n: usize, two: bool) -> Pair {
    let path = dir.path().join(format!("{n}.db"));
    let history = conformance::HISTORY as i64;
    let a: Arc<dyn Store> = Arc::new(
        SqliteStore::with_history(&path, true, history)
            .await
            .unwrap(),
    );
    if !two {
        return (Arc::clone(&a), a);
    }
    let b = SqliteStore::with_history(&path, false, history)
        .await
        .unwrap();
    (a, Arc::new(b))
}

async fn suite(two: bool) {
    let dir = tempfile::tempdir().unwrap();
    let n = std::sync::atomic::AtomicUsize::new(0);
    let traits = conformance::Traits {
        bounded_history: true,
        distinct_times: true,
    };
    conformance::suite(traits, || {
        pair(
            &dir,
            n.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            two,
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_handle() {
    suite(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_as_of_two_processes() {
    suite(true).await;
}

fn pool(name: &str) -> Object {
    Object {
        kind: Kind::IPPool,
        metadata: Metadata::named(name),
        spec: json!({"cidr": "10.0.0.0/16"}),
        status: None,
    }
}

fn config(path: PathBuf) -> StoreConfig {
    StoreConfig::Sqlite { path }
}

/// Why a call failed, in words; it must be an absence.
fn away<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(error) if error.is_away() => error.to_string(),
        other => panic!("expected the store to be away, got {other:?}"),
    }
}

#[tokio::test]
async fn only_who_fills_a_store_creates_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(path(&dir))).await.unwrap();
    let text = away(store.get(Kind::IPPool, "a").await);
    assert!(
        text.contains("store.db") && text.contains("no such file"),
        "{text}"
    );
    assert!(!path(&dir).exists());
    std::fs::write(path(&dir), b"").unwrap();
    let text = away(store.get(Kind::IPPool, "a").await);
    assert!(text.contains("empty"), "{text}");
    let filler = open_or_create(&config(path(&dir))).await.unwrap();
    filler.create(pool("a")).await.unwrap();
    assert!(store.get(Kind::IPPool, "a").await.unwrap().is_some());
    let text = away(
        open_or_create(&config(dir.path().join("no/such/store.db")))
            .await
            .map(|s| s.home()),
    );
    assert!(text.contains("no/such"), "{text}");
}

#[tokio::test]
async fn a_file_that_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let aside = dir.path().join("aside.db");
    let store = open_or_create(&config(path(&dir))).await.unwrap();
    store.create(pool("a")).await.unwrap();
    let resume = store
        .list(Kind::IPPool, &Labels::new())
        .await
        .unwrap()
        .resume;
    let mut stream = store
        .watch(Kind::IPPool, &Labels::new(), resume.clone())
        .await
        .unwrap();
    std::fs::rename(path(&dir), &aside).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(2), stream.next())
        .await
        .unwrap();
    away(told.unwrap());
    assert!(stream.next().await.is_none());
    away(store.get(Kind::IPPool, "a").await);
    away(store.create(pool("b")).await);
    std::fs::rename(&aside, path(&dir)).unwrap();
    assert!(store.get(Kind::IPPool, "a").await.unwrap().is_some());
    // The same file: the history goes on.
    let mut stream = store
        .watch(Kind::IPPool, &Labels::new(), resume.clone())
        .await
        .unwrap();
    let b = store.create(pool("b")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), WatchEvent::Put(b));
    // Another file: what was read of the first counts for nothing.
    std::fs::remove_file(path(&dir)).unwrap();
    drop(open_or_create(&config(path(&dir))).await.unwrap());
    let watch = store.watch(Kind::IPPool, &Labels::new(), resume).await;
    assert!(
        matches!(watch, Err(StoreError::Compacted { .. })),
        "{watch:?}"
    );
    assert_eq!(store.get(Kind::IPPool, "a").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |config: StoreConfig, expected: &'static str| async move {
        for result in [open(&config).await, open_or_create(&config).await] {
            match result {
                Err(error @ StoreError::Refused { .. }) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                other => panic!("{:?}", other.map(|s| s.home())),
            }
        }
    };
    let newer = dir.path().join("newer.db");
    drop(open_or_create(&config(newer.clone())).await.unwrap());
    let conn = rusqlite::Connection::open(&newer).unwrap();
    conn.pragma_update(None, "user_version", 7).unwrap();
    check(
        config(newer),
        "its schema is 7 and this program knows up to 1",
    )
    .await;
    let foreign = dir.path().join("foreign.db");
    let conn = rusqlite::Connection::open(&foreign).unwrap();
    conn.execute_batch("CREATE TABLE t (x)").unwrap();
    check(config(foreign), "a database of something else").await;
    let noise = dir.path().join("noise.db");
    std::fs::write(&noise, [0x5a; 5000]).unwrap();
    check(config(noise), "damaged or not a database").await;
    let directory = open(&config(dir.path().to_owned())).await.unwrap();
    assert!(away(directory.get(Kind::IPPool, "a").await).contains("not a regular file"));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_or_create(&config(path(&dir))).await.unwrap();
    store.create(pool("a")).await.unwrap();
    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute("UPDATE objects SET body = '{'", []).unwrap();
    let error = store.get(Kind::IPPool, "a").await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("a row of IPPool"), "{error}");
}

#[tokio::test]
async fn a_lock_of_another_process_does_not_block_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_or_create(&config(path(&dir))).await.unwrap();
    let other = rusqlite::Connection::open(path(&dir)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.create(pool("a")).await }
    });
    // On a runtime of one thread, a blocked call would let neither this sleep nor the commit happen.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!writing.is_finished());
    other.execute_batch("COMMIT").unwrap();
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn times_of_creation_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_or_create(&config(path(&dir))).await.unwrap();
    let mut last = None;
    for i in 0..20 {
        let time = store
            .create(pool(&format!("p{i}")))
            .await
            .unwrap()
            .metadata
            .creation_timestamp;
        assert!(time > last);
        last = time;
    }
    // The clock is set back by a century: the file remembers.
    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute(
        "UPDATE meta SET value = value + 3155760000000000 WHERE key = 'clock'",
        [],
    )
    .unwrap();
    let time = store
        .create(pool("x"))
        .await
        .unwrap()
        .metadata
        .creation_timestamp
        .unwrap();
    assert!(time.0.starts_with("21"), "{time}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_create_the_file_at_once() {
    for _ in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let tasks = (0..8).map(|i| {
            let path = path(&dir);
            tokio::spawn(async move {
                let store = open_or_create(&config(path)).await?;
                store.create(pool(&format!("p{i}"))).await
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        let store = open(&config(path(&dir))).await.unwrap();
        let found = store.list(Kind::IPPool, &Labels::new()).await.unwrap();
        assert_eq!(found.objects.len(), 8);
    }
}

/// An agent may look at the very moment in which `roadbedctl apply` makes the store.
#[test]
fn a_store_in_the_making_is_not_taken_for_something_else() {
    use super::db::{Db, Fault};
    for round in 0..30 {
        let dir = TempDir::new().unwrap();
        let path = path(&dir);
        std::thread::scope(|scope| {
            let made = scope.spawn(|| Db::open(&path, true, 8).map(drop));
            while !made.is_finished() {
                if let Err(fault @ Fault::Refused(_)) = Db::open(&path, false, 8) {
                    panic!("{fault:?}, round {round}");
                }
            }
            made.join().unwrap().unwrap();
        });
    }
}
