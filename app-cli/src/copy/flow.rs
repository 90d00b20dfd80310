//! Bytes on their way: a bounded channel with an end that is said in so many words, so that whatever breaks off is never
//! taken for one.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Pieces on their way.
const IN_FLIGHT: usize = 4;
const PIECE: usize = 256 << 10;

/// The taking end. An empty piece is the end.
pub(super) type Flow = mpsc::Receiver<io::Result<Bytes>>;
/// The giving end.
pub(super) type Giver = mpsc::Sender<io::Result<Bytes>>;

/// Both ends.
pub(super) fn flow() -> (Giver, Flow) {
    mpsc::channel(IN_FLIGHT)
}

/// The next piece, `None` at the end.
pub(super) async fn next(flow: &mut Flow) -> io::Result<Option<Bytes>> {
    let piece = flow.recv().await.ok_or_else(broken)??;
    Ok((!piece.is_empty()).then_some(piece))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the copy was broken off")
}

/// What `work` writes, flowing from a thread of its own.
pub(super) fn written(work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Flow {
    let (giver, flow) = flow();
    std::thread::spawn(move || {
        let mut writer = Writer { giver, piece: Vec::new() };
        let last = work(&mut writer).and_then(|()| writer.flush()).map(|()| Bytes::new());
        // Nobody takes it any more where the copy was broken off.
        let _ = writer.giver.blocking_send(last);
    });
    flow
}

struct Writer {
    giver: Giver,
    piece: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.giver.blocking_send(Ok(std::mem::take(&mut self.piece).into())).map_err(|_| broken())
    }
}

/// A flow for code that blocks.
pub(super) struct Reader {
    flow: Flow,
    current: Bytes,
    ended: bool,
}

impl Reader {
    pub(super) fn new(flow: Flow) -> Self {
        Self { flow, current: Bytes::new(), ended: false }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended {
            self.current = self.flow.blocking_recv().ok_or_else(broken)??;
            self.ended = self.current.is_empty();
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A flow as the body of a request.
pub(super) struct FlowBody {
    flow: Flow,
    ended: bool,
}

impl FlowBody {
    pub(super) fn new(flow: Flow) -> Self {
        Self { flow, ended: false }
    }
}

impl Body for FlowBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.flow.poll_recv(cx).map(|piece| match piece.unwrap_or_else(|| Err(broken())) {
            Ok(piece) if piece.is_empty() => {
                self.ended = true;
                None
            }
            Ok(piece) => Some(Ok(Frame::data(piece))),
            Err(error) => Some(Err(error)),
        })
    }
}
