//! Requests that follow one another, over one connection.

use std::io::BufReader;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{AgentClient, check_path, encode, judge};
use crate::deadline::DeadlineStream;
use crate::error::ClientError;
use crate::http::{Body, read_head};

/// A client whose connection serves as long as the agent keeps it open.
///
/// A request that finds it closed is made again over a new one, once: an agent that was started anew meanwhile has not seen it.
/// One that ends while it answers may have, so requests must be idempotent, as all of the API's are.
#[derive(Debug)]
pub struct KeptClient {
    client: AgentClient,
    kept: Option<BufReader<DeadlineStream>>,
}

impl KeptClient {
    pub(crate) fn new(client: AgentClient) -> Self {
        Self { client, kept: None }
    }

    /// Time for each whole request from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.client = self.client.clone().with_timeout(timeout);
    }

    /// `POST path` with a JSON body.
    pub fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        check_path(path)?;
        let body = encode(path, body)?;
        let deadline = self.client.deadline();
        if let Some(mut kept) = self.kept.take() {
            kept.get_mut().set_deadline(deadline);
            match self.exchange(kept, path, &body) {
                Err(ClientError::Closed { .. }) => {}
                other => return other,
            }
        }
        let new = BufReader::new(self.client.connect(deadline)?);
        self.exchange(new, path, &body)
    }

    fn exchange<T: DeserializeOwned>(
        &mut self,
        mut stream: BufReader<DeadlineStream>,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let client = &self.client;
        client.write(stream.get_mut(), "POST", path, Some(body), "")?;
        let head = read_head(&mut stream).map_err(|e| client.failed(e))?;
        let answer = client.read_body(Body::new(&mut stream, &head))?;
        if head.keeps() {
            self.kept = Some(stream);
        }
        judge(&head, path, &answer)
    }
}
