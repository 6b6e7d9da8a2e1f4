//! STATUS: could an ADD be served now? That is the agent's `/readyz`.

use std::time::Duration;

use crate::agent;
use crate::config::NetConf;
use crate::error::CniError;

const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn status(conf: &NetConf) -> Result<(), CniError> {
    match agent::client(&conf.run_dir, TIMEOUT).probe("/readyz") {
        Ok(probe) if probe.ok => Ok(()),
        Ok(probe) => Err(CniError::NotAvailable(format!(
            "roadbed-agent is not ready: {}",
            if probe.waiting_for.is_empty() {
                "it gives no reason".to_owned()
            } else {
                probe.waiting_for.join("; ")
            }
        ))),
        Err(error) => Err(CniError::NotAvailable(error.to_string())),
    }
}
