//! `roadbed-bench`: `roadbed-bgpd`, BIRD and FRR side by side under one load.
//!
//! ```text
//!  namespace "d"                    veth      namespace "p": one address per peer
//!  the daemon (or the null daemon) ───────── sessions ──< one thread writes, prepared beforehand
//!                                                       < one thread reads, decodes and checks
//! ```
//!
//! Owns the load, the clock and the verdicts. Never part of anything that is shipped.

mod case;
mod daemon;
mod null;
mod poller;
mod report;
mod scene;
mod session;
mod sink;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::case::{Case, Sample, Sizes};
use crate::daemon::{Kind, Place};
use crate::report::{Report, Run};

/// Runs of the null sink: it varies less than any daemon.
const NULL_RUNS: usize = 3;

/// Measures roadbed-bgpd beside BIRD and FRR: routes in, through, and out to every sink.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  roadbed-bench --quick                      small tables, one run: does everything work?\n  roadbed-bench --row 1 --only roadbed,bird  one row, two daemons\n\nNeeds root, and Debian's bird2 and frr."
)]
struct Args {
    /// Small tables and one run.
    #[arg(long)]
    quick: bool,
    /// Only these rows, 1 to 5.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=5))]
    row: Vec<u8>,
    /// Runs per daemon and row, interleaved [default: 5; with --quick: 1].
    #[arg(long)]
    runs: Option<usize>,
    /// Only these daemons.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Prefixes that share one attribute set.
    #[arg(long, default_value_t = 10)]
    per_set: usize,
    /// The roadbed-bgpd to measure [default: the one beside this program].
    #[arg(long)]
    bgpd: Option<PathBuf>,
    /// Where to write the result as JSON.
    #[arg(long, default_value = "target/bench/bgp.json")]
    json: PathBuf,
}

fn main() -> ExitCode {
    let result = scene::sweep_whatever_happens().and_then(|()| run(&Args::parse()));
    scene::sweep();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roadbed-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False: something failed that others did not depend on.
fn run(args: &Args) -> Result<bool> {
    ensure!((1..=1000).contains(&args.per_set), "--per-set: 1 to 1000");
    let sizes = sizes(args);
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { 5 });
    let bgpd = match &args.bgpd {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("roadbed-bgpd"),
    };
    let dir = std::env::temp_dir().join(format!("roadbed-bench-{}", std::process::id()));
    let place = Place { dir, bgpd };
    let mut kinds = Vec::new();
    let mut machine = machine();
    for kind in Kind::ALL {
        if !args.only.is_empty() && !args.only.contains(&kind) {
            continue;
        }
        let Some(version) = kind.version(&place.bgpd) else {
            bail!(
                "{} is not there: install it, or leave it out with --only",
                kind.name()
            );
        };
        machine.push(format!("{}: {version}", kind.name()));
        kinds.push(kind);
    }
    let mut results = Results::default();
    for (workload, rows) in Case::all(&sizes, &args.row) {
        measure(
            &Case::prepare(workload, &rows)?,
            &kinds,
            runs,
            &place,
            &mut results,
        )?;
    }
    machine.push(format!(
        "load average at the end: {}",
        first_line("/proc/loadavg")
    ));
    let complete = results.failures.is_empty();
    let report = Report::new(machine, &sizes, &results.runs, results.failures);
    if let Some(dir) = args.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&args.json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", args.json.display()))?;
    println!("{}", report.table());
    Ok(complete)
}

#[derive(Default)]
struct Results {
    runs: Vec<Run>,
    failures: Vec<String>,
}

/// All runs of one case, the daemons in turn.
fn measure(
    case: &Case,
    kinds: &[Kind],
    runs: usize,
    place: &Place,
    results: &mut Results,
) -> Result<()> {
    for number in 0..runs {
        for kind in kinds.iter().copied().map(Some).chain([None]) {
            if kind.is_none() && number >= NULL_RUNS {
                continue;
            }
            scene::running()?;
            let samples = match kind {
                Some(kind) => case.run(kind, place),
                None => case.run_null(),
            };
            let who = kind.map_or("null sink", Kind::name);
            let shape = case.workload.shape;
            match samples {
                Ok(samples) => take(samples, kind, number, results),
                Err(error) => {
                    let failure = format!("{who}, {shape:?}, run {}: {error:#}", number + 1);
                    eprintln!("{failure}");
                    results.failures.push(failure);
                }
            }
        }
    }
    Ok(())
}

fn take(samples: Vec<Sample>, kind: Option<Kind>, number: usize, results: &mut Results) {
    for sample in samples {
        let usage = sample.usage.unwrap_or_default();
        eprintln!(
            "row {} {:?}, {}, run {}: {:.3} s, {:.2} s cpu, {} MiB",
            sample.metric.row(),
            sample.metric,
            kind.map_or("null sink", Kind::name),
            number + 1,
            sample.seconds,
            usage.cpu_seconds,
            usage.peak_kib >> 10
        );
        results.runs.push(Run {
            kind,
            metric: sample.metric,
            seconds: sample.seconds,
            usage: sample.usage,
        });
    }
}

fn sizes(args: &Args) -> Sizes {
    let per_set = args.per_set;
    if args.quick {
        Sizes {
            single: 50_000,
            distinct: (10, 5_000),
            overlap: (30, 5_000),
            reflector: (50, 20),
            per_set,
        }
    } else {
        Sizes {
            single: 1_000_000,
            distinct: (10, 100_000),
            overlap: (30, 100_000),
            reflector: (500, 20),
            per_set,
        }
    }
}

/// What the numbers depend on.
fn machine() -> Vec<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!("processor: {model}, {cores} cores"),
        format!("kernel: {}", first_line("/proc/sys/kernel/osrelease")),
        format!("load average at the start: {}", first_line("/proc/loadavg")),
    ]
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
