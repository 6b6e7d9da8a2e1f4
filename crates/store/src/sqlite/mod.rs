//! The home in one SQLite file that several processes of one machine share.
//!
//! Owns: the file's schema and one thread per store that alone touches the file, so that no lock of another process
//! ever blocks the runtime. Never does: create a file unless told to, keep a connection to a file that is no longer
//! at its path.
//!
//! ```text
//! callers ──jobs (≤ 64)──▶ thread "store" ──▶ file, -wal, -shm ◀── other processes
//! watches ◀──news──────────┘  looks every 100 ms for what others wrote, while anybody watches
//! ```

mod db;
mod file;
mod worker;

use std::path::Path;

use async_trait::async_trait;
use roadbed_api::{Kind, Object};
use serde_json::Value;

use crate::error::StoreError;
use crate::rules::Request;
use crate::store::{Labels, Listing, ResumePoint, Store, WatchStream};
use crate::watch;
use worker::Worker;

/// A store in a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    worker: Worker,
}

impl SqliteStore {
    pub(crate) async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        Self::with_history(path, create, db::HISTORY).await
    }

    /// As [`open`](Self::open), keeping this many changes for watchers of every process.
    pub(crate) async fn with_history(
        path: &Path,
        create: bool,
        history: i64,
    ) -> Result<Self, StoreError> {
        let worker = Worker::start(path.to_owned(), history)?;
        match worker.connect(create).await {
            Err(error) if create || !error.is_away() => Err(error),
            _ => Ok(Self { worker }),
        }
    }

    async fn write(&self, request: Request) -> Result<Object, StoreError> {
        self.worker.call(move |db| db.write(request)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn home(&self) -> String {
        self.worker.home().to_owned()
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Object>, StoreError> {
        let name = name.to_owned();
        self.worker.call(move |db| db.get(kind, &name)).await
    }

    async fn list(&self, kind: Kind, labels: &Labels) -> Result<Listing, StoreError> {
        let labels = labels.clone();
        self.worker.call(move |db| db.list(kind, &labels)).await
    }

    async fn create(&self, object: Object) -> Result<Object, StoreError> {
        self.write(Request::Create(object)).await
    }

    async fn update(&self, object: Object) -> Result<Object, StoreError> {
        self.write(Request::Update(object)).await
    }

    async fn update_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: Value,
    ) -> Result<Object, StoreError> {
        self.write(Request::UpdateStatus {
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
            status,
        })
        .await
    }

    async fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Result<(), StoreError> {
        self.write(Request::Delete {
            kind,
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: resource_version.to_owned(),
        })
        .await
        .map(drop)
    }

    async fn watch(
        &self,
        kind: Kind,
        labels: &Labels,
        from: ResumePoint,
    ) -> Result<WatchStream, StoreError> {
        let worker = self.worker.clone();
        watch::start(kind, labels, from, worker.news(), move |cursor| {
            let worker = worker.clone();
            async move { worker.call(move |db| db.pull(kind, &cursor)).await }
        })
        .await
    }
}

#[cfg(test)]
mod tests;
