//! Manifests: text as it comes, and documents built from recipes and then spoiled in a few places, so that most
//! inputs are YAML and reach the kinds.
//!
//! The last octet chooses: even, the rest is the manifest itself (a file that ends in a newline, octet 10, is a
//! seed as it is); odd, the rest is a recipe.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use roadbed_api::manifest::{MAX_PROBLEMS, parse, to_yaml};

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_last() else {
        return;
    };
    if choice % 2 == 0 {
        if let Ok(text) = std::str::from_utf8(rest) {
            check(text);
        }
    } else if let Ok(text) = recipe(&mut Unstructured::new(rest)) {
        check(&text);
    }
});

fn check(text: &str) {
    match parse(text, "f.yaml") {
        Ok(objects) => {
            for object in objects {
                assert!(
                    object.validate().is_ok(),
                    "accepted, yet not valid: {object:?}"
                );
                let written = to_yaml(&object);
                let read = parse(&written, "f.yaml");
                assert_eq!(read.as_deref(), Ok(&[object][..]), "{written}");
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_PROBLEMS + 1);
            let lines = text.split(['\n', '\r']).count();
            for error in errors.iter() {
                assert!(
                    error.line.is_none_or(|l| (1..=lines + 1).contains(&l)),
                    "{error}"
                );
                assert!(!error.message.contains('\u{1b}'), "{error:?}");
            }
        }
    }
}

const KINDS: [&str; 6] = [
    "IPPool",
    "IPBlock",
    "BGPPeer",
    "BGPConfig",
    "List",
    "ippool",
];
const NAMES: [&str; 5] = ["default", "pods-v4", "10-244-0-0-26", "Bad_Name", "a.b"];
const FIELDS: [&str; 30] = [
    "cidr",
    "blockSize",
    "nodeSelector",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "disabled",
    "pool",
    "owner",
    "node",
    "state",
    "address",
    "asNumber",
    "port",
    "localAsNumber",
    "sourceAddress",
    "families",
    "holdTimeSeconds",
    "keepaliveTimeSeconds",
    "importPolicies",
    "routerId",
    "nodePrefixes",
    "acceptDefaultRoute",
    "capacity",
    "inUse",
    "conditions",
    "<<",
    "rack",
];
const VALUES: [&str; 30] = [
    "10.244.0.0/16",
    "fd00:244::/48",
    "10.244.0.0/26",
    "26",
    "122",
    "300",
    "-1",
    "65001",
    "4294967295",
    "true",
    "yes",
    "~",
    "\"\"",
    "10.0.0.1",
    "fd00::1",
    "ipv4-unicast",
    "default",
    "accept-all",
    "Confirmed",
    "In",
    "Exists",
    "1.5",
    ".inf",
    "0x1f",
    "pods-v4",
    "node1",
    "*a",
    "&a x",
    "!!binary aGk=",
    "'it''s'",
];

fn recipe(u: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for _ in 0..u.int_in_range(1..=4)? {
        document(u, &mut text)?;
    }
    for _ in 0..u.int_in_range(0..=3)? {
        spoil(u, &mut text)?;
    }
    Ok(text)
}

fn document(u: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    text.push_str("---\napiVersion: roadbed.dev/v1alpha1\nkind: ");
    let kind = *u.choose(&KINDS)?;
    text.push_str(kind);
    text.push_str("\nmetadata:\n  name: ");
    text.push_str(if kind == "BGPConfig" {
        "default"
    } else {
        u.choose(&NAMES)?
    });
    text.push_str("\nspec:\n");
    // What the kind requires, so that a spoiled rest is still looked at.
    text.push_str(match kind {
        "IPPool" => "  cidr: 10.244.0.0/16\n",
        "IPBlock" => "  cidr: 10.244.0.0/26\n  pool: p\n  owner: {node: n}\n  state: Pending\n",
        "BGPPeer" => "  address: 10.0.0.1\n  asNumber: 65100\n",
        _ => "",
    });
    fields(u, text, 2, 4)
}

fn fields(u: &mut Unstructured<'_>, text: &mut String, indent: usize, depth: usize) -> Result<()> {
    for _ in 0..u.int_in_range(0..=4)? {
        text.push_str(&" ".repeat(indent));
        text.push_str(u.choose(&FIELDS)?);
        text.push(':');
        match u.int_in_range(0..=4)? {
            0 if depth > 0 => {
                text.push('\n');
                fields(u, text, indent + 2, depth - 1)?;
                continue;
            }
            1 => {
                text.push_str(" [");
                for _ in 0..u.int_in_range(0..=3)? {
                    text.push_str(u.choose(&VALUES)?);
                    text.push_str(", ");
                }
                text.push(']');
            }
            2 => {
                text.push_str(" {");
                text.push_str(u.choose(&FIELDS)?);
                text.push_str(": ");
                text.push_str(u.choose(&VALUES)?);
                text.push('}');
            }
            3 => {
                text.push_str(" |-\n");
                text.push_str(&" ".repeat(indent + 2));
                text.push_str(&u.arbitrary::<&str>()?.chars().take(40).collect::<String>());
            }
            _ => {
                text.push(' ');
                text.push_str(u.choose(&VALUES)?);
            }
        }
        text.push('\n');
    }
    Ok(())
}

/// Takes a piece out or puts one in.
fn spoil(u: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    let at = u.choose_index(text.len() + 1)?;
    let at = (0..=at)
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    if u.arbitrary()? {
        let end = (at + u.int_in_range(1..=30)?).min(text.len());
        let end = (end..=text.len())
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(at);
        text.replace_range(at..end, "");
    } else {
        let pieces = [
            "\n---\n", "\n...\n", "\t", ": ", "- ", "[", "}", "&b ", "*b", "\"", "'", "#", "\r",
            "|\n", "? ",
        ];
        text.insert_str(at, u.choose(&pieces)?);
    }
    Ok(())
}
