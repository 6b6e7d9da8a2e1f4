//! What a namespace's routing tables say, in a form that tests compare.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::Ns;

/// Routing protocol number of what Roadbed learns.
pub const PROTOCOL: &str = "82";

/// A namespace's routes of one protocol, both families: destination → `via GATEWAY dev DEVICE`, next hops sorted and
/// joined by `, `; ` weight N` where it is not 1, ` linkdown` where the kernel says so.
///
/// # Errors
/// When `ip` fails.
pub fn routes(ns: &Ns, protocol: &str) -> Result<BTreeMap<String, String>> {
    let mut routes = BTreeMap::new();
    for family in ["-4", "-6"] {
        let text = ns.run(&format!(
            "ip -j {family} route show table main proto {protocol}"
        ))?;
        if text.trim().is_empty() {
            continue;
        }
        let parsed: Vec<Value> = serde_json::from_str(&text).context("output of ip -j route")?;
        for route in parsed {
            let destination = route["dst"].as_str().context("a route without dst")?;
            let mut hops: Vec<String> = match route["nexthops"].as_array() {
                Some(hops) => hops.iter().map(hop).collect(),
                None => vec![hop(&route)],
            };
            hops.sort();
            routes.insert(destination.to_owned(), hops.join(", "));
        }
    }
    Ok(routes)
}

fn hop(value: &Value) -> String {
    let gateway = value["gateway"]
        .as_str()
        .or_else(|| value["via"]["host"].as_str())
        .unwrap_or("link");
    let device = value["dev"].as_str().unwrap_or("?");
    let down = value["flags"]
        .as_array()
        .is_some_and(|flags| flags.iter().any(|f| f == "linkdown"));
    let weight = match value["weight"].as_u64() {
        Some(weight) if weight > 1 => format!(" weight {weight}"),
        _ => String::new(),
    };
    format!(
        "via {gateway} dev {device}{weight}{}",
        if down { " linkdown" } else { "" }
    )
}
