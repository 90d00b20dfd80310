//! An answer of the server.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use super::{Origin, problem};
use crate::exit::{Exit, Failure};

/// The largest document that is read into memory.
const DOCUMENT: usize = 32 << 20;
/// How long the next piece of a document may take.
const PIECE: Duration = Duration::from_secs(60);

/// The head of an answer; its body follows.
pub struct Reply {
    response: Response<Incoming>,
}

impl Reply {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self { response }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// When the server wants to be asked again; only the form in seconds.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.header(header::RETRY_AFTER.as_str())?.parse().ok().map(Duration::from_secs)
    }

    /// The JSON document of the answer; null where there is none.
    ///
    /// # Errors
    /// When the answer breaks off or is no JSON.
    pub async fn json(self) -> Result<Value, Failure> {
        let body = self.bytes().await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| {
            Failure::new(Exit::Other, "the server's answer is no JSON")
                .hint("Check that `--url` names a BurstFlare server.")
        })
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it breaks off or is too large.
    pub async fn bytes(mut self) -> Result<Bytes, Failure> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk(PIECE).await? {
            all.extend_from_slice(&chunk);
            if all.len() > DOCUMENT {
                return Err(Failure::new(Exit::Other, "the server's answer does not end"));
            }
        }
        Ok(all.freeze())
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes within the time.
    pub async fn chunk(&mut self, within: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(within, self.response.body_mut().frame()).await.map_err(|_| {
                Failure::new(Exit::Timeout, "the server's answer stopped in the middle").hint("Try again.")
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(Failure::new(Exit::Unavailable, "the connection to the server broke")
                        .hint("Try again; `flare doctor` looks for what is wrong."));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    pub(super) async fn into_failure(self, origin: &Origin) -> Failure {
        let status = self.status();
        let location = self.header("location").map(str::to_owned);
        let body = self.bytes().await.unwrap_or_default();
        problem::failure(origin, status, location.as_deref(), &body)
    }
}
