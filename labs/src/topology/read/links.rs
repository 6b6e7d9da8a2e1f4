//! The `links` of a topology: brief and extended veth links between nodes, nothing that leaves the lab.

use std::collections::BTreeSet;

use super::Reader;
use crate::problem::Problem;
use crate::topology::{DEFAULT_MTU, Endpoint, Link, MAX_LINKS, Node};
use crate::yaml::{self, Value};

/// Endpoint "nodes" that containerlab reserves for other link types.
const SPECIAL_ENDS: &[&str] = &[
    "host",
    "mgmt-net",
    "macvlan",
    "dummy",
    "vxlan",
    "vxlan-stitch",
];

impl Reader {
    pub(super) fn links(&mut self, value: &yaml::Node, path: &str, nodes: &[Node]) -> Vec<Link> {
        let items = self.seq(value, path);
        if items.len() > MAX_LINKS {
            self.problem(
                value.line,
                path,
                format!("{} links; {MAX_LINKS} at most", items.len()),
            );
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let mut links = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(link) = self.link(item, &path) else {
                continue;
            };
            for end in &link.ends {
                if !nodes.iter().any(|node| node.name == end.node)
                    && !self
                        .problems
                        .iter()
                        .any(|p| p.path.starts_with(&format!("topology.nodes.{}", end.node)))
                {
                    self.problem(item.line, &path, format!("no node is named {:?}", end.node));
                }
                if !seen.insert(end.clone()) {
                    let message = format!("{}:{} is used twice", end.node, end.interface);
                    self.problem(item.line, &path, message);
                }
            }
            links.push(link);
        }
        links
    }

    fn link(&mut self, item: &yaml::Node, path: &str) -> Option<Link> {
        let (mut ends, mut mtu) = (None, DEFAULT_MTU);
        for entry in self.map(item, path)? {
            let at = format!("{path}.{}", entry.key);
            match entry.key.as_str() {
                "endpoints" => ends = self.ends(&entry.value, &at),
                "mtu" => {
                    let text = self.scalar(&entry.value, &at)?;
                    match text.parse() {
                        Ok(value) if (68..=65535).contains(&value) => mtu = value,
                        _ => self.problem(
                            entry.line,
                            &at,
                            format!("{text:?} is not an MTU (68 to 65535)"),
                        ),
                    }
                }
                "labels" => {
                    self.strings(&entry.value, &at);
                }
                "vars" => self
                    .notes
                    .push(format!("{at}: there is no configuration engine")),
                "type" => {
                    let kind = self.scalar(&entry.value, &at)?;
                    if kind != "veth" {
                        let message =
                            format!("a link of type {kind:?} leaves the lab; only `veth` is known");
                        self.problem(entry.line, &at, message);
                        return None;
                    }
                }
                _ => {
                    let message = "unknown key; known here: type, endpoints, mtu, labels";
                    self.problem(entry.line, &at, message);
                }
            }
        }
        match ends {
            Some(ends) => Some(Link { ends, mtu }),
            None => {
                let fresh = |p: &Problem| !p.path.starts_with(path);
                if self.problems.iter().all(fresh) {
                    self.problem(item.line, path, "`endpoints` is missing");
                }
                None
            }
        }
    }

    fn ends(&mut self, value: &yaml::Node, path: &str) -> Option<[Endpoint; 2]> {
        let items = self.seq(value, path);
        let [a, b] = items else {
            let message = "a link has two endpoints, such as [\"n1:eth1\", \"n2:eth1\"]";
            self.problem(value.line, path, message);
            return None;
        };
        let (a, b) = (self.end(a, path), self.end(b, path));
        Some([a?, b?])
    }

    fn end(&mut self, item: &yaml::Node, path: &str) -> Option<Endpoint> {
        let (node, interface) = match &item.value {
            Value::Scalar(text) => match text.split_once(':') {
                Some((node, interface)) => (node.to_owned(), interface.to_owned()),
                None => {
                    self.problem(item.line, path, format!("{text:?}: write `node:interface`"));
                    return None;
                }
            },
            _ => {
                let (mut node, mut interface) = (String::new(), String::new());
                for entry in self.map(item, path)? {
                    match entry.key.as_str() {
                        "node" => node = self.scalar(&entry.value, path)?,
                        "interface" => interface = self.scalar(&entry.value, path)?,
                        key => {
                            let message = "unknown key; known here: node, interface";
                            self.problem(entry.line, &format!("{path}.{key}"), message);
                        }
                    }
                }
                (node, interface)
            }
        };
        if SPECIAL_ENDS.contains(&node.as_str()) {
            let message = format!("{node}:{interface} leaves the lab; both ends must be nodes");
            self.problem(item.line, path, message);
            return None;
        }
        let printable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let sound = !interface.is_empty()
            && interface.len() <= 15
            && interface.chars().all(printable)
            && !interface.starts_with(['.', '-']);
        if !sound || matches!(interface.as_str(), "lo" | "eth0" | "all" | "default") {
            let message = format!(
                "{interface:?} is not an interface name for a link: 1 to 15 letters, digits, `.`, `_` or `-`; lo and eth0 are taken"
            );
            self.problem(item.line, path, message);
            return None;
        }
        Some(Endpoint { node, interface })
    }
}
