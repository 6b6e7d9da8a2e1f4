//! Network namespaces of one test, and the links between them.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use roadbed_hostnet::NamedNetNs;
use roadbed_hostnet::netns::run_in;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A namespace with a name that no parallel run has, its loopback up; deleted on drop, and its links with it.
#[derive(Debug)]
pub struct Ns {
    named: NamedNetNs,
}

impl Ns {
    /// Makes one; `what` shows in its name.
    ///
    /// # Errors
    /// Without root.
    pub fn new(what: &str) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rbt-{what}-{}-{number}", std::process::id());
        let named = NamedNetNs::create(&name).context("cannot make a namespace: run as root")?;
        let ns = Self { named };
        ns.run("ip link set lo up")?;
        Ok(ns)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.named.name()
    }

    /// Runs a command line inside; words are separated by blanks, nothing is quoted.
    ///
    /// # Errors
    /// With all of its output, when it cannot be run or fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.exec(&words)
    }

    /// Runs a command inside.
    ///
    /// # Errors
    /// As [`Ns::run`].
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        run(Command::new("ip")
            .args(["netns", "exec", self.name()])
            .args(argv))
    }

    /// Runs code on a thread inside: sockets that it opens stay there.
    ///
    /// # Panics
    /// When the namespace is gone, which no test does to itself.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(self.named.ns(), work).expect("enter a namespace of this test")
    }

    /// Joins two namespaces by a veth pair, both ends up. Addresses are usable at once: nobody else can have them.
    ///
    /// # Errors
    /// When a name is taken or an address is none.
    pub fn link(a: (&Ns, &str, &[&str]), b: (&Ns, &str, &[&str])) -> Result<()> {
        a.0.run(&format!(
            "ip link add {} type veth peer name {} netns {}",
            a.1,
            b.1,
            b.0.name()
        ))?;
        for (ns, device, addresses) in [a, b] {
            for address in addresses {
                ns.add_address(device, address)?;
            }
            ns.run(&format!("ip link set {device} up"))?;
        }
        Ok(())
    }

    /// Adds an address with its prefix length.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add_address(&self, device: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.run(&format!("ip addr add {address} dev {device}{nodad}"))?;
        Ok(())
    }
}

/// Runs a command to its end.
///
/// # Errors
/// With all of its output, when it cannot be run or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        bail!(
            "{command:?}: {status}\n{stdout}{}",
            String::from_utf8_lossy(&stderr)
        );
    }
    Ok(stdout)
}
