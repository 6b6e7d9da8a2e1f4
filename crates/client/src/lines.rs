//! NDJSON answers: one JSON value per line, for as long as the agent has something to say.

use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::client::classify;
use crate::deadline::DeadlineStream;
use crate::error::ClientError;
use crate::http::{Body, HttpError};

/// Longest line taken, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// Iterates over the values of an NDJSON stream; ends with the stream or after the first error. Empty lines, which keep
/// a connection alive, are skipped.
pub struct Lines<T> {
    reader: BufReader<Body<BufReader<DeadlineStream>>>,
    socket: PathBuf,
    path: String,
    idle_millis: u128,
    done: bool,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(crate) fn new(
        body: Body<BufReader<DeadlineStream>>,
        socket: PathBuf,
        path: String,
        idle_millis: u128,
    ) -> Self {
        Self {
            reader: BufReader::new(body),
            socket,
            path,
            idle_millis,
            done: false,
            values: PhantomData,
        }
    }

    fn read(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let mut line = Vec::new();
            let limit = MAX_LINE as u64 + 1;
            self.reader
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(|e| classify(HttpError::from(e), &self.socket, self.idle_millis))?;
            if line.len() > MAX_LINE {
                return Err(ClientError::TooLarge { limit: MAX_LINE });
            }
            match line.pop() {
                None => return Ok(None),
                // A last line without its end was cut short: the agent writes whole lines.
                Some(last) if last != b'\n' => {
                    return Err(ClientError::Closed {
                        path: self.socket.clone(),
                    });
                }
                Some(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Some(_) => {
                    return serde_json::from_slice(&line).map(Some).map_err(|source| {
                        ClientError::Json {
                            path: self.path.clone(),
                            source,
                        }
                    });
                }
            }
        }
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}
