//! docs/bgp.md is true: every block of ours in it is a valid file, and every option is in it, with an example that can be
//! written so.

use roadbed_api::document::fields_of;
use roadbed_api::kinds::{
    AddPath, AsMigration, BgpAggregate, BgpAnnouncement, BgpConfigSpec, BgpPeerSpec,
    BgpRoutePolicySpec, BmpStationSpec, LengthRange, ListChange, PolicyMatch, PolicyRule,
    PolicySet, PrefixLimit, PrefixRange, PrependAs,
};
use roadbed_api::manifest;
use serde::de::DeserializeOwned;

use crate::config::file::RouterConfig;

const DOC: &str = include_str!("../../../../docs/bgp.md");

/// The blocks of a language, each with the line that it starts on.
fn blocks(language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = DOC.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        if line == format!("```{language}") {
            let block = lines.by_ref().map(|(_, line)| line);
            let block: Vec<&str> = block.take_while(|line| *line != "```").collect();
            found.push((i + 2, block.join("\n")));
        }
    }
    assert!(!found.is_empty(), "no block of {language}");
    found
}

#[test]
fn every_file_is_valid() {
    for (line, text) in blocks("toml") {
        if let Err(problems) = crate::config::parse(&text, "") {
            panic!("the file on line {line} of docs/bgp.md:\n{text}\n{problems}");
        }
    }
}

#[test]
fn every_manifest_is_valid() {
    for (line, text) in blocks("yaml") {
        if let Err(problems) = manifest::parse(&text, "") {
            panic!("the manifest on line {line} of docs/bgp.md:\n{text}\n{problems}");
        }
    }
}

/// What the tables say of an option: the `example` cells of its rows.
fn examples(field: &str) -> Vec<String> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|');
        inner.split('|').map(|c| c.trim().to_owned()).collect()
    };
    let mut table: Option<Vec<String>> = None;
    let mut found = Vec::new();
    for line in DOC.lines() {
        match &table {
            _ if !line.starts_with('|') => table = None,
            None => table = Some(cells(line)),
            Some(header) if header[0] == "key" && cells(line)[0] == format!("`{field}`") => {
                let at = header.iter().position(|h| h == "example");
                let at =
                    at.unwrap_or_else(|| panic!("`{field}` stands in a table without examples"));
                found.push(cells(line)[at].trim_matches('`').to_owned());
            }
            Some(_) => {}
        }
    }
    found
}

/// Every field of `T` is in a table, and can be written as the example there says, next to the lines in `required`.
fn described<T: DeserializeOwned>(what: &str, required: &[&str]) {
    let fields = fields_of::<T>();
    assert!(!fields.is_empty(), "{what} has no fields");
    for field in fields {
        let examples = examples(field);
        assert!(
            !examples.is_empty(),
            "docs/bgp.md does not know `{field}` of {what}: add a row \"| `{field}` | default | example | … |\" to its table"
        );
        let others = required.iter().filter(|line| !line.starts_with(field));
        let others: Vec<&str> = others.copied().collect();
        let works = |example: &String| {
            let text = format!("{}\n{field} = {example}\n", others.join("\n"));
            example.is_empty() || toml::from_str::<T>(&text).is_ok()
        };
        assert!(
            examples.iter().any(works),
            "docs/bgp.md: `{field}` of {what} cannot be written as its example {examples:?}"
        );
    }
}

#[test]
fn every_option_is_described() {
    let range = ["prefix = \"10.0.0.0/8\""];
    described::<BgpConfigSpec>("BGPConfig", &[]);
    described::<BgpAggregate>("an aggregate", &range);
    described::<BgpPeerSpec>("BGPPeer", &["asNumber = 65001"]);
    described::<AsMigration>("asMigration", &[]);
    described::<AddPath>("addPath", &[]);
    described::<PrefixLimit>("a prefix limit", &["limit = 1", "action = \"warn\""]);
    described::<RouterConfig>("[router]", &[]);
    described::<BgpAnnouncement>("an announcement", &range);
    described::<BmpStationSpec>("a BMP station", &["address = \"192.0.2.9\""]);
    described::<BgpRoutePolicySpec>("BGPRoutePolicy", &[]);
    described::<PolicyRule>("a rule", &[]);
    described::<PolicyMatch>("match", &[]);
    described::<PrefixRange>("a prefix range", &range);
    described::<LengthRange>("asPathLength", &[]);
    described::<PolicySet>("set", &[]);
    described::<PrependAs>("prependAs", &["count = 1"]);
    described::<ListChange>("a change of communities", &[]);
}
