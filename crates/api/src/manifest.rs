//! Manifests: one or more YAML documents (JSON is a part of YAML), as people write them and `roadbedctl apply`
//! reads them.
//!
//! Owns: which documents make a resource, where in the file a problem stands, the limits on what is read. Never
//! does: read files, know what a store holds.
//!
//! The text is cut at `---` and `...` first, so that a document that is no YAML hides no problem of the others.
//! Each document becomes a tree that knows its lines ([`document`]); what is wrong in it is taken out one by one until
//! the rest is readable, and every finding is reported.

mod yaml;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter};

use crate::document::{
    self, Data, DocumentError, DocumentErrors, Node, Place, shown, unknown_field,
};
use crate::kinds::{BgpConfigSpec, BgpPeerSpec, BgpRoutePolicySpec, IpBlockSpec, IpPoolSpec, Kind};
use crate::names::API_VERSION;
use crate::problem::Problems;
use crate::resource::{Metadata, Object, ObjectError, Spec};

/// Longest manifest that is read, bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Most documents of one manifest.
pub const MAX_DOCUMENTS: usize = 4096;
/// Deepest nesting of lists and mappings; a resource needs five levels.
pub const MAX_DEPTH: usize = 32;
/// Most problems that one manifest reports.
pub const MAX_PROBLEMS: usize = 100;

/// Most values of one document: far above what a resource has, and read within a second.
const MAX_VALUES: usize = 250_000;
/// A list as `kubectl get -o yaml` writes it.
const LIST: &str = "List";
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// The resources of a manifest, shape and values checked, in the order of the text. `origin` names the file in
/// messages. Specs come back in their canonical form: what equals a default is left out.
///
/// # Errors
/// Every problem of every document together, up to [`MAX_PROBLEMS`].
pub fn parse(text: &str, origin: &str) -> Result<Vec<Object>, DocumentErrors> {
    let mut reader = Reader {
        origin,
        objects: Vec::new(),
        seen: HashMap::new(),
        errors: DocumentErrors::new(),
    };
    if text.len() > MAX_BYTES {
        let message = format!(
            "has {} bytes: a manifest has at most {MAX_BYTES}; split it into several files",
            text.len()
        );
        reader.report(Where::default(), None, String::new(), message);
        return Err(reader.errors);
    }
    let mut document = 0;
    for (line, chunk) in chunks(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        if is_blank(chunk) {
            continue;
        }
        document += 1;
        let at = Where {
            document,
            before: line,
            place: None,
        };
        if document > MAX_DOCUMENTS {
            let message =
                format!("a manifest has at most {MAX_DOCUMENTS} documents; split the file");
            reader.report(at, None, String::new(), message);
            break;
        }
        reader.document(at, chunk);
        if reader.errors.len() >= MAX_PROBLEMS {
            reader.errors.truncate(MAX_PROBLEMS);
            let message = "further problems are not shown".to_owned();
            reader.report(Where::default(), None, String::new(), message);
            break;
        }
    }
    if reader.errors.is_empty() {
        Ok(reader.objects)
    } else {
        Err(reader.errors)
    }
}

/// The resource as one YAML document, without `---`.
pub fn to_yaml(object: &Object) -> String {
    let document = object.to_document();
    // JSON is YAML too, for whatever the emitter might refuse.
    serde_saphyr::to_string(&document).unwrap_or_else(|_| format!("{document:#}\n"))
}

/// The pieces between document marks, each with the number of lines before it. A mark at the start of a line is a
/// mark wherever it stands (YAML 1.2.2 §9.1.2).
fn chunks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let marked = |line: &str, mark: &str| {
        line.strip_prefix(mark)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut rest = text;
    let mut line_number = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let before = line_number;
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            if end > 0 && marked(line, "---") {
                break;
            }
            end += line.len();
            line_number += 1;
            if marked(line, "...") {
                break;
            }
        }
        let (chunk, after) = rest.split_at(end);
        rest = after;
        Some((before, chunk))
    })
}

