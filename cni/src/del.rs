//! DEL: the agent unwires and releases; without it the plugin unwires and leaves a note. What is missing is success.

use std::time::Duration;

use roadbed_api::agent::{AttachmentKey, ErrorCode, Released};
use roadbed_client::ClientError;
use roadbed_hostnet::Netlink;

use crate::agent;
use crate::config::NetConf;
use crate::env::{Command, Env};
use crate::error::CniError;
use crate::log::Log;
use crate::notes;
use crate::wire::unwire;

/// An agent that is silent for longer is treated as away.
const SILENCE: Duration = Duration::from_secs(2);

pub(crate) fn del(env: &Env, conf: &NetConf, log: &mut Log) -> Result<(), CniError> {
    detach(env, conf, log)?;
    // Only now: an address that is free has no link.
    match &conf.ipam {
        Some(ipam) => ipam.call(env, Command::Del),
        None => Ok(()),
    }
}

fn detach(env: &Env, conf: &NetConf, log: &mut Log) -> Result<(), CniError> {
    let key = env.key(&conf.name);
    match agent::client(&conf.run_dir, SILENCE).delete::<Released>(&key.path()) {
        Ok(_) => Ok(()),
        Err(error) => match error.api().map(|api| api.code) {
            Some(ErrorCode::NotFound) => Ok(()),
            // The agent is there and has a reason; the runtime tries again.
            Some(code) if code != ErrorCode::NotReady => Err(error.into()),
            _ => unwire_alone(conf, &key, &error, log),
        },
    }
}

fn unwire_alone(
    conf: &NetConf,
    key: &AttachmentKey,
    reason: &ClientError,
    log: &mut Log,
) -> Result<(), CniError> {
    let existed = unwire(&mut Netlink::open()?, key)?;
    log.warn(format_args!(
        "{reason}; {} without it",
        if existed {
            "the pod was unwired"
        } else {
            "there was nothing to unwire"
        }
    ));
    // Not fatal: the agent holds an address only while the link exists, and looks at its start.
    if let Err(error) = notes::leave(&conf.run_dir, key) {
        log.warn(format_args!(
            "no note could be left in {}: {error}",
            conf.run_dir.display()
        ));
    }
    Ok(())
}
