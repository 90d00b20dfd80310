//! Connections by which something may come to a machine, counted for as long as they are open: also when they carry
//! something else than calls by then.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// How many are open to one machine; whoever subscribes is told whenever one opens or closes.
pub(crate) type Visits = watch::Sender<usize>;

/// One of them.
#[derive(Debug)]
pub(crate) struct Visit {
    all: Visits,
    counts: AtomicBool,
}

impl Visit {
    pub(crate) fn begin(all: &Visits) -> Arc<Self> {
        all.send_modify(|open| *open += 1);
        Arc::new(Self { all: all.clone(), counts: AtomicBool::new(true) })
    }

    /// From now on it only listens.
    pub(crate) fn listens(&self) {
        if self.counts.swap(false, Ordering::Relaxed) {
            self.all.send_modify(|open| *open -= 1);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.listens();
    }
}

/// A connection's stream, which knows that it is one.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) stream: UnixStream,
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) visit: Arc<Visit>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_counts_until_it_is_closed_or_only_listens() {
        let all = Visits::new(0);
        let mut changes = all.subscribe();
        let (stream, mut other) = UnixStream::pair().expect("a pair");
        let visit = Visit::begin(&all);
        assert!(changes.has_changed().expect("open"));
        let mut counted = Counted { stream, visit: Arc::clone(&visit) };
        counted.write_all(b"word").await.expect("written");
        let mut read = [0; 4];
        other.read_exact(&mut read).await.expect("read");
        drop(visit);
        assert_eq!((*changes.borrow_and_update(), &read), (1, b"word"));
        drop(counted);
        assert_eq!(*changes.borrow_and_update(), 0);

        let listener = Visit::begin(&all);
        listener.listens();
        assert_eq!(*changes.borrow_and_update(), 0);
        drop(listener);
        assert_eq!(*changes.borrow_and_update(), 0, "counted off once");
    }
}
