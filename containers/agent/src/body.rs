//! Bodies of calls, read whole up to a bound or handed in a bounded flow to blocking code, and the way back.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::reply::Refused;

/// A sender that is silent, or a reader that stands still, for so long is gone.
const SILENCE: Duration = Duration::from_secs(120);
/// How much of an already refused body is still swallowed, so that the sender gets to read why.
const SWALLOW: u64 = 64 << 20;
/// And for how long.
const SWALLOW_FOR: Duration = Duration::from_secs(5);
/// Chunks on their way between the two worlds.
const IN_FLIGHT: usize = 4;

/// Reads everything, at most `limit` bytes.
pub(crate) async fn whole(mut body: Incoming, limit: usize) -> Result<Bytes, Refused> {
    let mut all = BytesMut::new();
    loop {
        match next(&mut body).await {
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(chunk)) if all.len() + chunk.len() > limit => {
                return Err(Refused::too_large(format!("The body is over {limit} bytes.")));
            }
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Err(error) => return Err(Refused::invalid(error.to_string())),
        }
    }
}

/// Runs a blocking reader over the body. Its answer comes when it ends; what it left unread is swallowed.
pub(crate) async fn read_by<T: Send + 'static>(
    mut body: Incoming,
    job: impl FnOnce(BodyReader) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let job = tokio::task::spawn_blocking(move || {
        let result = job(BodyReader { chunks: receiver, current: Bytes::new(), ended: false });
        release_memory();
        result
    });
    let feeding = async {
        loop {
            let chunk = tokio::select! {
                chunk = next(&mut body) => chunk.transpose(),
                // The job wants no more.
                () = sender.closed() => break,
            };
            let last = !matches!(chunk, Some(Ok(_)));
            // The end is said in so many words: a call that is dropped must not look like a short body.
            if sender.send(chunk.unwrap_or_else(|| Ok(Bytes::new()))).await.is_err() {
                break;
            }
            if last {
                return;
            }
        }
        swallow(&mut body).await;
    };
    feeding.await;
    drop(sender);
    job.await.map_err(|error| Refused::internal(error.to_string()))?
}

/// Takes the rest of a body that is refused already, within bounds: a sender that still writes would otherwise meet a
/// closed connection and never read why.
pub(crate) async fn swallow(body: &mut Incoming) {
    let swallowing = async {
        let mut swallowed = 0;
        while let Ok(Some(chunk)) = next(body).await {
            swallowed += chunk.len() as u64;
            if swallowed > SWALLOW {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(SWALLOW_FOR, swallowing).await;
}

/// The next piece of a body, `None` at its end. A sender that goes silent is an error.
pub(crate) async fn next(body: &mut Incoming) -> io::Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the sender went silent"))?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the body broke off"));
            }
            // Trailers mean nothing here.
            Some(Ok(frame)) => {
                if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The blocking end of a call's body.
pub(crate) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended {
            let aborted = || io::Error::new(io::ErrorKind::ConnectionAborted, "the call was dropped");
            self.current = self.chunks.blocking_recv().ok_or_else(aborted)??;
            self.ended = self.current.is_empty();
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

/// The blocking end of an answer that flows: collects chunks and hands them on, waiting while nobody reads.
pub(crate) struct FlowWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
    frame: fn(&Bytes) -> Bytes,
    hasher: blake3::Hasher,
    runtime: tokio::runtime::Handle,
}

/// Size of the chunks of a [`FlowWriter`].
const CHUNK: usize = 256 << 10;

impl FlowWriter {
    /// A writer and the flow that it fills; `frame` is put around each chunk.
    pub(crate) fn new(frame: fn(&Bytes) -> Bytes) -> (Self, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let runtime = tokio::runtime::Handle::current();
        (Self { sender, chunk: BytesMut::new(), frame, hasher: blake3::Hasher::new(), runtime }, receiver)
    }

    /// Hands on what was collected, then `end` of the digest of all bytes (without frames).
    pub(crate) fn finish(mut self, end: impl FnOnce(blake3::Hash) -> io::Result<Bytes>) -> io::Result<()> {
        self.hand_on()?;
        let end = end(self.hasher.finalize())?;
        self.send(end)
    }

    /// Ends the flow with an error: the reader sees a broken body. Where there is no room for it, the flow just ends
    /// without its trailer.
    pub(crate) fn fail(self, error: io::Error) {
        let _ = self.sender.try_send(Err(error));
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let chunk = self.chunk.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        self.hasher.update(&chunk);
        let framed = (self.frame)(&chunk);
        self.send(framed)
    }

    /// Sends a piece as it is, past what was collected.
    pub(crate) fn send(&self, bytes: Bytes) -> io::Result<()> {
        // A reader may be slow, but one that stands still must not hold the roots for ever.
        let sending = tokio::time::timeout(SILENCE, self.sender.send(Ok(bytes)));
        self.runtime
            .block_on(sending)
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the reader stands still"))?
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away"))
    }
}

impl Write for FlowWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.hand_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives freed memory back to the system after a big piece of work: the agent is small at rest.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim is safe to call at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
