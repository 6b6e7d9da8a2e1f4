//! The plugin's stdin: bytes as they come, and network configurations built from recipes, so that most inputs are
//! JSON objects with the plugin's keys and reach validation.
//!
//! The first octet chooses: even, the rest is stdin itself (so a seed is a configuration with a space before it,
//! octet 32); odd, the rest is a recipe.
#![no_main]

use std::ffi::OsString;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use roadbed_cni::{CniVersion, parse_stdin, run};

const KEYS: [&str; 21] = [
    "ipam",
    "cniVersion",
    "name",
    "type",
    "runDir",
    "mtu",
    "waitSeconds",
    "runtimeConfig",
    "mac",
    "ips",
    "prevResult",
    "interfaces",
    "address",
    "gateway",
    "interface",
    "sandbox",
    "cni.dev/valid-attachments",
    "containerID",
    "ifname",
    "dns",
    "x",
];

const VALUES: [&str; 20] = [
    "null",
    "true",
    "0",
    "1500",
    "65536",
    "-1",
    "1.5",
    "1e999",
    "18446744073709551616",
    r#""1.1.0""#,
    r#""0.3.1""#,
    r#""0.2.0""#,
    r#""pods""#,
    r#""a/b""#,
    r#""/run/roadbed""#,
    r#""02:00:00:00:00:01""#,
    r#""10.0.0.5/32""#,
    r#""fe80::1""#,
    r#""\u0000\ud83d\ude00""#,
    r#""\ud800""#,
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice % 2 == 0 {
        check(rest);
    } else {
        let mut text = String::new();
        let mut recipe = Unstructured::new(rest);
        if object(&mut recipe, 0, true, &mut text).is_ok() {
            check(text.as_bytes());
        }
    }
});

fn check(stdin: &[u8]) {
    for result in parse_stdin(stdin) {
        match result {
            Ok(conf) => {
                assert!(!conf.name.is_empty() && conf.name.len() <= 128);
                assert!(conf.run_dir.is_absolute() && conf.run_dir.as_os_str().len() <= 96);
                assert!(conf.mtu.is_none_or(|mtu| (1280..=65535).contains(&mtu)));
                assert!(conf.wait <= Duration::from_secs(120));
            }
            Err(error) => {
                assert!(matches!(error.code(), 1 | 6 | 7), "{error}");
                let line = error.to_json(CniVersion::LATEST);
                assert!(
                    line.ends_with("}\n") && line.matches('\n').count() == 1,
                    "{line:?}"
                );
            }
        }
    }
    let version = |name: &str| (name == "CNI_COMMAND").then(|| OsString::from("VERSION"));
    let outcome = run(version, stdin);
    assert!(outcome.stdout.ends_with("}\n") && outcome.exit_code <= 1);
}

/// At the top, the keys that every command wants come first, so that the rest gets looked at.
fn object(recipe: &mut Unstructured<'_>, depth: u8, top: bool, text: &mut String) -> Result<()> {
    text.push('{');
    if top {
        text.push_str(r#""cniVersion":"1.1.0","name":"pods""#);
    }
    for index in 0..recipe.int_in_range(0..=6)? {
        if top || index > 0 {
            text.push(',');
        }
        text.push_str(&format!("{:?}:", recipe.choose(&KEYS)?));
        value(recipe, depth, text)?;
    }
    text.push('}');
    Ok(())
}

fn value(recipe: &mut Unstructured<'_>, depth: u8, text: &mut String) -> Result<()> {
    match recipe.int_in_range(0..=3u8)? {
        0 if depth < 4 => object(recipe, depth + 1, false, text),
        1 if depth < 4 => {
            text.push('[');
            for index in 0..recipe.int_in_range(0..=3)? {
                if index > 0 {
                    text.push(',');
                }
                value(recipe, depth + 1, text)?;
            }
            text.push(']');
            Ok(())
        }
        _ => {
            text.push_str(recipe.choose(&VALUES)?);
            Ok(())
        }
    }
}
