//! A WebSocket as a stream of bytes: binary messages one way and the other, nothing held back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::server::Connection;

/// Longest message in, and longest one that we make.
const MESSAGE: usize = 1 << 20;
/// What one read of the connection takes at most, and how much waits for a write.
const BUFFER: usize = 64 << 10;
/// What the library takes of that at a time: it fills as much with zeros before each of its reads, also for a keystroke.
const PART: usize = 4 << 10;

/// A WebSocket that carries SSH.
pub(super) type Socket = WebSocketStream<BufReader<Connection>>;

/// The WebSocket; `rest` is what was read of it before the upgrade.
pub(super) async fn open(connection: Connection, rest: &[u8]) -> Socket {
    let mut config = WebSocketConfig::default().read_buffer_size(PART).write_buffer_size(BUFFER);
    config.max_message_size = Some(MESSAGE);
    config.max_frame_size = Some(MESSAGE);
    config.max_write_buffer_size = 4 * MESSAGE;
    let connection = BufReader::with_capacity(BUFFER, connection);
    WebSocketStream::from_partially_read(connection, rest.to_vec(), Role::Server, Some(config)).await
}

/// Its binary messages as a stream of bytes.
pub(super) struct WebSocketBytes {
    socket: Socket,
    current: Bytes,
}

impl WebSocketBytes {
    /// From now on.
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, current: Bytes::new() }
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl AsyncRead for WebSocketBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            let polled = Pin::new(&mut self.socket).poll_next(cx);
            if polled.is_pending() {
                // Not everybody who writes says when that is all; who waits for an answer has.
                let _ = Pin::new(&mut self.socket).poll_flush(cx);
            }
            match ready!(polled) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(Message::Binary(bytes))) => self.current = bytes,
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message")));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(self.current.get(..length).unwrap_or_default());
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketBytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let piece = bytes.get(..MESSAGE).unwrap_or(bytes);
        let message = Message::Binary(Bytes::copy_from_slice(piece));
        Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }
}
