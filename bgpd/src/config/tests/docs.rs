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

/// What each table of options says, and in this order.
const COLUMNS: [&str; 5] = ["key", "default", "example", "RFC", "what"];

/// What the tables say of an option: the cells of its rows in this column.
fn column(field: &str, column: &str) -> Vec<String> {
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
                assert_eq!(header[..], COLUMNS, "the table of `{field}`");
                let at = COLUMNS.iter().position(|h| *h == column).unwrap();
                let cells = cells(line);
                assert_eq!(cells.len(), COLUMNS.len(), "{line}");
                found.push(cells[at].trim_matches('`').to_owned());
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
        let examples = column(field, "example");
        assert!(
            !examples.is_empty(),
            "docs/bgp.md does not know `{field}` of {what}: add a row \"| `{field}` | default | example | … |\" to its table"
        );
        let others = required.iter().filter(|line| !line.starts_with(field));
        let others: Vec<&str> = others.copied().collect();
        let works = |example: &String| {
            let text = format!("{}\n{field} = {example}\n", others.join("\n"));
            toml::from_str::<T>(&text).is_ok()
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

/// A default that is a value makes no difference when it is written down: in the tables `[bgp]`, `[peers.NAME]`, `[bmp.NAME]`
/// and `[router]`, by what the file comes to.
#[test]
fn defaults_are_the_defaults() {
    const FILE: &str = "[bgp]\nasNumber = 65001\nrouterId = \"10.255.0.1\"\n#bgp\n\
        [peers.tor]\naddress = \"192.0.2.1\"\nasNumber = 65101\n#peer\n\
        [peers.rack]\nlistenRange = \"10.99.0.0/24\"\nasNumber = 65102\n#range\n\
        [bmp.noc]\naddress = \"192.0.2.9\"\n#bmp\n\
        [router]\nnetworks = [\"10.1.0.0/24\"]\n#router\n";
    let comes_to = |text: &str| {
        let mut resolved = crate::config::parse(text, "").ok()?;
        // Another one in each process.
        resolved.options.seed = 0;
        Some(format!(
            "{:?} {:?} {:?}",
            resolved.options, resolved.config, resolved.local
        ))
    };
    let plain = comes_to(FILE);
    assert!(plain.is_some());
    let mut checked = 0;
    for (marks, fields) in [
        (&["#bgp"][..], fields_of::<BgpConfigSpec>()),
        // Some are of peers with an address, some of ranges.
        (&["#peer", "#range"], fields_of::<BgpPeerSpec>()),
        (&["#bmp"], fields_of::<BmpStationSpec>()),
        (&["#router"], fields_of::<RouterConfig>()),
    ] {
        for field in fields {
            let values: Vec<String> = column(field, "default")
                .into_iter()
                .filter(|cell| toml::from_str::<toml::Table>(&format!("x = {cell}")).is_ok())
                .collect();
            if values.is_empty() {
                continue;
            }
            let same = |value: &String| {
                let line = format!("{field} = {value}");
                let mut texts = marks.iter().map(|mark| FILE.replace(mark, &line));
                texts.any(|text| comes_to(&text) == plain)
            };
            assert!(
                values.iter().any(same),
                "docs/bgp.md says that `{field}` is {values:?} by default: with that {marks:?} is another one"
            );
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}
