//! The command line of `roadbed-lab`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use roadbed_lab::{BASE_DIR, Lab, LabError, NodeView, Options, Topology};

/// Realise a containerlab topology file in network namespaces.
///
/// Every node is a process tree with its own network, mounts, pids and host name; its root is this machine's, and what it
/// writes there is gone when it ends. Images are stood in for by programs of this machine. Needs root.
#[derive(Parser)]
#[command(name = "roadbed-lab", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Common {
    /// The topology file (*.clab.yml)
    file: PathBuf,
    /// Use another lab name than the file's
    #[arg(long)]
    name: Option<String>,
    /// Where labs are kept while they are up
    #[arg(long, env = "ROADBED_LAB_DIR", default_value = BASE_DIR)]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring the lab up; returns when every exec line of the file has run
    Up {
        #[command(flatten)]
        common: Common,
        /// Where roadbed-agent and the other binaries are [default: beside roadbed-lab]
        #[arg(long)]
        bin_dir: Option<PathBuf>,
        /// Print nothing but errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// Take the lab down; succeeds when there is nothing to take down
    Down {
        #[command(flatten)]
        common: Common,
        /// Print nothing but errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// Run a command inside a node, with this terminal; its exit code is passed on
    Exec {
        #[command(flatten)]
        common: Common,
        /// The node
        node: String,
        /// The command, after `--`
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show nodes, what they run and their addresses
    Inspect {
        #[command(flatten)]
        common: Common,
        /// How to print
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Start those programs of a node that do not run
    Start {
        #[command(flatten)]
        common: Common,
        /// The node
        node: String,
    },
    /// Send a signal to a node's programs; nothing restarts them but `start`
    Kill {
        #[command(flatten)]
        common: Common,
        /// The node
        node: String,
        /// The signal, such as TERM, KILL or HUP
        #[arg(short, long, default_value = "TERM")]
        signal: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if let Some(code) = roadbed_lab::hidden(&args) {
        return code;
    }
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("roadbed-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up {
            common,
            bin_dir,
            quiet,
        } => up(&common, bin_dir, quiet)?,
        Verb::Down { common, quiet } => {
            let options = common.options(quiet);
            match Lab::find(&common.lab_name()?, &options) {
                Ok(lab) => lab.down()?,
                Err(error @ LabError::Missing { .. }) if !quiet => {
                    eprintln!("nothing to do: {error}")
                }
                Err(LabError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Verb::Exec {
            common,
            node,
            command,
        } => {
            let mut inside = common.lab()?.command(&node, &command)?;
            if let Some(terminal) = std::env::var_os("TERM") {
                inside.env("TERM", terminal);
            }
            let status = inside.status().context("run the command")?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(1)));
        }
        Verb::Inspect { common, output } => {
            let nodes = common.lab()?.inspect();
            match output {
                Format::Json => println!("{}", serde_json::to_string_pretty(&nodes)?),
                Format::Table => print!("{}", table(&nodes)),
            }
        }
        Verb::Start { common, node } => {
            common.lab()?.start_main(&node)?;
        }
        Verb::Kill {
            common,
            node,
            signal,
        } => {
            let name = signal.to_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            let signal = format!("SIG{name}").parse::<Signal>();
            common
                .lab()?
                .kill_main(&node, signal.context("no such signal")?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(common: &Common, bin_dir: Option<PathBuf>, quiet: bool) -> Result<()> {
    let topology = Topology::load(&common.file)?;
    if !quiet {
        for note in &topology.notes {
            eprintln!("note: {note}");
        }
    }
    let options = Options {
        bin_dir,
        interrupted: Some(interruptions()?),
        ..common.options(quiet)
    };
    Lab::up(&topology, &options)?;
    if !quiet {
        let node = topology
            .nodes
            .first()
            .map_or("NODE", |node| node.name.as_str());
        let file = common.file.display();
        eprintln!("look around: roadbed-lab exec {file} {node} -- ip route");
    }
    Ok(())
}

/// A flag that Ctrl-C and TERM set, so that a half-made lab is undone.
fn interruptions() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}

impl Common {
    fn options(&self, quiet: bool) -> Options {
        Options {
            name: self.name.clone(),
            lab_exe: std::env::current_exe().ok(),
            base_dir: Some(self.dir.clone()),
            progress: (!quiet).then(|| Arc::new(|line: &str| eprintln!("{line}")) as _),
            ..Options::default()
        }
    }

    /// The name given, or the file's.
    fn lab_name(&self) -> Result<String> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => Ok(Topology::load(&self.file)?.name),
        }
    }

    fn lab(&self) -> Result<Lab> {
        Ok(Lab::find(&self.lab_name()?, &self.options(true))?)
    }
}

fn table(nodes: &[NodeView]) -> String {
    let head = [
        "NODE",
        "KIND",
        "IMAGE",
        "STATE",
        "PID",
        "NETNS",
        "ADDRESSES",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for node in nodes {
        rows.push([
            node.name.clone(),
            node.kind.clone(),
            node.image.clone(),
            node.state.clone(),
            node.pid
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            node.netns.clone(),
            node.addresses.join(", "),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
