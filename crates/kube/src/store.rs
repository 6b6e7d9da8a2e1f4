//! The store over custom resources.
//!
//! Every write is one request that the server decides: a create, a patch that names the uid and version it is made
//! for, a delete with preconditions. Fields that Roadbed does not know (finalizers, owner references) stay.

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use kube::core::params::{DeleteParams, GetParams, PostParams, Preconditions};
use kube::core::request::Request;
use roadbed_api::names::{API_GROUP, API_GROUP_VERSION};
use roadbed_api::{Kind, Object};
use roadbed_store::{
    ConflictCause, Labels, Listing, ResumePoint, Store, StoreError, WatchEvent, WatchStream,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::failure::{Failure, answer};
use crate::follow::{Change, Ended, Selection, Source, label_selector};
use crate::wire::{Custom, creation};

/// Name of the writer in `metadata.managedFields`.
const FIELD_MANAGER: &str = "roadbed";

/// Resources in a Kubernetes API server.
pub struct KubeStore {
    source: Source,
    home: String,
}

impl KubeStore {
    /// The store that this client reaches; nothing is asked yet.
    pub fn new(access: Access) -> Self {
        Self {
            source: Source::new(access.client),
            home: access.home,
        }
    }

    fn away(&self, kind: Kind, name: Option<&str>) -> impl Fn(Failure) -> StoreError + use<> {
        let (home, name) = (self.home.clone(), name.map(str::to_owned));
        move |failure| failure.of(&home, kind, name.as_deref())
    }

    async fn patch(&self, url: String, operations: &Value) -> Result<Custom, Failure> {
        let request = http::Request::patch(format!("{url}?fieldManager={FIELD_MANAGER}"))
            .header(CONTENT_TYPE, "application/json-patch+json")
            .body(operations.to_string().into_bytes())
            .map_err(|e| Failure::Away(e.into()))?;
        answer(self.source.client.request(request)).await
    }

    /// Asks what the server would say of an object, whether it is there already or not; nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], or the server is away or refuses.
    pub async fn dry_run(&self, object: &Object) -> Result<(), StoreError> {
        let (kind, name) = (object.kind, object.metadata.name.as_str());
        let url = format!(
            "{}/{name}?dryRun=All&force=true&fieldManager={FIELD_MANAGER}",
            collection(kind)
        );
        let request = http::Request::patch(url)
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .body(creation(object).to_string().into_bytes());
        let asked = async {
            let request = request.map_err(|e| Failure::Away(e.into()))?;
            answer(self.source.client.request::<Value>(request)).await
        };
        match asked.await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.of(&self.home, kind, Some(name))),
        }
    }

    /// Writes a status; with a version, only over that one.
    async fn patch_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        version: Option<&str>,
        status: Value,
    ) -> Result<Object, StoreError> {
        kind.check_status(name, &status)?;
        let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid})];
        if let Some(version) = version {
            let path = "/metadata/resourceVersion";
            operations.push(json!({"op": "test", "path": path, "value": version}));
        }
        operations.push(json!({"op": "add", "path": "/status", "value": status}));
        let url = format!("{}/{name}/status", collection(kind));
        match self.patch(url, &operations.into()).await {
            Ok(updated) => Ok(updated.into_object(kind)),
            Err(failure) => Err(self.explain(failure, kind, name, uid, version).await),
        }
    }

    /// The reason why a write did not fit: the object is read, which needs no other right than a list.
    async fn explain(
        &self,
        failure: Failure,
        kind: Kind,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> StoreError {
        if !failure.may_be_conflict() {
            return failure.of(&self.home, kind, Some(name));
        }
        let only = Selection {
            fields: Some(format!("metadata.name={name}")),
            ..selection(kind, &Labels::new())
        };
        let stored = match self.source.list::<Custom>(&only).await {
            Ok(mut listed) => listed.objects.pop().map(|o| o.into_object(kind)),
            Err(other) => return other.of(&self.home, kind, None),
        };
        let conflict = |cause| StoreError::Conflict {
            kind,
            name: name.to_owned(),
            cause,
        };
        match stored.map(|o| (o.metadata.uid, o.metadata.resource_version)) {
            None => StoreError::NotFound {
                kind,
                name: name.to_owned(),
            },
            Some((stored, _)) if stored.as_deref() != Some(uid) => {
                conflict(ConflictCause::Recreated)
            }
            Some((_, stored)) if version.is_some() && stored.as_deref() != version => {
                conflict(ConflictCause::Changed)
            }
            Some(_) => failure.of(&self.home, kind, Some(name)),
        }
    }

    fn resume(&self, version: &str, kind: Kind) -> Result<ResumePoint, StoreError> {
        // Versions are decimal numbers that grow (KEP-5504); here they are only given back.
        let number = version.parse().map_err(|_| StoreError::Unavailable {
            home: self.home.clone(),
            source: format!("a list of {kind} has the version \"{version}\"").into(),
        })?;
        Ok(ResumePoint::new(&self.home, number))
    }

    fn watch_from(
        &self,
        kind: Kind,
        mut changes: mpsc::Receiver<Result<Change<Custom>, Ended>>,
    ) -> WatchStream {
        let (sender, events) = mpsc::channel(1);
        let away = self.away(kind, None);
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    () = sender.closed() => return,
                };
                let Some(change) = change else { return };
                let event = match change {
                    Ok(Change::Put(object)) => Ok(WatchEvent::Put(object.into_object(kind))),
                    Ok(Change::Gone(object)) => Ok(WatchEvent::Delete(object.into_object(kind))),
                    Err(Ended::Expired) => Err(StoreError::Compacted { kind }),
                    Err(Ended::Failed(failure)) => Err(away(failure)),
                };
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        WatchStream::new(events)
    }
}

