//! Bytes both ways, counted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes on their way in each direction; more waits at the sender.
const BUFFER: usize = 128 << 10;

/// Bytes that were read from each side.
#[derive(Debug, Default)]
pub(super) struct Count {
    inward: AtomicU64,
    outward: AtomicU64,
}

impl Count {
    /// From the client, and to it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.inward.load(Ordering::Relaxed), self.outward.load(Ordering::Relaxed))
    }
}

/// Carries until both sides have ended or one breaks. Dropping it closes both.
pub(super) async fn both_ways(client: OnUpgrade, agent: OnUpgrade, count: &Count) {
    let (Ok(client), Ok(agent)) = (client.await, agent.await) else {
        tracing::debug!("a tunnel's upgrade did not come about");
        return;
    };
    let mut client = Counted { inner: TokioIo::new(client), read: &count.inward };
    let mut agent = Counted { inner: TokioIo::new(agent), read: &count.outward };
    if let Err(error) =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut agent, BUFFER, BUFFER).await
    {
        tracing::debug!(%error, "a tunnel broke");
    }
}

/// A side whose reading is counted.
struct Counted<'a> {
    inner: TokioIo<Upgraded>,
    read: &'a AtomicU64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let more = buffer.filled().len().saturating_sub(before);
        self.read.fetch_add(u64::try_from(more).unwrap_or_default(), Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
