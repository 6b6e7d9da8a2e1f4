//! `roadbed-bgpd`: the speaker alone, from one TOML file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use roadbed_bgpd::{Speaker, SpeakerOptions, config, program};
use roadbed_fib::{Fib, FibOptions, Source};
use tokio::signal::unix::{SignalKind, signal};

/// BGP speaker: peers with routers, learns their routes into the kernel (protocol 82), announces its own.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  roadbed-bgpd --config bgpd.toml --check    is the file right?\n  roadbed-bgpd --config bgpd.toml            run in the foreground\n\nSIGHUP reads the file again; only peers whose OPEN must change are reset.\nLog level: ROADBED_LOG=debug"
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
    /// Check the file and exit: 0 when it is right.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::main(|| start(args))
}

fn start(args: Args) -> Result<()> {
    let resolved = config::load(&args.config)?;
    if args.check {
        println!(
            "{}: ok, {} peers",
            args.config.display(),
            resolved.config.peers.len()
        );
        return Ok(());
    }
    program::init_log();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(args, resolved))
}

async fn run(args: Args, resolved: config::Resolved) -> Result<()> {
    let (fib, events) = Fib::start(FibOptions {
        sources: vec![Source::Bgp],
        ..FibOptions::default()
    })
    .await
    .context("cannot reach the kernel's routing tables")?;
    let mut speaker =
        Speaker::start(resolved.options.clone(), fib, events).map_err(|refused| refused.0)?;
    speaker.configure(resolved.config).await?;
    speaker.originate(&resolved.local).await?;
    tracing::info!(
        local_as = resolved.options.local_as,
        router_id = %resolved.options.router_id,
        port = resolved.options.listen_port,
        "speaker started"
    );
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut adopted = false;
    loop {
        tokio::select! {
            _ = second.tick(), if !adopted => adopted = speaker.finish_adoption().await,
            _ = hangup.recv() => reload(&args, &mut speaker).await?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    speaker.stop("stopped by its operator").await;
    Ok(())
}

/// A file that is wrong changes nothing.
async fn reload(args: &Args, speaker: &mut Speaker) -> Result<()> {
    let resolved = match config::load(&args.config) {
        Ok(resolved) => resolved,
        Err(error) => {
            tracing::error!(%error, "reload refused, running on with the settings in force");
            return Ok(());
        }
    };
    let (old, new) = (speaker.options(), &resolved.options);
    let fixed = |o: &SpeakerOptions| (o.local_as, o.router_id, o.cluster_id, o.listen_port);
    if fixed(old) != fixed(new) {
        tracing::warn!(
            "asNumber, routerId, clusterId and listenPort of [bgp] take effect after a restart"
        );
    }
    speaker.configure(resolved.config).await?;
    speaker.originate(&resolved.local).await?;
    tracing::info!("configuration reloaded");
    Ok(())
}
