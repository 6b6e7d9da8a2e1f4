//! Commands and options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use roadbed_api::Kind;
use roadbed_api::names::DEFAULT_RUN_DIR;
use roadbed_store::{KubernetesConfig, StoreConfig};

use crate::bgp::Sides;
use crate::policy::PolicyTest;

const EXAMPLES: &str = "\
Examples:
  roadbedctl status                                  # this node: AS, store, BGP peers
  roadbedctl ipam show                               # pools, blocks, addresses in use
  roadbedctl routes 10.244.0.0/16                    # routes inside or around a prefix
  roadbedctl --store sqlite:/var/lib/roadbed-store/store.db apply -f pools.yaml
  roadbedctl get ippools -o yaml                     # of the cluster of your kubeconfig, or with ROADBED_STORE set
  roadbedctl --run-dir /run/node2 status             # another agent of this machine

Exit codes: 0 done, 1 a problem (said on standard error), 2 a wrong command line.";

const APPLY_EXAMPLES: &str = "\
Every file is read first; when any document is wrong, nothing is written. Labels, annotations and spec become what
the file says; status, uid, resourceVersion and creationTimestamp in a file are ignored.

Examples:
  roadbedctl apply -f pools.yaml -f peers/
  roadbedctl apply -f . --dry-run
  cat pool.json | roadbedctl apply -f -";

const POLICY_EXAMPLES: &str = "\
Nothing is asked of an agent: the policies are read from files, manifests or a standalone router's, or from the store. Exits with 0 whatever the decision;
-o json has it as .decision, the rule that decided as .rule, the route as .before and .after, -o name just the decision.

Examples:
  roadbedctl bgp policy test --policy from-tor -f policies.yaml --prefix 10.244.1.0/26 --as-path '65101 65121' --peer tor1
  roadbedctl bgp policy test --policy prefer --policy default --prefix 10.244.1.0/26 --community 65000:1 -o json
  roadbedctl bgp policy test --policy from-tor -f /etc/roadbed/bgpd.toml --prefix 10.66.1.0/24
  roadbedctl bgp policy test --policy to-tor --direction export --source ownBlock --prefix 10.244.1.0/26";

const PEER_EXAMPLES: &str = "\
Exits with 1 when this node has no such peer, and names those it has.

Example:
  roadbedctl bgp peer tor1";

const RIB_EXAMPLES: &str = "\
Examples:
  roadbedctl bgp rib
  roadbedctl bgp rib --received tor1          # rejected routes too, with the policy's reason
  roadbedctl bgp rib --advertised tor1        # attributes as sent";

const BGP_ROUTES_EXAMPLES: &str = "\
Exits with 1 when there are none. With --advertised also what the peer is not sent, and why. -o wide adds communities,
next hop state and age; -o json is complete.

Examples:
  roadbedctl bgp routes 10.244.1.7 -o wide
  roadbedctl bgp routes 10.244.1.0/26 --advertised tor1";

const DUMP_EXAMPLES: &str = "\
Routes that import policies reject are left out; routes of this node come from a peer 0.0.0.0.

Example:
  roadbedctl bgp dump rib.mrt && bgpdump -m rib.mrt";

/// Status and operations of Roadbed, from a node or from anywhere.
#[derive(Debug, Parser)]
#[command(name = "roadbedctl", version, after_help = EXAMPLES, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Run directory of the agent, or of the standalone router, to ask
    #[arg(long, global = true, env = "ROADBED_RUN_DIR", value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    pub run_dir: PathBuf,
    /// Store of the resources: sqlite:PATH or kubernetes; default kubernetes where a kubeconfig is
    #[arg(long, global = true, env = "ROADBED_STORE", value_name = "STORE", value_parser = parse_store)]
    pub store: Option<StoreConfig>,
    /// Kubeconfig of the cluster; default ~/.kube/config
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// Context of the kubeconfig; default its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How to show the answer
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, the most asked-for ones
    Table,
    /// Columns, all of them
    Wide,
    /// JSON, complete
    Json,
    /// YAML, complete; resources as `apply` takes them
    Yaml,
    /// One name per line
    Name,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// This node and its BGP peers
    #[command(
        after_help = "Exits with 1 when no agent answers. -o wide adds timers, policies' counts and the last error."
    )]
    Status,
    /// Pools, blocks and addresses
    #[command(subcommand)]
    Ipam(Ipam),
    /// Routes of this node: in the RIB, in the kernel, and why
    #[command(
        after_help = "With PREFIX: routes inside it or covering it. Exits with 1 when there are none.\n\nExamples:\n  roadbedctl routes\n  roadbedctl routes 10.244.1.7 -o wide      # which routes cover an address, and why"
    )]
    Routes {
        /// Prefix or address
        #[arg(value_parser = parse_prefix)]
        prefix: Option<IpNet>,
    },
    /// BGP: sessions, routes, route policies
    #[command(subcommand)]
    Bgp(Bgp),
    /// Attachments of this node: pods, their addresses and host interfaces
    #[command(visible_alias = "attachments")]
    Pods,
    /// One pod's interfaces: address, veth, routes, neighbours, counters, and what is wrong with them
    #[command(
        after_help = "NAME: a pod's name, alone or as NAMESPACE/NAME; the beginning of a container ID; a host interface; an address.\n\nExits with 1 when there is none, or when something is wrong with it.\n\nExamples:\n  roadbedctl pod demo/web\n  roadbedctl pod 10.244.1.7 -o yaml"
    )]
    Pod {
        /// Name of the pod, or another of the words below that tell it
        name: String,
    },
    /// Put resources into the store
    #[command(after_help = APPLY_EXAMPLES)]
    Apply {
        /// Where the manifests are
        #[command(flatten)]
        files: Files,
        /// Say what would happen, write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show resources of the store
    #[command(
        after_help = "Kinds: bgpconfig, ippool, ipblock, bgproutepolicy, bgppeer (also plural, also short: bgpc, ipp, ipb, bgprp, bgpp), all.\n\nExamples:\n  roadbedctl get ippools\n  roadbedctl get bgppeer tor1 -o yaml\n  roadbedctl get all -o name"
    )]
    Get {
        /// Which kind, or all
        #[arg(value_parser = parse_kinds)]
        kind: Kinds,
        /// Only the one of this name
        name: Option<String>,
    },
    /// Remove resources from the store
    #[command(
        after_help = "A pool that still has blocks stays: disable it (spec.disabled: true) and wait until its nodes have given them back.\n\nExamples:\n  roadbedctl delete bgppeer tor1\n  roadbedctl delete -f peers.yaml"
    )]
    Delete(Delete),
    /// Check manifests and write nothing
    #[command(
        after_help = "Where the store is a Kubernetes cluster, its API server is asked too (a dry run); one that does not answer is an error only\nwith --store kubernetes.\n\nExample:\n  roadbedctl validate -f manifests/"
    )]
    Validate {
        /// Where the manifests are
        #[command(flatten)]
        files: Files,
    },
    /// Completion script for a shell
    #[command(
        after_help = "Example:\n  roadbedctl completion bash > /etc/bash_completion.d/roadbedctl"
    )]
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Version of this program and of the agent
    Version,
}

