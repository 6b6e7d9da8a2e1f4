//! The server of the environment.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use roadbed_api::kinds::{BlockOwner, BlockState};
use roadbed_api::{IpBlockSpec, Kind, Metadata, Object, Resource};
use roadbed_kube::{Access, KubeStore};
use roadbed_store::{KubernetesConfig, Labels, Store};

/// The kubeconfig of an administrator.
pub(crate) fn kubeconfig() -> String {
    std::env::var("KUBECONFIG").expect("no API server: run `make test-kube`")
}

/// A store of its own connections.
pub(crate) async fn connect() -> Arc<dyn Store> {
    Arc::new(as_user(&kubeconfig()).await)
}

pub(crate) async fn as_user(kubeconfig: &str) -> KubeStore {
    let config = KubernetesConfig {
        kubeconfig: Some(kubeconfig.to_owned()),
        ..KubernetesConfig::default()
    };
    KubeStore::new(Access::new(&config).await.expect("a kubeconfig"))
}

/// Two stores of the server, on which no object of ours is left.
pub(crate) async fn fresh() -> (Arc<dyn Store>, Arc<dyn Store>) {
    let (a, b) = (connect().await, connect().await);
    for kind in Kind::ALL {
        for object in a.list(kind, &Labels::new()).await.unwrap().objects {
            let (uid, version) = ids(&object);
            a.delete(kind, &object.metadata.name, &uid, &version)
                .await
                .unwrap();
        }
    }
    (a, b)
}

pub(crate) fn ids(object: &Object) -> (String, String) {
    let metadata = &object.metadata;
    (
        metadata.uid.clone().unwrap(),
        metadata.resource_version.clone().unwrap(),
    )
}

pub(crate) fn block(i: u32) -> Object {
    let spec = IpBlockSpec {
        cidr: format!("10.9.{i}.0/26").parse().unwrap(),
        pool: "p".into(),
        owner: BlockOwner { node: "n1".into() },
        state: BlockState::Pending,
    };
    Resource::new(Metadata::named(format!("b{i}")), spec).to_object()
}

/// Runs the script of the bed: `None` on somebody else's cluster.
pub(crate) fn drive(args: &[&str]) -> Option<()> {
    let Some(bed) = std::env::var_os("ROADBED_BED").map(PathBuf::from) else {
        println!("NOT RUN: needs the bed, whose API server may be stopped");
        return None;
    };
    let output = Command::new(bed).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    Some(())
}

pub(crate) fn kubectl(args: &[&str]) -> Result<String, String> {
    let output = Command::new("kubectl").args(args).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
