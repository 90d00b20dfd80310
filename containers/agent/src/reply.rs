//! Answers: refusals with their status, and bodies that are there at once or flow.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use burstflare_ports::wire::Refusal;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::port::Passed;

/// A call that is refused: HTTP status, [`Refusal::code`], [`Refusal::message`].
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Refused {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Stable.
    pub(crate) code: &'static str,
    /// For a person.
    pub(crate) message: String,
}

macro_rules! refusals {
    ($($name:ident, $status:ident, $code:literal, $doc:literal;)*) => {
        impl Refused {
            $(
                #[doc = $doc]
                pub(crate) fn $name(message: impl Into<String>) -> Self {
                    Self { status: StatusCode::$status, code: $code, message: message.into() }
                }
            )*
        }
    };
}

refusals! {
    unauthorized, UNAUTHORIZED, "unauthorized", "Wrong key or none.";
    stale, CONFLICT, "stale_epoch", "Another life of the machine was meant.";
    invalid, BAD_REQUEST, "invalid", "The call makes no sense.";
    not_found, NOT_FOUND, "not_found", "There is no such thing.";
    unknown_call, NOT_FOUND, "unknown_call", "No such call.";
    too_large, PAYLOAD_TOO_LARGE, "too_large", "A bound on what is sent.";
    corrupt, UNPROCESSABLE_ENTITY, "corrupt", "What was sent is damaged or not what it says.";
    unacceptable, UNPROCESSABLE_ENTITY, "invalid", "What was sent breaks a rule.";
    no_scan, NOT_FOUND, "not_found", "A scan that was dropped, or never was.";
    busy, CONFLICT, "busy", "Something happened meanwhile.";
    full, INSUFFICIENT_STORAGE, "full", "No space left.";
    internal, INTERNAL_SERVER_ERROR, "internal", "Our own failure.";
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::full("The machine's disk is full.")
            }
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// The body of an answer.
pub(crate) enum ReplyBody {
    /// Everything at once.
    Full(Bytes),
    /// Comes as it is made; the maker waits while the reader does. Dropping it tells the maker.
    Flow(mpsc::Receiver<io::Result<Bytes>>),
    /// An application's, as it comes.
    Passed(Box<Passed>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Flow(flow) => flow.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Self::Passed(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Flow(_) => false,
            Self::Passed(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Flow(_) => SizeHint::default(),
            Self::Passed(body) => body.size(),
        }
    }
}

/// An answer to a call.
pub(crate) type Reply = Response<ReplyBody>;

/// 200 with JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Reply, Refused> {
    let text = serde_json::to_vec(value).map_err(|error| Refused::internal(error.to_string()))?;
    Ok(with(StatusCode::OK, "application/json", ReplyBody::Full(text.into())))
}

/// 204.
pub(crate) fn done() -> Reply {
    let mut reply = Response::new(ReplyBody::Full(Bytes::new()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// 200 with a flow.
pub(crate) fn flow(media_type: &'static str, chunks: mpsc::Receiver<io::Result<Bytes>>) -> Reply {
    with(StatusCode::OK, media_type, ReplyBody::Flow(chunks))
}

fn with(status: StatusCode, media_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// The answer to a call, refused or not.
pub(crate) fn settle(result: Result<Reply, Refused>) -> Result<Reply, Infallible> {
    Ok(result.unwrap_or_else(|refused| {
        let refusal = Refusal { code: refused.code.into(), message: refused.message };
        let text = serde_json::to_vec(&refusal).unwrap_or_default();
        with(refused.status, "application/json", ReplyBody::Full(text.into()))
    }))
}
