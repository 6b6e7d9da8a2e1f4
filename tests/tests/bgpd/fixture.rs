//! Two namespaces on one link: ours with the speaker under test, and the peer's.

use std::path::Path;
use std::time::Duration;

use roadbed_tests::bgpd::Bgpd;
use roadbed_tests::kernel::{PROTOCOL, routes};
use roadbed_tests::netns::Ns;
use roadbed_tests::wait::eventually;

/// For whatever needs a session first: connect, retry and hold timers of a few seconds.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Pair {
    pub(crate) us: Ns,
    pub(crate) peer: Ns,
    pub(crate) dir: tempfile::TempDir,
}

impl Pair {
    /// `eth0` – `eth0`: 10.99.0.1/16 and fd00:99::1/64 here, .2 and ::2 there.
    pub(crate) fn new() -> Self {
        let (us, peer) = (Ns::new("us").unwrap(), Ns::new("peer").unwrap());
        Ns::link(
            (&us, "eth0", &["10.99.0.1/16", "fd00:99::1/64"]),
            (&peer, "eth0", &["10.99.0.2/16", "fd00:99::2/64"]),
        )
        .unwrap();
        Self {
            us,
            peer,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Default routes of both families by way of the peer, which are not ours.
    pub(crate) fn default_routes(&self) {
        for line in [
            "route add default via 10.99.0.2",
            "-6 route add default via fd00:99::2",
        ] {
            self.us.run(&format!("ip {line}")).unwrap();
        }
    }

    pub(crate) fn speaker(&self, peers: &str) -> Bgpd {
        Bgpd::start(&self.us, self.dir(), &config(peers, OUR_NETWORKS)).unwrap()
    }

    /// Waits until the kernel has exactly these learned routes.
    #[track_caller]
    pub(crate) fn kernel_has(&self, expected: &[(&str, &str)]) {
        eventually(SOON, &format!("learned routes are {expected:?}"), || {
            self.kernel_has_now(expected)
        });
    }

    /// Whether the kernel has exactly these learned routes.
    pub(crate) fn kernel_has_now(&self, expected: &[(&str, &str)]) -> Result<(), String> {
        let found = routes(&self.us, PROTOCOL).map_err(|error| error.to_string())?;
        let same = found.len() == expected.len()
            && expected
                .iter()
                .all(|(to, via)| found.get(*to).is_some_and(|v| v == via));
        same.then_some(())
            .ok_or_else(|| format!("the kernel has {found:?}"))
    }
}

pub(crate) const OUR_NETWORKS: &str = r#""10.2.0.0/24", "fd00:2::/64""#;

/// A file of AS 65001.
pub(crate) fn config(peers: &str, networks: &str) -> String {
    format!(
        "[bgp]\nasNumber = 65001\nrouterId = \"10.99.0.1\"\n{peers}\n[router]\nnetworks = [{networks}]\n"
    )
}

/// A peer of AS 65002 whose routes are all let in; `more` are further lines.
pub(crate) fn peer(name: &str, address: &str, more: &str) -> String {
    format!(
        "[peers.{name}]\naddress = \"{address}\"\nasNumber = 65002\nholdTimeSeconds = 9\n\
         connectRetrySeconds = 1\nimportPolicies = [\"accept-all\"]\n{more}\n"
    )
}
