//! `roadbed-agent`: start-up from top to bottom, then wait for the end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use roadbed_agent::api::{self, App};
use roadbed_agent::attach::Attachments;
use roadbed_agent::blocks::Blocks;
use roadbed_agent::blocks::Manners;
use roadbed_agent::cni::{self, Conflist};
use roadbed_agent::config::{AgentConfig, Overrides};
use roadbed_agent::snapshot::Snapshots;
use roadbed_agent::sync::Cluster;
use roadbed_agent::sysctls::Sysctls;
use roadbed_agent::{
    antispoof, bgp, blocks, cluster, host_ends, kernel, ledger, ready, sync, unwire,
};
use roadbed_api::agent::{CONVERGED, LIVEZ, READYZ};
use roadbed_api::names::{DEFAULT_RUN_DIR, SOCKET_NAME};
use roadbed_bgpd::program;
use roadbed_bgpd::run_dir::{Daemon, RunDir};
use roadbed_client::AgentClient;
use roadbed_fib::{
    Fib, FibHandle, FibOptions, RouteChange, RouteKind, RouteSpec, Source, WORST_METRIC,
};
use roadbed_kube::{Access, Events, KubeStore, Nodes};
use roadbed_store::{Store, StoreConfig};
use tokio::signal::unix::{SignalKind, signal};

/// How often the kernel is compared with the ledger.
const AUDIT: Duration = Duration::from_secs(5);

/// Longest wait of a start for the first word of a Kubernetes cluster or of the snapshot.
const FIRST_WORD: Duration = Duration::from_secs(4);

/// How long requests under way may take when the agent is told to stop.
const GOODBYE: Duration = Duration::from_secs(2);

/// Roadbed's node daemon: addresses for pods, their routes, and BGP to the fabric.
#[derive(Parser)]
#[command(
    version,
    after_help = "Settings come from the file, then from the environment (ROADBED_NODE, ROADBED_RUN_DIR, ROADBED_STORE__PATH, …), then from flags.\nLog level: ROADBED_LOG=debug. State of a running agent: roadbedctl status."
)]
struct Args {
    /// Node-local settings (TOML).
    #[arg(
        short,
        long,
        env = "ROADBED_AGENT_CONFIG",
        default_value = "/etc/roadbed/agent.toml"
    )]
    config: PathBuf,
    /// The node's name, in place of the file's.
    #[arg(long)]
    node: Option<String>,
    /// Directory of socket, lock and ledger, in place of the file's.
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Directory of the snapshot, in place of the file's.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Check the settings and exit: 0 when they are right.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Put the CNI plugin where container runtimes look for it (cni.bin_dir), and exit.
    InstallCni {
        /// The plugin; by default the file `roadbed` beside this program.
        #[arg(long)]
        from: Option<PathBuf>,
    },
    /// Ask the running agent how it is, and exit: 0 when all is well, 1 when not. For exec probes of a kubelet.
    Probe {
        /// The question.
        what: ProbeKind,
    },
    /// Remove the network configuration and the CNI plugin, if they are ours, and exit. Stop the agent first: it would
    /// write the configuration again.
    UninstallCni,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ProbeKind {
    /// The agent answers. Says nothing of the store, the API server or peers.
    Live,
    /// Pods can be started.
    Ready,
    /// Routes of the peers have been received once.
    Converged,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| start(args))
}

fn start(args: Args) -> Result<()> {
    let overrides = Overrides {
        node: args.node,
        run_dir: args.run_dir,
        state_dir: args.state_dir,
    };
    // A file that somebody is changing must not make a running agent look dead.
    if let Some(Command::Probe { what }) = args.command {
        return probe(overrides.run_dir, what);
    }
    let config = AgentConfig::load(&args.config, std::env::vars(), &overrides)?;
    if args.check {
        println!("{}: ok, node {}", args.config.display(), config.node);
        return Ok(());
    }
    match args.command {
        Some(Command::InstallCni { from }) => return install_cni(&config, from),
        Some(Command::UninstallCni) => return uninstall_cni(&config),
        Some(Command::Probe { .. }) => {}
        None => {}
    }
    program::init_log();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(config))
}

