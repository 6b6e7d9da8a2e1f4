//! STATUS: could an ADD be served now? An agent that is away for a moment, as during its upgrade, must not make the node
//! NotReady: ADD waits for it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use roadbed_api::names;

use crate::agent;
use crate::config::NetConf;
use crate::error::CniError;

const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an agent may be away. Its mark is up to ten seconds older than its end ([`names::READY_EVERY_SECONDS`]).
const GRACE: Duration = Duration::from_secs(60 + names::READY_EVERY_SECONDS);
/// Largest mark taken, in bytes.
const MAX_MARK: u64 = 32;

pub(crate) fn status(conf: &NetConf) -> Result<(), CniError> {
    let reason = match agent::client(&conf.run_dir, TIMEOUT).probe(roadbed_api::agent::READYZ) {
        Ok(probe) if probe.ok => return Ok(()),
        Ok(probe) if probe.waiting_for.is_empty() => {
            "roadbed-agent is not ready and gives no reason".to_owned()
        }
        Ok(probe) => format!(
            "roadbed-agent is not ready: {}",
            probe.waiting_for.join("; ")
        ),
        Err(error) => error.to_string(),
    };
    let uptime = number_in(Path::new("/proc/uptime"));
    let last = number_in(&conf.run_dir.join(names::READY_NAME));
    match since_ready(last, uptime) {
        Some(since) if since < GRACE => Ok(()),
        Some(since) => Err(CniError::NotAvailable(format!(
            "{reason}; it was ready {} s ago for the last time",
            since.as_secs()
        ))),
        None => Err(CniError::NotAvailable(format!(
            "{reason}; it was never ready since the node booted"
        ))),
    }
}

/// Time since the mark. One of the future is of an earlier boot.
fn since_ready(last: Option<u64>, uptime: Option<u64>) -> Option<Duration> {
    uptime?.checked_sub(last?).map(Duration::from_secs)
}

/// The whole seconds that a file begins with.
fn number_in(path: &Path) -> Option<u64> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_MARK).read_to_string(&mut text).ok()?;
    text.split(['.', ' ', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_leniently() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let check = |content: &str, expected| {
            std::fs::write(&path, content).unwrap();
            assert_eq!(number_in(&path), expected, "{content:?}");
        };
        check("12\n", Some(12));
        check("4711.08 9000.00\n", Some(4711));
        check("", None);
        check("-1", None);
        check("soon", None);
        check(&"9".repeat(64), None);
        assert_eq!(number_in(&dir.path().join("none")), None);
        let seconds = Duration::from_secs;
        assert_eq!(since_ready(Some(40), Some(100)), Some(seconds(60)));
        assert_eq!(since_ready(Some(101), Some(100)), None);
        assert_eq!(since_ready(None, Some(100)), None);
    }
}
