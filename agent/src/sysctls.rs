//! The host-wide settings that forwarding needs, left in the run directory for the plugin to apply: it is root on the host,
//! while the agent's container sees `/proc/sys` read-only.

use std::io;
use std::path::{Path, PathBuf};

use roadbed_api::names::SYSCTLS_NAME;
use serde_json::{Map, Value};

use crate::files::write_atomically;
use crate::kernel;

/// Wanted on every node.
const ALWAYS: [(&str, &str); 6] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.fib_multipath_hash_policy", "1"),
    ("net.ipv6.fib_multipath_hash_policy", "1"),
    ("net.ipv4.conf.all.ignore_routes_with_linkdown", "1"),
    ("net.ipv6.conf.all.ignore_routes_with_linkdown", "1"),
];

/// The file and what it holds.
#[derive(Debug)]
pub struct Sysctls {
    path: PathBuf,
    written: String,
}

impl Sysctls {
    /// Those of this run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join(SYSCTLS_NAME),
            written: String::new(),
        }
    }

    /// Writes the file when something else is wanted than a moment ago.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep(&mut self) -> io::Result<()> {
        let advertised = kernel::advertised_default_links().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell where a default route was advertised");
            Vec::new()
        });
        let text = text(&advertised);
        if text != self.written {
            write_atomically(&self.path, 0o600, text.as_bytes())?;
            self.written = text;
        }
        Ok(())
    }
}

/// A host that forwards takes no router advertisements, unless told so link by link: its own default route would expire.
fn text(advertised: &[String]) -> String {
    let always = ALWAYS.map(|(name, value)| (name.to_owned(), Value::from(value)));
    let links = advertised.iter().map(|link| {
        let name = format!("net.ipv6.conf.{link}.accept_ra");
        (name, Value::from("2"))
    });
    let all: Map<String, Value> = always.into_iter().chain(links).collect();
    Value::Object(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_with_an_advertised_default_route_keep_it() {
        let parsed: Value = serde_json::from_str(&text(&["bond0.100".into()])).unwrap();
        assert_eq!(parsed["net.ipv4.ip_forward"], "1");
        assert_eq!(parsed["net.ipv6.conf.bond0.100.accept_ra"], "2");
        assert!(!text(&[]).contains("accept_ra"));
    }
}
