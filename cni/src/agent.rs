//! The plugin's way to the agent: short answers, a deadline per command, patience where the command has some.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use roadbed_api::agent::ErrorCode;
use roadbed_api::names;
use roadbed_client::{AgentClient, ClientError, KeptClient};

use crate::error::CniError;

/// Largest answer the plugin takes, in bytes: a reservation is a few hundred.
const MAX_BODY: usize = 1024 * 1024;
/// Pause between attempts while the agent is away.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The least time one attempt gets, also when `waitSeconds` is 0.
const MIN_ATTEMPT: Duration = Duration::from_secs(2);

/// A client whose requests may each take `timeout`.
pub(crate) fn client(run_dir: &Path, timeout: Duration) -> AgentClient {
    AgentClient::new(run_dir.join(names::SOCKET_NAME))
        .with_timeout(timeout)
        .with_max_body(MAX_BODY)
}

/// Whether waiting may help.
pub(crate) fn is_away(error: &ClientError) -> bool {
    error.is_away()
        || error
            .api()
            .is_some_and(|api| api.code == ErrorCode::NotReady)
}

/// Repeats an idempotent request until the agent answers it or `wait` is over; the answer, and a client whose connection the
/// next request can use.
pub(crate) fn with_patience<T>(
    run_dir: &Path,
    wait: Duration,
    request: impl Fn(&mut KeptClient) -> Result<T, ClientError>,
) -> Result<(T, KeptClient), CniError> {
    let started = Instant::now();
    loop {
        let left = wait.saturating_sub(started.elapsed());
        let mut client = client(run_dir, left.max(MIN_ATTEMPT)).keep();
        match request(&mut client) {
            Err(error) if is_away(&error) => {
                let waited = started.elapsed();
                if waited + RETRY_EVERY > wait {
                    return Err(CniError::AgentAway {
                        source: Box::new(error),
                        waited,
                    });
                }
                thread::sleep(RETRY_EVERY);
            }
            Err(error) => return Err(error.into()),
            Ok(answer) => return Ok((answer, client)),
        }
    }
}