fn install_cni(config: &AgentConfig, from: Option<PathBuf>) -> Result<()> {
    let beside =
        || -> std::io::Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name(cni::PLUGIN)) };
    let from = from
        .map_or_else(beside, Ok)
        .context("where is this program?")?;
    println!("{}: installed", cni::install(&config.cni, &from)?.display());
    Ok(())
}

fn uninstall_cni(config: &AgentConfig) -> Result<()> {
    // The lock ends with this process.
    let _lock = match config.run_dir.is_dir() {
        true => Some(RunDir::lock(&config.run_dir, Daemon::Agent)?),
        false => None,
    };
    for path in cni::uninstall(&config.cni, &config.run_dir)? {
        println!("{}: removed", path.display());
    }
    Ok(())
}

/// Longest time for an answer to a probe; the kubelet has a little more.
const PROBE: Duration = Duration::from_secs(4);

/// Reads no settings but the run directory: of the flag, of `ROADBED_RUN_DIR`, or the usual one.
fn probe(run_dir: Option<PathBuf>, what: ProbeKind) -> Result<()> {
    let of_environment = || std::env::var_os("ROADBED_RUN_DIR").map(PathBuf::from);
    let run_dir = run_dir
        .or_else(of_environment)
        .unwrap_or_else(|| DEFAULT_RUN_DIR.into());
    let path = match what {
        ProbeKind::Live => LIVEZ,
        ProbeKind::Ready => READYZ,
        ProbeKind::Converged => CONVERGED,
    };
    let agent = AgentClient::new(run_dir.join(SOCKET_NAME)).with_timeout(PROBE);
    let probe = agent.probe(path)?;
    if !probe.ok {
        bail!("waiting for {}", probe.waiting_for.join(", "));
    }
    Ok(())
}

async fn run(config: AgentConfig) -> Result<()> {
    let run_dir = RunDir::lock(&config.run_dir, Daemon::Agent)?;
    let mut sysctls = Sysctls::new(run_dir.path());
    sysctls.keep().context("run_dir: cannot write settings")?;
    let boot_id = kernel::boot_id().context("cannot read the boot id")?;
    let snapshots = Snapshots::new(&config.state_dir, &config.node, &boot_id)
        .with_context(|| format!("state_dir: cannot make {}", config.state_dir.display()))?;

    // What forwards already is adopted before anything else is decided.
    let (fib, fib_events) = Fib::start(FibOptions::default())
        .await
        .context("cannot reach the kernel's routing tables")?;
    let cool_down = Duration::from_secs(config.cool_down_seconds);
    let (ledger, rows) = ledger::open(&run_dir.path().join("ledger.db"), &boot_id, cool_down)?;

    let antispoof = antispoof::start().await;

    let (store, cluster) = open_store(&config).await?;
    let manners = match &cluster {
        Some(_) => Manners::SERVER,
        None => Manners::FILE,
    };
    let mut known = sync::start(&config, store.clone(), cluster.clone(), snapshots);
    if cluster.is_some() {
        tokio::spawn(cluster::decide(
            config.node.clone(),
            store.clone(),
            known.clone(),
        ));
        // The host routes that are adopted next carry the node's address.
        let resources = known.wait_for(|known| known.resources.is_some());
        tokio::time::timeout(FIRST_WORD, resources).await.ok();
    }
    let blocks = blocks::start(&config.node, manners, store, ledger.clone(), known.clone());
    let unwirer = unwire::start().context("cannot start a thread")?;
    let attachments = Attachments::new(
        ledger.clone(),
        blocks.clone(),
        fib.clone(),
        unwirer,
        &config,
        known.clone(),
    );
    attachments.adopt(&rows).await?;
    finish_adoption(&fib, Source::Pod);
    tokio::spawn(back_blocks(fib.clone(), blocks.clone()));
    tokio::spawn(audit(attachments.clone(), sysctls));
    host_ends::start().context("cannot follow links")?;

    let bgp = bgp::start(
        &config,
        known.clone(),
        blocks.clone(),
        fib.clone(),
        fib_events,
    );
    let app = Arc::new(App {
        started: Instant::now(),
        converged: AtomicBool::new(false),
        antispoof,
        attachments,
        blocks,
        ledger,
        bgp: bgp.clone(),
        fib,
        known,
        config,
    });
    let listener = run_dir.listen()?;
    tokio::spawn(ready::keep(
        run_dir.path().to_owned(),
        Conflist::new(&app.config.cni, run_dir.path()),
        app.blocks.clone(),
    ));
    tracing::info!(node = %app.config.node, attachments = rows.len(), run_dir = %run_dir.path().display(), "agent started");
    // As a task: this thread is not one of the runtime's, and each connection would be handed over twice.
    let mut served = tokio::spawn(api::serve(listener, app, terminated()));
    let lost = tokio::select! {
        served = &mut served => served?.context("local API").map(|()| false)?,
        // A caller that keeps its connection open must not keep the agent.
        () = async { terminated().await; tokio::time::sleep(GOODBYE).await } => false,
        () = lost(&run_dir) => true,
    };
    served.abort();
    bgp.stop().await;
    if lost {
        bail!(
            "run_dir: somebody deleted {}: start the agent again",
            run_dir.path().display()
        );
    }
    tracing::info!("agent stopped; routes and pods stay as they are");
    Ok(())
}

