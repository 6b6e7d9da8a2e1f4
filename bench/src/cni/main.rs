//! `roadbed-bench-cni`: our plugin and Debian's `ptp` with `host-local`, in one run, call by call in turns.
//!
//! ```text
//!  a network and a mount namespace of the run's own: the "node"
//!  roadbed-agent ── roadbed ──┐
//!                             ├── pods: namespaces made beforehand, one clock around every plugin process
//!              ptp, host-local┘
//! ```
//!
//! Owns the load, the clock and the verdicts. Never part of anything that is shipped.

mod burst;
mod call;
mod look;
mod node;
mod pairs;
mod path;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::call::Plugin;
use crate::node::Node;
use crate::report::Report;

/// Measures the plugin beside Debian's ptp with host-local.
#[derive(Parser)]
#[command(
    version,
    after_help = "Needs root, and Debian's containernetworking-plugins, curl, iperf3, strace and time."
)]
struct Args {
    /// What the run's own children do.
    #[command(subcommand)]
    inner: Option<Inner>,
    /// ADD and DEL of each plugin, in turns: ABBA.
    #[arg(long, default_value_t = 300)]
    pairs: usize,
    /// Let ptp do IPv6 too, as ours does.
    #[arg(long)]
    ptp_dual: bool,
    /// Pods that the agent holds meanwhile.
    #[arg(long, default_value_t = 100)]
    held: usize,
    /// Pods of one burst, 16 at a time.
    #[arg(long, default_value_t = 110)]
    burst: usize,
    /// Bursts of each plugin, in turns.
    #[arg(long, default_value_t = 6)]
    bursts: usize,
    /// Runs of each wiring for throughput and latency, in turns; 0 leaves them out.
    #[arg(long, default_value_t = 10)]
    path_runs: usize,
    /// Where our binaries are [default: beside this program].
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Where to write the result as JSON.
    #[arg(long, default_value = "target/bench/cni.json")]
    json: PathBuf,
}

#[derive(Subcommand)]
enum Inner {
    /// Answers every line of a TCP connection with itself.
    #[command(hide = true)]
    Pong { address: String },
    /// Sends lines and prints the round trips per second.
    #[command(hide = true)]
    Ping { address: String, seconds: u64 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.inner {
        Some(Inner::Pong { address }) => path::pong(address),
        Some(Inner::Ping { address, seconds }) => path::ping(address, *seconds),
        None => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadbed-bench-cni: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    ensure!(
        args.pairs >= 2 && args.burst >= 1,
        "--pairs: at least 2; --burst: at least 1"
    );
    let exe = std::env::current_exe()?;
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => exe.parent().unwrap_or(&exe).to_owned(),
    };
    // Before anything runs on another thread: namespaces are a thread's.
    let node = Node::new(&bin_dir)?;
    let ours = Plugin::roadbed(&node);
    let theirs = Plugin::ptp(&node, args.ptp_dual);
    let mut report = Report::new(&node)?;

    let reads_alone = look::reads(&node, &ours)?;
    eprintln!("holding {} pods", args.held);
    let held = node.pods("held", args.held)?;
    for pod in &held {
        ours.add(pod)?;
    }
    report.held = args.held;
    report.reads = [reads_alone, look::reads(&node, &ours)?];
    eprintln!("{} pairs", args.pairs);
    report.pairs = pairs::run(&node, [&ours, &theirs], args.pairs)?;
    eprintln!("{} bursts of {}", args.bursts, args.burst);
    report.bursts = burst::run(&node, [&ours, &theirs], args.burst, args.bursts)?;
    report.rss_kib = look::rss(&node, &ours)?;
    report.shares = look::shares(&node, &ours)?;
    report.steps = look::steps(&node, &ours)?;
    for pod in &held {
        ours.del(pod)?;
    }
    if args.path_runs > 0 {
        eprintln!("{} runs of each wiring", args.path_runs);
        report.path = Some(path::run(&node, &ours, args.path_runs)?);
    }
    report.print();
    report.write(&args.json)
}
