//! `roadbed-bgpd`: the speaker alone, from one TOML file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use roadbed_bgpd::api::{Shown, Standalone};
use roadbed_bgpd::ask::{answer, questions};
use roadbed_bgpd::config::{self, ConfigError, Watch};
use roadbed_bgpd::{Remains, Speaker, SpeakerOptions, StartError, program};
use roadbed_fib::{Fib, FibOptions, Source};
use tokio::signal::unix::{SignalKind, signal};

/// What a file that cannot be used exits with, as wrong arguments do.
const WRONG_CONFIG: u8 = 2;
/// How often the run directory is looked after.
const AUDIT: Duration = Duration::from_secs(5);

/// BGP speaker: peers with routers, learns their routes into the kernel (protocol 82), announces its own.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  roadbed-bgpd --config bgpd.toml --check    is the file right?\n  roadbed-bgpd --config bgpd.toml            run in the foreground\n\nThe file is read again when it changes, and on SIGHUP; only peers whose OPEN must change are reset.\nExit codes: 0 done, 1 failed, 2 the file or an argument is wrong.\nLog level: ROADBED_LOG=debug. State of a running router: roadbedctl status, roadbedctl bgp --help."
)]
struct Args {
    /// Configuration file (TOML).
    #[arg(
        short,
        long,
        env = "ROADBED_BGPD_CONFIG",
        default_value = "/etc/roadbed/bgpd.toml"
    )]
    config: PathBuf,
    /// Check the file and exit: 0 when it is right, else 2 and everything that is wrong, a line each.
    #[arg(long)]
    check: bool,
    /// Read the file again on SIGHUP only.
    #[arg(long)]
    no_watch: bool,
    /// Directory of the socket that roadbedctl asks, and of its lock; made when it is not there. By default /run/roadbed;
    /// while another router has that, this one runs without.
    #[arg(long, env = "ROADBED_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match config::load(&args.config) {
        Ok(resolved) if args.check => {
            let (path, config) = (args.config.display(), &resolved.config);
            let (peers, ranges) = (config.peers.len(), config.ranges.len());
            println!("{path}: ok, {peers} peers, {ranges} listen ranges");
            ExitCode::SUCCESS
        }
        Ok(resolved) => program::main(|| start(args, resolved)),
        Err(error) => {
            eprintln!("{}", report(&error));
            ExitCode::from(WRONG_CONFIG)
        }
    }
}

/// What is wrong, a line each.
fn report(error: &ConfigError) -> String {
    match error {
        ConfigError::Read { .. } => format!("error: {error}"),
        ConfigError::Wrong(problems) => format!("{problems}\nerror: {} problems", problems.len()),
    }
}

fn start(args: Args, resolved: config::Resolved) -> Result<()> {
    program::init_log();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(args, resolved))
}

async fn run(args: Args, resolved: config::Resolved) -> Result<()> {
    // First of all: until then each of them ends the process.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (asking, mut questions) = questions();
    let router = Standalone {
        node: hostname().into(),
        started: Instant::now(),
        asking,
    };
    let mut shown = Shown::open(args.run_dir.as_deref(), router)?;
    let (fib, events) = Fib::start(FibOptions {
        sources: vec![Source::Bgp],
        ..FibOptions::default()
    })
    .await
    .context("cannot reach the kernel's routing tables")?;
    let mut speaker = Speaker::start(resolved.options.clone(), Remains::none(fib, events))
        .map_err(|refused| refused.0)?;
    let mut watch = watch(&args);
    speaker.configure(resolved.config).await?;
    speaker.originate(&resolved.local).await?;
    tracing::info!(
        local_as = resolved.options.local_as,
        router_id = %resolved.options.router_id,
        port = resolved.options.listen_port,
        "speaker started"
    );
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut look_after = tokio::time::interval(AUDIT);
    let mut odds = Odds::default();
    loop {
        tokio::select! {
            Some(question) = questions.recv() => {
                answer(question, Some(&speaker), odds.problem.as_deref()).await;
            }
            _ = look_after.tick() => {
                shown.keep();
                odds.retry(&mut speaker).await;
            }
            _ = second.tick() => speaker.finish_adoption().await,
            _ = hangup.recv() => (speaker, odds) = reload(&args, speaker, "SIGHUP").await?,
            () = changed(&mut watch) => (speaker, odds) = reload(&args, speaker, "the file changed").await?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // Nobody is to wait for an answer that does not come.
    drop((shown, questions));
    speaker.stop("stopped by its operator").await;
    Ok(())
}

/// As the kernel has it.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The speaker works without; SIGHUP is left.
fn watch(args: &Args) -> Option<Watch> {
    if args.no_watch {
        return None;
    }
    Watch::start(&args.config)
        .inspect_err(|error| {
            tracing::warn!(%error, "the configuration file is not watched: reload with SIGHUP");
        })
        .ok()
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Where the router is at odds with its file.
#[derive(Default)]
struct Odds {
    /// What needs a person's eye.
    problem: Option<String>,
    /// What it could not take over, and tries again.
    wanted: Option<SpeakerOptions>,
}

impl Odds {
    fn with_port(error: &StartError, wanted: &SpeakerOptions) -> Self {
        tracing::error!(%error, "listening where it did before, and trying again");
        Self {
            problem: Some(error.to_string()),
            wanted: Some(wanted.clone()),
        }
    }

    async fn retry(&mut self, speaker: &mut Speaker) {
        if let Some(wanted) = &self.wanted
            && speaker.adjust(wanted).await.is_ok()
        {
            *self = Self::default();
        }
    }
}

/// A file that is wrong changes nothing. The speaker, which is another one when our AS or Identifier changes.
async fn reload(args: &Args, mut speaker: Speaker, why: &'static str) -> Result<(Speaker, Odds)> {
    let resolved = match config::load(&args.config) {
        Ok(resolved) => resolved,
        Err(error) => {
            let problems = error.to_string();
            for problem in problems.lines() {
                tracing::error!(problem, "reload refused");
            }
            tracing::error!(
                why,
                "reload refused: running on with the settings in force until the file is right"
            );
            let problems: Vec<&str> = problems.lines().collect();
            let odds = Odds {
                problem: Some(problems.join("; ")),
                wanted: None,
            };
            return Ok((speaker, odds));
        }
    };
    let mut odds = Odds::default();
    let options = resolved.options;
    if speaker.options().is_same_speaker(&options) {
        if let Err(error) = speaker.adjust(&options).await {
            odds = Odds::with_port(&error, &options);
        }
    } else {
        tracing::warn!(local_as = options.local_as, router_id = %options.router_id, "another AS or BGP Identifier: all sessions are reset");
        let former_port = speaker.options().listen_port;
        let remains = speaker.hand_over("another AS or BGP Identifier").await;
        let remains = remains.context("the kernel's routes did not come to rest in time")?;
        speaker = match Speaker::start(options.clone(), remains) {
            Ok(speaker) => speaker,
            Err(refused) => {
                let (error, remains) = *refused;
                odds = Odds::with_port(&error, &options);
                let there = SpeakerOptions {
                    listen_port: former_port,
                    ..options
                };
                Speaker::start(there, remains).map_err(|refused| refused.0)?
            }
        };
    }
    speaker.configure(resolved.config).await?;
    speaker.originate(&resolved.local).await?;
    tracing::info!(why, "configuration reloaded");
    Ok((speaker, odds))
}
