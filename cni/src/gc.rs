//! GC: releases what the runtime no longer lists, of this network only.

use std::collections::BTreeSet;
use std::time::Duration;

use roadbed_api::agent::{ATTACHMENTS, AttachmentList, ErrorCode, Released};

use crate::agent;
use crate::config::NetConf;
use crate::error::CniError;

/// A list of all attachments, or one release.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn gc(conf: &NetConf) -> Result<(), CniError> {
    let client = agent::client(&conf.run_dir, TIMEOUT);
    let listed: AttachmentList = client.get(ATTACHMENTS)?;
    let valid: BTreeSet<(&str, &str)> = conf
        .valid_attachments
        .iter()
        .map(|(id, ifname)| (id.as_str(), ifname.as_str()))
        .collect();
    let mut failures = Vec::new();
    for attachment in listed.attachments {
        let key = &attachment.key;
        if key.network != conf.name
            || valid.contains(&(key.container_id.as_str(), key.ifname.as_str()))
        {
            continue;
        }
        // The path is built from the agent's own words; they must be as legal as ours.
        if let Some(problem) = key.problem() {
            failures.push(problem);
            continue;
        }
        match client.delete::<Released>(&key.path()) {
            Ok(_) => {}
            Err(error)
                if error
                    .api()
                    .is_some_and(|api| api.code == ErrorCode::NotFound) => {}
            // An agent that went away refuses each of them; one timeout is enough.
            Err(error) if error.is_away() => return Err(error.into()),
            Err(error) => failures.push(format!("{}/{}: {error}", key.container_id, key.ifname)),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CniError::Gc(failures))
    }
}
