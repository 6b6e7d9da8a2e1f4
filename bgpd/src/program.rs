//! What daemons have in common: the allocator, the log, and the last words on standard error.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Attribute sets and messages are made in one thread and dropped in another all the time, which the C library's
/// allocator pays for with locks and consolidation: a fifth of the time of a large flap. Without transparent huge pages:
/// they would make a full table a quarter larger, and clearing them costs more than they save.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Logs to standard error, at the level of `ROADBED_LOG` (default `info`), in colour only for people.
pub fn init_log() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("ROADBED_LOG").unwrap_or_else(|_| "info".into()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// Runs a program's main part; an error becomes one line on standard error and exit code 1.
pub fn main(run: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those that the text before them already tells.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::from(std::io::ErrorKind::NotFound);
        let told = anyhow::Error::from(inner).context("cannot read /x: entity not found");
        assert_eq!(one_line(&told), "cannot read /x: entity not found");
        let untold = anyhow::anyhow!("no such thing").context("cannot start");
        assert_eq!(one_line(&untold), "cannot start: no such thing");
    }
}
