//! From a document to a [`Topology`], collecting every fault on the way.
//!
//! Pure: text in, topology and problems out. A topology is returned beside problems so that the caller can go on looking.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::{self, Verdict};
use super::{Bind, Link, MAX_NODES, Node, Topology, TopologyError};
use crate::images;
use crate::problem::Problem;
use crate::words;
use crate::yaml::{self, Entry, Value};

mod links;

pub(super) fn read(
    text: &str,
    path: &Path,
) -> Result<(Option<Topology>, Vec<Problem>), TopologyError> {
    let document = yaml::parse(text).map_err(|message| TopologyError::Syntax {
        path: path.to_owned(),
        message,
    })?;
    let mut reader = Reader::default();
    reader.substitutions(text);
    let topology = reader.document(&document, path);
    Ok((topology, reader.problems))
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    notes: Vec<String>,
}

/// One level of node settings: defaults, a kind, a group or the node itself.
#[derive(Clone, Debug, Default)]
struct Layer {
    line: u64,
    kind: Option<String>,
    group: Option<String>,
    image: Option<(String, u64)>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    exec: Vec<Vec<String>>,
    binds: Vec<Bind>,
    env: BTreeMap<String, String>,
    sysctls: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl Reader {
    fn problem(&mut self, line: u64, path: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            line,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    /// containerlab replaces `${NAME}` from its environment before it reads; a lab here must not depend on it.
    fn substitutions(&mut self, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let code = line.split(" #").next().unwrap_or(line);
            if code.contains("${") && !code.trim_start().starts_with('#') {
                let message = "`${…}` is not replaced from the environment; write the value";
                self.problem(index as u64 + 1, "", message);
            }
        }
    }

    fn document(&mut self, document: &yaml::Node, file: &Path) -> Option<Topology> {
        let mut name = None;
        let mut prefix = "clab".to_owned();
        let mut body = None;
        for entry in self.map(document, "")? {
            let (key, line) = (entry.key.as_str(), entry.line);
            match key {
                "name" => name = self.scalar(&entry.value, key).map(|n| (n, line)),
                "prefix" => prefix = self.prefix(&entry.value),
                "topology" => body = Some(&entry.value),
                "mgmt" => self.problem(line, key, "nodes have no management network; remove it"),
                "settings" => self.problem(line, key, "no certificates are issued; remove it"),
                "debug" => self.notes.push(format!("{key}: no effect here")),
                _ => {
                    let message = "unknown key; known here: name, prefix, topology";
                    self.problem(line, key, message);
                }
            }
        }
        let name = match name {
            Some((name, line)) => {
                self.check_name(&name, line, "name");
                name
            }
            None => {
                self.problem(0, "name", "missing; a lab needs a name");
                String::new()
            }
        };
        let Some(body) = body else {
            self.problem(0, "topology", "missing");
            return None;
        };
        let (nodes, links) = self.topology(body)?;
        Some(Topology {
            name,
            prefix,
            file: file.to_owned(),
            nodes,
            links,
            notes: std::mem::take(&mut self.notes),
        })
    }

    fn prefix(&mut self, value: &yaml::Node) -> String {
        if matches!(value.value, Value::Null) {
            return String::new();
        }
        let prefix = self.scalar(value, "prefix").unwrap_or_default();
        if !prefix.is_empty() && prefix != "__lab-name" {
            self.check_name(&prefix, value.line, "prefix");
        }
        prefix
    }

    fn topology(&mut self, body: &yaml::Node) -> Option<(Vec<Node>, Vec<Link>)> {
        let (mut defaults, mut kinds, mut groups) =
            (Layer::default(), BTreeMap::new(), BTreeMap::new());
        let (mut nodes, mut links) = (Vec::new(), None);
        for entry in self.map(body, "topology")? {
            let path = format!("topology.{}", entry.key);
            match entry.key.as_str() {
                "defaults" => defaults = self.layer(&entry.value, entry.line, &path),
                "kinds" => kinds = self.layers(&entry.value, &path).into_iter().collect(),
                "groups" => groups = self.layers(&entry.value, &path).into_iter().collect(),
                "nodes" => nodes = self.layers(&entry.value, &path),
                "links" => links = Some((&entry.value, path)),
                _ => {
                    let message = "unknown key; known here: defaults, kinds, groups, nodes, links";
                    self.problem(entry.line, &path, message);
                }
            }
        }
        for (kind, layer) in kinds.iter().filter(|(kind, _)| *kind != "linux") {
            self.kind(kind, layer.line, &format!("topology.kinds.{kind}"));
        }
        if nodes.is_empty() {
            self.problem(body.line, "topology.nodes", "a lab needs a node");
        }
        if nodes.len() > MAX_NODES {
            let message = format!("{} nodes; {MAX_NODES} at most", nodes.len());
            self.problem(body.line, "topology.nodes", message);
            return None;
        }
        let mut merged: Vec<Node> = Vec::new();
        for (name, layer) in nodes {
            let path = format!("topology.nodes.{name}");
            self.check_name(&name, layer.line, &path);
            if name.len() > 32 {
                self.problem(layer.line, &path, "a node's name has at most 32 characters");
            }
            merged.extend(self.node(name, layer, &path, &defaults, &kinds, &groups));
        }
        let links = match links {
            Some((value, path)) => self.links(value, &path, &merged),
            None => Vec::new(),
        };
        Some((merged, links))
    }

    fn kind(&mut self, kind: &str, line: u64, path: &str) {
        self.problem(
            line,
            path,
            format!("kind {kind:?} cannot run in a namespace; only `linux` can"),
        );
    }

    /// Merges the levels as containerlab does: scalars from the closest level, lists in order, maps by key.
    fn node(
        &mut self,
        name: String,
        own: Layer,
        path: &str,
        defaults: &Layer,
        kinds: &BTreeMap<String, Layer>,
        groups: &BTreeMap<String, Layer>,
    ) -> Option<Node> {
        let group = own.group.as_ref().or(defaults.group.as_ref());
        // A group that is not defined is only a label for drawings, in containerlab too.
        let group = group
            .and_then(|group| groups.get(group))
            .cloned()
            .unwrap_or_default();
        let kind = [&own.kind, &group.kind, &defaults.kind]
            .into_iter()
            .find_map(Option::as_deref);
        match kind {
            Some("linux") => {}
            Some(kind) => {
                self.kind(kind, own.line, &format!("{path}.kind"));
                return None;
            }
            None => {
                self.problem(own.line, path, "`kind` is missing; write `kind: linux`");
                return None;
            }
        }
        let kind = kinds.get("linux").cloned().unwrap_or_default();
        let line = own.line;
        let mut node = Layer::default();
        for level in [defaults.clone(), kind, group, own] {
            node.image = level.image.or(node.image);
            node.entrypoint = level.entrypoint.or(node.entrypoint);
            node.cmd = level.cmd.or(node.cmd);
            node.exec.extend(level.exec);
            for bind in level.binds {
                node.binds.retain(|known| known.target != bind.target);
                node.binds.push(bind);
            }
            node.env.extend(level.env);
            node.sysctls.extend(level.sysctls);
            node.labels.extend(level.labels);
        }
        let Some((image, image_line)) = node.image else {
            self.problem(line, path, "`image` is missing");
            return None;
        };
        let Some(stand_in) = images::find(&image) else {
            let message = format!(
                "nothing stands in for the image {image:?}; known: {}",
                images::known()
            );
            self.problem(image_line, &format!("{path}.image"), message);
            return None;
        };
        Some(Node {
            name,
            image,
            stand_in,
            entrypoint: node.entrypoint.unwrap_or_default(),
            cmd: node.cmd.unwrap_or_default(),
            exec: node.exec,
            binds: node.binds,
            env: node.env,
            sysctls: node.sysctls,
            labels: node.labels,
        })
    }

    fn layers(&mut self, value: &yaml::Node, path: &str) -> Vec<(String, Layer)> {
        if matches!(value.value, Value::Null) {
            return Vec::new();
        }
        let entries = self.map(value, path).unwrap_or_default();
        entries
            .iter()
            .map(|entry| {
                let path = format!("{path}.{}", entry.key);
                (
                    entry.key.clone(),
                    self.layer(&entry.value, entry.line, &path),
                )
            })
            .collect()
    }

    fn layer(&mut self, value: &yaml::Node, line: u64, path: &str) -> Layer {
        let mut layer = Layer {
            line,
            ..Layer::default()
        };
        if matches!(value.value, Value::Null) {
            return layer;
        }
        for entry in self.map(value, path).unwrap_or_default() {
            let path = format!("{path}.{}", entry.key);
            match keys::node_key(&entry.key) {
                Some(Verdict::Taken) => self.setting(&mut layer, entry, &path),
                Some(Verdict::Noted(why)) => self.notes.push(format!("{path}: {why}")),
                Some(Verdict::Refused(why)) => {
                    self.problem(entry.line, &path, format!("cannot be honoured: {why}"));
                }
                None => {
                    let message = format!("unknown key; known here: {}", keys::taken());
                    self.problem(entry.line, &path, message);
                }
            }
        }
        layer
    }

    fn setting(&mut self, layer: &mut Layer, entry: &Entry, path: &str) {
        let value = &entry.value;
        match entry.key.as_str() {
            "kind" => layer.kind = self.scalar(value, path),
            "group" => layer.group = self.scalar(value, path),
            "image" => layer.image = self.scalar(value, path).map(|image| (image, entry.line)),
            "entrypoint" => layer.entrypoint = self.words(value, path),
            "cmd" => layer.cmd = self.words(value, path),
            "exec" => {
                for item in self.seq(value, path) {
                    layer.exec.extend(self.words(item, path));
                }
            }
            "binds" => {
                for item in self.seq(value, path) {
                    layer.binds.extend(self.bind(item, path));
                }
            }
            "env" => layer.env = self.strings(value, path),
            "sysctls" => {
                layer.sysctls = self.strings(value, path);
                for name in layer.sysctls.keys() {
                    // Everything else under /proc/sys is the machine's, not the node's.
                    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
                    if !name.starts_with("net.") || name.contains("..") || !name.chars().all(plain)
                    {
                        self.problems.push(Problem {
                            line: entry.line,
                            path: format!("{path}.{name}"),
                            message: "only `net.*` settings belong to a node alone".to_owned(),
                        });
                    }
                }
            }
            _ => layer.labels = self.strings(value, path),
        }
    }

    fn bind(&mut self, item: &yaml::Node, path: &str) -> Option<Bind> {
        let text = self.scalar(item, path)?;
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => {
                self.problem(
                    item.line,
                    path,
                    format!("{text:?}: write `source:target` or `source:target:ro`"),
                );
                return None;
            }
        };
        let climbs = target.split('/').any(|part| part == "..");
        if source.is_empty() || source.starts_with('~') || source.contains('\0') {
            let message =
                format!("{text:?}: the source is a path, relative to the file or absolute");
            self.problem(item.line, path, message);
        } else if !target.starts_with('/')
            || climbs
            || target.contains('\0')
            || target.trim_end_matches('/').is_empty()
        {
            let message = format!("{text:?}: the target is an absolute path inside the node");
            self.problem(item.line, path, message);
        } else if !matches!(options, "" | "ro" | "rw") {
            let message = format!("{text:?}: option {options:?} is not known; `ro` and `rw` are");
            self.problem(item.line, path, message);
        } else {
            return Some(Bind {
                source: source.to_owned(),
                target: target.to_owned(),
                read_only: options == "ro",
            });
        }
        None
    }

