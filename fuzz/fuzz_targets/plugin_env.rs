//! The plugin's environment: a command and five values, separated by 0xff, each of them any bytes.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use roadbed_cni::{CniVersion, Command, Env};

const COMMANDS: [&str; 8] = [
    "ADD", "ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION", "add",
];
const NAMES: [&str; 5] = [
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let values: Vec<&[u8]> = rest.split(|byte| *byte == 0xff).collect();
    let var = |name: &str| -> Option<OsString> {
        if name == "CNI_COMMAND" {
            return Some(COMMANDS[usize::from(choice % 8)].into());
        }
        let place = NAMES.iter().position(|known| *known == name)?;
        values
            .get(place)
            .map(|value| OsString::from_vec(value.to_vec()))
    };
    match Env::read(var) {
        Ok(env) => {
            if matches!(env.command, Command::Add | Command::Check | Command::Del) {
                assert_eq!(env.key("pods").problem(), None);
            }
            if matches!(env.command, Command::Add | Command::Check) {
                assert!(env.netns.is_absolute());
            }
            assert!(env.mac.is_none_or(|mac| mac.0[0] & 1 == 0));
        }
        Err(error) => {
            assert_eq!(error.code(), 4, "{error}");
            let line = error.to_json(CniVersion::LATEST);
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        }
    }
});
