//! `/proc/sys` of a network namespace.
//!
//! Keys are written with slashes (`net/ipv6/conf/eth0/accept_ra`): an interface name may contain dots.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::NetlinkError;
use crate::netns::{self, NetNs};

/// Longest value, in bytes: those that we deal with are numbers.
const MAX_VALUE: usize = 4096;

/// Reads a setting of the calling thread's namespace, without the newline.
pub fn read(key: &str) -> Result<String, NetlinkError> {
    // A setting is whole in one read, and has no size to ask for before.
    let read = |path: PathBuf| {
        let mut value = [0; MAX_VALUE];
        let length = File::open(path)?.read(&mut value)?;
        Ok(value[..length].to_vec())
    };
    let value = read(path_of(key)?).map_err(|e| NetlinkError::io("read sysctl", key, e))?;
    Ok(String::from_utf8_lossy(value.trim_ascii_end()).into_owned())
}

/// Whether the kernel speaks IPv6, perhaps switched off.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Sets a setting of the calling thread's namespace if it differs; `true` if it had to be written.
pub fn ensure(key: &str, value: &str) -> Result<bool, NetlinkError> {
    let path = path_of(key)?;
    if read(key)? == value {
        return Ok(false);
    }
    fs::write(path, value)
        .map_err(|e| NetlinkError::io("write sysctl", format_args!("{key}={value}"), e))?;
    Ok(true)
}

/// Sets several settings inside `ns`, one visit for all of them; stops at the first failure.
pub fn ensure_in(ns: &NetNs, settings: &[(&str, &str)]) -> Result<(), NetlinkError> {
    netns::run_in(ns, || {
        settings
            .iter()
            .try_for_each(|(key, value)| ensure(key, value).map(drop))
    })?
}

fn path_of(key: &str) -> Result<PathBuf, NetlinkError> {
    let plain = !key.is_empty()
        && key
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if plain {
        return Ok(Path::new("/proc/sys").join(key));
    }
    let value = key.chars().take(64).collect();
    Err(NetlinkError::Invalid {
        field: "sysctl",
        value,
        reason: "must be a relative path such as net/ipv4/ip_forward",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_proc_sys() {
        for bad in [
            "",
            "/etc/passwd",
            "net/../../etc/passwd",
            "net//ipv4",
            "net/ipv4/",
            "net/ipv4/\0",
        ] {
            assert!(path_of(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            path_of("net/ipv4/ip_forward").unwrap(),
            Path::new("/proc/sys/net/ipv4/ip_forward")
        );
    }
}
