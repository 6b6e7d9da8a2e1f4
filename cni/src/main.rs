//! The CNI plugin's entry point: gathers what the runtime passed and exits with what the library says.

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = roadbed_cni::run(|name| std::env::var_os(name), std::io::stdin().lock());
    for line in &outcome.log {
        eprintln!("roadbed: {line}");
    }
    // Whoever should read it is gone if this fails; the exit code still says what happened.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), outcome.stdout.as_bytes());
    ExitCode::from(outcome.exit_code)
}
