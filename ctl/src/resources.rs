//! `get` and `delete`.

use std::collections::BTreeSet;

use roadbed_api::kinds::{BlockState, IpBlockSpec};
use roadbed_api::{Kind, Object};
use roadbed_store::{Labels, Store, StoreError};

use crate::error::CtlError;

/// How often a lost compare-and-swap is tried again.
const TRIES: usize = 8;

/// The objects of these kinds, or the one of that name.
///
/// # Errors
/// The store's, and [`CtlError::NotFound`] for a name that no object has.
pub async fn get(
    store: &dyn Store,
    kinds: &[Kind],
    name: Option<&str>,
) -> Result<Vec<Object>, CtlError> {
    let mut objects = Vec::new();
    for &kind in kinds {
        match name {
            None => objects.extend(store.list(kind, &Labels::new()).await?.objects),
            Some(name) => objects.extend(store.get(kind, name).await?),
        }
    }
    match (name, kinds) {
        (Some(name), &[kind, ..]) if objects.is_empty() => Err(CtlError::NotFound {
            kind,
            name: name.to_owned(),
            home: store.home(),
        }),
        _ => Ok(objects),
    }
}

/// Deletes one object; false when there was none. `force` deletes a block that a node owns.
///
/// # Errors
/// The store's, and [`CtlError::Refused`] for what is in use.
pub async fn delete(
    store: &dyn Store,
    kind: Kind,
    name: &str,
    force: bool,
) -> Result<bool, CtlError> {
    for _ in 0..TRIES {
        let Some(object) = store.get(kind, name).await? else {
            return Ok(false);
        };
        let in_the_way = match kind {
            Kind::IPPool => pool_in_use(
                name,
                &store.list(Kind::IPBlock, &Labels::new()).await?.objects,
            ),
            Kind::IPBlock if !force => block_in_use(&object),
            _ => None,
        };
        if let Some(reason) = in_the_way {
            return Err(CtlError::Refused(vec![reason]));
        }
        let uid = object.metadata.uid.unwrap_or_default();
        let revision = object.metadata.resource_version.unwrap_or_default();
        match store.delete(kind, name, &uid, &revision).await {
            Ok(()) => return Ok(true),
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CtlError::Incomplete(vec![format!(
        "{kind}/{name} is being changed by others again and again: try once more"
    )]))
}

/// Why a pool cannot go: the nodes that still have blocks of it.
fn pool_in_use(name: &str, blocks: &[Object]) -> Option<String> {
    let owned: Vec<_> = blocks
        .iter()
        .filter_map(|b| b.typed::<IpBlockSpec>().ok())
        .filter(|b| b.spec.pool == name)
        .collect();
    let nodes: BTreeSet<&str> = owned.iter().map(|b| b.spec.owner.node.as_str()).collect();
    let nodes: Vec<&str> = nodes.into_iter().collect();
    let count = match owned.len() {
        0 => return None,
        1 => "1 block".to_owned(),
        n => format!("{n} blocks"),
    };
    Some(format!(
        "IPPool/{name} still has {count}, on {}: disable it (spec.disabled: true) and delete it when they are given back",
        nodes.join(", ")
    ))
}

/// Why a block cannot go: the node that owns it.
fn block_in_use(block: &Object) -> Option<String> {
    let block = block.typed::<IpBlockSpec>().ok()?;
    (block.spec.state != BlockState::Releasing).then(|| {
        format!(
            "IPBlock/{} belongs to {}, whose agent gives it back: if that node is gone for good, use --force",
            block.name(),
            block.spec.owner.node
        )
    })
}
