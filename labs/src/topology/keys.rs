//! Which keys of containerlab's schema namespaces can honour.

/// What is done with a key of a node, a kind, a group or the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Honoured.
    Taken,
    /// Accepted; the sentence says why nothing happens.
    Noted(&'static str),
    /// Refused; the sentence says why.
    Refused(&'static str),
}

use Verdict::{Noted, Refused, Taken};

/// Keys of a node definition.
const NODE_KEYS: &[(&str, Verdict)] = &[
    ("kind", Taken),
    ("group", Taken),
    ("image", Taken),
    ("binds", Taken),
    ("exec", Taken),
    ("env", Taken),
    ("cmd", Taken),
    ("entrypoint", Taken),
    ("sysctls", Taken),
    ("labels", Taken),
    ("position", Noted("only drawings use it")),
    ("image-pull-policy", Noted("nothing is pulled")),
    ("restart-policy", Noted("programs are never restarted")),
    ("auto-remove", Noted("`down` removes everything")),
    ("cpu", Noted("no limit is set")),
    ("cpu-set", Noted("no limit is set")),
    ("memory", Noted("no limit is set")),
    ("shm-size", Noted("no limit is set")),
    ("cap-add", Noted("a node has every capability")),
    ("devices", Refused("a node sees no devices of the machine")),
    (
        "type",
        Refused("it selects a hardware variant of a vendor's kind"),
    ),
    (
        "license",
        Refused("no licensed network OS runs in a namespace"),
    ),
    (
        "startup-config",
        Refused("bind the configuration to its path with `binds`"),
    ),
    (
        "enforce-startup-config",
        Refused("there is no startup configuration"),
    ),
    (
        "suppress-startup-config",
        Refused("there is no startup configuration"),
    ),
    ("startup-delay", Refused("all nodes start together")),
    ("config", Refused("there is no configuration engine")),
    (
        "ports",
        Refused("a node has no management network to publish ports from; use `roadbed-lab exec`"),
    ),
    (
        "publish",
        Refused("a node has no management network to publish ports from"),
    ),
    ("mgmt-ipv4", Refused("there is no management network")),
    ("mgmt-ipv6", Refused("there is no management network")),
    ("mgmt_ipv4", Refused("there is no management network")),
    ("mgmt_ipv6", Refused("there is no management network")),
    (
        "network-mode",
        Refused("every node has a network namespace of its own"),
    ),
    ("env-files", Refused("write the variables under `env`")),
    ("user", Refused("programs start as root")),
    ("runtime", Refused("there is no container runtime")),
    ("sandbox", Refused("there is no container runtime")),
    ("kernel", Refused("all nodes share the machine's kernel")),
    ("stages", Refused("all nodes start together")),
    ("wait-for", Refused("all nodes start together")),
    (
        "healthcheck",
        Refused("`roadbed-lab inspect` shows what runs"),
    ),
    ("certificate", Refused("no certificates are issued")),
    ("SANs", Refused("no certificates are issued")),
    ("dns", Refused("a node reads the machine's resolv.conf")),
    (
        "aliases",
        Refused("there is no management network to hold names"),
    ),
    ("components", Refused("no chassis runs in a namespace")),
    ("credentials", Refused("there is nothing to log in to")),
    ("extras", Refused("it configures a vendor's kind")),
];

/// Looks a node key up; `None` is a key that containerlab does not have.
pub(super) fn node_key(key: &str) -> Option<Verdict> {
    NODE_KEYS
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, verdict)| *verdict)
}

/// Keys that a reader may have meant, for the message about an unknown one.
pub(super) fn taken() -> String {
    let names: Vec<&str> = NODE_KEYS
        .iter()
        .filter(|(_, verdict)| *verdict == Taken)
        .map(|(name, _)| *name)
        .collect();
    names.join(", ")
}

/// Every refused node key, for the tests.
#[cfg(test)]
pub(super) fn refused() -> impl Iterator<Item = &'static str> {
    NODE_KEYS
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Refused(_)))
        .map(|(name, _)| *name)
}
