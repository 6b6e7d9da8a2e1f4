//! One suite for every home. A home gives handles of one fresh store: two of the same for memory, two connections as
//! of two processes for SQLite and Kubernetes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a suite of tests says what it expects by unwrapping it"
)]

use std::sync::Arc;
use std::time::Duration;

use roadbed_api::kinds::{BlockOwner, BlockState, IpBlockStatus};
use roadbed_api::{IpBlockSpec, Kind, Metadata, Object, Resource};
use serde_json::json;

use crate::{ConflictCause, Labels, ResumePoint, Store, StoreError, WatchEvent, WatchStream};

/// Two handles of one store.
pub type Pair = (Arc<dyn Store>, Arc<dyn Store>);

/// Changes that the store of the suite keeps, where the suite can say so.
pub const HISTORY: usize = 200;

/// Properties that differ between homes, and are right in each of them.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The home keeps [`HISTORY`] changes. One whose history the server bounds in time keeps more.
    pub bounded_history: bool,
    /// Two objects created one after the other have different creation times. Kubernetes counts in seconds.
    pub distinct_times: bool,
}

/// Everything that a home must do; `make` gives handles of a fresh store each time.
///
/// # Panics
/// When the home does something else.
pub async fn suite<F, Fut>(traits: Traits, make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Pair>,
{
    objects_come_and_go(traits, make().await).await;
    what_is_refused(make().await).await;
    compare_and_swap(make().await).await;
    uid_fences(make().await).await;
    status_is_a_write_of_its_own(make().await).await;
    one_create_wins(make().await).await;
    one_update_wins(make().await).await;
    lists_by_labels(make().await).await;
    a_watch_sees_every_change_in_order(make().await).await;
    a_watch_follows_labels(make().await).await;
    a_list_and_its_watch_fit(make().await).await;
    points_of_another_store_are_compacted(make().await).await;
    if traits.bounded_history {
        old_points_are_compacted(make().await).await;
        a_slow_watcher_is_cut_off(make().await).await;
    } else {
        a_slow_watcher_misses_nothing(make().await).await;
    }
}

/// A block of node `n1`, numbered.
fn block(i: u32) -> Object {
    let mut metadata = Metadata::named(format!("b{i}"));
    metadata.labels.insert("node".into(), format!("n{}", i % 2));
    let spec = IpBlockSpec {
        cidr: format!("10.0.{i}.0/26").parse().unwrap(),
        pool: "p".into(),
        owner: BlockOwner { node: "n1".into() },
        state: BlockState::Pending,
    };
    Resource::new(metadata, spec).to_object()
}

fn with_pool(mut object: Object, pool: &str) -> Object {
    object.spec["pool"] = json!(pool);
    object
}

fn ids(object: &Object) -> (String, String) {
    let metadata = &object.metadata;
    (
        metadata.uid.clone().unwrap(),
        metadata.resource_version.clone().unwrap(),
    )
}

fn labels(node: &str) -> Labels {
    Labels::from([("node".to_owned(), node.to_owned())])
}

async fn delete(store: &Arc<dyn Store>, object: &Object) -> Result<(), StoreError> {
    let (uid, version) = ids(object);
    store
        .delete(object.kind, &object.metadata.name, &uid, &version)
        .await
}

async fn next(stream: &mut WatchStream) -> Result<WatchEvent, StoreError> {
    tokio::time::timeout(Duration::from_secs(5), stream.next())
        .await
        .expect("an event within 5 s")
        .expect("the stream goes on")
}

/// The cause, or what came instead of a conflict.
fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ConflictCause {
    match result {
        Err(StoreError::Conflict { cause, .. }) => cause,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

/// The event tells that this object is gone.
fn assert_gone(event: &WatchEvent, object: &Object) {
    let id = |o: &Object| (o.kind, o.metadata.name.clone(), o.metadata.uid.clone());
    match event {
        WatchEvent::Delete(gone) => assert_eq!(id(gone), id(object)),
        WatchEvent::Put(put) => panic!("{put:?} is not gone"),
    }
}

async fn objects_come_and_go(traits: Traits, (a, b): Pair) {
    assert_eq!(b.get(Kind::IPBlock, "b1").await.unwrap(), None);
    let created = a.create(block(1)).await.unwrap();
    assert_eq!(created.spec, block(1).spec);
    assert_eq!(
        b.get(Kind::IPBlock, "b1").await.unwrap(),
        Some(created.clone())
    );
    assert_eq!(
        b.get(Kind::IPPool, "b1").await.unwrap(),
        None,
        "kinds are apart"
    );
    let later = b.create(block(2)).await.unwrap();
    let time = |o: &Object| o.metadata.creation_timestamp.clone().unwrap();
    match traits.distinct_times {
        true => assert!(time(&created) < time(&later)),
        false => assert!(time(&created) <= time(&later)),
    }
    assert_eq!(time(&created).0.len(), "2026-11-21T03:24:04.123456Z".len());
    assert!(uuid::Uuid::parse_str(&ids(&created).0).is_ok());
    let updated = b.update(with_pool(created.clone(), "q")).await.unwrap();
    assert_eq!(
        (&updated.spec["pool"], ids(&updated).0),
        (&json!("q"), ids(&created).0)
    );
    assert_ne!(ids(&updated).1, ids(&created).1);
    assert_eq!(time(&updated), time(&created));
    assert_eq!(
        b.update(updated.clone()).await.unwrap(),
        updated,
        "nothing changes, nothing is written"
    );
    delete(&a, &updated).await.unwrap();
    assert_eq!(b.get(Kind::IPBlock, "b1").await.unwrap(), None);
    assert!(matches!(
        delete(&a, &updated).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(
        a.update(updated).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn what_is_refused((a, _): Pair) {
    let mut bad = block(1);
    bad.spec["cidr"] = json!("10.0.0.1/26");
    let text = a.create(bad.clone()).await.unwrap_err().to_string();
    assert!(
        text.contains("IPBlock/b1") && text.contains("spec.cidr"),
        "{text}"
    );
    let created = a.create(block(1)).await.unwrap();
    bad.metadata = created.metadata.clone();
    assert!(matches!(a.update(bad).await, Err(StoreError::Invalid(_))));
    let text = a.update(block(1)).await.unwrap_err().to_string();
    assert!(text.contains("metadata.uid is missing"), "{text}");
    let text = a.create(block(1)).await.unwrap_err().to_string();
    assert!(text.contains("IPBlock/b1 exists already"), "{text}");
    let status = a
        .update_status(
            Kind::IPBlock,
            "b1",
            &ids(&created).0,
            json!({"capacity": "many"}),
        )
        .await;
    assert!(matches!(status, Err(StoreError::Invalid(_))), "{status:?}");
    assert_eq!(a.get(Kind::IPBlock, "b1").await.unwrap(), Some(created));
}

async fn compare_and_swap((a, b): Pair) {
    let read = a.create(block(1)).await.unwrap();
    let won = b.update(with_pool(read.clone(), "q")).await.unwrap();
    let lost = a.update(with_pool(read.clone(), "r")).await;
    assert_eq!(conflict(lost), ConflictCause::Changed);
    assert_eq!(conflict(delete(&a, &read).await), ConflictCause::Changed);
    assert_eq!(a.get(Kind::IPBlock, "b1").await.unwrap(), Some(won));
}

async fn uid_fences((a, b): Pair) {
    let old = a.create(block(1)).await.unwrap();
    delete(&b, &old).await.unwrap();
    let new = b.create(block(1)).await.unwrap();
    assert_eq!(
        conflict(a.update(with_pool(old.clone(), "r")).await),
        ConflictCause::Recreated
    );
    assert_eq!(conflict(delete(&a, &old).await), ConflictCause::Recreated);
    let status = a
        .update_status(Kind::IPBlock, "b1", &ids(&old).0, json!({}))
        .await;
    assert_eq!(conflict(status), ConflictCause::Recreated);
    assert_eq!(a.get(Kind::IPBlock, "b1").await.unwrap(), Some(new));
}

async fn status_is_a_write_of_its_own((a, b): Pair) {
    let mut object = block(1);
    object.status = Some(json!({"capacity": 1}));
    let created = a.create(object).await.unwrap();
    assert_eq!(created.status, None, "a create writes no status");
    let created_before = created.clone();
    let (uid, version) = ids(&created);
    let status = json!({"capacity": 64, "inUse": 3});
    let with_status = b
        .update_status(Kind::IPBlock, "b1", &uid, status.clone())
        .await
        .unwrap();
    assert_eq!(with_status.spec, created.spec);
    assert_ne!(
        ids(&with_status).1,
        version,
        "the whole object has a new revision"
    );
    let typed: Resource<IpBlockSpec> = with_status.typed().unwrap();
    let expected = IpBlockStatus {
        capacity: 64,
        in_use: 3,
        observed: None,
    };
    assert_eq!(typed.status, expected);
    let again = b
        .update_status(Kind::IPBlock, "b1", &uid, status)
        .await
        .unwrap();
    assert_eq!(again, with_status, "the same status writes nothing");
    assert_eq!(
        conflict(a.update(with_pool(created, "q")).await),
        ConflictCause::Changed
    );
    let stale = a
        .update_status_of(&created_before, json!({"capacity": 1}))
        .await;
    assert_eq!(conflict(stale), ConflictCause::Changed);
    let with_status = a
        .update_status_of(&with_status, json!({"capacity": 64, "inUse": 4}))
        .await
        .unwrap();
    let mut next = with_pool(with_status.clone(), "q");
    next.status = None;
    let updated = a.update(next).await.unwrap();
    assert_eq!(
        updated.status, with_status.status,
        "an update leaves the status"
    );
    let missing = a.update_status(Kind::IPBlock, "b9", &uid, json!({})).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

async fn one_create_wins((a, b): Pair) {
    for i in 0..10 {
        let tries = (0..8u32).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &a } else { &b });
            tokio::spawn(async move { store.create(with_pool(block(i), &format!("p{n}"))).await })
        });
        let mut winners = Vec::new();
        for task in tries.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(object) => winners.push(object),
                Err(StoreError::AlreadyExists { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1);
        let stored = a.get(Kind::IPBlock, &format!("b{i}")).await.unwrap();
        assert_eq!(stored, winners.pop());
    }
}

async fn one_update_wins((a, b): Pair) {
    let read = a.create(block(1)).await.unwrap();
    let tries = (0..8u32).map(|n| {
        let store = Arc::clone(if n % 2 == 0 { &a } else { &b });
        let object = with_pool(read.clone(), &format!("p{n}"));
        tokio::spawn(async move { store.update(object).await })
    });
    let mut won = 0;
    for task in tries.collect::<Vec<_>>() {
        won += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
}

async fn lists_by_labels((a, b): Pair) {
    for i in [3, 1, 2] {
        a.create(block(i)).await.unwrap();
    }
    let check = |filter: Labels, expected: &'static [&'static str]| {
        let b = Arc::clone(&b);
        async move {
            let found = b.list(Kind::IPBlock, &filter).await.unwrap().objects;
            let names: Vec<_> = found.iter().map(|o| o.metadata.name.as_str()).collect();
            assert_eq!(names, expected);
        }
    };
    check(Labels::new(), &["b1", "b2", "b3"]).await;
    check(labels("n1"), &["b1", "b3"]).await;
    check(labels("n9"), &[]).await;
    let both = Labels::from([("node".into(), "n1".into()), ("rack".into(), "r".into())]);
    check(both, &[]).await;
    assert_eq!(
        b.list(Kind::IPPool, &Labels::new()).await.unwrap().objects,
        []
    );
}

async fn a_watch_sees_every_change_in_order((a, b): Pair) {
    let first = a.create(block(1)).await.unwrap();
    let resume = b.list(Kind::IPBlock, &Labels::new()).await.unwrap().resume;
    let second = a.create(block(2)).await.unwrap();
    let mut stream = b
        .watch(Kind::IPBlock, &Labels::new(), resume)
        .await
        .unwrap();
    let mut expected = vec![WatchEvent::Put(second)];
    let mut current = first;
    for n in 0..50 {
        let store = if n % 2 == 0 { &a } else { &b };
        current = store
            .update(with_pool(current, &format!("p{n}")))
            .await
            .unwrap();
        expected.push(WatchEvent::Put(current.clone()));
    }
    delete(&a, &current).await.unwrap();
    for expected in expected {
        assert_eq!(next(&mut stream).await.unwrap(), expected);
    }
    assert_gone(&next(&mut stream).await.unwrap(), &current);
    let quiet = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let late = a.create(block(9)).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), WatchEvent::Put(late));
}

async fn a_watch_follows_labels((a, b): Pair) {
    let resume = a.list(Kind::IPBlock, &Labels::new()).await.unwrap().resume;
    let mut stream = b.watch(Kind::IPBlock, &labels("n1"), resume).await.unwrap();
    a.create(block(2)).await.unwrap();
    let mine = a.create(block(1)).await.unwrap();
    assert_eq!(
        next(&mut stream).await.unwrap(),
        WatchEvent::Put(mine.clone())
    );
    let mut moved = mine;
    moved.metadata.labels = labels("n0");
    let moved = a.update(moved).await.unwrap();
    assert_gone(&next(&mut stream).await.unwrap(), &moved);
    delete(&a, &moved).await.unwrap();
    let back = a.create(block(1)).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), WatchEvent::Put(back));
}

async fn old_points_are_compacted((a, b): Pair) {
    let resume = b.list(Kind::IPBlock, &Labels::new()).await.unwrap().resume;
    let mut object = a.create(block(1)).await.unwrap();
    for n in 0..HISTORY {
        // The last write that still leaves the point within reach.
        if n == HISTORY - 1 {
            b.watch(Kind::IPBlock, &Labels::new(), resume.clone())
                .await
                .unwrap();
        }
        object = a.update(with_pool(object, &format!("p{n}"))).await.unwrap();
    }
    let watch = b.watch(Kind::IPBlock, &Labels::new(), resume).await;
    assert!(
        matches!(watch, Err(StoreError::Compacted { .. })),
        "{watch:?}"
    );
}

async fn points_of_another_store_are_compacted((_, b): Pair) {
    let other = ResumePoint::new("another history", 1);
    let watch = b.watch(Kind::IPBlock, &Labels::new(), other).await;
    assert!(
        matches!(watch, Err(StoreError::Compacted { .. })),
        "{watch:?}"
    );
}

async fn a_list_and_its_watch_fit((a, b): Pair) {
    let first = a.create(block(1)).await.unwrap();
    a.create(block(2)).await.unwrap();
    let (listing, mut stream) = b
        .list_and_watch(Kind::IPBlock, &labels("n1"))
        .await
        .unwrap();
    assert_eq!(listing.objects, std::slice::from_ref(&first));
    let updated = a.update(with_pool(first, "q")).await.unwrap();
    assert_eq!(
        next(&mut stream).await.unwrap(),
        WatchEvent::Put(updated.clone())
    );
    delete(&a, &updated).await.unwrap();
    assert_gone(&next(&mut stream).await.unwrap(), &updated);
}

/// A watcher that reads nothing for a while: all that it missed comes in order, or it is told to list again.
async fn a_slow_watcher_misses_nothing((a, b): Pair) {
    let resume = b.list(Kind::IPBlock, &Labels::new()).await.unwrap().resume;
    let mut stream = b
        .watch(Kind::IPBlock, &Labels::new(), resume)
        .await
        .unwrap();
    let mut object = a.create(block(1)).await.unwrap();
    let mut expected = vec![object.clone()];
    for n in 0..2 * HISTORY {
        object = a.update(with_pool(object, &format!("p{n}"))).await.unwrap();
        expected.push(object.clone());
    }
    for expected in expected {
        match next(&mut stream).await {
            Ok(event) => assert_eq!(event, WatchEvent::Put(expected)),
            Err(StoreError::Compacted { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_slow_watcher_is_cut_off((a, b): Pair) {
    let resume = b.list(Kind::IPBlock, &Labels::new()).await.unwrap().resume;
    let mut stream = b
        .watch(Kind::IPBlock, &Labels::new(), resume)
        .await
        .unwrap();
    let mut object = a.create(block(1)).await.unwrap();
    for n in 0..2 * HISTORY {
        object = a.update(with_pool(object, &format!("p{n}"))).await.unwrap();
    }
    let mut seen = 0;
    let error = loop {
        match next(&mut stream).await {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    assert!(
        seen < HISTORY + crate::watch::CHANNEL,
        "{seen} events were kept"
    );
    assert!(stream.next().await.is_none());
}

#[cfg(test)]
#[tokio::test]
async fn memory() {
    let traits = Traits {
        bounded_history: true,
        distinct_times: true,
    };
    suite(traits, || async {
        let store: Arc<dyn Store> = Arc::new(crate::MemoryStore::with_history(HISTORY));
        (Arc::clone(&store), store)
    })
    .await;
}
