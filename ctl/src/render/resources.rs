//! Resources of the store.

use jiff::Timestamp;
use roadbed_api::kinds::{
    BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, DefaultAction, IpBlockSpec, IpPoolSpec,
};
use roadbed_api::resource::{ObjectError, Spec};
use roadbed_api::selector::Operator;
use roadbed_api::{Kind, LabelSelector, Object, Resource, manifest};
use serde_json::{Value, json};

use super::table::{Columns, list, or_dash};
use super::{slots, span};
use crate::plan::object_name;

/// One table per kind, an empty line between two.
pub fn resources(objects: &[Object], wide: bool, now: Timestamp) -> String {
    let mut tables = Vec::new();
    for kind in Kind::ALL {
        let of_kind: Vec<&Object> = objects.iter().filter(|o| o.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        tables.push(match kind {
            Kind::IPPool => table(&of_kind, wide, now, &POOL, pool),
            Kind::IPBlock => table(&of_kind, wide, now, &BLOCK, block),
            Kind::BGPPeer => table(&of_kind, wide, now, &PEER, peer),
            Kind::BGPConfig => table(&of_kind, wide, now, &CONFIG, config),
            Kind::BGPRoutePolicy => table(&of_kind, wide, now, &POLICY, policy),
        });
    }
    if tables.is_empty() {
        return "No resources.\n".to_owned();
    }
    tables.join("\n")
}

/// `ippool/pods-v4`, one per line.
pub fn names(objects: &[Object]) -> String {
    objects.iter().map(|o| object_name(o) + "\n").collect()
}

/// The only object itself, several as a `List`.
pub fn resources_json(objects: &[Object], single: bool) -> Value {
    match (objects, single) {
        ([object], true) => object.to_document(),
        _ => {
            let items: Vec<Value> = objects.iter().map(Object::to_document).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items})
        }
    }
}

/// One document per object.
pub fn resources_yaml(objects: &[Object]) -> String {
    let documents: Vec<String> = objects.iter().map(manifest::to_yaml).collect();
    documents.join("---\n")
}

/// Columns of a kind after NAME: the usual ones and those of `-o wide`.
struct Header {
    usual: &'static [&'static str],
    wide: &'static [&'static str],
}

const POOL: Header = Header {
    usual: &["CIDR", "BLOCK SIZE", "DISABLED", "CONDITIONS"],
    wide: &["SLOTS", "NODES"],
};
const BLOCK: Header = Header {
    usual: &["CIDR", "POOL", "NODE", "STATE", "IN USE"],
    wide: &["OBSERVED"],
};
const PEER: Header = Header {
    usual: &["ADDRESS", "AS", "FAMILIES", "NODES"],
    wide: &["LOCAL AS", "PORT", "HOLD", "IMPORT", "EXPORT"],
};
const POLICY: Header = Header {
    usual: &["RULES", "DEFAULT"],
    wide: &["RULE NAMES"],
};
const CONFIG: Header = Header {
    usual: &["AS", "PORT", "NODE PREFIXES", "DEFAULT ROUTE"],
    wide: &["ROUTER ID"],
};

fn table<S: Spec>(
    objects: &[&Object],
    wide: bool,
    now: Timestamp,
    header: &Header,
    cells: fn(&Resource<S>) -> Vec<String>,
) -> String {
    let width = header.usual.len();
    let mut names = vec!["NAME"];
    names.extend(header.usual);
    names.push("AGE");
    if wide {
        names.extend(header.wide);
    }
    let mut table = Columns::new(&names);
    for object in objects {
        let mut row = vec![object.metadata.name.clone()];
        let cells = object.typed::<S>().map(|r| cells(&r));
        let (usual, further) = match &cells {
            Ok(cells) => cells.split_at(width.min(cells.len())),
            Err(_) => (&[][..], &[][..]),
        };
        row.extend_from_slice(usual);
        row.resize(width + 1, "?".to_owned());
        row.push(age(object, now));
        if wide {
            row.extend_from_slice(further);
            row.resize(names.len(), "?".to_owned());
        }
        if let (Err(error), Some(first)) = (&cells, row.get_mut(1)) {
            *first = unreadable(error);
        }
        table.row(row);
    }
    table.text("No resources.")
}

