//! What an apply would do, and what speaks against it. Pure: stored objects and wanted ones come in.

use ipnet::IpNet;
use roadbed_api::kinds::{
    BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, IpBlockSpec, IpPoolSpec, block_name,
};
use roadbed_api::{Kind, Object};
use serde_json::Value;

use crate::manifests::Found;

/// What happens to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is there and differs.
    Configured,
    /// It is there and is the same.
    Unchanged,
}

impl Change {
    /// The word that the command prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Configured => "configured",
            Change::Unchanged => "unchanged",
        }
    }
}

/// `ippool/pods-v4`: how commands name an object.
pub fn object_name(object: &Object) -> String {
    let kind = object.kind.as_str().to_ascii_lowercase();
    format!("{kind}/{}", object.metadata.name)
}

/// What a wanted object does to the stored one of its name.
pub fn change(stored: Option<&Object>, wanted: &Object) -> Change {
    match stored {
        None => Change::Created,
        Some(stored)
            if stored.metadata.labels == wanted.metadata.labels
                && stored.metadata.annotations == wanted.metadata.annotations
                && canonical(stored) == canonical(wanted) =>
        {
            Change::Unchanged
        }
        Some(_) => Change::Configured,
    }
}

/// The stored object with the wanted labels, annotations and spec: what an update writes.
pub fn merged(stored: &Object, wanted: &Object) -> Object {
    let mut next = stored.clone();
    next.metadata.labels.clone_from(&wanted.metadata.labels);
    next.metadata
        .annotations
        .clone_from(&wanted.metadata.annotations);
    next.spec.clone_from(&wanted.spec);
    next
}

/// The spec without what equals a default; as stored when it does not have its kind's shape.
fn canonical(object: &Object) -> Value {
    let spec = match object.kind {
        Kind::IPPool => object.typed::<IpPoolSpec>().map(|r| r.to_object().spec),
        Kind::IPBlock => object.typed::<IpBlockSpec>().map(|r| r.to_object().spec),
        Kind::BGPPeer => object.typed::<BgpPeerSpec>().map(|r| r.to_object().spec),
        Kind::BGPConfig => object.typed::<BgpConfigSpec>().map(|r| r.to_object().spec),
        Kind::BGPRoutePolicy => object
            .typed::<BgpRoutePolicySpec>()
            .map(|r| r.to_object().spec),
    };
    spec.unwrap_or_else(|_| object.spec.clone())
}

/// What in a change to this stored object is not allowed.
pub fn immutable(stored: &Object, wanted: &Object) -> Vec<String> {
    let mut problems = Vec::new();
    let mut fixed = |field: &str, is: String, wants: String, advice: &str| {
        if is != wants {
            problems.push(format!(
                "{}/{}: spec.{field}: is {is} and cannot become {wants}: {advice}",
                wanted.kind, wanted.metadata.name
            ));
        }
    };
    if let (Ok(is), Ok(wants)) = (stored.typed::<IpPoolSpec>(), wanted.typed::<IpPoolSpec>()) {
        let advice =
            "make a pool of another name, disable this one, delete it once it has no blocks";
        let (is, wants) = (is.spec, wants.spec);
        fixed("cidr", is.cidr.to_string(), wants.cidr.to_string(), advice);
        if is.cidr == wants.cidr {
            let size = |s: &IpPoolSpec| format!("/{}", s.block_prefix_len());
            fixed("blockSize", size(&is), size(&wants), advice);
        }
    }
    if let (Ok(is), Ok(wants)) = (stored.typed::<IpBlockSpec>(), wanted.typed::<IpBlockSpec>()) {
        let advice = "blocks change hands through their owner's agent only";
        let (is, wants) = (is.spec, wants.spec);
        fixed("cidr", is.cidr.to_string(), wants.cidr.to_string(), advice);
        fixed("pool", is.pool, wants.pool, advice);
        fixed("owner.node", is.owner.node, wants.owner.node, advice);
    }
    problems
}

/// What speaks against writing these objects: pools that overlap each other or stored ones, fields that cannot
/// change, blocks whose name is not their range's. `stored` holds every stored pool and every stored namesake.
pub fn objections(wanted: &[Found], stored: &[Object]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut pools: Vec<Pool> = Vec::new();
    for found in wanted {
        let object = &found.object;
        let namesake = stored
            .iter()
            .find(|s| s.kind == object.kind && s.metadata.name == object.metadata.name);
        if let Some(namesake) = namesake {
            let fixed = immutable(namesake, object).into_iter();
            problems.extend(fixed.map(|p| format!("{}: {p}", found.origin)));
        }
        if let Ok(block) = object.typed::<IpBlockSpec>() {
            let name = block_name(&block.spec.cidr);
            if block.name() != name {
                problems.push(format!(
                    "{}: IPBlock/{}: metadata.name: the block {} is named {name}, so that two claims of it meet",
                    found.origin,
                    block.name(),
                    block.spec.cidr
                ));
            }
        }
        if let Ok(pool) = object.typed::<IpPoolSpec>() {
            let pool = Pool {
                name: pool.name().to_owned(),
                cidr: pool.spec.cidr,
                place: found.origin.clone(),
            };
            let others = stored.iter().filter_map(|s| Pool::stored(s, wanted));
            for other in others.chain(pools.iter().cloned()) {
                problems.extend(pool.overlap(&other));
            }
            pools.push(pool);
        }
    }
    problems
}

/// A pool and where it is said.
#[derive(Clone, Debug)]
struct Pool {
    name: String,
    cidr: IpNet,
    place: String,
}

impl Pool {
    /// A stored pool that no wanted one replaces.
    fn stored(object: &Object, wanted: &[Found]) -> Option<Pool> {
        let pool = object.typed::<IpPoolSpec>().ok()?;
        let replaced = wanted
            .iter()
            .any(|f| f.object.kind == Kind::IPPool && f.object.metadata.name == pool.name());
        (!replaced).then(|| Pool {
            name: pool.name().to_owned(),
            cidr: pool.spec.cidr,
            place: "the store".to_owned(),
        })
    }

    fn overlap(&self, other: &Pool) -> Option<String> {
        let overlaps = self.cidr.contains(&other.cidr) || other.cidr.contains(&self.cidr);
        overlaps.then(|| {
            format!(
                "{}: IPPool/{}: spec.cidr: {} overlaps {} of IPPool/{} in {}: choose ranges that share no address",
                self.place, self.name, self.cidr, other.cidr, other.name, other.place
            )
        })
    }
}
