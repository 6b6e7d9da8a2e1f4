//! An IPAM plugin in the agent's place (spec section 4, "Plugin Delegation"): `ipam.type` names it, `CNI_PATH` has it.
//!
//! It only chooses addresses. Wiring, routes and what must be remembered stay as they are; gateway and routes of its answer
//! are not used, since every way out of a pod leads over its host.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnet::IpNet;
use serde::Deserialize;

use crate::env::{self, Env};
use crate::error::CniError;

/// Largest answer taken, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// The delegate of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipam {
    /// `ipam.type`: a file name.
    pub kind: String,
    /// The whole configuration, as the runtime gave it: the delegate's input.
    pub input: Vec<u8>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Ip {
    address: IpNet,
}

#[derive(Deserialize)]
struct Failure {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

impl Ipam {
    /// Takes addresses for the attachment.
    pub(crate) fn add(&self, env: &Env) -> Result<Vec<IpAddr>, CniError> {
        let stdout = self.run(env, env::Command::Add)?;
        let answer: Answer = serde_json::from_slice(&stdout)
            .map_err(|error| self.failed(format!("its result cannot be read: {error}")))?;
        Ok(answer.ips.into_iter().map(|ip| ip.address.addr()).collect())
    }

    /// Any other command; its only answer is success.
    pub(crate) fn call(&self, env: &Env, command: env::Command) -> Result<(), CniError> {
        self.run(env, command).map(drop)
    }

    fn run(&self, env: &Env, command: env::Command) -> Result<Vec<u8>, CniError> {
        let program = self.find(&env.path)?;
        let failed = |error: std::io::Error| self.failed(format!("{}: {error}", program.display()));
        // The rest of the environment is its own as much as ours.
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", command.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that refuses early does not read on; its answer says why.
            let _ = stdin.write_all(&self.input);
        }
        let mut stdout = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            pipe.take(MAX_ANSWER)
                .read_to_end(&mut stdout)
                .map_err(failed)?;
        }
        if child.wait().map_err(failed)?.success() {
            return Ok(stdout);
        }
        Err(match serde_json::from_slice::<Failure>(&stdout) {
            Ok(failure) => CniError::Ipam {
                kind: self.kind.clone(),
                code: failure.code,
                message: [failure.msg, failure.details].join(" ").trim().to_owned(),
            },
            Err(_) => self.failed("it failed without saying why".into()),
        })
    }

    fn find(&self, path: &[PathBuf]) -> Result<PathBuf, CniError> {
        let program = path.iter().map(|dir| dir.join(&self.kind));
        program
            .into_iter()
            .find(|program| Path::is_file(program))
            .ok_or_else(|| {
                let shown: Vec<String> = path.iter().map(|p| p.display().to_string()).collect();
                self.failed(format!("there is none in CNI_PATH ({})", shown.join(":")))
            })
    }

    fn failed(&self, message: String) -> CniError {
        CniError::Ipam {
            kind: self.kind.clone(),
            code: 0,
            message,
        }
    }
}
