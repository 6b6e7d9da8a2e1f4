//! Host-wide settings that the agent wants and cannot set: its container sees `/proc/sys` read-only, the plugin is host
//! root. The agent writes `<runDir>/sysctls.json`; only names on our list are taken from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use roadbed_api::names;
use roadbed_hostnet::sysctl;

use crate::log::Log;

/// Largest file taken, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Names taken as they are.
const ALLOWED: [&str; 9] = [
    "net.ipv4.ip_forward",
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv4.conf.all.ignore_routes_with_linkdown",
    "net.ipv4.conf.default.ignore_routes_with_linkdown",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.forwarding",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv6.conf.all.ignore_routes_with_linkdown",
    "net.ipv6.conf.default.ignore_routes_with_linkdown",
];

/// Applies the file, if there is one. Whatever fails is a warning: a pod without it may still work, and
/// the warning names what is off.
pub(crate) fn apply(run_dir: &Path, log: &mut Log) {
    let path = run_dir.join(names::SYSCTLS_NAME);
    let settings = match read(&path) {
        Ok(settings) => settings,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return log.warn(format_args!("{}: {error}", path.display())),
    };
    for (name, value) in settings {
        match key_of(&name) {
            None => log.warn(format_args!(
                "{}: {name:?} is not a setting we change",
                path.display()
            )),
            Some(key) => {
                if let Err(error) = sysctl::ensure(&key, &value) {
                    log.warn(error);
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("larger than {MAX_FILE} bytes"),
        ));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// The path under /proc/sys for an allowed name: those above, and `accept_ra` of any interface (2 keeps a default route
/// that came by router advertisement once forwarding is on). An interface name may itself contain dots.
fn key_of(name: &str) -> Option<String> {
    if ALLOWED.contains(&name) {
        return Some(name.replace('.', "/"));
    }
    let interface = name
        .strip_prefix("net.ipv6.conf.")?
        .strip_suffix(".accept_ra")?;
    roadbed_hostnet::check_ifname("interface", interface).ok()?;
    Some(format!("net/ipv6/conf/{interface}/accept_ra"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_on_the_list_become_paths() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(key_of(name).as_deref(), expected, "{name}")
        };
        check("net.ipv4.ip_forward", Some("net/ipv4/ip_forward"));
        check(
            "net.ipv6.conf.eth0.accept_ra",
            Some("net/ipv6/conf/eth0/accept_ra"),
        );
        check(
            "net.ipv6.conf.bond0.100.accept_ra",
            Some("net/ipv6/conf/bond0.100/accept_ra"),
        );
        check("kernel.core_pattern", None);
        check("net/ipv4/ip_forward", None);
        check("net.ipv6.conf..accept_ra", None);
        check("net.ipv6.conf.../../../kernel/x.accept_ra", None);
    }

    #[test]
    fn what_cannot_be_used_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let warnings = |content: Option<&str>| {
            if let Some(content) = content {
                std::fs::write(dir.path().join(names::SYSCTLS_NAME), content).unwrap();
            }
            let mut log = Log::default();
            apply(dir.path(), &mut log);
            log.into_lines().join("\n")
        };
        assert_eq!(warnings(None), "");
        assert!(warnings(Some("{")).contains("sysctls.json"));
        assert!(
            warnings(Some(r#"{"kernel.core_pattern":"|/bin/sh"}"#))
                .contains("not a setting we change")
        );
        assert!(warnings(Some(&" ".repeat(70_000))).contains("larger than"));
        assert!(warnings(Some(r#"{"net.ipv6.conf.rbt-none.accept_ra":"2"}"#)).contains("rbt-none"));
    }
}