    fn check_name(&mut self, name: &str, line: u64, path: &str) {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let first = name
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        if !first || name.len() > 63 || !name.chars().all(inner) {
            let message = format!(
                "{name:?}: a name has 1 to 63 letters, digits, `.`, `_` or `-`, and starts with a letter or digit"
            );
            self.problem(line, path, message);
        }
    }

    fn words(&mut self, value: &yaml::Node, path: &str) -> Option<Vec<String>> {
        let line = self.scalar(value, path)?;
        match words::split(&line) {
            Some(words) if words.iter().any(|word| word.contains('\0')) => {
                self.problem(value.line, path, "holds a NUL character");
                None
            }
            Some(words) if !words.is_empty() => Some(words),
            Some(_) => {
                self.problem(value.line, path, "is empty");
                None
            }
            None => {
                self.problem(value.line, path, format!("{line:?}: a quote is left open"));
                None
            }
        }
    }

    fn scalar(&mut self, value: &yaml::Node, path: &str) -> Option<String> {
        match &value.value {
            Value::Scalar(text) => Some(text.clone()),
            other => {
                let message = format!("is {}; a single value belongs here", other.kind());
                self.problem(value.line, path, message);
                None
            }
        }
    }

    fn seq<'v>(&mut self, value: &'v yaml::Node, path: &str) -> &'v [yaml::Node] {
        match &value.value {
            Value::Seq(items) => items,
            Value::Null => &[],
            other => {
                let message = format!("is {}; a list belongs here", other.kind());
                self.problem(value.line, path, message);
                &[]
            }
        }
    }

    fn map<'v>(&mut self, value: &'v yaml::Node, path: &str) -> Option<&'v [Entry]> {
        match &value.value {
            Value::Map(entries) => Some(entries),
            other => {
                let message = format!("is {}; a mapping belongs here", other.kind());
                self.problem(value.line, path, message);
                None
            }
        }
    }

    fn strings(&mut self, value: &yaml::Node, path: &str) -> BTreeMap<String, String> {
        let entries = match &value.value {
            Value::Null => &[],
            _ => self.map(value, path).unwrap_or_default(),
        };
        let mut strings = BTreeMap::new();
        for entry in entries {
            let text = self.scalar(&entry.value, &format!("{path}.{}", entry.key));
            let text = text.unwrap_or_default();
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) || text.contains('\0') {
                self.problem(entry.line, path, format!("{:?} is not a name", entry.key));
            } else {
                strings.insert(entry.key.clone(), text);
            }
        }
        strings
    }
}