/// An object that a newer version wrote is shown, with what is not understood.
fn unreadable(error: &ObjectError) -> String {
    match error {
        ObjectError::Shape { part, source, .. } => format!("unreadable {part}: {source}"),
        other => format!("unreadable: {other}"),
    }
}

fn age(object: &Object, now: Timestamp) -> String {
    let created = object.metadata.creation_timestamp.as_ref();
    let created = created.and_then(|t| t.0.parse::<Timestamp>().ok());
    or_dash(created.map(|t| span(u64::try_from(now.as_second() - t.as_second()).unwrap_or(0))))
}

fn pool(pool: &Resource<IpPoolSpec>) -> Vec<String> {
    let conditions = &pool.status.conditions;
    vec![
        pool.spec.cidr.to_string(),
        format!("/{}", pool.spec.block_prefix_len()),
        if pool.spec.disabled { "yes" } else { "no" }.to_owned(),
        list(
            conditions
                .iter()
                .map(|c| format!("{}={}", c.r#type, c.status)),
        ),
        slots(pool.spec.slots()),
        selector(pool.spec.node_selector.as_ref()),
    ]
}

fn block(block: &Resource<IpBlockSpec>) -> Vec<String> {
    let status = &block.status;
    let counted = status.observed.is_some() || status.capacity > 0;
    vec![
        block.spec.cidr.to_string(),
        block.spec.pool.clone(),
        block.spec.owner.node.clone(),
        format!("{:?}", block.spec.state),
        or_dash(counted.then(|| format!("{}/{}", status.in_use, status.capacity))),
        or_dash(status.observed.as_ref()),
    ]
}

fn peer(peer: &Resource<BgpPeerSpec>) -> Vec<String> {
    let spec = &peer.spec;
    vec![
        match (spec.address, spec.listen_range) {
            (None, Some(range)) => range.to_string(),
            (address, _) => or_dash(address),
        },
        spec.as_number.to_string(),
        list(&spec.families),
        selector(spec.node_selector.as_ref()),
        or_dash(spec.local_as_number),
        or_dash(spec.port),
        or_dash(spec.hold_time_seconds.map(|s| format!("{s}s"))),
        list(&spec.import_policies),
        list(&spec.export_policies),
    ]
}

fn policy(policy: &Resource<BgpRoutePolicySpec>) -> Vec<String> {
    let spec = &policy.spec;
    vec![
        spec.rules.len().to_string(),
        match spec.default_action {
            DefaultAction::Accept => "accept",
            DefaultAction::Reject => "reject",
            DefaultAction::Next => "next",
        }
        .to_owned(),
        list(spec.rules.iter().map(|r| r.name.as_deref().unwrap_or("-"))),
    ]
}

fn config(config: &Resource<BgpConfigSpec>) -> Vec<String> {
    let spec = &config.spec;
    vec![
        or_dash(spec.as_number),
        or_dash(spec.listen_port),
        list(&spec.node_prefixes),
        if spec.accept_default_route {
            "accepted"
        } else {
            "refused"
        }
        .to_owned(),
        or_dash(spec.router_id),
    ]
}

/// A selector as kubectl writes one.
fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "all".to_owned();
    };
    let labels = selector
        .match_labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"));
    let requirements = selector.match_expressions.iter().map(|r| {
        let (key, values) = (&r.key, r.values.join(","));
        match r.operator {
            Operator::In => format!("{key} in ({values})"),
            Operator::NotIn => format!("{key} notin ({values})"),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        }
    });
    let text = list(labels.chain(requirements));
    if text == "-" { "all".to_owned() } else { text }
}