/// The store, and what a Kubernetes cluster has beside it.
async fn open_store(config: &AgentConfig) -> Result<(Arc<dyn Store>, Option<Cluster>)> {
    let StoreConfig::Kubernetes(kubernetes) = &config.store else {
        let store = roadbed_store::open(&config.store).await.context("store")?;
        return Ok((store, None));
    };
    let access = Access::new(kubernetes).await.context("store")?;
    let cluster = Cluster {
        nodes: Nodes::new(&access),
        events: Events::start(&access, &config.node),
    };
    Ok((Arc::new(KubeStore::new(access)), Some(cluster)))
}

/// Own blocks are backed by `unreachable` with the worst metric: what no pod holds is not sent back to the fabric.
async fn back_blocks(fib: FibHandle, blocks: Blocks) {
    let mut view = blocks.watch();
    let mut backed: Vec<ipnet::IpNet> = Vec::new();
    let mut adopted = false;
    loop {
        let now = view.borrow_and_update().clone();
        if now.known {
            let wanted: Vec<ipnet::IpNet> = now.blocks.iter().map(|b| b.cidr).collect();
            let gone = backed
                .iter()
                .filter(|b| !wanted.contains(b))
                .map(|b| RouteChange::withdraw(Source::Block, *b));
            let new = wanted.iter().map(|prefix| {
                let spec = RouteSpec {
                    prefix: *prefix,
                    kind: RouteKind::Unreachable,
                    prefsrc: None,
                    metric: WORST_METRIC,
                };
                RouteChange::want(Source::Block, spec)
            });
            let changes = gone.chain(new).collect();
            match fib.apply(changes).await {
                Ok(report) => {
                    for failure in report.failed {
                        tracing::error!(prefix = %failure.prefix, reason = %failure.reason, "block not backed");
                    }
                }
                Err(_) => return,
            }
            backed = wanted;
            if !std::mem::replace(&mut adopted, true) {
                finish_adoption(&fib, Source::Block);
            }
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}

async fn audit(attachments: Attachments, mut sysctls: Sysctls) {
    let mut interval = tokio::time::interval(AUDIT);
    loop {
        interval.tick().await;
        attachments.audit().await;
        if let Err(error) = sysctls.keep() {
            tracing::warn!(%error, "settings for the plugin cannot be written");
        }
    }
}

/// Resolves when the run directory is not ours any more: a new process makes a new one, and rebuilds the ledger from the
/// kernel.
async fn lost(run_dir: &RunDir) {
    let mut interval = tokio::time::interval(AUDIT);
    while run_dir.is_ours() {
        interval.tick().await;
    }
}

async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Resolves only once all sources are through, which nobody here waits for.
fn finish_adoption(fib: &FibHandle, source: Source) {
    let fib = fib.clone();
    tokio::spawn(async move {
        // The writer only stops with the whole process.
        fib.finish_adoption(source).await.ok();
    });
}
