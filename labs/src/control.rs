//! The line protocol between `roadbed-lab` and a node's first process: one JSON request, one JSON answer, one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest request or answer, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// File name of the socket in the node's directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    /// Only answer.
    Status,
    /// Start every program that does not run.
    Start,
    /// Send this signal to every program that runs.
    Kill(i32),
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The image's programs, in start order.
    pub programs: Vec<Program>,
    /// Whether the programs are configured (`vtysh -b` has ended, or there is nothing to do).
    pub settled: bool,
    /// What went wrong while configuring them.
    pub warning: Option<String>,
}

/// One program of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Short name.
    pub name: String,
    /// Pid inside the node while it runs.
    pub pid: Option<i32>,
    /// `not started`, `running`, `exited 1`, `killed by SIGKILL` or the reason why it could not start.
    pub state: String,
}

impl Status {
    /// Whether every program runs.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.programs.iter().all(|program| program.pid.is_some())
    }
}

/// Asks the node whose directory is `node`.
pub(crate) fn ask(node: &Path, request: Request) -> std::io::Result<Status> {
    let stream = UnixStream::connect(node.join(SOCKET))?;
    send(&stream, &request)?;
    receive(&stream)
}

pub(crate) fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

pub(crate) fn receive<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> std::io::Result<T> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