/// Whether a piece is marks, comments and directives only.
fn is_blank(chunk: &str) -> bool {
    chunk.lines().enumerate().all(|(i, line)| {
        let line = if i == 0 {
            line.strip_prefix("---").unwrap_or(line)
        } else {
            line
        };
        let line = line.trim();
        line.is_empty() || line == "..." || line.starts_with(['#', '%'])
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 2,
            max_nodes: MAX_VALUES,
            max_events: 4 * MAX_VALUES,
            max_aliases: 256,
            max_anchors: 256,
            max_merge_keys: 256,
            max_recorded_anchor_events: 65_536,
            max_recorded_anchor_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 65_536,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// A place in the file: the document, the lines before it, the place inside it.
#[derive(Clone, Copy, Default)]
struct Where {
    document: usize,
    before: usize,
    place: Option<Place>,
}

impl Where {
    fn at(self, place: Place) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }
}

struct Reader<'a> {
    origin: &'a str,
    objects: Vec<Object>,
    /// Line of the first document of a kind and name.
    seen: HashMap<(Kind, String), usize>,
    errors: DocumentErrors,
}

impl Reader<'_> {
    fn report(&mut self, at: Where, object: Option<&str>, path: String, message: String) {
        self.errors.push(DocumentError {
            origin: self.origin.to_owned(),
            document: at.document,
            line: at
                .place
                .map(|p| at.before + p.line)
                .or((at.document > 0).then_some(at.before + 1)),
            column: at.place.map(|p| p.column),
            object: object.map(str::to_owned),
            path,
            message,
        });
    }

    fn document(&mut self, at: Where, chunk: &str) {
        match serde_saphyr::from_str_with_options::<Node>(chunk, options()) {
            Ok(node) => self.node(at, node, ""),
            Err(error) => {
                let (place, message) = explain(&error);
                let at = place.map_or(at, |p| at.at(p));
                self.report(at, None, String::new(), message);
            }
        }
    }

    /// One resource, or a list of them; `prefix` is the path that leads here.
    fn node(&mut self, at: Where, node: Node, prefix: &str) {
        let at = at.at(node.place);
        if matches!(node.data, Data::Null) {
            return;
        }
        let Some(entries) = node.entries() else {
            let message = format!(
                "is {}: a resource is a mapping with {}",
                node.described(),
                FIELDS[..4].join(", ")
            );
            return self.report(at, None, prefix.to_owned(), message);
        };
        let text = |key: &str| match node.get(key).map(|n| &n.data) {
            Some(Data::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        if text("kind") == Some(LIST) && prefix.is_empty() {
            return self.list(at, node);
        }
        let name = node.get("metadata").and_then(|m| m.get("name"));
        let object = match (text("kind"), name.map(|n| &n.data)) {
            (Some(kind), Some(Data::Text(name))) => {
                Some(format!("{}/{}", shown(kind), shown(name)))
            }
            (Some(kind), _) => Some(shown(kind)),
            _ => None,
        };
        let object = object.as_deref();
        let under = |path: &str| under(prefix, path);
        let mut kind = None;
        let before = self.errors.len();
        for entry in entries {
            if !FIELDS.contains(&entry.key.as_str()) {
                let message = unknown_field(&entry.key, &FIELDS);
                self.report(
                    at.at(entry.place),
                    object,
                    under(&shown(&entry.key)),
                    message,
                );
            }
        }
        match node.get("apiVersion") {
            Some(value) if text("apiVersion") != Some(API_VERSION) => {
                let message = format!("is {}: write {API_VERSION}", value.described());
                self.report(at.at(value.place), object, under("apiVersion"), message);
            }
            Some(_) => {}
            None => {
                let message = format!("is missing: write {API_VERSION}");
                self.report(at, object, under("apiVersion"), message);
            }
        }
        let known = || Kind::ALL.map(Kind::as_str).join(", ");
        match node.get("kind") {
            Some(value) => {
                kind = Kind::ALL
                    .into_iter()
                    .find(|k| text("kind") == Some(k.as_str()));
                if kind.is_none() {
                    let near = text("kind").and_then(|t| t.parse::<Kind>().ok());
                    let message = match near {
                        Some(near) => format!("is {}: did you mean {near}?", value.described()),
                        None => format!("is {}: known are {}", value.described(), known()),
                    };
                    self.report(at.at(value.place), object, under("kind"), message);
                }
            }
            None => {
                let message = format!("is missing: known are {}", known());
                self.report(at, object, under("kind"), message);
            }
        }
        let metadata = self.part::<Metadata>(at, object, &node, "metadata", prefix);
        let parts = match kind {
            Some(Kind::IPPool) => self.parts::<IpPoolSpec>(at, object, &node, prefix),
            Some(Kind::IPBlock) => self.parts::<IpBlockSpec>(at, object, &node, prefix),
            Some(Kind::BGPPeer) => self.parts::<BgpPeerSpec>(at, object, &node, prefix),
            Some(Kind::BGPConfig) => self.parts::<BgpConfigSpec>(at, object, &node, prefix),
            Some(Kind::BGPRoutePolicy) => {
                self.parts::<BgpRoutePolicySpec>(at, object, &node, prefix)
            }
            None => None,
        };
        let Some(metadata) = metadata else { return };
        let mut problems = Problems::new();
        let (Some(kind), Some((spec, status))) = (kind, parts) else {
            metadata.validate(&mut problems);
            return self.invalid(at, object, &node, prefix, &problems);
        };
        let found = Object {
            kind,
            metadata,
            spec,
            status,
        };
        match found.validate() {
            Ok(()) => {}
            Err(ObjectError::Invalid { problems, .. }) => {
                self.invalid(at, object, &node, prefix, &problems);
            }
            Err(other) => self.report(at, object, under("spec"), other.to_string()),
        }
        let line = at.before + node.place.line;
        let key = (kind, found.metadata.name.clone());
        if let Some(first) = self.seen.get(&key) {
            let message = format!("is given twice, first on line {first}: keep one");
            let at = at.at(node.place_of("metadata.name"));
            self.report(at, object, under("metadata.name"), message);
        } else {
            self.seen.insert(key, line);
        }
        if self.errors.len() == before {
            self.objects.push(found);
        }
    }

    /// Reports what a validation found, each where its field stands.
    fn invalid(
        &mut self,
        at: Where,
        object: Option<&str>,
        node: &Node,
        prefix: &str,
        problems: &Problems,
    ) {
        for problem in problems.iter() {
            let at = at.at(node.place_of(&problem.path));
            let path = under(prefix, &problem.path);
            self.report(at, object, path, problem.message.clone());
        }
    }

    fn list(&mut self, at: Where, node: Node) {
        let Data::Map(entries) = node.data else {
            return;
        };
        for entry in entries {
            match (entry.key.as_str(), entry.value.data) {
                ("items", Data::Seq(items)) => {
                    for (i, item) in items.into_iter().enumerate() {
                        if self.errors.len() >= MAX_PROBLEMS {
                            return;
                        }
                        self.node(at, item, &format!("items[{i}]"));
                    }
                }
                ("items", Data::Null) | ("apiVersion" | "kind" | "metadata", _) => {}
                ("items", data) => {
                    let place = entry.value.place;
                    let node = Node { place, data };
                    let message = format!("is {}: expected a list", node.described());
                    self.report(at.at(place), Some(LIST), "items".to_owned(), message);
                }
                (key, _) => {
                    let message = unknown_field(key, &["apiVersion", "kind", "metadata", "items"]);
                    self.report(at.at(entry.place), Some(LIST), shown(key), message);
                }
            }
        }
    }

    /// Spec and status of a kind, both canonical; `None` when either was reported.
    fn parts<S: Spec>(
        &mut self,
        at: Where,
        object: Option<&str>,
        node: &Node,
        prefix: &str,
    ) -> Option<(serde_json::Value, Option<serde_json::Value>)> {
        let spec = self.part::<S>(at, object, node, "spec", prefix);
        let status = match node.get("status").map(|n| &n.data) {
            None | Some(Data::Null) => Some(None),
            Some(_) => self
                .part::<S::Status>(at, object, node, "status", prefix)
                .map(Some),
        };
        let spec = serde_json::to_value(spec?).ok()?;
        let status = match status? {
            Some(status) => Some(serde_json::to_value(status).ok()?),
            None => None,
        };
        Some((spec, status.filter(|s| *s != serde_json::json!({}))))
    }

    /// One typed part of a resource; `None` when it is not worth validating.
    fn part<T: DeserializeOwned>(
        &mut self,
        at: Where,
        object: Option<&str>,
        node: &Node,
        field: &str,
        prefix: &str,
    ) -> Option<T> {
        let root = under(prefix, field);
        let Some(part) = node.get(field) else {
            self.report(at, object, root, "is missing".to_owned());
            return None;
        };
        document::read(part, &root, &mut |found| {
            self.report(at.at(found.place), object, found.path, found.message);
        })
    }
}

/// A path below another; the document itself has none.
fn under(prefix: &str, path: &str) -> String {
    match prefix {
        "" => path.to_owned(),
        prefix => format!("{prefix}.{path}"),
    }
}

/// Where and what, for a text that is no YAML or more than we read.
fn explain(error: &serde_saphyr::Error) -> (Option<Place>, String) {
    let error = error.without_snippet();
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let place = error.location().filter(|l| l.line() > 0).map(|l| Place {
        line: number(l.line()),
        column: number(l.column()),
    });
    // Under an alias the fault itself lies one deeper; the place stays that of the alias.
    let fault = match error {
        serde_saphyr::Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let message = match fault {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key \"{}\" is given twice: keep one", shown(key))
        }
        serde_saphyr::Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => too_deep(),
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
                format!("has more than {MAX_VALUES} values: split it into several documents")
            }
            _ => format!("exceeds a limit of manifests ({breach:?}): write it with few anchors"),
        },
        serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasExpansionLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => {
            "its aliases (*name) repeat too much: write the values out".to_owned()
        }
        // The scanner has no error of its own for brackets beyond `flow_nesting_limit`.
        serde_saphyr::Error::ExternalMessage { msg, .. } if msg == "recursion limit exceeded" => {
            too_deep()
        }
        other => serde_saphyr::DefaultMessageFormatter
            .format_message(other)
            .into_owned(),
    };
    (place, message)
}

fn too_deep() -> String {
    format!("is nested deeper than the {MAX_DEPTH} levels that a manifest may have")
}
