//! One invocation from its inputs to its outputs.

use std::ffi::OsString;
use std::io::Read;

use serde_json::json;

use crate::config::{NetConf, parse_object, peek_version, read_stdin};
use crate::env::{Command, Env};
use crate::error::CniError;
use crate::log::Log;
use crate::version::CniVersion;
use crate::{add, check, del, gc, status};

/// What the process prints and exits with.
#[derive(Debug)]
pub struct Outcome {
    /// Result or error object; empty for commands that print nothing.
    pub stdout: String,
    /// Lines for stderr.
    pub log: Vec<String>,
    /// 0, or 1 with an error object on stdout.
    pub exit_code: u8,
}

/// Executes one CNI command. `var` reads the environment.
pub fn run(var: impl Fn(&str) -> Option<OsString>, stdin: impl Read) -> Outcome {
    let mut log = Log::default();
    let env = Env::read(var);
    let input = read_stdin(stdin);
    let version = input
        .as_deref()
        .ok()
        .and_then(peek_version)
        .unwrap_or(CniVersion::LATEST);
    // A bad environment goes first: without a command there is nothing to judge stdin by.
    let answer = env.and_then(|env| execute(&env, &input?, &mut log));
    let (stdout, exit_code) = match answer {
        Ok(stdout) => (stdout, 0),
        Err(error) => (error.to_json(version), 1),
    };
    Outcome {
        stdout,
        log: log.into_lines(),
        exit_code,
    }
}

fn execute(env: &Env, input: &[u8], log: &mut Log) -> Result<String, CniError> {
    if env.command == Command::Version {
        return versions(input);
    }
    let conf = NetConf::parse(input, env.command)?;
    match env.command {
        Command::Add => add::add(env, &conf, log).map(|result| result.to_json(conf.version)),
        Command::Del => del::del(env, &conf, log).map(|()| String::new()),
        Command::Check => check::check(env, &conf).map(|()| String::new()),
        Command::Status => status::status(&conf)
            .and_then(|()| delegate(env, &conf))
            .map(|()| String::new()),
        Command::Gc => gc::gc(&conf)
            .and_then(|()| delegate(env, &conf))
            .map(|()| String::new()),
        Command::Version => versions(input),
    }
}

/// Passes a command of the whole network on to its IPAM plugin.
fn delegate(env: &Env, conf: &NetConf) -> Result<(), CniError> {
    match &conf.ipam {
        Some(ipam) => ipam.call(env, env.command),
        None => Ok(()),
    }
}

/// VERSION: podman sends nothing but `{"cniVersion": …}`, older runtimes nothing at all, and the version asked in may be
/// one we do not speak.
fn versions(input: &[u8]) -> Result<String, CniError> {
    let asked = if input.iter().all(u8::is_ascii_whitespace) {
        None
    } else {
        parse_object(input)?
            .get("cniVersion")
            .and_then(|version| version.as_str().map(str::to_owned))
    };
    let answer = json!({
        "cniVersion": asked.as_deref().unwrap_or(CniVersion::LATEST.as_str()),
        "supportedVersions": CniVersion::ALL.map(CniVersion::as_str),
    });
    Ok(format!("{answer}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }

    #[test]
    fn input_that_cannot_be_read_is_error_5() {
        for command in Command::ALL {
            let var = |name: &str| match name {
                "CNI_COMMAND" => Some(command.name().into()),
                "CNI_CONTAINERID" => Some("web".into()),
                "CNI_NETNS" => Some("/run/netns/web".into()),
                "CNI_IFNAME" => Some("eth0".into()),
                "CNI_PATH" => Some("/opt/cni/bin".into()),
                _ => None,
            };
            let outcome = run(var, Broken);
            let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!((outcome.exit_code, &answer["code"]), (1, &json!(5)));
        }
    }
}
