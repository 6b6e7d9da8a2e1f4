//! The last known resources, kept in the state directory so that an agent comes back whole while the store is away.
//!
//! After a crash everything counts. After a reboot blocks do not until the store confirms them: the node may have been
//! away for so long that they were given to another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use roadbed_api::kinds::MeshDecision;
use roadbed_api::{Kind, Object};
use roadbed_kube::Node;
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::resources::{Kept, Objects};

const NAME: &str = "snapshot.json";
/// Anything larger is not ours.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Document {
    boot_id: String,
    node: String,
    pools: Vec<Kept>,
    peers: Vec<Kept>,
    #[serde(default)]
    policies: Vec<Kept>,
    bgp: Vec<Kept>,
    blocks: Vec<Kept>,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    mesh: Option<MeshDecision>,
}

/// Where snapshots of one node are.
#[derive(Clone, Debug)]
pub struct Snapshots {
    path: PathBuf,
    node: String,
    boot_id: String,
}

impl Snapshots {
    /// In this directory, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(state_dir: &Path, node: &str, boot_id: &str) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        Ok(Self {
            path: state_dir.join(NAME),
            node: node.to_owned(),
            boot_id: boot_id.to_owned(),
        })
    }

    /// The last snapshot of this node; blocks only when it is of this boot. `None` when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn load(&self) -> io::Result<Option<Objects>> {
        let len = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if len > MAX_BYTES {
            return Err(io::Error::other(format!(
                "{}: larger than {MAX_BYTES} bytes",
                self.path.display()
            )));
        }
        let document: Document = serde_json::from_slice(&fs::read(&self.path)?)?;
        if document.node != self.node {
            return Ok(None);
        }
        let objects = |kind, kept: Vec<Kept>| {
            let object = |k: Kept| Object {
                kind,
                metadata: k.metadata,
                spec: k.spec,
                status: k.status,
            };
            kept.into_iter().map(object).collect()
        };
        Ok(Some(Objects {
            pools: objects(Kind::IPPool, document.pools),
            peers: objects(Kind::BGPPeer, document.peers),
            policies: objects(Kind::BGPRoutePolicy, document.policies),
            bgp: objects(Kind::BGPConfig, document.bgp),
            blocks: if document.boot_id == self.boot_id {
                objects(Kind::IPBlock, document.blocks)
            } else {
                Vec::new()
            },
            nodes: document.nodes,
            mesh: document.mesh,
        }))
    }

    /// Replaces the snapshot.
    ///
    /// # Errors
    /// When it cannot be written; the former one stays.
    pub fn save(&self, objects: &Objects) -> io::Result<()> {
        let kept = |objects: &[Object]| {
            let keep = |o: &Object| Kept {
                metadata: o.metadata.clone(),
                spec: o.spec.clone(),
                status: o.status.clone(),
            };
            objects.iter().map(keep).collect()
        };
        let document = Document {
            boot_id: self.boot_id.clone(),
            node: self.node.clone(),
            pools: kept(&objects.pools),
            peers: kept(&objects.peers),
            policies: kept(&objects.policies),
            bgp: kept(&objects.bgp),
            blocks: kept(&objects.blocks),
            nodes: objects.nodes.clone(),
            mesh: objects.mesh,
        };
        // It holds peers' passwords.
        write_atomically(&self.path, 0o600, &serde_json::to_vec(&document)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Objects {
        let object = |kind, name: &str| Object {
            kind,
            metadata: roadbed_api::Metadata::named(name),
            spec: serde_json::json!({"cidr": "10.244.0.0/16"}),
            status: None,
        };
        Objects {
            pools: vec![object(Kind::IPPool, "p")],
            blocks: vec![object(Kind::IPBlock, "b")],
            ..Objects::default()
        }
    }

    #[test]
    fn blocks_count_only_within_one_boot_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let of_boot = |boot: &str| Snapshots::new(dir.path(), "n1", boot).unwrap();
        assert!(of_boot("a").load().unwrap().is_none());
        of_boot("a").save(&objects()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join(NAME)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        let same = of_boot("a").load().unwrap().unwrap();
        assert_eq!((same.pools.len(), same.blocks.len()), (1, 1));
        let other = of_boot("b").load().unwrap().unwrap();
        assert_eq!((other.pools.len(), other.blocks.len()), (1, 0));
        assert!(
            Snapshots::new(dir.path(), "n2", "a")
                .unwrap()
                .load()
                .unwrap()
                .is_none()
        );
        fs::write(dir.path().join(NAME), b"{\"boot_id\":").unwrap();
        assert!(of_boot("a").load().is_err());
    }
}