fn collection(kind: Kind) -> String {
    format!("/apis/{API_GROUP}/{API_GROUP_VERSION}/{}", kind.plural())
}

fn selection(kind: Kind, labels: &Labels) -> Selection {
    Selection {
        path: collection(kind),
        labels: label_selector(labels),
        fields: None,
    }
}

/// The uid and the version that an update must have.
fn identity(object: &Object) -> Result<(&str, &str), StoreError> {
    let incomplete = |field| StoreError::Incomplete {
        kind: object.kind,
        name: object.metadata.name.clone(),
        field,
    };
    let metadata = &object.metadata;
    let uid = metadata.uid.as_deref();
    let version = metadata.resource_version.as_deref();
    Ok((
        uid.ok_or_else(|| incomplete("metadata.uid"))?,
        version.ok_or_else(|| incomplete("metadata.resourceVersion"))?,
    ))
}

#[async_trait]
impl Store for KubeStore {
    fn home(&self) -> String {
        self.home.clone()
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Object>, StoreError> {
        let away = self.away(kind, Some(name));
        let request = Request::new(collection(kind)).get(name, &GetParams::default());
        let request = request.map_err(|e| away(Failure::Away(e.into())))?;
        match answer(self.source.client.request::<Custom>(request)).await {
            Ok(object) => Ok(Some(object.into_object(kind))),
            Err(failure) => match away(failure) {
                StoreError::NotFound { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn list(&self, kind: Kind, labels: &Labels) -> Result<Listing, StoreError> {
        let away = self.away(kind, None);
        let listed = self.source.list::<Custom>(&selection(kind, labels)).await;
        let listed = listed.map_err(away)?;
        Ok(Listing {
            resume: self.resume(&listed.version, kind)?,
            objects: objects(kind, listed.objects),
        })
    }

    async fn create(&self, object: Object) -> Result<Object, StoreError> {
        object.validate()?;
        let (kind, name) = (object.kind, object.metadata.name.clone());
        let away = self.away(kind, Some(&name));
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let body = creation(&object).to_string().into_bytes();
        let request = Request::new(collection(kind)).create(&params, body);
        let request = request.map_err(|e| away(Failure::Away(e.into())))?;
        let created = answer(self.source.client.request::<Custom>(request)).await;
        created.map(|o| o.into_object(kind)).map_err(away)
    }

    async fn update(&self, object: Object) -> Result<Object, StoreError> {
        object.validate()?;
        let (uid, version) = identity(&object)?;
        let (kind, name) = (object.kind, &object.metadata.name);
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/labels", "value": object.metadata.labels},
            {"op": "add", "path": "/metadata/annotations", "value": object.metadata.annotations},
            {"op": "add", "path": "/spec", "value": object.spec},
        ]);
        let url = format!("{}/{name}", collection(kind));
        match self.patch(url, &operations).await {
            Ok(updated) => Ok(updated.into_object(kind)),
            Err(failure) => Err(self.explain(failure, kind, name, uid, Some(version)).await),
        }
    }

    async fn update_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: Value,
    ) -> Result<Object, StoreError> {
        self.patch_status(kind, name, uid, None, status).await
    }

    async fn update_status_of(&self, read: &Object, status: Value) -> Result<Object, StoreError> {
        let (uid, version) = identity(read)?;
        let name = read.metadata.name.as_str();
        self.patch_status(read.kind, name, uid, Some(version), status)
            .await
    }

    async fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Result<(), StoreError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: Some(resource_version.to_owned()),
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(collection(kind)).delete(name, &params);
        let request = request.map_err(|e| self.away(kind, Some(name))(Failure::Away(e.into())))?;
        match answer(self.source.client.request::<Value>(request)).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self
                .explain(failure, kind, name, uid, Some(resource_version))
                .await),
        }
    }

    async fn watch(
        &self,
        kind: Kind,
        labels: &Labels,
        from: ResumePoint,
    ) -> Result<WatchStream, StoreError> {
        if from.store_id() != self.home {
            return Err(StoreError::Compacted { kind });
        }
        let version = from.seq().to_string();
        let changes = self.source.follow(&selection(kind, labels), version, None);
        Ok(self.watch_from(kind, changes))
    }

    async fn list_and_watch(
        &self,
        kind: Kind,
        labels: &Labels,
    ) -> Result<(Listing, WatchStream), StoreError> {
        let away = self.away(kind, None);
        let what = selection(kind, labels);
        let (listed, changes) = self
            .source
            .list_and_watch::<Custom>(&what)
            .await
            .map_err(away)?;
        let listing = Listing {
            resume: self.resume(&listed.version, kind)?,
            objects: objects(kind, listed.objects),
        };
        Ok((listing, self.watch_from(kind, changes)))
    }
}

/// In the order of their names, which is not the order of a server's keys.
fn objects(kind: Kind, listed: Vec<Custom>) -> Vec<Object> {
    let mut objects: Vec<Object> = listed.into_iter().map(|o| o.into_object(kind)).collect();
    objects.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    objects
}
