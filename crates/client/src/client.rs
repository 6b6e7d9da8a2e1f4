//! Requests and their answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use roadbed_api::agent::{ApiError, Probe};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::deadline::DeadlineStream;
use crate::error::ClientError;
use crate::http::{Body, HttpError, ResponseHead, read_head};
use crate::kept::KeptClient;
use crate::lines::Lines;

/// Time for one request, connecting included, unless set.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer taken, in bytes, unless set: a node's whole route report fits.
pub const DEFAULT_MAX_BODY: usize = 64 * 1024 * 1024;

/// Talks to one agent. Each request is a connection of its own.
#[derive(Debug, Clone)]
pub struct AgentClient {
    socket: PathBuf,
    timeout: Duration,
    max_body: usize,
}

impl AgentClient {
    /// A client for the agent that listens on `socket` (`<runDir>/agent.sock`). Connects only when asked something.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
            max_body: DEFAULT_MAX_BODY,
        }
    }

    /// Time for one whole request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Largest answer taken, in bytes.
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, None)
    }

    /// `POST path` with a JSON body.
    pub fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call("POST", path, Some(&encode(path, body)?))
    }

    /// The same client for requests that follow one another, over one connection.
    pub fn keep(self) -> KeptClient {
        KeptClient::new(self)
    }

    /// `DELETE path`.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("DELETE", path, None)
    }

    /// `GET` of a probe (`/livez`, `/readyz`, `/converged`): 200 and 503 both carry one.
    pub fn probe(&self, path: &str) -> Result<Probe, ClientError> {
        let (head, body) = self.exchange("GET", path, None)?;
        match head.status {
            200 | 503 => decode(path, &body),
            _ => Err(refusal(head.status, path, &body)),
        }
    }

    /// `GET` of an NDJSON stream. The client's timeout covers the way to the first byte; after that each line may take
    /// `idle` (`None`: any time).
    pub fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        idle: Option<Duration>,
    ) -> Result<Lines<T>, ClientError> {
        let body = self.stream(path, idle)?;
        let idle_millis = idle.unwrap_or_default().as_millis();
        Ok(Lines::new(
            body,
            self.socket.clone(),
            path.to_owned(),
            idle_millis,
        ))
    }

    /// `GET` of an answer of any length, as octets: an end before its end is an error of kind `UnexpectedEof`. Timeouts as
    /// of [`AgentClient::lines`].
    pub fn octets(
        &self,
        path: &str,
        idle: Option<Duration>,
    ) -> Result<impl Read + use<>, ClientError> {
        self.stream(path, idle)
    }

    fn stream(
        &self,
        path: &str,
        idle: Option<Duration>,
    ) -> Result<Body<BufReader<DeadlineStream>>, ClientError> {
        let mut reader = self.send("GET", path, None)?;
        let head = read_head(&mut reader).map_err(|e| self.failed(e))?;
        if !(200..300).contains(&head.status) {
            let body = self.read_body(Body::new(reader, &head))?;
            return Err(refusal(head.status, path, &body));
        }
        reader
            .get_mut()
            .set_idle_timeout(idle)
            .map_err(|e| self.failed(e.into()))?;
        Ok(Body::new(reader, &head))
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<T, ClientError> {
        let (head, body) = self.exchange(method, path, body)?;
        judge(&head, path, &body)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<(ResponseHead, Vec<u8>), ClientError> {
        let mut reader = self.send(method, path, body)?;
        let head = read_head(&mut reader).map_err(|e| self.failed(e))?;
        let body = self.read_body(Body::new(reader, &head))?;
        Ok((head, body))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<BufReader<DeadlineStream>, ClientError> {
        check_path(path)?;
        let mut stream = self.connect(self.deadline())?;
        self.write(&mut stream, method, path, body, "Connection: close\r\n")?;
        Ok(BufReader::new(stream))
    }

    /// A connection for a request that ends by then.
    pub(crate) fn connect(&self, deadline: Instant) -> Result<DeadlineStream, ClientError> {
        DeadlineStream::connect(&self.socket, deadline).map_err(|e| self.not_connected(e))
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    pub(crate) fn write(
        &self,
        stream: &mut DeadlineStream,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        headers: &str,
    ) -> Result<(), ClientError> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: roadbed\r\n{headers}").into_bytes();
        if let Some(body) = body {
            request.extend(
                format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n",
                    body.len()
                )
                .bytes(),
            );
        }
        request.extend(b"\r\n");
        request.extend(body.unwrap_or_default());
        match stream.write_all(&request) {
            // A server may refuse and close before it has read everything; its answer then says more than this error.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(self.failed(e.into())),
            _ => Ok(()),
        }
    }

    pub(crate) fn read_body(&self, body: Body<impl BufRead>) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        let limit = (self.max_body as u64).saturating_add(1);
        body.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|e| self.failed(e.into()))?;
        if bytes.len() > self.max_body {
            return Err(ClientError::TooLarge {
                limit: self.max_body,
            });
        }
        Ok(bytes)
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        let path = self.socket.clone();
        match source.kind() {
            io::ErrorKind::InvalidInput => ClientError::SocketPath { path },
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path },
            io::ErrorKind::TimedOut => self.failed(source.into()),
            // ENOTSOCK, ENOTDIR and the like: whatever is there, it is not an agent.
            _ => ClientError::NotRunning { path, source },
        }
    }

    pub(crate) fn failed(&self, error: HttpError) -> ClientError {
        classify(error, &self.socket, self.timeout.as_millis())
    }
}

pub(crate) fn classify(error: HttpError, socket: &Path, millis: u128) -> ClientError {
    let path = socket.to_owned();
    let source = match error {
        HttpError::Protocol(what) => return ClientError::Protocol(what),
        HttpError::Io(source) => source,
    };
    match source.kind() {
        io::ErrorKind::TimedOut => ClientError::Timeout { path, millis },
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ClientError::Closed { path },
        _ => ClientError::Io { path, source },
    }
}

/// What a body says, or why there is none.
pub(crate) fn judge<T: DeserializeOwned>(
    head: &ResponseHead,
    path: &str,
    body: &[u8],
) -> Result<T, ClientError> {
    if (200..300).contains(&head.status) {
        decode(path, body)
    } else {
        Err(refusal(head.status, path, body))
    }
}

pub(crate) fn encode(path: &str, body: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|source| ClientError::Json {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn check_path(path: &str) -> Result<(), ClientError> {
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    let path = path.chars().take(128).collect();
    Err(ClientError::BadRequestPath(path))
}

fn decode<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Json {
        path: path.to_owned(),
        source,
    })
}

fn refusal(status: u16, path: &str, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => ClientError::Api { status, error },
        Err(_) => ClientError::Status {
            status,
            path: path.to_owned(),
        },
    }
}