/// Commands about addresses.
#[derive(Debug, Subcommand)]
pub enum Ipam {
    /// Pools, this node's blocks, and addresses in use
    #[command(
        after_help = "Without options all three are shown.\n\nExamples:\n  roadbedctl ipam show\n  roadbedctl ipam show --addresses -o wide"
    )]
    Show {
        /// Blocks of this node
        #[arg(long)]
        blocks: bool,
        /// Addresses in use on this node
        #[arg(long)]
        addresses: bool,
    },
}

/// Commands about BGP.
#[derive(Debug, Subcommand)]
pub enum Bgp {
    /// Sessions of this node
    #[command(
        after_help = "-o wide adds timers, what both sides agreed on, faults and the last error."
    )]
    Peers,
    /// One session: capabilities, timers, messages, faults
    #[command(after_help = PEER_EXAMPLES)]
    Peer {
        /// Name of the peer, as `bgp peers` shows it
        name: String,
    },
    /// All routes of the RIB, each with why it is or is not best
    #[command(after_help = RIB_EXAMPLES)]
    Rib {
        /// Whose routes
        #[command(flatten)]
        sides: Sides,
    },
    /// Routes inside a prefix or covering it
    #[command(after_help = BGP_ROUTES_EXAMPLES)]
    Routes {
        /// Prefix or address
        #[arg(value_parser = parse_prefix)]
        prefix: IpNet,
        /// Whose routes
        #[command(flatten)]
        sides: Sides,
    },
    /// BMP stations (RFC 7854): which collectors are told what, and how far they are
    #[command(after_help = "-o wide adds connections, octets and the last error.")]
    Bmp,
    /// The RIB as an MRT file (RFC 6396), for bgpdump and the like
    #[command(after_help = DUMP_EXAMPLES)]
    Dump {
        /// File to write; replaced once the dump is whole
        file: PathBuf,
    },
    /// Route policies
    #[command(subcommand)]
    Policy(Policy),
}

/// Commands about route policies.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// What route policies would say of a route, and which rule decides
    #[command(after_help = POLICY_EXAMPLES)]
    Test(Box<PolicyTest>),
}

/// Where manifests are.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// File, directory (its .yaml, .yml and .json files) or - for standard input; may be repeated
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

/// What to delete.
#[derive(Debug, Args)]
pub struct Delete {
    /// Which kind
    #[arg(
        required_unless_present = "file",
        conflicts_with = "file",
        requires = "name"
    )]
    pub kind: Option<Kind>,
    /// Which one
    #[arg(conflicts_with = "file")]
    pub name: Option<String>,
    /// File, directory or - with the resources to delete; may be repeated
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Succeed when there is nothing to delete
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Delete a block although a node owns it: only for a node that is gone for good
    #[arg(long)]
    pub force: bool,
}

/// A kind, or every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Every kind, in the order of [`Kind::ALL`].
    All,
    /// One kind.
    One(Kind),
}

impl Kinds {
    /// The kinds.
    pub fn list(self) -> Vec<Kind> {
        match self {
            Kinds::All => Kind::ALL.to_vec(),
            Kinds::One(kind) => vec![kind],
        }
    }
}

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    match text {
        "all" => Ok(Kinds::All),
        kind => kind
            .parse()
            .map(Kinds::One)
            .map_err(|e| format!("{e}, all")),
    }
}

fn parse_store(text: &str) -> Result<StoreConfig, String> {
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(StoreConfig::Sqlite { path: path.into() }),
        None if text == "kubernetes" => Ok(StoreConfig::Kubernetes(KubernetesConfig::default())),
        _ => Err(
            "write kubernetes, or sqlite:PATH, for example sqlite:/var/lib/roadbed-store/store.db"
                .to_owned(),
        ),
    }
}

pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map(|net| net.trunc())
        .map_err(|_| "write a prefix (10.244.0.0/16) or an address (10.244.0.7)".to_owned())
}
